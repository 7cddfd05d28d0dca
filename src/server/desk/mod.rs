//! Publishing over the broker, the board and the store; and the thread that sends what is scheduled and watches what
//! was sent.

mod answers;
mod clerk;
mod drafts;
mod holds;
mod publish;
mod records;
mod tracking;
mod undo;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::ServerHandle;
use super::connect::unix_millis;
use super::store::{StateChange, StoreError, StoreWriter, Write};
use crate::auth::gate::SocketIdTemplate;
use crate::board::{Board, Kept};
use crate::broker::{Outgoing, Tally};
use crate::channel::{PayloadBuf, SendError, TopicPattern};
use crate::desk::{
    Actor, DeskError, Disconnect, DisconnectWho, Disconnected, ErrorCode, Message, MessageState, Progress,
    Publish, PublishReply, Publishing, UnixMillis,
};

pub use clerk::{Chore, Clerk, RunningClerk};
pub use records::StoreRecords;

use answers::Answers;
use holds::Holds;
use tracking::Tracking;
use undo::Undo;

/// The event that takes a message back.
pub const RETRACT: &str = "retract";

/// How long a publish waits until the shards have taken it. They have it in any case; only their counts are missing.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);

/// What a [`Publisher`] goes by.
#[derive(Debug, Clone)]
pub struct DeskConfig {
    /// The topic of a user's own.
    pub user_topic: TopicPattern,
    /// The id of a user's sockets.
    pub socket_id: SocketIdTemplate,
    /// Bytes of a topic's name.
    pub topic_bytes_max: usize,
    /// Bytes of an event's name.
    pub event_bytes_max: usize,
    /// Bytes of a payload.
    pub payload_bytes_max: usize,
    /// Messages of one request.
    pub messages_max: usize,
    /// Bytes of all payloads of one request.
    pub request_bytes_max: usize,
    /// How long a message may be kept for later joiners.
    pub lifetime_max: Duration,
    /// Messages that are kept for one topic.
    pub kept_per_topic_max: usize,
    /// Bytes of messages that are kept for all topics together.
    pub kept_bytes_max: usize,
    /// How long a request with an idempotency key is remembered.
    pub idempotency_lifetime: Duration,
    /// How many of them.
    pub idempotency_keys_max: usize,
    /// How long it is counted who has received a message.
    pub receipts_time: Duration,
    /// How long records of messages are kept.
    pub keep_records: Duration,
    /// How many of them.
    pub records_max: u64,
    /// Whether the store is a file.
    pub on_disk: bool,
}

/// Publishes for the API, the back office and the clock.
pub struct Publisher {
    server: ServerHandle,
    board: Arc<Board>,
    store: StoreWriter,
    config: DeskConfig,
    answers: Answers,
    tracking: Tracking,
    /// Messages that are being published, taken back or cancelled.
    holds: Holds,
    undo: Undo,
    /// Scheduled messages that were sent, and whose records do not say so yet.
    sent: Mutex<HashSet<String>>,
}

