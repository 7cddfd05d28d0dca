//! The commands on top of the HTTP API, against an API whose answers are written down.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Client, Hailer, PATIENCE, eventually, hailer};

const KEY: &str = "hlr_M4rkedKey-0123456789abcdefghijklmnopqrstuvw";

/// A request as it came.
#[derive(Debug, Clone)]
struct Request {
    /// `GET /path?query`
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// Answers requests by the beginnings of their lines; the last answer that fits is given.
#[derive(Clone)]
struct Api {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Api {
    fn start(answers: &[(&str, u16, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let api = Self { address, requests: Arc::default() };
        let (told, answers) = (api.clone(), answers.iter().map(own).collect::<Vec<_>>());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (told, answers) = (told.clone(), answers.clone());
                std::thread::spawn(move || told.serve(&stream, &answers));
            }
        });
        api
    }

    /// Serves one connection until its end.
    fn serve(&self, stream: &TcpStream, answers: &[(String, u16, String)]) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time is good");
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader) {
            let answer = answers.iter().rev().find(|(line, ..)| request.line.starts_with(line));
            let (status, body) =
                answer.map_or((404, "<h1>not found</h1>"), |(_, status, body)| (*status, &**body));
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n\r\n", body.len());
            let mut writer = stream;
            if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only request.
    #[track_caller]
    fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }

    /// A command that asks this API, with the key.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = hailer(args);
        command.env("HAILER_API", format!("http://{}", self.address)).env("HAILER_API_KEY", KEY);
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().expect("the program starts"))
    }
}

fn own((line, status, body): &(&str, u16, String)) -> (String, u16, String) {
    ((*line).to_owned(), *status, body.clone())
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines
        .iter()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, headers: lines, body: String::from_utf8(body).ok()? })
}

/// What a command has said, and its exit code. The key is never among it.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is text");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(!stdout.contains("M4rked") && !stderr.contains("M4rked"), "{stdout}\n{stderr}");
        Self { code: output.status.code(), stdout, stderr }
    }

    #[track_caller]
    fn well(self) -> String {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    #[track_caller]
    fn badly(self, code: i32) -> String {
        assert_eq!((self.code, &*self.stdout), (Some(code), ""), "{}", self.stderr);
        self.stderr
    }
}

const PUBLISH: &str = "POST /api/v1/publish";

fn published() -> String {
    let published = json!({"id": "m-1", "topic": "room:lobby", "offset": 7, "subscribers": 2, "durability": "memory", "state": "sent"});
    published.to_string()
}

#[test]
fn a_body_is_published_to_a_topic() {
    let api = Api::start(&[(PUBLISH, 200, published())]);
    let stdout = api.run(&["publish", "room:lobby", "hello"]).well();
    assert_eq!(stdout, "sent to 2 subscribers of room:lobby (id m-1, offset 7, durability memory)\n");
    let request = api.request();
    assert_eq!(request.line, "POST /api/v1/publish");
    let headers = request.headers.join("\n").to_ascii_lowercase();
    assert!(headers.contains(&format!("authorization: bearer {}", KEY.to_ascii_lowercase())), "{headers}");
    assert!(headers.contains("content-type: application/json"), "{headers}");
    let expected = json!({"topic": "room:lobby", "event": "new_msg", "payload": {"body": "hello"}});
    assert_eq!(request.json(), expected);
}

#[test]
fn all_that_is_said_of_a_message_is_in_the_request() {
    let check = |args: &[&str], expected: Value| {
        let api = Api::start(&[(PUBLISH, 202, published())]);
        api.run(&[&["publish"], args].concat()).well();
        assert_eq!(api.request().json(), expected, "{args:?}");
    };
    check(
        &["--user", "42", "b", "--title", "t", "--link", "https://example.com/", "--severity", "critical"],
        json!({
            "user": "42", "event": "new_msg",
            "payload": {"body": "b", "title": "t", "link": "https://example.com/", "severity": "critical"},
        }),
    );
    let more =
        ["--expires-in", "10m", "--at", "2030-01-31T09:00:00+01:00", "--durability", "disk", "--receipts"];
    check(
        &[&["t", "b", "--with-id", "--idempotency-key", "k"], &more[..]].concat(),
        json!({
            "topic": "t", "event": "new_msg", "payload": {"body": "b"}, "durability": "disk", "expires_in": 600,
            "send_at": 1_896_076_800, "with_id": true, "receipts": true, "idempotency_key": "k",
        }),
    );
    check(
        &["t", "--event", "e", "--payload", " [1, {\"a\": null}] "],
        json!({"topic": "t", "event": "e", "payload": [1, {"a": null}]}),
    );
}

