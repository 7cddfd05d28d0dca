//! Who may connect: clients that wait until somebody outside the loop has looked at their tokens.
//!
//! The request is parked, as a poll is: its connection is read no further, and a [`Ticket`] goes out with what
//! the decision depends on. The verdict comes back with the ticket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::Endpoint;
use super::http::{Next, text};
use crate::auth::Identity;
use crate::auth::connect::{Advice, Connect, ConnectRequest, Refusal, Secret, Transport, Verdict};
use crate::channel::TopicPattern;
use crate::connection::{Connecting, ConnectionId, State, Wanted};
use crate::fault::TOKEN_EXPIRED;
use crate::http::{self, Request, Response, upgrade};
use crate::longpoll;
use crate::phoenix::{RefBuf, Serializer};
use crate::ws::{self, CloseCode};

/// The header in which phoenix.js gives its `authToken` on long-poll.
const AUTH_TOKEN_HEADER: &str = "x-phoenix-authtoken";

/// Lines of one kind logged in one second; further ones are counted alone.
const LOGGED_PER_SECOND: u32 = 20;

/// How clients are asked who they are.
#[derive(Clone)]
pub struct Admission {
    /// Decides about each of them.
    pub connect: Arc<dyn Connect>,
    /// The parameter of the query that holds the token.
    pub token_param: Box<str>,
    /// Refuses a WebSocket by completing its upgrade and closing it with a code and a reason that a browser
    /// shows to the page: 1000 to stay away, 4001 to come back with a fresh token, 1013 to come back later.
    /// Without it the upgrade is answered 403, as Phoenix does, which browsers don't tell from no answer.
    pub polite_refusal: bool,
    /// How long before its token runs out a client gets the event `token_expiring`.
    pub expiry_warning: Duration,
    /// How long after its token has run out a socket lives on.
    pub expiry_grace: Duration,
    /// Topics that a socket joins by itself as soon as it has connected. Nothing tells the client so; it may
    /// join them as well.
    pub auto_join: Arc<[TopicPattern]>,
}

impl Admission {
    /// Asks `connect`, with the defaults of the configuration file.
    #[must_use]
    pub fn new(connect: Arc<dyn Connect>) -> Self {
        Self {
            connect,
            token_param: "token".into(),
            polite_refusal: false,
            expiry_warning: Duration::from_secs(60),
            expiry_grace: Duration::from_secs(25),
            auto_join: Arc::new([]),
        }
    }
}

/// Names the client that a verdict is about.
#[derive(Debug)]
pub struct Ticket {
    pub(super) id: ConnectionId,
    pub(super) serial: u32,
    pub(super) renewal: Option<Renewal>,
}

/// The message with which a live socket has given a fresh token.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The join on whose topic it came.
    pub(super) join: u32,
    pub(super) message_ref: Option<RefBuf>,
}

