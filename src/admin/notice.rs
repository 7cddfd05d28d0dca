//! A notification: what is written in the form, what goes into the payload, and what customers see.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Characters of a title.
pub(super) const TITLE_CHARACTERS_MAX: usize = 120;
/// Characters of a body.
pub(super) const BODY_CHARACTERS_MAX: usize = 2_000;
/// Bytes of a link.
pub(super) const LINK_BYTES_MAX: usize = 2_000;

/// How much it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// For all that is good to know.
    #[default]
    Info,
    /// For what may need attention.
    Warning,
    /// For what needs attention at once.
    Critical,
}

impl Severity {
    pub(super) const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == text)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// What customers hear before the message.
    const fn spoken(self) -> &'static str {
        match self {
            Self::Info => "Information",
            Self::Warning | Self::Critical => self.label(),
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Critical => "Critical",
        }
    }
}

/// A notification. The desk adds its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    pub(super) body: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) link: Option<String>,
    #[serde(default)]
    pub(super) severity: Severity,
}

impl Notice {
    /// Reads a payload. `None` if it is another application's.
    pub(super) fn read(payload: &str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// The payload.
    pub(super) fn payload(&self) -> Option<Box<RawValue>> {
        to_raw_value(self).ok()
    }

    /// What customers see: the elements that `notices.js` makes of the payload.
    pub(super) fn shown(&self) -> Markup {
        html! {
            section class={ "notice notice-" (self.severity.name()) } {
                span.notice-severity { (self.severity.spoken()) ": " }
                @if let Some(title) = self.title.as_deref().filter(|title| !title.is_empty()) {
                    p.notice-title dir="auto" { (title) }
                }
                @if !self.body.is_empty() { p.notice-body dir="auto" { (self.body) } }
                @if let Some(link) = self.link.as_deref().filter(|link| is_link(link)) {
                    // A preview is looked at; the link works and leads away from the back office.
                    a.notice-link href=(link) rel="noopener noreferrer" target="_blank" { "More about this" }
                }
            }
        }
    }
}

/// Whether it may be a link in a notification: a page of `http` or `https`, or a path of the customers' own site. Nothing
/// that browsers could take for another scheme or host than it seems.
pub(super) fn is_link(text: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\\\"<>`{}|^".contains(c);
    if text.len() > LINK_BYTES_MAX || !text.chars().all(is_plain) {
        return false;
    }
    if let Some(path) = text.strip_prefix('/') {
        return !path.starts_with('/');
    }
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known && host.starts_with(|c: char| c.is_alphanumeric() || c == '[') && !host.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_web_pages() {
        for link in [
            "https://example.com",
            "HTTP://example.com/a?b=c#d",
            "https://[2001:db8::1]:8443/",
            "https://例え.jp/",
            "/",
            "/orders/42?x=//y",
            "https://example.com/@ada",
        ] {
            assert!(is_link(link), "{link}");
        }
        let long = format!("/{}", "x".repeat(LINK_BYTES_MAX));
        for link in [
            "",
            "example.com",
            "javascript:alert(1)",
            "JaVaScRiPt://example.com/%0aalert(1)",
            " https://example.com",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "//example.com",
            "/\\example.com",
            "\\\\example.com",
            "https:example.com",
            "https:///example.com",
            "https://",
            "https://bank.example@evil.example/",
            "https://example.com/\"onclick=",
            "https://example.com/ x",
            "ftp://example.com",
            &long,
        ] {
            assert!(!is_link(link), "{link}");
        }
    }

    #[test]
    fn payloads_are_read_as_they_are_written() {
        let full = Notice {
            body: "b\n\"".to_owned(),
            title: Some("t".to_owned()),
            link: Some("/x".to_owned()),
            severity: Severity::Critical,
        };
        let payload = full.payload().unwrap();
        assert_eq!(payload.get(), r#"{"body":"b\n\"","title":"t","link":"/x","severity":"critical"}"#);
        assert_eq!(Notice::read(payload.get()), Some(full));
        let least = Notice { body: "b".to_owned(), ..Notice::default() };
        assert_eq!(least.payload().unwrap().get(), r#"{"body":"b","severity":"info"}"#);
        assert_eq!(Notice::read(r#"{"id":"7","body":"b"}"#), Some(least));
        for other in ["[]", "1", r#"{"text":"b"}"#, r#"{"body":1}"#, r#"{"body":"b","severity":"loud"}"#] {
            assert_eq!(Notice::read(other), None, "{other}");
        }
    }

    #[test]
    fn the_preview_has_the_elements_of_the_customers_page() {
        let notice = Notice {
            body: "b".to_owned(),
            title: Some("t".to_owned()),
            link: Some("https://example.com/".to_owned()),
            severity: Severity::Info,
        };
        let expected = "<section class=\"notice notice-info\"><span class=\"notice-severity\">Information: </span>\
                        <p class=\"notice-title\" dir=\"auto\">t</p><p class=\"notice-body\" dir=\"auto\">b</p>\
                        <a class=\"notice-link\" href=\"https://example.com/\" rel=\"noopener noreferrer\" \
                        target=\"_blank\">More about this</a></section>";
        assert_eq!(notice.shown().into_string(), expected);
        let least = Notice {
            severity: Severity::Critical,
            title: Some(String::new()),
            body: "b".to_owned(),
            link: None,
        };
        let expected = "<section class=\"notice notice-critical\"><span class=\"notice-severity\">Critical: </span>\
                        <p class=\"notice-body\" dir=\"auto\">b</p></section>";
        assert_eq!(least.shown().into_string(), expected);
    }

    #[test]
    fn what_others_published_is_shown_without_a_bad_link() {
        let notice = Notice::read(r#"{"body":"<b>","link":"javascript:alert(1)"}"#).unwrap();
        let shown = notice.shown().into_string();
        assert!(shown.contains("&lt;b&gt;") && !shown.contains("href"), "{shown}");
    }
}
