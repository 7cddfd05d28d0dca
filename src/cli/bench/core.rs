//! What all clients of a run share: what is measured, what is due, what went wrong.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::Duration;

use mio::net::TcpStream;

use super::connect::Line;
use super::herd::Herd;
use crate::load::TOPIC;
use crate::load::check::Checks;
use crate::load::client::{Client, Event, Stage};
use crate::load::ledger::Ledger;
use crate::load::message::Kind;
use crate::load::outcome::SlowReaders;
use crate::load::times::Times;
use crate::load::wire::{CLOSE, PONG, write_frame};

/// What a client is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It gets every message, which is checked.
    Subscriber,
    /// It publishes.
    Publisher,
    /// It gets every message, and may stop reading.
    Slow,
    /// It comes and goes.
    Churner,
}

/// What was found out about who gets messages.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Subscribers that have it.
    pub(super) seen: u32,
    /// Whether who has sent it has it.
    pub(super) echoed: bool,
}

/// What the clients have in common.
pub(super) struct Core {
    /// The topic that every client joins, with Phoenix.
    pub(super) topic: Option<String>,
    /// The topics that clients join besides, by their numbers.
    pub(super) own_topics: Vec<Rc<str>>,
    pub(super) ledger: Ledger,
    pub(super) line: Line,
    pub(super) probe: Probe,
    /// Subscribers that are in.
    pub(super) joined: u32,
    pub(super) publisher_in: bool,
    /// Whether another process publishes, so that messages make themselves known.
    pub(super) learns: bool,
    /// Clients that come back when they have lost their connection, while that is so.
    pub(super) herd: Option<Herd>,
    pub(super) slow: SlowReaders,
    slow_checks: Checks,
    pub(super) upgrade: Times,
    pub(super) join: Times,
    pub(super) heartbeats: Times,
    /// When whose heartbeat is due. All wait equally long, so the first is due first.
    heartbeats_due: VecDeque<(u64, u32)>,
    /// Which heartbeat is given up when.
    heartbeats_out: VecDeque<(u64, u32)>,
    heartbeat: u64,
    /// Joins and pushes that were refused.
    pub(super) denied: u64,
    /// The first of these that went wrong, for a sentence.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) scratch: Vec<u8>,
}

impl Core {
    pub(super) fn new(
        topic: Option<String>,
        own_topics: Vec<Rc<str>>,
        line: Line,
        heartbeat: Duration,
    ) -> Self {
        Self {
            topic,
            own_topics,
            ledger: Ledger::default(),
            line,
            probe: Probe::default(),
            joined: 0,
            publisher_in: false,
            learns: false,
            herd: None,
            slow: SlowReaders::default(),
            slow_checks: Checks::default(),
            upgrade: Times::default(),
            join: Times::default(),
            heartbeats: Times::default(),
            heartbeats_due: VecDeque::new(),
            heartbeats_out: VecDeque::new(),
            heartbeat: u64::try_from(heartbeat.as_micros()).unwrap_or(u64::MAX),
            denied: 0,
            errors: BTreeMap::new(),
            scratch: Vec::new(),
        }
    }

