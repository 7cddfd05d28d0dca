//! What a client's message means (Phoenix: `Phoenix.Socket.__in__/2`).

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::Endpoint;
use super::apply::{Callback, INVALID_PAYLOAD, Joined, Outcome};
use super::ending::Rest;
use super::flush::mark_partial;
use super::users::ACCESS_TOKEN;
use crate::channel::{Action, Assigns, Ended, Failure, JoinError, PayloadBuf, RouteIndex};
use crate::connection::ConnectionId;
use crate::hub::TopicId;
use crate::phoenix::{self, Message, Payload, Ref, RefBuf, Refused, TopicField, events};
use crate::socket::Join;

impl Endpoint {
    /// Does what a client's message asks for, and makes the calls that this causes: the client's next message
    /// may end a channel that is among the called ones, or join a topic that was not joined in time.
    pub(super) fn dispatch(&mut self, id: ConnectionId, message: &Message<'_>, now: Instant) {
        self.obey(id, message, now);
        self.make_calls(now);
    }

    fn obey(&mut self, id: ConnectionId, message: &Message<'_>, now: Instant) {
        let TopicField::Text(topic) = &message.topic else {
            return self.reply_unmatched(id.slot, message, now);
        };
        let event = &*message.event;
        if topic == phoenix::TOPIC && event == events::HEARTBEAT {
            self.stats.heartbeats += 1;
            return self.reply(id.slot, None, message, "ok", Payload::empty(), now);
        }
        if event == events::JOIN {
            return self.join(id, topic, message, now);
        }
        let joined = self.hub.lookup(topic).filter(|topic| self.is_joined(id, *topic));
        match joined {
            Some(topic) if self.is_stale(id, topic, message.join_ref) => self.stats.stale_join_ref += 1,
            Some(topic) if event == events::LEAVE => self.leave(id, topic, message, now),
            Some(topic) if event == ACCESS_TOKEN && self.config.admission.is_some() => {
                self.renew(id, topic, message, now);
            }
            Some(topic) if events::is_reserved(event) => {
                self.stats.reserved_event += 1;
                debug!(event, "a client sent an event that belongs to the protocol");
                let join_ref = self.join_ref(id, topic);
                let join_ref = join_ref.as_ref().map(RefBuf::as_ref);
                let reason = PayloadBuf::reason("reserved event");
                self.reply(id.slot, join_ref, message, "error", reason.as_payload(), now);
            }
            Some(topic) => {
                let message_ref = Some(message.message_ref);
                let callback = Callback { name: "handle_in", event: Some(event), message_ref };
                self.call_joined(id, topic, callback, now, |channel, cx| {
                    channel.handle_in(event, message.payload, cx)
                });
            }
            // Leaving what is not joined succeeds.
            None if event == events::LEAVE => {
                self.reply(id.slot, message.join_ref, message, "ok", Payload::empty(), now);
            }
            None => self.reply_unmatched(id.slot, message, now),
        }
    }

