//! `hailer token`

use std::time::{SystemTime, UNIX_EPOCH};

use super::Failure;
use super::args::Token;
use crate::auth::token::{GuardianClaims, SigningKey, mint};
use crate::config::{Auth, Flags};
use crate::standalone::{signing_key, verifier};

/// Prints a token with Guardian's default claims.
pub(super) fn run(token: Token) -> Result<(), Failure> {
    let loaded = super::load(token.file.config.as_deref(), Flags::default())?;
    let auth = &loaded.settings.auth;
    let signer = match (&token.key, token.algorithm) {
        (Some(path), Some(algorithm)) => {
            let name = path.display();
            let pem = std::fs::read(path).map_err(|error| format!("can't read {name}: {error}"))?;
            SigningKey::pem(algorithm, &pem, token.kid.as_deref())
                .map_err(|error| format!("{name}: {error}"))?
        }
        _ => signing_key(auth).map_err(|error| error.to_string())?.ok_or_else(|| no_secret(auth))?,
    };
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is before 1970".to_owned())?;
    let (issuer, audience) = (auth.issuer.first(), auth.audience.first());
    let claims = GuardianClaims {
        subject: &token.sub,
        issuer: issuer.map(String::as_str),
        audience: audience.map(String::as_str),
        typ: if auth.typ.is_empty() { "access" } else { &auth.typ },
        now: now.as_secs(),
        ttl: token.ttl.as_secs(),
        token_id: &random_uuid()?,
    };
    let text = mint(&signer, &claims.to_json(&token.claims.into_iter().collect()))
        .map_err(|error| error.to_string())?;
    super::print(&format!("{text}\n"))?;
    // Whatever it was signed with: it is made for the server of the configuration.
    if let Some(verifier) = verifier(auth, &loaded.settings.limits).map_err(|error| error.to_string())?
        && let Err(error) = verifier.verify(&text, now.as_secs())
    {
        super::warn(&format!("the server of this configuration would refuse this token: {error}"));
    }
    Ok(())
}

/// What is to be done where no secret is.
fn no_secret(auth: &Auth) -> String {
    if auth.has_key() {
        "the keys of the configuration are public ones, which verify tokens and can't sign them: give the private key, with \
         --key FILE and --algorithm"
            .to_owned()
    } else {
        "there is no secret to sign with: give --config FILE with auth.secret_file (`hailer init` writes one), or --key FILE \
         with --algorithm"
            .to_owned()
    }
}

/// A UUID of version 4 (RFC 9562, 5.4).
fn random_uuid() -> Result<String, String> {
    let mut bytes = super::fresh_bytes::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}
