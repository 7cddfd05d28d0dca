//! What an endpoint has counted and timed since it began.

use std::time::Duration;

macro_rules! stats {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters of one shard, or of several added up. All but the first four only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Every counter as name, value and description, in the order of declaration.
            #[must_use]
            pub fn table(&self) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), self.$name, concat!($($doc),*).trim_ascii()),)*]
            }
        }

        #[cfg(test)]
        impl Stats {
            /// Counters of which no two are alike, nor like anything else.
            #[allow(unused_assignments)]
            pub(crate) fn numbered() -> Self {
                let mut next = 7_000_000;
                let mut stats = Self::default();
                $(stats.$name = next; next += 1_000;)*
                stats
            }
        }

        impl std::ops::AddAssign for Stats {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

stats! {
    /// Connections open.
    connections,
    /// WebSockets open.
    web_sockets,
    /// Long-poll sessions open.
    sessions,
    /// Topics with at least one subscriber (a topic counts once in each shard that has it).
    topics,
    /// Connections accepted.
    accepted,
    /// Connections refused because of `connections_per_shard_max`.
    accept_refused,
    /// Pauses of accepting because the process has no descriptor left.
    accept_paused,
    /// Bytes read.
    bytes_in,
    /// Bytes written.
    bytes_out,
    /// HTTP requests answered, upgrades among them.
    http_requests,
    /// HTTP requests refused by a rule or limit of the request's head or framing.
    http_refused,
    /// Connections closed because a head did not come whole within `head_timeout`.
    head_timeouts,
    /// WebSockets opened.
    upgraded,
    /// Upgrades refused.
    upgrade_refused,
    /// Long-poll sessions opened.
    sessions_opened,
    /// Long-poll sessions refused, by their version or a limit.
    sessions_refused,
    /// Of these, because of `sessions_per_address_max` or `sessions_per_shard_max`.
    sessions_without_room,
    /// Long-poll sessions that ended because no poll came.
    sessions_expired,
    /// Polls.
    polls,
    /// POSTs of messages.
    posts,
    /// Messages of POSTs that were none, and were refused alone.
    lines_refused,
    /// Answers whose connection broke first, so that the next poll carries them again.
    answers_repeated,
    /// Connections handed over to the shard that has their session.
    handed_over,
    /// POSTs that did not come whole within `body_timeout`.
    body_timeouts,
    /// Messages from clients.
    messages_in,
    /// Messages for clients: replies, pushes, and each broadcast once for each of its subscribers.
    messages_out,
    /// Heartbeats answered.
    heartbeats,
    /// Joins granted.
    joins,
    /// Joins refused by the channel.
    join_refused,
    /// Messages answered with an error because something in them is wrong, or beyond a limit.
    messages_refused,
    /// Joins or pushes answered "unmatched topic".
    unmatched_topic,
    /// Joins refused because of `channels_per_socket_max`.
    too_many_channels,
    /// Pushes and leaves dropped because their join_ref is not the current one.
    stale_join_ref,
    /// Client events refused because their names belong to the protocol.
    reserved_event,
    /// Callbacks that panicked or returned an error, and destructors that panicked.
    channel_crashes,
    /// Joins and pushes answered "invalid payload", since their channels could not read what the client had sent.
    payloads_invalid,
    /// Replies dropped because their messages had been answered.
    replies_dropped,
    /// Broadcasts that reached this shard.
    broadcasts,
    /// Broadcasts of bytes that the subscribers of serializer V1 could not get.
    broadcasts_unencodable,
    /// Broadcasts refused because a mailbox was full.
    broadcasts_refused,
    /// Pongs left out because newer ones took their place.
    pongs_coalesced,
    /// Subscribers that went on behind a gap (policy `skip`).
    gaps,
    /// WebSockets closed by their clients.
    closed_by_client,
    /// WebSockets closed for breaking RFC 6455 or a limit of it.
    closed_bad_frame,
    /// Of these, because of text that is not UTF-8 (1007).
    closed_bad_text,
    /// Of these, because of a frame or message that is too long (1009).
    closed_too_big,
    /// WebSockets closed for a message that is no Phoenix message, so that it could not be answered.
    closed_bad_message,
    /// WebSockets closed because of `idle_timeout`.
    closed_idle,
    /// WebSockets closed because the topic's log had moved past them.
    closed_slow_reader,
    /// WebSockets closed because of `stall_timeout`.
    closed_stalled,
    /// WebSockets closed because of `outbox_bytes_max`.
    closed_outbox_full,
    /// Plain WebSockets closed because their handler had panicked.
    closed_crashed,
    /// WebSockets closed because the server stopped.
    closed_shutdown,
    /// Requests given to the service: the HTTP API and the back office.
    calls,
    /// Requests refused because of `requests_waiting_max` or `request_bytes_held_max`.
    calls_refused,
    /// Requests that were not answered within `request_timeout`.
    calls_timed_out,
    /// Broadcasts whose receipts were given up because of `receipts_tracked_max`.
    receipts_given_up,
    /// Clients that connected with a good token, or that were let in without one.
    connects_granted,
    /// Clients refused because they gave no token.
    connects_without_token,
    /// Clients refused because of their tokens.
    connects_bad_token,
    /// Clients refused because their users are unknown or disabled.
    connects_bad_user,
    /// Clients refused because their tokens were denied.
    connects_denied,
    /// Clients refused because the accounts could not be asked.
    connects_unavailable,
    /// Clients refused because of `connects_waiting_max`.
    connects_overloaded,
    /// Clients refused because nobody had decided within `connect_timeout`.
    connects_timed_out,
    /// Clients refused by the application for reasons of its own.
    connects_refused_otherwise,
    /// Clients refused because of the page they come from.
    origins_refused,
    /// Upgrades refused because none of the offered subprotocols is listed.
    subprotocols_refused,
    /// Fresh tokens taken over by live sockets.
    renewals,
    /// Fresh tokens refused.
    renewals_refused,
    /// Clients warned that their tokens were about to run out.
    token_warnings,
    /// Sockets closed by a `disconnect`.
    closed_disconnected,
    /// Of these, sockets whose clients were told to stay away (1000).
    closed_stay_away,
    /// Sockets closed because their tokens had run out.
    closed_token_expired,
    /// Sockets closed because the keys of their tokens had been removed.
    closed_key_removed,
    /// Sockets closed because their users may be here no longer, or gave tokens of others.
    closed_denied,
    /// Connections that ended without a close frame from the peer.
    closed_abruptly,
}

/// What the buckets of a [`Histogram`] go up to, in microseconds; the last bucket has no bound. A turn of the loop
/// takes some tens of microseconds, and a broadcast to a hundred thousand clients some tenths of a second.
pub const BUCKETS_MICROS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// How often something has taken how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS_MICROS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Notes how long it has taken once.
    pub fn observe(&mut self, time: Duration) {
        let nanos = time.as_nanos();
        let bucket = BUCKETS_MICROS.partition_point(|bound| u128::from(*bound) * 1000 < nanos);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// The number of observations in each bucket alone: one for each of [`BUCKETS_MICROS`], and one for the rest.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What all observations took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

impl std::ops::AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, other)| *count += other);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// What was timed in one shard, or in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// What a turn of the loop takes, without its wait for events.
    pub turns: Histogram,
    /// From the publish of a broadcast to the end of the walk that has offered it to all subscribers of a shard.
    /// Broadcasts of one topic that one walk offers together are one observation, from the oldest of them.
    pub broadcasts: Histogram,
}

