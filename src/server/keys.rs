//! The keys of a running server, which can be replaced.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::ServerHandle;
use crate::auth::gate::SharedVerifier;
use crate::auth::token::{Key, KeyTag, Verifier};

/// What verifies the tokens of a running server.
#[derive(Clone)]
pub struct Keys {
    verifier: SharedVerifier,
    connect_timeout: Duration,
}

impl Keys {
    /// The keys that a [`TokenGate`](crate::auth::gate::TokenGate) asks, of a server with this limit.
    #[must_use]
    pub fn new(verifier: SharedVerifier, connect_timeout: Duration) -> Self {
        Self { verifier, connect_timeout }
    }

    /// Verifies tokens with others from here on. `close` says whether the live sockets of keys that are gone are
    /// closed (code 4001), so that their clients come back with fresh tokens; otherwise they stay until their
    /// tokens run out.
    pub fn replace(&self, verifier: Verifier, close: bool, server: &ServerHandle) {
        let count = verifier.keys().len();
        self.verifier.replace(verifier);
        info!(keys = count, "the keys are replaced");
        if !close {
            return;
        }
        server.retain_keys(&self.tags());
        // A client may be let in by a decision that was made before, and connect behind it.
        let (keys, server) = (self.clone(), server.clone());
        let again = std::thread::Builder::new().name("hailer-keys".to_owned()).spawn(move || {
            std::thread::park_timeout(keys.connect_timeout + Duration::from_secs(1));
            server.retain_keys(&keys.tags());
        });
        if let Err(error) = again {
            info!(%error, "clients that are connecting may keep a key that is gone");
        }
    }

    fn tags(&self) -> Arc<[KeyTag]> {
        self.verifier.get().keys().iter().map(Key::tag).collect()
    }
}
