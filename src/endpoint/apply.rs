//! Calling channels, and doing what they have recorded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};

use super::Endpoint;
use super::ending::Rest;
use crate::auth::Identity;
use crate::broker::Mail;
use crate::channel::{
    Action, Assigns, Channel, ChannelError, Command, Context, Ended, Info, JoinKey, Origin, PayloadBuf,
    SocketKey, TopicName,
};
use crate::connection::{ConnectionId, Entry};
use crate::fault::Fault;
use crate::hub::{LogBounds, Position, StreamKey, TopicId};
use crate::phoenix::{EncodeError, Kind, Ref, RefBuf, Serializer, TopicField};
use crate::prepared::{PreparedBroadcast, WireForm};

/// A joined channel, held while its callbacks run.
#[derive(Clone)]
pub(super) struct Joined {
    pub(super) id: ConnectionId,
    pub(super) serial: u32,
    pub(super) topic: TopicName,
    pub(super) channel: Arc<dyn Channel>,
    /// The user behind the socket.
    pub(super) identity: Option<Arc<Identity>>,
}

/// Calls that wait until what is under way is done.
pub(super) enum Work {
    Info(JoinKey, Info),
    Intercepted(Arc<PreparedBroadcast>),
}

/// Calls made in one go before the loop gets its turn again.
const WORK_BUDGET: usize = 1024;

/// The connection of a socket of this shard.
fn connection_id(socket: SocketKey) -> ConnectionId {
    ConnectionId { slot: socket.slot, generation: socket.generation }
}

/// How a callback ended.
pub(super) enum Called<T> {
    Returned(T),
    Panicked,
}