/// How many lines of one kind, such as refusals, have been logged in this second.
#[derive(Default)]
pub(crate) struct LogBudget {
    since: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl LogBudget {
    /// Whether one more line may be written, and how many were left out since the last.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let fresh = self.since.is_none_or(|since| now.saturating_duration_since(since).as_secs() >= 1);
        if fresh {
            self.since = Some(now);
            self.logged = 0;
        }
        if self.logged >= LOGGED_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Endpoint {
    /// A client about which somebody has to decide: its ticket, and what the decision depends on. To be called
    /// until `None` after each batch of events; each ticket has to be given back to
    /// [`handle_verdict`](Self::handle_verdict), sooner or later.
    pub fn poll_connect(&mut self) -> Option<(Ticket, ConnectRequest)> {
        self.connects.pop_front()
    }

    /// The decision about a client. It may have gone meanwhile; then nothing happens.
    pub fn handle_verdict(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.tickets_out -= 1;
        match ticket.renewal {
            Some(renewal) => self.renewed(ticket.id, &renewal, verdict, now),
            None => self.admit(ticket.id, Some(ticket.serial), verdict, now),
        }
        self.run_work(now);
        self.check_invariants();
    }

    /// Parks a request until it is decided who sends it.
    pub(super) fn ask(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        serializer: Serializer,
        wanted: Wanted,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        let Some(admission) = &self.config.admission else { return Next::Close };
        let asked = connect_request(request, &admission.token_param, &wanted);
        self.ticket_serial = self.ticket_serial.wrapping_add(1);
        let serial = self.ticket_serial;
        let connect_timeout = self.config.limits.connect_timeout;
        let overloaded = self.tickets_out >= self.config.limits.connects_waiting_max;
        let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) else {
            return Next::Close;
        };
        http.keep_alive = keep_alive;
        http.connecting = Some(Box::new(Connecting { serial, serializer, wanted }));
        let peer = http.peer;
        self.deadlines.set(id.slot, now, connect_timeout);
        if overloaded {
            // The verdict is looked at when this batch of bytes is done with, as any other is.
            self.refused_at_once.push((id, serial));
            return Next::Parked;
        }
        self.give_out(Ticket { id, serial, renewal: None }, ConnectRequest { peer: Some(peer), ..asked });
        Next::Parked
    }

    /// Hands a question to whoever decides. It is out until it is answered, even if nobody waits for the answer
    /// any more: a client that asks and goes, again and again, is not to fill the queue.
    pub(super) fn give_out(&mut self, ticket: Ticket, request: ConnectRequest) {
        self.tickets_out += 1;
        self.connects.push_back((ticket, request));
    }

    /// Refuses those for whom there was no room in the queue.
    pub(super) fn refuse_at_once(&mut self, now: Instant) {
        for (id, serial) in std::mem::take(&mut self.refused_at_once) {
            self.admit(id, Some(serial), Err(Refusal::Overloaded), now);
        }
    }

    /// Nobody has decided in time.
    pub(super) fn expire_connect(&mut self, id: ConnectionId, now: Instant) {
        self.admit(id, None, Err(Refusal::TimedOut), now);
    }

    /// Answers a request that waits for a decision. `serial` tells it from a later one of its connection.
    fn admit(&mut self, id: ConnectionId, serial: Option<u32>, verdict: Verdict, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        let half_closed = connection.half_closed;
        let State::Http(http) = &mut connection.state else { return };
        let is_same =
            |connecting: &mut Box<Connecting>| serial.is_none_or(|serial| connecting.serial == serial);
        let Some(connecting) = http.connecting.take_if(is_same) else { return };
        let Connecting { serializer, wanted, .. } = *connecting;
        let (keep_alive, peer) = (http.keep_alive, http.peer);
        let identity = match verdict {
            Ok(identity) => Some(identity).filter(|identity| !identity.is_empty()).map(Arc::new),
            Err(refusal) => return self.turn_away(id, &refusal, wanted, keep_alive, now),
        };
        self.stats.connects_granted += 1;
        match wanted {
            Wanted::Session => {
                self.begin_session(id, serializer, identity, peer, keep_alive, now);
                self.after_poll(id, now);
            }
            // Nothing can come from it any more.
            Wanted::WebSocket(Ok(_)) if half_closed => self.free(id.slot, now),
            Wanted::WebSocket(Ok(accepted)) => {
                let unread = self.begin_web_socket(id, serializer, &accepted, identity, now);
                self.read_unread(id, unread, now);
            }
            Wanted::WebSocket(Err(answer)) => {
                self.stats.upgrade_refused += 1;
                self.queue_bytes(id.slot, answer.into());
                self.after_poll(id, now);
            }
        }
    }

    /// Reads what came behind the request while it was parked.
    fn read_unread(&mut self, id: ConnectionId, mut unread: Vec<u8>, now: Instant) {
        if !unread.is_empty() {
            self.read_web_socket(id, &mut unread, now);
        }
    }

    /// Tells a client that it may not connect.
    fn turn_away(
        &mut self,
        id: ConnectionId,
        refusal: &Refusal,
        wanted: Wanted,
        keep_alive: bool,
        now: Instant,
    ) {
        self.count_refusal(refusal);
        let transport = wanted.transport();
        let reason = match refusal {
            // The texts of an application are escaped, so that they stay on their line.
            Refusal::Application(reason) => reason.escape_debug().to_string(),
            _ => refusal.explanation().into_owned(),
        };
        self.log_refusal(id, transport, &reason, now);
        let retry = refusal.advice() == Advice::Retry;
        let polite = self.config.admission.as_ref().is_some_and(|admission| admission.polite_refusal);
        match wanted {
            Wanted::Session => {
                self.stats.sessions_refused += 1;
                // phoenix.js comes back after either; what it shows differs.
                let status =
                    if retry { longpoll::Status::InternalServerError } else { longpoll::Status::Forbidden };
                self.answer_status(id, status, None, keep_alive);
            }
            Wanted::WebSocket(Ok(accepted)) if polite => {
                self.stats.upgrade_refused += 1;
                let mut bytes = Vec::new();
                upgrade::write_101(&mut bytes, &accepted.key, accepted.protocol.as_deref());
                let code = match refusal.advice() {
                    Advice::StayAway => CloseCode::Normal,
                    Advice::Renew => CloseCode::from(TOKEN_EXPIRED),
                    Advice::Retry => CloseCode::Again,
                };
                ws::write_close(&mut bytes, code, refusal.reason());
                self.queue_bytes(id.slot, bytes.into_boxed_slice().into());
                return self.finish(id.slot, now);
            }
            Wanted::WebSocket(_) => {
                self.stats.upgrade_refused += 1;
                let response = if retry {
                    Response::new(http::Status::ServiceUnavailable).header("retry-after", "1")
                } else {
                    Response::new(http::Status::Forbidden)
                };
                self.respond(id, &response, keep_alive, false);
            }
        }
        self.after_poll(id, now);
    }

    fn count_refusal(&mut self, refusal: &Refusal) {
        let stats = &mut self.stats;
        let counter = match refusal {
            Refusal::NoToken => &mut stats.connects_without_token,
            Refusal::Token(_) => &mut stats.connects_bad_token,
            Refusal::UnknownUser | Refusal::DisabledUser => &mut stats.connects_bad_user,
            Refusal::Denied => &mut stats.connects_denied,
            Refusal::Unavailable => &mut stats.connects_unavailable,
            Refusal::Overloaded => &mut stats.connects_overloaded,
            Refusal::TimedOut => &mut stats.connects_timed_out,
            Refusal::Application(_) => &mut stats.connects_refused_otherwise,
        };
        *counter += 1;
    }

    /// Writes a line about a client that may not connect, unless there have been many.
    pub(super) fn log_refusal(&mut self, id: ConnectionId, transport: Transport, reason: &str, now: Instant) {
        let Some(peer) = self.connection(id).map(|connection| connection.peer_address()) else { return };
        let name = match transport {
            Transport::WebSocket => "WebSocket",
            Transport::LongPoll => "long-poll",
        };
        match self.refusal_log.take(now) {
            Some(0) => info!(%peer, "{name} unauthorized: {reason}"),
            // Lines that would have been more than enough.
            Some(left_out) => info!(%peer, left_out, "{name} unauthorized: {reason}"),
            None => debug!(%peer, "{name} unauthorized"),
        }
    }

    /// Has a socket join the topics that it joins by itself.
    pub(super) fn join_by_itself(&mut self, id: ConnectionId, now: Instant) {
        let Some(admission) = &self.config.admission else { return };
        let topics = Arc::clone(&admission.auto_join);
        let identity = self.identity(id).cloned();
        let user = identity.as_ref().map_or("", |identity| identity.user());
        for topic in topics.iter().filter_map(|pattern| pattern.topic_of(user)) {
            self.join_for(id, &topic, now);
        }
    }

    /// The user behind a socket.
    pub(super) fn identity(&self, id: ConnectionId) -> Option<&Arc<Identity>> {
        self.find(id)?.socket()?.identity.as_ref()
    }
}

/// What a decision depends on, as far as the request has it.
fn connect_request(request: &Request<'_>, token_param: &str, wanted: &Wanted) -> ConnectRequest {
    let from_query = match http::query::last(request.query, token_param) {
        // What is empty is a client's way of having none.
        Ok(token) => token.filter(|token| !token.is_empty()),
        // One that can't be decoded is a token all the same, and a wrong one.
        Err(_) => Some("".into()),
    };
    let others = http::query::pairs(request.query).flatten();
    let others = others.filter(|(name, _)| name != token_param && name != "vsn");
    let params = others.map(|(name, value)| (name.into_owned(), Secret::new(value))).collect();
    let auth_token = match wanted.transport() {
        Transport::WebSocket => {
            let bearer = upgrade::protocols(&request.headers).ok().and_then(|protocols| protocols.bearer);
            // One that can't be decoded is a token all the same, and a wrong one.
            bearer.map(|bearer| upgrade::bearer_token(bearer).unwrap_or_default())
        }
        Transport::LongPoll => only(request, AUTH_TOKEN_HEADER).map(|token| text(token).to_owned()),
    };
    let authorization = || only(request, "authorization").and_then(bearer).map(str::to_owned);
    let token = auth_token.or_else(authorization).or_else(|| from_query.map(std::borrow::Cow::into_owned));
    ConnectRequest {
        token: token.map(Secret::new),
        params,
        cookie: cookie(request),
        transport: wanted.transport(),
        peer: None,
        renewal: false,
    }
}

/// The value of a field that may stand once: of several, none can be told to be the right one.
fn only<'a>(request: &Request<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = request.headers.all(name);
    let value = values.next()?;
    Some(if values.next().is_some() { b"" } else { value })
}

/// All cookies; several fields are one list (RFC 9113, section 8.2.3). Other applications of the same domain set cookies
/// in the encoding they like: what is not UTF-8 in them is replaced by U+FFFD, so that it costs the cookies beside it
/// nothing.
fn cookie(request: &Request<'_>) -> Option<Secret> {
    let fields: Vec<_> = request.headers.all("cookie").map(String::from_utf8_lossy).collect();
    (!fields.is_empty()).then(|| Secret::new(fields.join("; ")))
}

/// The token of `Authorization: Bearer …` (RFC 6750 section 2.1); the scheme's case is free (RFC 9110 section
/// 11.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = value.split_at(at);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| text(token.trim_ascii_start()))
}
