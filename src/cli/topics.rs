//! `hailer topics`

use clap::Args;

use super::Failure;
use super::client::{self, ApiOptions, Client};
use super::users::{columns, shown};
use crate::desk::{TopicPage, TopicView};

/// Which topics are listed: those with most subscribers first.
#[derive(Debug, Args)]
#[command(after_help = client::HELP)]
pub(super) struct Topics {
    /// Those that begin so
    #[arg(long)]
    prefix: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Prints JSON: one topic on each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiOptions,
}

pub(super) fn run(topics: &Topics) -> Result<(), Failure> {
    let limit = topics.limit.to_string();
    let query = [("prefix", topics.prefix.as_deref()), ("limit", Some(&*limit))];
    let page: TopicPage = Client::new(&topics.api)?.get("/api/v1/topics", &query)?;
    Ok(super::print(&if topics.json {
        page.topics.iter().map(client::json).collect::<Result<String, _>>()?
    } else {
        format!("{}{} listed of {}\n", table(&page.topics), page.topics.len(), page.total)
    })?)
}

fn table(topics: &[TopicView]) -> String {
    let head = ["TOPIC", "SUBSCRIBERS", "WEBSOCKET", "LONGPOLL", "BEHIND"].map(str::to_owned);
    let rows = topics.iter().map(|view| {
        let TopicView { topic, subscribers, websocket, longpoll, behind } = view;
        let [subscribers, websocket, longpoll, behind] =
            [subscribers, websocket, longpoll, behind].map(ToString::to_string);
        [shown(topic), subscribers, websocket, longpoll, behind]
    });
    let head = (!topics.is_empty()).then_some(head);
    columns(&head.into_iter().chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_a_table() {
        let view = TopicView {
            topic: "room:\nlobby".to_owned(),
            subscribers: 12,
            websocket: 10,
            longpoll: 2,
            behind: 1,
        };
        let expected = "\
TOPIC        SUBSCRIBERS  WEBSOCKET  LONGPOLL  BEHIND
room:\u{fffd}lobby  12           10         2         1
";
        assert_eq!(table(&[view]), expected);
        assert_eq!(table(&[]), "");
    }
}
