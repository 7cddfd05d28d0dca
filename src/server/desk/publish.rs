//! One request to publish: from its drafts to its answer.

use std::num::NonZeroU64;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::answers::{Begun, Claim, Fingerprint};
use super::drafts::{ID_BYTES, Prepared};
use super::{COUNT_PATIENCE, Publisher, ServerHandle, refused};
use crate::broker::Tally;
use crate::channel::SendError;
use crate::desk::{
    Actor, DeskError, Draft, Durability, ErrorCode, IDEMPOTENCY_KEY_BYTES_MAX, Message, MessageState,
    Publish, PublishReply, Published, Target, UnixMillis,
};
use crate::server::store::{Counts, Idempotency, Write};

/// A tally that can be waited for.
pub(super) struct Counted {
    pub(super) tally: Arc<Tally>,
    done: Arc<(Mutex<bool>, Condvar)>,
}

impl Counted {
    pub(super) fn new(server: &ServerHandle, broadcasts: usize) -> Self {
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&done);
        let tally = server.tally(broadcasts, move || {
            *told.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            told.1.notify_all();
        });
        Self { tally, done }
    }

    /// Waits until every shard has counted, but no longer than that.
    pub(super) fn wait(&self, patience: Duration) {
        let done = self.done.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it is done is asked of the tally.
        drop(self.done.1.wait_timeout_while(done, patience, |done| !*done));
    }
}

/// Messages on their way, in the order of their drafts.
struct Batch {
    prepared: Vec<Prepared>,
    /// Those that are sent at once.
    now: Vec<usize>,
}

impl Batch {
    fn messages_to_send(&self) -> Vec<&Message> {
        self.now.iter().map(|index| &self.prepared[*index].message).collect()
    }

    /// The records that have to be there before anybody gets anything.
    fn first(&self) -> Vec<Message> {
        let first = self.prepared.iter().filter(|prepared| {
            prepared.durability == Durability::Disk || prepared.message.state == MessageState::Scheduled
        });
        first.map(|prepared| prepared.message.clone()).collect()
    }
}

impl Publisher {
    /// Publishes, or answers as a request with the same key was answered.
    pub(super) fn publish_once(
        &self,
        publish: Publish,
        actor: &Actor,
        at: UnixMillis,
    ) -> Result<PublishReply, DeskError> {
        self.check_size(&publish.drafts)?;
        let Some(key) = publish.idempotency_key else {
            return self.publish_drafts(publish.drafts, actor, at, None);
        };
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || key.chars().any(char::is_control) {
            let sentence = "an idempotency key has 1 to 255 bytes, and no control characters";
            return Err(DeskError::invalid("idempotency_key", sentence));
        }
        let lifetime = u64::try_from(self.config.idempotency_lifetime.as_millis()).unwrap_or(u64::MAX);
        let until = at.saturating_add(lifetime);
        match self.answers.begin((actor.to_string(), key), fingerprint(&publish.drafts), at, until)? {
            Begun::Replay(reply) => {
                let reply: PublishReply = serde_json::from_str(&reply).map_err(|_| {
                    DeskError::new(ErrorCode::StoreUnavailable, "the answer in the store can't be read")
                })?;
                Ok(PublishReply { replayed: true, ..reply })
            }
            Begun::Go(claim) => self.publish_drafts(publish.drafts, actor, at, Some(claim)),
        }
    }

    fn check_size(&self, drafts: &[Draft]) -> Result<(), DeskError> {
        if drafts.is_empty() {
            return Err(DeskError::invalid("messages", "there is no message"));
        }
        let too_large = |sentence: String| {
            let sentence = sentence.into();
            Err(DeskError { code: ErrorCode::TooLarge, sentence, field: Some("messages".to_owned()) })
        };
        if drafts.len() > self.config.messages_max {
            return too_large(format!("more than {} messages in one request", self.config.messages_max));
        }
        let bytes: usize = drafts.iter().map(|draft| draft.payload.get().len()).sum();
        if bytes > self.config.request_bytes_max {
            return too_large(format!("the payloads hold more than {} bytes", self.config.request_bytes_max));
        }
        Ok(())
    }

    fn publish_drafts(
        &self,
        drafts: Vec<Draft>,
        actor: &Actor,
        at: UnixMillis,
        claim: Option<Claim<'_>>,
    ) -> Result<PublishReply, DeskError> {
        let batch = self.prepare_all(drafts, actor, at)?;
        let receipts = receipts(&batch)?;
        self.check_running()?;
        if claim.is_some() {
            // The answer of a request that came to nothing is forgotten before this one's is noted.
            self.finish_undoing()?;
        }
        let first = batch.first();
        let ids: Vec<String> = first.iter().map(|message| message.id.clone()).collect();
        // Nobody sends, takes back or cancels what may not come to be.
        let hold = self.holds.hold(ids.clone());
        if !first.is_empty() {
            // A process that dies behind this is asked again, and answers without the counts.
            let provisional = claim.as_ref().map(|claim| entry(claim, &self.reply(&batch, None, None)));
            self.store.write(Write::InsertMessages { messages: first, idempotency: provisional })?;
        }
        let counted = Counted::new(&self.server, batch.now.len());
        let sent = match batch.now.is_empty() {
            true => Ok(0),
            false => self.send(&batch.messages_to_send(), &receipts, &counted.tally),
        };
        let first_place = match sent {
            Ok(place) => place,
            Err(error) => {
                if !ids.is_empty() {
                    let idempotency = claim.as_ref().map(|claim| claim.name.clone());
                    self.undo(Write::RemoveMessages { ids, idempotency });
                }
                return Err(error);
            }
        };
        drop(hold);
        if !batch.now.is_empty() {
            counted.wait(COUNT_PATIENCE);
        }
        let mut reply = self.reply(&batch, Some(first_place), Some(&counted.tally));
        let tracked = batch.messages_to_send().into_iter().map(|message| message.id.clone());
        let tracked: Vec<_> = tracked.zip(receipts).enumerate().collect();
        self.record(batch, &mut reply, claim);
        // Behind the record, since the count may be over at once and is noted there.
        for (index, (id, receipt)) in tracked {
            if let Some(receipt) = receipt {
                self.tracking.begin(&id, receipt, counted.tally.entry(index), Instant::now());
            }
        }
        Ok(reply)
    }

