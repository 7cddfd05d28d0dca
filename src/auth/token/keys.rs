//! Keys that verify tokens.

use std::fmt;
use std::num::NonZeroU64;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{DecodingKey, DecodingKeyKind};

use sha2::{Digest, Sha256};

use super::algorithm::Family;
use super::{Algorithm, KeyError, pem, secret};

/// How long a key's id (`kid`) may be.
pub const KEY_ID_BYTES_MAX: usize = 255;

/// RSA keys of fewer bits are within reach of a computation.
pub(super) const RSA_BITS_MIN: usize = 2048;
/// Longer ones only cost time; aws-lc refuses them.
pub(super) const RSA_BITS_MAX: usize = 8192;

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
    tag: KeyTag,
    settings: Option<Settings>,
}

/// Where a key is configured.
#[derive(Clone)]
struct Settings {
    algorithm: Box<str>,
    material: Box<str>,
}

/// Tells keys apart without their material: a live socket is of the key that its token was verified with.
///
/// It is made of the algorithm and the material, so that a key is the same after its file was read again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyTag(NonZeroU64);

impl fmt::Debug for KeyTag {
    /// It is made of a secret, perhaps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyTag")
    }
}

impl KeyTag {
    fn of(algorithm: Algorithm, key: &DecodingKey) -> Self {
        let mut hash = Sha256::new();
        hash.update(algorithm.name());
        match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => hash.update(bytes),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                hash.update((n.len() as u64).to_be_bytes());
                hash.update(n);
                hash.update(e);
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_first_chunk().expect("a digest is longer than eight bytes");
        // One bit fewer, so that none takes no room of its own.
        Self(NonZeroU64::MIN | u64::from_be_bytes(*first))
    }
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
        let tag = KeyTag::of(algorithm, &material.key);
        Ok(Self { id: id.map(Into::into), algorithm, material, secret_bytes, tag, settings: None })
    }

    /// Says which settings have its algorithm and its material, for those who are told why a token is refused.
    #[must_use]
    pub fn configured_by(self, algorithm: &str, material: &str) -> Self {
        Self { settings: Some(Settings { algorithm: algorithm.into(), material: material.into() }), ..self }
    }

    /// Its algorithm, and where that is set.
    pub(super) fn told_algorithm(&self) -> String {
        let setting = self.settings.as_ref().map(|settings| format!(" ({})", settings.algorithm));
        format!("{}{}", self.algorithm, setting.unwrap_or_default())
    }

    /// What it is made of, and where that is set.
    pub(super) fn told_material(&self) -> String {
        let setting = self.settings.as_ref().map(|settings| format!(" ({})", settings.material));
        let what = if self.algorithm.is_symmetric() { "the secret" } else { "the key" };
        format!("{what}{}", setting.unwrap_or_default())
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

    /// What tells it from other keys.
    #[must_use]
    pub fn tag(&self) -> KeyTag {
        self.tag
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
