//! What all pages have in common.

use std::borrow::Cow;
use std::time::Duration;

use maud::{DOCTYPE, Markup, html};

use crate::desk::{DeskError, ErrorCode};
use crate::http::Status;
use crate::service::ServiceReply;

use super::Config;
use super::session::{Left, Session};

/// Every answer carries these. Scripts and styles come from files of this origin alone, pages can't be framed, and what
/// staff see is kept in no cache.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// When nobody says how long to wait.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Adds what every answer carries.
pub(super) fn secured(mut reply: ServiceReply) -> ServiceReply {
    reply.headers.extend(HEADERS.map(|(name, value)| (name, Cow::Borrowed(value))));
    reply
}

/// A page.
pub(super) fn reply(status: Status, page: Markup) -> ServiceReply {
    ServiceReply::new(status).body("text/html; charset=utf-8", page.into_string().into_bytes())
}

/// Leads on to another page, which is asked for with GET.
pub(super) fn see_other(path: impl Into<Cow<'static, str>>) -> ServiceReply {
    ServiceReply::new(Status::SeeOther).header("location", path)
}

/// Why something was not done, as people are told.
#[derive(Debug)]
pub(super) struct Trouble(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: Status,
    heading: Cow<'static, str>,
    sentence: Cow<'static, str>,
    wait: Option<Duration>,
    /// Where to go instead; then there is no page.
    elsewhere: Option<String>,
    allow: Option<&'static str>,
    /// A way on from here.
    way_on: Option<Markup>,
}

impl Trouble {
    pub(super) fn new(
        status: Status,
        heading: impl Into<Cow<'static, str>>,
        sentence: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (heading, sentence) = (heading.into(), sentence.into());
        Self(Box::new(Parts {
            status,
            heading,
            sentence,
            wait: None,
            elsewhere: None,
            allow: None,
            way_on: None,
        }))
    }

    pub(super) fn not_found() -> Self {
        Self::new(Status::NotFound, "There is nothing here", "The address may be mistyped, or out of date.")
    }

    /// The page that was asked for can't be seen without signing in.
    pub(super) fn elsewhere(path: String) -> Self {
        let mut trouble = Self::new(Status::SeeOther, "", "");
        trouble.0.elsewhere = Some(path);
        trouble
    }

    /// What was asked for takes these methods.
    pub(super) fn method(allow: &'static str) -> Self {
        let sentence = "This address is for the forms of the back office.";
        let mut trouble = Self::new(Status::MethodNotAllowed, "That can't be done so", sentence);
        trouble.0.allow = Some(allow);
        trouble
    }

    /// Too much was asked for: later.
    pub(super) fn too_many(wait: Duration, sentence: impl Into<Cow<'static, str>>) -> Self {
        let mut trouble = Self::new(Status::TooManyRequests, "Please wait", sentence);
        trouble.0.wait = Some(wait);
        trouble
    }

    /// The same, with a way on from there that loses nothing of what was written.
    pub(super) fn with_way_on(mut self, way_on: Markup) -> Self {
        self.0.way_on = Some(way_on);
        self
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> Status {
        self.0.status
    }

    /// The answer. `session` is there if somebody is signed in.
    pub(super) fn reply(self, config: &Config, session: Option<&Session>) -> ServiceReply {
        let parts = *self.0;
        if let Some(path) = parts.elsewhere {
            return see_other(path);
        }
        let body = html! {
            p role="alert" { (parts.sentence) }
            @if let Some(wait) = parts.wait { p { "You can try again in " (waiting(wait)) "." } }
            @match parts.way_on {
                Some(way_on) => { (way_on) }
                None => p { a href="/admin" { "To the start" } }
            }
        };
        let page = match session {
            Some(session) => document(config, &parts.heading, Some(&Frame::new(session, "")), &body),
            None => document(config, &parts.heading, None, &body),
        };
        let mut reply = reply(parts.status, page);
        if let Some(wait) = parts.wait {
            reply = reply.header("retry-after", wait.as_secs().max(1).to_string());
        }
        if let Some(allow) = parts.allow {
            reply = reply.header("allow", allow);
        }
        reply
    }
}

impl From<DeskError> for Trouble {
    fn from(error: DeskError) -> Self {
        let (status, heading, wait) = match error.code {
            ErrorCode::Invalid => (Status::UnprocessableContent, "That can't be done", None),
            ErrorCode::TooLarge => (Status::ContentTooLarge, "That is too much", None),
            ErrorCode::NotFound => (Status::NotFound, "There is no such thing", None),
            ErrorCode::Conflict => (Status::Conflict, "It is too late for that", None),
            ErrorCode::IdempotencyMismatch => (Status::Conflict, "This form was sent already", None),
            ErrorCode::IdempotencyInProgress => {
                (Status::Conflict, "This form is being sent", Some(RETRY_AFTER))
            }
            ErrorCode::Overloaded => {
                (Status::ServiceUnavailable, "The server has too much to do", Some(RETRY_AFTER))
            }
            ErrorCode::StoreUnavailable => {
                (Status::ServiceUnavailable, "The records can't be reached", Some(RETRY_AFTER))
            }
        };
        let mut trouble = Self::new(status, heading, sentence(&error.sentence));
        trouble.0.wait = wait;
        trouble
    }
}

/// A sentence that begins with a capital and ends with a full stop, whoever has written it.
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut characters = text.chars();
    let first: String = characters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

/// A time to wait, in words.
pub(super) fn waiting(wait: Duration) -> String {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    match seconds {
        1 => "1 second".to_owned(),
        2..=120 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    }
}

/// What surrounds a page of somebody who is signed in.
pub(super) struct Frame<'a> {
    session: &'a Session,
    /// The address of the navigation's entry that the page belongs to.
    current: &'a str,
    /// Open WebSockets and sessions on long-poll.
    counts: Option<(u64, u64)>,
    /// How long the session lasts.
    left: Option<Left>,
}

