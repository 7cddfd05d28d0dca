//! The user behind a socket.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::token::KeyTag;
use super::{UnixTime, packed};
use crate::guard::{self, Place};

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
    /// When the token ceases to be good, an allowed drift of clocks included. `None`: never.
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
/// There is one of these for each connected user, idle or not: what it says lies in one block of memory, and the
/// claims and the account, for which channels rarely ask, in a short form.
pub struct Identity {
    /// Four numbers ([`Ends`]); the socket's id, with the user behind it unless it ends with it; the claims and the
    /// account, packed.
    block: Box<[u8]>,
    /// When the token runs out, or [`NEVER`]: an `Option` takes eight bytes more, for each connected user.
    expires: UnixTime,
    key: Option<KeyTag>,
    /// Boxed on purpose: what it points to takes two words, and most sockets have none.
    #[allow(clippy::redundant_allocation)]
    assigns: Option<Box<Arc<dyn Any + Send + Sync>>>,
}

/// Where the parts of an identity's block lie.
#[derive(Clone, Copy)]
struct Ends {
    /// Where the numbers end and the socket's id begins; the other places are counted from here.
    texts: usize,
    socket_id: usize,
    /// Where the user begins. A socket's id that ends with it holds it as well.
    user_begins: usize,
    user: usize,
    claims: usize,
}

impl Ends {
    /// How many bytes the numbers take.
    fn len(self) -> usize {
        self.numbers().map(|number| number.max(1).ilog2() as usize / 7 + 1).iter().sum()
    }

    fn numbers(self) -> [usize; 4] {
        [self.socket_id, self.user_begins, self.user, self.claims]
    }

    /// Puts the numbers in front of what `out` is to hold.
    fn write(self, out: &mut Vec<u8>) {
        for mut number in self.numbers() {
            // Seven bits a byte: nearly all of them take one or two.
            while number >= 0x80 {
                out.push((number & 0x7f) as u8 | 0x80);
                number >>= 7;
            }
            out.push(number as u8);
        }
    }

    fn read(block: &[u8]) -> Self {
        let mut bytes = block.iter();
        let mut number = || {
            let (mut number, mut bits) = (0, 0);
            for byte in bytes.by_ref() {
                number |= usize::from(byte & 0x7f) << bits;
                bits += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            number
        };
        let [socket_id, user_begins, user, claims] = std::array::from_fn(|_| number());
        Self { texts: block.len() - bytes.len(), socket_id, user_begins, user, claims }
    }
}

impl Identity {
    /// Puts an identity together. Claims and account come back as they are given; they are looked into when they
    /// are asked for.
    #[must_use]
    pub fn new(parts: IdentityParts<'_>) -> Self {
        let IdentityParts { user, socket_id, claims, account, .. } = parts;
        let apart = if socket_id.ends_with(user) { "" } else { user };
        let mut packed = Vec::with_capacity(claims.len() + account.len());
        packed::pack(claims, user, &mut packed);
        let claims_len = packed.len();
        packed::pack(account, user, &mut packed);
        let user_end = socket_id.len() + apart.len();
        let ends = Ends {
            texts: 0,
            socket_id: socket_id.len(),
            user_begins: user_end - user.len(),
            user: user_end,
            claims: user_end + claims_len,
        };
        // Exactly as much as it needs: one that shrinks leaves a hole behind, for each connected user.
        let mut block = Vec::with_capacity(ends.len() + user_end + packed.len());
        ends.write(&mut block);
        block.extend_from_slice(socket_id.as_bytes());
        block.extend_from_slice(apart.as_bytes());
        block.extend_from_slice(&packed);
        Self {
            block: block.into_boxed_slice(),
            expires: parts.expires.unwrap_or(NEVER),
            key: parts.key,
            assigns: parts.assigns.map(Box::new),
        }
    }

    fn part(&self, range: impl FnOnce(Ends) -> Range<usize>) -> &[u8] {
        let ends = Ends::read(&self.block);
        let range = range(ends);
        self.block.get(ends.texts + range.start..ends.texts + range.end).unwrap_or_default()
    }

