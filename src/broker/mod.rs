//! The node's order of broadcasts, and the mailboxes of its shards.
//!
//! Everything that is published, by a channel or from outside, passes here: it gets its place in the order of
//! the node and is put into every shard's mailbox before the next one is. So all subscribers of a topic, on
//! whatever shard, get its broadcasts in one order.

mod tally;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::auth::deny::Denial;
use crate::auth::token::KeyTag;
use crate::channel::{Command, JoinKey, PayloadBuf, Post, Refused, SendError, SocketKey, Stopped};
use crate::guard::{self, Guarded, Place};
use crate::limits::Limits;
use crate::prepared::PreparedBroadcast;

pub use tally::{Tally, TallyEntry};

/// A broadcast from outside, with all that can be asked of it.
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The event's name.
    pub event: &'a str,
    /// The payload.
    pub payload: PayloadBuf,
    /// Where it is told how many it was for.
    pub tally: Option<TallyEntry>,
    /// Counts who has received it, under this number. It has to be one that clients can't guess.
    pub receipt: Option<NonZeroU64>,
    /// When it is published.
    pub published: Option<Instant>,
}

/// What a shard finds in its mailbox.
pub(crate) enum Mail {
    Broadcast(Arc<PreparedBroadcast>),
    /// The same, and how many it was for is to be told.
    Counted(Arc<PreparedBroadcast>, TallyEntry),
    Channel(JoinKey, Command),
    /// Tokens that are denied from here on: their live sockets end.
    Denied(Arc<[Denial]>),
    /// The keys that are left: sockets of others end.
    Keys(Arc<[KeyTag]>),
}

/// What a command other than a broadcast counts against `mailbox_bytes_max`.
const COMMAND_COST: usize = 64;

fn cost(mail: &Mail) -> usize {
    match mail {
        Mail::Broadcast(broadcast) | Mail::Counted(broadcast, _) => broadcast.cost(),
        Mail::Channel(_, Command::Push { payload, .. } | Command::Reply { response: payload, .. }) => {
            COMMAND_COST + payload.len()
        }
        Mail::Channel(_, Command::Info(_) | Command::Unanswered { .. }) | Mail::Denied(_) | Mail::Keys(_) => {
            COMMAND_COST
        }
    }
}

#[derive(Default)]
struct Queue {
    mail: VecDeque<Mail>,
    bytes: usize,
    /// The shard knows that there is mail.
    woken: bool,
    /// The shard has ended: mail for it is dropped.
    closed: bool,
}

struct Mailbox {
    queue: Mutex<Queue>,
    wake: Guarded<Box<dyn Fn() + Send + Sync>>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts mail in, if there is room for it. What is refused is given back, to be dropped where nothing is locked.
    fn put(
        &self,
        mail: Mail,
        cost: usize,
        has_room: impl FnOnce(&Queue) -> bool,
    ) -> Result<(), Refused<Mail>> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Refused { error: SendError::Stopped, value: mail });
        }
        if !has_room(&queue) {
            return Err(Refused { error: SendError::Overloaded, value: mail });
        }
        queue.mail.push_back(mail);
        queue.bytes += cost;
        let wake = !std::mem::replace(&mut queue.woken, true);
        drop(queue);
        if wake && let Err(panicked) = guard::call(|| (self.wake)()) {
            Place::Waker.note(&panicked);
        }
        Ok(())
    }
}

/// The sequencer of a node and the mailboxes of its shards.
pub struct Broker {
    mailboxes: Box<[Mailbox]>,
    /// Held while a broadcast is put into the mailboxes; counts the broadcasts.
    sequence: Mutex<u64>,
    /// Set while the sequence is held: nothing is taken from outside any more.
    closed: AtomicBool,
    refused: AtomicU64,
    bytes_max: usize,
    commands_max: usize,
}

