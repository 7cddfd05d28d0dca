//! Sockets with users behind them: their ids, the time of their tokens, and how they are put off the line.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::debug;

use super::Endpoint;
use super::admission::{Renewal, Ticket};
use super::apply::Callback;
use super::timers::{BLOCK, NEVER, shrink_to_places, take_due_of};
use crate::auth::connect::{ConnectRequest, Refusal, Secret, Transport, Verdict};
use crate::auth::deny::Denial;
use crate::auth::token::{KeyTag, numeric_date};
use crate::auth::{Identity, UnixTime};
use crate::channel::{Channel, JoinKey, PayloadBuf};
use crate::connection::{Connection, ConnectionId, Connections, State};
use crate::fault::Fault;
use crate::hub::TopicId;
use crate::phoenix::{Message, RefBuf};
use crate::prepared::PreparedBroadcast;
use crate::socket::Socket;
use crate::tables::Hashes;

/// The event with which a client gives a fresh token, on any topic it has joined: `{"access_token": token}`.
pub(super) const ACCESS_TOKEN: &str = "access_token";
/// The event that warns a client: `{"expires_in": seconds}`.
const TOKEN_EXPIRING: &str = "token_expiring";
/// Broadcast to a socket's id, this event ends the socket.
const DISCONNECT: &str = "disconnect";

/// How often tokens are compared with the wall clock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Tokens looked at before the loop has its turn again: those of one sign-in rush run out together.
const DUE_PER_TURN: usize = 1024;

/// Which sockets belong to whom, and when their tokens run out.
pub(super) struct Users {
    /// Places of sockets by the hashes of their ids. The ids themselves are in the sockets.
    ids: Hashes,
    hasher: RandomState,
    /// For each place the wall-clock second at which the token of the socket there is to be looked at.
    due: Vec<u32>,
    /// No token is to be looked at before. It may be too early.
    nearest: u32,
    /// Where the look at all of them goes on in the next turn.
    swept: usize,
    /// The wall clock, as it was last told.
    unix: UnixTime,
    checked: Option<Instant>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            ids: Hashes::default(),
            hasher: RandomState::new(),
            due: Vec::new(),
            nearest: NEVER,
            swept: 0,
            unix: 0,
            checked: None,
        }
    }
}

impl Users {
    fn insert(&mut self, slot: u32, socket_id: &str, connections: &Connections) {
        let hash = self.hasher.hash_one(socket_id);
        let hasher = &self.hasher;
        self.ids.insert_unique(hash, slot, |slot| hasher.hash_one(socket_id_of(connections, slot)));
    }

    /// A socket has ended, or is ending.
    pub(super) fn remove(&mut self, slot: u32, identity: Option<&Identity>, connections: &Connections) {
        let Some(identity) = identity else { return };
        self.set_due(slot, NEVER);
        let hasher = &self.hasher;
        let hash = hasher.hash_one(identity.socket_id());
        self.ids.remove(hash, slot, |slot| hasher.hash_one(socket_id_of(connections, slot)));
    }

    /// The token of the socket in `slot` is to be looked at then, and at no other time.
    fn set_due(&mut self, slot: u32, at: u32) {
        let slot = slot as usize;
        if slot >= self.due.len() {
            if at == NEVER {
                return;
            }
            self.due.resize(slot + 1, NEVER);
        }
        self.due[slot] = at;
        self.nearest = self.nearest.min(at);
    }

    /// Takes some places of sockets whose tokens are to be looked at; whether those are all.
    fn take_due(&mut self) -> (Vec<u32>, bool) {
        let unix = u32::try_from(self.unix).unwrap_or(NEVER - 1);
        let mut due = Vec::new();
        if self.swept == 0 {
            if self.nearest > unix {
                return (due, true);
            }
            self.nearest = NEVER;
        }
        for block in self.due.chunks_mut(BLOCK).skip(self.swept / BLOCK) {
            if due.len() >= DUE_PER_TURN {
                return (due, false);
            }
            let left = take_due_of(block, self.swept, unix, |slot| due.push(slot));
            self.nearest = self.nearest.min(left);
            self.swept += BLOCK;
        }
        self.swept = 0;
        (due, true)
    }

    /// Gives back what those had who stood in places from `capacity` on.
    pub(super) fn shrink(&mut self, capacity: usize) {
        shrink_to_places(&mut self.due, capacity);
    }

