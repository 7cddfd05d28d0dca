//! Long-poll without sockets: what a POST's body holds, what an answer looks like, what a session is called
//! (Phoenix: `Phoenix.Transports.LongPoll`).

mod answer;
mod batch;
mod token;

pub(crate) use answer::head;
pub use answer::{SUFFIX, Status, write_answer, write_prefix, write_status};
pub use batch::{Batch, Line, LineError, TooManyLines};
pub use token::{SessionName, TokenKey};
