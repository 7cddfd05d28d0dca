//! Who is connected, and putting somebody off the line.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::auth::connect::Transport;
use crate::desk::{ConnectionOrder, ConnectionQuery, ConnectionView, Disconnect, DisconnectWho};
use crate::http::Status;
use crate::service::ServiceReply;

use super::form::Form;
use super::moment;
use super::office::Visit;
use super::page::{Trouble, csrf_field, name_field};

const HERE: &str = "/admin/connections";
const DISCONNECT: &str = "/admin/connections/disconnect";

/// Connections on a page.
const PAGE_MAX: usize = 50;
/// Bytes of what names somebody who is put off the line.
const WHO_BYTES_MAX: usize = 512;

/// The open sockets that a search finds.
pub(super) fn list(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let query = visit.query()?;
    let transport = match query.text("transport") {
        "websocket" => Some(Transport::WebSocket),
        "longpoll" => Some(Transport::LongPoll),
        _ => None,
    };
    let order = match query.text("order") {
        "oldest" => ConnectionOrder::Oldest,
        "slowest" => ConnectionOrder::Slowest,
        _ => ConnectionOrder::Any,
    };
    let (user, topic, after) = (query.some("user"), query.some("topic"), query.some("after"));
    let wanted = ConnectionQuery { user, topic, transport, order, limit: PAGE_MAX, after };
    let found = visit.office.desk.inspection.connections(&wanted);
    let body = html! {
        (search(&query))
        p { b { (found.total) } " connected in all; " b { (found.connections.len()) } " shown." }
        @if !found.connections.is_empty() { (table(&found.connections)) }
        nav.pages aria-label="Pages" {
            @if wanted.after.is_some() { a href=(link(&query, None)) { "First page" } }
            @if let Some(next) = &found.next { a href=(link(&query, Some(next))) rel="next" { "Next page" } }
        }
    };
    Ok(visit.page(Status::Ok, HERE, "Connections", &body))
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn link(query: &Form, after: Option<&str>) -> String {
    let fields = ["user", "topic", "transport", "order"].map(|name| (name, query.text(name)));
    let pairs = fields.into_iter().chain(after.map(|after| ("after", after)));
    let pairs = pairs.filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    if pairs.is_empty() { HERE.to_owned() } else { format!("{HERE}?{}", pairs.join("&")) }
}

fn search(query: &Form) -> Markup {
    let option = |name: &str, value: &str, label: &str| {
        html! { option value=(value) selected[query.text(name) == value] { (label) } }
    };
    html! {
        form.search method="get" action=(HERE) role="search" {
            (name_field("user", "User", query.text("user")))
            (name_field("topic", "Topic", query.text("topic")))
            div {
                label for="transport" { "Transport" }
                select #transport name="transport" {
                    (option("transport", "", "any")) (option("transport", "websocket", "WebSocket"))
                    (option("transport", "longpoll", "long-poll"))
                }
            }
            div {
                label for="order" { "Order" }
                select #order name="order" {
                    (option("order", "", "any")) (option("order", "oldest", "oldest first"))
                    (option("order", "slowest", "slowest first"))
                }
            }
            button type="submit" { "Search" }
        }
    }
}

fn table(connections: &[ConnectionView]) -> Markup {
    html! {
        div.scroll role="region" aria-labelledby="connections-title" tabindex="0" {
            table {
                caption #connections-title { "Open connections" }
                thead { tr {
                    th scope="col" { "User" } th scope="col" { "Transport" } th scope="col" { "Since" }
                    th scope="col" { "Topics" } th scope="col" { "Waiting" } th scope="col" { "Address" }
                    th scope="col" { "Action" }
                } }
                tbody { @for connection in connections { (row(connection)) } }
            }
        }
    }
}

