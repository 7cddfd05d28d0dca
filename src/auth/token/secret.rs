//! Which secrets are too weak to sign with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Algorithm, KeyError};

/// No HMAC secret is shorter, whatever the hash: RFC 7518, section 3.2 asks for the hash's length, and this is the
/// shortest one's.
const SECRET_BYTES_MIN: usize = 32;

/// A secret of fewer different bytes was typed and not drawn. In 32 random hexadecimal digits there are so few once
/// in ten billion.
const DIFFERENT_BYTES_MIN: usize = 6;

/// Secrets of documentation, templates and tutorials, in lower case and without what is no letter or digit.
const EXAMPLES: &[&str] = &[
    "secret",
    "thesecret",
    "mysecret",
    "mysecretkey",
    "secretkey",
    "secretkeyhere",
    "supersecret",
    "supersecretkey",
    "supersecretjwt",
    "yoursecret",
    "yoursecretkey",
    "yoursecretkeyhere",
    "yourjwtsecret",
    "yoursupersecretkey",
    "yourguardiansecret",
    "yourguardiansecretkey",
    "replaceme",
    "replacethissecret",
    "changeme",
    "changethis",
    "changethissecret",
    "changethissecretkey",
    "password",
    "example",
    "examplesecret",
    "test",
    "testsecret",
    "hailer",
    "hailersecret",
    // jwt.io, in its older and its newer form.
    "your256bitsecret",
    "your384bitsecret",
    "your512bitsecret",
    "astringsecretatleast256bitslong",
    "avalidstringsecretthatisatleast384bitslong",
    "avalidstringsecretthatisatleast512bitslongwhichisverylong",
    // Guardian's README.
    "secretkeyyoucanusemixguardiangensecrettogetone",
    "secretkeyyoucanusemixphxgensecrettogetone",
    // Supabase, self-hosted and for development.
    "yoursupersecretjwttokenwithatleast32characterslong",
    "supersecretjwttokenwithatleast32characterslong",
    // PostgREST.
    "reallyreallyreallyreallyverysafe",
    "yourjwtsecretkey",
    "yourjwtsecretkeyhere",
    "yoursupersecretjwtkey",
    "yoursupersecretjwtsecret",
    "supersecretjwtkey",
    "thisisasecret",
    "thisisasecretkey",
    "thisisaverysecretkey",
    // Mercure.
    "changethismercurehubjwtsecretkey",
    // The key of RFC 7515, appendix A.1.
    "aym1sysppbydfgzld3umj1qzkobwvmkoqqestjqlrt1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
    // Digits and letters in their order.
    "01234567890123456789012345678901",
    "0123456789abcdef0123456789abcdef",
    "12345678901234567890123456789012",
    "abcdefghijklmnopqrstuvwxyz012345",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "abcdefghijklmnopqrstuvwxyz123456",
    "abcdefghijklmnopqrstuvwxyz",
];

/// What only a placeholder says of itself, written likewise.
const PHRASES: &[&str] =
    &["changeinproduction", "changemeinproduction", "changethisinproduction", "changeitinproduction"];

/// Refuses a secret that others know or can guess.
pub(super) fn check(algorithm: Algorithm, secret: &[u8]) -> Result<(), KeyError> {
    if secret.is_empty() {
        return Err(KeyError::Empty);
    }
    // CVE-2022-29217 and its kin: a public key as an HMAC secret lets everybody sign.
    if is_public_key(secret) {
        return Err(KeyError::KeyAsSecret(algorithm));
    }
    if is_example(secret) || is_example(URL_SAFE_NO_PAD.encode(secret).as_bytes()) {
        return Err(KeyError::ExampleSecret);
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(KeyError::ShortSecret { bytes: secret.len(), bytes_min: SECRET_BYTES_MIN });
    }
    let mut seen = [false; 256];
    secret.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    if seen.iter().filter(|seen| **seen).count() < DIFFERENT_BYTES_MIN {
        return Err(KeyError::MonotonousSecret);
    }
    Ok(())
}

fn is_public_key(secret: &[u8]) -> bool {
    memchr::memmem::find(secret, b"-----BEGIN").is_some()
        || secret.trim_ascii_start().starts_with(b"ssh-")
        || secret.trim_ascii_start().starts_with(b"{") && memchr::memmem::find(secret, b"\"kty\"").is_some()
}

/// Whether the secret is one of the examples, or one of them said several times over, or a placeholder by what it says.
fn is_example(secret: &[u8]) -> bool {
    let plain: Vec<u8> =
        secret.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    !plain.is_empty()
        && (EXAMPLES
            .iter()
            .any(|example| plain.chunks(example.len()).all(|chunk| chunk == example.as_bytes()))
            || PHRASES.iter().any(|phrase| memchr::memmem::find(&plain, phrase.as_bytes()).is_some())
            || states_a_length(&plain))
}

/// Whether the text says how long a secret has to be ("at least 32 characters"), as templates have it say.
fn states_a_length(plain: &[u8]) -> bool {
    let rests = memchr::memmem::find_iter(plain, b"atleast").map(|at| &plain[at + b"atleast".len()..]);
    rests.into_iter().any(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && [&b"char"[..], b"byte", b"bit"].iter().any(|unit| rest[digits..].starts_with(unit))
    })
}