    /// The sockets with this id.
    pub(super) fn find(&self, socket_id: &str, connections: &Connections) -> Vec<u32> {
        if self.ids.is_empty() {
            return Vec::new();
        }
        let hash = self.hasher.hash_one(socket_id);
        let slots = self.ids.candidates(hash);
        slots.filter(|slot| socket_id_of(connections, *slot) == socket_id).collect()
    }

    /// When tokens are to be looked at next.
    pub(super) fn next_check(&self, epoch: Instant) -> Option<Instant> {
        (self.nearest != NEVER || self.swept > 0)
            .then(|| self.checked.map_or(epoch, |checked| checked + CHECK_INTERVAL))
    }

    pub(super) fn clear(&mut self) {
        self.due = Vec::new();
        (self.nearest, self.swept) = (NEVER, 0);
        self.ids = Hashes::default();
    }

    #[cfg(debug_assertions)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

fn socket_id_of(connections: &Connections, slot: u32) -> &str {
    let socket = connections.get(slot as usize).and_then(Connection::socket);
    socket.and_then(|socket| socket.identity.as_deref()).map_or("", Identity::socket_id)
}

/// Whether a denial is of the token that a socket has connected with.
fn applies(denial: &Denial, identity: &Identity) -> bool {
    if denial.subject.as_deref().is_some_and(|subject| subject != identity.user()) {
        return false;
    }
    if let Some(id) = denial.token_id.as_deref() {
        // Most tokens don't even hold the id.
        if !identity.may_claim(id)
            || identity.claim("jti").and_then(|claim| claim.as_str().map(|found| found == id)) != Some(true)
        {
            return false;
        }
    }
    let issued = || identity.claim("iat").and_then(|claim| claim.as_number().map(numeric_date));
    let before = denial.issued_before;
    before.is_none_or(|before| issued().is_none_or(|issued| issued < before))
        && (denial.subject.is_some() || denial.token_id.is_some())
}

/// What a client sends as [`ACCESS_TOKEN`].
#[derive(Deserialize)]
struct AccessToken {
    access_token: String,
}

/// What may be sent as [`DISCONNECT`]; everything else means its default.
#[derive(Deserialize)]
struct Disconnect {
    reconnect: bool,
}

impl Endpoint {
    /// Tells the wall clock. It may jump; only what is written in tokens is compared with it.
    pub fn set_unix_time(&mut self, unix: UnixTime) {
        self.users.unix = unix;
    }

    /// A socket has come into being: what begins with it, begins.
    pub(super) fn begin_socket(&mut self, id: ConnectionId, now: Instant) {
        if let Some(identity) = self.identity(id).cloned() {
            if !identity.socket_id().is_empty() {
                self.users.insert(id.slot, identity.socket_id(), &self.connections);
            }
            self.schedule_token(id, now);
        }
        self.join_by_itself(id, now);
    }

    /// Ends the sockets that a broadcast names by their id (Phoenix: `Endpoint.broadcast(id, "disconnect", %{})`).
    /// With the payload `{"reconnect": false}` clients are told to stay away.
    /// How many there were.
    pub(super) fn disconnect(&mut self, broadcast: &PreparedBroadcast, now: Instant) -> u64 {
        if &*broadcast.event != DISCONNECT {
            return 0;
        }
        let slots = self.users.find(&broadcast.topic, &self.connections);
        if slots.is_empty() {
            return 0;
        }
        let count = slots.len() as u64;
        let payload = broadcast.payload.as_payload().deserialize::<Disconnect>();
        let stays_away = payload.is_ok_and(|payload| !payload.reconnect);
        let fault = if stays_away { Fault::StayAway } else { Fault::Disconnected };
        for slot in slots {
            self.fail(slot, fault, now);
        }
        count
    }

    /// Ends the sockets whose tokens are denied.
    pub(super) fn withdraw(&mut self, denials: &[Denial], now: Instant) {
        let is_denied = |identity: &Identity| denials.iter().any(|denial| applies(denial, identity));
        self.end_those(is_denied, Fault::Denied, now);
    }

    /// Ends the sockets whose tokens were verified with a key that is no longer there.
    pub(super) fn retain_keys(&mut self, keys: &[KeyTag], now: Instant) {
        let is_orphan = |identity: &Identity| identity.key().is_some_and(|key| !keys.contains(&key));
        self.end_those(is_orphan, Fault::KeyRemoved, now);
    }

