//! Makes tokens, for development and tests: in production the application makes them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use serde_json::{Map, Value, json};

use super::keys::check_id;
use super::{Algorithm, KeyError, pem, secret, strict_json};
use crate::auth::UnixTime;

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    material: EncodingKey,
}

impl SigningKey {
    /// A secret for one of the HMAC algorithms; its bytes are taken as they are. `id` becomes the tokens' `kid`.
    ///
    /// # Errors
    /// As of [`Key::hmac`](super::Key::hmac).
    pub fn hmac(algorithm: Algorithm, secret: &[u8], id: Option<&str>) -> Result<Self, KeyError> {
        if !algorithm.is_symmetric() {
            return Err(KeyError::NoPrivateKey);
        }
        secret::check(algorithm, secret)?;
        Self::new(algorithm, EncodingKey::from_secret(secret), id)
    }

    /// A private key in PEM (PKCS #8) for one of the other algorithms.
    ///
    /// # Errors
    /// The algorithm is an HMAC; there is not one private key that can sign with it; the id is empty or too long.
    pub fn pem(algorithm: Algorithm, pem: &[u8], id: Option<&str>) -> Result<Self, KeyError> {
        if algorithm.is_symmetric() {
            return Err(KeyError::NeedsSecret(algorithm));
        }
        Self::new(algorithm, pem::private(algorithm, pem)?, id)
    }

    fn new(algorithm: Algorithm, material: EncodingKey, id: Option<&str>) -> Result<Self, KeyError> {
        check_id(id)?;
        let key = Self { id: id.map(Into::into), algorithm, material };
        // Whether the key is of the right kind and curve, shows when it signs.
        key.sign(b"").ok_or(KeyError::BadPrivateKey(algorithm))?;
        Ok(key)
    }

    /// The algorithm it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signer = (DEFAULT_PROVIDER.signer_factory)(&self.algorithm.jwt(), &self.material).ok()?;
        signer.try_sign(message).ok()
    }

    /// A token of any header and claims, good or not.
    pub(super) fn token(&self, header: &str, claims: &str) -> Option<String> {
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

impl fmt::Debug for SigningKey {
    /// The id and the algorithm alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Why no token was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintError {
    /// The claims are no JSON object, have a member twice or are nested deeply.
    BadClaims,
    /// The key failed to sign.
    CantSign,
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadClaims => "the claims are no JSON object, or have a member twice",
            Self::CantSign => "the key failed to sign",
        })
    }
}

impl std::error::Error for MintError {}

/// Makes a token of claims, a JSON object that is taken as it is.
///
/// # Errors
/// The claims are no plain object, or the key fails.
pub fn mint(key: &SigningKey, claims: &str) -> Result<String, MintError> {
    if !strict_json::is_plain_object(claims) {
        return Err(MintError::BadClaims);
    }
    let mut header = json!({ "alg": key.algorithm.name(), "typ": "JWT" });
    if let Some(id) = &key.id {
        header["kid"] = Value::from(&**id);
    }
    key.token(&header.to_string(), claims).ok_or(MintError::CantSign)
}

/// The claims that Guardian gives a token.
#[derive(Debug, Clone, Copy)]
pub struct GuardianClaims<'a> {
    /// The user's id (`sub`).
    pub subject: &'a str,
    /// The issuer (`iss`), and the audience (`aud`) as well unless there is another. Guardian always writes one.
    pub issuer: Option<&'a str>,
    /// The audience, where it is not the issuer.
    pub audience: Option<&'a str>,
    /// The type (`typ`): `access` as a rule.
    pub typ: &'a str,
    /// When the token is made (`iat`); it holds from the second before (`nbf`).
    pub now: UnixTime,
    /// For how many seconds it holds.
    pub ttl: u64,
    /// The token's id (`jti`): Guardian draws a UUID.
    pub token_id: &'a str,
}

impl GuardianClaims<'_> {
    /// The claims as a JSON object. Those of `others` are added, or stand in place of those of the same name.
    #[must_use]
    pub fn to_json(&self, others: &Map<String, Value>) -> String {
        let mut claims = json!({
            "exp": self.now.saturating_add(self.ttl),
            "iat": self.now,
            "jti": self.token_id,
            "nbf": self.now.saturating_sub(1),
            "sub": self.subject,
            "typ": self.typ,
        });
        if let Some(claims) = claims.as_object_mut() {
            let named = [("iss", self.issuer), ("aud", self.audience.or(self.issuer))];
            claims
                .extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
            claims.extend(others.clone());
        }
        claims.to_string()
    }
}