    /// Whether the socket is there and not being closed.
    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        self.find(id).is_some_and(|connection| connection.socket().is_some() && !connection.is_closing())
    }

    fn is_joined(&self, id: ConnectionId, topic: TopicId) -> bool {
        let socket = self.connections.get(id.slot()).and_then(|connection| connection.socket());
        socket.is_some_and(|socket| socket.joins.by_topic(topic).is_some())
    }

    /// A message that names a join names the one that is there; one that names none means it.
    fn is_stale(&self, id: ConnectionId, topic: TopicId, join_ref: Option<Ref<'_>>) -> bool {
        let Some(named) = join_ref else { return false };
        self.join_ref(id, topic).is_none_or(|current| current.as_ref() != named)
    }

    fn join_ref(&self, id: ConnectionId, topic: TopicId) -> Option<RefBuf> {
        self.connections.get(id.slot())?.socket()?.joins.by_topic(topic)?.join_ref.clone()
    }

    fn join(&mut self, id: ConnectionId, topic: &str, message: &Message<'_>, now: Instant) {
        let Some(route) = self.config.router.find(topic) else {
            return self.reply_unmatched(id.slot, message, now);
        };
        let mut known = self.hub.lookup(topic);
        let replaced = known.filter(|topic| self.is_joined(id, *topic));
        let Some(socket) = self.connections.get(id.slot()).and_then(|connection| connection.socket()) else {
            return;
        };
        if replaced.is_none() && socket.joins.len() >= self.config.limits.channels_per_socket_max {
            self.stats.too_many_channels += 1;
            let reason = PayloadBuf::reason("too many channels joined");
            return self.reply(id.slot, message.join_ref, message, "error", reason.as_payload(), now);
        }
        // The old channel ends before the new one begins, but the client is told in the other order.
        let mut replaced_ref = None;
        if let Some(old) = replaced
            && let Some((join, joined)) = self.remove_join(id.slot, old, Rest::Keep)
        {
            // The client knows nothing of a join that it has not asked for, and would take the close for its
            // own.
            replaced_ref = (!join.by_server).then(|| join.join_ref.filter(|_| !join.implied));
            self.terminate(&joined, join.assigns, Ended::Replaced, now);
            // What its end has caused may have ended the connection.
            if !self.is_open(id) {
                return;
            }
            known = self.hub.lookup(topic);
        }
        self.call_join(id, (topic, known), route, message, now);
        if let Some(join_ref) = replaced_ref {
            let join_ref = join_ref.as_ref().map(RefBuf::as_ref);
            self.send_message(id.slot, now, |serializer, out| {
                Ok(serializer.encode_close(out, join_ref, topic))
            });
        }
    }

    fn call_join(
        &mut self,
        id: ConnectionId,
        (topic, known): (&str, Option<TopicId>),
        route: RouteIndex,
        message: &Message<'_>,
        now: Instant,
    ) {
        let (joined, mut assigns) = (self.joining(id, topic, known, route), Assigns::new());
        let payload = message.payload;
        let Outcome { result, actions, .. } =
            self.call(&joined, &mut assigns, None, now, |channel, cx| channel.join(topic, payload, cx));
        let refusal = match result {
            Ok(Ok(response)) => {
                let join_ref = message.join_ref.or(message.message_ref).map(RefBuf::from);
                let topic = self.subscribe(&joined, known, route, |topic, index| Join {
                    topic,
                    index,
                    serial: joined.serial,
                    join_ref,
                    implied: message.join_ref.is_none(),
                    by_server: false,
                    assigns,
                });
                self.reply(id.slot, message.join_ref, message, "ok", response.as_payload(), now);
                self.apply(&joined, actions, None, now);
                if let Some(topic) = topic {
                    self.warn_on(id, topic, now);
                }
                return;
            }
            Ok(Err(error)) => self.refusal(&joined, error, now),
            Err(panicked) => self.join_crash(&joined, &panicked.to_string(), now),
        };
        self.reply(id.slot, message.join_ref, message, "error", refusal.as_payload(), now);
        self.dispose_assigns(&joined, assigns, now);
    }

    /// Counts that a join was not granted: the response that says why.
    fn refusal(&mut self, joined: &Joined, error: JoinError, now: Instant) -> PayloadBuf {
        let failure = match error {
            JoinError::Refused(response) => {
                self.stats.join_refused += 1;
                return response;
            }
            JoinError::Crashed(error) => error.failure(),
        };
        match failure {
            Failure::InvalidPayload(place) => {
                self.note_invalid_payload(&joined.topic, None, &place);
                PayloadBuf::reason(INVALID_PAYLOAD)
            }
            Failure::Crash(failure) => self.join_crash(joined, &failure, now),
        }
    }

    fn join_crash(&mut self, joined: &Joined, failure: &str, now: Instant) -> PayloadBuf {
        self.note_crash(&joined.place("join", None), failure, now);
        PayloadBuf::reason("join crashed")
    }

    /// Joins a topic for a client that has not asked for it. What the channel would reply or push, nobody hears: a
    /// client that listens asks for itself, and is told then.
    pub(super) fn join_for(&mut self, id: ConnectionId, topic: &str, now: Instant) {
        let Some(route) = self.config.router.find(topic) else { return };
        let known = self.hub.lookup(topic);
        let (joined, mut assigns) = (self.joining(id, topic, known, route), Assigns::new());
        let Outcome { result, mut actions, .. } =
            self.call(&joined, &mut assigns, None, now, |channel, cx| {
                channel.join(topic, Payload::empty(), cx)
            });
        let refusal = match result {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(self.refusal(&joined, error, now)),
            Err(panicked) => Some(self.join_crash(&joined, &panicked.to_string(), now)),
        };
        if refusal.is_some() {
            debug!(topic, "a client can't join a topic by itself");
            return self.dispose_assigns(&joined, assigns, now);
        }
        self.subscribe(&joined, known, route, |topic, index| Join {
            topic,
            index,
            serial: joined.serial,
            join_ref: None,
            implied: false,
            by_server: true,
            assigns,
        });
        actions.retain(|action| !matches!(action, Action::Push { .. }));
        self.apply(&joined, actions, None, now);
    }

    /// A join that is not yet granted.
    fn joining(
        &mut self,
        id: ConnectionId,
        topic: &str,
        known: Option<TopicId>,
        route: RouteIndex,
    ) -> Joined {
        self.join_serial = self.join_serial.wrapping_add(1);
        let channel = Arc::clone(&*self.config.router.route(route).channel);
        let name = known.map_or_else(|| topic.into(), |id| self.hub.topic(id).name.clone());
        let identity = self.identity(id).cloned();
        Joined { id, serial: self.join_serial, topic: name, channel, identity }
    }

    /// Enters a join that was granted.
    fn subscribe(
        &mut self,
        joined: &Joined,
        known: Option<TopicId>,
        route: RouteIndex,
        join: impl FnOnce(TopicId, u32) -> Join,
    ) -> Option<TopicId> {
        let connection = self.connections.get_mut(joined.id.slot())?;
        let socket = connection.socket_mut()?;
        let (topic, index) = self.hub.subscribe(known, &joined.topic, route, socket.form, joined.id.slot);
        socket.joins.push(join(topic, index));
        mark_partial(connection, &self.hub);
        self.stats.joins += 1;
        Some(topic)
    }

    fn leave(&mut self, id: ConnectionId, topic: TopicId, message: &Message<'_>, now: Instant) {
        let Some((join, joined)) = self.remove_join(id.slot, topic, Rest::Keep) else { return };
        let join_ref = join.join_ref.as_ref().map(RefBuf::as_ref);
        self.reply(id.slot, join_ref, message, "ok", Payload::empty(), now);
        let join_ref = join.given_ref();
        self.send_message(id.slot, now, |serializer, out| {
            Ok(serializer.encode_close(out, join_ref, &joined.topic))
        });
        self.terminate(&joined, join.assigns, Ended::Left, now);
    }

    /// Answers a message that is wrong by itself. Whether its topic is joined makes no difference.
    pub(super) fn refuse_message(&mut self, slot: u32, refused: &Refused<'_>, now: Instant) {
        let Refused { join_ref, message_ref, topic, error } = refused;
        self.stats.messages_refused += 1;
        debug!(slot, reason = error.reason(), "a client's message is refused");
        let reason = PayloadBuf::reason(error.reason());
        self.send_message(slot, now, |serializer, out| {
            serializer.encode_reply(out, *join_ref, *message_ref, topic, "error", reason.as_payload())
        });
    }

    fn reply_unmatched(&mut self, slot: u32, message: &Message<'_>, now: Instant) {
        self.stats.unmatched_topic += 1;
        let reason = PayloadBuf::reason("unmatched topic");
        self.reply(slot, None, message, "error", reason.as_payload(), now);
    }

    pub(super) fn reply(
        &mut self,
        slot: u32,
        join_ref: Option<Ref<'_>>,
        message: &Message<'_>,
        status: &str,
        response: Payload<'_>,
        now: Instant,
    ) {
        self.send_message(slot, now, |serializer, out| {
            serializer.encode_reply(out, join_ref, message.message_ref, &message.topic, status, response)
        });
    }
}
