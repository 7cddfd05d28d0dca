//! What a look at the server looks like.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, Borders, Cell, Paragraph, RenderDirection, Row, Sparkline, Table, Widget, Wrap,
};

use super::sample::View;
use crate::cli::users::shown;

/// The frame of `--once`.
const PLAIN: Rect = Rect::new(0, 0, 100, 32);
/// Below this width the tables stand below one another, unless there is no room for that.
const WIDE: u16 = 90;
const TALL: u16 = 30;

const HELP: &str = "\
broadcasts: messages to a topic, each counted once
messages out: each message once for each client that gets it, and replies
messages in: what clients send, heartbeats among it
behind: subscribers of a topic that have not been given everything yet
waiting: bytes that wait for a connection because its client reads slowly

q quits, ? closes this help";

/// Draws everything.
pub(super) fn draw(view: &View, area: Rect, buffer: &mut Buffer) {
    let [head, numbers, deliveries, tables] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Min(0),
    ])
    .areas(area);
    head_of(view).render(head, buffer);
    Paragraph::new(numbers_of(view)).block(titled(" server ")).render(numbers, buffer);
    sparkline(view, deliveries, buffer);
    if view.help {
        return Paragraph::new(HELP).wrap(Wrap::default()).block(titled(" help ")).render(tables, buffer);
    }
    let [topics, slowest] = if area.width >= WIDE || area.height < TALL {
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(tables)
    } else {
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(tables)
    };
    topics_of(view).render(topics, buffer);
    slowest_of(view).render(slowest, buffer);
}

/// The same as text.
pub(super) fn text(view: &View) -> String {
    let mut buffer = Buffer::empty(PLAIN);
    draw(view, PLAIN, &mut buffer);
    let line = |y: u16| {
        let cells = (0..PLAIN.width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    (0..PLAIN.height).map(line).collect()
}

/// What fits on a line.
pub(super) fn line(view: &View) -> String {
    let rates = view.rates.unwrap_or_default();
    format!(
        "websocket {}  longpoll {}  topics {}  broadcasts/s {:.1}  out/s {:.1} ({})  in/s {:.1} ({})",
        view.last.websocket,
        view.last.longpoll,
        view.last.topics.total,
        rates.broadcasts,
        rates.messages_out,
        bytes(rates.bytes_out),
        rates.messages_in,
        bytes(rates.bytes_in),
    )
}

fn titled(title: &str) -> Block<'_> {
    Block::new().borders(Borders::ALL).title(title).border_style(Style::new().dim())
}

fn head_of(view: &View) -> Line<'_> {
    let name = Span::from(" hailer top ").bold().reversed();
    match &view.error {
        Some(error) => Line::from(vec![name, Span::from(" "), Span::from(error.as_str()).red().bold()]),
        None => Line::from(vec![name, Span::from(format!(" {}   q quits, ? helps", view.base))]),
    }
}

fn numbers_of(view: &View) -> Vec<Line<'_>> {
    let number = |value: String, what: String| {
        vec![Span::from(" "), Span::from(value).bold(), Span::from(" "), Span::from(what), Span::from(" ")]
    };
    let count = |value: u64, one: &str, more: &str| {
        number(value.to_string(), if value == 1 { one } else { more }.to_owned())
    };
    let last = &view.last;
    let mut there = vec![
        count(last.websocket, "WebSocket", "WebSockets"),
        count(last.longpoll, "on long-poll", "on long-poll"),
        count(last.topics.total, "topic", "topics"),
    ];
    let rates = match view.rates {
        None => vec![vec![Span::from(" …").dim()]],
        Some(rates) => {
            there.push(number(format!("{:.1}", rates.broadcasts), "broadcasts/s".to_owned()));
            let way = |way: &'static str, messages: f64, count: f64| {
                let mut spans = vec![Span::from(way)];
                spans.extend(number(format!("{messages:.1}"), format!("messages/s, {}/s", bytes(count))));
                spans
            };
            vec![
                way(" out", rates.messages_out, rates.bytes_out),
                way("  in", rates.messages_in, rates.bytes_in),
            ]
        }
    };
    vec![Line::from(there.concat()), Line::from(rates.concat())]
}

fn sparkline(view: &View, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width.saturating_sub(2));
    let hidden = view.deliveries.len().saturating_sub(width);
    let most = view.deliveries.iter().skip(hidden).max();
    let title = match most {
        Some(most) => format!(" messages to clients each second, at most {most} "),
        None => " messages to clients each second ".to_owned(),
    };
    // The newest is at the right, wherever the others end.
    let data = view.deliveries.iter().skip(hidden).copied().rev();
    let first =
        format!(" {} ago ", span(view.interval.saturating_mul(u32::try_from(width).unwrap_or(u32::MAX))));
    let block = titled(&title)
        .title_bottom(Line::from(first).left_aligned())
        .title_bottom(Line::from(" now ").right_aligned());
    let line = Sparkline::default().direction(RenderDirection::RightToLeft).data(data).block(block);
    line.green().render(area, buffer);
}

/// A time as people say it.
fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3600.0),
    }
}

