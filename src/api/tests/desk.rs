//! A desk that writes down what it is asked for, and answers what it is told to.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::value::RawValue;

use crate::auth::connect::Secret;
use crate::desk::{
    Actor, AuditEntry, AuditQuery, ConnectionPage, ConnectionQuery, ConnectionView, Desk, DeskError,
    Disconnect, Disconnected, Draft, ErrorCode, Inspection, Message, MessagePage, MessageQuery, MessageState,
    Progress, Publish, PublishReply, Published, Publishing, RawValueText, Readiness, Records, StaffAccount,
    Target, TokenCheck, TopicPage, TopicQuery, TopicView, UnixMillis, UserView,
};
use crate::stats::Stats;

/// What was asked, and what is answered.
#[derive(Default)]
pub(super) struct Script {
    pub(super) asked: Vec<String>,
    pub(super) published: Vec<Publish>,
    pub(super) audited: Vec<AuditEntry>,
    /// What every call that may fail fails with.
    pub(super) error: Option<DeskError>,
    /// Whether the audit log can't be written.
    pub(super) log_fails: bool,
    pub(super) replayed: bool,
    pub(super) not_ready: bool,
}

#[derive(Clone, Default)]
pub(super) struct FakeDesk(Arc<Mutex<Script>>);

impl FakeDesk {
    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    pub(super) fn desk(&self) -> Desk {
        let this = Arc::new(self.clone());
        Desk {
            publishing: Arc::<Self>::clone(&this),
            inspection: Arc::<Self>::clone(&this),
            records: this,
            guesses: Arc::default(),
        }
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.script().asked)
    }

    fn note(&self, what: String) {
        self.script().asked.push(what);
    }

    fn ask(&self, what: String) -> Result<(), DeskError> {
        self.note(what);
        self.script().error.clone().map_or(Ok(()), Err)
    }
}

fn topic_of(user: &str) -> Option<String> {
    (user != "nobody").then(|| format!("user:{user}"))
}

fn published(at: usize, draft: &Draft) -> Published {
    let topic = match &draft.target {
        Target::Topic(topic) => topic.clone(),
        Target::User(user) => topic_of(user).unwrap_or_default(),
    };
    let is_sent = draft.send_at.is_none();
    Published {
        id: format!("m{at}"),
        topic,
        offset: is_sent.then_some(at as u64),
        subscribers: is_sent.then_some(2),
        durability: draft.durability,
        state: if is_sent { MessageState::Sent } else { MessageState::Scheduled },
    }
}

