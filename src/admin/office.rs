//! What a request has to pass before a page is made.

use std::sync::OnceLock;

use maud::Markup;

use crate::auth::connect::Secret;
use crate::desk::{Actor, ActorKind, AuditEntry, Desk, UnixMillis};
use crate::http::{MediaType, Method, Status};
use crate::service::{ServiceReply, ServiceRequest};

use super::carried::{self, Carried};
use super::form::Form;
use super::lockout::Lockout;
use super::page::{self, Frame, Trouble};
use super::places::Place;
use super::rate::SendRate;
use super::session::{Key, Session, Sessions, Standing, secret};
use super::welcome::Links;
use super::{Config, Entropy};
use super::{account, assets, audit, compose, connections, messages, sign_in};

/// Bytes of a form; a payload's text grows threefold when it is escaped.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a cookie's value that are looked at; ours have 43.
const COOKIE_BYTES_MAX: usize = 128;

/// The account that one-time links sign in as.
pub(super) const LINK_ACCOUNT: &str = "demo";

/// Closes the live sockets that have an id.
type Close = Box<dyn Fn(&str) + Send + Sync>;

/// The back office's state.
pub(super) struct Office {
    pub(super) desk: Desk,
    pub(super) config: Config,
    entropy: Entropy,
    pub(super) sessions: Sessions,
    pub(super) lockout: Lockout,
    pub(super) links: Links,
    pub(super) rate: SendRate,
    close: OnceLock<Close>,
}

impl Office {
    pub(super) fn new(desk: Desk, config: Config, entropy: Entropy) -> Self {
        Self {
            sessions: Sessions::new(config.session_idle, config.session_lifetime),
            lockout: Lockout::new(),
            links: Links::default(),
            rate: SendRate::new(config.sends_per_minute_max),
            close: OnceLock::new(),
            desk,
            config,
            entropy,
        }
    }

    pub(super) fn on_sign_out(&self, close: Close) {
        // Only the first call counts, as its contract says.
        let _ = self.close.set(close);
    }

    pub(super) fn one_time_link(&self, at: UnixMillis) -> String {
        let token = self.secret();
        self.links.add(&token, at);
        format!("/admin/welcome#{}", token.expose())
    }

    /// A text of 256 random bits.
    pub(super) fn secret(&self) -> Secret {
        secret((self.entropy)())
    }

    pub(super) fn fresh_bytes(&self) -> [u8; 32] {
        (self.entropy)()
    }

    pub(super) fn expire(&self, at: UnixMillis) {
        self.close_sockets(&self.sessions.expire(at));
        for session in self.sessions.all() {
            // A store that can't be read says nothing about an account.
            if matches!(self.stands(&session), Ok(false)) {
                self.end(session.key);
            }
        }
    }

    /// Closes the live sockets of sessions that have ended.
    pub(super) fn close_sockets(&self, ended: &[Key]) {
        if let Some(close) = self.close.get() {
            for key in ended {
                close(&key.socket_id());
            }
        }
    }

    /// Ends a session.
    pub(super) fn end(&self, key: Key) {
        if self.sessions.end(key) {
            self.close_sockets(&[key]);
        }
    }

    /// Whether what the session rests on is still there.
    pub(super) fn stands(&self, session: &Session) -> Result<bool, Trouble> {
        if session.standing == Standing::Link {
            return Ok(true);
        }
        let account = self.desk.records.staff(&session.account)?;
        Ok(account.is_some_and(|account| {
            !account.disabled && session.standing == Standing::of_account(&account.password_hash)
        }))
    }

    /// Answers a request for anything below `/admin`.
    pub(super) fn answer(&self, request: &ServiceRequest, at: UnixMillis) -> ServiceReply {
        page::secured(match self.route(request, at) {
            Ok(reply) => reply,
            Err(trouble) => trouble.reply(&self.config, None),
        })
    }

