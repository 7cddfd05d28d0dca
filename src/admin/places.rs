//! Which address is which page.

use crate::http::Method;

/// A page, or something that a page's form asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Home,
    SignIn,
    SignOut,
    Welcome,
    Session,
    Compose,
    Preview,
    Edit,
    Send,
    Messages,
    Message(&'a str),
    Resend(&'a str),
    Retract(&'a str),
    Cancel(&'a str),
    Connections,
    Disconnect,
    Audit,
    Export,
    Account,
    Password,
}

/// Bytes of a message's id in an address.
const ID_BYTES_MAX: usize = 64;

impl<'a> Place<'a> {
    /// The place of a path, which is compared as it was sent. `None` if there is nothing.
    pub(super) fn find(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/admin")?;
        let segments: Vec<&str> = rest.split('/').skip(1).take(4).collect();
        Some(match (rest.is_empty() || rest.starts_with('/'), segments.as_slice()) {
            (true, [] | [""]) => Self::Home,
            (true, ["sign-in"]) => Self::SignIn,
            (true, ["sign-out"]) => Self::SignOut,
            (true, ["welcome"]) => Self::Welcome,
            (true, ["session"]) => Self::Session,
            (true, ["compose"]) => Self::Compose,
            (true, ["compose", "preview"]) => Self::Preview,
            (true, ["compose", "edit"]) => Self::Edit,
            (true, ["compose", "send"]) => Self::Send,
            (true, ["messages"]) => Self::Messages,
            (true, ["messages", id]) if is_id(id) => Self::Message(id),
            (true, ["messages", id, "resend"]) if is_id(id) => Self::Resend(id),
            (true, ["messages", id, "retract"]) if is_id(id) => Self::Retract(id),
            (true, ["messages", id, "cancel"]) if is_id(id) => Self::Cancel(id),
            (true, ["connections"]) => Self::Connections,
            (true, ["connections", "disconnect"]) => Self::Disconnect,
            (true, ["audit"]) => Self::Audit,
            (true, ["audit", "export"]) => Self::Export,
            (true, ["account"]) => Self::Account,
            (true, ["account", "password"]) => Self::Password,
            _ => return None,
        })
    }

    /// The methods that it takes, as `Allow` names them.
    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::SignIn | Self::Welcome | Self::Session | Self::Disconnect => "GET, HEAD, POST",
            Self::SignOut
            | Self::Preview
            | Self::Edit
            | Self::Send
            | Self::Retract(_)
            | Self::Cancel(_)
            | Self::Export
            | Self::Password => "POST",
            Self::Home
            | Self::Compose
            | Self::Messages
            | Self::Message(_)
            | Self::Resend(_)
            | Self::Connections
            | Self::Audit
            | Self::Account => "GET, HEAD",
        }
    }

    /// Whether its form holds what somebody has written, which must not be lost.
    pub(super) const fn takes_letter(self) -> bool {
        matches!(self, Self::Preview | Self::Edit | Self::Send)
    }

    /// Whether it takes the method.
    pub(super) fn takes(self, method: Method) -> bool {
        match method {
            Method::Get | Method::Head => self.allow().starts_with("GET"),
            Method::Post => self.allow().ends_with("POST"),
            _ => false,
        }
    }
}

/// Whether a text may be a message's id: it needs no escaping anywhere.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        assert_eq!(Place::find("/admin"), Some(Place::Home));
        assert_eq!(Place::find("/admin/"), Some(Place::Home));
        assert_eq!(Place::find("/admin/messages/a-1/retract"), Some(Place::Retract("a-1")));
        let long = format!("/admin/messages/{}", "x".repeat(ID_BYTES_MAX + 1));
        for path in [
            "/",
            "/administrator",
            "/adminx/compose",
            "/admin/compose/",
            "/admin//compose",
            "//admin/compose",
            "/admin/%63ompose",
            "/admin/compose;x",
            "/admin/../admin/compose",
            "/admin/messages/",
            "/admin/messages/a b",
            "/admin/messages/%22",
            "/admin/messages/a/retract/x",
            "/admin/messages/a/resend/x/y/z",
            &long,
        ] {
            assert_eq!(Place::find(path), None, "{path}");
        }
    }
}
