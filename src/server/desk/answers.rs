//! Answers to requests that may be repeated.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::desk::{DeskError, ErrorCode, UnixMillis};

/// A request: who makes it, and the key it has.
type Name = (String, String);

/// What was asked for, as a hash.
pub(super) type Fingerprint = [u8; 32];

/// Bytes of answers that are remembered: of requests with very many messages, far fewer than of others.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

struct Answer {
    fingerprint: Fingerprint,
    /// JSON; `None` while the request is under way.
    reply: Option<String>,
    until: UnixMillis,
}

#[derive(Default)]
struct Table {
    answers: HashMap<Name, Answer>,
    /// Of the answers that are there.
    bytes: usize,
}

impl Table {
    /// Forgets what is over.
    fn tidy(&mut self, at: UnixMillis) {
        let bytes = &mut self.bytes;
        self.answers.retain(|_, answer| {
            let stays = answer.reply.is_none() || answer.until > at;
            *bytes -= if stays { 0 } else { answer.bytes() };
            stays
        });
    }

    fn insert(&mut self, name: Name, answer: Answer) {
        self.bytes += answer.bytes();
        if let Some(before) = self.answers.insert(name, answer) {
            self.bytes -= before.bytes();
        }
    }
}

impl Answer {
    fn bytes(&self) -> usize {
        self.reply.as_ref().map_or(0, String::len)
    }
}

/// The answers that are good at present, and the requests under way.
pub(super) struct Answers {
    table: Mutex<Table>,
    max: usize,
    bytes_max: usize,
}

/// What a request is to do.
pub(super) enum Begun<'a> {
    /// Give this answer once more.
    Replay(String),
    /// Do what it asks for.
    Go(Claim<'a>),
}

/// A key that is taken. Dropped without an answer it is free again.
pub(super) struct Claim<'a> {
    answers: &'a Answers,
    pub(super) name: Name,
    pub(super) fingerprint: Fingerprint,
    pub(super) until: UnixMillis,
    answered: bool,
}

impl Answers {
    pub(super) fn new(max: usize) -> Self {
        Self { table: Mutex::default(), max, bytes_max: ANSWER_BYTES_MAX }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in an answer of an earlier process.
    pub(super) fn restore(&self, name: Name, fingerprint: Fingerprint, reply: String, until: UnixMillis) {
        self.lock().insert(name, Answer { fingerprint, reply: Some(reply), until });
    }

    /// Begins a request at `at`, whose answer is good until `until`.
    pub(super) fn begin(
        &self,
        name: Name,
        fingerprint: Fingerprint,
        at: UnixMillis,
        until: UnixMillis,
    ) -> Result<Begun<'_>, DeskError> {
        let mut table = self.lock();
        match table.answers.get(&name) {
            Some(answer) if answer.until <= at && answer.reply.is_some() => {}
            Some(answer) if answer.fingerprint != fingerprint => {
                let sentence = "this idempotency key was used for another request";
                return Err(DeskError::new(ErrorCode::IdempotencyMismatch, sentence));
            }
            Some(Answer { reply: Some(reply), .. }) => return Ok(Begun::Replay(reply.clone())),
            Some(_) => {
                let sentence = "a request with this idempotency key is still under way";
                return Err(DeskError::new(ErrorCode::IdempotencyInProgress, sentence));
            }
            None => {}
        }
        let is_full = |table: &Table| table.answers.len() >= self.max || table.bytes >= self.bytes_max;
        if is_full(&table) {
            table.tidy(at);
        }
        if is_full(&table) {
            let sentence = "too many idempotency keys are in use; try again later";
            return Err(DeskError::new(ErrorCode::Overloaded, sentence));
        }
        table.insert(name.clone(), Answer { fingerprint, reply: None, until });
        Ok(Begun::Go(Claim { answers: self, name, fingerprint, until, answered: false }))
    }

    /// Forgets what is over.
    pub(super) fn forget_expired(&self, at: UnixMillis) {
        let mut table = self.lock();
        table.tidy(at);
        if table.answers.is_empty() {
            *table = Table::default();
        }
    }
}

impl Claim<'_> {
    /// The request is answered.
    pub(super) fn answer(mut self, reply: String) {
        let (fingerprint, until, reply) = (self.fingerprint, self.until, Some(reply));
        self.answers.lock().insert(self.name.clone(), Answer { fingerprint, reply, until });
        self.answered = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.answers.lock().answers.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: UnixMillis = 60_000;

    fn begin(answers: &Answers, key: &str, what: u8, at: UnixMillis) -> Result<String, ErrorCode> {
        let name = ("key:a".to_owned(), key.to_owned());
        match answers.begin(name, [what; 32], at, at + MINUTE) {
            Ok(Begun::Replay(reply)) => Ok(reply),
            Ok(Begun::Go(claim)) => {
                claim.answer(format!("answer {what}"));
                Ok("done".to_owned())
            }
            Err(error) => Err(error.code),
        }
    }

    #[test]
    fn a_request_is_done_once_and_answered_twice() {
        let answers = Answers::new(10);
        assert_eq!(begin(&answers, "k", 1, 0).as_deref(), Ok("done"));
        assert_eq!(begin(&answers, "k", 1, 5).as_deref(), Ok("answer 1"));
        assert_eq!(begin(&answers, "k", 2, 5), Err(ErrorCode::IdempotencyMismatch));
        assert_eq!(begin(&answers, "k", 2, MINUTE).as_deref(), Ok("done"), "its time is over");
    }

    #[test]
    fn a_request_under_way_is_not_done_a_second_time_and_a_failed_one_is() {
        let answers = Answers::new(10);
        let name = || ("key:a".to_owned(), "k".to_owned());
        let Ok(Begun::Go(claim)) = answers.begin(name(), [1; 32], 0, 10) else { panic!("it is the first") };
        assert_eq!(begin(&answers, "k", 1, 50), Err(ErrorCode::IdempotencyInProgress));
        drop(claim);
        assert_eq!(begin(&answers, "k", 1, 50).as_deref(), Ok("done"));
    }

    #[test]
    fn keys_are_bounded() {
        let answers = Answers::new(2);
        begin(&answers, "a", 1, 0).unwrap();
        begin(&answers, "b", 1, MINUTE / 2).unwrap();
        assert_eq!(begin(&answers, "c", 1, MINUTE / 2), Err(ErrorCode::Overloaded));
        assert_eq!(begin(&answers, "c", 1, MINUTE).as_deref(), Ok("done"), "a is over");
        answers.forget_expired(10 * MINUTE);
        assert!(answers.lock().answers.is_empty());
    }

    #[test]
    fn bytes_of_answers_are_bounded() {
        let answers = Answers { bytes_max: 20, ..Answers::new(10) };
        for key in ["a", "b", "c"] {
            assert_eq!(begin(&answers, key, 1, 0).as_deref(), Ok("done"), "so far there are less than 20");
        }
        assert_eq!(begin(&answers, "d", 1, 0), Err(ErrorCode::Overloaded));
        assert_eq!(begin(&answers, "a", 1, 0).as_deref(), Ok("answer 1"));
        assert_eq!(begin(&answers, "a", 2, MINUTE).as_deref(), Ok("done"), "all are over");
        assert_eq!(answers.lock().bytes, "answer 2".len());
    }
}
