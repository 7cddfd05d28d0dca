//! The messages of a store.

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, ToSql, named_params, params};
use serde_json::value::RawValue;

use super::users::{from_column, to_column};
use super::{Store, StoreError};
use crate::desk::{Message, MessagePage, MessageQuery, MessageState, RawValueText, UnixMillis};

/// Rows that one [`Prune`] deletes at most, so that others don't wait long for it.
pub const PRUNED_ROWS_MAX: usize = 2000;

/// Messages of a page.
const PAGE_MAX: usize = 1000;

/// Bytes of payloads after which a page ends early.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Messages that are looked at for one page of a search. A page ends there with fewer than were asked for.
const SEARCHED_ROWS_MAX: usize = 50_000;

const COLUMNS: &str = "number, id, topic, user, event, sender, state, created_at, send_at, sent_at, expires_at, \
    ended_at, ended_by, offset, subscribers, received, with_id, receipts, resend_of, payload";

/// What becomes of a message. It is done only if the message is in the state `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The message's id.
    pub id: String,
    /// The state it is in.
    pub from: MessageState,
    /// The state it gets.
    pub to: MessageState,
    /// When: `sent_at` if it is sent, `ended_at` if it is retracted, cancelled or expired.
    pub at: UnixMillis,
    /// Who retracts or cancels it.
    pub by: Option<String>,
}

/// What was counted of a message. What is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its place in the order of the process that sent it.
    pub offset: Option<u64>,
    /// Subscribers whose connections it was queued for.
    pub subscribers: Option<u64>,
    /// Those who have shown that they received it.
    pub received: Option<u64>,
}

/// Which messages are forgotten, the oldest first. Those that are scheduled are not, nor those that later joiners get
/// at `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prune {
    /// Those that were written before.
    pub before: UnixMillis,
    /// Those that have so many behind them.
    pub keep_max: u64,
    /// The time it is.
    pub now: UnixMillis,
}

/// A column whose text is not what this version writes.
fn unknown(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Message> {
    let number = |column| row.get::<_, Option<i64>>(column).map(|value| value.map(from_column));
    let state = row.get_ref(6)?.as_str()?;
    let payload = RawValue::from_string(row.get(19)?).map_err(|error| unknown(19, error))?;
    Ok(Message {
        id: row.get(1)?,
        topic: row.get(2)?,
        user: row.get(3)?,
        event: row.get(4)?,
        payload: RawValueText::new(payload),
        sender: row.get(5)?,
        state: MessageState::named(state).ok_or_else(|| unknown(6, "a message in an unknown state"))?,
        created_at: from_column(row.get(7)?),
        send_at: number(8)?,
        sent_at: number(9)?,
        expires_at: number(10)?,
        ended_at: number(11)?,
        ended_by: row.get(12)?,
        offset: number(13)?,
        subscribers: number(14)?,
        received: number(15)?,
        with_id: row.get(16)?,
        receipts: row.get(17)?,
        resend_of: row.get(18)?,
    })
}

/// The text that a search looks for, in any case of letters.
struct Needle(String);

/// Letter by letter: the lower case of a whole word may depend on where a letter stands in it.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

impl Needle {
    fn is_in(&self, text: &str) -> bool {
        folded(text).contains(&self.0)
    }

    fn is_in_value(&self, value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => self.is_in(text),
            serde_json::Value::Array(values) => values.iter().any(|value| self.is_in_value(value)),
            serde_json::Value::Object(fields) => fields.values().any(|value| self.is_in_value(value)),
            _ => false,
        }
    }

    /// People look for what they see, which JSON may write with escapes.
    fn is_in_payload(&self, json: &str) -> bool {
        self.is_in(json)
            || json.contains('\\') && serde_json::from_str(json).is_ok_and(|value| self.is_in_value(&value))
    }

    fn is_in_row(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let found = self.is_in(row.get_ref(2)?.as_str()?)
            || row.get_ref(3)?.as_str_or_null()?.is_some_and(|user| self.is_in(user))
            || self.is_in_payload(row.get_ref(19)?.as_str()?);
        Ok(found)
    }
}

