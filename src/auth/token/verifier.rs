//! Checks whole tokens.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::claims::given;
use super::refusal::{joined, shown};
use super::{ClaimRules, Claims, Key, KeyError, TokenError, TokenRefusal, strict_json};
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
    /// The token is not good at this time; the error says why.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<Claims, TokenRefusal> {
        let bytes_max = self.rules.token_bytes_max;
        if token.len() > bytes_max {
            let cause =
                format!("it has {} bytes, more than {bytes_max} (limits.token_bytes_max)", token.len());
            return Err(TokenError::TooLong.because(cause));
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(|| parts(token))?;
        let (header, claims) = message.split_once('.').ok_or_else(|| parts(token))?;
        if header.len() > HEADER_BYTES_MAX {
            let cause = format!("its header has {} bytes, more than {HEADER_BYTES_MAX}", header.len());
            return Err(TokenError::TooLong.because(cause));
        }
        let header = decode(header, "header")?;
        let header = read_header(&header)?;
        // The dots of an encrypted token (RFC 7516) are no letters of base64url, so it fails here.
        if claims.contains('.') {
            return Err(parts(token));
        }
        let (claims, signature) = (decode(claims, "claims")?, decode(signature, "signature")?);
        let named = self.candidates(header.kid.as_deref())?;
        let keys: Vec<&Key> = named.iter().filter(|key| key.algorithm().name() == header.alg).collect();
        if keys.is_empty() {
            let expected: Vec<String> = named.iter().map(Key::told_algorithm).collect();
            let cause = format!("header alg is {}, expected {}", shown(&header.alg), joined(&expected, "or"));
            return Err(TokenError::WrongAlgorithm.because(cause));
        }
        if signature.is_empty() {
            return Err(TokenError::BadSignature.because("it is missing"));
        }
        let signer = keys.iter().find(|key| key.verifies(message.as_bytes(), &signature));
        let signer = signer.ok_or_else(|| {
            let tried: Vec<String> = keys.iter().map(|key| key.told_material()).collect();
            TokenError::BadSignature.because(format!("it is not that of {}", joined(&tried, "or")))
        })?;
        let no_text = |_| TokenError::BadClaims.because("no UTF-8");
        self.rules.check(String::from_utf8(claims).map_err(no_text)?, signer.tag(), now)
    }

    fn candidates(&self, id: Option<&str>) -> Result<&[Key], TokenRefusal> {
        let settings = "(auth.keys, auth.jwks_file)";
        match id {
            Some(id) => self.by_id.get(id).and_then(|at| self.keys.get(*at..=*at)).ok_or_else(|| {
                TokenError::UnknownKey
                    .because(format!("header kid is {}, which no key has {settings}", shown(id)))
            }),
            None if self.without_id > 0 => Ok(&self.keys[..self.without_id]),
            None if self.keys.len() == 1 => Ok(&self.keys),
            None => {
                let cause = format!("header kid is missing, and every key has one {settings}");
                Err(TokenError::UnknownKey.because(cause))
            }
        }
    }
}

/// It has not the three parts of a signed token.
fn parts(token: &str) -> TokenRefusal {
    let count = token.split('.').count();
    // RFC 7516, section 3.1.
    let encrypted = if count == 5 { ", as encrypted tokens have, which are not read" } else { "" };
    let plural = if count == 1 { "" } else { "s" };
    let cause = format!("it has {count} part{plural}{encrypted}, expected 3 with dots between");
    TokenError::Malformed.because(cause)
}

/// RFC 7515, section 2: without padding, white space or bits left over, so that a text has one form only.
fn decode(part: &str, name: &str) -> Result<Vec<u8>, TokenRefusal> {
    let wrong = |_| TokenError::Malformed.because(format!("its {name} is not base64url without padding"));
    URL_SAFE_NO_PAD.decode(part).map_err(wrong)
}

fn read_header(bytes: &[u8]) -> Result<Header<'_>, TokenRefusal> {
    let json = std::str::from_utf8(bytes).map_err(|_| TokenError::BadHeader.because("no UTF-8"))?;
    strict_json::check_plain_object(json)
        .map_err(|error| TokenError::BadHeader.because(error.to_string()))?;
    let wrong = |_| TokenError::BadHeader.because("alg must be a string, and kid if it is there");
    let header: Header<'_> = serde_json::from_str(json).map_err(wrong)?;
    if header.crit.is_some() {
        return Err(TokenError::Critical.because("header crit is there, and no extension is supported"));
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
