//! Session tokens: signed names of sessions.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the signed part: version, node, shard, slot, generation, nonce.
const NAME_BYTES: usize = 1 + 8 + 2 + 4 + 4 + 16;
/// Bytes of the signature: HMAC-SHA256, cut to 128 bits (RFC 2104 section 5).
const MAC_BYTES: usize = 16;
const VERSION: u8 = 1;

/// Characters of a token.
const TOKEN_CHARS: usize = (NAME_BYTES + MAC_BYTES) * 4 / 3;

/// Where a session lives, and the 128 random bits that keep its name from being guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionName {
    /// The shard that has the session.
    pub shard: u16,
    /// Its place there.
    pub slot: u32,
    /// Which of the sessions that have stood in that place it is.
    pub generation: u32,
    /// Random.
    pub nonce: [u8; 16],
}

/// The key with which a node signs its tokens. It lives as long as the process: after a restart every token
/// is foreign, as its session is gone.
#[derive(Clone)]
pub struct TokenKey {
    mac: Hmac<Sha256>,
    node: [u8; 8],
}

impl TokenKey {
    /// The key that follows from 256 random bits.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(seed).expect("HMAC takes keys of any length");
        let mut node = [0; 8];
        node.copy_from_slice(&digest(&mac, &[b"node"])[..8]);
        Self { mac, node }
    }

    /// The random bits number `count` of a shard: a keyed hash of the number, unknown to whoever does not
    /// have the seed.
    #[must_use]
    pub fn nonce(&self, shard: u16, count: u64) -> [u8; 16] {
        let mut nonce = [0; 16];
        let hash = digest(&self.mac, &[b"nonce", &shard.to_be_bytes(), &count.to_be_bytes()]);
        nonce.copy_from_slice(&hash[..16]);
        nonce
    }

    /// The token of a session: URL-safe characters.
    #[must_use]
    pub fn sign(&self, name: &SessionName) -> String {
        let mut bytes = Vec::with_capacity(NAME_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.node);
        bytes.extend_from_slice(&name.shard.to_be_bytes());
        bytes.extend_from_slice(&name.slot.to_be_bytes());
        bytes.extend_from_slice(&name.generation.to_be_bytes());
        bytes.extend_from_slice(&name.nonce);
        let mac = digest(&self.mac, &[b"token", &bytes]);
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The session that a token names, if this node has signed it. The signature is compared in constant
    /// time.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<SessionName> {
        if token.len() != TOKEN_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (name, mac) = bytes.split_at_checked(NAME_BYTES)?;
        let mut expected = self.mac.clone();
        expected.update(b"token");
        expected.update(name);
        expected.verify_truncated_left(mac).ok()?;
        let (version, rest) = name.split_first()?;
        let (node, rest) = rest.split_first_chunk::<8>()?;
        let (shard, rest) = rest.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (generation, nonce) = rest.split_first_chunk()?;
        (*version == VERSION && *node == self.node).then_some(SessionName {
            shard: u16::from_be_bytes(*shard),
            slot: u32::from_be_bytes(*slot),
            generation: u32::from_be_bytes(*generation),
            nonce: nonce.try_into().ok()?,
        })
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

fn digest(mac: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = mac.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> SessionName {
        SessionName { shard: 3, slot: 70_000, generation: 9, nonce: [7; 16] }
    }

    #[test]
    fn a_token_names_its_session() {
        let key = TokenKey::new(&[1; 32]);
        let token = key.sign(&name());
        assert_eq!(token.len(), TOKEN_CHARS);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(key.verify(&token), Some(name()));
    }

    #[test]
    fn a_token_of_another_node_is_foreign() {
        let token = TokenKey::new(&[1; 32]).sign(&name());
        assert_eq!(TokenKey::new(&[2; 32]).verify(&token), None);
    }

    #[test]
    fn no_changed_token_is_accepted() {
        let key = TokenKey::new(&[1; 32]);
        let token = key.sign(&name());
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.verify(std::str::from_utf8(&forged).unwrap()), None, "{at}");
            assert_eq!(key.verify(&token[..at]), None);
        }
        assert_eq!(key.verify(&format!("{token}A")), None);
        assert_eq!(key.verify("ü"), None);
    }

    #[test]
    fn nonces_differ_by_shard_and_count() {
        let key = TokenKey::new(&[1; 32]);
        let nonces = [key.nonce(0, 0), key.nonce(0, 1), key.nonce(1, 0)];
        assert!(nonces[0] != nonces[1] && nonces[0] != nonces[2] && nonces[1] != nonces[2]);
        assert_eq!(key.nonce(0, 1), nonces[1]);
    }
}
