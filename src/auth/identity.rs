//! The user behind a socket.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::UnixTime;
use super::token::KeyTag;

/// What an [`Identity`] is made of.
#[derive(Clone, Default)]
pub struct IdentityParts<'a> {
    /// The user's id: what the token's `sub` says.
    pub user: &'a str,
    /// The socket's id (Phoenix: `id/1`): broadcasting `disconnect` to this topic closes the socket. Empty for
    /// a socket that can't be closed so.
    pub socket_id: &'a str,
    /// The token's claims, a JSON object. Empty stands for `{}`.
    pub claims: &'a str,
    /// The user's record where users are looked up, a JSON object. Empty stands for `{}`.
    pub account: &'a str,
    /// When the token runs out. `None`: never.
    pub expires: Option<UnixTime>,
    /// The key that the token was verified with, if the socket is to be closed when that key is removed.
    pub key: Option<KeyTag>,
    /// What the application keeps for this client, found in every channel's
    /// [`Context::current_user`](crate::channel::Context::current_user) (Phoenix: `socket.assigns`).
    pub assigns: Option<Arc<dyn Any + Send + Sync>>,
}

const NEVER: UnixTime = UnixTime::MAX;

/// The user of a socket, shared by its channels (Phoenix: what `connect/3` assigns).
///
/// All texts lie in one block of memory: there is one of these for each connected user, idle or not.
pub struct Identity {
    text: Box<str>,
    /// Where the user begins. A socket's id that ends with it holds it as well.
    user: u32,
    /// Where the socket id, the user and the claims end in the text; the account ends with it.
    ends: [u32; 3],
    /// When the token runs out, or [`NEVER`]: an `Option` takes eight bytes more, for each connected user.
    expires: UnixTime,
    key: Option<KeyTag>,
    assigns: Option<Arc<dyn Any + Send + Sync>>,
}

impl Identity {
    /// Puts an identity together. Claims and account are kept as they are; they are looked into when they are
    /// asked for.
    #[must_use]
    pub fn new(parts: IdentityParts<'_>) -> Self {
        let IdentityParts { user, socket_id, claims, account, .. } = parts;
        let apart = if socket_id.ends_with(user) { "" } else { user };
        let text = [socket_id, apart, claims, account].concat().into_boxed_str();
        // Tokens and accounts are bounded far below this.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let user_end = socket_id.len() + apart.len();
        Self {
            text,
            user: place(user_end - user.len()),
            ends: [socket_id.len(), user_end, user_end + claims.len()].map(place),
            expires: parts.expires.unwrap_or(NEVER),
            key: parts.key,
            assigns: parts.assigns,
        }
    }

    fn part(&self, from: u32, to: usize) -> &str {
        self.text.get(from as usize..to).unwrap_or_default()
    }

    /// The user's id: the token's `sub`.
    #[must_use]
    pub fn user(&self) -> &str {
        self.part(self.user, self.ends[1] as usize)
    }

    /// The socket's id; empty if it has none.
    #[must_use]
    pub fn socket_id(&self) -> &str {
        self.part(0, self.ends[0] as usize)
    }

    /// The token's claims as a JSON object.
    #[must_use]
    pub fn claims(&self) -> &str {
        or_empty_object(self.part(self.ends[1], self.ends[2] as usize))
    }

    /// One of the token's claims.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<Value> {
        member(self.claims(), name)
    }

    /// The user's record as a JSON object: what the look-up has brought.
    #[must_use]
    pub fn account(&self) -> &str {
        or_empty_object(self.part(self.ends[2], self.text.len()))
    }

    /// Whether nothing at all is known of the client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.expires == NEVER && self.assigns.is_none()
    }

    /// When the token runs out.
    #[must_use]
    pub fn expires(&self) -> Option<UnixTime> {
        (self.expires != NEVER).then_some(self.expires)
    }

    /// The key that the token was verified with.
    #[must_use]
    pub fn key(&self) -> Option<KeyTag> {
        self.key
    }

    /// What the application has assigned when the socket connected, if it is of this type.
    #[must_use]
    pub fn assigned<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.assigns.as_ref()?.downcast_ref()
    }
}

fn or_empty_object(text: &str) -> &str {
    if text.is_empty() { "{}" } else { text }
}

/// A member of a JSON object, without the others being kept.
fn member(object: &str, name: &str) -> Option<Value> {
    let mut members: serde_json::Map<String, Value> = serde_json::from_str(object).ok()?;
    members.remove(name)
}

impl fmt::Debug for Identity {
    /// The user alone: claims and accounts belong to users and don't go to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", &self.user()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_gives_back_its_parts() {
        let identity = Identity::new(IdentityParts {
            user: "ada",
            socket_id: "user_socket:ada",
            claims: r#"{"sub":"ada","staff":true}"#,
            account: r#"{"name":"Ada"}"#,
            expires: Some(7),
            key: None,
            assigns: Some(Arc::new(42u32)),
        });
        assert_eq!((identity.user(), identity.socket_id()), ("ada", "user_socket:ada"));
        assert_eq!((identity.claim("staff"), identity.claim("admin")), (Some(Value::Bool(true)), None));
        assert_eq!((identity.account(), identity.expires()), (r#"{"name":"Ada"}"#, Some(7)));
        assert_eq!((identity.assigned::<u32>(), identity.assigned::<u8>()), (Some(&42), None));
        assert_eq!(format!("{identity:?}"), r#"Identity { user: "ada", .. }"#);
    }

    #[test]
    fn the_user_and_the_socket_id_are_told_apart_wherever_they_lie() {
        for (user, socket_id) in [
            ("ada", "user_socket:ada"),
            ("ada", "u/ada/s"),
            ("ada", "ada"),
            ("ada", ""),
            ("", "u"),
            ("ada", "da"),
        ] {
            let parts = IdentityParts { user, socket_id, claims: "{}", account: "{}", ..Default::default() };
            let identity = Identity::new(parts);
            assert_eq!((identity.user(), identity.socket_id()), (user, socket_id));
            assert_eq!((identity.claims(), identity.account()), ("{}", "{}"));
        }
    }

    #[test]
    fn what_is_not_given_is_empty() {
        let identity = Identity::new(IdentityParts::default());
        assert_eq!((identity.user(), identity.socket_id()), ("", ""));
        assert_eq!((identity.claims(), identity.account()), ("{}", "{}"));
        assert!(identity.is_empty());
    }
}
