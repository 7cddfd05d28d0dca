//! What a token says, and what it must say.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{KeyTag, TokenError, numeric_date, strict_json};
use crate::auth::UnixTime;

/// More drift than this between two clocks is an error of theirs, in seconds.
pub const ALLOWED_DRIFT_MAX: u64 = 60;

/// As far as clocks differ that are set by NTP, and some seconds more.
const ALLOWED_DRIFT: u64 = 10;

/// How long a user's id and a token's id may be: as long as a topic, for they become part of one.
const NAME_BYTES_MAX: usize = 255;

/// What tokens must say. The default is what Guardian writes and checks, and an expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRules {
    /// The issuers (`iss`) that are accepted; empty: any.
    pub issuers: Vec<String>,
    /// The audiences (`aud`) of which a token must have one; empty: any.
    pub audiences: Vec<String>,
    /// What the claim `typ` must be, if there is one. Guardian writes `access` or `refresh`; most other makers of
    /// tokens write none, and some say `token_type`, `token_use` or `type` instead, which is compared then. `None`:
    /// any.
    pub typ: Option<String>,
    /// Whether a token must have the claim `typ`.
    pub require_typ: bool,
    /// How many seconds the clocks of the issuer and of this server may differ, at most [`ALLOWED_DRIFT_MAX`]: a
    /// token is good for as long before its `nbf` and after its `exp`. (Guardian's setting of this name is in
    /// milliseconds.)
    pub allowed_drift: u64,
    /// Whether a token must run out (`exp`).
    pub require_exp: bool,
    /// How long a token may be.
    pub token_bytes_max: usize,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            audiences: Vec::new(),
            typ: Some("access".to_owned()),
            require_typ: false,
            allowed_drift: ALLOWED_DRIFT,
            require_exp: true,
            token_bytes_max: 8192,
        }
    }
}

/// What a good token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user's id (`sub`); a whole number is given as its decimal text.
    pub subject: String,
    /// When the token runs out (`exp`), a fraction dropped.
    pub expires: Option<UnixTime>,
    /// When it ceases to be accepted: `expires`, and the allowed drift behind it.
    pub accepted_until: Option<UnixTime>,
    /// When it was made (`iat`), a fraction dropped. It may lie in the future of this server's clock.
    pub issued: Option<UnixTime>,
    /// Its own id (`jti`).
    pub id: Option<String>,
    /// All claims as they came, a JSON object without duplicate members.
    pub json: String,
    /// The key that the token was verified with.
    pub key: KeyTag,
}

impl fmt::Debug for Claims {
    /// The user alone: the others are the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The claims that are looked at, unread: serde would take `null` for absent.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    exp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    nbf: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    iat: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    jti: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    iss: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    aud: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    typ: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    token_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    token_use: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    r#type: Option<&'a RawValue>,
}

/// Reads a member that is there, so that `null` is a value as well.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl ClaimRules {
    /// Reads the claims of a token with a good signature, and checks them.
    pub(super) fn check(&self, json: String, key: KeyTag, now: UnixTime) -> Result<Claims, TokenError> {
        let wire: Wire<'_> = serde_json::from_str(&json).map_err(|_| TokenError::BadClaims)?;
        let (expires, begins, issued) = (time(wire.exp)?, time(wire.nbf)?, time(wire.iat)?);
        if !strict_json::is_plain_object(&json) {
            return Err(TokenError::BadClaims);
        }
        let subject = subject(wire.sub)?;
        let id = wire
            .jti
            .map(|jti| text(jti).filter(|id| is_name(id)).ok_or(TokenError::WrongType))
            .transpose()?;
        self.check_origin(&wire)?;
        self.check_times(expires, begins, now)?;
        let accepted_until = expires.map(|expires| expires.saturating_add(self.drift()));
        Ok(Claims { subject, expires, accepted_until, issued, id, json, key })
    }

    /// Who made the token, whom for and what as.
    fn check_origin(&self, wire: &Wire<'_>) -> Result<(), TokenError> {
        if !self.issuers.is_empty() {
            let issuer = one(wire.iss)?.ok_or(TokenError::WrongIssuer)?;
            if !self.issuers.contains(&issuer) {
                return Err(TokenError::WrongIssuer);
            }
        }
        if !self.audiences.is_empty() && !several(wire.aud)?.iter().any(|one| self.audiences.contains(one)) {
            return Err(TokenError::WrongAudience);
        }
        self.typ.as_ref().map_or(Ok(()), |expected| self.check_kind(wire, expected))
    }

    /// What the token is for: a refresh token, which lives for weeks, is signed with the same key as a rule.
    fn check_kind(&self, wire: &Wire<'_>, expected: &str) -> Result<(), TokenError> {
        match one(wire.typ)? {
            Some(typ) if typ == expected => return Ok(()),
            None if !self.require_typ => {}
            _ => return Err(TokenError::WrongKind),
        }
        // Where others say it: Django Simple JWT, Amazon Cognito, Flask-JWT-Extended.
        for kind in [wire.token_type, wire.token_use, wire.r#type] {
            // RFC 6750 calls an access token so.
            let is_expected = |kind: String| kind == expected || kind.eq_ignore_ascii_case("bearer");
            if one(kind)?.is_some_and(|kind| !is_expected(kind)) {
                return Err(TokenError::WrongKind);
            }
        }
        Ok(())
    }

    /// RFC 7519, section 4.1.4: `now` must be before `exp`. Guardian accepts the second itself too; where sockets
    /// are closed at `exp`, a token that connects then would be closed at once.
    ///
    /// `iat` is no condition (section 4.1.6): it says how old a token is, and an issuer whose clock is ahead is not
    /// refused for it.
    fn check_times(
        &self,
        expires: Option<UnixTime>,
        begins: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(), TokenError> {
        match expires {
            None if self.require_exp => return Err(TokenError::NoExpiry),
            Some(expires) if expires.saturating_add(self.drift()) <= now => return Err(TokenError::Expired),
            _ => {}
        }
        if begins.is_some_and(|begins| begins > now.saturating_add(self.drift())) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    fn drift(&self) -> u64 {
        self.allowed_drift.min(ALLOWED_DRIFT_MAX)
    }
}

fn time(value: Option<&RawValue>) -> Result<Option<UnixTime>, TokenError> {
    let read = |value: &RawValue| serde_json::from_str(value.get()).map_err(|_| TokenError::WrongType);
    value.map(|value| read(value).map(|number| numeric_date(&number))).transpose()
}

fn whole(value: &RawValue) -> Option<u64> {
    // A sign, a fraction or an exponent makes it another type.
    value.get().bytes().all(|byte| byte.is_ascii_digit()).then(|| value.get().parse().ok())?
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn one(value: Option<&RawValue>) -> Result<Option<String>, TokenError> {
    value.map(|value| text(value).ok_or(TokenError::WrongType)).transpose()
}

/// RFC 7519, section 4.1.3: one text or a list of them.
fn several(value: Option<&RawValue>) -> Result<Vec<String>, TokenError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    match text(value) {
        Some(one) => Ok(vec![one]),
        None => serde_json::from_str(value.get()).map_err(|_| TokenError::WrongType),
    }
}

/// Some applications write the user's number as a number: Guardian leaves that to them.
fn subject(value: Option<&RawValue>) -> Result<String, TokenError> {
    let value = value.ok_or(TokenError::BadSubject)?;
    match whole(value) {
        Some(number) => Ok(number.to_string()),
        None => text(value).filter(|text| is_name(text)).ok_or(TokenError::BadSubject),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}