impl std::ops::AddAssign for Timings {
    fn add_assign(&mut self, other: Self) {
        self.turns += other.turns;
        self.broadcasts += other.broadcasts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_reaches_it() {
        let check = |nanos: u64, bucket: usize| {
            let mut histogram = Histogram::default();
            histogram.observe(Duration::from_nanos(nanos));
            let place = histogram.counts().iter().position(|count| *count == 1);
            assert_eq!((place, histogram.count()), (Some(bucket), 1), "{nanos} ns");
            assert_eq!(histogram.sum(), Duration::from_nanos(nanos));
        };
        check(0, 0);
        check(50_000, 0);
        check(50_001, 1);
        check(1_000_000, 4);
        check(10_000_000_000, 16);
        check(10_000_000_001, 17);
        check(u64::MAX, 17);
        assert!(BUCKETS_MICROS.is_sorted());
    }

    #[test]
    fn the_timings_of_shards_add_up() {
        let (mut first, mut second) = (Timings::default(), Timings::default());
        first.turns.observe(Duration::from_micros(10));
        second.turns.observe(Duration::from_secs(60));
        second.broadcasts.observe(Duration::from_millis(3));
        first += second;
        assert_eq!((first.turns.count(), first.broadcasts.count()), (2, 1));
        assert_eq!(first.turns.sum(), Duration::from_secs(60) + Duration::from_micros(10));
    }
}
