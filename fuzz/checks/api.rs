use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use hailer::api::{Api, Code, Config, Key, Scope};
use hailer::auth::connect::Secret;
use hailer::desk::{
    Actor, AuditEntry, AuditQuery, ConnectionPage, ConnectionQuery, Desk, DeskError, Disconnect,
    DisconnectWho, Disconnected, Draft, ErrorCode, Inspection, Message, MessagePage, MessageQuery,
    MessageState, Progress, Publish, PublishReply, Published, Publishing, Readiness, Records, StaffAccount,
    Target, TokenCheck, TopicPage, TopicQuery, UserView,
};
use hailer::http::Method;
use hailer::service::{Service, ServiceReply, ServiceRequest};
use hailer::stats::Stats;
use serde_json::Value;

const AT: u64 = 1_800_000_000_000;
const KEY: &str = "hlr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const LIMITED: &str = "hlr_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
const PAYLOAD_BYTES_MAX: usize = 200;
const MESSAGES_MAX: usize = 4;

/// A request: a letter for its method, a space and its target; lines of fields, where `k` stands for a good key, `l`
/// for one that is for some topics, and `j` announces JSON; an empty line; the body.
pub(super) fn check(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let reply = answer(&request);
    assert_eq!(reply, answer(&request), "the same is answered in the same way");
}

fn request(data: &[u8]) -> Option<ServiceRequest> {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let head = std::str::from_utf8(&data[..end]).ok()?;
    let body = data.get(end + 2..).unwrap_or_default().to_vec();
    let mut lines = head.split('\n');
    let (method, target) = lines.next()?.split_once(' ')?;
    let method = match method {
        "G" => Method::Get,
        "H" => Method::Head,
        "P" => Method::Post,
        "O" => Method::Options,
        _ => Method::Delete,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = match line {
            "k" => ("x-api-key", KEY),
            "l" => ("x-api-key", LIMITED),
            "j" => ("content-type", "application/json"),
            line => line.split_once(": ")?,
        };
        headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Some(ServiceRequest {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
        peer,
        local: None,
    })
}

fn key(name: &str, key: &str, topics: &[&str]) -> Key {
    Key {
        name: name.to_owned(),
        hash: Key::hash_of(&Secret::new(key)),
        scopes: Scope::ALL.to_vec(),
        topics: topics.iter().map(|topic| topic.parse().expect("it is a pattern")).collect(),
    }
}

fn answer(request: &ServiceRequest) -> ServiceReply {
    let desk = Arc::new(CheckingDesk::default());
    let mut config =
        Config::new(vec![key("all", KEY, &[]), key("limited", LIMITED, &["room:*", "user:{sub}"])]);
    config.payload_bytes_max = PAYLOAD_BYTES_MAX;
    config.messages_per_request_max = MESSAGES_MAX;
    let api = Api::new(
        Desk {
            publishing: Arc::<CheckingDesk>::clone(&desk),
            inspection: Arc::<CheckingDesk>::clone(&desk),
            records: Arc::<CheckingDesk>::clone(&desk),
            guesses: Arc::default(),
        },
        config,
    );
    let reply = api.call(request, AT);
    check_reply(request, &reply);
    let done = *desk.done.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(done <= 1, "a request does one thing");
    assert!(done == 0 || reply.status.code() < 400, "what is refused is not done");
    reply
}

fn check_reply(request: &ServiceRequest, reply: &ServiceReply) {
    let of = |name| reply.headers.iter().filter(move |(known, _)| *known == name).map(|(_, value)| &**value);
    assert!(of("cache-control").eq(["no-store"]) && of("x-content-type-options").eq(["nosniff"]));
    for (name, value) in &reply.headers {
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name} is visible ASCII");
    }
    let mut types = of("content-type");
    let Some(content_type) = types.next() else {
        assert!(reply.body.is_empty() && request.path == "/api/broadcast" && reply.status.code() == 202);
        return;
    };
    assert!(types.next().is_none());
    if content_type != "application/json" {
        assert_eq!((&*request.path, reply.status.code()), ("/metrics", 200));
        return;
    }
    let body: Value = serde_json::from_slice(&reply.body).expect("the body is JSON");
    if reply.status.code() < 400 {
        assert!(body.get("error").is_none());
        return;
    }
    let error = &body["error"];
    let code = Code::ALL.iter().find(|code| error["code"] == code.as_str()).expect("the code is known");
    assert_eq!(code.status(), reply.status);
    assert!(error["message"].as_str().is_some_and(|message| message.ends_with('.')), "a sentence");
    for (code, name) in [(401, "www-authenticate"), (405, "allow"), (429, "retry-after")] {
        assert_eq!(of(name).next().is_some(), reply.status.code() == code, "{name}");
    }
    let text = String::from_utf8_lossy(&reply.body);
    assert!(!text.contains(KEY) && !text.contains(LIMITED), "a key is not repeated");
}

fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_control)
}

fn refused() -> DeskError {
    DeskError::new(ErrorCode::NotFound, "There is no such thing.")
}

