//! Calling channels, and doing what they have recorded.

use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, warn};

use super::Endpoint;
use super::channel_log::Place;
use super::ending::Rest;
use crate::auth::Identity;
use crate::broker::Mail;
use crate::channel::{
    Action, Assigns, Channel, ChannelError, Command, Context, Ended, Failure, Info, JoinKey, Origin,
    PayloadBuf, PendingReply, SocketKey, TopicName,
};
use crate::connection::{ConnectionId, Entry};
use crate::fault::Fault;
use crate::guard::{self, Panicked};
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

/// The response to a message whose payload its channel can't read.
pub(super) const INVALID_PAYLOAD: &str = "invalid payload";

/// Calls made in one go before the loop gets its turn again.
const WORK_BUDGET: usize = 1024;

/// The connection of a socket of this shard.
fn connection_id(socket: SocketKey) -> ConnectionId {
    ConnectionId { slot: socket.slot, generation: socket.generation }
}

/// A callback that is about to run.
#[derive(Clone, Copy)]
pub(super) struct Callback<'a> {
    /// The method of [`Channel`].
    pub(super) name: &'static str,
    pub(super) event: Option<&'a str>,
    /// The message that it handles; its ref may be null.
    pub(super) message_ref: Option<Option<Ref<'a>>>,
}

impl Callback<'_> {
    /// One that handles no message.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, event: None, message_ref: None }
    }
}

/// How a callback ended, and what it has recorded.
pub(super) struct Outcome<T> {
    pub(super) result: Result<T, Panicked>,
    pub(super) actions: Vec<Action>,
    /// The message that it has handled, if that is to be answered later.
    pending: Option<Arc<PendingReply>>,
}

/// The message that a callback has handled, and whether it is answered.
pub(super) struct Handled<'a> {
    callback: Callback<'a>,
    message_ref: Option<Ref<'a>>,
    answered: bool,
    pending: Option<Arc<PendingReply>>,
}

impl Handled<'_> {
    /// Takes the right to answer the message; false if it has been answered.
    fn take_answer(&mut self) -> bool {
        !std::mem::replace(&mut self.answered, true)
            && self.pending.as_ref().is_none_or(|pending| pending.take())
    }
}