impl Endpoint {
    /// Runs a callback; what it records is returned beside its result.
    pub(super) fn call<T>(
        &mut self,
        joined: &Joined,
        assigns: &mut Assigns,
        message_ref: Option<Option<Ref<'_>>>,
        now: Instant,
        callback: impl FnOnce(&dyn Channel, &mut Context<'_>) -> T,
    ) -> (Called<T>, Vec<Action>) {
        let mut actions = std::mem::take(&mut self.actions);
        let join = JoinKey { socket: self.socket_key(joined.id), serial: joined.serial };
        let (topic, identity) = (&joined.topic, joined.identity.as_deref());
        let (taken, room) = (self.taken, self.room(joined.id));
        let origin = Origin { topic, join, message_ref, post: &self.post, identity, taken, room, now };
        let mut context = Context::new(origin, assigns, &mut actions);
        let result = catch_unwind(AssertUnwindSafe(|| callback(&*joined.channel, &mut context)));
        let called = match result {
            Ok(result) => Called::Returned(result),
            Err(_) => {
                actions.clear();
                Called::Panicked
            }
        };
        (called, actions)
    }

    /// Runs a callback of a joined channel, does what it has recorded, and ends the channel if it has failed.
    pub(super) fn call_joined(
        &mut self,
        id: ConnectionId,
        topic: TopicId,
        message_ref: Option<Option<Ref<'_>>>,
        now: Instant,
        callback: impl FnOnce(&dyn Channel, &mut Context<'_>) -> Result<(), ChannelError>,
    ) {
        let Some(socket) = self.connection(id).and_then(|connection| connection.socket_mut()) else { return };
        let Some(join) = socket.joins.by_topic_mut(topic) else { return };
        let mut assigns = std::mem::take(&mut join.assigns);
        let serial = join.serial;
        let joined = self.joined(id, topic, serial);
        let (called, mut actions) = self.call(&joined, &mut assigns, message_ref, now, callback);
        // A callback records only, so the join is still there.
        let socket = self.connection(id).and_then(|connection| connection.socket_mut());
        if let Some(join) = socket.and_then(|socket| socket.joins.by_serial_mut(serial)) {
            join.assigns = assigns;
        }
        let failure = match called {
            Called::Returned(Ok(())) => None,
            Called::Returned(Err(failure)) => Some(failure.to_string()),
            Called::Panicked => Some("panicked".to_owned()),
        };
        match failure {
            None => self.apply(&joined, actions, message_ref, now),
            Some(failure) => {
                // Nothing of a failed callback is done.
                actions.clear();
                self.actions = actions;
                self.crash(&joined, topic, &failure, now);
            }
        }
    }

    /// Ends a channel whose callback has failed.
    fn crash(&mut self, joined: &Joined, topic: TopicId, failure: &str, now: Instant) {
        self.stats.channel_crashes += 1;
        error!(topic = &*joined.topic, failure, "a channel has crashed");
        let slot = joined.id.slot;
        let Some((join, _)) = self.remove_join(slot, topic, Rest::Keep) else { return };
        let join_ref = join.given_ref();
        self.send_message(slot, now, |serializer, out| {
            Ok(serializer.encode_error(out, join_ref, &joined.topic, "channel_crash"))
        });
        self.terminate(joined, join.assigns, Ended::Crashed, now);
    }

    /// Tells a channel that it has ended.
    pub(super) fn terminate(&mut self, joined: &Joined, mut assigns: Assigns, reason: Ended, now: Instant) {
        let (called, mut actions) =
            self.call(joined, &mut assigns, None, now, |channel, cx| channel.terminate(reason, cx));
        if matches!(called, Called::Panicked) {
            self.stats.channel_crashes += 1;
            error!(topic = &*joined.topic, "a channel has panicked in terminate");
        }
        if reason != Ended::Disconnected {
            return self.apply(joined, actions, None, now);
        }
        // Taking mail can end connections, so here, where one has ended, none is taken: that would nest as
        // deep as there are connections. Nothing more is done for this one that would have to come later.
        for action in actions.drain(..) {
            if let Action::Broadcast { topic, event, payload, from } = action {
                self.publish(joined, topic.as_deref(), &event, payload, from);
            }
        }
        self.actions = actions;
    }

    /// Publishes what a channel broadcasts: its place in the node's order, if there was room.
    fn publish(
        &self,
        joined: &Joined,
        topic: Option<&str>,
        event: &str,
        payload: PayloadBuf,
        from: Option<SocketKey>,
    ) -> Option<u64> {
        let topic = topic.unwrap_or(&joined.topic);
        let sequence = self.inbox.broker().publish(topic, event, payload, from).ok();
        if sequence.is_none() {
            warn!(topic, "a broadcast was refused: a mailbox is full");
        }
        sequence
    }

    /// Does what a callback has recorded. `message_ref` is that of the message it has handled.
    pub(super) fn apply(
        &mut self,
        joined: &Joined,
        mut actions: Vec<Action>,
        message_ref: Option<Option<Ref<'_>>>,
        now: Instant,
    ) {
        // A message has one reply: the first refusal answers it unless the callback has done so before.
        let (mut answered, mut overloaded) = (false, false);
        for action in actions.drain(..) {
            match action {
                Action::Reply { .. } if overloaded => {}
                Action::Reply { message_ref, status, response } => {
                    self.send_reply(joined, message_ref.as_ref(), status, &response, now);
                    answered = true;
                }
                Action::Push { event, payload } => self.send_push(joined, &event, &payload, now),
                Action::Broadcast { topic, event, payload, from } => {
                    let Some(sequence) = self.publish(joined, topic.as_deref(), &event, payload, from) else {
                        if let Some(message_ref) = message_ref
                            && !std::mem::replace(&mut overloaded, true)
                            && !answered
                        {
                            let message_ref = message_ref.map(RefBuf::from);
                            let response = PayloadBuf::reason("overloaded");
                            self.send_reply(joined, message_ref.as_ref(), "error", &response, now);
                        }
                        continue;
                    };
                    self.deliver_until(sequence, now);
                }
                Action::Stop => self.stop(joined, now),
            }
        }
        if actions.capacity() <= 64 {
            self.actions = actions;
        }
    }

    /// Takes mail up to a broadcast of this shard's own, so that what its channel does next comes after it.
    fn deliver_until(&mut self, sequence: u64, now: Instant) {
        while let Some(mail) = self.inbox.next() {
            let reached = match &mail {
                Mail::Broadcast(broadcast) | Mail::Counted(broadcast, _) => broadcast.sequence >= sequence,
                _ => false,
            };
            if self.must_write_first() {
                // This can't wait for its turn; the readers are not to suffer for it.
                self.hub.suspend_judgement();
            }
            self.deliver_mail(mail, now);
            if reached {
                break;
            }
        }
    }

    pub(super) fn deliver_mail(&mut self, mail: Mail, now: Instant) {
        match mail {
            Mail::Broadcast(broadcast) => drop(self.deliver_broadcast(broadcast, now)),
            Mail::Counted(broadcast, entry) => entry.add(self.deliver_broadcast(broadcast, now)),
            Mail::Denied(denials) => self.withdraw(&denials, now),
            Mail::Keys(keys) => self.retain_keys(&keys, now),
            Mail::Channel(to, Command::Info(info)) => self.work.push_back(Work::Info(to, info)),
            Mail::Channel(to, Command::Push { event, payload }) => {
                if let Some((joined, _)) = self.find_join(to) {
                    self.send_push(&joined, &event, &payload, now);
                }
            }
            Mail::Channel(to, Command::Reply { message_ref, status, response }) => {
                if let Some((joined, _)) = self.find_join(to) {
                    self.send_reply(&joined, message_ref.as_ref(), status, &response, now);
                }
            }
        }
    }

    /// Gives a broadcast to the topic's subscribers; how many it is for. Sockets that it closes count as such.
    fn deliver_broadcast(&mut self, broadcast: Arc<PreparedBroadcast>, now: Instant) -> u64 {
        self.stats.broadcasts += 1;
        self.taken = broadcast.sequence;
        let closed = self.disconnect(&broadcast, now);
        let Some(topic) = self.hub.lookup(&broadcast.topic) else { return closed };
        let route = self.config.router.route(self.hub.topic(topic).route);
        if route.channel.intercepts().contains(&&*broadcast.event) {
            let subscribers = self.hub.subscriber_slots(topic).len() as u64;
            self.work.push_back(Work::Intercepted(broadcast));
            return closed + subscribers;
        }
        let sender = broadcast.from.filter(|from| from.shard == self.shard).and_then(|from| {
            let id = connection_id(from);
            let socket = self.connection(id)?.socket()?;
            let (form, index) = (socket.form, socket.joins.by_topic(topic)?.index);
            let key = StreamKey { topic, form };
            Some((id.slot, key, index, self.hub.stream_ref(key)?.log.end()))
        });
        let since = broadcast.published.unwrap_or(now);
        let appended = self.hub.append(topic, &broadcast, LogBounds::of(&self.config.limits), since);
        self.stats.broadcasts_unencodable += appended.unencodable as u64;
        self.stats.messages_out += appended.subscribers;
        self.track(&broadcast, topic);
        if let Some((slot, key, index, before)) = sender {
            self.leave_out(slot, key, index, before, now);
        }
        closed + appended.subscribers
    }

    /// Has a subscriber pass over what was appended since `before`.
    fn leave_out(&mut self, slot: u32, key: StreamKey, index: u32, before: Position, now: Instant) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Some(stream) = self.hub.stream(key) else { return };
        let end = stream.log.end();
        self.stats.messages_out -= u64::from(before < end);
        if stream.cursor(index) >= before {
            stream.advance(index, end);
        } else {
            connection.outbox.push(Entry::Until { topic: key.topic, position: before });
            connection.outbox.push(Entry::Skip { topic: key.topic, position: end });
            let blocked = connection.blocked;
            self.queue(slot);
            if blocked {
                self.check_outbox(slot, now);
            }
        }
    }

    /// Does what has waited until an event was dealt with.
    pub(super) fn run_work(&mut self, now: Instant) {
        self.refuse_at_once(now);
        self.resume(now);
        self.make_calls(now);
    }

    /// Makes the calls that have waited.
    pub(super) fn make_calls(&mut self, now: Instant) {
        for _ in 0..WORK_BUDGET {
            let Some(work) = self.work.pop_front() else { break };
            match work {
                Work::Info(to, info) => {
                    if let Some((joined, topic)) = self.find_join(to) {
                        self.call_joined(joined.id, topic, None, now, |channel, cx| {
                            channel.handle_info(info, cx)
                        });
                    }
                }
                Work::Intercepted(broadcast) => self.intercept(&broadcast, now),
            }
        }
    }

    /// Calls `handle_out` for each subscriber.
    fn intercept(&mut self, broadcast: &PreparedBroadcast, now: Instant) {
        let Some(topic) = self.hub.lookup(&broadcast.topic) else { return };
        for slot in self.hub.subscriber_slots(topic) {
            let Some(id) = self.id(slot) else { continue };
            if broadcast.from != Some(self.socket_key(id)) {
                self.call_joined(id, topic, None, now, |channel, cx| {
                    channel.handle_out(&broadcast.event, broadcast.payload.as_payload(), cx)
                });
            }
        }
    }

    pub(super) fn find_join(&mut self, to: JoinKey) -> Option<(Joined, TopicId)> {
        let id = connection_id(to.socket);
        let socket = self.connection(id)?.socket_mut()?;
        let topic = socket.joins.by_serial_mut(to.serial)?.topic;
        Some((self.joined(id, topic, to.serial), topic))
    }

    /// Ends a channel because its handler wants it.
    fn stop(&mut self, joined: &Joined, now: Instant) {
        let Some(topic) = self.hub.lookup(&joined.topic) else { return };
        if self.join_of(joined).is_none() {
            return;
        }
        let Some((join, _)) = self.remove_join(joined.id.slot, topic, Rest::Keep) else { return };
        let join_ref = join.given_ref();
        self.send_message(joined.id.slot, now, |serializer, out| {
            Ok(serializer.encode_close(out, join_ref, &joined.topic))
        });
        self.terminate(joined, join.assigns, Ended::Stopped, now);
    }

    /// The join_ref of a join that is still there.
    fn join_of(&mut self, joined: &Joined) -> Option<Option<RefBuf>> {
        let socket = self.connection(joined.id)?.socket_mut()?;
        Some(socket.joins.by_serial_mut(joined.serial)?.join_ref.clone())
    }

    pub(super) fn send_push(&mut self, joined: &Joined, event: &str, payload: &PayloadBuf, now: Instant) {
        let Some(join_ref) = self.join_of(joined) else { return };
        let join_ref = join_ref.as_ref().map(RefBuf::as_ref);
        self.send_message(joined.id.slot, now, |serializer, out| {
            serializer.encode_push(out, join_ref, &joined.topic, event, payload.as_payload())
        });
    }

    pub(super) fn send_reply(
        &mut self,
        joined: &Joined,
        message_ref: Option<&RefBuf>,
        status: &str,
        response: &PayloadBuf,
        now: Instant,
    ) {
        let Some(join_ref) = self.join_of(joined) else { return };
        let (join_ref, message_ref) =
            (join_ref.as_ref().map(RefBuf::as_ref), message_ref.map(RefBuf::as_ref));
        let topic = TopicField::Text((&*joined.topic).into());
        self.send_message(joined.id.slot, now, |serializer, out| {
            let response = response.as_payload();
            serializer.encode_reply(out, join_ref, message_ref, &topic, status, response)
        });
    }

    /// Encodes a message for one client and queues it.
    pub(super) fn send_message(
        &mut self,
        slot: u32,
        now: Instant,
        encode: impl FnOnce(Serializer, &mut Vec<u8>) -> Result<Kind, EncodeError>,
    ) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.is_closing() {
            return;
        }
        let Some(socket) = connection.socket() else { return };
        let (serializer, form) = (socket.serializer, socket.form);
        let mut message = std::mem::take(&mut self.scratch);
        message.clear();
        match encode(serializer, &mut message) {
            Ok(kind) => {
                self.stats.messages_out += 1;
                self.queue_message(slot, form, kind, &message);
            }
            Err(error) => warn!(?error, "a message could not be encoded for this client"),
        }
        if message.capacity() <= 64 * 1024 {
            self.scratch = message;
        }
        self.check_outbox(slot, now);
    }

    fn queue_message(&mut self, slot: u32, form: WireForm, kind: Kind, message: &[u8]) {
        let Some(header) = form.frame_header(kind, message.len()) else {
            return self.queue_bytes(slot, form.wrap(kind, message).into());
        };
        let header = header.as_slice();
        self.queue_frame(slot, header.len() + message.len(), |out| {
            out.extend_from_slice(header);
            out.extend_from_slice(message);
        });
    }

    /// Bytes that can be queued for a connection before it is closer to its end than to its beginning.
    fn room(&self, id: ConnectionId) -> usize {
        let held = self.find(id).map_or(0, |connection| connection.outbox.held());
        (self.config.limits.outbox_bytes_max / 2).saturating_sub(held)
    }

    /// Ends a connection for which too much waits.
    pub(super) fn check_outbox(&mut self, slot: u32, now: Instant) {
        let bytes_max = self.config.limits.outbox_bytes_max;
        if self.by_slot(slot).is_some_and(|connection| connection.outbox.held() > bytes_max) {
            self.fail(slot, Fault::OutboxFull, now);
        }
    }
}
