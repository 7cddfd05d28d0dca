//! Publishing over Hailer's HTTP API: one connection, a request at a time, so that the order is kept.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::args::Bench;
use super::engine::Engine;
use super::target::{Target, read};
use crate::cli::Failure;
use crate::config::API_KEY_VARIABLE;
use crate::load::wire::{field, read_head};

/// The token of the API's connection.
pub(super) const API: Token = Token(usize::MAX - 1);
/// Messages in one request, of which the API takes 10,000.
const BATCH_MAX: usize = 5_000;
/// Answers are short.
const READ_BYTES: usize = 16 * 1024;

/// The connection, and what is to be published.
pub(super) struct Api {
    stream: TcpStream,
    host: String,
    path: String,
    key: Option<String>,
    waiting: VecDeque<String>,
    /// Bytes of the request that is being sent.
    request: Vec<u8>,
    sent: usize,
    /// Whether an answer is awaited.
    asked: bool,
    answer: Vec<u8>,
}

impl Api {
    /// Connects, and takes the key from where it was said to be.
    pub(super) fn connect(bench: &Bench, engine: &Engine, url: &str) -> Result<Self, Failure> {
        let target = Target::parse(url)?;
        let key = match &bench.api_key_file {
            Some(path) => Some(read(path)?.trim().to_owned()),
            None => std::env::var(API_KEY_VARIABLE).ok().filter(|key| !key.is_empty()),
        };
        let failed = |error: std::io::Error| format!("can't connect to the API at {url}: {error}");
        let stream = std::net::TcpStream::connect(target.address).map_err(failed)?;
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(failed)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        engine.registry().register(&mut stream, API, interest).map_err(failed)?;
        Ok(Self {
            stream,
            host: target.host,
            path: target.path.trim_end_matches('/').to_owned(),
            key,
            waiting: VecDeque::new(),
            request: Vec::new(),
            sent: 0,
            asked: false,
            answer: Vec::new(),
        })
    }

    /// Publishes a message as soon as those before it are.
    pub(super) fn add(&mut self, message: String) {
        self.waiting.push_back(message);
    }

    /// Whether everything was answered.
    pub(super) fn is_idle(&self) -> bool {
        !self.asked && self.waiting.is_empty()
    }

    fn prepare(&mut self) {
        let count = self.waiting.len().min(BATCH_MAX);
        let messages: Vec<String> = self.waiting.drain(..count).collect();
        let (call, body) = match messages.as_slice() {
            [one] => ("publish", one.clone()),
            several => ("batch", format!("{{\"messages\":[{}]}}", several.join(","))),
        };
        let key = self.key.as_ref().map(|key| format!("Authorization: Bearer {key}\r\n"));
        let (host, path) = (&self.host, &self.path);
        self.request = format!(
            "POST {path}/api/v1/{call} HTTP/1.1\r\nHost: {host}\r\n{}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            key.unwrap_or_default(),
            body.len()
        )
        .into_bytes();
        (self.sent, self.asked) = (0, true);
    }

    /// Sends and reads as far as it goes.
    fn drive(&mut self) -> Result<(), String> {
        loop {
            if !self.asked && !self.waiting.is_empty() {
                self.prepare();
            }
            while self.sent < self.request.len() {
                match self.stream.write(&self.request[self.sent..]) {
                    Ok(n) => self.sent += n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("the API's connection broke: {error}")),
                }
            }
            if !self.read()? || self.is_idle() {
                return Ok(());
            }
        }
    }

    /// Reads; whether an answer has come whole.
    fn read(&mut self) -> Result<bool, String> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the API has ended the connection".to_owned()),
                Ok(n) => self.answer.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("the API's connection broke: {error}")),
            }
        }
        let Some((status, head)) = read_head(&self.answer) else { return Ok(false) };
        let length = field(&self.answer[..head], "content-length").and_then(|length| length.parse().ok());
        let whole = head + length.unwrap_or(0usize);
        if self.answer.len() < whole {
            return Ok(false);
        }
        let body = String::from_utf8_lossy(&self.answer[head..whole]).into_owned();
        self.answer.drain(..whole);
        self.asked = false;
        if (200..300).contains(&status) {
            Ok(true)
        } else {
            Err(format!("the API answers with {status}: {body}"))
        }
    }
}

impl Engine {
    /// Goes on with what is published over the API.
    pub(super) fn handle_api(&mut self) {
        let Some(api) = &mut self.api else { return };
        if let Err(error) = api.drive() {
            self.core.wrong(error);
            self.api = None;
        }
    }
}
