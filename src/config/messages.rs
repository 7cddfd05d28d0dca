//! `[messages]`: what is published, and for how long it is known.

use std::time::Duration;

use super::table::table;
use super::value::words;
use crate::desk::Durability;

const DAY: Duration = Duration::from_secs(24 * 3600);

table! {
    /// `[messages]`: messages that the API and the back office publish.
    Messages {
        /// The topic that messages to a user go to.
        user_topic: String = "user:{sub}".to_owned();
        /// What is promised where a request does not say: "none" (given to every shard; no record), "memory" (its record
        /// is written soon after) or "disk" (its record is on the disk first).
        default_durability: Durability = Durability::Memory;
        /// Messages with a lifetime that are kept of one topic for those who join later; beyond it the oldest goes.
        kept_per_topic_max: usize = 20;
        /// Bytes of such messages that are kept of all topics together; beyond it one more is refused.
        kept_bytes_max: usize = 64 * 1024 * 1024;
        /// The longest lifetime that a message may have.
        lifetime_max: Duration = DAY * 30;
        /// Time for which records of messages are kept.
        keep_records: Duration = DAY * 90;
        /// Records of messages that are kept; beyond it the oldest goes.
        records_max: usize = 1_000_000;
        /// Records that wait to be written; beyond it a publish is refused.
        store_queue_max: usize = 100_000;
        /// Time for which it is counted who has received a message.
        receipts_time: Duration = Duration::from_secs(10 * 60);
    }
    besides {}
}

words! {
    Durability: "\"none\", \"memory\" or \"disk\"" {
        None = "none",
        Memory = "memory",
        Disk = "disk",
    }
}
