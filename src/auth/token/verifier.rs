//! Checks whole tokens.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::claims::given;
use super::{ClaimRules, Claims, Key, KeyError, TokenError, strict_json};
use crate::auth::UnixTime;

/// How long a token's header may be before it is decoded. It is read before the signature is known to be good; one
/// with a `kid` has some hundred bytes, one with a certificate (ignored here) under two thousand.
pub const HEADER_BYTES_MAX: usize = 2048;

/// How many keys may have no id. Each of them is tried with every token that names none.
pub const KEYS_WITHOUT_ID_MAX: usize = 8;

/// Checks tokens with keys and rules. It keeps nothing of a token and may be shared by threads.
///
/// Which key: the one whose id the token's header names (`kid`), and no other; without a `kid` those without an
/// id, or the only key there is. Of these, the one whose algorithm the header names (`alg`). Keys that a token
/// brings along or points to (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
pub struct Verifier {
    /// Those without an id come first.
    keys: Vec<Key>,
    without_id: usize,
    by_id: BTreeMap<Box<str>, usize>,
    rules: ClaimRules,
}

/// The members of a header that matter here. The names of the others, and duplicates, are looked at before.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "given")]
    kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "given")]
    crit: Option<IgnoredAny>,
}

impl Verifier {
    /// Puts keys and rules together.
    ///
    /// # Errors
    /// There is no key, two have one id, or more than [`KEYS_WITHOUT_ID_MAX`] have none.
    pub fn new(keys: Vec<Key>, rules: ClaimRules) -> Result<Self, KeyError> {
        let (mut ordered, with_id): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.id().is_none());
        let without_id = ordered.len();
        if without_id > KEYS_WITHOUT_ID_MAX {
            return Err(KeyError::TooManyWithoutId);
        }
        ordered.extend(with_id);
        if ordered.is_empty() {
            return Err(KeyError::NoKeys);
        }
        let mut by_id = BTreeMap::new();
        for (at, key) in ordered.iter().enumerate() {
            if let Some(id) = key.id()
                && by_id.insert(id.into(), at).is_some()
            {
                return Err(KeyError::DuplicateId(id.into()));
            }
        }
        Ok(Self { keys: ordered, without_id, by_id, rules })
    }

    /// The keys, those without an id first.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &ClaimRules {
        &self.rules
    }

    /// Checks a token and gives what it says.
    ///
    /// # Errors
    /// The token is not good at this time; the error says why, and nothing of the token.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<Claims, TokenError> {
        if token.len() > self.rules.token_bytes_max {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = decode(header)?;
        let header = read_header(&header)?;
        // The dots of an encrypted token (RFC 7516) are no letters of base64url, so it fails here.
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        let mut keys =
            self.candidates(header.kid.as_deref())?.iter().filter(|key| key.algorithm().name() == header.alg);
        let first = keys.next().ok_or(TokenError::WrongAlgorithm)?;
        if signature.is_empty() {
            return Err(TokenError::BadSignature);
        }
        let signer =
            std::iter::once(first).chain(keys).find(|key| key.verifies(message.as_bytes(), &signature));
        let signer = signer.ok_or(TokenError::BadSignature)?;
        let claims = String::from_utf8(claims).map_err(|_| TokenError::BadClaims)?;
        self.rules.check(claims, signer.tag(), now)
    }

    fn candidates(&self, id: Option<&str>) -> Result<&[Key], TokenError> {
        match id {
            Some(id) => {
                let at = *self.by_id.get(id).ok_or(TokenError::UnknownKey)?;
                self.keys.get(at..=at).ok_or(TokenError::UnknownKey)
            }
            None if self.without_id > 0 => Ok(&self.keys[..self.without_id]),
            None if self.keys.len() == 1 => Ok(&self.keys),
            None => Err(TokenError::UnknownKey),
        }
    }
}

/// RFC 7515, section 2: without padding, white space or bits left over, so that a text has one form only.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn read_header(bytes: &[u8]) -> Result<Header<'_>, TokenError> {
    let json = std::str::from_utf8(bytes).map_err(|_| TokenError::BadHeader)?;
    if !strict_json::is_plain_object(json) {
        return Err(TokenError::BadHeader);
    }
    let header: Header<'_> = serde_json::from_str(json).map_err(|_| TokenError::BadHeader)?;
    if header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    Ok(header)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
