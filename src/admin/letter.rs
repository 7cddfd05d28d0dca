//! What is typed into the form, and what it means.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::desk::{Draft, Message, Target, UnixMillis};

use super::form::Form;
use super::moment;
use super::notice::{BODY_CHARACTERS_MAX, Notice, Severity, TITLE_CHARACTERS_MAX, is_link};
use super::office::Office;
use super::places::is_id;

/// Bytes of a topic's name: what Phoenix's binary frames can carry.
const TOPIC_BYTES_MAX: usize = 255;
/// The longest lifetime.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far ahead a message can be scheduled.
const AHEAD_MS_MAX: UnixMillis = 366 * 24 * 60 * 60 * 1000;

/// The form's fields as they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Letter {
    /// `everyone`, `topic` or `user`.
    pub(super) to: String,
    pub(super) topic: String,
    pub(super) user: String,
    pub(super) title: String,
    pub(super) body: String,
    pub(super) link: String,
    /// `info`, `warning` or `critical`.
    pub(super) severity: String,
    pub(super) lifetime: String,
    /// `none`, `minutes` or `hours`.
    pub(super) lifetime_unit: String,
    /// `now` or `later`.
    pub(super) when: String,
    pub(super) send_at: String,
    /// Minutes by which UTC is ahead of the browser's time; empty without its script.
    pub(super) offset: String,
    /// The message that this one repeats.
    pub(super) resend_of: String,
}

/// A field that can't be taken as it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) field: &'static str,
    pub(super) sentence: Cow<'static, str>,
}

/// A letter that can be sent.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) target: Target,
    /// The topic that the target has.
    pub(super) topic: String,
    pub(super) notice: Notice,
    pub(super) payload: Box<RawValue>,
    pub(super) lifetime: Option<Duration>,
    pub(super) send_at: Option<UnixMillis>,
    pub(super) resend_of: Option<String>,
}

impl Letter {
    /// An empty one, as the form is opened with.
    pub(super) fn new() -> Self {
        let [to, severity, unit, when] = ["everyone", "info", "none", "now"].map(str::to_owned);
        Self { to, severity, lifetime_unit: unit, when, ..Self::default() }
    }

    /// What a form holds.
    pub(super) fn read(form: &Form) -> Self {
        let text = |name| form.text(name).to_owned();
        Self {
            to: text("to"),
            topic: text("topic"),
            user: text("user"),
            title: text("title"),
            // Browsers send line ends as CR LF.
            body: form.text("body").replace("\r\n", "\n"),
            link: text("link"),
            severity: text("severity"),
            lifetime: text("lifetime"),
            lifetime_unit: text("lifetime_unit"),
            when: text("when"),
            send_at: text("send_at"),
            offset: text("offset"),
            resend_of: text("resend_of"),
        }
    }

    /// Whether there is anything in it that it would be a pity to lose.
    pub(super) fn has_text(&self) -> bool {
        [&self.title, &self.body, &self.link].iter().any(|text| !text.is_empty())
    }

    /// A letter that repeats a message. `None` if that was no notification of ours.
    pub(super) fn again(office: &Office, message: &Message) -> Option<Self> {
        let notice = Notice::read(message.payload.get())?;
        if message.event != office.config.event {
            return None;
        }
        let mut letter = Self {
            title: notice.title.unwrap_or_default(),
            body: notice.body,
            link: notice.link.unwrap_or_default(),
            severity: notice.severity.name().to_owned(),
            resend_of: message.id.clone(),
            ..Self::new()
        };
        if let Some(user) = &message.user {
            (letter.to, letter.user) = ("user".to_owned(), user.clone());
        } else if message.topic != office.config.default_topic {
            (letter.to, letter.topic) = ("topic".to_owned(), message.topic.clone());
        }
        if let Some(until) = message.expires_at {
            let from = message.sent_at.or(message.send_at).unwrap_or(message.created_at);
            let minutes = until.saturating_sub(from).div_ceil(60_000).max(1);
            (letter.lifetime, letter.lifetime_unit) = (minutes.to_string(), "minutes".to_owned());
        }
        Some(letter)
    }

    /// All fields with their names, to be carried through the preview.
    pub(super) fn fields(&self) -> [(&'static str, &str); 13] {
        [
            ("to", &self.to),
            ("topic", &self.topic),
            ("user", &self.user),
            ("title", &self.title),
            ("body", &self.body),
            ("link", &self.link),
            ("severity", &self.severity),
            ("lifetime", &self.lifetime),
            ("lifetime_unit", &self.lifetime_unit),
            ("when", &self.when),
            ("send_at", &self.send_at),
            ("offset", &self.offset),
            ("resend_of", &self.resend_of),
        ]
    }

    /// What the letter means, or everything that is wrong with it.
    pub(super) fn check(&self, office: &Office, at: UnixMillis) -> Result<Checked, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let target = keep(&mut wrong, self.target(office));
        wrong.extend(self.beside_the_choice());
        let notice = keep(&mut wrong, self.notice());
        let lifetime = keep(&mut wrong, self.lifetime());
        let send_at = keep(&mut wrong, self.send_at(at));
        let resend_of = Some(&self.resend_of).filter(|id| is_id(id)).cloned();
        let payload = notice.as_ref().and_then(Notice::payload);
        if payload.as_ref().is_some_and(|payload| payload.get().len() > office.config.payload_bytes_max) {
            let bytes = office.config.payload_bytes_max;
            let sentence = format!("All together may take {bytes} bytes: please shorten it.").into();
            wrong.push(Wrong { field: "body", sentence });
        }
        let whole = (target, notice, payload, lifetime, send_at);
        let (Some((target, topic)), Some(notice), Some(payload), Some(lifetime), Some(send_at)) = whole
        else {
            return Err(wrong);
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Checked { target, topic, notice, payload, lifetime, send_at, resend_of })
    }

