//! From the bytes of an HTTP connection to answers, and to WebSockets.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info};

use super::Endpoint;
use crate::auth::Identity;
use crate::auth::connect::Transport;
use crate::auth::origin::RequestOrigin;
use crate::connection::{
    Accepted, Body, BodyOf, Bytes, ConnectionId, Entry, HandOver, State, Wanted, WebSocket,
};
use crate::http::path::{is_same, segments};
use crate::http::upgrade::{self, UpgradeError};
use crate::http::{
    self, BodyDecoder, Framing, HeadError, HeadScanner, Method, NoneInCommon, Request, Response, Status,
    Subprotocols,
};
use crate::longpoll;
use crate::phoenix::Serializer;
use crate::prepared::WireForm;
use crate::service::ServiceRequest;
use crate::socket::Socket;
use crate::ws;

/// A static page.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The path, compared by its segments.
    pub path: &'static str,
    /// The value of `content-type`.
    pub content_type: &'static str,
    /// The body.
    pub body: &'static [u8],
}

/// What clients append to the socket's path, by their transports.
const WEB_SOCKET: &str = "websocket";
const LONG_POLL: &str = "longpoll";

/// Bytes of a path that are shown in a line of the log.
const SHOWN_PATH_BYTES: usize = 200;

/// What pages may load: nothing from elsewhere, and no inline script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What follows an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The body of this request.
    Body,
    /// Messages of a session.
    Parked,
    /// The shard that has the request's session.
    HandOff(u16),
    /// The next request on the same connection.
    Request,
    /// The WebSocket.
    WebSocket,
    /// The end.
    Close,
}

impl Next {
    /// What follows an answer behind which the connection goes on, or not.
    pub(super) fn after(keep_alive: bool) -> Self {
        if keep_alive { Self::Request } else { Self::Close }
    }
}

/// A field's value as text. What is no text is there all the same, and is what an empty value is: no origin, no token.
pub(super) fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default()
}

/// How far the body of a POST has come, and how many bytes it has used.
enum BodyRead {
    Done(usize),
    More(usize),
    /// The connection is ending.
    Ending,
}

/// Why a WebSocket can't be spoken as its request asks for.
type NotSpoken = (Status, Cow<'static, str>);

/// Where clients connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mount {
    Phoenix,
    LongPoll,
    Plain,
}

