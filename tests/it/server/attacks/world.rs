//! A running server with keys, staff, a store and users, and those who ask it for something.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use hailer::api::Key;
use hailer::auth::connect::Secret;
use hailer::phoenix::Serializer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::super::users::{token, unix_time};
use crate::support::Folder;
use crate::support::peer::Response;
use crate::support::{Client, Hailer, Peer};

/// What tokens are signed with.
pub(super) const SECRET: &str =
    "M4rkedTokenSecret-9f8e7d6c5b4a39281706f5e4d3c2b1a0-and-some-more-of-it-to-be-long";
/// May do everything.
pub(super) const KEY: &str = "hlr_M4rkedKeyForEverything0123456789abcdefghijk";
/// The password of everybody who has one.
pub(super) const PASSWORD: &str = "M4rked correct horse";

/// The lines of the configuration for a key.
pub(super) fn key_lines(name: &str, key: &str, more: &str) -> String {
    let hash = Key::show_hash(&Key::hash_of(&Secret::new(key)));
    format!("[[api.keys]]\nname = '{name}'\nhash = \"{hash}\"\n{more}\n")
}

/// A server on a store of its own.
pub(super) struct World {
    pub(super) folder: Folder,
    pub(super) hailer: Hailer,
    pub(super) api: SocketAddr,
}

impl World {
    /// Starts one with these further lines of the configuration, and these arguments.
    pub(super) fn start(config: &str, args: &[&str]) -> Self {
        Self::start_with(config, args, |_| {})
    }

    /// The same, with something done between the configuration and the start.
    pub(super) fn start_with(config: &str, args: &[&str], prepare: impl FnOnce(&Folder)) -> Self {
        Self::start_in(Self::folder(config, prepare), args)
    }

    /// The same with the API on other addresses than that of loopback.
    pub(super) fn start_at(api_listen: &str, prepare: impl FnOnce(&Folder)) -> Self {
        Self::run_in(Self::folder("", prepare), api_listen, &[])
    }

    /// A folder with a configuration, a secret and what `prepare` makes of them.
    fn folder(config: &str, prepare: impl FnOnce(&Folder)) -> Folder {
        let folder = Folder::new("attacks");
        let everything = key_lines("everything", KEY, "scopes = [\"publish\", \"disconnect\", \"read\"]");
        let first = "[auth]\nsecret_file = \"secret\"\n[store]\npath = \"hailer.db\"\n";
        folder.write("hailer.toml", &format!("{first}{config}\n{everything}"), 0o600);
        folder.write("secret", SECRET, 0o600);
        prepare(&folder);
        folder
    }

    pub(super) fn start_in(folder: Folder, args: &[&str]) -> Self {
        Self::run_in(folder, "127.0.0.1:0", args)
    }

    fn run_in(folder: Folder, api_listen: &str, args: &[&str]) -> Self {
        let serve = ["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"];
        let hailer = Hailer::run(folder.hailer(&[&serve[..], &["--api-listen", api_listen], args].concat()));
        let api = hailer.said("API on http://").parse().expect("it is an address");
        Self { folder, hailer, api }
    }

