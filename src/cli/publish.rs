//! `hailer publish`

use std::io::Read;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Failure;
use super::args::parse_timeout;
use super::client::{self, ApiOptions, Client};
use super::users::{date, shown};
use crate::auth::UnixTime;
use crate::desk::{self, MessageState, Published};

/// The last second of the year 9999: what lies behind it was meant as milliseconds.
const LAST_SECOND: UnixTime = 253_402_300_799;
/// What is read of a payload on stdin.
const PAYLOAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  hailer publish room:lobby 'maintenance in 5 minutes' --severity warning
  hailer publish --user 42 'your order was sent' --link https://example.com/7
  hailer publish room:lobby --event price --payload '{\"eur\": 5}'
  hailer publish room:lobby 'open again' --at 2030-01-31T09:00:00+01:00";

/// A message, and what is promised about it.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", client::HELP))]
pub(super) struct Publish {
    /// The topic it goes to; none with --user
    #[arg(value_name = "TOPIC")]
    first: Option<String>,

    /// What it says: the payload is then {"body": BODY}
    #[arg(value_name = "BODY")]
    second: Option<String>,

    /// A user, rather than a topic
    #[arg(long, value_name = "ID")]
    user: Option<String>,

    /// The event's name
    #[arg(long, value_name = "NAME", default_value = "new_msg")]
    event: String,

    /// The payload as JSON, rather than a body; "-" reads it from stdin
    #[arg(long, value_name = "JSON", conflicts_with_all = ["title", "link", "severity"])]
    payload: Option<String>,

    /// A title beside the body
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// A link beside the body
    #[arg(long, value_name = "URL")]
    link: Option<String>,

    /// How urgent the body is
    #[arg(long, value_name = "LEVEL")]
    severity: Option<Severity>,

    /// For how long those get it who join later, such as 10m
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    expires_in: Option<Duration>,

    /// When it is sent: 2030-01-31T09:00:00+01:00, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<UnixTime>,

    /// What is promised when this command is done [default: as the server is configured]
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,

    /// Puts the message's id into the payload, so that the message can be retracted
    #[arg(long)]
    with_id: bool,

    /// Counts who has received it
    #[arg(long)]
    receipts: bool,

    /// A second publish with the same key, soon after, changes nothing
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// Prints JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Info,
    Warning,
    Critical,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Durability {
    /// Every shard has it; there is no record
    None,
    /// The same, and its record is written soon
    Memory,
    /// Its record is on the disk
    Disk,
}

impl From<Durability> for desk::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::None => Self::None,
            Durability::Memory => Self::Memory,
            Durability::Disk => Self::Disk,
        }
    }
}

/// The payload of a body, as the notifications of the demo and the back office have it.
#[derive(Serialize)]
struct Notice<'a> {
    body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    event: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<desk::Durability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<UnixTime>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    with_id: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    receipts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

pub(super) fn run(publish: &Publish) -> Result<(), Failure> {
    let (topic, body) = publish.target()?;
    let payload = publish.payload(body)?;
    let request = Request {
        topic,
        user: publish.user.as_deref(),
        event: &publish.event,
        payload: &payload,
        durability: publish.durability.map(Into::into),
        expires_in: publish.expires_in.map(|time| time.as_secs()),
        send_at: publish.at,
        with_id: publish.with_id,
        receipts: publish.receipts,
        idempotency_key: publish.idempotency_key.as_deref(),
    };
    let published: Published = Client::new(&publish.api)?.post("/api/v1/publish", &request)?;
    let text = if publish.json { client::json(&published)? } else { in_words(&published, publish.at) };
    Ok(super::print(&text)?)
}

fn usage(message: &str) -> Failure {
    Failure { message: message.to_owned(), usage: true }
}

impl Publish {
    /// The topic, unless it goes to a user, and the body.
    fn target(&self) -> Result<(Option<&str>, Option<&str>), Failure> {
        match (&self.user, &self.first, &self.second) {
            (Some(_), _, Some(_)) => Err(usage("give a topic or --user, not both")),
            (Some(_), body, None) => Ok((None, body.as_deref())),
            (None, Some(topic), body) => Ok((Some(topic), body.as_deref())),
            (None, None, _) => Err(usage("give a topic, or --user ID; see hailer publish --help")),
        }
    }

