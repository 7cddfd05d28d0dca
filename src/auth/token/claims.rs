//! What a token says, and what it must say.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::refusal::{kind, shown, shown_list};
use super::{KeyTag, TokenError, TokenRefusal, numeric_date, strict_json};
use crate::auth::UnixTime;

/// More drift than this between two clocks is an error of theirs, in seconds.
pub const ALLOWED_DRIFT_MAX: u64 = 60;

/// As far as clocks differ that are set by NTP, and some seconds more.
const ALLOWED_DRIFT: u64 = 10;

/// How long a user's id and a token's id may be: as long as a topic, for they become part of one.
const NAME_BYTES_MAX: usize = 255;
/// The same in words.
const NAME: &str = "a string of 1 to 255 bytes without control characters";

/// A time beyond this, in the year 5138, was most likely not written in seconds.
const IN_SECONDS_MAX: UnixTime = 100_000_000_000;
const IN_MILLISECONDS: &str = ", as if it was in milliseconds";

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
    pub(super) fn check(&self, json: String, key: KeyTag, now: UnixTime) -> Result<Claims, TokenRefusal> {
        let bad = |error: serde_json::Error| TokenError::BadClaims.because(error.to_string());
        // The strict look finds whatever this one does, and says it without quoting.
        let wire: Wire<'_> = serde_json::from_str(&json).map_err(|_| {
            strict_json::check_plain_object(&json).map_or_else(bad, |()| TokenError::BadClaims.into())
        })?;
        let (expires, begins) = (time("exp", wire.exp)?, time("nbf", wire.nbf)?);
        let issued = time("iat", wire.iat)?;
        strict_json::check_plain_object(&json).map_err(bad)?;
        let subject = subject(wire.sub)?;
        let id = wire.jti.map(token_id).transpose()?;
        self.check_origin(&wire)?;
        self.check_times(expires, begins, now)?;
        let accepted_until = expires.map(|expires| expires.saturating_add(self.drift()));
        Ok(Claims { subject, expires, accepted_until, issued, id, json, key })
    }

    /// Who made the token, whom for and what as.
    fn check_origin(&self, wire: &Wire<'_>) -> Result<(), TokenRefusal> {
        if !self.issuers.is_empty() {
            let issuer = one("iss", wire.iss)?;
            if !issuer.as_ref().is_some_and(|issuer| self.issuers.contains(issuer)) {
                let found = issuer.map(|issuer| shown(&issuer));
                let cause = differs("iss", found.as_deref(), &self.issuers, "auth.issuer");
                return Err(TokenError::WrongIssuer.because(cause));
            }
        }
        if !self.audiences.is_empty() {
            let audiences = several("aud", wire.aud)?;
            if !audiences.iter().any(|one| self.audiences.contains(one)) {
                let found = wire.aud.map(|_| shown_list(&audiences, "and"));
                let cause = differs("aud", found.as_deref(), &self.audiences, "auth.audience");
                return Err(TokenError::WrongAudience.because(cause));
            }
        }
        self.typ.as_ref().map_or(Ok(()), |expected| self.check_kind(wire, expected))
    }

    /// What the token is for: a refresh token, which lives for weeks, is signed with the same key as a rule.
    fn check_kind(&self, wire: &Wire<'_>, expected: &str) -> Result<(), TokenRefusal> {
        let wrong = |name, found: Option<&String>, setting| {
            let found = found.map(|kind| shown(kind));
            let cause = differs(name, found.as_deref(), &[expected.to_owned()], setting);
            Err(TokenError::WrongKind.because(cause))
        };
        let setting = "auth.typ; \"\" takes any";
        match &one("typ", wire.typ)? {
            Some(typ) if typ == expected => return Ok(()),
            None if self.require_typ => return wrong("typ", None, "auth.require_typ"),
            None => {}
            found => return wrong("typ", found.as_ref(), setting),
        }
        // Where others say it: Django Simple JWT, Amazon Cognito, Flask-JWT-Extended.
        for (name, value) in
            [("token_type", wire.token_type), ("token_use", wire.token_use), ("type", wire.r#type)]
        {
            // RFC 6750 calls an access token so.
            let is_expected = |kind: &String| kind == expected || kind.eq_ignore_ascii_case("bearer");
            let found = one(name, value)?;
            if found.as_ref().is_some_and(|kind| !is_expected(kind)) {
                return wrong(name, found.as_ref(), setting);
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
    ) -> Result<(), TokenRefusal> {
        let drift = self.drift();
        match expires {
            None if self.require_exp => {
                let cause = "claim exp is missing (auth.require_exp; false takes such tokens)";
                return Err(TokenError::NoExpiry.because(cause));
            }
            Some(expires) if expires.saturating_add(drift) <= now => {
                let ago = now - expires;
                let cause = format!("claim exp was {ago} s ago (auth.allowed_drift is {drift} s)");
                return Err(TokenError::Expired.because(cause));
            }
            _ => {}
        }
        match begins {
            Some(begins) if begins > now.saturating_add(drift) => {
                let (ahead, hint) =
                    (begins - now, if begins > IN_SECONDS_MAX { IN_MILLISECONDS } else { "" });
                let cause = format!("claim nbf is {ahead} s ahead{hint} (auth.allowed_drift is {drift} s)");
                Err(TokenError::NotYetValid.because(cause))
            }
            _ => Ok(()),
        }
    }

    fn drift(&self) -> u64 {
        self.allowed_drift.min(ALLOWED_DRIFT_MAX)
    }
}

fn time(name: &str, value: Option<&RawValue>) -> Result<Option<UnixTime>, TokenRefusal> {
    let Some(value) = value else { return Ok(None) };
    match serde_json::from_str(value.get()) {
        Ok(number) => Ok(Some(numeric_date(&number))),
        // Other readers take it for infinite, or for nothing at all.
        Err(_) if kind(value) == "a number" => {
            Err(TokenError::WrongType.because(format!("claim {name} is a number beyond what a double holds")))
        }
        Err(_) => Err(wrong_type(name, value, "a number")),
    }
}

fn wrong_type(name: &str, value: &RawValue, expected: &str) -> TokenRefusal {
    TokenError::WrongType.because(format!("claim {name} is {}, expected {expected}", kind(value)))
}

/// A claim is missing, or not among what a setting lists.
fn differs(name: &str, found: Option<&str>, expected: &[String], setting: &str) -> String {
    let found = found.unwrap_or("missing");
    format!("claim {name} is {found}, expected {} ({setting})", shown_list(expected, "or"))
}

/// A whole number, written as such: a sign, a fraction or an exponent makes it another type.
fn whole(value: &RawValue) -> Option<u64> {
    value.get().bytes().all(|byte| byte.is_ascii_digit()).then(|| value.get().parse().ok())?
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn one(name: &str, value: Option<&RawValue>) -> Result<Option<String>, TokenRefusal> {
    value.map(|value| text(value).ok_or_else(|| wrong_type(name, value, "a string"))).transpose()
}

/// RFC 7519, section 4.1.3: one text or a list of them.
fn several(name: &str, value: Option<&RawValue>) -> Result<Vec<String>, TokenRefusal> {
    let Some(value) = value else { return Ok(Vec::new()) };
    match text(value) {
        Some(one) => Ok(vec![one]),
        None => serde_json::from_str(value.get())
            .map_err(|_| wrong_type(name, value, "a string, or an array of nothing but strings")),
    }
}

/// Some applications write the user's number as a number: Guardian leaves that to them.
fn subject(value: Option<&RawValue>) -> Result<String, TokenRefusal> {
    let bad = |cause: String| TokenError::BadSubject.because(format!("claim sub {cause}"));
    let value = value.ok_or_else(|| bad("is missing, which names the user".to_owned()))?;
    if let Some(number) = whole(value) {
        return Ok(number.to_string());
    }
    match text(value) {
        Some(text) if is_name(&text) => Ok(text),
        Some(_) => Err(bad(format!("is not {NAME}"))),
        None => Err(bad(format!("is {}, expected {NAME}, or a whole number", kind(value)))),
    }
}

fn token_id(value: &RawValue) -> Result<String, TokenRefusal> {
    let is_bad = || TokenError::WrongType.because(format!("claim jti is {}, expected {NAME}", kind(value)));
    text(value).filter(|id| is_name(id)).ok_or_else(is_bad)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}
