//! What lies in a PEM file.

use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

use super::algorithm::Family;
use super::keys::{Material, rsa};
use super::{Algorithm, KeyError};

/// How a SubjectPublicKeyInfo (RFC 5280) on each of the curves begins, up to the point. DER leaves no choice, so
/// this is the whole of the parsing. The last byte of the first two says that the point is uncompressed.
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";
const P384: &[u8] =
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04";
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Reads a public key for `algorithm`.
pub(super) fn public(algorithm: Algorithm, text: &[u8]) -> Result<Material, KeyError> {
    let blocks = ::pem::parse_many(text).map_err(|_| KeyError::NoPem(algorithm))?;
    if blocks.iter().any(|block| block.tag().contains("PRIVATE KEY")) {
        return Err(KeyError::PrivateKey);
    }
    let block = match &blocks[..] {
        [] => return Err(KeyError::NoPem(algorithm)),
        [block] => block,
        _ => return Err(KeyError::SeveralKeys),
    };
    let material = match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => of_der(block.contents())?,
        "CERTIFICATE" => return Err(KeyError::Certificate),
        _ => return Err(KeyError::NoPem(algorithm)),
    };
    if material.family() != algorithm.family() {
        return Err(KeyError::OtherKind { algorithm, found: material.family().name() });
    }
    Ok(material)
}

fn of_der(der: &[u8]) -> Result<Material, KeyError> {
    let point = |prefix: &[u8], bytes: usize| der.strip_prefix(prefix).filter(|rest| rest.len() == bytes);
    if let Some(point) = point(P256, 64) {
        return Ok(Material::p256(point));
    }
    if let Some(point) = point(P384, 96) {
        return Ok(Material::p384(point));
    }
    if let Some(point) = point(ED25519, 32) {
        return Ok(Material::ed25519(point));
    }
    let (modulus, exponent) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
        .map_err(|_| KeyError::UnsupportedKey)?;
    rsa(&modulus, &exponent)
}

/// Reads a private key for `algorithm`. Whether it is one for it, shows when it signs.
pub(super) fn private(algorithm: Algorithm, text: &[u8]) -> Result<EncodingKey, KeyError> {
    let blocks = ::pem::parse_many(text).map_err(|_| KeyError::NoPrivateKey)?;
    let block = match &blocks[..] {
        [] => return Err(KeyError::NoPrivateKey),
        [block] => block,
        _ => return Err(KeyError::SeveralKeys),
    };
    match (block.tag(), algorithm.family()) {
        ("PRIVATE KEY" | "RSA PRIVATE KEY", Family::Rsa) => {
            EncodingKey::from_rsa_pem(text).map_err(|_| KeyError::BadPrivateKey(algorithm))
        }
        ("PRIVATE KEY", Family::P256 | Family::P384) => Ok(EncodingKey::from_ec_der(block.contents())),
        ("PRIVATE KEY", Family::Ed25519) => Ok(EncodingKey::from_ed_der(block.contents())),
        ("PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY", _) => Err(KeyError::BadPrivateKey(algorithm)),
        _ => Err(KeyError::NoPrivateKey),
    }
}