#[test]
fn a_payload_goes_out_as_it_was_given() {
    let payload = r#"{"big": 12345678901234567890123, "same": 1.0, "a": "\u00e9"}"#;
    let api = Api::start(&[(PUBLISH, 200, published())]);
    let mut command = api.command(&["publish", "t", "--payload", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(format!("{payload}\n").as_bytes()).expect("it is read");
    drop(stdin);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let body = api.request().body;
    assert!(body.contains(&format!("\"payload\":{payload}")), "{body}");
}

#[test]
fn json_is_printed_on_request() {
    let api = Api::start(&[(PUBLISH, 200, published())]);
    let stdout = api.run(&["publish", "t", "b", "--json"]).well();
    assert_eq!(stdout.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&stdout).expect("JSON")["offset"], 7);
}

#[test]
fn a_publish_that_makes_no_sense_is_a_usage_error_and_asks_nobody() {
    let api = Api::start(&[]);
    for args in [
        &[][..],
        &["t"],
        &["--user", "42"],
        &["t", "b", "--user", "42"],
        &["t", "b", "--payload", "{}"],
        &["t", "--payload", "{"],
        &["t", "--payload", "{} {}"],
        &["t", "--payload", "{}", "--title", "t"],
        &["t", "b", "--severity", "mild"],
        &["t", "b", "--at", "soon"],
        &["t", "b", "--expires-in", "0s"],
        &["t", "b", "--api", "127.0.0.1:4001"],
        &["t", "b", "--api", "http://ada:M4rked@127.0.0.1:4001"],
    ] {
        let stderr = api.run(&[&["publish"], args].concat()).badly(2);
        assert!(stderr.contains("hailer: ") || stderr.contains("--help"), "{args:?}: {stderr}");
    }
    let stderr = api.run(&["publish", "t", "b", "--api", "https://127.0.0.1:4001"]).badly(2);
    assert!(stderr.contains("tunnel"), "{stderr}");
    assert!(api.requests().is_empty());
}

#[test]
fn what_the_api_refuses_is_a_sentence() {
    let check = |status: u16, body: Value, expected: &str| {
        let api = Api::start(&[(PUBLISH, status, body.to_string())]);
        let stderr = api.run(&["publish", "t", "b"]).badly(1);
        assert_eq!(stderr.replace(&api.address.to_string(), "HERE"), format!("hailer: {expected}\n"));
    };
    let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
    check(
        422,
        json!({"error": {"code": "invalid_request", "message": "It is too long.", "field": "topic", "docs": "/x"}}),
        "topic: It is too long (invalid_request)",
    );
    check(
        422,
        json!({"error": {"code": "invalid_request", "message": "\"topic\" is too long.", "field": "topic"}}),
        "\"topic\" is too long (invalid_request)",
    );
    check(403, error("forbidden", "No\u{1b}[2J."), "No\u{fffd}[2J (forbidden)");
    check(503, error("overloaded", "Try again later."), "Try again later (overloaded)");
    check(
        401,
        error("unauthorized", "This key is not known."),
        "the API at http://HERE does not know the key: compare HAILER_API_KEY, or --key-file, with [[api.keys]] of the \
         server's configuration (`hailer api-key --hash` prints the hash of a key)",
    );
    for (status, body) in [(404, json!("x")), (200, json!({"id": 1})), (302, json!({}))] {
        let api = Api::start(&[(PUBLISH, status, body.to_string())]);
        let stderr = api.run(&["publish", "t", "b"]).badly(1);
        assert!(stderr.contains("is not the API of this version of Hailer"), "{stderr}");
    }
}

#[test]
fn without_a_key_none_is_sent_and_a_file_goes_before_the_variable() {
    let refusal = json!({"error": {"code": "unauthorized", "message": "A key is needed."}}).to_string();
    let api = Api::start(&[(PUBLISH, 401, refusal)]);
    let mut command = api.command(&["publish", "t", "b"]);
    let said = Said::of(&command.env_remove("HAILER_API_KEY").output().expect("the program starts"));
    let stderr = said.badly(1);
    assert!(stderr.contains("asks for a key: set HAILER_API_KEY or give --key-file FILE"), "{stderr}");
    assert!(!api.request().headers.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization")));

    let folder = crate::support::Folder::new("api-cli");
    folder.write("key", "hlr_of-the-file\n", 0o600);
    folder.write("keys", "two keys", 0o600);
    let api = Api::start(&[(PUBLISH, 200, published())]);
    let with_file =
        |name: &str| api.run(&["publish", "t", "b", "--key-file", &folder.0.join(name).to_string_lossy()]);
    with_file("key").well();
    let headers = api.request().headers.join("\n");
    assert!(headers.contains("Bearer hlr_of-the-file") && !headers.contains(KEY), "{headers}");
    assert!(with_file("keys").badly(1).contains("this is no key"));
    assert!(with_file("gone").badly(1).contains("can't read"));
    let mut command = api.command(&["publish", "t", "b"]);
    let output = command.env("HAILER_API_KEY", "M4rked key").output().expect("the program starts");
    assert!(Said::of(&output).badly(1).contains("HAILER_API_KEY: this is no key"));
}

#[test]
fn an_api_that_is_away_is_a_sentence_that_says_what_to_look_at() {
    // Bound and not listened on for long: nobody else gets the port at once.
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
    let url = format!("http://{address}");
    for args in
        [&["publish", "t", "b"][..], &["disconnect", "42"], &["connections"], &["topics"], &["top", "--once"]]
    {
        let output = hailer(args).args(["--api", &url]).output().expect("the program starts");
        let stderr = Said::of(&output).badly(1);
        assert!(stderr.starts_with(&format!("hailer: can't reach the API at {url}: ")), "{stderr}");
        assert!(stderr.contains("Is the server running") && stderr.contains("HAILER_API"), "{stderr}");
        assert!(!stderr.contains("not known whether"), "nothing was sent: {stderr}");
    }
}

#[test]
fn an_answer_that_breaks_off_leaves_open_whether_it_was_done() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let _ = read(&mut reader);
            let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{");
        }
    });
    let output = hailer(&["publish", "t", "b", "--api", &url]).output().expect("the program starts");
    let stderr = Said::of(&output).badly(1);
    assert!(stderr.contains("It is not known whether it was done"), "{stderr}");
}