    fn payload(&self, body: Option<&str>) -> Result<Box<RawValue>, Failure> {
        let payload = match (body, self.payload.as_deref()) {
            (Some(_), Some(_)) => return Err(usage("give a body or --payload, not both")),
            (None, None) => return Err(usage("give a body, or --payload JSON; see hailer publish --help")),
            (Some(body), None) => {
                let (title, link) = (self.title.as_deref(), self.link.as_deref());
                let notice = Notice { body, title, link, severity: self.severity };
                return to_raw_value(&notice)
                    .map_err(|error| format!("can't write the payload: {error}").into());
            }
            (None, Some("-")) => read_stdin()?,
            (None, Some(payload)) => payload.to_owned(),
        };
        // What stands around the value would be sent with it.
        let payload: &RawValue = serde_json::from_str(&payload)
            .map_err(|error| usage(&format!("--payload: this is no JSON: {error}")))?;
        Ok(payload.to_owned())
    }
}

fn read_stdin() -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = read.map_err(|error| format!("can't read stdin: {error}"))?;
    if length as u64 > PAYLOAD_BYTES_MAX {
        return Err("the payload on stdin has no end".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "the payload on stdin is not text (UTF-8)".to_owned())
}

fn in_words(published: &Published, at: Option<UnixTime>) -> String {
    let Published { id, topic, offset, subscribers, durability, state } = published;
    let durability = match durability {
        desk::Durability::None => "none",
        desk::Durability::Memory => "memory",
        desk::Durability::Disk => "disk",
    };
    let (topic, id) = (shown(topic), shown(id));
    match (state, at) {
        (MessageState::Scheduled, Some(at)) => {
            format!("to be sent to {topic} at {} (id {id}, durability {durability})\n", date(at))
        }
        (MessageState::Scheduled, None) => {
            format!("to be sent to {topic} (id {id}, durability {durability})\n")
        }
        _ => {
            let whom = match subscribers {
                Some(1) => format!("1 subscriber of {topic}"),
                Some(count) => format!("{count} subscribers of {topic}"),
                None => topic,
            };
            let offset = offset.map(|offset| format!(", offset {offset}")).unwrap_or_default();
            format!("sent to {whom} (id {id}{offset}, durability {durability})\n")
        }
    }
}

/// A time as RFC 3339 has it, or in seconds since 1970. A part of a second counts as a whole one, so that nothing is
/// sent early.
fn parse_time(text: &str) -> Result<UnixTime, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().ok().filter(|seconds| *seconds <= LAST_SECOND);
        return seconds.ok_or_else(|| "give seconds since 1970, not milliseconds".to_owned());
    }
    let wrong =
        "give a time such as 2030-01-31T09:00:00Z or 2030-01-31T09:00:00+01:00, or seconds since 1970";
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong.to_owned())?;
    let seconds = UnixTime::try_from(time.unix_timestamp()).map_err(|_| wrong.to_owned())?;
    Ok(seconds + UnixTime::from(time.nanosecond() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339_or_seconds() {
        let check =
            |text: &str, seconds: Option<UnixTime>| assert_eq!(parse_time(text).ok(), seconds, "{text}");
        check("0", Some(0));
        check("1795431845", Some(1_795_431_845));
        check("2026-11-23T11:04:05Z", Some(1_795_431_845));
        check("2026-11-23T12:04:05+01:00", Some(1_795_431_845));
        check("2026-11-23t11:04:04.001z", Some(1_795_431_845));
        for wrong in
            ["", "soon", "2026-11-23", "2026-11-23T11:04:05", "1795431845000", "-1", "1969-12-31T23:59:59Z"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn what_was_published_is_said_in_words() {
        let mut published = Published {
            id: "m-1".to_owned(),
            topic: "room:\u{1b}lobby".to_owned(),
            offset: Some(7),
            subscribers: Some(2),
            durability: desk::Durability::Memory,
            state: MessageState::Sent,
        };
        let check = |published: &Published, at, expected: &str| assert_eq!(in_words(published, at), expected);
        let known = "sent to 2 subscribers of room:\u{fffd}lobby (id m-1, offset 7, durability memory)\n";
        check(&published, None, known);
        published.subscribers = Some(1);
        published.offset = None;
        published.durability = desk::Durability::Disk;
        check(&published, None, "sent to 1 subscriber of room:\u{fffd}lobby (id m-1, durability disk)\n");
        published.subscribers = None;
        published.durability = desk::Durability::None;
        check(&published, None, "sent to room:\u{fffd}lobby (id m-1, durability none)\n");
        published.state = MessageState::Scheduled;
        check(&published, None, "to be sent to room:\u{fffd}lobby (id m-1, durability none)\n");
        let expected = "to be sent to room:\u{fffd}lobby at 1970-01-01 00:00:09Z (id m-1, durability none)\n";
        check(&published, Some(9), expected);
    }
}