/// The statement of a query. All that varies in it is which of these texts it has.
fn page_sql(query: &MessageQuery) -> String {
    let mut sql = format!("SELECT {COLUMNS} FROM messages WHERE number < :before");
    if query.topic.is_some() {
        sql.push_str(" AND topic = :topic");
    }
    match &query.sender {
        Some(kind) if kind.ends_with(':') => {
            sql.push_str(" AND substr(sender, 1, instr(sender, ':')) = :sender");
        }
        Some(_) => sql.push_str(" AND sender = :sender"),
        None => {}
    }
    if let Some(state) = query.state {
        if state != MessageState::Sent {
            // What the index says of itself has to be said here too.
            sql.push_str(" AND state <> 'sent'");
        }
        sql.push_str(" AND state = '");
        sql.push_str(state.as_str());
        sql.push('\'');
    }
    sql.push_str(" ORDER BY number DESC");
    sql
}

const LAST_RUN: &str =
    "SELECT max(run) FROM messages WHERE state = 'sent' AND expires_at IS NOT NULL AND expires_at > ?1";
const DUE: &str = "WHERE state = 'scheduled' AND send_at <= ?1 ORDER BY send_at, number LIMIT ?2";
const KEPT: &str = "WHERE state = 'sent' AND expires_at IS NOT NULL AND expires_at > ?1
    ORDER BY ifnull(run, 0) DESC, CASE WHEN run IS NULL THEN 0 ELSE ifnull(offset, 9223372036854775807) END DESC,
        sent_at DESC, number DESC LIMIT ?2";