#[test]
fn no_proxy_of_the_environment_gets_the_key() {
    let proxy = Api::start(&[]);
    let api = Api::start(&[(PUBLISH, 200, published())]);
    let mut command = api.command(&["publish", "t", "b"]);
    for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env(name, format!("http://{}", proxy.address));
    }
    Said::of(&command.output().expect("the program starts")).well();
    assert_eq!((api.requests().len(), proxy.requests().len()), (1, 0));
}

#[test]
fn sockets_are_closed_by_user_by_id_and_one_by_one() {
    let check = |args: &[&str], sockets: u64, request: Value, expected: &str| {
        let api = Api::start(&[("POST /api/v1/disconnect", 200, json!({"sockets": sockets}).to_string())]);
        let stdout = api.run(&[&["disconnect"], args].concat()).well();
        assert_eq!((api.request().json(), &*stdout), (request, expected));
    };
    check(&["42"], 2, json!({"user": "42", "reconnect": true}), "closed 2 sockets of user 42\n");
    check(
        &["--socket-id", "user_socket:42", "--stay-away"],
        1,
        json!({"socket_id": "user_socket:42", "reconnect": false}),
        "closed 1 socket with the id user_socket:42\n",
    );
    check(
        &["--connection", "0-1-2"],
        0,
        json!({"connection": "0-1-2", "reconnect": true}),
        "there is no open socket called 0-1-2\n",
    );
    check(&["42", "--json"], 2, json!({"user": "42", "reconnect": true}), "{\"sockets\":2}\n");
    let api = Api::start(&[]);
    for args in [&["disconnect"][..], &["disconnect", "42", "--connection", "1"]] {
        api.run(args).badly(2);
    }
    assert!(api.requests().is_empty());
}