    /// Counts something that went wrong.
    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        *self.errors.entry(what.into()).or_default() += 1;
    }

    /// What to do if the server refuses joins or pushes, as it has; nothing where there are no topics.
    pub(super) fn advice(&self) -> Option<String> {
        let topic = self.topic.as_deref().filter(|_| self.denied > 0)?;
        let own = if topic == TOPIC { "a topic of their own, " } else { "" };
        Some(format!(
            "These load tests join {own}{topic}, and push new_msg there. Let the server have it, for example with\n\
             [[topics]]\npattern = \"{topic}\"\njoin = \"user\"\npush = [{{ event = \"new_msg\", by = \"user\" }}]\n\
             in its configuration, or name another topic with --topic: all who have joined that one get the messages"
        ))
    }

    /// Slow readers that have missed messages between others.
    pub(super) fn slow_missed(&self) -> u64 {
        self.slow_checks.lacking() as u64
    }

    /// A connection has ended without a close frame.
    pub(super) fn lost(&mut self, role: Role, what: String) {
        match role {
            Role::Slow => *self.slow.closed.entry("none".to_owned()).or_default() += 1,
            _ if self.herd.is_some() => {}
            _ => self.wrong(what),
        }
    }

    /// Takes what a client has learnt.
    #[inline]
    pub(super) fn on(
        &mut self,
        index: u32,
        role: Role,
        client: &mut Client,
        stream: &mut TcpStream,
        event: Event<'_>,
        now: u64,
    ) {
        match event {
            Event::Message(stamp) if stamp.kind == Kind::Probe => match role {
                Role::Subscriber => self.probe.seen += 1,
                Role::Publisher => self.probe.echoed = true,
                Role::Slow | Role::Churner => {}
            },
            Event::Message(stamp) if matches!(role, Role::Slow | Role::Churner) => {
                if role == Role::Slow {
                    self.slow_checks.take(index, &mut client.next, stamp.number);
                }
            }
            Event::Message(stamp) => {
                let learning = self.learns.then_some(self.joined);
                self.ledger.arrive(index, &mut client.next, stamp, now, learning);
            }
            Event::Own(stamp) => self.ledger.arrive(index, &mut client.own_next, stamp, now, None),
            other => self.on_other(index, role, client, stream, other, now),
        }
    }

    fn on_other(
        &mut self,
        index: u32,
        role: Role,
        client: &mut Client,
        stream: &mut TcpStream,
        event: Event<'_>,
        now: u64,
    ) {
        match event {
            Event::Upgraded => {
                if let Some(herd) = &mut self.herd {
                    herd.opened(index);
                }
                self.upgrade.record(now.saturating_sub(client.since));
                client.since = now;
                if client.stage == Stage::In {
                    self.is_in(index, role, now);
                } else {
                    self.send_joins(index, client, stream);
                    self.plan_heartbeat(index, client, now);
                }
            }
            Event::Joined => {
                self.join.record(now.saturating_sub(client.since));
                self.is_in(index, role, now);
            }
            Event::Heartbeat(sent) => {
                self.heartbeats.record(now.saturating_sub(sent));
                self.plan_heartbeat(index, client, now);
            }
            Event::Ping(payload) => {
                self.scratch.clear();
                write_frame(&mut self.scratch, PONG, payload);
                self.send_scratch(stream);
            }
            Event::Closed(code) => {
                self.scratch.clear();
                write_frame(&mut self.scratch, CLOSE, &code.to_be_bytes());
                // The server may have gone by now; it was the one to close.
                let _ = stream.write(&self.scratch);
                match role {
                    Role::Slow => *self.slow.closed.entry(code.to_string()).or_default() += 1,
                    // The answer to its own close frame.
                    Role::Churner if code == 1000 => {}
                    _ if self.herd.is_some() => {}
                    _ => self.wrong(format!("connections closed by the server with code {code}")),
                }
            }
            Event::Refused(_) if self.herd.is_some() => {}
            Event::Denied(_) if client.stage == Stage::Joining && self.herd.is_some() => {
                if let Some(herd) = &mut self.herd {
                    herd.denied(index, now);
                }
            }
            Event::Refused(0) => self.wrong("connections answered with something that is not HTTP"),
            Event::Refused(status) => self.wrong(format!("upgrades answered with status {status}")),
            Event::Denied(told) => {
                let what = if client.stage == Stage::Joining { "joins" } else { "pushes" };
                self.wrong(format!("{what} refused, such as {}", String::from_utf8_lossy(told)));
                self.denied += 1;
                client.end();
            }
            // What Phoenix says to whoever leaves.
            Event::ChannelEnded if role == Role::Churner => {}
            Event::ChannelEnded => self.wrong("channels ended by the server"),
            Event::Pushed => self.ledger.pushed += 1,
            Event::Unknown(shown) => {
                let shown = String::from_utf8_lossy(shown);
                // One example says what they are; each of them may be another.
                let known = self.errors.keys().find(|key| key.starts_with("unknown messages")).cloned();
                self.wrong(known.unwrap_or_else(|| format!("unknown messages, such as {shown}")));
            }
            Event::Broken(error) => self.wrong(error.to_string()),
            Event::Message(_) | Event::Own(_) => {}
        }
    }

    fn is_in(&mut self, index: u32, role: Role, now: u64) {
        if let Some(herd) = &mut self.herd {
            herd.is_back(index, now);
        }
        self.line.under_way = self.line.under_way.saturating_sub(1);
        match role {
            Role::Subscriber => self.joined += 1,
            Role::Publisher => self.publisher_in = true,
            Role::Slow | Role::Churner => {}
        }
    }

    /// Joins once more, on the connection that it has.
    pub(super) fn rejoin(&mut self, index: u32, client: &mut Client, stream: &mut TcpStream) {
        client.forget_joins();
        self.send_joins(index, client, stream);
    }

    fn send_joins(&mut self, index: u32, client: &mut Client, stream: &mut TcpStream) {
        self.scratch.clear();
        if let Some(topic) = &self.topic {
            client.write_join(&mut self.scratch, topic);
        }
        if let Some(own) = self.own_topics.get(index as usize) {
            client.write_join(&mut self.scratch, own);
        }
        self.send_scratch(stream);
    }

    /// Sends a few bytes, which the kernel takes at once unless the server has not read for long.
    pub(super) fn send_scratch(&mut self, stream: &mut TcpStream) {
        let sent = match stream.write(&self.scratch) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // Its end is seen at the next read.
            Err(_) => return,
        };
        if sent < self.scratch.len() {
            self.wrong("frames that the server did not take");
        }
    }

    /// When the next heartbeat is due, or given up.
    pub(super) fn due(&self) -> Option<u64> {
        let fronts = [self.heartbeats_due.front(), self.heartbeats_out.front()];
        let herd = self.herd.as_ref().and_then(Herd::due);
        fronts.into_iter().flatten().map(|(due, _)| *due).chain(herd).min()
    }

    fn plan_heartbeat(&mut self, index: u32, client: &mut Client, now: u64) {
        client.heartbeat_due = now + self.heartbeat;
        self.heartbeats_due.push_back((client.heartbeat_due, index));
    }

    /// Whose heartbeat is due, and since when. The client may have gone since, and be back with another time.
    pub(super) fn next_heartbeat(&mut self, now: u64) -> Option<(u64, u32)> {
        pop_due(&mut self.heartbeats_due, now)
    }

    /// Sends a client's heartbeat.
    pub(super) fn send_heartbeat(
        &mut self,
        index: u32,
        client: &mut Client,
        stream: &mut TcpStream,
        now: u64,
    ) {
        self.scratch.clear();
        client.write_heartbeat(&mut self.scratch, now);
        self.heartbeats_out.push_back((now + self.heartbeat, index));
        self.send_scratch(stream);
    }

    /// Whose heartbeat may have to be given up, and when it left.
    pub(super) fn next_overdue(&mut self, now: u64) -> Option<(u32, u64)> {
        pop_due(&mut self.heartbeats_out, now).map(|(due, index)| (index, due - self.heartbeat))
    }
}

/// The first one of a queue, if it is due.
fn pop_due(queue: &mut VecDeque<(u64, u32)>, now: u64) -> Option<(u64, u32)> {
    queue.front().filter(|(due, _)| *due <= now)?;
    queue.pop_front()
}
