//! What ends a shard's wait when nothing comes in time.
//!
//! A wait with a timeout of its own has the kernel set a timer, and take it back as soon as something comes. In a
//! virtual machine that is a way out of it and back, for every heartbeat of a server that is mostly idle. The next
//! deadline seldom moves to an earlier time, so on Linux one timer (timerfd_create(2)) is set for all waits until it
//! rings; a ring that comes too early, since the deadline has moved, costs a turn of the loop.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use mio::{Interest, unix::SourceFd};
use mio::{Registry, Token};
#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A shard's timer, if the system has any that can be waited for like a socket.
pub(super) struct Alarm {
    timer: Option<Timer>,
    /// When it rings; nothing if it isn't set.
    rings: Option<Instant>,
}

impl Alarm {
    /// One that rings with `token`. Where the system refuses it, each wait has its timeout instead.
    pub(super) fn new(registry: &Registry, token: Token) -> Self {
        Self { timer: Timer::new(registry, token).ok(), rings: None }
    }

    /// The timeout for a wait that begins `now` and must end at `deadline` at the latest: nothing if the alarm ends it,
    /// or nothing has to.
    pub(super) fn timeout(&mut self, deadline: Option<Instant>, now: Instant) -> Option<Duration> {
        let deadline = deadline?;
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Some(left);
        }
        if self.rings.is_none_or(|rings| deadline < rings) {
            let set = self.timer.as_ref().is_some_and(|timer| timer.set(left).is_ok());
            if !set {
                return Some(left);
            }
            self.rings = Some(deadline);
        }
        None
    }

    /// Notes that it has rung.
    pub(super) fn handle_ring(&mut self) {
        self.rings = None;
    }
}

/// It is never read: setting it takes back what it has told, and every ring is an edge.
#[cfg(target_os = "linux")]
struct Timer(OwnedFd);

#[cfg(target_os = "linux")]
impl Timer {
    fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Has it ring once, after a time that is not zero, and not before.
    fn set(&self, after: Duration) -> io::Result<()> {
        let it_value = Timespec::try_from(after).map_err(io::Error::other)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }
}

/// There is none.
#[cfg(not(target_os = "linux"))]
enum Timer {}

#[cfg(not(target_os = "linux"))]
impl Timer {
    fn new(_: &Registry, _: Token) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set(&self, _: Duration) -> io::Result<()> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    const ALARM: Token = Token(7);
    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(3600);

    /// Waits as a shard does, from `now` on; whether the alarm was what ended it.
    fn wait(poll: &mut Poll, alarm: &mut Alarm, deadline: Instant, now: Instant) -> bool {
        let mut events = Events::with_capacity(4);
        let timeout = alarm.timeout(Some(deadline), now);
        poll.poll(&mut events, timeout).unwrap();
        let rang = events.iter().any(|event| event.token() == ALARM);
        if rang {
            alarm.handle_ring();
        }
        rang
    }

    fn waiting() -> (Poll, Alarm) {
        let poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry(), ALARM);
        (poll, alarm)
    }

    #[test]
    fn it_rings_for_one_deadline_after_another_and_never_before() {
        let (mut poll, mut alarm) = waiting();
        for _ in 0..3 {
            let now = Instant::now();
            let rang = wait(&mut poll, &mut alarm, now + SOON, now);
            assert!(Instant::now() >= now + SOON);
            assert_eq!(rang, cfg!(target_os = "linux"));
        }
    }

    #[test]
    fn a_deadline_that_is_earlier_than_the_last_is_kept() {
        let (mut poll, mut alarm) = waiting();
        let now = Instant::now();
        alarm.timeout(Some(now + LATE), now);
        assert_eq!(wait(&mut poll, &mut alarm, now + SOON, now), cfg!(target_os = "linux"));
        assert!(Instant::now() >= now + SOON);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_deadline_that_moves_away_leaves_the_timer_as_it_is() {
        let (mut poll, mut alarm) = waiting();
        let now = Instant::now();
        assert_eq!(alarm.timeout(Some(now + SOON), now), None);
        assert_eq!(alarm.timeout(Some(now + LATE), now), None);
        assert_eq!(alarm.rings, Some(now + SOON));
        assert!(wait(&mut poll, &mut alarm, now + LATE, now), "the ring for the first one");
        assert_eq!(alarm.timeout(Some(now + LATE), now), None);
        assert_eq!(alarm.rings, Some(now + LATE));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_ring_that_was_not_noted_is_taken_back_when_it_is_set_again() {
        let (mut poll, mut alarm) = waiting();
        let now = Instant::now();
        alarm.timeout(Some(now + Duration::from_nanos(1)), now);
        while Instant::now() < now + Duration::from_millis(1) {}
        alarm.rings = None;
        assert_eq!(alarm.timeout(Some(now + LATE), now), None);
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(SOON)).unwrap();
        assert!(events.is_empty());
    }

    #[test]
    fn a_deadline_that_has_passed_is_not_waited_for() {
        let (_poll, mut alarm) = waiting();
        let now = Instant::now();
        assert_eq!(alarm.timeout(Some(now), now), Some(Duration::ZERO));
        assert_eq!(alarm.timeout(None, now), None);
    }

    #[test]
    fn without_a_timer_each_wait_has_its_timeout() {
        let mut alarm = Alarm { timer: None, rings: None };
        let now = Instant::now();
        for left in [LATE, SOON, LATE] {
            assert_eq!(alarm.timeout(Some(now + left), now), Some(left));
        }
    }
}
