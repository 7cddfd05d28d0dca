//! `hailer connections`

use clap::{Args, ValueEnum};

use super::Failure;
use super::client::{self, ApiOptions, Client};
use super::users::{columns, date, shown};
use crate::desk::{ConnectionPage, ConnectionView};

/// The most that the API lists at a time.
const PAGE: u16 = 1000;

/// Which sockets are listed, and in which order.
#[derive(Debug, Args)]
#[command(after_help = client::HELP)]
pub(super) struct Connections {
    /// Those of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Those that have joined this topic
    #[arg(long)]
    topic: Option<String>,
    /// Those on this transport
    #[arg(long, value_name = "NAME")]
    transport: Option<Transport>,
    /// Which come first
    #[arg(long, value_name = "ORDER")]
    order: Option<Order>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// All of them, page by page; who comes or goes meanwhile may be missed
    #[arg(long, conflicts_with_all = ["limit", "order"])]
    all: bool,
    /// Prints JSON: one socket on each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Transport {
    #[value(name = "websocket")]
    WebSocket,
    #[value(name = "longpoll")]
    LongPoll,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    /// Those that have been connected longest
    Oldest,
    /// Those for which most bytes wait
    Slowest,
}

pub(super) fn run(connections: &Connections) -> Result<(), Failure> {
    let client = Client::new(&connections.api)?;
    let limit = if connections.all { PAGE } else { connections.limit }.to_string();
    let transport = connections.transport.map(|transport| match transport {
        Transport::WebSocket => "websocket",
        Transport::LongPoll => "longpoll",
    });
    let order = connections.order.map(|order| match order {
        Order::Oldest => "oldest",
        Order::Slowest => "slowest",
    });
    let mut listed = 0;
    let mut after: Option<String> = None;
    loop {
        let query = [
            ("user", connections.user.as_deref()),
            ("topic", connections.topic.as_deref()),
            ("transport", transport),
            ("order", order),
            ("limit", Some(&*limit)),
            ("after", after.as_deref()),
        ];
        let page: ConnectionPage = client.get("/api/v1/connections", &query)?;
        super::print(&if connections.json {
            page.connections.iter().map(client::json).collect::<Result<String, _>>()?
        } else {
            table(&page.connections, listed == 0)
        })?;
        listed += page.connections.len();
        if connections.all && page.next.is_some() && page.next != after {
            after = page.next;
            continue;
        }
        if !connections.json {
            super::print(&footer(&page, listed))?;
        }
        return Ok(());
    }
}

fn footer(page: &ConnectionPage, listed: usize) -> String {
    let more = if page.next.is_some() { "; --all lists the rest" } else { "" };
    format!("{listed} listed, {} open in all{more}\n", page.total)
}

fn table(connections: &[ConnectionView], with_head: bool) -> String {
    let head = ["ID", "TRANSPORT", "USER", "ADDRESS", "CONNECTED", "WAITING", "TOPICS"].map(str::to_owned);
    let rows = connections.iter().map(|view| {
        let unnamed = view.topic_count.saturating_sub(view.topics.len() as u64);
        let mut topics: Vec<String> = view.topics.iter().map(|topic| shown(topic)).collect();
        if unnamed > 0 {
            topics.push(format!("and {unnamed} more"));
        }
        [
            shown(&view.id),
            shown(&view.transport),
            view.user.as_deref().map_or_else(|| "-".to_owned(), shown),
            view.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
            date(view.connected_at / 1000),
            view.waiting_bytes.to_string(),
            topics.join(" "),
        ]
    });
    let head = (!connections.is_empty()).then_some(head);
    let text = columns(&head.into_iter().chain(rows).collect::<Vec<_>>());
    // The head makes room for itself on every page, so that pages stand below one another as far as they can.
    match text.split_once('\n') {
        Some((_, rest)) if !with_head => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_a_table_without_control_characters() {
        let view = ConnectionView {
            id: "0-1-2".to_owned(),
            transport: "websocket".to_owned(),
            user: Some("ada\u{1b}[2J".to_owned()),
            socket_id: None,
            address: "192.0.2.1:5000".parse().ok(),
            connected_at: 1_795_431_845_999,
            topics: vec!["room:a".to_owned(), "room:b".to_owned()],
            topic_count: 5,
            waiting_bytes: 4096,
        };
        let poll = ConnectionView {
            id: "1-20-3".to_owned(),
            transport: "longpoll".to_owned(),
            user: None,
            address: None,
            topics: Vec::new(),
            topic_count: 0,
            waiting_bytes: 0,
            ..view.clone()
        };
        let expected = "\
ID      TRANSPORT  USER     ADDRESS         CONNECTED             WAITING  TOPICS
0-1-2   websocket  ada\u{fffd}[2J  192.0.2.1:5000  2026-11-23 11:04:05Z  4096     room:a room:b and 3 more
1-20-3  longpoll   -        -               2026-11-23 11:04:05Z  0
";
        assert_eq!(table(&[view.clone(), poll], true), expected);
        assert_eq!(table(&[], true), "");
        assert_eq!(table(std::slice::from_ref(&view), false).lines().count(), 1);
        let page = ConnectionPage { connections: vec![view], next: Some("x".to_owned()), total: 9 };
        assert_eq!(footer(&page, 1), "1 listed, 9 open in all; --all lists the rest\n");
    }
}
