//! Keys from a JWK set (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::keys::{Material, rsa};
use super::{Algorithm, Key, KeyError};

/// What a JWK set holds for us.
#[derive(Debug)]
pub struct Jwks {
    /// The keys that verify tokens, in their order.
    pub keys: Vec<Key>,
    /// The others.
    pub skipped: Vec<SkippedKey>,
}

/// A key of a set that is not for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in the set, from zero.
    pub at: usize,
    /// Why it is not used.
    pub reason: &'static str,
}

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// The members of a JWK that matter here. A duplicate one is an error, one that is `null` counts as absent.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    /// There only in private keys.
    d: Option<IgnoredAny>,
}

/// Reads a JWK set. A key for encryption, of a kind or for an algorithm that is not supported, is skipped. RSA keys
/// without an `alg` are taken for RS256, those on a curve for the curve's algorithm.
///
/// # Errors
/// The text is no set; it holds no key for us; one of those for us is malformed, weak or private, or two have one id.
pub fn keys_of_jwks(json: &[u8]) -> Result<Jwks, KeyError> {
    let set: Set<'_> = serde_json::from_slice(json)
        .map_err(|_| KeyError::NoJwks("an object with a list \"keys\" is expected"))?;
    let mut jwks = Jwks { keys: Vec::new(), skipped: Vec::new() };
    for (at, text) in set.keys.into_iter().enumerate() {
        let within = |error| KeyError::InJwks { at, error: Box::new(error) };
        let jwk: Jwk = serde_json::from_str(text.get())
            .map_err(|_| KeyError::NoJwks("a key is no object with a \"kty\""))?;
        match jwk.read().map_err(within)? {
            Ok(key) => {
                if let Some(id) = key.id().filter(|id| jwks.keys.iter().any(|known| known.id() == Some(*id)))
                {
                    return Err(KeyError::DuplicateId(id.into()));
                }
                jwks.keys.push(key);
            }
            Err(reason) => jwks.skipped.push(SkippedKey { at, reason }),
        }
    }
    if jwks.keys.is_empty() {
        return Err(KeyError::NoKeys);
    }
    Ok(jwks)
}

impl Jwk {
    /// The key, why it is not for us, or what is wrong with it.
    fn read(&self) -> Result<Result<Key, &'static str>, KeyError> {
        if self.used_for.as_deref().is_some_and(|used_for| used_for != "sig") {
            return Ok(Err("it is not for signatures"));
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Ok(Err("it is not for verifying"));
        }
        let algorithm = match self.alg.as_deref().map(str::parse::<Algorithm>) {
            Some(Ok(algorithm)) => Some(algorithm),
            Some(Err(_)) => return Ok(Err("its algorithm is not supported")),
            None => None,
        };
        if self.d.is_some() {
            return Err(KeyError::PrivateKey);
        }
        let (usual, material) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => return self.secret(algorithm).map(Ok),
            ("RSA", _) => {
                (Algorithm::RS256, rsa(&member("n", self.n.as_ref())?, &member("e", self.e.as_ref())?)?)
            }
            ("EC", Some("P-256")) => (Algorithm::ES256, Material::p256(&self.point(32)?)),
            ("EC", Some("P-384")) => (Algorithm::ES384, Material::p384(&self.point(48)?)),
            ("OKP", Some("Ed25519")) => {
                (Algorithm::EdDSA, Material::ed25519(&sized("x", self.x.as_ref(), 32)?))
            }
            ("EC" | "OKP", _) => return Ok(Err("its curve is not supported")),
            _ => return Ok(Err("its type is not supported")),
        };
        let algorithm = algorithm.unwrap_or(usual);
        if algorithm.family() != material.family() {
            return Err(KeyError::OtherKind { algorithm, found: material.family().name() });
        }
        Key::new(algorithm, material, 0, self.kid.as_deref()).map(Ok)
    }

    /// There is no usual algorithm for a secret: one has to be given.
    fn secret(&self, algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
        let algorithm =
            algorithm.filter(|algorithm| algorithm.is_symmetric()).ok_or(KeyError::JwkMember("alg"))?;
        Key::hmac(algorithm, &member("k", self.k.as_ref())?, self.kid.as_deref())
    }

    fn point(&self, bytes: usize) -> Result<Vec<u8>, KeyError> {
        Ok([sized("x", self.x.as_ref(), bytes)?, sized("y", self.y.as_ref(), bytes)?].concat())
    }
}

fn sized(name: &'static str, value: Option<&String>, bytes: usize) -> Result<Vec<u8>, KeyError> {
    member(name, value)
        .and_then(|value| if value.len() == bytes { Ok(value) } else { Err(KeyError::JwkMember(name)) })
}

fn member(name: &'static str, value: Option<&String>) -> Result<Vec<u8>, KeyError> {
    value.and_then(|value| URL_SAFE_NO_PAD.decode(value).ok()).ok_or(KeyError::JwkMember(name))
}
