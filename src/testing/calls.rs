//! Requests to the service, which is asked at once or when a test says so.

use super::TestServer;
use crate::endpoint::CallTicket;
use crate::service::ServiceRequest;

/// A request that has left its shard and not been answered.
pub(super) struct HeldCall {
    shard: usize,
    ticket: CallTicket,
    request: ServiceRequest,
}

impl TestServer {
    /// Has requests to the service wait for their answers, or lets the answers be given.
    pub fn hold_calls(&mut self, hold: bool) {
        self.holds_calls = hold;
        self.settle();
    }

    /// The requests that wait for their answers, the oldest first.
    pub fn held_calls(&self) -> impl ExactSizeIterator<Item = &ServiceRequest> {
        self.calls.iter().map(|call| &call.request)
    }

    /// Answers one of the requests that wait, by its place among them.
    ///
    /// # Panics
    /// There are fewer.
    pub fn answer_call(&mut self, index: usize) {
        let call = self.calls.remove(index);
        self.answer(call);
        self.settle();
    }

    /// Takes the requests out of the shards, and has them answered unless they are held.
    pub(super) fn serve(&mut self) {
        for (number, shard) in self.shards.iter_mut().enumerate() {
            while let Some((ticket, request)) = shard.endpoint.poll_call() {
                self.calls.push(HeldCall { shard: number, ticket, request });
            }
        }
        if !self.holds_calls {
            std::mem::take(&mut self.calls).into_iter().for_each(|call| self.answer(call));
        }
    }

    fn answer(&mut self, HeldCall { shard, ticket, request }: HeldCall) {
        let Some(service) = &self.service else { return };
        let reply = service.call(&request, 1000 * self.unix_time());
        let (shard, now) = (&mut self.shards[shard], self.now);
        shard.begin(now);
        shard.endpoint.handle_reply(ticket, &reply, now);
        shard.stir();
    }
}