pub(super) fn message(id: &str, topic: &str) -> Message {
    Message {
        id: id.to_owned(),
        topic: topic.to_owned(),
        user: None,
        event: "new_msg".to_owned(),
        payload: RawValueText::new(RawValue::from_string(r#"{"body":"<b>"}"#.to_owned()).unwrap()),
        sender: "key:orders".to_owned(),
        state: MessageState::Sent,
        created_at: 1,
        send_at: None,
        sent_at: Some(1),
        expires_at: None,
        ended_at: None,
        ended_by: None,
        offset: Some(1),
        subscribers: Some(2),
        received: None,
        with_id: true,
        receipts: true,
        resend_of: None,
    }
}

fn connection() -> ConnectionView {
    ConnectionView {
        id: "0.7".to_owned(),
        transport: "websocket".to_owned(),
        user: Some("42".to_owned()),
        socket_id: Some("user_socket:42".to_owned()),
        address: None,
        connected_at: 1,
        topics: vec!["room:lobby".to_owned(), "user:42".to_owned()],
        topic_count: 2,
        waiting_bytes: 0,
    }
}

impl Publishing for FakeDesk {
    fn publish(&self, publish: Publish, actor: &Actor, at: UnixMillis) -> Result<PublishReply, DeskError> {
        self.ask(format!("publish {} as {actor} at {at}", publish.drafts.len()))?;
        let messages = publish.drafts.iter().enumerate().map(|(at, draft)| published(at, draft)).collect();
        let mut script = self.script();
        script.published.push(publish);
        Ok(PublishReply { messages, replayed: script.replayed })
    }

    fn retract(&self, id: &str, actor: &Actor, _: UnixMillis) -> Result<Message, DeskError> {
        self.ask(format!("retract {id} as {actor}"))?;
        Ok(Message { state: MessageState::Retracted, ..message(id, "room:lobby") })
    }

    fn cancel(&self, id: &str, actor: &Actor, _: UnixMillis) -> Result<Message, DeskError> {
        self.ask(format!("cancel {id} as {actor}"))?;
        Ok(Message { state: MessageState::Cancelled, ..message(id, "room:lobby") })
    }

    fn disconnect(
        &self,
        disconnect: &Disconnect,
        actor: &Actor,
        _: UnixMillis,
    ) -> Result<Disconnected, DeskError> {
        self.ask(format!("disconnect {:?} {} as {actor}", disconnect.who, disconnect.reconnect))?;
        Ok(Disconnected { sockets: 2 })
    }

    fn progress(&self, id: &str) -> Option<Progress> {
        (id == "m1").then(|| Progress { addressed: 2, received: 1, ..Progress::default() })
    }

    fn topic_of(&self, user: &str) -> Option<String> {
        topic_of(user)
    }
}

impl Inspection for FakeDesk {
    fn connections(&self, query: &ConnectionQuery) -> ConnectionPage {
        self.note(format!("{query:?}"));
        ConnectionPage { connections: vec![connection()], next: None, total: 9 }
    }

    fn topics(&self, query: &TopicQuery) -> TopicPage {
        self.note(format!("{query:?}"));
        let view = |topic: &str| TopicView {
            topic: topic.to_owned(),
            subscribers: 2,
            websocket: 1,
            longpoll: 1,
            behind: 0,
        };
        TopicPage { topics: vec![view("room:lobby"), view("room:staff")], total: 5 }
    }

    fn subscribers(&self, _: &str) -> Option<u64> {
        Some(2)
    }

    fn user(&self, user: &str) -> UserView {
        let connections = vec![connection()];
        UserView { user: user.to_owned(), online: true, connections, topic: topic_of(user) }
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn readiness(&self) -> Readiness {
        let not_ready = self.script().not_ready;
        let problems = if not_ready { vec!["The server is shutting down.".to_owned()] } else { Vec::new() };
        Readiness { ready: !not_ready, problems }
    }

    fn check_token(&self, token: &Secret) -> TokenCheck {
        let valid = token.expose() == "good";
        let reason = (!valid).then(|| "token expired".to_owned());
        TokenCheck {
            valid,
            reason,
            user: valid.then(|| "42".to_owned()),
            socket_id: None,
            expires_at: Some(7),
        }
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

impl Records for FakeDesk {
    fn message(&self, id: &str) -> Result<Option<Message>, DeskError> {
        self.ask(format!("message {id}"))?;
        Ok(match id {
            "m1" => Some(message(id, "room:lobby")),
            "s1" => Some(message(id, "room:staff")),
            _ => None,
        })
    }

    fn messages(&self, query: &MessageQuery) -> Result<MessagePage, DeskError> {
        self.ask(format!("{query:?}"))?;
        Ok(MessagePage { messages: vec![message("m1", "room:lobby")], next: Some(7) })
    }

    fn append_audit(&self, entry: &AuditEntry) -> Result<(), DeskError> {
        let mut script = self.script();
        if script.log_fails {
            return Err(DeskError::new(ErrorCode::StoreUnavailable, "The disk is full."));
        }
        script.audited.push(entry.clone());
        Ok(())
    }

    fn audit(&self, _: &AuditQuery) -> Result<Vec<AuditEntry>, DeskError> {
        Ok(Vec::new())
    }

    fn staff(&self, _: &str) -> Result<Option<StaffAccount>, DeskError> {
        Ok(None)
    }

    fn set_staff_password(&self, _: &str, _: &Secret, _: UnixMillis) -> Result<bool, DeskError> {
        Err(DeskError::new(ErrorCode::StoreUnavailable, "The API sets no passwords."))
    }
}
