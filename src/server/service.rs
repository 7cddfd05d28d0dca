//! The threads on which requests to the service are answered.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::connect::unix_millis;
use super::pool::{Pool, Returns};
use crate::endpoint::CallTicket;
use crate::http::Status;
use crate::service::{Service, ServiceReply, ServiceRequest};

/// Answers on their way to a shard.
pub(super) type Replies = Returns<(CallTicket, ServiceReply)>;

struct Job {
    request: ServiceRequest,
    owed: Owed,
}

/// An answer that a shard waits for. Dropped without one, it is an apology.
struct Owed {
    ticket: Option<CallTicket>,
    shard: Replies,
}

impl Owed {
    fn pay(mut self, reply: ServiceReply) {
        if let Some(ticket) = self.ticket.take() {
            self.shard.send((ticket, reply));
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let sorry = ServiceReply::new(Status::InternalServerError)
                .body("text/plain; charset=utf-8", b"the request could not be answered\n".as_slice());
            self.shard.send((ticket, sorry));
        }
    }
}

/// Where shards have requests answered. What waits is bounded by the shards (`requests_waiting_max`).
pub(super) struct Office {
    pool: Arc<Pool<Job>>,
    shards: Box<[Replies]>,
}

impl Office {
    /// Starts `threads` threads that ask `service`, and tell the shards.
    pub(super) fn start(
        service: Arc<dyn Service>,
        threads: usize,
        shards: Box<[Replies]>,
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let answer = move |Job { request, owed }: Job| owed.pay(service.call(&request, unix_millis()));
        let (pool, threads) = Pool::start("hailer-service", threads, answer)?;
        Ok((Arc::new(Self { pool, shards }), threads))
    }

    /// Has a request of a shard answered.
    pub(super) fn ask(&self, shard: u16, ticket: CallTicket, request: ServiceRequest) {
        let Some(shard) = self.shards.get(usize::from(shard)).cloned() else { return };
        self.pool.give(Job { request, owed: Owed { ticket: Some(ticket), shard } });
    }

    /// Has the threads end; what waits is answered with an apology.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}