    fn route(&self, request: &ServiceRequest, at: UnixMillis) -> Result<ServiceReply, Trouble> {
        if let Some(asset) = assets::find(&request.path) {
            return match request.method {
                Method::Get | Method::Head => Ok(asset),
                _ => Err(Trouble::method("GET, HEAD")),
            };
        }
        let place = Place::find(&request.path).ok_or_else(Trouble::not_found)?;
        if !place.takes(request.method) {
            return Err(Trouble::method(place.allow()));
        }
        let posted = request.method == Method::Post;
        if posted {
            check_post(request, self.config.tls)?;
        }
        match place {
            Place::SignIn if posted => return sign_in::sign_in(self, request, at),
            Place::SignIn => return sign_in::form(self, request),
            Place::Welcome if posted => return sign_in::take_link(self, request, at),
            Place::Welcome => return Ok(sign_in::welcome(self)),
            Place::Session if !posted => return sign_in::look(self, request, at),
            _ => {}
        }
        let written = || place.takes_letter().then(|| Carried::of(request)).flatten();
        let found = self.session(request, at);
        let found = found.map_err(|trouble| match written() {
            Some(_) => trouble.with_way_on(carried::again(request)),
            None => trouble,
        });
        let Some(session) = found? else {
            return match (place, written()) {
                (Place::Session, _) => Ok(sign_in::left(None)),
                (_, Some(carried)) => Ok(sign_in::carry(self, &carried)),
                _ => Err(Trouble::elsewhere(sign_in::address(request))),
            };
        };
        let visit = Visit { office: self, request, at, session };
        Ok(visit
            .answer(place, posted)
            .unwrap_or_else(|trouble| trouble.reply(&self.config, Some(&visit.session))))
    }

    /// The session of a request's cookie.
    pub(super) fn session(
        &self,
        request: &ServiceRequest,
        at: UnixMillis,
    ) -> Result<Option<Session>, Trouble> {
        let found = self.cookie(&request.headers).and_then(|cookie| self.sessions.visit(cookie, at));
        let Some(session) = found else { return Ok(None) };
        if self.stands(&session)? {
            return Ok(Some(session));
        }
        self.end(session.key);
        Ok(None)
    }

    /// The value of our cookie. Two of the name are none: somebody else has set one of them.
    pub(super) fn cookie<'r>(&self, headers: &'r [(String, Vec<u8>)]) -> Option<&'r str> {
        let fields = headers.iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value.as_slice());
        cookie(fields, cookie_name(self.config.tls))
    }

    /// The same in what a socket that connects has sent.
    pub(super) fn cookie_of_socket<'r>(&self, header: &'r str) -> Option<&'r str> {
        cookie(std::iter::once(header.as_bytes()), cookie_name(self.config.tls))
    }

    /// `Set-Cookie` with the session's id, or without to remove it.
    pub(super) fn set_cookie(&self, id: Option<&Secret>) -> String {
        let name = cookie_name(self.config.tls);
        let value = id.map_or("", Secret::expose);
        let secure = if self.config.tls { "; Secure" } else { "" };
        let end = if id.is_some() { "" } else { "; Max-Age=0" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}")
    }

    /// Writes to the audit log. What is not written is not done.
    pub(super) fn audit(
        &self,
        actor: &Actor,
        at: UnixMillis,
        action: &str,
        subject: &str,
        detail: String,
    ) -> Result<(), Trouble> {
        let entry = AuditEntry::new(actor, at, action, subject, detail);
        Ok(self.desk.records.append_audit(&entry)?)
    }
}

/// A request of somebody who is signed in.
pub(super) struct Visit<'a> {
    pub(super) office: &'a Office,
    pub(super) request: &'a ServiceRequest,
    pub(super) at: UnixMillis,
    pub(super) session: Session,
}