fn connection(id: &str) -> Value {
    json!({
        "id": id, "transport": "websocket", "user": "ada", "address": "192.0.2.1:5000", "connected_at": 1_795_431_845_000_u64,
        "topics": ["room:lobby"], "topic_count": 1, "waiting_bytes": 9,
    })
}

#[test]
fn connections_are_listed_page_by_page() {
    let page = |id: &str, next: Option<&str>| {
        json!({"connections": [connection(id)], "next": next, "total": 2}).to_string()
    };
    let answers = [
        ("GET /api/v1/connections", 200, page("0-1-1", Some("a b&c"))),
        ("GET /api/v1/connections?limit=1000&after=a%20b%26c", 200, page("0-2-2", None)),
    ];
    let api = Api::start(&answers);
    let stdout = api.run(&["connections", "--all"]).well();
    let row = |id: &str| {
        format!("{id}  websocket  ada   192.0.2.1:5000  2026-11-23 11:04:05Z  9        room:lobby\n")
    };
    let head = "ID     TRANSPORT  USER  ADDRESS         CONNECTED             WAITING  TOPICS\n";
    assert_eq!(stdout, format!("{head}{}{}2 listed, 2 open in all\n", row("0-1-1"), row("0-2-2")));

    let api = Api::start(&answers);
    let stdout = api.run(&["connections", "--all", "--json"]).well();
    let ids: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(ids.iter().map(|view| &view["id"]).collect::<Vec<_>>(), ["0-1-1", "0-2-2"]);

    let api = Api::start(&answers);
    let args = [
        "--user",
        "ä b",
        "--topic",
        "room:a",
        "--transport",
        "longpoll",
        "--order",
        "slowest",
        "--limit",
        "5",
    ];
    let stdout = api.run(&[&["connections"], &args[..]].concat()).well();
    assert!(stdout.ends_with("1 listed, 2 open in all; --all lists the rest\n"), "{stdout}");
    let line = api.request().line;
    let query = line.strip_prefix("GET /api/v1/connections?").unwrap_or_else(|| panic!("{line}"));
    assert_eq!(
        query.replace("%3A", ":"),
        "user=%C3%A4%20b&topic=room:a&transport=longpoll&order=slowest&limit=5"
    );
    for wrong in
        [&["--limit", "0"][..], &["--limit", "1001"], &["--transport", "x"], &["--all", "--order", "oldest"]]
    {
        api.run(&[&["connections"], wrong].concat()).badly(2);
    }
}

fn topics() -> String {
    let topic = json!({"topic": "room:lobby", "subscribers": 3, "websocket": 2, "longpoll": 1, "behind": 0});
    json!({"topics": [topic], "total": 8}).to_string()
}

#[test]
fn topics_are_listed() {
    let api = Api::start(&[("GET /api/v1/topics", 200, topics())]);
    let stdout = api.run(&["topics", "--prefix", "room", "--limit", "1"]).well();
    let table = "\
TOPIC       SUBSCRIBERS  WEBSOCKET  LONGPOLL  BEHIND
room:lobby  3            2          1         0
1 listed of 8
";
    assert_eq!(stdout, table);
    assert_eq!(api.request().line, "GET /api/v1/topics?prefix=room&limit=1");
    let stdout = api.run(&["topics", "--json"]).well();
    assert_eq!(serde_json::from_str::<Value>(&stdout).expect("JSON")["subscribers"], 3);
}

fn watched() -> Api {
    let metrics = "# TYPE hailer_connections gauge\nhailer_connections{transport=\"websocket\"} 120\n\
                   hailer_connections{transport=\"longpoll\"} 7\nhailer_sent_messages_total 5\n# EOF\n";
    let slow = json!({"connections": [connection("0-17-3")], "total": 127}).to_string();
    Api::start(&[
        ("GET /metrics", 200, metrics.to_owned()),
        ("GET /api/v1/topics", 200, topics()),
        ("GET /api/v1/connections?order=slowest", 200, slow),
    ])
}