/// Holds what it is given against what the traits demand.
#[derive(Default)]
struct CheckingDesk {
    done: Mutex<usize>,
}

impl CheckingDesk {
    fn count(&self) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

fn check_draft(draft: &Draft, actor: &Actor) -> Published {
    let topic = match &draft.target {
        Target::Topic(topic) => topic.clone(),
        Target::User(user) => {
            assert!(is_name(user));
            format!("user:{user}")
        }
    };
    assert!(actor.name == "all" || topic.starts_with("room:") || topic.starts_with("user:"));
    assert!(matches!(draft.target, Target::User(_)) || is_name(&topic) && topic != "phoenix");
    assert!(is_name(&draft.event) && !draft.event.starts_with("phx_") && draft.event != "disconnect");
    assert!(draft.payload.get().len() <= PAYLOAD_BYTES_MAX);
    let payload: Value = match serde_json::from_str(draft.payload.get()) {
        Ok(payload) => payload,
        // A number of any size is JSON, but none that a `Value` holds.
        Err(error) => {
            assert!(error.to_string().starts_with("number out of range"), "{error}");
            Value::Object(serde_json::Map::new())
        }
    };
    assert!(!draft.with_id || payload.is_object(), "an id needs an object");
    assert!(draft.with_id || draft.lifetime.is_none());
    assert!(draft.lifetime.is_none_or(|lifetime| (1..=2_592_000).contains(&lifetime.as_secs())));
    assert!(draft.send_at.is_none_or(|time| time <= AT + 366 * 86_400_000));
    let state = if draft.send_at.is_some() { MessageState::Scheduled } else { MessageState::Sent };
    Published {
        id: "m".to_owned(),
        topic,
        offset: None,
        subscribers: None,
        durability: draft.durability,
        state,
    }
}

impl Publishing for CheckingDesk {
    fn publish(&self, publish: Publish, actor: &Actor, _: u64) -> Result<PublishReply, DeskError> {
        self.count();
        assert!((1..=MESSAGES_MAX).contains(&publish.drafts.len()));
        assert!(publish.idempotency_key.as_deref().is_none_or(is_name));
        let messages = publish.drafts.iter().map(|draft| check_draft(draft, actor)).collect();
        Ok(PublishReply { messages, replayed: false })
    }

    fn retract(&self, id: &str, _: &Actor, _: u64) -> Result<Message, DeskError> {
        assert!(is_name(id));
        Err(refused())
    }

    fn cancel(&self, id: &str, _: &Actor, _: u64) -> Result<Message, DeskError> {
        assert!(is_name(id));
        Err(refused())
    }

    fn disconnect(&self, disconnect: &Disconnect, actor: &Actor, _: u64) -> Result<Disconnected, DeskError> {
        self.count();
        match &disconnect.who {
            DisconnectWho::User(id) => assert!(is_name(id)),
            DisconnectWho::SocketId(id) | DisconnectWho::Connection(id) => {
                assert!(is_name(id) && actor.name == "all");
            }
        }
        Ok(Disconnected { sockets: 0 })
    }

    fn progress(&self, _: &str) -> Option<Progress> {
        None
    }

    fn topic_of(&self, user: &str) -> Option<String> {
        Some(format!("user:{user}"))
    }
}

impl Inspection for CheckingDesk {
    fn connections(&self, query: &ConnectionQuery) -> ConnectionPage {
        assert!((1..=1000).contains(&query.limit));
        ConnectionPage::default()
    }

    fn topics(&self, query: &TopicQuery) -> TopicPage {
        assert!((1..=1000).contains(&query.limit));
        TopicPage::default()
    }

    fn subscribers(&self, _: &str) -> Option<u64> {
        None
    }

    fn user(&self, user: &str) -> UserView {
        assert!(is_name(user));
        UserView { user: user.to_owned(), ..UserView::default() }
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn readiness(&self) -> Readiness {
        Readiness { ready: true, problems: Vec::new() }
    }

    fn check_token(&self, _: &Secret) -> TokenCheck {
        TokenCheck { valid: false, reason: None, user: None, socket_id: None, expires_at: None }
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

impl Records for CheckingDesk {
    fn message(&self, id: &str) -> Result<Option<Message>, DeskError> {
        assert!(is_name(id));
        Ok(None)
    }

    fn messages(&self, query: &MessageQuery) -> Result<MessagePage, DeskError> {
        assert!((1..=1000).contains(&query.limit) && query.before.is_none_or(|before| before >> 63 == 0));
        Ok(MessagePage::default())
    }

    fn append_audit(&self, _: &AuditEntry) -> Result<(), DeskError> {
        Ok(())
    }

    fn audit(&self, _: &AuditQuery) -> Result<Vec<AuditEntry>, DeskError> {
        Ok(Vec::new())
    }

    fn staff(&self, _: &str) -> Result<Option<StaffAccount>, DeskError> {
        Ok(None)
    }

    fn set_staff_password(&self, _: &str, _: &Secret, _: u64) -> Result<bool, DeskError> {
        Err(refused())
    }
}
