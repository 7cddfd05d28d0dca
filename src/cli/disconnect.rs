//! `hailer disconnect`

use clap::{ArgGroup, Args};
use serde::Serialize;

use super::Failure;
use super::client::{self, ApiOptions, Client};
use super::users::shown;
use crate::desk::Disconnected;

/// Whose sockets are closed.
#[derive(Debug, Args)]
#[command(after_help = client::HELP)]
#[command(group = ArgGroup::new("who").required(true).args(["user", "socket_id", "connection"]))]
pub(super) struct Disconnect {
    /// A user: all of its sockets are closed
    #[arg(value_name = "USER")]
    user: Option<String>,
    /// The sockets with this id, such as user_socket:42
    #[arg(long, value_name = "ID")]
    socket_id: Option<String>,
    /// One socket, as `hailer connections` names it
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Tells clients not to come back
    #[arg(long)]
    stay_away: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a str>,
    reconnect: bool,
}

pub(super) fn run(disconnect: &Disconnect) -> Result<(), Failure> {
    let Disconnect { user, socket_id, connection, stay_away, json, api } = disconnect;
    let request = Request {
        user: user.as_deref(),
        socket_id: socket_id.as_deref(),
        connection: connection.as_deref(),
        reconnect: !stay_away,
    };
    let disconnected: Disconnected = Client::new(api)?.post("/api/v1/disconnect", &request)?;
    let whose = match (user, socket_id, connection) {
        (Some(user), ..) => format!("of user {}", shown(user)),
        (_, Some(id), _) => format!("with the id {}", shown(id)),
        (.., id) => format!("called {}", shown(id.as_deref().unwrap_or_default())),
    };
    let text = match disconnected.sockets {
        _ if *json => client::json(&disconnected)?,
        0 => format!("there is no open socket {whose}\n"),
        1 => format!("closed 1 socket {whose}\n"),
        sockets => format!("closed {sockets} sockets {whose}\n"),
    };
    Ok(super::print(&text)?)
}