impl Store {
    /// The message of an id.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn message(&self, id: &str) -> Result<Option<Message>, StoreError> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM messages WHERE id = ?"))
            .and_then(|mut statement| statement.query_row([id], from_row).optional())
            .map_err(|error| self.failed(&error))
    }

    /// Messages, the newest first. A page may hold fewer than were asked for and still have a next one: it ends where
    /// very many were looked at for a text, and where much was found.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn messages(&self, query: &MessageQuery) -> Result<MessagePage, StoreError> {
        self.try_messages(query).map_err(|error| self.failed(&error))
    }

    fn try_messages(&self, query: &MessageQuery) -> rusqlite::Result<MessagePage> {
        let before = query.before.map_or(i64::MAX, to_column);
        let mut meant: Vec<(&str, &dyn ToSql)> = vec![(":before", &before)];
        if let Some(topic) = &query.topic {
            meant.push((":topic", topic));
        }
        if let Some(sender) = &query.sender {
            meant.push((":sender", sender));
        }
        let needle = query.text.as_deref().filter(|text| !text.is_empty()).map(|text| Needle(folded(text)));
        let limit = query.limit.clamp(1, PAGE_MAX);
        let mut statement = self.connection.prepare_cached(&page_sql(query))?;
        let mut rows = statement.query(&*meant)?;
        let mut page = MessagePage::default();
        let (mut seen, mut bytes, mut last) = (0, 0, None);
        while let Some(row) = rows.next()? {
            if page.messages.len() == limit || bytes >= PAGE_BYTES_MAX || seen == SEARCHED_ROWS_MAX {
                page.next = last;
                break;
            }
            seen += 1;
            last = Some(from_column(row.get(0)?));
            if needle.as_ref().map_or(Ok(true), |needle| needle.is_in_row(row))? {
                let message = from_row(row)?;
                bytes += message.payload.get().len();
                page.messages.push(message);
            }
        }
        Ok(page)
    }

    /// At most `limit` messages whose time has come at `now`, the earliest first.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn due_messages(&self, now: UnixMillis, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.listed(DUE, now, limit)
    }

    /// When the next message is due.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn next_due(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.connection
            .prepare_cached("SELECT min(send_at) FROM messages WHERE state = 'scheduled'")
            .and_then(|mut statement| statement.query_row((), |row| row.get::<_, Option<i64>>(0)))
            .map(|time| time.map(from_column))
            .map_err(|error| self.failed(&error))
    }

    /// Gives this process the number behind those of all that have sent what later joiners get at `now`.
    ///
    /// # Errors
    /// The store can't be read.
    pub(super) fn begin_run(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        // The others' order is asked for by nobody any more.
        let last = self.connection.query_row(LAST_RUN, [to_column(now)], |row| row.get::<_, Option<i64>>(0));
        self.run = Some(last.map_err(|error| self.failed(&error))?.unwrap_or(0).saturating_add(1));
        Ok(())
    }

    /// The messages that later joiners get at `now`, at most the `limit` newest of them, in the order in which they were
    /// broadcast: process by process, each in its own order. One whose place was not written before the process died comes
    /// behind the others of that process; those of versions that wrote no process come first, by their times.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn kept_messages(&self, now: UnixMillis, limit: usize) -> Result<Vec<Message>, StoreError> {
        let mut messages = self.listed(KEPT, now, limit)?;
        messages.reverse();
        Ok(messages)
    }

    fn listed(&self, which: &str, now: UnixMillis, limit: usize) -> Result<Vec<Message>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM messages {which}"))
            .and_then(|mut statement| {
                statement.query_map(params![to_column(now), limit], from_row)?.collect()
            })
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn insert_message(&self, message: &Message) -> rusqlite::Result<usize> {
        let number = |value: Option<u64>| value.map(to_column);
        self.connection
            .prepare_cached(
                "INSERT INTO messages (id, topic, user, event, sender, state, created_at, send_at, sent_at, expires_at,
                     ended_at, ended_by, offset, subscribers, received, with_id, receipts, resend_of, payload, run)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                message.id,
                message.topic,
                message.user,
                message.event,
                message.sender,
                message.state.as_str(),
                to_column(message.created_at),
                number(message.send_at),
                number(message.sent_at),
                number(message.expires_at),
                number(message.ended_at),
                message.ended_by,
                number(message.offset),
                number(message.subscribers),
                number(message.received),
                message.with_id,
                message.receipts,
                message.resend_of,
                message.payload.get(),
                self.run.filter(|_| message.state == MessageState::Sent),
            ])
    }

    pub(super) fn remove_message(&self, id: &str) -> rusqlite::Result<usize> {
        self.connection.prepare_cached("DELETE FROM messages WHERE id = ?")?.execute([id])
    }

    pub(super) fn set_state(&self, change: &StateChange) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached(
                "UPDATE messages SET state = :to,
                     sent_at = CASE :to WHEN 'sent' THEN :at WHEN 'scheduled' THEN NULL ELSE sent_at END,
                     run = CASE WHEN :from = 'scheduled' AND :to = 'sent' THEN :run ELSE run END,
                     ended_at = CASE WHEN :to IN ('sent', 'scheduled') THEN NULL ELSE :at END,
                     ended_by = CASE WHEN :to IN ('sent', 'scheduled') THEN NULL ELSE :by END
                 WHERE id = :id AND state = :from",
            )?
            .execute(named_params! {
                ":id": change.id,
                ":from": change.from.as_str(),
                ":to": change.to.as_str(),
                ":at": to_column(change.at),
                ":by": change.by,
                ":run": self.run,
            })
    }

    pub(super) fn set_counts(&self, id: &str, counts: Counts) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached(
                "UPDATE messages SET offset = ifnull(?2, offset), subscribers = ifnull(?3, subscribers),
                     received = ifnull(?4, received)
                 WHERE id = ?1",
            )?
            .execute(params![
                id,
                counts.offset.map(to_column),
                counts.subscribers.map(to_column),
                counts.received.map(to_column),
            ])
    }

    /// Forgets at most [`PRUNED_ROWS_MAX`] messages; returns how many.
    pub(super) fn prune_messages(&self, prune: &Prune) -> rusqlite::Result<usize> {
        let last: i64 = self
            .connection
            .prepare_cached("SELECT ifnull(max(number), 0) FROM messages")?
            .query_row((), |row| row.get(0))?;
        let beyond = last.saturating_sub(to_column(prune.keep_max));
        // From the oldest on, up to the first that is neither old nor one too many.
        let mut statement = self.connection.prepare_cached(
            "SELECT number, created_at, state = 'scheduled' OR (state = 'sent' AND ifnull(expires_at > ?, 0))
             FROM messages ORDER BY number",
        )?;
        let mut rows = statement.query([to_column(prune.now)])?;
        let mut numbers: Vec<i64> = Vec::new();
        while let Some(row) = rows.next()? {
            let (number, created_at, stays) = (row.get(0)?, from_column(row.get(1)?), row.get::<_, bool>(2)?);
            if numbers.len() == PRUNED_ROWS_MAX || number > beyond && created_at >= prune.before {
                break;
            }
            if !stays {
                numbers.push(number);
            }
        }
        drop(rows);
        let mut delete = self.connection.prepare_cached("DELETE FROM messages WHERE number = ?")?;
        for number in &numbers {
            delete.execute([number])?;
        }
        Ok(numbers.len())
    }

    /// Makes room in memory: forgets the oldest quarter of the messages that nobody waits for; returns how many.
    pub(super) fn forget_oldest_messages(&self) -> rusqlite::Result<usize> {
        self.connection.execute(
            "WITH free AS (SELECT number FROM messages WHERE state <> 'scheduled'
                 AND (state <> 'sent' OR expires_at IS NULL))
             DELETE FROM messages WHERE number IN
                 (SELECT number FROM free ORDER BY number LIMIT (SELECT 1 + count(*) / 4 FROM free))",
            (),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite goes about a statement.
    fn plan(store: &Store, sql: &str) -> String {
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let rows =
            statement.query_map(rusqlite::params_from_iter(vec![1; count]), |row| row.get::<_, String>(3));
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn no_list_reads_all_messages_or_sorts_many() {
        let store = Store::open_in_memory().unwrap();
        let check = |query: MessageQuery, expected: &str| {
            let plan = plan(&store, &page_sql(&query));
            assert!(plan.contains(expected), "{query:?}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{query:?}: {plan}");
        };
        let text = |text: &str| Some(text.to_owned());
        check(MessageQuery::default(), "USING INTEGER PRIMARY KEY");
        check(MessageQuery { topic: text("room:lobby"), ..MessageQuery::default() }, "messages_by_topic");
        check(MessageQuery { sender: text("staff:ada"), ..MessageQuery::default() }, "messages_by_sender");
        check(MessageQuery { sender: text("staff:"), ..MessageQuery::default() }, "messages_by_kind");
        check(
            MessageQuery { state: Some(MessageState::Sent), ..MessageQuery::default() },
            "INTEGER PRIMARY KEY",
        );
        for state in [MessageState::Scheduled, MessageState::Retracted, MessageState::Cancelled] {
            check(MessageQuery { state: Some(state), ..MessageQuery::default() }, "messages_by_state");
        }
        let due = plan(&store, &format!("SELECT {COLUMNS} FROM messages {DUE}"));
        assert!(due.contains("messages_due (send_at<?)") && !due.contains("TEMP B-TREE"), "{due}");
        let kept = plan(&store, &format!("SELECT {COLUMNS} FROM messages {KEPT}"));
        assert!(kept.contains("messages_kept (expires_at>?)"), "{kept}");
        let last = plan(&store, LAST_RUN);
        assert!(last.contains("messages_kept (expires_at>?)"), "{last}");
        let next = plan(&store, "SELECT min(send_at) FROM messages WHERE state = 'scheduled'");
        assert!(next.contains("messages_due"), "{next}");
    }

    #[test]
    fn a_search_knows_letters_in_any_case_and_escapes() {
        let check = |text: &str, payload: &str, found: bool| {
            assert_eq!(Needle(folded(text)).is_in_payload(payload), found, "{text} in {payload}");
        };
        check("hello", r#"{"body":"Say HELLO"}"#, true);
        check("ÄPFEL", r#"{"body":"äpfel"}"#, true);
        check("äpfel", r#"{"body":"\u00c4pfel"}"#, true);
        check(r#"say "hi""#, r#"{"more":[1,{"body":"Say \"hi\""}]}"#, true);
        check("100%", r#"{"body":"100 percent"}"#, false);
        check("a_b", r#"{"body":"axb"}"#, false);
        check("ΟΔΟΣ", r#"{"body":"οδοσ"}"#, true);
        check("line\nbreak", r#"{"body":"line\nbreak"}"#, true);
    }
}
