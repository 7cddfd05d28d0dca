//! A desk in memory, and a browser that visits its back office.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use hailer::admin::{Admin, Config};
use hailer::auth::connect::Secret;
use hailer::auth::password;
use hailer::desk::{
    Actor, AuditEntry, AuditQuery, ConnectionPage, ConnectionQuery, ConnectionView, Desk, DeskError,
    Disconnect, Disconnected, ErrorCode, Inspection, Message, MessagePage, MessageQuery, MessageState,
    Progress, Publish, PublishReply, Published, Publishing, RawValueText, Readiness, Records, StaffAccount,
    Target, TokenCheck, TopicPage, TopicQuery, UnixMillis, UserView,
};
use hailer::http::{Method, Status};
use hailer::service::{Service, ServiceReply, ServiceRequest};
use hailer::stats::Stats;

/// When the tests begin.
pub(super) const NOON: UnixMillis = 1_795_406_400_000;
pub(super) const PASSWORD: &str = "correct horse battery";

/// What the desk was told and what it says.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) messages: Mutex<Vec<Message>>,
    pub(super) published: Mutex<Vec<Publish>>,
    replies: Mutex<HashMap<String, PublishReply>>,
    pub(super) disconnects: Mutex<Vec<Disconnect>>,
    pub(super) audit: Mutex<Vec<AuditEntry>>,
    pub(super) staff: Mutex<HashMap<String, StaffAccount>>,
    pub(super) connections: Mutex<Vec<ConnectionView>>,
    pub(super) progress: Mutex<HashMap<String, Progress>>,
    pub(super) subscribers: AtomicU64,
    pub(super) log_is_full: AtomicBool,
    pub(super) store_is_away: AtomicBool,
    pub(super) is_overloaded: AtomicBool,
}

fn away() -> DeskError {
    DeskError::new(ErrorCode::StoreUnavailable, "the store can't be reached")
}

impl Publishing for Fake {
    fn publish(&self, publish: Publish, actor: &Actor, at: UnixMillis) -> Result<PublishReply, DeskError> {
        if self.is_overloaded.load(Ordering::Relaxed) {
            return Err(DeskError::new(ErrorCode::Overloaded, "a shard has too much to do"));
        }
        let key = publish.idempotency_key.clone().unwrap_or_default();
        if let Some(reply) = self.replies.lock().unwrap().get(&key) {
            return Ok(PublishReply { replayed: true, ..reply.clone() });
        }
        let draft = publish.drafts[0].clone();
        let mut messages = self.messages.lock().unwrap();
        let id = format!("m-{}", messages.len() + 1);
        let (topic, user) = match &draft.target {
            Target::Topic(topic) => (topic.clone(), None),
            Target::User(user) => (format!("user:{user}"), Some(user.clone())),
        };
        let state = if draft.send_at.is_some() { MessageState::Scheduled } else { MessageState::Sent };
        let sent = state == MessageState::Sent;
        let subscribers = sent.then(|| self.subscribers.load(Ordering::Relaxed));
        messages.push(Message {
            sender: actor.to_string(),
            subscribers,
            ..message(&id, &topic, user, &draft.event, draft.payload.get(), state, at)
        });
        let durability = draft.durability;
        let published = Published { id, topic, offset: sent.then_some(1), subscribers, durability, state };
        let reply = PublishReply { messages: vec![published], replayed: false };
        self.replies.lock().unwrap().insert(key, reply.clone());
        self.published.lock().unwrap().push(publish);
        Ok(reply)
    }

    fn retract(&self, id: &str, actor: &Actor, at: UnixMillis) -> Result<Message, DeskError> {
        self.end(id, MessageState::Sent, MessageState::Retracted, actor, at)
    }

    fn cancel(&self, id: &str, actor: &Actor, at: UnixMillis) -> Result<Message, DeskError> {
        self.end(id, MessageState::Scheduled, MessageState::Cancelled, actor, at)
    }

    fn disconnect(
        &self,
        disconnect: &Disconnect,
        _: &Actor,
        _: UnixMillis,
    ) -> Result<Disconnected, DeskError> {
        self.disconnects.lock().unwrap().push(disconnect.clone());
        Ok(Disconnected { sockets: 1 })
    }

