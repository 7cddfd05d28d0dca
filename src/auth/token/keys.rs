//! Keys that verify tokens.

use std::fmt;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

use super::algorithm::Family;
use super::{Algorithm, pem, secret};

/// How long a key's id (`kid`) may be.
pub const KEY_ID_BYTES_MAX: usize = 255;

/// RSA keys of fewer bits are within reach of a computation.
const RSA_BITS_MIN: usize = 2048;
/// Longer ones only cost time; aws-lc refuses them.
const RSA_BITS_MAX: usize = 8192;

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

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty
            | Self::ShortSecret { .. }
            | Self::ExampleSecret
            | Self::MonotonousSecret
            | Self::KeyAsSecret(_) => self.fmt_of_secret(f),
            Self::NeedsSecret(algorithm) => {
                write!(f, "{algorithm} verifies with a secret and not with a PEM file")
            }
            Self::NeedsPublicKey(algorithm) => {
                write!(f, "{algorithm} verifies with a public key in PEM and not with a secret")
            }
            Self::PrivateKey => f.write_str(
                "this is a private key, and the public one is enough to verify: \
                 `openssl pkey -in private.pem -pubout -out public.pem` writes it",
            ),
            Self::Certificate => f.write_str(
                "this is a certificate: `openssl x509 -in certificate.pem -noout -pubkey -out public.pem` writes its key",
            ),
            Self::NoPem(algorithm) => write!(
                f,
                "{algorithm} needs a public key in PEM, a file that begins with -----BEGIN PUBLIC KEY-----"
            ),
            Self::SeveralKeys => f.write_str("the file holds several keys; give each its own file"),
            Self::OtherKind { algorithm, found } => write!(
                f,
                "{algorithm} needs {} key, and this is one of the kind {found}",
                match algorithm.family() {
                    Family::Secret => "a secret",
                    Family::Rsa => "an RSA",
                    Family::P256 => "a P-256",
                    Family::P384 => "a P-384",
                    Family::Ed25519 => "an Ed25519",
                }
            ),
            Self::UnsupportedKey => f.write_str(
                "the key is of no supported kind: RSA, P-256 or P-384 (uncompressed, named curve), Ed25519",
            ),
            Self::RsaBits(bits) => write!(
                f,
                "the RSA key has {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are accepted, and \
                 `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072` makes a good one"
            ),
            Self::RsaExponent => f.write_str("the RSA key's public exponent is odd and above 2 in a real key"),
            Self::NoPrivateKey => f.write_str(
                "signing needs one private key in PEM, a file that begins with -----BEGIN PRIVATE KEY----- \
                 and has no password",
            ),
            Self::BadPrivateKey(algorithm) => write!(
                f,
                "this private key can't sign with {algorithm}; if it is an older file, \
                 `openssl pkcs8 -topk8 -nocrypt -in old.pem -out private.pem` writes it anew"
            ),
            Self::BadId => write!(f, "a key's id has 1 to {KEY_ID_BYTES_MAX} bytes"),
            Self::DuplicateId(id) => write!(f, "two keys have the id {id:?}; give each its own"),
            Self::NoKeys => f.write_str("there is no key to verify tokens with"),
            Self::TooManyWithoutId => write!(
                f,
                "more than {} keys have no id; give them one (`kid`), so that a token says which to take",
                super::KEYS_WITHOUT_ID_MAX
            ),
            Self::NoJwks(what) => write!(f, "this is no JWK set: {what}"),
            Self::InJwks { at, error } => write!(f, "key {at} of the JWK set: {error}"),
            Self::JwkMember(name) => write!(f, "the member {name:?} is missing or wrong"),
        }
    }
}