#[test]
fn top_prints_one_frame() {
    let stdout = watched().run(&["top", "--once", "--interval", "100ms"]).well();
    for expected in
        ["120 WebSockets", "7 on long-poll", "8 topics", "room:lobby", "0-17-3", "out 0.0 messages/s"]
    {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    assert!(!stdout.contains('\u{1b}'), "no terminal is there: {stdout:?}");
}

#[test]
fn top_prints_lines_where_no_terminal_is_until_nobody_reads_them() {
    let api = watched();
    let mut command = api.command(&["top", "--interval", "100ms"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
    for _ in 0..2 {
        let line = lines.next().expect("there is a line").expect("it is text");
        assert!(
            line.starts_with("websocket 120  longpoll 7  topics 8  broadcasts/s 0.0  out/s 0.0"),
            "{line}"
        );
    }
    drop(lines);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn top_of_something_else_is_an_error() {
    let api = Api::start(&[("GET /metrics", 200, "up 1\n".to_owned())]);
    let stderr = api.run(&["top", "--once"]).badly(1);
    assert!(stderr.contains("its metrics are not those of Hailer"), "{stderr}");
    api.run(&["top", "--interval", "1ms"]).badly(2);
}

/// Runs `top` on a terminal of its own, and ends it in some way once it draws; what the terminal got, and how it is set
/// afterwards. `None` where there is no program that makes terminals.
fn on_terminal(end: impl FnOnce(&str, &mut ChildStdin)) -> Option<String> {
    let api = watched();
    let program = api.command(&[]);
    let mut command = Command::new("script");
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PROGRAM", program.get_program()).env("TERM", "xterm");
    let inner =
        r#"stty rows 40 cols 100; sh -c 'echo "pid=$$."; exec "$PROGRAM" top'; echo "code=$?."; stty -a"#;
    let made =
        command.args(["-qec", inner, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = made else {
        println!("skipped: there is no program `script` here");
        return None;
    };
    let (mut stdin, mut stdout) = (child.stdin.take()?, child.stdout.take()?);
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut piece) {
            // A test that has ended reads no more.
            let _ = sender.send(String::from_utf8_lossy(&piece[..count]).into_owned());
        }
    });
    let (mut seen, mut end) = (String::new(), Some(end));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => seen += &piece,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                panic!("it does not end: {seen:?}");
            }
        }
        // A word of the first frame; cells that are empty are not drawn, so words stand apart.
        if seen.contains("WebSockets")
            && let Some(end) = end.take()
        {
            let pid = seen.split_once("pid=").and_then(|(_, rest)| rest.split_once('.')).expect("a number").0;
            end(pid, &mut stdin);
        }
    }
    child.wait().expect("it ends");
    Some(seen)
}

#[test]
fn top_leaves_the_terminal_as_it_was() {
    let check = |what: &str, end: &dyn Fn(&str, &mut ChildStdin)| {
        let Some(seen) = on_terminal(|pid, stdin| end(pid, stdin)) else { return };
        let (live, after) = seen.split_once("code=").unwrap_or_else(|| panic!("{what}: {seen:?}"));
        let (entered, left) = (live.find("\u{1b}[?1049h"), live.rfind("\u{1b}[?1049l"));
        assert!(entered.is_some() && left > entered, "{what}: {live:?}");
        assert!(after.starts_with("0."), "{what}: {after}");
        let modes: Vec<&str> = after.split_whitespace().collect();
        assert!(modes.contains(&"icanon") && modes.contains(&"echo"), "{what}: {after}");
    };
    let key =
        |key: &'static [u8]| move |_: &str, stdin: &mut ChildStdin| stdin.write_all(key).expect("it is read");
    check("q", &key(b"q"));
    check("Ctrl-C", &key(b"\x03"));
    for signal in ["TERM", "INT", "HUP"] {
        check(signal, &|pid, _| {
            let status = Command::new("kill").args(["-s", signal, pid]).status();
            assert!(status.expect("kill runs").success());
        });
    }
}

/// The state and the parent of a process, from the system.
fn process(pid: &str) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything but is in brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