    fn progress(&self, id: &str) -> Option<Progress> {
        self.progress.lock().unwrap().get(id).copied()
    }

    fn topic_of(&self, user: &str) -> Option<String> {
        Some(format!("user:{user}"))
    }
}

impl Fake {
    fn end(
        &self,
        id: &str,
        from: MessageState,
        to: MessageState,
        actor: &Actor,
        at: UnixMillis,
    ) -> Result<Message, DeskError> {
        let mut messages = self.messages.lock().unwrap();
        let message = messages.iter_mut().find(|message| message.id == id);
        let message =
            message.ok_or_else(|| DeskError::new(ErrorCode::NotFound, "there is no such message"))?;
        if message.state != from {
            return Err(DeskError::new(ErrorCode::Conflict, "it is not waiting any more"));
        }
        (message.state, message.ended_at, message.ended_by) = (to, Some(at), Some(actor.to_string()));
        Ok(message.clone())
    }

    /// The actions in the audit log, with their actors.
    pub(super) fn actions(&self) -> Vec<String> {
        self.audit.lock().unwrap().iter().map(|entry| format!("{} {}", entry.actor, entry.action)).collect()
    }
}

/// A message as records have it.
pub(super) fn message(
    id: &str,
    topic: &str,
    user: Option<String>,
    event: &str,
    payload: &str,
    state: MessageState,
    at: UnixMillis,
) -> Message {
    let sent = state != MessageState::Scheduled;
    Message {
        id: id.to_owned(),
        topic: topic.to_owned(),
        user,
        event: event.to_owned(),
        payload: RawValueText::new(serde_json::value::RawValue::from_string(payload.to_owned()).unwrap()),
        sender: "key:orders".to_owned(),
        state,
        created_at: at,
        send_at: (!sent).then_some(at + 60_000),
        sent_at: sent.then_some(at),
        expires_at: None,
        ended_at: None,
        ended_by: None,
        offset: None,
        subscribers: None,
        received: None,
        with_id: true,
        receipts: true,
        resend_of: None,
    }
}

impl Inspection for Fake {
    fn connections(&self, _: &ConnectionQuery) -> ConnectionPage {
        let connections = self.connections.lock().unwrap().clone();
        ConnectionPage { total: connections.len() as u64, connections, next: Some("next one".to_owned()) }
    }

    fn topics(&self, _: &TopicQuery) -> TopicPage {
        TopicPage::default()
    }

    fn subscribers(&self, topic: &str) -> Option<u64> {
        (topic != "no:shards").then(|| self.subscribers.load(Ordering::Relaxed))
    }

    fn user(&self, user: &str) -> UserView {
        UserView { user: user.to_owned(), ..UserView::default() }
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        (stats.web_sockets, stats.sessions) = (12, 3);
        stats
    }

    fn readiness(&self) -> Readiness {
        Readiness { ready: true, problems: Vec::new() }
    }