impl Joined {
    pub(super) fn place<'a>(&'a self, code: &'static str, event: Option<&'a str>) -> Place<'a> {
        Place { code, topic: &self.topic, event, identity: self.identity.as_deref() }
    }
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
    ) -> Outcome<T> {
        let mut actions = std::mem::take(&mut self.actions);
        let join = JoinKey { socket: self.socket_key(joined.id), serial: joined.serial };
        let (topic, identity) = (&joined.topic, joined.identity.as_deref());
        let (taken, room) = (self.taken, self.room(joined.id));
        let origin = Origin { topic, join, message_ref, post: &self.post, identity, taken, room, now };
        let mut context = Context::new(origin, assigns, &mut actions);
        let result = guard::call(|| callback(&*joined.channel, &mut context));
        let pending = context.into_pending();
        if result.is_err() {
            actions.clear();
        }
        Outcome { result, actions, pending }
    }

    /// Runs a callback of a joined channel, does what it has recorded, and ends the channel if it has failed.
    pub(super) fn call_joined(
        &mut self,
        id: ConnectionId,
        topic: TopicId,
        callback: Callback<'_>,
        now: Instant,
        run: impl FnOnce(&dyn Channel, &mut Context<'_>) -> Result<(), ChannelError>,
    ) {
        let Some(socket) = self.connection(id).and_then(|connection| connection.socket_mut()) else { return };
        let Some(join) = socket.joins.by_topic_mut(topic) else { return };
        let mut assigns = std::mem::take(&mut join.assigns);
        let serial = join.serial;
        let joined = self.joined(id, topic, serial);
        let Outcome { result, mut actions, pending } =
            self.call(&joined, &mut assigns, callback.message_ref, now, run);
        // A callback records only, so the join is still there.
        let socket = self.connection(id).and_then(|connection| connection.socket_mut());
        if let Some(join) = socket.and_then(|socket| socket.joins.by_serial_mut(serial)) {
            join.assigns = assigns;
        }
        let message = callback.message_ref;
        let handled = message.map(|message_ref| Handled { callback, message_ref, answered: false, pending });
        let failure = match result {
            Ok(Ok(())) => return self.apply(&joined, actions, handled, now),
            Ok(Err(error)) => error.failure(),
            Err(panicked) => Failure::Crash(panicked.to_string()),
        };
        // Nothing of a failed callback is done.
        actions.clear();
        self.actions = actions;
        match (failure, handled) {
            (Failure::InvalidPayload(place), Some(mut handled)) => {
                self.note_invalid_payload(&joined.topic, callback.event, &place);
                if handled.take_answer() {
                    let response = PayloadBuf::reason(INVALID_PAYLOAD);
                    self.send_reply(&joined, handled.message_ref, "error", &response, now);
                }
            }
            // What the client has not sent now, it can't be blamed for.
            (Failure::Crash(failure) | Failure::InvalidPayload(failure), _) => {
                self.note_crash(&joined.place(callback.name, callback.event), &failure, now);
                self.crash(&joined, topic, now);
            }
        }
    }

    /// A client has sent a payload that the channel can't read.
    pub(super) fn note_invalid_payload(&mut self, topic: &str, event: Option<&str>, place: &str) {
        self.stats.payloads_invalid += 1;
        debug!(topic, event, place, "a client has sent a payload that its channel can't read");
    }

    /// Ends a channel whose callback has failed.
    fn crash(&mut self, joined: &Joined, topic: TopicId, now: Instant) {
        let slot = joined.id.slot;
        let Some((join, _)) = self.remove_join(slot, topic, Rest::Keep) else { return };
        let join_ref = join.given_ref();
        self.send_message(slot, now, |serializer, out| {
            Ok(serializer.encode_error(out, join_ref, &joined.topic, "channel_crash"))
        });
        self.terminate(joined, join.assigns, Ended::Crashed, now);
    }

    /// Tells a channel that it has ended, and drops what it has kept for its client.
    pub(super) fn terminate(&mut self, joined: &Joined, mut assigns: Assigns, reason: Ended, now: Instant) {
        let Outcome { result, mut actions, .. } =
            self.call(joined, &mut assigns, None, now, |channel, cx| channel.terminate(reason, cx));
        if let Err(panicked) = result {
            self.note_crash(&joined.place("terminate", None), &panicked.to_string(), now);
        }
        self.dispose_assigns(joined, assigns, now);
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

    /// Drops what a channel has kept for a client.
    pub(super) fn dispose_assigns(&mut self, joined: &Joined, mut assigns: Assigns, now: Instant) {
        if let Err(panicked) = assigns.dispose() {
            self.note_crash(&joined.place("a destructor in the assigns", None), &panicked.to_string(), now);
        }
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

    /// Does what a callback has recorded about the message that it has handled, if it has.
    pub(super) fn apply(
        &mut self,
        joined: &Joined,
        mut actions: Vec<Action>,
        mut handled: Option<Handled<'_>>,
        now: Instant,
    ) {
        // A message has one reply: the first refusal answers it unless the callback has done so before.
        let mut overloaded = false;
        for action in actions.drain(..) {
            match action {
                Action::Reply { .. } if overloaded => {}
                Action::Reply { status, response } => {
                    let Some(handled) = &mut handled else { continue };
                    if handled.take_answer() {
                        self.send_reply(joined, handled.message_ref, status, &response, now);
                    } else {
                        self.note_second_reply(joined, handled.callback.event, now);
                    }
                }
                Action::Push { event, payload } => self.send_push(joined, &event, &payload, now),
                Action::Broadcast { topic, event, payload, from } => {
                    let Some(sequence) = self.publish(joined, topic.as_deref(), &event, payload, from) else {
                        if let Some(handled) = &mut handled
                            && !std::mem::replace(&mut overloaded, true)
                            && handled.take_answer()
                        {
                            let response = PayloadBuf::reason("overloaded");
                            self.send_reply(joined, handled.message_ref, "error", &response, now);
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

    /// A message was answered that has had its answer.
    fn note_second_reply(&mut self, joined: &Joined, event: Option<&str>, now: Instant) {
        self.stats.replies_dropped += 1;
        self.channel_log.answered_twice(&joined.place("reply", event), now);
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
            Mail::Channel(to, Command::Reply { pending, status, response }) => {
                // Taken in any case, so that it does not count as unanswered when the channel has ended.
                let first = pending.take();
                let Some((joined, _)) = self.find_join(to) else { return };
                if first {
                    let message_ref = pending.message_ref().map(RefBuf::as_ref);
                    self.send_reply(&joined, message_ref, status, &response, now);
                } else {
                    self.note_second_reply(&joined, None, now);
                }
            }
            Mail::Channel(to, Command::Unanswered { message_ref }) => {
                if let Some((joined, _)) = self.find_join(to) {
                    let (message_ref, response) =
                        (message_ref.as_ref().map(RefBuf::as_ref), PayloadBuf::reason("unanswered"));
                    self.send_reply(&joined, message_ref, "error", &response, now);
                }
            }
        }
    }

    /// Whether a broadcast goes through `handle_out`. If the channel fails to say so, it does: what is meant for some
    /// subscribers alone is not to reach all.
    fn is_intercepted(&mut self, topic: TopicId, event: &str, now: Instant) -> bool {
        let channel = &self.config.router.route(self.hub.topic(topic).route).channel;
        let said = guard::call(|| channel.intercepts().contains(&event));
        said.unwrap_or_else(|panicked| {
            let topic = self.hub.topic(topic).name.clone();
            let place = Place { code: "intercepts", topic: &topic, event: Some(event), identity: None };
            self.note_crash(&place, &panicked.to_string(), now);
            true
        })
    }

    /// Gives a broadcast to the topic's subscribers; how many it is for. Sockets that it closes count as such.
    fn deliver_broadcast(&mut self, broadcast: Arc<PreparedBroadcast>, now: Instant) -> u64 {
        self.stats.broadcasts += 1;
        self.taken = broadcast.sequence;
        let closed = self.disconnect(&broadcast, now);
        let Some(topic) = self.hub.lookup(&broadcast.topic) else { return closed };
        if self.is_intercepted(topic, &broadcast.event, now) {
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
                        let callback = Callback::new("handle_info");
                        self.call_joined(joined.id, topic, callback, now, |channel, cx| {
                            channel.handle_info(info, cx)
                        });
                    } else if let Err(panicked) = info.dispose() {
                        let code = "the destructor of an Info";
                        let place = Place { code, topic: "", event: None, identity: None };
                        self.note_crash(&place, &panicked.to_string(), now);
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
                let callback = Callback { event: Some(&broadcast.event), ..Callback::new("handle_out") };
                self.call_joined(id, topic, callback, now, |channel, cx| {
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
        message_ref: Option<Ref<'_>>,
        status: &str,
        response: &PayloadBuf,
        now: Instant,
    ) {
        let Some(join_ref) = self.join_of(joined) else { return };
        let join_ref = join_ref.as_ref().map(RefBuf::as_ref);
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