    /// Sends one request, with the host that is listened on unless a header says otherwise; the answer.
    pub(super) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut peer = Peer::connect(self.api);
        peer.send(&self.request(method, target, headers, body));
        peer.response()
    }

    /// The bytes of a request.
    pub(super) fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.api));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        format!("{head}\r\n{body}").into_bytes()
    }

    /// Asks the API with a key.
    pub(super) fn call(&self, key: &str, method: &str, target: &str, body: &str) -> Response {
        let headers = [("authorization", &*format!("Bearer {key}")), ("content-type", "application/json")];
        self.ask(method, target, &headers, body)
    }

    /// The same, which must go well: the answer's JSON.
    #[track_caller]
    pub(super) fn done(&self, method: &str, target: &str, body: &str) -> Value {
        let response = self.call(KEY, method, target, body);
        assert!((200..300).contains(&response.status), "{method} {target}: {response:?}");
        if response.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&response.body).expect("the answer is JSON")
    }

    /// How many messages were published. Records may come after their messages, in the order of these; so one whose
    /// record is awaited is sent behind them.
    pub(super) fn published(&self) -> usize {
        let last = r#"{"topic":"last","event":"e","payload":1,"durability":"disk"}"#;
        self.done("POST", "/api/v1/publish", last);
        let history = self.done("GET", "/api/v1/history?limit=1000", "");
        let messages = history["messages"].as_array().expect("a list");
        assert!(messages.iter().any(|message| message["topic"] == "last"));
        messages.iter().filter(|message| message["topic"] != "last").count()
    }

    /// Runs `hailer staff` with this on stdin.
    #[track_caller]
    pub(super) fn staff(folder: &Folder, args: &[&str], stdin: &str) {
        let mut command = folder.hailer(&[&["staff"], args, &["--config", "hailer.toml"]].concat());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        // Not every command reads it.
        let _ = child.stdin.take().expect("it is a pipe").write_all(stdin.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A user's client.
    pub(super) fn client(&self, user: &str) -> Client {
        let token = token(SECRET, user, user, unix_time(), 600);
        let params = format!("token={token}");
        Client::try_connect(self.hailer.address(), Serializer::V2, &params).expect("it may connect")
    }

    /// A form as a browser sends it from a page of the back office.
    pub(super) fn post(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Response {
        let mut peer = Peer::connect(self.api);
        peer.send(&self.form_request(path, cookie, fields));
        peer.response()
    }

    /// The bytes of such a request.
    pub(super) fn form_request(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let origin = format!("http://{}", self.api);
        let headers = [
            ("origin", &*origin),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("cookie", cookie),
        ];
        self.request("POST", path, &headers, &form(fields))
    }

    pub(super) fn page(&self, path: &str, cookie: &str) -> Response {
        self.ask("GET", path, &[("cookie", cookie)], "")
    }

    /// Tries to sign in.
    pub(super) fn try_sign_in(&self, name: &str, password: &str) -> Response {
        self.post("/admin/sign-in", "", &[("name", name), ("password", password)])
    }

    /// Signs in: the cookie.
    #[track_caller]
    pub(super) fn sign_in(&self, name: &str, password: &str) -> String {
        cookie_of(&self.try_sign_in(name, password))
    }

    /// The token that a session's forms carry.
    pub(super) fn csrf(&self, cookie: &str) -> String {
        let page = self.page("/admin/account", cookie);
        assert_eq!(page.status, 200, "{page:?}");
        hidden(&page.body, "csrf")
    }

    /// Whether a cookie is that of an open session.
    pub(super) fn is_in(&self, cookie: &str) -> bool {
        let page = self.page("/admin/compose", cookie);
        assert!([200, 303].contains(&page.status), "{page:?}");
        page.status == 200
    }

    /// Asks for the back office's socket: the status, and the connection.
    pub(super) fn socket(&self, headers: &[(&str, &str)]) -> (u16, Peer) {
        let upgrade = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut peer = Peer::connect(self.api);
        let headers = [&upgrade, headers].concat();
        peer.send(&self.request("GET", "/admin/socket/websocket?vsn=2.0.0", &headers, ""));
        (peer.response().status, peer)
    }
}

/// The value of a hidden field of a page.
pub(super) fn hidden(page: &str, name: &str) -> String {
    let rest = page.split_once(&format!("name=\"{name}\" value=\"")).expect("the page has the field").1;
    rest.split('"').next().unwrap_or_default().to_owned()
}

pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pair = |(name, value): &(&str, &str)| format!("{}={}", escaped(name), escaped(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// `name=value` of the cookie that an answer sets.
#[track_caller]
pub(super) fn cookie_of(response: &Response) -> String {
    let cookie = response.field("set-cookie").unwrap_or_else(|| panic!("no cookie: {response:?}"));
    cookie.split(';').next().unwrap_or_default().to_owned()
}