    fn check_token(&self, _: &Secret) -> TokenCheck {
        TokenCheck { valid: false, reason: None, user: None, socket_id: None, expires_at: None }
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

impl Records for Fake {
    fn message(&self, id: &str) -> Result<Option<Message>, DeskError> {
        Ok(self.messages.lock().unwrap().iter().find(|message| message.id == id).cloned())
    }

    fn messages(&self, query: &MessageQuery) -> Result<MessagePage, DeskError> {
        let messages = self.messages.lock().unwrap();
        let wanted = |message: &&Message| query.state.is_none_or(|state| state == message.state);
        Ok(MessagePage { messages: messages.iter().filter(wanted).cloned().collect(), next: Some(7) })
    }

    fn append_audit(&self, entry: &AuditEntry) -> Result<(), DeskError> {
        if self.log_is_full.load(Ordering::Relaxed) {
            return Err(away());
        }
        let mut audit = self.audit.lock().unwrap();
        let number = audit.len() as u64 + 1;
        audit.push(AuditEntry { number, ..entry.clone() });
        Ok(())
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, DeskError> {
        let audit = self.audit.lock().unwrap();
        let wanted = |entry: &&AuditEntry| {
            query.before.is_none_or(|before| entry.number < before)
                && query.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
                && query.action.as_ref().is_none_or(|action| *action == entry.action)
        };
        Ok(audit.iter().rev().filter(wanted).take(query.limit).cloned().collect())
    }

    fn staff(&self, name: &str) -> Result<Option<StaffAccount>, DeskError> {
        if self.store_is_away.load(Ordering::Relaxed) {
            return Err(away());
        }
        Ok(self.staff.lock().unwrap().get(name).cloned())
    }

    fn set_staff_password(&self, name: &str, hash: &Secret, _: UnixMillis) -> Result<bool, DeskError> {
        let mut staff = self.staff.lock().unwrap();
        Ok(staff.get_mut(name).map(|account| account.password_hash = hash.clone()).is_some())
    }
}

/// A back office with its desk, and a browser.
pub(super) struct Visitor {
    pub(super) admin: Admin,
    pub(super) fake: Arc<Fake>,
    pub(super) closed: Arc<Mutex<Vec<String>>>,
    pub(super) at: UnixMillis,
    pub(super) cookie: Option<String>,
    pub(super) peer: IpAddr,
    /// Header fields of a POST, which a test spoils.
    pub(super) headers: Vec<(String, String)>,
    /// The cookie of another application of the same domain.
    pub(super) neighbour: Vec<u8>,
}

/// A POST as browsers send it.
pub(super) fn browser_headers() -> Vec<(String, String)> {
    let fields = [
        ("host", "127.0.0.1:4001"),
        ("origin", "http://127.0.0.1:4001"),
        ("sec-fetch-site", "same-origin"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

impl Visitor {
    pub(super) fn new(config: Config) -> Self {
        let fake = Arc::new(Fake::default());
        fake.subscribers.store(2, Ordering::Relaxed);
        let desk = Desk {
            publishing: fake.clone(),
            inspection: fake.clone(),
            records: fake.clone(),
            guesses: Arc::default(),
        };
        let next = AtomicU64::new(1);
        let entropy = move || {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&next.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            bytes
        };
        let admin = Admin::new(desk, config, Arc::new(entropy));
        let closed = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&closed);
        admin.on_sign_out(move |id| told.lock().unwrap().push(id.to_owned()));
        let visitor = Self {
            admin,
            fake,
            closed,
            at: NOON,
            cookie: None,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            headers: browser_headers(),
            neighbour: b"x=y".to_vec(),
        };
        visitor.add_staff("ada");
        visitor
    }

    pub(super) fn add_staff(&self, name: &str) {
        let account = StaffAccount {
            name: name.to_owned(),
            password_hash: password::hash(&Secret::new(PASSWORD), [1; 16]),
            disabled: false,
            created_at: 0,
        };
        self.fake.staff.lock().unwrap().insert(name.to_owned(), account);
    }

    /// Somebody who has signed in by a one-time link.
    pub(super) fn inside(config: Config) -> Self {
        let mut visitor = Self::new(config);
        visitor.enter();
        visitor
    }

    pub(super) fn enter(&mut self) {
        let link = self.admin.one_time_link(self.at);
        let (path, token) = link.split_once('#').unwrap();
        let reply = self.post_plain(path, &[("token", token)]);
        assert_eq!(reply.status, Status::SeeOther, "{}", text(&reply));
        self.cookie = Some(cookie_of(&reply));
    }

    /// As `ada`, by password.
    pub(super) fn sign_in(&mut self) -> ServiceReply {
        let reply = self.post_plain("/admin/sign-in", &[("name", "ada"), ("password", PASSWORD)]);
        if reply.status == Status::SeeOther {
            self.cookie = Some(cookie_of(&reply));
        }
        reply
    }

    fn request(
        &self,
        method: Method,
        address: &str,
        headers: Vec<(String, String)>,
        body: &str,
    ) -> ServiceReply {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let mut headers: Vec<(String, Vec<u8>)> =
            headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        if let Some(cookie) = &self.cookie {
            let cookies = [b"theme=dark; ", cookie.as_bytes(), b"; ", &self.neighbour].concat();
            headers.push(("cookie".to_owned(), cookies));
        }
        let request = ServiceRequest {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.as_bytes().to_vec(),
            peer: self.peer,
            local: None,
        };
        let reply = self.admin.call(&request, self.at);
        assert_secured(&reply);
        reply
    }

    pub(super) fn method(&self, method: Method, address: &str) -> ServiceReply {
        self.request(method, address, self.headers.clone(), "")
    }

    pub(super) fn get(&self, address: &str) -> ServiceReply {
        self.request(Method::Get, address, vec![("host".to_owned(), "127.0.0.1:4001".to_owned())], "")
    }

    /// The text of a page that is there.
    pub(super) fn page(&self, address: &str) -> String {
        let reply = self.get(address);
        assert_eq!(reply.status, Status::Ok, "{address}: {}", text(&reply));
        text(&reply)
    }

    /// A form without the session's token.
    pub(super) fn post_plain(&self, path: &str, fields: &[(&str, &str)]) -> ServiceReply {
        self.post_body(path, &encoded(fields))
    }

    pub(super) fn post_body(&self, path: &str, body: &str) -> ServiceReply {
        self.request(Method::Post, path, self.headers.clone(), body)
    }

    /// A form of the session's own pages.
    pub(super) fn post(&self, path: &str, fields: &[(&str, &str)]) -> ServiceReply {
        let csrf = self.csrf();
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend_from_slice(fields);
        self.post_plain(path, &all)
    }

    pub(super) fn csrf(&self) -> String {
        field(&self.page("/admin/account"), "csrf")
    }

    /// Sends a message that is filled into the form, by way of the preview.
    pub(super) fn send(&self, fields: &[(&str, &str)]) -> ServiceReply {
        let preview = self.post("/admin/compose/preview", &letter(fields));
        assert_eq!(preview.status, Status::Ok, "{}", text(&preview));
        self.post_plain("/admin/compose/send", &borrowed(&hidden_fields(&text(&preview))))
    }

    pub(super) fn last_audit(&self) -> AuditEntry {
        self.fake.audit.lock().unwrap().last().cloned().unwrap()
    }
}

/// The form's fields, with those given in place of what it begins with.
pub(super) fn letter<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        ("to", "everyone"),
        ("severity", "info"),
        ("lifetime_unit", "none"),
        ("when", "now"),
        ("body", "hello"),
    ];
    for (name, value) in fields {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some(field) => field.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

pub(super) fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A form's hidden fields but those of the header's own form, as a browser would send them.
pub(super) fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let main = page.split("<main").nth(1).expect("the page has a main part");
    let part = |text: &str, name: &str| {
        let value = text.split(&format!("{name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
    };
    let inputs = main.split("<input").skip(1).map(|rest| rest.split('>').next().unwrap());
    let hidden = inputs.filter(|input| input.contains("type=\"hidden\""));
    hidden.filter_map(|input| Some((part(input, " name")?, part(input, " value")?))).collect()
}

pub(super) fn field(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let rest = page.split(&start).nth(1).unwrap_or_else(|| panic!("no field {name}: {page}"));
    rest.split('"').next().unwrap().to_owned()
}

pub(super) fn encoded(fields: &[(&str, &str)]) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    pairs.join("&")
}

pub(super) fn header<'a>(reply: &'a ServiceReply, name: &str) -> Option<&'a str> {
    let mut values = reply.headers.iter().filter(|(known, _)| *known == name);
    let value = values.next().map(|(_, value)| value.as_ref());
    assert!(values.next().is_none(), "{name} stands twice");
    value
}

pub(super) fn text(reply: &ServiceReply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// `name=value` of the cookie that a reply sets.
pub(super) fn cookie_of(reply: &ServiceReply) -> String {
    header(reply, "set-cookie").expect("a cookie is set").split(';').next().unwrap().to_owned()
}

/// What every answer of the back office carries.
fn assert_secured(reply: &ServiceReply) {
    let policy = header(reply, "content-security-policy").expect("there is a policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(header(reply, name), Some(value));
    }
    for (name, value) in &reply.headers {
        assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value}");
    }
    if header(reply, "content-type").is_some_and(|found| found.starts_with("text/html")) {
        let page = text(reply);
        for inline in ["<script>", " style=", " onclick=", " onerror=", "href=\"javascript:"] {
            assert!(!page.contains(inline), "{inline} in {page}");
        }
    }
}