impl Publisher {
    /// Publishes on `server`. What the store holds of an earlier process is taken over: the messages that later joiners
    /// get, and the answers to requests that may be repeated.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn new(
        server: ServerHandle,
        board: Arc<Board>,
        store: StoreWriter,
        config: DeskConfig,
    ) -> Result<Arc<Self>, StoreError> {
        let now = unix_millis();
        let answers = Answers::new(config.idempotency_keys_max);
        for entry in store.reader().all_idempotency(now, config.idempotency_keys_max)? {
            answers.restore((entry.actor, entry.key), entry.fingerprint, entry.reply, entry.until);
        }
        const KEPT_MAX: usize = 100_000;
        for message in &store.reader().kept_messages(now, KEPT_MAX)? {
            if let Some(entry) = kept_of(message, now) {
                board.restore(&message.topic, entry, config.kept_per_topic_max);
            }
        }
        let tracking = Tracking::new(config.receipts_time);
        let (holds, undo, sent) = (Holds::default(), Undo::default(), Mutex::default());
        Ok(Arc::new(Self { server, board, store, config, answers, tracking, holds, undo, sent }))
    }

    /// Sends messages, all or none, in one step with what is kept of them: the place of the first in the node's order.
    fn send(
        &self,
        messages: &[&Message],
        receipts: &[Option<NonZeroU64>],
        tally: &Arc<Tally>,
    ) -> Result<u64, DeskError> {
        let (now, clock) = (Instant::now(), unix_millis());
        let mut kept = Vec::new();
        for (behind, message) in (0u64..).zip(messages) {
            if let Some(entry) = kept_of(message, clock) {
                kept.push((behind, &*message.topic, entry));
            }
        }
        let held: usize = kept.iter().map(|(_, _, entry)| entry.held()).sum();
        // Those who ask at the same time may go beyond it by what they ask for.
        if held > 0 && self.board.bytes() + held > self.config.kept_bytes_max {
            let sentence = "too many messages are kept for those who join later (messages.kept_bytes_max)";
            return Err(DeskError::new(ErrorCode::Overloaded, sentence));
        }
        let outgoing =
            messages.iter().zip(receipts).enumerate().map(|(index, (message, receipt))| Outgoing {
                topic: &message.topic,
                event: &message.event,
                payload: payload_of(message),
                tally: Some(tally.entry(index)),
                receipt: *receipt,
                published: Some(now),
            });
        let outgoing = outgoing.collect();
        let publish = || self.server.publish_all(outgoing);
        let sent = match kept.is_empty() {
            true => publish(),
            false => self.board.keep_all(kept, self.config.kept_per_topic_max, publish),
        };
        sent.map_err(refused)
    }

    /// Tells the subscribers of a message that it is taken back, in one step with what is kept of it.
    fn take_back(&self, message: &Message) -> Result<(), DeskError> {
        let outgoing = Outgoing {
            topic: &message.topic,
            event: RETRACT,
            payload: PayloadBuf::from(serde_json::json!({ "id": message.id })),
            tally: None,
            receipt: None,
            published: Some(Instant::now()),
        };
        let publish = || self.server.publish_all(vec![outgoing]);
        let taken = self.board.take_back(&message.topic, &message.id, publish);
        taken.map(drop).map_err(refused)
    }

    /// What has come too late is refused before anything is written.
    fn check_running(&self) -> Result<(), DeskError> {
        if self.server.is_ending() { Err(refused(SendError::Stopped)) } else { Ok(()) }
    }

    fn is_sent(&self, id: &str) -> bool {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// A message that has to be there.
    fn find(&self, id: &str) -> Result<Message, DeskError> {
        let found = records::find(&self.store, id)?;
        found.ok_or_else(|| DeskError::new(ErrorCode::NotFound, "there is no message with this id"))
    }

    /// Changes the state of a message; whether it was in the state it was thought to be in.
    fn set_state(
        &self,
        message: &Message,
        to: MessageState,
        at: UnixMillis,
        by: Option<String>,
    ) -> Result<bool, StoreError> {
        let change = StateChange { id: message.id.clone(), from: message.state, to, at, by };
        self.store.write(Write::SetState(change)).map(|rows| rows > 0)
    }
}

impl Publishing for Publisher {
    fn publish(&self, publish: Publish, actor: &Actor, at: UnixMillis) -> Result<PublishReply, DeskError> {
        self.publish_once(publish, actor, at)
    }