impl Endpoint {
    pub(super) fn read_http(&mut self, id: ConnectionId, bytes: &mut [u8], now: Instant) {
        let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) else {
            return;
        };
        if http.buffer.is_empty() {
            let used = self.read_requests(id, bytes, now);
            self.keep_tail(id, |buffer| buffer.extend_from_slice(bytes.get(used..).unwrap_or_default()), now);
        } else {
            let mut whole = std::mem::take(&mut http.buffer);
            whole.extend_from_slice(bytes);
            let used = self.read_requests(id, &mut whole, now);
            self.keep_tail(
                id,
                |buffer| {
                    // What was read behind the head may be much more than what is left of it.
                    *buffer = if used == 0 { whole } else { whole[used..].to_vec() };
                },
                now,
            );
        }
    }

    /// Keeps the beginning of a head until the rest comes, and gives it its time.
    fn keep_tail(&mut self, id: ConnectionId, keep: impl FnOnce(&mut Vec<u8>), now: Instant) {
        let limits = &self.config.limits;
        let (head_timeout, keep_alive_timeout) = (limits.head_timeout, limits.keep_alive_timeout);
        let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) else {
            return;
        };
        keep(&mut http.buffer);
        if http.is_waiting() || http.body.is_some() {
            // The poll's window, the decision's or the body's time goes on.
            return;
        }
        let (begun, first) = (!http.buffer.is_empty(), http.requests == 0);
        if !begun {
            // An idle connection owns no buffer.
            http.buffer = Vec::new();
        }
        let was_begun = std::mem::replace(&mut http.begun, begun);
        match (was_begun, begun) {
            // The whole head has one deadline: further bytes of it gain no time, nor do those of a connection's
            // first head.
            (true, true) => {}
            (false, true) if first => {}
            (_, true) => self.deadlines.set(id.slot, now, head_timeout),
            (_, false) if !first => self.deadlines.set(id.slot, now, keep_alive_timeout),
            (_, false) => {}
        }
    }

    /// Answers the requests that are whole; the number of bytes that is used up.
    fn read_requests(&mut self, id: ConnectionId, bytes: &mut [u8], now: Instant) -> usize {
        let mut used = 0;
        loop {
            let limits = Arc::clone(&self.config.limits);
            let Some(connection) = self.connection(id) else { return bytes.len() };
            let full = connection.outbox.held() > limits.outbox_bytes_max;
            let State::Http(http) = &mut connection.state else { return bytes.len() };
            let unread = &bytes[used..];
            if http.is_waiting() {
                // The next request has its turn when this one is answered.
                if unread.len() > limits.head_bytes_max {
                    self.finish(id.slot, now);
                    return bytes.len();
                }
                return used;
            }
            if let Some(body) = http.body.take() {
                match self.read_body(id, body, unread, now) {
                    BodyRead::Done(consumed) => used += consumed,
                    BodyRead::More(consumed) => return used + consumed,
                    BodyRead::Ending => return bytes.len(),
                }
                continue;
            }
            if unread.is_empty() {
                return used;
            }
            if let Some(session) = http.answered.take() {
                // A client that asks for more has read the answer before.
                self.settle_answer(session, id, true);
                continue;
            }
            let head = match http.scanner.find(unread, &limits) {
                Ok(Some(len)) => &unread[..len],
                Ok(None) => return used,
                Err(error) => return self.refuse(id, error, now, bytes.len()),
            };
            http.scanner = HeadScanner::default();
            http.begun = false;
            http.requests += 1;
            let last = http.requests >= limits.requests_per_connection_max;
            if full {
                // A client that pipelines without reading has its connection ended behind the answers so far.
                self.finish(id.slot, now);
                return bytes.len();
            }
            let head_len = head.len();
            used += head_len;
            let next = match http::parse_head(head, &limits) {
                Ok(request) => self.answer(id, &request, last, now),
                Err(error) => return self.refuse(id, error, now, bytes.len()),
            };
            match next {
                Next::Request | Next::Parked | Next::Body => {}
                Next::HandOff(shard) => {
                    let whole = used - head_len;
                    self.hand_over(id, shard, bytes[whole..].to_vec());
                    return bytes.len();
                }
                Next::Close => {
                    self.finish(id.slot, now);
                    return bytes.len();
                }
                Next::WebSocket => {
                    self.read_web_socket(id, &mut bytes[used..], now);
                    return bytes.len();
                }
            }
        }
    }

    /// The head of a request has come whose body is read next, be it empty.
    pub(super) fn begin_body(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        of: BodyOf,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        let limits = &self.config.limits;
        let body_timeout = limits.body_timeout;
        let bytes_max = match &of {
            BodyOf::Poll { .. } => limits.body_bytes_max,
            BodyOf::Call(_) => limits.request_bytes_max,
        };
        let decoder = match BodyDecoder::new(request.body, bytes_max) {
            Ok(decoder) => decoder,
            Err(error) => {
                self.refuse_request(id, &of, error.status(), error.reason());
                return Next::Close;
            }
        };
        if request.expect_continue && request.body != Framing::None {
            self.queue_bytes(id.slot, Bytes::Static(http::CONTINUE));
        }
        let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) else {
            return Next::Close;
        };
        http.keep_alive = keep_alive;
        http.body = Some(Box::new(Body { decoder, bytes: Vec::new(), of }));
        self.deadlines.set(id.slot, now, body_timeout);
        Next::Body
    }

    /// Answers a request whose body is not read on.
    fn refuse_request(&mut self, id: ConnectionId, of: &BodyOf, status: Status, reason: &str) {
        match of {
            BodyOf::Poll { .. } => self.refuse_post(id, status, reason),
            BodyOf::Call(_) => self.refuse_call(id, status, reason),
        }
    }

    /// Reads on in the body of a request.
    fn read_body(&mut self, id: ConnectionId, mut body: Box<Body>, unread: &[u8], now: Instant) -> BodyRead {
        let held = body.call_bytes();
        let result = body.decoder.decode(unread, &mut body.bytes);
        let result = result.map_err(|error| (error.status(), error.reason()));
        let result = result.and_then(|progress| self.hold(&body, held).map(|()| progress));
        let progress = match result {
            Ok(progress) => progress,
            Err((status, reason)) => {
                self.release(held);
                self.refuse_request(id, &body.of, status, reason);
                self.finish(id.slot, now);
                return BodyRead::Ending;
            }
        };
        if !progress.done {
            if let Some(State::Http(http)) = self.connection(id).map(|connection| &mut connection.state) {
                http.body = Some(body);
            }
            return BodyRead::More(progress.consumed);
        }
        let Body { bytes, of, .. } = *body;
        let next = match of {
            BodyOf::Poll { session, batch } => self.handle_post(id, session, batch, &bytes, now),
            BodyOf::Call(request) => self.call_service(id, ServiceRequest { body: bytes, ..*request }, now),
        };
        match next {
            Next::Request | Next::Parked => BodyRead::Done(progress.consumed),
            _ => {
                self.finish(id.slot, now);
                BodyRead::Ending
            }
        }
    }

    /// Gives a connection over to the shard that has its session, as soon as its earlier answers are written.
    fn hand_over(&mut self, id: ConnectionId, shard: u16, bytes: Vec<u8>) {
        let Some(connection) = self.connection(id) else { return };
        let State::Http(http) = &connection.state else { return };
        // The request is counted where it is answered.
        let (requests, peer) = (http.requests - 1, http.peer);
        connection.state = State::HandingOver(Box::new(HandOver { shard, bytes, requests, peer }));
        self.stats.handed_over += 1;
        self.stats.http_requests -= 1;
        self.queue(id.slot);
    }

    /// Answers what is no request; where the next one would begin is unknown then.
    fn refuse(&mut self, id: ConnectionId, error: HeadError, now: Instant, used: usize) -> usize {
        debug!(slot = id.slot, ?error, "refusing a request");
        self.stats.http_refused += 1;
        let body = format!("{}\n", error.reason());
        self.respond(id, &Response::text(error.status(), &body), false, false);
        self.finish(id.slot, now);
        used
    }

    pub(super) fn respond(
        &mut self,
        id: ConnectionId,
        response: &Response<'_>,
        keep_alive: bool,
        head_only: bool,
    ) {
        let mut bytes = Vec::new();
        response.write(&mut bytes, keep_alive, head_only);
        self.queue_bytes(id.slot, Bytes::Owned(bytes.into_boxed_slice()));
    }

    fn answer(&mut self, id: ConnectionId, request: &Request<'_>, last: bool, now: Instant) -> Next {
        self.stats.http_requests += 1;
        debug!(slot = id.slot, ?request, "answering a request");
        // A body that nobody asked for is not read, so the connection ends with the answer.
        let keep_alive = request.keep_alive && !last && !self.draining && request.body == Framing::None;
        let next = Next::after(keep_alive);
        if let Some(mount) = self.mount(request.path) {
            if !self.is_from_here(id, request, mount, now) {
                return self.answer_foreign(id, request, mount, keep_alive);
            }
            return match request.method {
                _ if mount == Mount::LongPoll => self.answer_long_poll(id, request, keep_alive, now),
                Method::Get => self.answer_upgrade(id, request, mount, keep_alive, now),
                _ => self.answer_wrong_method(id, request, "GET", keep_alive),
            };
        }
        let page = self.config.pages.iter().find(|page| is_same(page.path, request.path)).copied();
        match (page, request.method) {
            (Some(page), Method::Get | Method::Head) => {
                self.answer_page(id, page, keep_alive, request.method == Method::Head);
            }
            (Some(_), _) => return self.answer_wrong_method(id, request, "GET, HEAD", keep_alive),
            (None, _) if self.config.service.is_some() => {
                let keep_alive = request.keep_alive && !last && !self.draining;
                return self.begin_call(id, request, keep_alive, now);
            }
            (None, _) => {
                let body = format!(
                    "there is nothing at this path; clients connect to {}/websocket\n",
                    self.config.socket_path
                );
                let head_only = request.method == Method::Head;
                self.respond(id, &Response::text(Status::NotFound, &body), keep_alive, head_only);
                self.log_wrong_path(id, request, now);
            }
        }
        next
    }

    fn mount(&self, path: &str) -> Option<Mount> {
        let socket_path = &self.config.socket_path;
        let is = |transport| segments(path).eq(segments(socket_path).chain([transport]));
        if is(WEB_SOCKET) {
            return Some(Mount::Phoenix);
        }
        if is(LONG_POLL) {
            return Some(Mount::LongPoll);
        }
        self.config.plain.as_ref().filter(|plain| is_same(&plain.0, path)).map(|_| Mount::Plain)
    }

    /// Writes a line about a request to a path where there is nothing, if it looks like a client's: a browser shows
    /// neither the answer nor the path. What scanners ask for is no news.
    fn log_wrong_path(&mut self, id: ConnectionId, request: &Request<'_>, now: Instant) {
        let Some(peer) = self.connection(id).map(|connection| connection.peer_address()) else { return };
        // The query is left out: it holds tokens. A path is of visible ASCII.
        let shown: String = request.path.chars().take(SHOWN_PATH_BYTES).collect();
        let path = shown.escape_debug();
        let socket_path = Arc::clone(&self.config.socket_path);
        let is_client = request.headers.has_token("upgrade", "websocket")
            || segments(request.path).last().is_some_and(|last| [WEB_SOCKET, LONG_POLL].contains(&last));
        match is_client.then(|| self.wrong_path_log.take(now)).flatten() {
            Some(0) => info!(%peer, "nothing at \"{path}\": clients connect to {socket_path}/{WEB_SOCKET}"),
            Some(left_out) => {
                info!(%peer, left_out, "nothing at \"{path}\": clients connect to {socket_path}/{WEB_SOCKET}");
            }
            None => debug!(%peer, "nothing at \"{path}\""),
        }
    }

    /// Whether the page that a request comes from may connect (Phoenix: `check_origin`).
    fn is_from_here(&mut self, id: ConnectionId, request: &Request<'_>, mount: Mount, now: Instant) -> bool {
        let goes_to = RequestOrigin { host: request.headers.get("host").map(text), secure: None };
        let origins = Arc::clone(&self.config.origins);
        let Err(error) = origins.check(request.headers.all("origin").map(text), &goes_to) else {
            return true;
        };
        self.stats.origins_refused += 1;
        let transport = if mount == Mount::LongPoll { Transport::LongPoll } else { Transport::WebSocket };
        let origin = request.headers.get("origin").map(text).unwrap_or_default();
        let reason = match origins.policy.suggestion(origin) {
            Some(line) => format!("{error}; to let it in: {line}"),
            None => error.to_string(),
        };
        self.log_refusal(id, transport, &reason, now);
        false
    }

    /// Answers a request from a page that may not connect.
    fn answer_foreign(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        mount: Mount,
        keep_alive: bool,
    ) -> Next {
        if mount == Mount::LongPoll && request.method != Method::Head {
            self.answer_status(id, longpoll::Status::Forbidden, None, keep_alive);
        } else {
            let head_only = request.method == Method::Head;
            self.respond(id, &Response::new(Status::Forbidden), keep_alive, head_only);
        }
        Next::after(keep_alive)
    }

    fn answer_wrong_method(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        allowed: &'static str,
        keep_alive: bool,
    ) -> Next {
        let body = format!("this path takes {allowed}\n");
        let response = Response::text(Status::MethodNotAllowed, &body).header("allow", allowed);
        self.respond(id, &response, keep_alive, request.method == Method::Head);
        Next::after(keep_alive)
    }

    fn answer_page(&mut self, id: ConnectionId, page: Page, keep_alive: bool, head_only: bool) {
        let mut head = Vec::new();
        Response::new(Status::Ok)
            .header("content-type", page.content_type)
            .header("cache-control", "no-cache")
            .header("content-security-policy", PAGE_POLICY)
            .header("referrer-policy", "no-referrer")
            .header("x-content-type-options", "nosniff")
            .write_head(&mut head, page.body.len() as u64, keep_alive);
        self.queue_bytes(id.slot, Bytes::Owned(head.into_boxed_slice()));
        if !head_only && let Some(connection) = self.connection(id) {
            connection.outbox.push(Entry::Frame(Bytes::Static(page.body)));
        }
    }

    /// The order of the checks is that of `Phoenix.Transports.WebSocket`.
    fn answer_upgrade(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        mount: Mount,
        keep_alive: bool,
        now: Instant,
    ) -> Next {
        let next = Next::after(keep_alive);
        let (serializer, protocol) = match self.choose(id, request, mount, now) {
            Ok(chosen) => chosen,
            Err((status, reason)) => {
                self.stats.upgrade_refused += 1;
                self.respond(id, &Response::text(status, &format!("{reason}\n")), keep_alive, false);
                return next;
            }
        };
        let checked = upgrade::check(request);
        // Of several bearer tokens none can be asked about.
        let ambiguous = checked == Err(UpgradeError::Protocols);
        let accepted = match checked {
            Ok(handshake) => Ok(Accepted { key: handshake.accept(), protocol }),
            Err(error) => {
                let mut bytes = Vec::new();
                error.write(request, &mut bytes, keep_alive);
                Err(bytes.into_boxed_slice())
            }
        };
        if mount == Mount::Phoenix && self.config.admission.is_some() && !ambiguous {
            return self.ask(id, request, serializer, Wanted::WebSocket(accepted), keep_alive, now);
        }
        match accepted {
            Ok(accepted) => {
                self.begin_web_socket(id, serializer, &accepted, None, now);
                if mount == Mount::Plain
                    && let Some(State::WebSocket(web_socket)) =
                        self.connection(id).map(|connection| &mut connection.state)
                {
                    web_socket.plain = true;
                }
                Next::WebSocket
            }
            Err(answer) => {
                self.stats.upgrade_refused += 1;
                self.queue_bytes(id.slot, answer.into());
                next
            }
        }
    }

    /// What is spoken on a WebSocket, by what its request asks for.
    fn choose(
        &mut self,
        id: ConnectionId,
        request: &Request<'_>,
        mount: Mount,
        now: Instant,
    ) -> Result<(Serializer, Option<Arc<str>>), NotSpoken> {
        if mount != Mount::Phoenix {
            // The setting is that of the Phoenix socket.
            let chosen = Subprotocols::default().choose(&request.headers).map(Option::<&_>::cloned);
            return Ok((Serializer::V2, chosen.unwrap_or_default()));
        }
        let vsn = http::query::last(request.query, "vsn");
        let vsn = vsn.map_err(|error| (Status::BadRequest, error.reason().into()))?;
        let protocol = match self.config.subprotocols.choose(&request.headers) {
            Ok(protocol) => protocol.cloned(),
            Err(NoneInCommon) => {
                self.stats.subprotocols_refused += 1;
                // What was offered is not repeated: some put tokens there.
                let reason = format!(
                    "no subprotocol in common; those of this server are {}",
                    self.config.subprotocols
                );
                self.log_refusal(id, Transport::WebSocket, &reason, now);
                return Err((Status::Forbidden, reason.into()));
            }
        };
        match Serializer::from_vsn(vsn.as_deref()) {
            Some(serializer) => Ok((serializer, protocol)),
            None => {
                let reason = "the parameter vsn names no serializer of this server: use 2.0.0 or 1.0.0";
                Err((Status::Forbidden, reason.into()))
            }
        }
    }

    /// Completes the opening handshake: the connection is a WebSocket from here on. What was read behind its
    /// request is given back.
    pub(super) fn begin_web_socket(
        &mut self,
        id: ConnectionId,
        serializer: Serializer,
        accepted: &Accepted,
        identity: Option<Arc<Identity>>,
        now: Instant,
    ) -> Vec<u8> {
        let mut answer = std::mem::take(&mut self.scratch);
        answer.clear();
        upgrade::write_101(&mut answer, &accepted.key, accepted.protocol.as_deref());
        self.queue_frame(id.slot, answer.len(), |out| out.extend_from_slice(&answer));
        self.scratch = answer;
        let socket = Socket::new(serializer, WireForm::web_socket(serializer), identity);
        let decoder = ws::Decoder::new();
        let web_socket = WebSocket {
            decoder,
            socket,
            since: self.seconds(now),
            closing: false,
            plain: false,
            pongs_waiting: 0,
        };
        let mut unread = Vec::new();
        if let Some(connection) = self.connection(id) {
            let state = std::mem::replace(&mut connection.state, State::WebSocket(Box::new(web_socket)));
            if let State::Http(http) = state {
                unread = http.buffer;
            }
        }
        self.stats.upgraded += 1;
        self.stats.web_sockets += 1;
        self.deadlines.set(id.slot, now, self.config.limits.idle_timeout);
        self.begin_socket(id, now);
        unread
    }
}
