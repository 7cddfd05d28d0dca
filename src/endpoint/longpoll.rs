//! Sessions of the long-poll transport: opened by a GET, fed by POSTs, read by polls.
//!
//! A session stands in the slab like a connection, but has no socket: `blocked` while no poll waits. What it
//! has to say waits where a WebSocket's would, in its outbox and in the topics' logs, and stays there until
//! the answer that carried it is known to have gone out whole.

use std::io::IoSlice;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Endpoint;
use super::ending::Rest;
use super::flush::{Gone, Sink};
use super::http::{Next, text};
use crate::auth::Identity;
use crate::connection::{Connection, ConnectionId, Entry, Session, State, Wanted};
use crate::fault::Fault;
use crate::http::{self, Framing, Method, Request, Response, query};
use crate::hub::{Hub, StreamKey};
use crate::longpoll::{self, SessionName, Status};
use crate::phoenix::Serializer;
use crate::prepared::WireForm;
use crate::socket::Socket;

/// The header in which a client may send its session token; it has precedence over the query.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

/// How long the poll behind a session's last message waits for its answer: phoenix.js handles each message in a task
/// of its own, and 1.8 drops those whose turn has not come when the session ends.
const FAREWELL: Duration = Duration::from_millis(100);

/// What a request's token leads to.
enum Found {
    Here(ConnectionId),
    Elsewhere(u16),
    Nowhere,
}

impl Endpoint {
    pub(super) fn answer_long_poll(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        let next = Next::after(keep_alive);
        match request.method {
            Method::Get | Method::Post => {}
            Method::Options => {
                self.answer_preflight(id, request, keep_alive);
                return next;
            }
            _ => {
                let response =
                    Response::text(http::Status::BadRequest, "this path takes GET, POST and OPTIONS\n")
                        .header("allow", "GET, POST, OPTIONS");
                self.respond(id, &response, keep_alive, request.method == Method::Head);
                return next;
            }
        }
        match self.find_session(request) {
            Found::Elsewhere(shard) => Next::HandOff(shard),
            Found::Here(session) if self.find(session).is_some_and(Connection::is_closing) => {
                self.answer_closing(id, session, request, keep_alive, now)
            }
            Found::Here(session) if request.method == Method::Post => {
                self.begin_post(id, request, session, now)
            }
            Found::Here(session) => self.park(id, session, request, keep_alive, now),
            Found::Nowhere => self.answer_nowhere(id, request, keep_alive, now),
        }
    }