impl Broker {
    /// A broker of as many shards as there are `wakes`; each is called, from any thread, when its shard's
    /// mailbox ceases to be empty.
    #[must_use]
    pub fn new(limits: &Limits, wakes: Vec<Box<dyn Fn() + Send + Sync>>) -> Arc<Self> {
        let mailboxes =
            wakes.into_iter().map(|wake| Mailbox { queue: Mutex::default(), wake: Guarded::new(wake) });
        Arc::new(Self {
            mailboxes: mailboxes.collect(),
            sequence: Mutex::new(0),
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            bytes_max: limits.mailbox_bytes_max,
            commands_max: limits.mailbox_commands_max,
        })
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.mailboxes.len()).unwrap_or(u16::MAX)
    }

    /// Broadcasts refused because a mailbox was full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes nothing more with [`broadcast`](Self::broadcast) and [`publish_all`](Self::publish_all). What was taken
    /// before has its place in the order, and what channels say while they end still passes.
    pub fn close(&self) {
        let sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        drop(sequence);
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The place of the last broadcast in the order of the node.
    pub(crate) fn sequence(&self) -> u64 {
        *self.sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes an event to all subscribers of a topic, on all shards or on none.
    ///
    /// # Errors
    /// A shard's mailbox is full, or the broker was [closed](Self::close).
    pub fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
    ) -> Result<(), Refused<PayloadBuf>> {
        let broadcast = PreparedBroadcast::new(0, topic, event, payload, None);
        let sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            drop(sequence);
            return Err(Refused { error: SendError::Stopped, value: broadcast.payload });
        }
        self.send(sequence, broadcast).map(drop)
    }

    /// Publishes to all shards, or to none: its place in the order, counted from 1. Passes when the broker is closed, as
    /// long as there is a shard.
    pub(crate) fn publish(
        &self,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
        from: Option<SocketKey>,
    ) -> Result<u64, Refused<PayloadBuf>> {
        let broadcast = PreparedBroadcast::new(0, topic, event, payload, from);
        self.send(self.sequence.lock().unwrap_or_else(PoisonError::into_inner), broadcast)
    }

    /// Publishes several broadcasts, one right behind the other, to all shards, or none of them: the place of the first
    /// in the order, counted from 1.
    ///
    /// # Errors
    /// A shard's mailbox has no room for all of them, or the broker was [closed](Self::close). No tally is told then.
    pub fn publish_all(&self, outgoing: Vec<Outgoing<'_>>) -> Result<u64, SendError> {
        let prepare = |outgoing: Outgoing<'_>| {
            let Outgoing { topic, event, payload, tally, receipt, published } = outgoing;
            (PreparedBroadcast::new(0, topic, event, payload, None).with(receipt, published), tally)
        };
        // Made before anything is locked.
        let prepared: Vec<_> = outgoing.into_iter().map(prepare).collect();
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return Err(SendError::Stopped);
        }
        let cost = prepared.iter().map(|(broadcast, _)| broadcast.cost()).sum();
        self.check_room(prepared.len(), cost)?;
        let first = *sequence + 1;
        let mut unheard = Vec::new();
        for (broadcast, tally) in prepared {
            self.put_all(&mut sequence, broadcast, tally.as_ref(), &mut unheard);
        }
        drop(sequence);
        // The sum must not wait for a shard that has ended; the callback of the tally may publish.
        unheard.iter().for_each(|entry: &TallyEntry| entry.add(0));
        Ok(first)
    }

    fn send(
        &self,
        mut sequence: MutexGuard<'_, u64>,
        broadcast: PreparedBroadcast,
    ) -> Result<u64, Refused<PayloadBuf>> {
        if let Err(error) = self.check_room(1, broadcast.cost()) {
            return Err(Refused { error, value: broadcast.payload });
        }
        self.put_all(&mut sequence, broadcast, None, &mut Vec::new());
        Ok(*sequence)
    }

    /// Whether every mailbox has room for so many broadcasts. Whoever asks holds the sequence, so no other broadcast
    /// takes the room; a command that slips in between goes over the limit by itself alone.
    fn check_room(&self, broadcasts: usize, cost: usize) -> Result<(), SendError> {
        let mut result = Err(SendError::Stopped);
        for mailbox in &self.mailboxes {
            let queue = mailbox.lock();
            if queue.closed {
                continue;
            }
            if !self.has_room(&queue, broadcasts, cost) {
                self.refused.fetch_add(broadcasts as u64, Ordering::Relaxed);
                return Err(SendError::Overloaded);
            }
            result = Ok(());
        }
        result
    }

    /// Puts a broadcast into all mailboxes. For each shard that has ended, the tally's entry is added to `unheard`.
    fn put_all(
        &self,
        sequence: &mut u64,
        mut broadcast: PreparedBroadcast,
        tally: Option<&TallyEntry>,
        unheard: &mut Vec<TallyEntry>,
    ) {
        let cost = broadcast.cost();
        *sequence += 1;
        broadcast.sequence = *sequence;
        let broadcast = Arc::new(broadcast);
        for mailbox in &self.mailboxes {
            let broadcast = Arc::clone(&broadcast);
            let mail = match tally {
                Some(entry) => Mail::Counted(broadcast, entry.clone()),
                None => Mail::Broadcast(broadcast),
            };
            if let Err(Refused { value: Mail::Counted(_, entry), .. }) = mailbox.put(mail, cost, |_| true) {
                unheard.push(entry);
            }
        }
    }

    /// Ends the live sockets whose tokens are denied. New ones are for the hook to refuse, which decides who
    /// connects. Looks at every socket, so that many denials are best told at once.
    pub fn deny(&self, denials: &Arc<[Denial]>) {
        for mailbox in &self.mailboxes {
            // A shard that has stopped has no sockets.
            let _ = mailbox.put(Mail::Denied(Arc::clone(denials)), COMMAND_COST, |_| true);
        }
    }

    /// Ends the live sockets whose tokens were verified with other keys than these.
    pub fn retain_keys(&self, keys: &Arc<[KeyTag]>) {
        for mailbox in &self.mailboxes {
            let _ = mailbox.put(Mail::Keys(Arc::clone(keys)), COMMAND_COST, |_| true);
        }
    }

    fn has_room(&self, queue: &Queue, count: usize, cost: usize) -> bool {
        queue.bytes + cost <= self.bytes_max && queue.mail.len() + count <= self.commands_max
    }

    /// The end of the mailbox that shard number `shard` reads.
    pub(crate) fn inbox(self: &Arc<Self>, shard: u16) -> Inbox {
        Inbox { broker: Arc::clone(self), shard, taken: VecDeque::new() }
    }
}