impl<'a> Frame<'a> {
    pub(super) fn new(session: &'a Session, current: &'a str) -> Self {
        Self { session, current, counts: None, left: None }
    }

    pub(super) fn with_counts(mut self, web_sockets: u64, sessions: u64) -> Self {
        self.counts = Some((web_sockets, sessions));
        self
    }

    pub(super) fn with_left(mut self, left: Left) -> Self {
        self.left = Some(left);
        self
    }
}

const NAVIGATION: [(&str, &str); 6] = [
    ("/admin/compose", "Compose"),
    ("/admin/messages", "Messages"),
    ("/admin/messages?state=scheduled", "Scheduled"),
    ("/admin/connections", "Connections"),
    ("/admin/audit", "Audit log"),
    ("/admin/account", "Account"),
];

/// A whole page. Without a frame nobody is signed in.
pub(super) fn document(config: &Config, heading: &str, frame: Option<&Frame<'_>>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (heading) " · " (config.title) }
                link rel="icon" href="/admin/favicon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/admin/admin.css";
                link rel="stylesheet" href="/admin/notice.css";
                @if frame.is_some() { script type="module" src="/admin/app.js" {} }
                @else { script type="module" src="/admin/welcome.js" {} }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (header(config, frame))
                main #main tabindex="-1" {
                    h1 { (heading) }
                    (body)
                }
            }
        }
    }
}

fn header(config: &Config, frame: Option<&Frame<'_>>) -> Markup {
    html! {
        header.top {
            a.brand href="/admin" {
                img src="/admin/favicon.svg" alt="" width="28" height="28";
                span { (config.title) }
            }
            @if let Some(frame) = frame {
                @let (web_sockets, sessions) = frame.counts.unzip();
                p #overview .overview hidden[frame.counts.is_none()] {
                    span { b #online-websocket { (web_sockets.unwrap_or(0)) } " on WebSocket" }
                    span { b #online-longpoll { (sessions.unwrap_or(0)) } " on long-poll" }
                    span #online-topics-line hidden { b #online-topics { "0" } " " span #online-topics-noun { "topics" } }
                }
                p #live .live data-state="static" data-account=(frame.session.account)
                    data-ends-in=[frame.left.map(|left| left.ends_in_ms)]
                    data-at-most=[frame.left.map(|left| left.at_most_ms)] { "Not live" }
                form.sign-out method="post" action="/admin/sign-out" {
                    (csrf_field(frame.session))
                    span.who { (frame.session.account) }
                    button.quiet type="submit" { "Sign out" }
                }
            }
        }
        @if let Some(frame) = frame {
            nav aria-label="Back office" {
                ul {
                    @for (path, name) in NAVIGATION {
                        li { a href=(path) aria-current=[(path == frame.current).then_some("page")] { (name) } }
                    }
                }
            }
        }
    }
}

/// What shows that a form comes from a page of this session.
pub(super) fn csrf_field(session: &Session) -> Markup {
    html! { input type="hidden" name="csrf" value=(session.csrf.expose()); }
}

/// A field of a search for something with a name that is no word.
pub(super) fn name_field(name: &str, label: &str, value: &str) -> Markup {
    html! {
        div {
            label for=(name) { (label) }
            input id=(name) type="search" name=(name) value=(value) autocapitalize="none" spellcheck="false";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_whole() {
        assert_eq!(sentence("a password has 12"), "A password has 12.");
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn waits_are_in_words() {
        for (millis, expected) in [
            (0, "1 second"),
            (1_000, "1 second"),
            (1_001, "2 seconds"),
            (60_000, "60 seconds"),
            (121_000, "3 minutes"),
        ] {
            assert_eq!(waiting(Duration::from_millis(millis)), expected);
        }
    }
}
