//! `hailer token`

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::Failure;
use super::args::Token;
use crate::auth::connect::Secret;
use crate::config::{Auth, Flags, KeyAlgorithm, SecretEncoding};

/// What signs a token.
struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// Prints a token with Guardian's default claims.
pub(super) fn run(token: Token) -> Result<(), Failure> {
    let loaded = super::load(token.file.config.as_deref(), Flags::default())?;
    let auth = &loaded.settings.auth;
    let signer = match (&token.key, token.algorithm) {
        (Some(path), Some(algorithm)) => {
            let pem =
                std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
            let key = private_key(&pem, algorithm)
                .ok_or_else(|| format!("{} is no private key for {algorithm:?}, in PEM", path.display()))?;
            Signer { key, algorithm, kid: token.kid }
        }
        _ => configured_signer(auth)?,
    };
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is before 1970".to_owned())?;
    let mut claims = claims(auth, &token.sub, now.as_secs(), token.ttl.as_secs(), random_uuid()?);
    claims.extend(token.claims);
    let text = sign(&signer, &claims)?;
    Ok(super::print(&format!("{text}\n"))?)
}

fn sign(signer: &Signer, claims: &Map<String, Value>) -> Result<String, String> {
    let header = Header { kid: signer.kid.clone(), ..Header::new(signer.algorithm) };
    // What the error says is of the key; the key it does not say.
    jsonwebtoken::encode(&header, claims, &signer.key)
        .map_err(|_| format!("the key can't sign with {:?}", signer.algorithm))
}

/// Guardian's default claims.
fn claims(auth: &Auth, sub: &str, now: u64, ttl: u64, jti: String) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("sub", sub.into());
    set("iat", now.into());
    set("nbf", now.saturating_sub(1).into());
    set("exp", now.saturating_add(ttl).into());
    set("jti", jti.into());
    set("typ", if auth.typ.is_empty() { "access" } else { &auth.typ }.into());
    for (name, allowed) in [("iss", &auth.issuer), ("aud", &auth.audience)] {
        if let Some(first) = allowed.first() {
            set(name, first.as_str().into());
        }
    }
    claims
}

/// The secret of the configuration, or the first of its keys that is one.
fn configured_signer(auth: &Auth) -> Result<Signer, String> {
    let of_keys = || {
        let key = auth.keys.iter().find(|key| key.algorithm.is_hmac())?;
        Some((&key.text, key.secret_encoding, key.algorithm, key.kid.clone()))
    };
    let own = auth.secret.as_ref().map(|secret| (secret, auth.secret_encoding, auth.algorithm.into(), None));
    let (secret, encoding, algorithm, kid) = own.or_else(of_keys).ok_or(
        "there is no secret to sign with: give --config FILE with auth.secret_file (`hailer init` writes one), or \
         --key FILE with --algorithm",
    )?;
    let algorithm = match algorithm {
        KeyAlgorithm::Hs256 => Algorithm::HS256,
        KeyAlgorithm::Hs384 => Algorithm::HS384,
        _ => Algorithm::HS512,
    };
    Ok(Signer { key: EncodingKey::from_secret(&secret_bytes(secret, encoding)?), algorithm, kid })
}

fn secret_bytes(secret: &Secret, encoding: SecretEncoding) -> Result<Vec<u8>, String> {
    match encoding {
        SecretEncoding::Raw => Ok(secret.expose().as_bytes().to_vec()),
        // The error would quote a byte of the secret.
        SecretEncoding::Base64 => STANDARD
            .decode(secret.expose())
            .map_err(|_| "the secret is not base64, as secret_encoding says".to_owned()),
    }
}

fn private_key(pem: &[u8], algorithm: Algorithm) -> Option<EncodingKey> {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem).ok(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem).ok(),
        _ => EncodingKey::from_rsa_pem(pem).ok(),
    }
}

/// A UUID of version 4 (RFC 9562, 5.4).
fn random_uuid() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}
