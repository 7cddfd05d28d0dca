//! Who is there.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use crate::auth::connect::Transport;

/// In which order connections are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionOrder {
    /// In no order of meaning, page by page.
    #[default]
    Any,
    /// Those that have been connected longest; one page only.
    Oldest,
    /// Those for which most bytes wait; one page only.
    Slowest,
}

/// Which connections are listed.
#[derive(Debug, Clone, Default)]
pub struct ConnectionQuery {
    /// Those of this user.
    pub user: Option<String>,
    /// Those that have joined this topic.
    pub topic: Option<String>,
    /// Those on this transport.
    pub transport: Option<Transport>,
    /// Their order.
    pub order: ConnectionOrder,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Where the page before ended ([`ConnectionPage::next`]).
    pub after: Option<String>,
}

/// An open socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Names this socket as long as the process lives.
    pub id: String,
    /// `websocket` or `longpoll`.
    pub transport: String,
    /// The user behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Its socket id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub socket_id: Option<String>,
    /// Where it connects from, if that is known. The port is 0 on long-poll, where each request may have another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<SocketAddr>,
    /// When it connected, to the second.
    pub connected_at: UnixMillis,
    /// The topics it has joined, at most 20 of them.
    pub topics: Vec<String>,
    /// How many topics it has joined.
    pub topic_count: u64,
    /// Bytes that wait for it.
    pub waiting_bytes: u64,
}

/// A page of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionPage {
    /// The connections.
    pub connections: Vec<ConnectionView>,
    /// Where the next page begins; absent if this is the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// All sockets of the server, whether or not the query is about them; those that are being closed count until
    /// their clients have answered.
    pub total: u64,
}

/// Which topics are listed.
#[derive(Debug, Clone, Default)]
pub struct TopicQuery {
    /// Those that begin so.
    pub prefix: Option<String>,
    /// At most so many, 1 to 1,000; those with most subscribers first.
    pub limit: usize,
}

/// A topic with subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicView {
    /// Its name.
    pub topic: String,
    /// Its subscribers.
    pub subscribers: u64,
    /// Of these, on a WebSocket.
    pub websocket: u64,
    /// Of these, on long-poll.
    pub longpoll: u64,
    /// Of these, those that have not been given everything yet.
    pub behind: u64,
}

/// Topics, those with most subscribers first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPage {
    /// The topics.
    pub topics: Vec<TopicView>,
    /// Topics that the query is about, listed or not.
    pub total: u64,
}

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// Its id.
    pub user: String,
    /// Whether it has an open socket.
    pub online: bool,
    /// Its open sockets, at most 1,000.
    pub connections: Vec<ConnectionView>,
    /// The topic of its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
}

/// Whether clients are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// They are.
    pub ready: bool,
    /// What is in the way, one sentence each; also what does not keep clients from being served.
    pub problems: Vec<String>,
}

/// Whether a token would let its client in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCheck {
    /// It would.
    pub valid: bool,
    /// Why not: what is wrong, the claim or header, and the setting that it was compared with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// The id that the user's sockets get.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub socket_id: Option<String>,
    /// When it ceases to let its client in, in seconds since 1970: its `exp`, and `auth.allowed_drift`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<u64>,
}