    /// Answers a request to a session that the server has ended. A poll gets what the session has still to say, or
    /// is answered when its client has had time to look at that.
    fn answer_closing(
        &mut self,
        id: ConnectionId,
        session: ConnectionId,
        request: &Request<'_>,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        if request.method == Method::Post {
            return self.answer_nowhere(id, request, keep_alive, now);
        }
        if let Some(earlier) = self.session_mut(session).and_then(|session| session.in_flight) {
            let written = self.find(earlier).is_none_or(|connection| connection.outbox.is_empty());
            self.settle_answer(session, earlier, written);
        }
        let silent = self.find(session).is_none_or(|session| session.outbox.is_empty());
        let next = self.park(id, session, request, keep_alive, now);
        if silent && matches!(next, Next::Parked) {
            self.deadlines.set(id.slot, now, FAREWELL);
        }
        next
    }

    /// Ends a session with which nothing was wrong: its client still gets what was said before, and then an answer
    /// after which every phoenix.js comes back and joins again.
    fn close_session(&mut self, slot: u32, now: Instant) {
        // What it still gets becomes a copy of its own, and there may be as many such sessions as connections.
        let bytes_max = self.config.limits.outbox_bytes_max;
        let waiting = self.connections.get(slot as usize).map_or(0, |session| self.waiting_bytes(session));
        self.leave_all(slot, if waiting <= bytes_max { Rest::Keep } else { Rest::Partial }, now);
        let Some(id) = self.id(slot) else { return };
        let Some(connection) = self.connection(id) else { return };
        let silent = connection.outbox.is_empty();
        let State::Session(session) = &mut connection.state else { return };
        session.closing = true;
        if silent && let Some(poll) = session.waiting {
            self.deadlines.set(poll.slot, now, FAREWELL);
        }
    }

    /// Answers a request that names no session.
    fn answer_nowhere(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        if request.method != Method::Post {
            return self.open_session(id, request, keep_alive, now);
        }
        self.answer_status(id, Status::Gone, None, keep_alive);
        Next::after(keep_alive)
    }

    /// Answers with a status alone, and perhaps with the reason for it.
    pub(super) fn answer_status(
        &mut self,
        id: ConnectionId,
        status: Status,
        reason: Option<&str>,
        keep_alive: bool,
    ) {
        let mut bytes = Vec::new();
        longpoll::write_status(&mut bytes, http::Status::Ok, status as u16, reason, keep_alive);
        self.queue_bytes(id.slot, bytes.into_boxed_slice().into());
    }

    fn answer_preflight(&mut self, id: ConnectionId, request: &Request<'_>, keep_alive: bool) {
        let mut response = Response::new(http::Status::Ok)
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-methods", "get, post, options")
            .header("access-control-max-age", "3600");
        let asked = request.headers.get("access-control-request-headers").map(text);
        if let Some(headers) = asked.filter(|headers| !headers.is_empty()) {
            response = response.header("access-control-allow-headers", headers);
        }
        self.respond(id, &response, keep_alive, false);
    }

    /// The session that a request names. A token that nobody here has signed, or whose session has ended,
    /// names none.
    fn find_session(&self, request: &Request<'_>) -> Found {
        let from_query = || query::last(request.query, "token").ok().flatten();
        let token = request.headers.get(TOKEN_HEADER).map(|token| text(token).into()).or_else(from_query);
        let Some(name) = token.and_then(|token| self.token_key.verify(&token)) else { return Found::Nowhere };
        if name.shard != self.shard {
            return if name.shard < self.shards { Found::Elsewhere(name.shard) } else { Found::Nowhere };
        }
        let id = ConnectionId { slot: name.slot, generation: name.generation };
        match self.find(id).map(|connection| &connection.state) {
            Some(State::Session(session)) if session.nonce == name.nonce => Found::Here(id),
            _ => Found::Nowhere,
        }
    }

    fn open_session(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        let vsn = query::last(request.query, "vsn");
        let serializer = vsn.ok().and_then(|vsn| Serializer::from_vsn(vsn.as_deref()));
        let peer = self.connection(id).map_or(IpAddr::from([0; 4]), |connection| connection.peer_address());
        match serializer {
            None => {
                self.stats.sessions_refused += 1;
                self.answer_status(id, Status::Forbidden, None, keep_alive);
            }
            Some(serializer) if self.config.admission.is_some() => {
                return self.ask(id, request, serializer, Wanted::Session, keep_alive, now);
            }
            Some(serializer) => self.begin_session(id, serializer, None, peer, keep_alive, now),
        }
        Next::after(keep_alive)
    }

    /// Opens a session, if there is room for one, and answers the request that has asked for it.
    pub(super) fn begin_session(
        &mut self,
        id: ConnectionId,
        serializer: Serializer,
        identity: Option<Arc<Identity>>,
        peer: IpAddr,
        keep_alive: bool,
        now: Instant,
    ) {
        if !self.has_room_for_session(peer) {
            self.stats.sessions_refused += 1;
            self.stats.sessions_without_room += 1;
            let reason = Some("too many sessions (sessions_per_address_max, sessions_per_shard_max)");
            return self.answer_status(id, Status::InternalServerError, reason, keep_alive);
        }
        let token = self.insert_session(serializer, identity, peer, now);
        let mut bytes = Vec::new();
        longpoll::write_answer(&mut bytes, Status::Gone, &token, keep_alive);
        self.queue_bytes(id.slot, bytes.into_boxed_slice().into());
    }

    fn has_room_for_session(&self, peer: IpAddr) -> bool {
        let limits = &self.config.limits;
        self.stats.sessions < limits.sessions_per_shard_max as u64
            && self.session_peers.get(&peer).is_none_or(|count| *count < limits.sessions_per_address_max)
    }

    fn insert_session(
        &mut self,
        serializer: Serializer,
        identity: Option<Arc<Identity>>,
        peer: IpAddr,
        now: Instant,
    ) -> String {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let nonce = self.token_key.nonce(self.shard, self.stats.sessions_opened);
        let socket = Socket::new(serializer, WireForm::long_poll(serializer), identity);
        let session = Session {
            socket,
            nonce,
            peer,
            waiting: None,
            in_flight: None,
            since: self.seconds(now),
            closing: false,
        };
        let connection = Connection::with_state(generation, State::Session(Box::new(session)));
        // Where there is room for connections there is room for this one: places are 32 bits wide in practice.
        let slot = u32::try_from(self.connections.insert(connection)).unwrap_or(u32::MAX);
        self.stats.sessions += 1;
        self.stats.sessions_opened += 1;
        *self.session_peers.entry(peer).or_default() += 1;
        self.deadlines.set(slot, now, self.session_patience());
        let id = ConnectionId { slot, generation };
        self.begin_socket(id, now);
        self.session_token(id, nonce)
    }

    fn session_token(&self, id: ConnectionId, nonce: [u8; 16]) -> String {
        let (slot, generation) = (id.slot, id.generation);
        self.token_key.sign(&SessionName { shard: self.shard, slot, generation, nonce })
    }

    /// How long a session lives without a poll.
    fn session_patience(&self) -> Duration {
        self.config.limits.poll_window * 3 / 2
    }

    /// A poll has come: it waits until the session has something to say.
    fn park(
        &mut self,
        id: ConnectionId,
        session_id: ConnectionId,
        request: &Request<'_>,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        if request.body != Framing::None {
            return self.refuse_body(id);
        }
        self.stats.polls += 1;
        let window = self.config.limits.poll_window;
        let Some(session) = self.session_mut(session_id) else { return Next::Close };
        let older = session.waiting.replace(id);
        if let Some(older) = older {
            // The newer poll takes over; the older one is not left to its window.
            self.answer_parked(older, session_id, Status::NoContent, now);
        }
        if let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) {
            http.parked = Some(session_id);
            http.keep_alive = keep_alive;
        }
        self.deadlines.set(id.slot, now, window);
        self.deadlines.unset(session_id.slot);
        self.unblock_session(session_id);
        Next::Parked
    }

    fn refuse_body(&mut self, id: ConnectionId) -> Next {
        self.stats.http_refused += 1;
        self.respond(id, &Response::text(http::Status::BadRequest, "a poll has no body\n"), false, false);
        Next::Close
    }

    /// Lets the flush look at a session: a poll waits for it.
    fn unblock_session(&mut self, session: ConnectionId) {
        let Some(connection) = self.connection(session) else { return };
        connection.blocked = false;
        self.queue(session.slot);
    }

    pub(super) fn session_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        match self.connection(id).map(|connection| &mut connection.state) {
            Some(State::Session(session)) => Some(session),
            _ => None,
        }
    }

    /// Answers a waiting poll without messages. The session itself is left as it is.
    pub(super) fn answer_parked(
        &mut self,
        poll: ConnectionId,
        session: ConnectionId,
        status: Status,
        now: Instant,
    ) {
        let Some(State::Http(http)) = self.connection(poll).map(|connection| &mut connection.state) else {
            return;
        };
        http.parked = None;
        let keep_alive = http.keep_alive;
        if status == Status::NoContent {
            let nonce = self.session_mut(session).map(|session| session.nonce);
            let token = nonce.map_or_else(String::new, |nonce| self.session_token(session, nonce));
            let mut bytes = Vec::new();
            longpoll::write_answer(&mut bytes, status, &token, keep_alive);
            self.queue_bytes(poll.slot, bytes.into_boxed_slice().into());
        } else {
            self.answer_status(poll, status, None, keep_alive);
        }
        self.after_poll(poll, now);
    }

    /// A poll has been answered: its connection may carry the next request.
    pub(super) fn after_poll(&mut self, poll: ConnectionId, now: Instant) {
        let keep_alive_timeout = self.config.limits.keep_alive_timeout;
        let Some(State::Http(http)) = self.connection(poll).map(|connection| &mut connection.state) else {
            return;
        };
        if http.keep_alive {
            // What the client has sent meanwhile waits in the buffer.
            let unread = !http.buffer.is_empty();
            self.deadlines.set(poll.slot, now, keep_alive_timeout);
            if unread {
                self.resumed.push(poll);
            }
        } else {
            self.finish(poll.slot, now);
        }
    }

    /// The window of a poll has passed, or the session has nothing more to say.
    pub(super) fn expire_poll(&mut self, poll: ConnectionId, session: ConnectionId, now: Instant) {
        self.unpark(poll, Some(session), now);
        let is_over = |session: &Connection| session.is_closing() && session.outbox.is_empty();
        if self.find(session).is_some_and(is_over) {
            // Before 1.8.2 phoenix.js takes 410 for an opening and does not join again; after 500 all do.
            self.answer_parked(poll, session, Status::InternalServerError, now);
            return self.free(session.slot, now);
        }
        self.answer_parked(poll, session, Status::NoContent, now);
    }

    /// A session's poll waits no longer: its connection has ended, or its window has passed.
    pub(super) fn unpark(&mut self, poll: ConnectionId, session: Option<ConnectionId>, now: Instant) {
        let patience = self.session_patience();
        if let Some(session) = session
            && let Some(connection) = self.connection(session)
            && let State::Session(inner) = &mut connection.state
            && inner.waiting == Some(poll)
        {
            inner.waiting = None;
            connection.blocked = true;
            self.deadlines.set(session.slot, now, patience);
        }
    }

    /// A connection has ended whose last answer carried a session's messages. `whole` says whether all that
    /// was written to it has left, and its peer has not reset it.
    pub(super) fn settle_answered(&mut self, session: Option<ConnectionId>, poll: ConnectionId, whole: bool) {
        if let Some(session) = session {
            self.settle_answer(session, poll, whole);
        }
    }

    pub(super) fn forget_session_peer(&mut self, peer: IpAddr) {
        self.stats.sessions -= 1;
        if let Some(count) = self.session_peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.session_peers.remove(&peer);
            }
        }
    }

    /// It is known what has become of the answer that `poll` carried: what it said is forgotten, or said
    /// again to the next poll.
    pub(super) fn settle_answer(&mut self, session: ConnectionId, poll: ConnectionId, whole: bool) {
        let Some(inner) = self.session_mut(session) else { return };
        if inner.in_flight.take_if(|in_flight| *in_flight == poll).is_none() {
            return;
        }
        let Some(connection) = self.connections.get_mut(session.slot()) else { return };
        if whole {
            forget_carried(connection, &mut self.hub);
            self.receive_answered(session.slot);
        } else {
            connection.outbox.carry(false);
            self.stats.answers_repeated += 1;
        }
        if self.connections.get(session.slot()).is_some_and(|connection| !connection.blocked) {
            self.queue(session.slot);
        }
    }

    /// Ends a session because of a fault. A waiting poll is answered so that every phoenix.js reconnects.
    pub(super) fn fail_session(&mut self, slot: u32, fault: Fault, now: Instant) {
        let Some(id) = self.id(slot) else { return };
        debug!(slot, ?fault, "ending a session");
        fault.count(&mut self.stats);
        if matches!(fault, Fault::Disconnected | Fault::StayAway) {
            return self.close_session(slot, now);
        }
        if let Some(poll) = self.session_mut(id).and_then(|session| session.waiting.take()) {
            self.answer_parked(poll, id, Status::InternalServerError, now);
        }
        self.free(slot, now);
    }

    /// Writes a session's messages to the poll that waits for them; whether a write was made.
    pub(super) fn answer_session(&mut self, slot: u32, now: Instant, sink: &mut impl Sink) -> bool {
        let Some(id) = self.id(slot) else { return false };
        let Some(session) = self.session_mut(id) else { return false };
        let (Some(poll), nonce) = (session.waiting, session.nonce) else { return false };
        if let Some(earlier) = session.in_flight {
            // The client polls again: it has the earlier answer, unless that is still being written, or its
            // connection was reset. The event that says so may come later than the new poll, which may have
            // been handed over, or read while other connections have to wait for the flush.
            let whole = match self.connection(earlier) {
                Some(connection) => connection.outbox.is_empty() && !sink.has_failed(earlier),
                None => true,
            };
            self.settle_answer(id, earlier, whole);
            if !whole || self.connection(earlier).is_some_and(|connection| connection.half_closed) {
                self.free(earlier.slot, now);
            }
            if self.session_mut(id).is_none_or(|session| session.waiting != Some(poll)) {
                return false;
            }
        }
        let Some(connection) = self.connections.get_mut(id.slot()) else { return false };
        pin(connection, &self.hub);
        let token = self.session_token(id, nonce);
        let Some(connection) = self.connections.get(id.slot()) else { return false };
        let mut pieces = Vec::new();
        super::flush::for_each_piece(connection, &self.hub, |piece| pieces.push(piece));
        let Some(first) = pieces.first_mut() else { return false };
        // Each message brings a comma before it.
        *first = first.get(1..).unwrap_or_default();
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut prefix = Vec::with_capacity(128);
        longpoll::write_prefix(&mut prefix, &token);
        let connection = self.find(poll);
        let state = connection.map(|connection| &connection.state);
        let keep_alive = matches!(state, Some(State::Http(http)) if http.keep_alive);
        let mut head = Vec::with_capacity(384);
        let length = prefix.len() + bytes + longpoll::SUFFIX.len();
        longpoll::head(http::Status::Ok).write_head(&mut head, length as u64, keep_alive);
        head.extend_from_slice(&prefix);
        let mut slices = Vec::with_capacity(pieces.len() + 2);
        slices.push(IoSlice::new(&head));
        slices.extend(pieces.iter().map(|piece| IoSlice::new(piece)));
        slices.push(IoSlice::new(longpoll::SUFFIX));
        let offered = head.len() + bytes + longpoll::SUFFIX.len();
        let sent = match connection {
            // Answers to earlier requests of this connection are still being written.
            Some(connection) if !connection.is_free() => Ok(0),
            Some(_) => sink.send(poll, &slices),
            None => Err(Gone),
        };
        let rest = match sent {
            Ok(taken) if taken < offered => Some(rest_of(&slices, taken)),
            Ok(_) => None,
            Err(Gone) => {
                self.broken.push(poll.slot);
                return true;
            }
        };
        self.stats.bytes_out += sent.unwrap_or(0) as u64;
        self.answered(id, poll, rest, now);
        true
    }

    /// Notes what an answer has carried, and keeps what the peer has not taken of it.
    fn answered(&mut self, session: ConnectionId, poll: ConnectionId, rest: Option<Box<[u8]>>, now: Instant) {
        let patience = self.session_patience();
        if let Some(inner) = self.session_mut(session) {
            inner.waiting = None;
            inner.in_flight = Some(poll);
        }
        if let Some(connection) = self.connection(session) {
            connection.blocked = true;
            connection.outbox.carry(true);
        }
        self.deadlines.set(session.slot, now, patience);
        if let Some(connection) = self.connection(poll) {
            if let State::Http(http) = &mut connection.state {
                http.parked = None;
                http.answered = Some(session);
            }
            if let Some(rest) = rest {
                let blocked = connection.is_free();
                connection.outbox.push(Entry::Frame(rest.into()));
                if blocked {
                    connection.blocked = true;
                    self.stalls.entry(poll.slot).or_insert_with(|| self.deadlines.stall(now));
                }
            }
        }
        self.after_poll(poll, now);
    }

    /// Goes on with requests that came while a poll of the same connection waited.
    pub(super) fn resume(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.resumed) {
            self.read_http(id, &mut [], now);
        }
    }
}

