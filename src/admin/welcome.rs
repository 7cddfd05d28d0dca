//! One-time links, by which the first person gets in.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::connect::Secret;
use crate::desk::UnixMillis;

/// How long a link is good.
const LINK_LIFETIME_MS: UnixMillis = 15 * 60 * 1000;
/// Links that are good at a time; the oldest gives way.
const LINKS_MAX: usize = 4;

/// Hashes of the links' tokens, and when they run out.
#[derive(Default)]
pub(super) struct Links(Mutex<Vec<([u8; 32], UnixMillis)>>);

impl Links {
    /// Makes a token good, once.
    pub(super) fn add(&self, token: &Secret, at: UnixMillis) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= LINKS_MAX {
            links.remove(0);
        }
        links.push((Sha256::digest(token.expose().as_bytes()).into(), at.saturating_add(LINK_LIFETIME_MS)));
    }

    /// Whether the token is good; it is not any more then. Takes the same time for every wrong one.
    pub(super) fn take(&self, token: &str, at: UnixMillis) -> bool {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(_, until)| at < *until);
        let mut found = None;
        for (place, (known, _)) in links.iter().enumerate() {
            if known.ct_eq(&hash).into() {
                found = Some(place);
            }
        }
        found.map(|place| links.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_once_and_for_a_quarter_of_an_hour() {
        let links = Links::default();
        links.add(&Secret::new("a"), 0);
        links.add(&Secret::new("b"), 0);
        assert!(!links.take("", 0) && !links.take("A", 0));
        assert!(links.take("a", LINK_LIFETIME_MS - 1));
        assert!(!links.take("a", 0));
        assert!(!links.take("b", LINK_LIFETIME_MS));
    }

    #[test]
    fn the_oldest_link_gives_way() {
        let links = Links::default();
        for n in 0..=LINKS_MAX {
            links.add(&Secret::new(n.to_string()), 0);
        }
        assert!(!links.take("0", 0) && links.take("1", 0));
    }
}