impl Visit<'_> {
    fn answer(&self, place: Place<'_>, posted: bool) -> Result<ServiceReply, Trouble> {
        match place {
            Place::Home | Place::SignIn | Place::Welcome => Ok(page::see_other("/admin/compose")),
            Place::SignOut => sign_in::sign_out(self),
            Place::Session => sign_in::stay(self),
            Place::Compose => compose::form(self),
            Place::Preview => compose::preview(self),
            Place::Edit => compose::edit(self),
            Place::Send => compose::send(self),
            Place::Messages => messages::list(self),
            Place::Message(id) => messages::one(self, id),
            Place::Resend(id) => messages::resend(self, id),
            Place::Retract(id) => messages::retract(self, id),
            Place::Cancel(id) => messages::cancel(self, id),
            Place::Connections => connections::list(self),
            Place::Disconnect if posted => connections::disconnect(self),
            Place::Disconnect => connections::confirm(self),
            Place::Audit => audit::list(self),
            Place::Export => audit::export(self),
            Place::Account => account::form(self),
            Place::Password => account::change_password(self),
        }
    }

    /// The request's form, if it comes from a page of this session.
    pub(super) fn form(&self) -> Result<Form, Trouble> {
        let form = read_body(self.request)?;
        if self.session.owns(form.raw("csrf")) {
            return Ok(form);
        }
        let sentence =
            "It was made before you signed in, or by another site. Go back, reload the page and try again.";
        Err(Trouble::new(Status::Forbidden, "This form is not good any more", sentence))
    }

    /// The request's query.
    pub(super) fn query(&self) -> Result<Form, Trouble> {
        Form::read(&self.request.query)
    }

    /// Who is signed in, and where.
    pub(super) fn actor(&self) -> Actor {
        let name = self.session.account.to_string();
        Actor { kind: ActorKind::Staff, name, address: Some(self.request.peer) }
    }

    /// Writes what is about to be done to the audit log; without that it may not be done.
    pub(super) fn audit(&self, action: &str, subject: &str, detail: String) -> Result<(), Trouble> {
        self.office.audit(&self.actor(), self.at, action, subject, detail)
    }

    /// Writes what has come of it. It is done by then, so a log that fails now is no reason to say that it is not.
    pub(super) fn audit_outcome(&self, action: &str, subject: &str, detail: String) {
        if self.audit(action, subject, detail).is_err() {
            tracing::error!(action, "the outcome of an action could not be written to the audit log");
        }
    }

    /// A page with the navigation around it.
    pub(super) fn page(&self, status: Status, current: &str, heading: &str, body: &Markup) -> ServiceReply {
        let stats = self.office.desk.inspection.stats();
        let left = self.office.sessions.left(&self.session, self.at);
        let frame = Frame::new(&self.session, current).with_counts(stats.web_sockets, stats.sessions);
        let frame = frame.with_left(left);
        page::reply(status, page::document(&self.office.config, heading, Some(&frame), body))
    }
}

/// The name of the cookie. `__Host-` keeps others of the same site from setting it, and needs TLS.
const fn cookie_name(tls: bool) -> &'static str {
    if tls { "__Host-hailer" } else { "hailer" }
}

/// The value of the cookie `name`. Others of the same domain are nobody's business here, whatever their bytes.
fn cookie<'r>(fields: impl Iterator<Item = &'r [u8]>, name: &str) -> Option<&'r str> {
    let mut found = fields
        .flat_map(|field| field.split(|byte| *byte == b';'))
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let value = found.next()?;
    let is_ours = found.next().is_none() && value.len() <= COOKIE_BYTES_MAX;
    is_ours.then(|| std::str::from_utf8(value).ok()).flatten()
}

/// A form's fields.
pub(super) fn read_body(request: &ServiceRequest) -> Result<Form, Trouble> {
    let text = std::str::from_utf8(&request.body).map_err(|_| {
        Trouble::new(Status::BadRequest, "That can't be read", "The form is not encoded as browsers do it.")
    })?;
    Form::read(text)
}

/// What every POST has to be, whoever sends it: a form, of a bearable size, from a page of this very origin.
fn check_post(request: &ServiceRequest, tls: bool) -> Result<(), Trouble> {
    let media_type = MediaType::read(request.header("content-type").unwrap_or_default().as_bytes());
    if !media_type.is("application/x-www-form-urlencoded") {
        let sentence = "Only the forms of the back office are taken here.";
        return Err(Trouble::new(Status::UnsupportedMediaType, "That is no form", sentence));
    }
    if request.body.len() > FORM_BYTES_MAX {
        let sentence = "The form has more text than a notification can hold.";
        return Err(Trouble::new(Status::ContentTooLarge, "That is too much", sentence));
    }
    if !is_same_origin(request, tls) {
        let sentence = "The form was sent by a page of another site, or by a browser that does not say where it comes from.";
        return Err(Trouble::new(Status::Forbidden, "That is not allowed", sentence));
    }
    Ok(())
}

/// Whether a request was made by a page of this origin, as the browser says: all of them send `Origin` with a POST, and
/// those that also send `Sec-Fetch-Site` have to agree with it.
fn is_same_origin(request: &ServiceRequest, tls: bool) -> bool {
    let site = request.header("sec-fetch-site");
    if request.has_header("sec-fetch-site") && site != Some("same-origin") {
        return false;
    }
    if !request.has_header("origin") {
        return site == Some("same-origin");
    }
    let scheme = if tls { "https://" } else { "http://" };
    let origin = request.header("origin").and_then(|origin| origin.strip_prefix(scheme));
    match (origin, request.header("host")) {
        (Some(origin), Some(host)) => !host.is_empty() && origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}
