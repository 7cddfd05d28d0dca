//! What comes from outside the shards: broadcasts, denied tokens, replaced keys.

use std::num::NonZeroU64;

use super::TestServer;
use crate::auth::deny::Denial;
use crate::auth::token::KeyTag;
use crate::broker::{Outgoing, Tally};
use crate::channel::{PayloadBuf, Refused, SendError};
use crate::endpoint::ReceiptCounts;

impl TestServer {
    /// Broadcasts from outside, as [`ServerHandle::broadcast`](crate::server::ServerHandle::broadcast) does.
    ///
    /// # Errors
    /// A mailbox is full.
    pub fn broadcast(
        &mut self,
        topic: &str,
        event: &str,
        payload: impl Into<PayloadBuf>,
    ) -> Result<(), Refused<PayloadBuf>> {
        self.broker.broadcast(topic, event, payload.into())?;
        self.settle();
        Ok(())
    }

    /// Broadcasts, and has it counted who receives it: how many it is for, and the number of its receipts.
    ///
    /// # Errors
    /// A mailbox is full.
    pub fn broadcast_with_receipt(
        &mut self,
        topic: &str,
        event: &str,
        payload: impl Into<PayloadBuf>,
    ) -> Result<(u64, NonZeroU64), SendError> {
        let receipt = NonZeroU64::MIN.saturating_add(self.broker.sequence());
        let tally = Tally::new(1, self.broker.shards(), || {});
        self.broker.publish_all(vec![Outgoing {
            topic,
            event,
            payload: payload.into(),
            tally: Some(tally.entry(0)),
            receipt: Some(receipt),
            published: Some(self.now),
        }])?;
        self.settle();
        assert!(tally.is_done(), "every shard has counted its subscribers");
        Ok((tally.count(0), receipt))
    }

    /// What is known of the receipts of a broadcast. `None`: no shard counts them.
    #[must_use]
    pub fn receipts(&self, receipt: NonZeroU64) -> Option<ReceiptCounts> {
        let counts = self.shards.iter().filter_map(|shard| shard.endpoint.receipts(receipt));
        counts.reduce(|mut sum, counts| {
            sum += counts;
            sum
        })
    }

    /// Denies tokens, as far as live sockets are concerned.
    pub fn deny(&mut self, denials: &[Denial]) {
        self.broker.deny(&denials.into());
        self.settle();
    }

    /// Ends the live sockets of keys other than these.
    pub fn retain_keys(&mut self, keys: &[KeyTag]) {
        self.broker.retain_keys(&keys.into());
        self.settle();
    }

    /// Publishes without letting the shards act on it: what follows comes in the same turn. Its place in the node's
    /// order, as [`Board::keep`](crate::board::Board::keep) wants it.
    ///
    /// # Errors
    /// A mailbox is full.
    pub fn publish(
        &mut self,
        topic: &str,
        event: &str,
        payload: impl Into<PayloadBuf>,
    ) -> Result<u64, Refused<PayloadBuf>> {
        self.broker.publish(topic, event, payload.into(), None)
    }
}