#[test]
fn top_does_not_go_on_for_ever_when_its_terminal_is_gone() {
    let mut ended = false;
    let seen = on_terminal(|pid, _| {
        let shell = process(pid).expect("top runs").1;
        let terminal = process(&shell).expect("the shell runs").1;
        let killed = Command::new("kill").args(["-s", "KILL", &terminal]).status();
        assert!(killed.expect("kill runs").success());
        // One that nobody has waited for is a zombie.
        let is_gone = || process(pid).is_none_or(|(state, _)| state == "Z");
        eventually("the end of top", || is_gone().then_some(()));
        ended = true;
    });
    assert_eq!(ended, seen.is_some());
}

#[test]
fn the_commands_and_a_running_server_understand_each_other() {
    let mut server = Hailer::start(&["--shards", "2", "--topic", "room:*", "--api-listen", "127.0.0.1:0"]);
    let url = server.said("API on ");
    let key = server.said("API key of this run: ");
    let run = |args: &[&str]| {
        let mut command = hailer(args);
        command.env("HAILER_API", &url).env("HAILER_API_KEY", &key);
        Said::of(&command.output().expect("the program starts"))
    };
    let mut clients: Vec<Client> = (0..3).map(|_| Client::joined(server.address(), "room:lobby")).collect();
    let mut other = Client::joined(server.address(), "room:other");

    let stdout = run(&["publish", "room:lobby", "hello", "--title", "t", "--severity", "info"]).well();
    assert!(stdout.starts_with("sent to 3 subscribers of room:lobby (id "), "{stdout}");
    assert!(stdout.ends_with(", durability memory)\n"), "{stdout}");
    for client in &mut clients {
        assert_eq!(client.body(), "hello");
    }
    let at = (super::users::unix_time() + 3600).to_string();
    let stdout = run(&["publish", "room:lobby", "later", "--at", &at, "--json"]).well();
    assert_eq!(serde_json::from_str::<Value>(&stdout).expect("JSON")["state"], "scheduled");
    let kept = [
        "publish",
        "room:lobby",
        "x",
        "--expires-in",
        "1h",
        "--receipts",
        "--idempotency-key",
        "k",
        "--json",
    ];
    assert_eq!(run(&kept).well(), run(&kept).well());

    let stdout = run(&["topics"]).well();
    let table = "\
TOPIC       SUBSCRIBERS  WEBSOCKET  LONGPOLL  BEHIND
room:lobby  3            3          0         0
room:other  1            1          0         0
2 listed of 2
";
    assert_eq!(stdout, table);
    let stdout = run(&["connections", "--all"]).well();
    assert!(stdout.ends_with("4 listed, 4 open in all\n"), "{stdout}");
    for order in ["oldest", "slowest"] {
        let args =
            ["connections", "--topic", "room:other", "--transport", "websocket", "--order", order, "--json"];
        let stdout = run(&args).well();
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
    }
    let stdout = run(&["connections", "--topic", "room:other", "--json"]).well();
    let view: Value = serde_json::from_str(&stdout).expect("JSON");
    let id = view["id"].as_str().expect("a text");
    let stdout = run(&["disconnect", "--connection", id, "--stay-away"]).well();
    assert_eq!(stdout, format!("closed 1 socket called {id}\n"));
    assert_eq!(other.closed().map(|(code, _)| code), Some(1000));

    let stdout = run(&["top", "--once", "--interval", "100ms"]).well();
    for expected in ["WebSockets", "on long-poll", "topics", "room:lobby", "messages/s, "] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let stderr = run(&["publish", "room:lobby", "b", "--event", "phx_reply"]).badly(1);
    assert!(stderr.starts_with("hailer: ") && stderr.trim_end().ends_with(')'), "{stderr}");
    let stderr =
        run(&["publish", "room:lobby", "b", "--api", &format!("http://{}", server.address())]).badly(1);
    assert!(stderr.contains("is not the API of this version of Hailer"), "{stderr}");
    let mut command = hailer(&["topics"]);
    command.env("HAILER_API", &url).env("HAILER_API_KEY", KEY);
    let stderr = Said::of(&command.output().expect("the program starts")).badly(1);
    assert!(stderr.contains("does not know the key"), "{stderr}");
    server.stop();
}
