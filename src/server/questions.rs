//! Questions to the shards of a running server, and how one connection is closed.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::streams::Streams;
use super::{Control, ServerHandle};
use crate::endpoint::{ConnectionId, Endpoint, ReceiptCounts};
use crate::stats::Timings;

/// How long a shard has to answer. It answers between two turns of its loop, so this is for one that hangs.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What a shard's thread does for somebody else.
pub(super) type Question = Box<dyn FnOnce(&mut Endpoint, &Streams, Instant) + Send>;

impl ServerHandle {
    /// What all shards have timed, added up. Shards that don't answer within a second are left out.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let mut sum = Timings::default();
        self.ask_all(|endpoint, _| endpoint.timings()).into_iter().flatten().for_each(|one| sum += one);
        sum
    }

    /// How far broadcasts have got whose receipts are counted, in the order of `receipts`; for one that no shard counts,
    /// `None` stands there. `None`: a shard has not answered within a second, and a sum without it would be wrong.
    #[must_use]
    pub fn receipts(&self, receipts: &Arc<[NonZeroU64]>) -> Option<Vec<Option<ReceiptCounts>>> {
        let asked = Arc::clone(receipts);
        let answers = self.ask_all(move |endpoint, _| {
            asked.iter().map(|receipt| endpoint.receipts(*receipt)).collect::<Vec<_>>()
        });
        let mut sums = vec![None; receipts.len()];
        for answer in answers {
            for (sum, counts) in sums.iter_mut().zip(answer?) {
                let Some(counts) = counts else { continue };
                *sum.get_or_insert_with(ReceiptCounts::default) += counts;
            }
        }
        Some(sums)
    }

    /// Has the receipts of broadcasts counted no longer. Does not wait until it is done.
    pub fn forget_receipts(&self, receipts: &Arc<[NonZeroU64]>) {
        for shard in 0..self.shard_count() {
            let receipts = Arc::clone(receipts);
            let (sender, _) = channel();
            self.pose(shard, sender, move |endpoint, _, _| {
                receipts.iter().for_each(|receipt| endpoint.forget_receipts(*receipt));
            });
        }
    }

    /// Closes one socket, by the id that [`ConnectionView`](crate::desk::ConnectionView) has; whether it was open.
    /// `reconnect` says whether its client is to come back (close code 1001) or to stay away (1000). `None`: that is
    /// no id of this server, or its shard has not answered within a second.
    #[must_use]
    pub fn disconnect_connection(&self, id: &str, reconnect: bool) -> Option<bool> {
        let (shard, id) = parse_name(id)?;
        self.ask_one(shard, move |endpoint, _, now| endpoint.disconnect_one(id, reconnect, now))
    }

    /// Has a shard's thread answer a question; `None` if it has not in time. What takes long is asked in parts.
    pub(super) fn ask_one<T: Send + 'static>(
        &self,
        shard: usize,
        question: impl FnOnce(&mut Endpoint, &Streams, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = channel();
        self.pose(shard, sender, question)?;
        receiver.recv_timeout(ANSWER_TIME).ok()
    }

    /// Has all shards answer a question at once: their answers, in their order.
    pub(super) fn ask_all<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Endpoint, &Streams) -> T + Clone + Send + 'static,
    ) -> Vec<Option<T>> {
        let ask = |shard| -> Option<Receiver<T>> {
            let (sender, receiver) = channel();
            let question = question.clone();
            self.pose(shard, sender, move |endpoint, streams, _| question(endpoint, streams))?;
            Some(receiver)
        };
        let asked: Vec<_> = (0..self.shard_count()).map(ask).collect();
        let deadline = Instant::now() + ANSWER_TIME;
        let left = || deadline.saturating_duration_since(Instant::now());
        asked.into_iter().map(|receiver| receiver?.recv_timeout(left()).ok()).collect()
    }

    pub(super) fn shard_count(&self) -> usize {
        self.remotes.len()
    }

    fn pose<T: Send + 'static>(
        &self,
        shard: usize,
        sender: Sender<T>,
        question: impl FnOnce(&mut Endpoint, &Streams, Instant) -> T + Send + 'static,
    ) -> Option<()> {
        let question: Question = Box::new(move |endpoint, streams, now| {
            // Whoever asked may have stopped waiting.
            let _ = sender.send(question(endpoint, streams, now));
        });
        self.remotes.get(shard)?.send(Control::Ask(question));
        Some(())
    }
}

/// The id of a connection of one of the shards.
#[cfg(any(feature = "api", test))]
pub(super) fn name(shard: usize, id: ConnectionId) -> String {
    let bits = id.to_bits();
    format!("{shard}-{}-{}", bits & u64::from(u32::MAX), bits >> 32)
}

/// The shard and the connection that an id names.
fn parse_name(text: &str) -> Option<(usize, ConnectionId)> {
    let mut parts = text.split('-').map(number);
    let (shard, slot, generation) = (parts.next()??, parts.next()??, parts.next()??);
    let id = ConnectionId::from_bits((u64::from(generation) << 32) | u64::from(slot));
    parts.next().is_none().then_some((shard as usize, id))
}

/// Digits alone, written in the one way in which [`name`] writes them.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_connection_and_nothing_else_is_an_id() {
        let id = ConnectionId::from_bits((3 << 32) | 17);
        assert_eq!(name(0, id), "0-17-3");
        assert_eq!(parse_name("0-17-3"), Some((0, id)));
        let last = ConnectionId::from_bits(u64::MAX);
        assert_eq!(parse_name(&name(65_535, last)), Some((65_535, last)));
        for text in [
            "",
            "0",
            "0-17",
            "0-17-3-",
            "0-17-3-1",
            "+0-17-3",
            "0-017-3",
            "0-17-4294967296",
            "a-17-3",
            "0--3",
        ] {
            assert_eq!(parse_name(text), None, "{text}");
        }
    }
}
