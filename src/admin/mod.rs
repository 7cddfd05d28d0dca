//! The back office: pages on which people without code send messages.
//!
//! [`Admin`] answers every request below `/admin` and works on a [`Desk`] alone, so it knows no socket, no clock and no
//! file. It renders whole pages on the server; a small script makes some of them live through [`Admin::router`], and
//! nothing depends on that script but the live figures, local times, and the one-time link.
//!
//! What it promises: nothing but signing in is done without a session; no GET changes anything; every POST comes from a
//! page of the same origin and, with a session, carries the session's token; whatever is done stands in the audit log
//! before it is done, and is not done if it can't stand there; everything that people typed is escaped.

mod account;
mod assets;
mod audit;
mod carried;
mod compose;
mod connections;
mod form;
mod letter;
mod live;
mod lockout;
mod messages;
mod moment;
mod notice;
mod office;
mod page;
mod places;
mod rate;
mod session;
mod sign_in;
mod welcome;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::connect::Connect;
use crate::channel::Router;
use crate::desk::{Desk, Durability, UnixMillis};
use crate::service::{Service, ServiceReply, ServiceRequest};

use office::Office;

/// Gives 32 bytes that nobody can guess.
pub type Entropy = Arc<dyn Fn() -> [u8; 32] + Send + Sync>;

/// How the back office behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether a proxy in front of the listener speaks TLS. The cookie is `__Host-hailer` and `Secure` then, and forms
    /// have to come from an `https` page.
    pub tls: bool,
    /// A session ends when nothing was asked for so long.
    pub session_idle: Duration,
    /// A session ends so long after its beginning.
    pub session_lifetime: Duration,
    /// Messages that one account may send in a minute.
    pub sends_per_minute_max: u32,
    /// Bytes of a payload.
    pub payload_bytes_max: usize,
    /// Topics that the form offers.
    pub topics: Vec<String>,
    /// The topic of "everyone".
    pub default_topic: String,
    /// What the pages are headed with.
    pub title: String,
    /// The event's name.
    pub event: String,
    /// A message to more people than this has to be confirmed by typing a word.
    pub confirm_above: u64,
    /// What is promised when a message has been sent.
    pub durability: Durability,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls: false,
            session_idle: Duration::from_secs(30 * 60),
            session_lifetime: Duration::from_secs(12 * 60 * 60),
            sends_per_minute_max: 30,
            payload_bytes_max: 16 * 1024,
            topics: Vec::new(),
            default_topic: "room:lobby".to_owned(),
            title: "Hailer".to_owned(),
            event: "new_msg".to_owned(),
            confirm_above: 1_000,
            durability: Durability::Memory,
        }
    }
}

/// The back office. Clones are the same one.
#[derive(Clone)]
pub struct Admin(Arc<Office>);

impl Admin {
    /// Makes the back office of a desk.
    #[must_use]
    pub fn new(desk: Desk, config: Config, entropy: Entropy) -> Self {
        Self(Arc::new(Office::new(desk, config, entropy)))
    }

    /// Says who closes the live sockets of a session that has ended: `close` is called with their socket id, from any
    /// thread, and must not wait. Only the first call counts.
    pub fn on_sign_out(&self, close: impl Fn(&str) + Send + Sync + 'static) {
        self.0.on_sign_out(Box::new(close));
    }

    /// A path that lets whoever opens it within 15 minutes sign in once, as the account `demo`, without a password. What
    /// is secret in it stands behind the `#`, which browsers keep to themselves. At most four of them are good at a time.
    #[must_use]
    pub fn one_time_link(&self, at: UnixMillis) -> String {
        self.0.one_time_link(at)
    }

    /// Ends the sessions whose time is over, or whose accounts were removed, disabled or given another password. To be
    /// called every few seconds, on a thread that may wait for the store.
    pub fn expire(&self, at: UnixMillis) {
        self.0.expire(at);
    }

    /// Lets the sockets of signed-in staff connect, and no others. It reads cookies, so the endpoint in front of it has
    /// to refuse pages of other origins. It may wait for the store.
    #[must_use]
    pub fn connect_hook(&self) -> Arc<dyn Connect> {
        live::connect_hook(Arc::clone(&self.0))
    }

    /// The topics `admin:overview` and `admin:message:<id>`, for staff alone. Whoever joins the latter is told at once how
    /// far the message has got, in the reply and as the event `progress`.
    #[must_use]
    pub fn router(&self) -> Router {
        live::router(Arc::clone(&self.0))
    }
}

impl Service for Admin {
    fn call(&self, request: &ServiceRequest, at: UnixMillis) -> ServiceReply {
        self.0.answer(request, at)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("config", &self.0.config).finish_non_exhaustive()
    }
}
