//! Messages for one client at a time.

use std::io::Write;

use super::engine::Engine;
use crate::load::client::Stage;
use crate::load::message::Kind;

/// Who gets the next message, and how many each has got.
#[derive(Debug)]
pub(super) struct Private {
    sent: Vec<u32>,
    /// The state of xorshift64, which spreads well enough over some thousand clients and is the same in every run.
    random: u64,
}

impl Private {
    pub(super) fn new(clients: u32) -> Self {
        Self { sent: vec![0; clients as usize], random: 0x9e37_79b9_7f4a_7c15 }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn choose(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % self.sent.len() as u64) as u32
    }
}

impl Engine {
    /// Sends a message to a client that is in: over the API, or by its own push to its own topic.
    pub(super) fn publish_private(&mut self, kind: Kind, scheduled: u64) {
        let clients = self.slots.len();
        let Some(private) = &mut self.private else { return };
        let is_in = |index: u32| self.slots[index as usize].client.stage == Stage::In;
        // With nobody in, nothing is sent, and the run ends with what went wrong.
        let Some(index) = (0..clients).map(|_| private.choose()).find(|index| is_in(*index)) else { return };
        let nth = private.sent[index as usize];
        private.sent[index as usize] += 1;
        let stamp = self.core.ledger.publish_to(kind, scheduled, index, nth);
        let own = self.core.own_topics.get(index as usize).map(|own| &**own);
        if let Some(api) = &mut self.api {
            return api.add(self.speech.messages.api_json(own, stamp));
        }
        let slot = &mut self.slots[index as usize];
        let push_ref = slot.client.take_ref();
        self.core.scratch.clear();
        // Its own topic is the second one that it has joined.
        self.speech.messages.write_push(&mut self.core.scratch, own, 2, push_ref, stamp);
        if let Some(stream) = &mut slot.stream {
            self.core.send_scratch(stream);
            debug_assert!(stream.flush().is_ok(), "a socket has nothing to flush");
        }
    }
}
