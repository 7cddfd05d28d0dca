//! What is wrong with a key.

use std::fmt;

use super::algorithm::Family;
use super::keys::{KEY_ID_BYTES_MAX, RSA_BITS_MAX, RSA_BITS_MIN};
use super::{Algorithm, KEYS_WITHOUT_ID_MAX};

/// What is wrong with a key. It holds nothing of the key itself, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// There is no secret.
    Empty,
    /// The secret can be guessed.
    ShortSecret {
        /// Its length.
        bytes: usize,
        /// What it has to be at least.
        bytes_min: usize,
    },
    /// The secret stands in documentation.
    ExampleSecret,
    /// The secret is one of a few characters over and over.
    MonotonousSecret,
    /// A public or private key was given as the secret of an HMAC.
    KeyAsSecret(Algorithm),
    /// The algorithm signs with a secret, but a PEM file was given.
    NeedsSecret(Algorithm),
    /// The algorithm verifies with a public key, but a secret was given.
    NeedsPublicKey(Algorithm),
    /// A private key was given where a public one is enough.
    PrivateKey,
    /// A certificate was given instead of its key.
    Certificate,
    /// The file holds no public key in PEM.
    NoPem(Algorithm),
    /// The file holds several keys.
    SeveralKeys,
    /// The key is for other algorithms.
    OtherKind {
        /// What it is to be used with.
        algorithm: Algorithm,
        /// What it is.
        found: &'static str,
    },
    /// The key is of a kind or on a curve that is not supported.
    UnsupportedKey,
    /// The RSA key has too few bits, or too many.
    RsaBits(usize),
    /// The RSA key's public exponent is even, one, or larger than 32 bits.
    RsaExponent,
    /// There is no private key in PEM to sign with.
    NoPrivateKey,
    /// The private key can't sign with this algorithm, or is in the older form of openssl.
    BadPrivateKey(Algorithm),
    /// The key's id is empty or too long.
    BadId,
    /// Two keys have this id.
    DuplicateId(Box<str>),
    /// There is no key.
    NoKeys,
    /// Too many keys have no id: each of them is tried with every token that names none.
    TooManyWithoutId,
    /// The file is no JWK set.
    NoJwks(&'static str),
    /// A key of a JWK set is wrong.
    InJwks {
        /// Its place in the set, from zero.
        at: usize,
        /// What is wrong with it.
        error: Box<KeyError>,
    },
    /// A JWK has a wrong or no member of this name.
    JwkMember(&'static str),
}

impl KeyError {
    /// The sentence of an error that has but one.
    fn sentence(&self) -> Option<&'static str> {
        Some(match self {
            Self::Empty => "the secret is empty; `openssl rand -base64 48` makes a good one",
            Self::ExampleSecret => {
                "the secret is an example that everybody can look up; `openssl rand -base64 48` makes a good one"
            }
            Self::MonotonousSecret => {
                "the secret is a few characters over and over; `openssl rand -base64 48` makes a good one"
            }
            Self::PrivateKey => {
                "this is a private key, and the public one is enough to verify: \
                 `openssl pkey -in private.pem -pubout -out public.pem` writes it"
            }
            Self::Certificate => {
                "this is a certificate: \
                 `openssl x509 -in certificate.pem -noout -pubkey -out public.pem` writes its key"
            }
            Self::SeveralKeys => "the file holds several keys; give each its own file",
            Self::UnsupportedKey => {
                "the key is of no supported kind: RSA, P-256 or P-384 (uncompressed, named curve), Ed25519"
            }
            Self::RsaExponent => "the RSA key's public exponent is odd and above 2 in a real key",
            Self::NoPrivateKey => {
                "signing needs one private key in PEM, a file that begins with -----BEGIN PRIVATE KEY----- and has \
                 no password"
            }
            Self::NoKeys => "there is no key to verify tokens with",
            _ => return None,
        })
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortSecret { bytes, bytes_min } => write!(
                f,
                "the secret has {bytes} bytes and needs {bytes_min} at least; `openssl rand -base64 48` makes a \
                 good one"
            ),
            Self::KeyAsSecret(algorithm) => write!(
                f,
                "{algorithm} needs a secret that nobody else knows, and this is a key file; give its own algorithm \
                 (RS256, ES256, EdDSA, ...) with it"
            ),
            Self::NeedsSecret(algorithm) => {
                write!(f, "{algorithm} verifies with a secret and not with a PEM file")
            }
            Self::NeedsPublicKey(algorithm) => {
                write!(f, "{algorithm} verifies with a public key in PEM and not with a secret")
            }
            Self::NoPem(algorithm) => write!(
                f,
                "{algorithm} needs a public key in PEM, a file that begins with -----BEGIN PUBLIC KEY-----"
            ),
            Self::OtherKind { algorithm, found } => {
                let needed = match algorithm.family() {
                    Family::Secret => "a secret",
                    Family::Rsa => "an RSA key",
                    Family::P256 => "a P-256 key",
                    Family::P384 => "a P-384 key",
                    Family::Ed25519 => "an Ed25519 key",
                };
                write!(f, "{algorithm} needs {needed}, and this is one of the kind {found}")
            }
            Self::RsaBits(bits) => write!(
                f,
                "the RSA key has {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are accepted, and \
                 `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072` makes a good one"
            ),
            Self::BadPrivateKey(algorithm) => write!(
                f,
                "this private key can't sign with {algorithm}; if it is an older file, \
                 `openssl pkcs8 -topk8 -nocrypt -in old.pem -out private.pem` writes it anew"
            ),
            Self::BadId => write!(f, "a key's id has 1 to {KEY_ID_BYTES_MAX} bytes"),
            Self::DuplicateId(id) => write!(f, "two keys have the id {id:?}; give each its own"),
            Self::TooManyWithoutId => write!(
                f,
                "more than {KEYS_WITHOUT_ID_MAX} keys have no id; give them one (`kid`), so that a token says which \
                 to take"
            ),
            Self::NoJwks(what) => write!(f, "this is no JWK set: {what}"),
            Self::InJwks { at, error } => write!(f, "key {at} of the JWK set: {error}"),
            Self::JwkMember(name) => write!(f, "the member {name:?} is missing or wrong"),
            _ => f.write_str(self.sentence().unwrap_or("the key is wrong")),
        }
    }
}

impl std::error::Error for KeyError {}
