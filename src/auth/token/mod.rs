//! JSON Web Tokens (RFC 7519) as Guardian makes them, checked strictly.
//!
//! A [`Verifier`] holds [`Key`]s and [`ClaimRules`]. Each key has one algorithm, given by the configuration: what
//! a token says of itself only chooses among the keys, it never says how to check. The signature is checked before
//! the claims are looked at, and the time is an argument.
//!
//! ```
//! use hailer::auth::token::{Algorithm, ClaimRules, Key, SigningKey, TokenError, Verifier, mint};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = b"kX0vWq4tQ7mZr2LsYpB9nGcE1uHfJd6aRiTo3NxKwCy8Pz5M";
//! let token = mint(&SigningKey::hmac(Algorithm::HS512, secret, None)?,
//!     r#"{"sub":"ada","typ":"access","exp":2000000000}"#)?;
//!
//! let key = Key::hmac(Algorithm::HS512, secret, None)?;
//! let verifier = Verifier::new(vec![key], ClaimRules::default())?;
//! assert_eq!(verifier.verify(&token, 1_999_999_999)?.subject, "ada");
//! // The clocks of two machines differ (`ClaimRules::allowed_drift`).
//! let refusal = verifier.verify(&token, 2_000_000_010).unwrap_err();
//! assert_eq!(refusal.error(), TokenError::Expired);
//! assert_eq!(refusal.to_string(), "token expired: claim exp was 10 s ago (auth.allowed_drift is 10 s)");
//! # Ok(())
//! # }
//! ```

mod algorithm;
mod claims;
mod jwks;
mod key_error;
mod keys;
mod mint;
mod numeric_date;
mod pem;
mod refusal;
mod secret;
mod strict_json;
mod verifier;

#[cfg(test)]
mod tests;

pub use algorithm::{Algorithm, AlgorithmError};
pub use claims::{ALLOWED_DRIFT_MAX, ClaimRules, Claims};
pub use jwks::{Jwks, SkippedKey, keys_of_jwks};
pub use key_error::KeyError;
pub use keys::{KEY_ID_BYTES_MAX, Key, KeyTag};
pub use mint::{GuardianClaims, MintError, SigningKey, mint};
pub(crate) use numeric_date::seconds as numeric_date;
pub use refusal::TokenRefusal;
pub use verifier::{HEADER_BYTES_MAX, KEYS_WITHOUT_ID_MAX, Verifier};

use std::fmt;

/// Why a token is refused, in a word: as much as a client is told. [`TokenRefusal`] says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenError {
    /// It is longer than `token_bytes_max`, or its header than [`HEADER_BYTES_MAX`].
    TooLong,
    /// It is no compact serialisation of three parts in base64url.
    Malformed,
    /// Its header is no plain JSON object with an algorithm.
    BadHeader,
    /// Its header demands an extension (`crit`); none is known here.
    Critical,
    /// No key has the id that its header names, or it names none although the keys have ids.
    UnknownKey,
    /// Its algorithm is not the one of the key: `none`, for example.
    WrongAlgorithm,
    /// Its signature is missing or false.
    BadSignature,
    /// Its claims are no plain JSON object.
    BadClaims,
    /// A claim has a value of the wrong type: an `exp` that is no number, for example.
    WrongType,
    /// It names no user, or a user whose id is empty, too long or holds control characters.
    BadSubject,
    /// It is from another issuer.
    WrongIssuer,
    /// It is meant for somebody else.
    WrongAudience,
    /// It is of another type: a refresh token, for example.
    WrongKind,
    /// It never runs out, and it must.
    NoExpiry,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
}

impl TokenError {
    /// The reason in words. Nothing of the token is in it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token too long",
            Self::Malformed => "malformed token",
            Self::BadHeader => "malformed token header",
            Self::Critical => "token with an unknown extension",
            Self::UnknownKey => "unknown token key",
            Self::WrongAlgorithm => "wrong token algorithm",
            Self::BadSignature => "bad token signature",
            Self::BadClaims => "malformed token claims",
            Self::WrongType => "token claim of the wrong type",
            Self::BadSubject => "bad token subject",
            Self::WrongIssuer => "wrong token issuer",
            Self::WrongAudience => "wrong token audience",
            Self::WrongKind => "wrong token type",
            Self::NoExpiry => "token without expiry",
            Self::Expired => "token expired",
            Self::NotYetValid => "token not yet valid",
        }
    }

    /// Whether another token of the same user may be good: this one is too old, or too young.
    #[must_use]
    pub fn is_of_time(self) -> bool {
        matches!(self, Self::Expired | Self::NotYetValid)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for TokenError {}