    fn prepare_all(&self, drafts: Vec<Draft>, actor: &Actor, at: UnixMillis) -> Result<Batch, DeskError> {
        let mut random = vec![0; drafts.len() * ID_BYTES];
        fill(&mut random)?;
        let (random, _) = random.as_chunks::<ID_BYTES>();
        let mut prepared = Vec::with_capacity(drafts.len());
        for ((index, draft), random) in drafts.into_iter().enumerate().zip(random) {
            prepared.push(self.config.prepare(index, draft, random, actor, at)?);
        }
        let is_now = |(_, prepared): &(usize, &Prepared)| prepared.message.state == MessageState::Sent;
        let now = prepared.iter().enumerate().filter(is_now).map(|(index, _)| index).collect();
        Ok(Batch { prepared, now })
    }

    /// The answer, as far as it is known.
    fn reply(&self, batch: &Batch, first_place: Option<u64>, tally: Option<&Arc<Tally>>) -> PublishReply {
        let counted = tally.filter(|tally| tally.is_done());
        let mut places = 0u64..;
        let messages = batch.prepared.iter().map(|Prepared { message, durability }| {
            let behind = (message.state == MessageState::Sent).then(|| places.next()).flatten();
            let index = behind.and_then(|behind| usize::try_from(behind).ok());
            // What has its time to come lies in the store already.
            let durability = match message.state {
                MessageState::Scheduled if self.config.on_disk => Durability::Disk,
                _ => *durability,
            };
            Published {
                id: message.id.clone(),
                topic: message.topic.clone(),
                offset: first_place.zip(behind).map(|(first, behind)| first + behind),
                subscribers: counted.zip(index).map(|(tally, index)| tally.count(index)),
                durability,
                state: message.state,
            }
        });
        PublishReply { messages: messages.collect(), replayed: false }
    }

    /// Has the records written that may come after the messages, and what is known now of those that came before.
    fn record(&self, batch: Batch, reply: &mut PublishReply, claim: Option<Claim<'_>>) {
        let (mut messages, mut counts) = (Vec::new(), Vec::new());
        let mut waiting = Vec::new();
        for (at, Prepared { message, durability }) in batch.prepared.into_iter().enumerate() {
            let Published { offset, subscribers, .. } = reply.messages[at];
            match (message.state, durability) {
                (MessageState::Scheduled, _) | (_, Durability::None) => {}
                (_, Durability::Disk) => {
                    let counts_of = Counts { offset, subscribers, received: None };
                    counts.push(Write::SetCounts { id: message.id, counts: counts_of });
                }
                (_, Durability::Memory) => {
                    waiting.push(at);
                    messages.push(Message { offset, subscribers, ..message });
                }
            }
        }
        // A record that finds no room is missing; its message was sent all the same, and the answer says so.
        let idempotency = claim.as_ref().map(|claim| entry(claim, reply));
        let submitted = match (messages.is_empty(), idempotency) {
            (true, None) => Ok(()),
            (true, Some(entry)) => self.store.submit(Write::PutIdempotency(entry)),
            (false, idempotency) => self.store.submit(Write::InsertMessages { messages, idempotency }),
        };
        if submitted.is_err() {
            waiting.iter().for_each(|at| reply.messages[*at].durability = Durability::None);
        }
        if !counts.is_empty() {
            let _ = self.store.submit(Write::All(counts));
        }
        if let Some(claim) = claim {
            claim.answer(serde_json::to_string(reply).unwrap_or_default());
        }
    }
}

/// A number for each message whose receipts are counted, which nobody can guess.
fn receipts(batch: &Batch) -> Result<Vec<Option<NonZeroU64>>, DeskError> {
    let messages = batch.messages_to_send();
    let number = |message: &&Message| match message.receipts {
        true => random_number().map(Some),
        false => Ok(None),
    };
    messages.iter().map(number).collect()
}

pub(super) fn random_number() -> Result<NonZeroU64, DeskError> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(NonZeroU64::new(u64::from_be_bytes(bytes)).unwrap_or(NonZeroU64::MIN))
}

fn fill(bytes: &mut [u8]) -> Result<(), DeskError> {
    // The system has no random bytes to give while it starts.
    getrandom::fill(bytes).map_err(|_| refused(SendError::Overloaded))
}

fn entry(claim: &Claim<'_>, reply: &PublishReply) -> Idempotency {
    let (actor, key) = claim.name.clone();
    let reply = serde_json::to_string(reply).unwrap_or_default();
    Idempotency { actor, key, fingerprint: claim.fingerprint, reply, until: claim.until }
}

/// A hash of what is asked for.
fn fingerprint(drafts: &[Draft]) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    };
    for draft in drafts {
        let (kind, target) = match &draft.target {
            Target::Topic(topic) => ("topic", topic),
            Target::User(user) => ("user", user),
        };
        add(kind);
        add(target);
        add(&draft.event);
        add(draft.payload.get());
        let Draft { durability, lifetime, send_at, with_id, receipts, resend_of, .. } = draft;
        add(&format!("{durability:?} {lifetime:?} {send_at:?} {with_id} {receipts} {resend_of:?}"));
    }
    hash.finalize().into()
}
