//! What a look at the server looks like.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, Widget};

use super::sample::View;
use crate::cli::users::shown;

/// The frame of `--once`.
const PLAIN: Rect = Rect::new(0, 0, 100, 32);
/// Below this width the tables stand below one another.
const WIDE: u16 = 90;

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
    let [topics, slowest] = if area.width >= WIDE {
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
        None => Line::from(vec![name, Span::from(format!(" {}   q quits", view.base))]),
    }
}

fn numbers_of(view: &View) -> Vec<Line<'_>> {
    let number = |value: String, what: &'static str| {
        vec![Span::from(" "), Span::from(value).bold(), Span::from(" "), Span::from(what), Span::from("  ")]
    };
    let last = &view.last;
    let there = [
        number(last.websocket.to_string(), "WebSockets"),
        number(last.longpoll.to_string(), "on long-poll"),
        number(last.topics.total.to_string(), "topics"),
    ];
    let rates = match view.rates {
        None => vec![vec![Span::from(" …").dim()]],
        Some(rates) => vec![
            number(format!("{:.1}", rates.broadcasts), "broadcasts/s"),
            number(format!("{:.1}", rates.messages_out), "messages/s out,"),
            number(bytes(rates.bytes_out) + "/s", ""),
            number(format!("{:.1}", rates.messages_in), "messages/s in,"),
            number(bytes(rates.bytes_in) + "/s", ""),
        ],
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
    let data = view.deliveries.iter().skip(hidden).copied();
    Sparkline::default().data(data).block(titled(&title)).green().render(area, buffer);
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
        let mut view = View::new("http://127.0.0.1:4001", sample(at, 1000.0));
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
            "5000.0 messages/s out,",
            "488.3 KiB/s",
            "at most 5000",
            "█",
            "room:2\u{fffd}",
            "slowest connections",
            "64.0 KiB",
        ];
        for (width, height) in [(100, 32), (120, 50), (80, 40)] {
            let lines = screen(&view, width, height);
            check(&lines, &all);
            let of = |text: &str| lines.iter().position(|line| line.contains(text));
            let beside = of("┌ topics ") == of("┌ slowest connections ");
            assert_eq!(beside, width >= WIDE, "{lines:#?}");
            assert!(of("0-17-3").is_some() && of("0-18-1").is_none(), "nothing waits for the other");
        }
        let plain: Vec<String> = text(&view).lines().map(str::to_owned).collect();
        check(&plain, &all);
        assert_eq!(plain.len(), usize::from(PLAIN.height));
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