impl Post for Broker {
    fn post(&self, to: JoinKey, command: Command) -> Result<(), Refused<Command>> {
        let Some(mailbox) = self.mailboxes.get(usize::from(to.socket.shard)) else {
            return Err(Refused { error: SendError::Stopped, value: command });
        };
        let mail = Mail::Channel(to, command);
        let cost = cost(&mail);
        mailbox.put(mail, cost, |queue| self.has_room(queue, 1, cost)).map_err(|refused| {
            refused.map(|mail| match mail {
                Mail::Channel(_, command) => command,
                _ => unreachable!("what is refused is what was put in"),
            })
        })
    }

    fn reply(&self, to: JoinKey, command: Command) -> Result<(), Stopped> {
        let mailbox = self.mailboxes.get(usize::from(to.socket.shard)).ok_or(Stopped)?;
        let mail = Mail::Channel(to, command);
        let cost = cost(&mail);
        mailbox.put(mail, cost, |_| true).map_err(|_| Stopped)
    }

    fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: PayloadBuf,
        from: Option<SocketKey>,
    ) -> Result<(), Refused<PayloadBuf>> {
        self.publish(topic, event, payload, from).map(drop)
    }
}

/// A shard's own end of its mailbox.
pub(crate) struct Inbox {
    broker: Arc<Broker>,
    shard: u16,
    taken: VecDeque<Mail>,
}

