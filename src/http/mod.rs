//! The server side of HTTP/1.1 (RFC 9110, RFC 9112) as pure functions over bytes.
//!
//! The bytes of a connection travel through this module in this order:
//!
//! ```text
//! HeadScanner::find ─► parse_head ─► Request ─► BodyDecoder ─► Response::write
//!                                       └────► upgrade::check ─► upgrade::write_101
//! ```
//!
//! httparse tokenizes; the rules on top are ours, and strict. Wherever two readers of the same bytes could
//! disagree about where a request ends or which host it is for, it is refused: that disagreement is what
//! request smuggling is made of. After a [`HeadError`] or a [`BodyError`] the position in the stream is not
//! to be trusted: answer, then close.
//!
//! ```
//! use hailer::{http, limits::Limits};
//!
//! let received = b"GET /health HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! let limits = Limits::default();
//! let mut scanner = http::HeadScanner::default();
//! let end = scanner.find(received, &limits)?.expect("the head is whole");
//! let request = http::parse_head(&received[..end], &limits)?;
//! assert_eq!(request.path, "/health");
//!
//! let mut out = Vec::new();
//! http::Response::text(http::Status::Ok, "well\n").write(&mut out, request.keep_alive, false);
//! # Ok::<(), http::HeadError>(())
//! ```

mod body;
mod error;
mod head;
mod headers;
mod media_type;
pub mod path;
pub mod query;
mod response;
mod scanner;
mod status;
mod subprotocols;
mod syntax;
pub mod upgrade;

pub use body::{BodyDecoder, BodyError, Progress};
pub use error::HeadError;
pub use head::{Framing, Method, Request, Version, parse_head};
pub use headers::Headers;
pub use media_type::MediaType;
pub use response::{CONTINUE, Response};
pub use scanner::HeadScanner;
pub use status::Status;
pub use subprotocols::{NoneInCommon, SubprotocolError, Subprotocols};