    fn end_those(&mut self, is_meant: impl Fn(&Identity) -> bool, fault: Fault, now: Instant) {
        let of_those = |connection: &Connection| {
            connection.socket().and_then(|socket| socket.identity.as_deref()).is_some_and(&is_meant)
        };
        let slots = self.connections.iter().filter(|(_, connection)| of_those(connection));
        let slots: Vec<u32> = slots.filter_map(|(slot, _)| u32::try_from(slot).ok()).collect();
        for slot in slots {
            self.fail(slot, fault, now);
        }
    }

    /// When the socket's token is to be looked at: before it runs out, or at the end of its grace.
    fn token_due(&self, socket: &Socket) -> Option<u32> {
        let admission = self.config.admission.as_ref()?;
        let expires = socket.identity.as_ref()?.expires()?;
        let at = if socket.warned {
            expires.saturating_add(admission.expiry_grace.as_secs())
        } else {
            expires.saturating_sub(admission.expiry_warning.as_secs())
        };
        // Beyond the year 2106 nobody waits for it.
        Some(u32::try_from(at).unwrap_or(NEVER - 1))
    }

    /// Notes when a socket's token is to be looked at.
    fn schedule_token(&mut self, id: ConnectionId, now: Instant) {
        let due = self.find(id).and_then(|connection| self.token_due(connection.socket()?));
        self.users.set_due(id.slot, due.unwrap_or(NEVER));
        if due.is_some() {
            self.users.checked.get_or_insert(now);
        }
    }

    /// Looks at the tokens whose time has come.
    pub(super) fn check_tokens(&mut self, now: Instant) {
        if self.users.next_check(now).is_none_or(|at| at > now) {
            return;
        }
        self.users.checked = Some(now);
        let (due, all) = self.users.take_due();
        for slot in due {
            if let Some(id) = self.id(slot) {
                self.look_at_token(id, now);
            }
        }
        if !all {
            // The others are looked at in the next turn, which comes at once.
            self.users.checked = now.checked_sub(CHECK_INTERVAL);
        }
    }

    fn look_at_token(&mut self, id: ConnectionId, now: Instant) {
        let unix = self.users.unix;
        let grace = self.config.admission.as_ref().map_or(0, |admission| admission.expiry_grace.as_secs());
        let Some(socket) = self.find(id).and_then(|connection| connection.socket()) else { return };
        let Some(identity) = socket.identity.clone() else { return };
        let (Some(expires), warned) = (identity.expires(), socket.warned) else { return };
        if unix >= expires.saturating_add(grace) {
            return self.fail(id.slot, Fault::TokenExpired, now);
        }
        // A renewal may have come since; or the clock was set back, and the warning was too early.
        if self.token_due(socket).is_some_and(|due| u64::from(due) <= unix) && !warned {
            self.warn_of_expiry(id, now);
        }
        self.schedule_token(id, now);
    }

    /// Tells a client on all its topics that its token is about to run out.
    fn warn_of_expiry(&mut self, id: ConnectionId, now: Instant) {
        let Some(socket) = self.connection(id).and_then(|connection| connection.socket_mut()) else { return };
        socket.warned = true;
        self.stats.token_warnings += 1;
        for topic in self.topics_of(id) {
            self.warn_on(id, topic, now);
        }
    }

    /// The topics that a socket has joined.
    fn topics_of(&self, id: ConnectionId) -> Vec<TopicId> {
        let socket = self.find(id).and_then(|connection| connection.socket());
        socket.into_iter().flat_map(|socket| socket.joins.iter().map(|join| join.topic)).collect()
    }

    /// Tells a client on one topic that its token is about to run out, if it is.
    pub(super) fn warn_on(&mut self, id: ConnectionId, topic: TopicId, now: Instant) {
        let Some(socket) = self.find(id).and_then(|connection| connection.socket()) else { return };
        let expires = socket.identity.as_ref().and_then(|identity| identity.expires());
        let (Some(expires), true) = (expires, socket.warned) else { return };
        let Some(join) = socket.joins.by_topic(topic) else { return };
        let joined = self.joined(id, topic, join.serial);
        let seconds = expires.saturating_sub(self.users.unix);
        let payload = PayloadBuf::from(serde_json::json!({ "expires_in": seconds }));
        self.send_push(&joined, TOKEN_EXPIRING, &payload, now);
    }