    /// Fields that are filled in although something else is chosen. Without scripts nothing chooses for those who write,
    /// and a message that is meant for one must not go to all.
    fn beside_the_choice(&self) -> Vec<Wrong> {
        let is_chosen = |choice: &str, value: &str| choice == value;
        [
            (is_chosen(&self.to, "topic"), &self.topic, "topic", "A topic is given, and is not chosen: choose “Everyone in a topic by name” above, or empty this field."),
            (is_chosen(&self.to, "user"), &self.user, "user", "A user is given, and is not chosen: choose “One user” above, or empty this field."),
            (is_chosen(&self.when, "later"), &self.send_at, "send_at", "A time is given, and is not chosen: choose “Later” above, or empty this field."),
            (!matches!(self.lifetime_unit.as_str(), "" | "none"), &self.lifetime, "lifetime", "A lifetime is given without a unit: choose minutes or hours, or empty this field."),
        ]
        .into_iter()
        .filter(|(is_chosen, value, ..)| !is_chosen && !value.is_empty())
        .map(|(_, _, field, sentence)| wrong(field, sentence))
        .collect()
    }

    fn target(&self, office: &Office) -> Result<(Target, String), Wrong> {
        let (field, topic) = match self.to.as_str() {
            "everyone" => ("to", office.config.default_topic.clone()),
            "topic" => ("topic", self.topic.clone()),
            "user" => {
                if self.user.is_empty() {
                    return Err(wrong(
                        "user",
                        "Say which user, by the id that your application knows it by.",
                    ));
                }
                let none = wrong("user", "This is no user's id, or users have no topics of their own here.");
                let topic = office.desk.publishing.topic_of(&self.user).ok_or(none)?;
                check_topic("user", &topic)?;
                return Ok((Target::User(self.user.clone()), topic));
            }
            _ => return Err(wrong("to", "Choose who is to get it.")),
        };
        check_topic(field, &topic)?;
        Ok((Target::Topic(topic.clone()), topic))
    }

    fn notice(&self) -> Result<Notice, Wrong> {
        let severity =
            Severity::parse(&self.severity).ok_or_else(|| wrong("severity", "Choose a severity."))?;
        if self.title.chars().count() > TITLE_CHARACTERS_MAX {
            return Err(wrong("title", "A title has at most 120 characters."));
        }
        if self.title.chars().any(char::is_control) {
            return Err(wrong("title", "A title is one line of plain text."));
        }
        if self.body.is_empty() {
            return Err(wrong("body", "Write what you want to say."));
        }
        if self.body.chars().count() > BODY_CHARACTERS_MAX {
            return Err(wrong("body", "A message has at most 2,000 characters."));
        }
        if self.body.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(wrong("body", "A message is plain text; it has control characters in it."));
        }
        if !self.link.is_empty() && !is_link(&self.link) {
            let sentence =
                "A link begins with https:// or http://, or with one / for a page of your own site.";
            return Err(wrong("link", sentence));
        }
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let (title, link) = (some(&self.title), some(&self.link));
        Ok(Notice { body: self.body.clone(), title, link, severity })
    }

    fn lifetime(&self) -> Result<Option<Duration>, Wrong> {
        let unit = match self.lifetime_unit.as_str() {
            "" | "none" => return Ok(None),
            "minutes" => 60,
            "hours" => 60 * 60,
            _ => return Err(wrong("lifetime", "Choose minutes or hours.")),
        };
        let number: Option<u64> = self.lifetime.parse().ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| wrong("lifetime", "Say how long, in whole minutes or hours."))?;
        let lifetime = Duration::from_secs(number.saturating_mul(unit));
        if lifetime > LIFETIME_MAX {
            return Err(wrong("lifetime", "A message is kept for 30 days at most."));
        }
        Ok(Some(lifetime))
    }

    fn send_at(&self, at: UnixMillis) -> Result<Option<UnixMillis>, Wrong> {
        match self.when.as_str() {
            "now" => return Ok(None),
            "later" => {}
            _ => return Err(wrong("when", "Choose when to send it.")),
        }
        let time = moment::typed(&self.send_at, &self.offset);
        let time = time.ok_or_else(|| wrong("send_at", "Say on which day and at what time."))?;
        if time <= at {
            return Err(wrong("send_at", "This time is past."));
        }
        if time - at > AHEAD_MS_MAX {
            return Err(wrong("send_at", "Messages can be scheduled for a year ahead."));
        }
        Ok(Some(time))
    }
}

impl Checked {
    /// What is given to the desk.
    pub(super) fn draft(&self, office: &Office) -> Draft {
        Draft {
            durability: office.config.durability,
            lifetime: self.lifetime,
            send_at: self.send_at,
            with_id: true,
            receipts: true,
            resend_of: self.resend_of.clone(),
            ..Draft::new(self.target.clone(), office.config.event.clone(), self.payload.clone())
        }
    }
}

fn keep<T>(wrong: &mut Vec<Wrong>, result: Result<T, Wrong>) -> Option<T> {
    result.map_err(|found| wrong.push(found)).ok()
}

fn wrong(field: &'static str, sentence: &'static str) -> Wrong {
    Wrong { field, sentence: sentence.into() }
}

fn check_topic(field: &'static str, topic: &str) -> Result<(), Wrong> {
    if topic.is_empty() {
        return Err(wrong(field, "Say which topic, such as room:lobby."));
    }
    if topic.len() > TOPIC_BYTES_MAX || topic.chars().any(char::is_control) {
        return Err(wrong(field, "A topic's name is one line of at most 255 bytes."));
    }
    Ok(())
}