/// Names everything a session has to say in its outbox, so that what comes later stands behind it.
fn pin(connection: &mut Connection, hub: &Hub) {
    let State::Session(session) = &connection.state else { return };
    let form = session.socket.form;
    for join in session.socket.joins.iter() {
        let Some(stream) = hub.stream_ref(StreamKey { topic: join.topic, form }) else { continue };
        let position = stream.log.end();
        if stream.cursor(join.index) < position {
            connection.outbox.push(Entry::Until { topic: join.topic, position });
        }
    }
}

/// Forgets what the answer under way has carried: the client has it.
fn forget_carried(connection: &mut Connection, hub: &mut Hub) {
    for _ in 0..connection.outbox.carried() {
        let Some(entry) = connection.outbox.waiting().and_then(|waiting| waiting.entries.front()) else {
            return;
        };
        if let Entry::Until { topic, position } | Entry::Skip { topic, position } = entry
            && let Some((key, index)) = super::flush::subscription(connection, *topic)
            && let Some(stream) = hub.stream(key)
        {
            stream.advance(index, *position);
        }
        connection.outbox.pop();
    }
}

fn rest_of(slices: &[IoSlice<'_>], mut taken: usize) -> Box<[u8]> {
    let mut rest = Vec::new();
    for slice in slices {
        let skip = taken.min(slice.len());
        taken -= skip;
        rest.extend_from_slice(&slice[skip..]);
    }
    rest.into_boxed_slice()
}
