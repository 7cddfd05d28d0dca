//! Receipts of a broadcast to very many clients, some of whose processes stand still.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};

use hailer::testing::{upgrade_request, write_masked};
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{Caller, api_of};
use crate::load::clients;
use crate::support::peer::{PATH, PING, PONG, frame_len};
use crate::support::{Hailer, PATIENCE, PatientStream, crowd, eventually};

const CLIENTS: usize = if cfg!(debug_assertions) { 3_000 } else { 15_000 };

/// Where a process of clients finds the server, and how many there are to be.
const AUDIENCE: &str = "HAILER_TEST_AUDIENCE";

/// Clients in a process of their own, killed with it.
struct Audience {
    process: Child,
    /// Held open: the process ends when it can't say that it has been running for a minute.
    _says: BufReader<ChildStdout>,
}

impl Audience {
    /// Starts a process with so many clients; returns when all have joined.
    fn start(address: SocketAddr, count: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["load_api::receipts::an_audience_of_another_process", "--exact", "--nocapture"])
            .env(AUDIENCE, format!("{address} {count}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts once more");
        let mut says = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let joined =
            says.by_ref().lines().map_while(Result::ok).any(|line| line.ends_with("all have joined"));
        assert!(joined, "the clients of another process have not joined");
        Self { process, _says: says }
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test by itself: clients that join the lobby, answer pings as browsers do, and stay until they are killed.
#[test]
fn an_audience_of_another_process() {
    let Ok(audience) = std::env::var(AUDIENCE) else { return };
    let (address, count) = audience.split_once(' ').expect("an address and a number");
    let (address, count) = (address.parse().expect("an address"), count.parse().expect("a number"));
    let mut poll = Poll::new().expect("the system has an event queue");
    let mut clients = Vec::new();
    for number in 0..count {
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(number / 10_000 + 1).expect("it is small"));
        clients.push(join(connect(from, address)));
    }
    for (key, (stream, _)) in clients.iter_mut().enumerate() {
        let interest = Interest::READABLE;
        poll.registry().register(stream, Token(key), interest).expect("it can be watched");
    }
    println!("all have joined");
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, Some(PATIENCE)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("{error}"),
        }
        for event in &events {
            let (stream, partial) = &mut clients[event.token().0];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                partial.extend_from_slice(&buffer[..read]);
            }
            answer_pings(stream, partial);
        }
    }
}

/// A connection that is made at once.
fn connect(from: Ipv4Addr, to: SocketAddr) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of this machine");
    socket.connect_timeout(&to.into(), PATIENCE).expect("the server accepts");
    socket.into()
}

/// Upgrades and joins: the connection, and what has come behind the reply.
fn join(stream: std::net::TcpStream) -> (mio::net::TcpStream, Vec<u8>) {
    let mut stream = PatientStream::new(stream);
    let mut hello = upgrade_request(PATH).into_bytes();
    write_masked(&mut hello, 1, true, br#"["1","1","room:lobby","phx_join",{}]"#);
    stream.write_all(&hello).expect("the server takes it");
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while !received.ends_with(br#"{"status":"ok","response":{}}]"#) {
        let read = stream.read(&mut buffer).expect("the server answers");
        assert!(read > 0, "the server has ended the connection");
        received.extend_from_slice(&buffer[..read]);
    }
    let stream = stream.into_socket();
    stream.set_nonblocking(true).expect("it can be");
    (mio::net::TcpStream::from_std(stream), Vec::new())
}

/// Answers the pings among the whole frames that have come, and forgets those frames.
fn answer_pings(stream: &mut mio::net::TcpStream, received: &mut Vec<u8>) {
    let mut used = 0;
    while let Some(len) = frame_len(&received[used..]) {
        let frame = &received[used..used + len];
        if frame[0] & 0x0f == PING {
            let mut pong = Vec::new();
            write_masked(&mut pong, PONG, true, &frame[2..]);
            stream.write_all(&pong).expect("a pong has room");
        }
        used += len;
    }
    received.drain(..used);
}

#[test]
fn receipts_end_at_the_number_of_clients_that_have_received_it() {
    let _crowd = crowd();
    let count = clients(CLIENTS);
    let stopped = count / 10;
    let hailer = Hailer::start(&["--api-listen", "127.0.0.1:0", "--timeout", "600s"]);
    let key = hailer.said("API key of this run: ");
    let awake = Audience::start(hailer.address(), count - stopped);
    let asleep = Audience::start(hailer.address(), stopped);
    asleep.signal("STOP");
    // The server waits for the first request no longer than for any other, so the caller comes behind them all.
    let mut caller = Caller::new(api_of(&hailer), &key);

    let message = json!({
        "topic": "room:lobby", "event": "new_msg", "payload": {"body": "maintenance"}, "receipts": true,
    });
    let published = caller.post("/api/v1/publish", &message.to_string());
    assert_eq!(published["subscribers"], count);
    let path = format!("/api/v1/messages/{}", published["id"].as_str().expect("it has an id"));
    let mut progress = |received: usize| -> Value {
        eventually("the receipts", || {
            let message = caller.get(&path);
            let progress = message["progress"].clone();
            (progress["received"] == received).then_some(progress)
        })
    };
    let seen = progress(count - stopped);
    assert_eq!((seen["addressed"].clone(), seen["done"].clone()), (json!(count), json!(false)), "{seen}");
    println!("{count} clients, {stopped} of them stopped: {seen}");
    // Some of those who stood still go on, and the others end.
    asleep.signal("CONT");
    let all = progress(count);
    assert_eq!((all["done"].clone(), all["gone"].clone()), (json!(true), json!(0)), "{all}");

    asleep.signal("STOP");
    let published = caller.post("/api/v1/publish", &message.to_string());
    let path = format!("/api/v1/messages/{}", published["id"].as_str().expect("it has an id"));
    drop((asleep, awake));
    let another =
        json!({"topic": "room:lobby", "event": "new_msg", "payload": {"body": "is anybody there?"}});
    let mut asked = 0;
    let ended = eventually("the end of the count", || {
        // A reset is sent once and may be lost; what is sent to such a client is answered with another.
        asked += 1;
        if asked % 100 == 0 {
            caller.post("/api/v1/publish", &another.to_string());
        }
        let message = caller.get(&path);
        (message["progress"]["done"] == true).then_some(message)
    });
    let progress = &ended["progress"];
    let number = |name: &str| progress[name].as_u64().expect("a number");
    assert_eq!(number("received") + number("gone"), count as u64, "{progress}");
    println!("all processes killed at once: {progress}");
}