    fn retract(&self, id: &str, actor: &Actor, at: UnixMillis) -> Result<Message, DeskError> {
        self.check_running()?;
        let _hold = self.holds.hold_one(id);
        let message = self.find(id)?;
        match message.state {
            MessageState::Retracted => return Ok(message),
            MessageState::Sent if message.with_id => {}
            MessageState::Sent => {
                let sentence = "the message carries no id, so clients can't tell which one to take back";
                return Err(DeskError::new(ErrorCode::Conflict, sentence));
            }
            _ => return Err(DeskError::new(ErrorCode::Conflict, "the message was not sent")),
        }
        // Written first: a process that dies in between has taken back what it does not give to joiners any more.
        self.set_state(&message, MessageState::Retracted, at, Some(actor.to_string()))?;
        if let Err(error) = self.take_back(&message) {
            let (from, to) = (MessageState::Retracted, MessageState::Sent);
            let at = message.sent_at.unwrap_or(at);
            self.undo(Write::SetState(StateChange { id: message.id, from, to, at, by: None }));
            return Err(error);
        }
        self.find(id)
    }

    fn cancel(&self, id: &str, actor: &Actor, at: UnixMillis) -> Result<Message, DeskError> {
        let _hold = self.holds.hold_one(id);
        let message = self.find(id)?;
        // The record of one that was sent may not say so yet.
        let waits = message.state == MessageState::Scheduled && !self.is_sent(id);
        if !waits || !self.set_state(&message, MessageState::Cancelled, at, Some(actor.to_string()))? {
            let sentence = "the message is not waiting for its time any more";
            return Err(DeskError::new(ErrorCode::Conflict, sentence));
        }
        self.find(id)
    }

    fn disconnect(
        &self,
        disconnect: &Disconnect,
        _: &Actor,
        _: UnixMillis,
    ) -> Result<Disconnected, DeskError> {
        self.check_running()?;
        let socket_id = match &disconnect.who {
            DisconnectWho::User(user) if user.is_empty() => {
                return Err(DeskError::invalid("user", "user is empty"));
            }
            DisconnectWho::SocketId(id) if id.is_empty() => {
                return Err(DeskError::invalid("socket_id", "socket_id is empty"));
            }
            DisconnectWho::User(user) => self.config.socket_id.id_of(user),
            DisconnectWho::SocketId(id) => id.clone(),
            DisconnectWho::Connection(id) => {
                return match self.server.disconnect_connection(id, disconnect.reconnect) {
                    Some(closed) => Ok(Disconnected { sockets: u64::from(closed) }),
                    None => Err(DeskError::invalid("connection", "this is no connection's id")),
                };
            }
        };
        let counted = publish::Counted::new(&self.server, 1);
        let payload = PayloadBuf::from(serde_json::json!({ "reconnect": disconnect.reconnect }));
        let outgoing = Outgoing {
            topic: &socket_id,
            event: "disconnect",
            payload,
            tally: Some(counted.tally.entry(0)),
            receipt: None,
            published: Some(Instant::now()),
        };
        self.server.publish_all(vec![outgoing]).map_err(refused)?;
        counted.wait(COUNT_PATIENCE);
        Ok(Disconnected { sockets: counted.tally.count(0) })
    }

    fn progress(&self, id: &str) -> Option<Progress> {
        self.tracking.progress(id)
    }

    fn topic_of(&self, user: &str) -> Option<String> {
        self.config.user_topic.topic_of(user)
    }
}

/// Why the broker takes nothing.
fn refused(error: SendError) -> DeskError {
    let sentence = match error {
        SendError::Stopped => "the server stops; nothing was published",
        SendError::Overloaded => "a shard has too much to do; nothing was published, try again later",
    };
    DeskError::new(ErrorCode::Overloaded, sentence)
}

fn payload_of(message: &Message) -> PayloadBuf {
    let json = RawValue::from_string(message.payload.get().to_owned());
    json.map_or_else(|_| PayloadBuf::empty(), PayloadBuf::Json)
}

/// What later joiners get of a message, if they do at `now`.
fn kept_of(message: &Message, now: UnixMillis) -> Option<Kept> {
    let left = message.expires_at?.checked_sub(now).filter(|left| *left > 0)?;
    let until = Instant::now() + Duration::from_millis(left);
    Some(Kept::new(&message.id, &message.event, payload_of(message), until))
}