fn row(connection: &ConnectionView) -> Markup {
    let who = connection.user.as_deref().unwrap_or("a visitor");
    let disconnect = |kind: &str, id: &str| format!("{DISCONNECT}?who={kind}&id={}", escaped(id));
    let more = connection.topic_count.saturating_sub(connection.topics.len() as u64);
    html! {
        tr {
            td {
                @match &connection.user {
                    Some(user) => { a href={ "/admin/compose?user=" (escaped(user)) } title="Write to this user" { (user) } }
                    None => { span.hint { "visitor" } }
                }
            }
            td { (connection.transport) }
            td { (moment::shown(connection.connected_at)) }
            td {
                @for topic in &connection.topics { code { (topic) } " " }
                @if more > 0 { "and " (more) " more" }
            }
            td.number { (connection.waiting_bytes) " bytes" }
            td { @if let Some(address) = connection.address { (address) } @else { "–" } }
            td {
                a href=(disconnect("connection", &connection.id))
                    aria-label={ "Disconnect this connection of " (who) } { "Disconnect…" }
                @if let Some(user) = &connection.user {
                    " " a href=(disconnect("user", user))
                        aria-label={ "Disconnect all connections of " (user) } { "All of the user’s…" }
                }
            }
        }
    }
}

/// Whom a form or query names.
fn who(form: &Form) -> Result<DisconnectWho, Trouble> {
    let id = form.raw("id");
    let is_name = !id.is_empty() && id.len() <= WHO_BYTES_MAX && !id.chars().any(char::is_control);
    match form.raw("who") {
        "connection" if is_name => Ok(DisconnectWho::Connection(id.to_owned())),
        "user" if is_name => Ok(DisconnectWho::User(id.to_owned())),
        "socket" if is_name => Ok(DisconnectWho::SocketId(id.to_owned())),
        _ => {
            let sentence = "Nobody is named who could be disconnected.";
            Err(Trouble::new(Status::UnprocessableContent, "That can't be done", sentence))
        }
    }
}

/// Asks whether to disconnect somebody, and how.
pub(super) fn confirm(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let query = visit.query()?;
    let who = who(&query)?;
    let body = html! {
        p {
            @match &who {
                DisconnectWho::Connection(id) => { "One connection, " code { (id) } ", is closed." }
                DisconnectWho::SocketId(id) => { "All connections with the id " code { (id) } " are closed." }
                DisconnectWho::User(user) => {
                    @let open = visit.office.desk.inspection.user(user).connections.len();
                    "All connections of the user " b { (user) } " are closed: " b { (open) } " at present."
                }
            }
        }
        form method="post" action=(DISCONNECT) {
            (csrf_field(&visit.session))
            input type="hidden" name="who" value=(query.raw("who"));
            input type="hidden" name="id" value=(query.raw("id"));
            p { "“Come back” lets the client connect anew at once. “Stay away” tells it not to come back by itself." }
            div.buttons {
                button type="submit" name="mode" value="back" { "Disconnect: come back" }
                button.danger type="submit" name="mode" value="away" { "Disconnect: stay away" }
                a.button href=(HERE) { "Don’t disconnect" }
            }
        }
    };
    Ok(visit.page(Status::Ok, HERE, "Disconnect", &body))
}

/// Puts somebody off the line.
pub(super) fn disconnect(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let form = visit.form()?;
    let who = who(&form)?;
    let reconnect = match form.raw("mode") {
        "back" => true,
        "away" => false,
        _ => {
            let sentence = "Choose whether the client may come back.";
            return Err(Trouble::new(Status::UnprocessableContent, "That can't be done", sentence));
        }
    };
    let how = if reconnect { "come back" } else { "stay away" };
    let subject = form.raw("id").to_owned();
    visit.audit("disconnect", &subject, format!("{}, {how}", form.raw("who")))?;
    let disconnect = Disconnect { who, reconnect };
    let closed = match visit.office.desk.publishing.disconnect(&disconnect, &visit.actor(), visit.at) {
        Ok(closed) => closed,
        Err(error) => {
            visit.audit_outcome("disconnect_failed", &subject, error.code.as_str().to_owned());
            return Err(error.into());
        }
    };
    let body = html! {
        p role="status" {
            @match closed.sockets {
                0 => { "There was no open connection any more." }
                1 => { b { "1" } " connection is closed." }
                n => { b { (n) } " connections are closed." }
            }
        }
        p { a href=(HERE) { "To the connections" } }
    };
    Ok(visit.page(Status::Ok, HERE, "Disconnected", &body))
}