impl KeyError {
    fn fmt_of_secret(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the secret is empty; `openssl rand -base64 48` makes a good one"),
            Self::ShortSecret { bytes, bytes_min } => write!(
                f,
                "the secret has {bytes} bytes and needs {bytes_min} at least; `openssl rand -base64 48` makes a good one"
            ),
            Self::ExampleSecret => f.write_str(
                "the secret is an example that everybody can look up; `openssl rand -base64 48` makes a good one",
            ),
            Self::MonotonousSecret => f.write_str(
                "the secret is a few characters over and over; `openssl rand -base64 48` makes a good one",
            ),
            Self::KeyAsSecret(algorithm) => write!(
                f,
                "{algorithm} needs a secret that nobody else knows, and this is a key file; give its own algorithm \
                 (RS256, ES256, EdDSA, ...) with it"
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for KeyError {}

/// What a key verifies with, and what algorithms that is good for.
#[derive(Clone)]
pub(super) struct Material {
    family: Family,
    key: DecodingKey,
}

impl Material {
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self { family: Family::Secret, key: DecodingKey::from_secret(secret) }
    }

    /// The two coordinates of a point, 32 bytes each.
    pub(super) fn p256(point: &[u8]) -> Self {
        Self { family: Family::P256, key: DecodingKey::from_ec_der(&uncompressed(point)) }
    }

    /// The two coordinates of a point, 48 bytes each.
    pub(super) fn p384(point: &[u8]) -> Self {
        Self { family: Family::P384, key: DecodingKey::from_ec_der(&uncompressed(point)) }
    }

    pub(super) fn ed25519(point: &[u8]) -> Self {
        Self { family: Family::Ed25519, key: DecodingKey::from_ed_der(point) }
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }
}

/// A point as SEC 1, section 2.3.3 writes it.
fn uncompressed(point: &[u8]) -> Vec<u8> {
    [&[4], point].concat()
}

/// An RSA key of its two numbers, big-endian.
pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Material, KeyError> {
    let modulus = without_zeros(modulus);
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(KeyError::RsaBits(bits));
    }
    // With the exponent one, every message is its own signature.
    let exponent = without_zeros(exponent);
    let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || exponent == [1] || exponent.len() > 4 {
        return Err(KeyError::RsaExponent);
    }
    Ok(Material { family: Family::Rsa, key: DecodingKey::from_rsa_raw_components(modulus, exponent) })
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// A key that verifies tokens: an algorithm, the material for it, perhaps an id.
#[derive(Clone)]
pub struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
    /// The length of an HMAC's secret, zero for the others.
    secret_bytes: usize,
}

impl Key {
    /// A secret for one of the HMAC algorithms; its bytes are taken as they are. `id` is what tokens name it by
    /// (`kid`), if they do.
    ///
    /// # Errors
    /// The algorithm is no HMAC; the secret is too short, well known, or a key file; the id is empty or too long.
    pub fn hmac(algorithm: Algorithm, secret: &[u8], id: Option<&str>) -> Result<Self, KeyError> {
        if !algorithm.is_symmetric() {
            return Err(KeyError::NeedsPublicKey(algorithm));
        }
        secret::check(algorithm, secret)?;
        Self::new(algorithm, Material::secret(secret), secret.len(), id)
    }

    /// A public key in PEM for one of the other algorithms.
    ///
    /// # Errors
    /// The algorithm is an HMAC; there is not one public key of its kind, or it is too weak; the id is empty or
    /// too long.
    pub fn pem(algorithm: Algorithm, pem: &[u8], id: Option<&str>) -> Result<Self, KeyError> {
        if algorithm.is_symmetric() {
            return Err(KeyError::NeedsSecret(algorithm));
        }
        Self::new(algorithm, pem::public(algorithm, pem)?, 0, id)
    }

    /// The material is of the algorithm's family.
    pub(super) fn new(
        algorithm: Algorithm,
        material: Material,
        secret_bytes: usize,
        id: Option<&str>,
    ) -> Result<Self, KeyError> {
        debug_assert_eq!(algorithm.family(), material.family(), "each key is used as what it is");
        check_id(id)?;
        Ok(Self { id: id.map(Into::into), algorithm, material, secret_bytes })
    }

    /// What tokens name it by.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The one algorithm it is used with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What is allowed but unwise about it, in a sentence.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let wished = self.algorithm.hash_bytes();
        (self.secret_bytes < wished).then(|| {
            format!(
                "a secret of {} has {wished} bytes at best, and this one {}",
                self.algorithm, self.secret_bytes
            )
        })
    }

    /// Whether `signature` is this key's for `message`. HMACs are compared in constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        // The provider is named, for the default one is a global that any crate of the program may change.
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.jwt(), &self.material.key)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

pub(super) fn check_id(id: Option<&str>) -> Result<(), KeyError> {
    match id {
        Some(id) if id.is_empty() || id.len() > KEY_ID_BYTES_MAX => Err(KeyError::BadId),
        _ => Ok(()),
    }
}

impl fmt::Debug for Key {
    /// The id and the algorithm alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