    /// A client gives a fresh token on a topic it has joined.
    pub(super) fn renew(&mut self, id: ConnectionId, topic: TopicId, message: &Message<'_>, now: Instant) {
        let overloaded = self.tickets_out >= self.config.limits.connects_waiting_max;
        let Some(connection) = self.connection(id) else { return };
        let transport = match &connection.state {
            State::WebSocket(_) => Transport::WebSocket,
            _ => Transport::LongPoll,
        };
        let Some(socket) = connection.socket_mut() else { return };
        let Some(join) = socket.joins.by_topic(topic) else { return };
        let (join, join_ref) = (join.serial, join.join_ref.clone());
        let token = message.payload.deserialize::<AccessToken>().map(|payload| payload.access_token);
        let reason = match token {
            _ if socket.identity.is_none() => "this socket has no user: connect with the token",
            _ if socket.renewing => "a token is being looked at already",
            _ if overloaded => "too many connect: try again later",
            Err(_) => "give {\"access_token\": token}",
            Ok(token) => {
                socket.renewing = true;
                let renewal = Some(Renewal { join, message_ref: message.message_ref.map(RefBuf::from) });
                let token = Some(Secret::new(token));
                let request = ConnectRequest {
                    token,
                    params: Vec::new(),
                    cookie: None,
                    transport,
                    peer: None,
                    renewal: true,
                };
                self.give_out(Ticket { id, serial: 0, renewal }, request);
                return;
            }
        };
        let response = PayloadBuf::reason(reason);
        self.reply(
            id.slot,
            join_ref.as_ref().map(RefBuf::as_ref),
            message,
            "error",
            response.as_payload(),
            now,
        );
    }

    /// It is known what a client's fresh token is worth.
    pub(super) fn renewed(&mut self, id: ConnectionId, renewal: &Renewal, verdict: Verdict, now: Instant) {
        if !self.is_open(id) {
            return;
        }
        let Some(socket) = self.connection(id).and_then(|connection| connection.socket_mut()) else { return };
        socket.renewing = false;
        let Some(before) = socket.identity.clone() else { return };
        let identity = match verdict {
            Ok(identity) => identity,
            Err(refusal) => return self.refuse_renewal(id, renewal, &refusal, now),
        };
        if identity.user() != before.user() || identity.socket_id() != before.socket_id() {
            self.stats.renewals_refused += 1;
            return self.fail(id.slot, Fault::OtherUser, now);
        }
        socket.warned = false;
        let expires = identity.expires();
        socket.identity = Some(Arc::new(identity));
        let expires_in = expires.map(|expires| expires.saturating_sub(self.users.unix));
        self.stats.renewals += 1;
        self.schedule_token(id, now);
        let response = match expires_in {
            Some(seconds) => PayloadBuf::from(serde_json::json!({ "expires_in": seconds })),
            None => PayloadBuf::empty(),
        };
        self.answer_renewal(id, renewal, "ok", &response, now);
        for topic in self.topics_of(id) {
            self.call_joined(id, topic, Callback::new("handle_renewal"), now, Channel::handle_renewal);
        }
    }

    fn refuse_renewal(&mut self, id: ConnectionId, renewal: &Renewal, refusal: &Refusal, now: Instant) {
        debug!(slot = id.slot, reason = &*refusal.explanation(), "a fresh token is refused");
        self.stats.renewals_refused += 1;
        if matches!(refusal, Refusal::Denied | Refusal::UnknownUser | Refusal::DisabledUser) {
            // It is not the token that is wrong, but the user that may be here no longer.
            return self.fail(id.slot, Fault::Denied, now);
        }
        self.answer_renewal(id, renewal, "error", &PayloadBuf::reason(refusal.reason()), now);
    }

    fn answer_renewal(
        &mut self,
        id: ConnectionId,
        renewal: &Renewal,
        status: &'static str,
        response: &PayloadBuf,
        now: Instant,
    ) {
        let join = JoinKey { socket: self.socket_key(id), serial: renewal.join };
        if let Some((joined, _)) = self.find_join(join) {
            let message_ref = renewal.message_ref.as_ref().map(RefBuf::as_ref);
            self.send_reply(&joined, message_ref, status, response, now);
        }
    }
}
