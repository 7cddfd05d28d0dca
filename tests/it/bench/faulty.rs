//! A plain WebSocket server that sends what one client says to all, and does wrong on purpose.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tungstenite::{Error, Message, WebSocket};

use super::Run;
use crate::support::PATIENCE;

/// What a server makes of the messages of one subscriber, counted from 0 without the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// One message does not come.
    Loses(usize),
    /// One comes twice.
    Doubles(usize),
    /// One comes behind the next one.
    Swaps(usize),
    /// Before one of them, for all subscribers, nothing is done for a second.
    Stops(usize),
}

/// A client's messages, or that it has gone.
type Said = (usize, Option<Message>);

/// Starts a server whose first client suffers from the fault. Who sends something gets it back if `echo`.
fn start(fault: Fault, echo: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (says, said) = channel();
    let (joins, joined) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let (says, joins) = (says.clone(), joins.clone());
            std::thread::spawn(move || listen(number, stream, &says, &joins));
        }
    });
    std::thread::spawn(move || send(fault, echo, &said, &joined));
    address
}

/// Reads what one client says, on a thread of its own.
fn listen(
    number: usize,
    stream: TcpStream,
    says: &Sender<Said>,
    joins: &Sender<(usize, WebSocket<TcpStream>)>,
) {
    stream.set_nodelay(true).expect("an option can be set");
    let writer = stream.try_clone().expect("a socket can be shared");
    let Ok(mut reader) = tungstenite::accept(stream) else { return };
    let role = tungstenite::protocol::Role::Server;
    let _ = joins.send((number, WebSocket::from_raw_socket(writer, role, None)));
    loop {
        match reader.read() {
            Ok(message) => {
                if says.send((number, Some(message))).is_err() {
                    return;
                }
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                let _ = says.send((number, None));
                return;
            }
        }
    }
}

/// Sends everything to everybody, but for the fault.
fn send(fault: Fault, echo: bool, said: &Receiver<Said>, joined: &Receiver<(usize, WebSocket<TcpStream>)>) {
    let mut clients: Vec<(usize, WebSocket<TcpStream>)> = Vec::new();
    let mut count = 0;
    let mut held: Option<Message> = None;
    while let Ok((from, message)) = said.recv_timeout(PATIENCE) {
        clients.extend(joined.try_iter());
        let Some(message) = message.filter(Message::is_text) else {
            clients.retain(|(number, _)| *number != from);
            continue;
        };
        let is_probe = message.to_text().is_ok_and(|text| text.starts_with('p'));
        if fault == Fault::Stops(count) && !is_probe {
            let until = Instant::now() + Duration::from_secs(1);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
        }
        for (number, client) in &mut clients {
            let suffers = *number == 0 && !is_probe;
            let times = match fault {
                Fault::Loses(at) if suffers && at == count => 0,
                Fault::Doubles(at) if suffers && at == count => 2,
                Fault::Swaps(at) if suffers && at == count => {
                    held = Some(message.clone());
                    0
                }
                _ => usize::from(echo || *number != from),
            };
            for _ in 0..times {
                // One that has gone says so itself.
                let _ = client.send(message.clone());
            }
            if suffers && let Some(held) = held.take_if(|_| fault != Fault::Swaps(count)) {
                let _ = client.send(held);
            }
        }
        count += usize::from(!is_probe);
    }
}

/// A run of ten subscribers and fifty messages on a schedule.
fn run(fault: Fault, echo: bool) -> Run {
    let url = format!("ws://{}/", start(fault, echo));
    let args = [
        "fan-out",
        &url,
        "--plain",
        "--json",
        "-",
        "-c",
        "10",
        "-m",
        "50",
        "--rate",
        "200",
        "--warm-up",
        "0",
    ];
    Run::of(&[&args[..], &["--connect-rate", "0"]].concat())
}

#[test]
fn a_good_server_passes_whether_it_echoes_or_not() {
    for (echo, received) in [(true, 11 * 50), (false, 10 * 50)] {
        let figures = run(Fault::None, echo).good();
        assert_eq!(figures.at("/protocol"), "plain");
        assert_eq!(figures.number("/deliveries/received"), received, "{echo}");
    }
}

/// Runs against a server with a fault: the numbers lost, doubled and out of order, and the sentence.
#[track_caller]
fn check(fault: Fault, expected: [u64; 3], sentence: &str) {
    let url = format!("ws://{}/", start(fault, false));
    let args = ["fan-out", &url, "--plain", "--json", "-", "-c", "10", "-m", "50", "--rate", "200"];
    let run = Run::of(&[&args[..], &["--warm-up", "0", "--connect-rate", "0", "--patience", "1s"]].concat());
    assert_eq!(run.code, Some(1), "{fault:?}: {}", run.stderr);
    let figures = run.figures();
    let counted =
        ["lost", "doubled", "out_of_order"].map(|name| figures.number(&format!("/deliveries/{name}")));
    assert_eq!(counted, expected, "{fault:?}");
    assert!(run.stderr.contains(sentence), "{fault:?}: {}", run.stderr);
}

#[test]
fn a_message_that_is_lost_is_counted() {
    check(Fault::Loses(7), [1, 0, 0], "1 lost");
}

#[test]
fn a_message_that_comes_twice_is_counted() {
    check(Fault::Doubles(7), [0, 1, 0], "1 doubled");
}

#[test]
fn a_message_that_is_overtaken_is_counted() {
    check(Fault::Swaps(7), [0, 0, 1], "1 out of order");
}

#[test]
fn a_server_that_stops_for_a_second_shows_in_the_latencies_of_a_schedule() {
    let figures = run(Fault::Stops(10), false).good();
    let percentiles = figures.at("/deliveries/latency/percentiles").as_array().expect("a list").clone();
    let percentiles: Vec<u64> = percentiles.iter().map(|micros| micros.as_u64().expect("a number")).collect();
    // Messages after the stop were to leave 5 ms apart: had they waited for the server, only the first would be late.
    assert!(percentiles[0] > 400_000, "half of the messages waited: {percentiles:?}");
    assert!(percentiles[6] >= 990_000, "one waited for all of it: {percentiles:?}");
}

#[test]
fn nobody_there_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("ws://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let run = Run::of(&["fan-out", &url, "-c", "5"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("nobody gets in") && run.stderr.contains("refused"), "{}", run.stderr);
}

#[test]
fn what_can_t_be_meant_is_a_usage_error() {
    let cases: [(&[&str], &str); 7] = [
        (&["fan-out", "--bytes", "20"], "at least 60 bytes"),
        (&["fan-out", "--plain", "--bytes", "3"], "at least 14 bytes"),
        (&["fan-out", "localhost:4000"], "begins with ws://"),
        (&["private", "--plain"], "private messages need topics"),
        (&["longpoll", "--plain"], "long-poll belongs to Phoenix"),
        (&["fan-out", "--closed", "--rate", "5"], "cannot be used with"),
        (&["fan-out", "--source", "127.0.0.9-127.0.0.1"], "give an address"),
    ];
    for (args, sentence) in cases {
        let run = Run::of(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(sentence), "{args:?}: {}", run.stderr);
    }
}