impl Inbox {
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// What has not been taken from here: pieces of mail, and what those count that are still in the mailbox.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let Some(mailbox) = self.broker.mailboxes.get(usize::from(self.shard)) else { return (0, 0) };
        let queue = mailbox.lock();
        (self.taken.len() + queue.mail.len(), queue.bytes)
    }

    /// The next piece of mail; the lock is taken once for all that waits.
    pub(crate) fn next(&mut self) -> Option<Mail> {
        if self.taken.is_empty() {
            let mut queue = self.broker.mailboxes.get(usize::from(self.shard))?.lock();
            queue.woken = false;
            queue.bytes = 0;
            std::mem::swap(&mut queue.mail, &mut self.taken);
        }
        let mail = self.taken.pop_front();
        if self.taken.is_empty() && self.taken.capacity() > 1024 {
            self.taken = VecDeque::new();
        }
        mail
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let Some(mailbox) = self.broker.mailboxes.get(usize::from(self.shard)) else { return };
        let mut queue = mailbox.lock();
        queue.closed = true;
        queue.bytes = 0;
        let mail = std::mem::take(&mut queue.mail);
        drop(queue);
        for entry in self.taken.iter().chain(&mail).filter_map(|mail| match mail {
            Mail::Counted(_, entry) => Some(entry),
            _ => None,
        }) {
            entry.add(0);
        }
        // What applications have sent may itself send when it is dropped.
        drop(mail);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn broker(limits: &Limits, wakes: &Arc<AtomicUsize>) -> Arc<Broker> {
        let wake = || {
            let wakes = Arc::clone(wakes);
            Box::new(move || _ = wakes.fetch_add(1, Ordering::Relaxed)) as Box<dyn Fn() + Send + Sync>
        };
        Broker::new(limits, vec![wake(), wake()])
    }

    fn publish(broker: &Broker, payload: PayloadBuf) -> Result<u64, SendError> {
        broker.publish("t", "e", payload, None).map_err(SendError::from)
    }

    fn sequence(inbox: &mut Inbox) -> Option<u64> {
        match inbox.next()? {
            Mail::Broadcast(broadcast) => Some(broadcast.sequence),
            Mail::Counted(..) | Mail::Channel(..) | Mail::Denied(_) | Mail::Keys(_) => None,
        }
    }

    #[test]
    fn every_shard_gets_every_broadcast_in_one_order_and_is_woken_once() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let broker = broker(&Limits::default(), &wakes);
        let (mut first, mut second) = (broker.inbox(0), broker.inbox(1));
        assert_eq!(publish(&broker, PayloadBuf::empty()), Ok(1));
        assert_eq!(publish(&broker, PayloadBuf::empty()), Ok(2));
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        for inbox in [&mut first, &mut second] {
            assert_eq!([sequence(inbox), sequence(inbox), sequence(inbox)], [Some(1), Some(2), None]);
        }
        broker.publish("t", "e", PayloadBuf::empty(), None).unwrap();
        assert_eq!(wakes.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_full_mailbox_refuses_a_broadcast_for_all_shards() {
        let mut limits = Limits::default();
        limits.set("mailbox_bytes_max", "64KiB").unwrap();
        let broker = broker(&limits, &Arc::default());
        let (mut first, mut second) = (broker.inbox(0), broker.inbox(1));
        let large = || PayloadBuf::Binary(vec![0; 40 * 1024].into());
        assert_eq!(publish(&broker, large()), Ok(1));
        assert_eq!(sequence(&mut first), Some(1));
        let refused = broker.publish("t", "e", large(), None).unwrap_err();
        assert_eq!((refused.error, refused.value.len()), (SendError::Overloaded, 40 * 1024));
        assert_eq!(broker.refused(), 1);
        assert_eq!((sequence(&mut first), sequence(&mut second)), (None, Some(1)));
        assert_eq!(publish(&broker, large()), Ok(2));
    }

    #[test]
    fn what_comes_from_outside_is_refused_once_it_is_closed() {
        let broker = broker(&Limits::default(), &Arc::default());
        let outgoing = || Outgoing {
            topic: "t",
            event: "e",
            payload: PayloadBuf::empty(),
            tally: None,
            receipt: None,
            published: None,
        };
        assert_eq!(broker.publish_all(vec![outgoing(), outgoing()]), Ok(1));
        broker.close();
        assert_eq!(broker.publish_all(vec![outgoing()]), Err(SendError::Stopped));
        let refused = broker.broadcast("t", "e", PayloadBuf::empty()).unwrap_err();
        assert_eq!(refused.error, SendError::Stopped);
        // A channel that ends may still say so to others.
        let inbox = broker.inbox(0);
        assert_eq!(publish(&broker, PayloadBuf::empty()), Ok(3));
        drop((inbox, broker.inbox(1)));
        assert_eq!(publish(&broker, PayloadBuf::empty()), Err(SendError::Stopped));
        assert_eq!(broker.refused(), 0);
    }

    #[test]
    fn a_tally_is_complete_without_the_shards_that_have_ended_and_may_publish() {
        let broker = broker(&Limits::default(), &Arc::default());
        drop(broker.inbox(0));
        let mut second = broker.inbox(1);
        let publisher = Arc::clone(&broker);
        let tally = Tally::new(1, 1, move || _ = publish(&publisher, PayloadBuf::empty()));
        let outgoing = Outgoing {
            topic: "t",
            event: "e",
            payload: PayloadBuf::empty(),
            tally: Some(tally.entry(0)),
            receipt: None,
            published: None,
        };
        assert_eq!(broker.publish_all(vec![outgoing]), Ok(1));
        assert!(tally.is_done());
        assert!(matches!(second.next(), Some(Mail::Counted(..))));
        assert_eq!(sequence(&mut second), Some(2));
    }

    #[test]
    fn a_shard_that_has_ended_takes_no_room_from_the_others() {
        let mut limits = Limits::default();
        limits.set("mailbox_bytes_max", "64KiB").unwrap();
        let broker = broker(&limits, &Arc::default());
        let (mut first, second) = (broker.inbox(0), broker.inbox(1));
        let large = || PayloadBuf::Binary(vec![0; 40 * 1024].into());
        assert_eq!(publish(&broker, large()), Ok(1));
        assert_eq!(sequence(&mut first), Some(1));
        drop(second);
        for expected in 2..10 {
            assert_eq!(publish(&broker, large()), Ok(expected));
            assert_eq!(sequence(&mut first), Some(expected));
        }
    }
}