fn topics_of(view: &View) -> Table<'_> {
    let rows = view.topics().iter().map(|topic| {
        Row::new([
            Cell::from(shown(&topic.topic)),
            right(topic.subscribers.to_string()),
            right(topic.behind.to_string()),
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(11), Constraint::Length(8)];
    let head = Row::new([Cell::from("topic"), right("subscribers".to_owned()), right("behind".to_owned())]);
    Table::new(rows, widths).header(head.bold()).block(titled(" topics "))
}

fn slowest_of(view: &View) -> Table<'_> {
    let rows = view.slowest().map(|connection| {
        let who = connection.user.as_deref().map_or_else(|| "-".to_owned(), shown);
        Row::new([
            Cell::from(shown(&connection.id)),
            Cell::from(who),
            right(bytes(connection.waiting_bytes as f64)),
        ])
    });
    let widths = [Constraint::Length(14), Constraint::Fill(1), Constraint::Length(10)];
    let head = Row::new([Cell::from("connection"), Cell::from("user"), right("waiting".to_owned())]);
    Table::new(rows, widths).header(head.bold()).block(titled(" slowest connections "))
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

/// A number of bytes for people.
fn bytes(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut count, mut unit) = (count, 0);
    while count >= 1024.0 && unit + 1 < units.len() {
        (count, unit) = (count / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{count:.0} {}", units[unit]) } else { format!("{count:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::sample::tests::sample;
    use super::*;
    use crate::desk::{ConnectionView, TopicView};

    fn view() -> View {
        let at = Instant::now();
        let mut view = View::new("http://127.0.0.1:4001", Duration::from_secs(1), sample(at, 1000.0));
        let mut next = sample(at + Duration::from_secs(1), 6000.0);
        next.topics.total = 31;
        next.topics.topics = (1..=2)
            .map(|number| TopicView {
                topic: format!("room:{number}\u{1b}"),
                subscribers: 100 * number,
                websocket: 100 * number,
                longpoll: 0,
                behind: number,
            })
            .collect();
        let connection = |id: &str, waiting_bytes| ConnectionView {
            id: id.to_owned(),
            transport: "websocket".to_owned(),
            user: Some("ada".to_owned()),
            socket_id: None,
            address: None,
            connected_at: 0,
            topics: Vec::new(),
            topic_count: 0,
            waiting_bytes,
        };
        next.slowest.connections = vec![connection("0-17-3", 65536), connection("0-18-1", 0)];
        view.add(next);
        view
    }

    fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it needs no terminal");
        terminal.draw(|frame| draw(view, frame.area(), frame.buffer_mut())).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    #[track_caller]
    fn check(lines: &[String], expected: &[&str]) {
        for expected in expected {
            assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:#?}");
        }
    }

    #[test]
    fn all_that_is_known_is_on_the_screen() {
        let view = view();
        let all = [
            "http://127.0.0.1:4001",
            "120 WebSockets",
            "7 on long-poll",
            "31 topics",
            "out 5000.0 messages/s, 488.3 KiB/s ",
            "in 0.0 messages/s, 0 B/s",
            "s ago ",
            " now ",
            "? helps",
            "at most 5000",
            "█",
            "room:2\u{fffd}",
            "slowest connections",
            "64.0 KiB",
        ];
        for (width, height) in [(100, 32), (120, 50), (80, 40), (80, 24)] {
            let lines = screen(&view, width, height);
            check(&lines, &all);
            let of = |text: &str| lines.iter().position(|line| line.contains(text));
            let beside = of("┌ topics ") == of("┌ slowest connections ");
            assert_eq!(beside, width >= WIDE || height < TALL, "{lines:#?}");
            assert!(of("0-17-3").is_some() && of("0-18-1").is_none(), "nothing waits for the other");
        }
        let plain: Vec<String> = text(&view).lines().map(str::to_owned).collect();
        check(&plain, &all);
        assert_eq!(plain.len(), usize::from(PLAIN.height));
    }

    #[test]
    fn the_newest_look_is_at_the_right_and_the_axis_says_so() {
        let lines = screen(&view(), 80, 24);
        let chart: Vec<&String> = lines.iter().filter(|line| line.contains('█')).collect();
        assert!(!chart.is_empty() && chart.iter().all(|line| line.ends_with("█│")), "{lines:#?}");
        check(&lines, &["└ 78 s ago ", " now ┘"]);
    }

    #[test]
    fn one_of_a_kind_is_not_many() {
        let mut view = view();
        (view.last.websocket, view.last.topics.total) = (1, 1);
        check(&screen(&view, 80, 24), &["1 WebSocket ", "1 topic "]);
    }

    #[test]
    fn help_says_what_the_words_mean() {
        let mut view = view();
        view.help = true;
        check(
            &screen(&view, 80, 24),
            &["behind: subscribers of a topic that have not been given everything yet", "q quits"],
        );
    }

    #[test]
    fn any_size_of_terminal_is_drawn() {
        let view = view();
        for (width, height) in [(1, 1), (2, 40), (200, 2), (10, 10), (300, 100)] {
            screen(&view, width, height);
        }
    }

    #[test]
    fn an_error_is_said_beside_what_was_seen_last() {
        let mut view = view();
        view.fail("can't reach the API".to_owned());
        check(&screen(&view, 100, 32), &["can't reach the API", "120 WebSockets"]);
    }

    #[test]
    fn a_line_holds_the_numbers() {
        let expected = "websocket 120  longpoll 7  topics 31  broadcasts/s 0.0  out/s 5000.0 (488.3 KiB)  in/s 0.0 (0 B)";
        assert_eq!(line(&view()), expected);
    }

    #[test]
    fn bytes_have_units() {
        let check = |count, expected| assert_eq!(bytes(count), expected);
        check(0.0, "0 B");
        check(1023.0, "1023 B");
        check(1024.0, "1.0 KiB");
        check(1.5 * 1024.0 * 1024.0, "1.5 MiB");
        check(5e15, "4547.5 TiB");
    }
}