    fn text(&self, range: impl FnOnce(Ends) -> Range<usize>) -> &str {
        std::str::from_utf8(self.part(range)).unwrap_or_default()
    }

    fn packed_claims(&self) -> &[u8] {
        self.part(|ends| ends.user..ends.claims)
    }

    /// The user's id: the token's `sub`.
    #[must_use]
    pub fn user(&self) -> &str {
        self.text(|ends| ends.user_begins..ends.user)
    }

    /// The socket's id; empty if it has none.
    #[must_use]
    pub fn socket_id(&self) -> &str {
        self.text(|ends| 0..ends.socket_id)
    }

    /// The token's claims as a JSON object, put together anew at each call.
    #[must_use]
    pub fn claims(&self) -> String {
        self.unpack(self.packed_claims())
    }

    /// One of the token's claims.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<Value> {
        member(&self.claims(), name)
    }

    /// Whether `text` may be among the claims, be it as one of them or inside of one. `false` is certain, and is
    /// said without looking at each claim.
    #[must_use]
    pub fn may_claim(&self, text: &str) -> bool {
        packed::may_hold(self.packed_claims(), text, self.user())
    }

    /// The user's record as a JSON object, put together anew at each call: what the look-up has brought.
    #[must_use]
    pub fn account(&self) -> String {
        let to = self.block.len();
        self.unpack(self.part(|ends| ends.claims..to - ends.texts))
    }

    fn unpack(&self, packed: &[u8]) -> String {
        if packed.is_empty() { "{}".to_owned() } else { packed::unpack(packed, self.user()) }
    }

    /// Whether nothing at all is known of the client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nothing_said = Ends::read(&self.block).texts == self.block.len();
        nothing_said && self.expires == NEVER && self.assigns.is_none()
    }

    /// When the token ceases to be good: its socket is warned and closed by this time.
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
        self.assigns.as_deref()?.downcast_ref()
    }
}

/// What the application has assigned is dropped in a shard's thread, or in one that decides who may connect.
impl Drop for Identity {
    fn drop(&mut self) {
        if let Some(Err(panicked)) = self.assigns.take().map(guard::dispose) {
            Place::Destructor.note(&panicked);
        }
    }
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
        assert_eq!((&*identity.account(), identity.expires()), (r#"{"name":"Ada"}"#, Some(7)));
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
            assert_eq!((&*identity.claims(), &*identity.account()), ("{}", "{}"));
        }
    }

    #[test]
    fn parts_of_any_length_are_found_again() {
        for (socket, user, claims) in [(0, 1, 127), (1, 0, 128), (127, 128, 0), (255, 255, 20_000)] {
            let [socket_id, user, claims] = [(socket, 's'), (user, 'u'), (claims, 'c')]
                .map(|(len, letter)| String::from(letter).repeat(len));
            let parts =
                IdentityParts { user: &user, socket_id: &socket_id, claims: &claims, ..Default::default() };
            let identity = Identity::new(IdentityParts { account: "1234567", ..parts });
            assert_eq!((identity.user(), identity.socket_id()), (&*user, &*socket_id));
            let claims = if claims.is_empty() { "{}".to_owned() } else { claims };
            assert_eq!((identity.claims(), &*identity.account()), (claims, "1234567"));
        }
    }

    #[test]
    fn an_identity_is_no_larger_than_a_block_of_the_allocator() {
        // With the two counts of an `Arc` and what malloc keeps, 64 bytes.
        assert_eq!(size_of::<Identity>(), 40);
    }

    #[test]
    fn what_is_not_given_is_empty() {
        let identity = Identity::new(IdentityParts::default());
        assert_eq!((identity.user(), identity.socket_id()), ("", ""));
        assert_eq!((&*identity.claims(), &*identity.account()), ("{}", "{}"));
        assert!(identity.is_empty());
    }
}
