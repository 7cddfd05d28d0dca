//! API keys: what they may do, and how they are known.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::auth::connect::Secret;
use crate::channel::TopicPattern;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Publish messages, and take them back.
    Publish,
    /// Put clients off the line.
    Disconnect,
    /// See who is there and what was sent, check tokens, read metrics.
    Read,
}

impl Scope {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Publish, Self::Disconnect, Self::Read];

    /// The name, as configurations have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Disconnect => "disconnect",
            Self::Read => "read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownScope;

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scope is \"publish\", \"disconnect\" or \"read\"")
    }
}

impl std::error::Error for UnknownScope {}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// What hashes of keys begin with in configurations.
const HASH_PREFIX: &str = "sha256:";

/// A text is no hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadKeyHash;

impl fmt::Display for BadKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hash of a key is \"sha256:\" and 64 hexadecimal digits")
    }
}

impl std::error::Error for BadKeyHash {}

/// A key that back ends call the API with.
///
/// Keys are `hlr_` and 43 characters of base64url: 256 random bits. Nobody can try that many, so a slow hash would
/// protect them no better than SHA-256 does.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Names it in records and logs.
    pub name: String,
    /// The SHA-256 of the key.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The topics it is for, and users whose own topic is among them. Empty: all.
    pub topics: Vec<TopicPattern>,
}

/// Does not show the hash.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// The hash by which a key is known.
    #[must_use]
    pub fn hash_of(key: &Secret) -> [u8; 32] {
        Sha256::digest(key.expose().as_bytes()).into()
    }

    /// Reads a hash as configurations have it, `sha256:` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// The text is no such hash. The error does not repeat it, since it may be a key.
    pub fn parse_hash(text: &str) -> Result<[u8; 32], BadKeyHash> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(BadKeyHash)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadKeyHash);
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            let pair = digits.get(2 * at..2 * at + 2).ok_or(BadKeyHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadKeyHash)?;
        }
        Ok(hash)
    }

    /// Writes a hash in the form that [`parse_hash`](Self::parse_hash) reads.
    #[must_use]
    pub fn show_hash(hash: &[u8; 32]) -> String {
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{HASH_PREFIX}{digits}")
    }

    /// Whether it is for all topics.
    pub(super) fn is_for_all_topics(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether it is for this topic.
    pub(super) fn is_for(&self, topic: &str) -> bool {
        self.is_for_all_topics() || self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// The key among `keys` that was presented. Takes the same time whichever it is, and whether it is one.
    pub(super) fn find<'k>(keys: &'k [Self], presented: &Secret) -> Option<&'k Self> {
        let hash = Self::hash_of(presented);
        let mut found = u32::MAX;
        for (at, key) in (0_u32..).zip(keys) {
            found.conditional_assign(&at, key.hash.ct_eq(&hash));
        }
        keys.get(found as usize)
    }
}
