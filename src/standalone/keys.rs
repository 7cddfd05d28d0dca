//! From the settings of `[auth]` to keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::warn;

use super::SettingsError;
use crate::auth::connect::Secret;
use crate::auth::token::keys_of_jwks;
use crate::auth::token::{ALLOWED_DRIFT_MAX, Algorithm, ClaimRules, Key, KeyError, SigningKey, Verifier};
use crate::config::{Auth, SecretEncoding};
use crate::limits::Limits;

/// What checks the tokens of clients; `None` where there is no key.
///
/// # Errors
/// A key can't be read, is weak, or is an example that everybody knows.
pub fn verifier(auth: &Auth, limits: &Limits) -> Result<Option<Verifier>, SettingsError> {
    if !auth.has_key() {
        return Ok(None);
    }
    let mut keys = Vec::new();
    if let Some(secret) = &auth.secret {
        let bytes = secret_bytes("auth.secret", secret, auth.secret_encoding)?;
        let name = if auth.secret_file.is_some() { "auth.secret_file" } else { "auth.secret" };
        let own = key("auth.secret", Key::hmac(auth.algorithm.into(), &bytes, None))?;
        keys.push(own.configured_by("auth.algorithm", &format!("{name}, auth.secret_encoding")));
    }
    if let Some(jwks) = &auth.jwks {
        let set = key("auth.jwks_file", keys_of_jwks(jwks.expose().as_bytes()))?;
        for skipped in &set.skipped {
            warn!(key = skipped.at, reason = skipped.reason, "a key of auth.jwks_file is not used");
        }
        keys.extend(set.keys.into_iter().map(|key| key.configured_by("auth.jwks_file", "auth.jwks_file")));
    }
    for (at, entry) in (1..).zip(&auth.keys) {
        let name = format!("auth.keys {at}");
        let id = entry.kid.as_deref();
        let read = if entry.algorithm.is_symmetric() {
            Key::hmac(entry.algorithm, &secret_bytes(&name, &entry.text, entry.secret_encoding)?, id)
        } else {
            Key::pem(entry.algorithm, entry.text.expose().as_bytes(), id)
        };
        let table = format!("auth.keys[{}]", at - 1);
        let material = match (entry.algorithm.is_symmetric(), entry.file.is_some()) {
            (true, true) => format!("{table}.file, {table}.secret_encoding"),
            (true, false) => format!("{table}.secret, {table}.secret_encoding"),
            (false, _) => format!("{table}.file"),
        };
        keys.push(key(&name, read)?.configured_by(&format!("{table}.algorithm"), &material));
    }
    for warning in keys.iter().filter_map(Key::warning) {
        warn!("{warning}");
    }
    let rules = ClaimRules {
        issuers: auth.issuer.clone(),
        audiences: auth.audience.clone(),
        typ: Some(auth.typ.clone()).filter(|typ| !typ.is_empty()),
        require_typ: auth.require_typ,
        allowed_drift: auth.allowed_drift.as_secs().min(ALLOWED_DRIFT_MAX),
        require_exp: auth.require_exp,
        token_bytes_max: limits.token_bytes_max,
    };
    key("[auth]", Verifier::new(keys, rules)).map(Some)
}

/// What signs tokens with the first secret of the settings; `None` where there is none.
pub(crate) fn signing_key(auth: &Auth) -> Result<Option<SigningKey>, SettingsError> {
    let of_keys = || {
        let entry = auth.keys.iter().find(|entry| entry.algorithm.is_symmetric())?;
        Some((&entry.text, entry.secret_encoding, entry.algorithm, entry.kid.as_deref()))
    };
    let own = auth.secret.as_ref().map(|secret| (secret, auth.secret_encoding, auth.algorithm.into(), None));
    let Some((secret, encoding, algorithm, id)) = own.or_else(of_keys) else { return Ok(None) };
    let algorithm: Algorithm = algorithm;
    let bytes = secret_bytes("[auth]", secret, encoding)?;
    key("[auth]", SigningKey::hmac(algorithm, &bytes, id)).map(Some)
}

fn key<T>(name: &str, result: Result<T, KeyError>) -> Result<T, SettingsError> {
    result.map_err(|error| SettingsError(format!("{name}: {error}")))
}

fn secret_bytes(name: &str, secret: &Secret, encoding: SecretEncoding) -> Result<Vec<u8>, SettingsError> {
    match encoding {
        SecretEncoding::Raw => Ok(secret.expose().as_bytes().to_vec()),
        // What the error of the decoder says is of the text, which is a secret.
        SecretEncoding::Base64 => STANDARD.decode(secret.expose().trim()).map_err(|_| {
            SettingsError(format!("{name}: the secret is no base64 (standard alphabet, with padding)"))
        }),
    }
}
