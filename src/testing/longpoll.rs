//! A client on long-poll: one connection that always polls, and one for POSTs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::wire::Frame;
use super::{ClientId, Closed, Credentials, TestServer};
use crate::phoenix::Serializer;

/// What a client on long-poll knows.
pub(super) struct LongPoll {
    token: String,
    /// The connection that carries POSTs.
    posts: ClientId,
}

impl TestServer {
    /// Opens a session on long-poll; from then on a poll waits whenever the client has read everything.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn connect_long_poll(&mut self, serializer: Serializer) -> ClientId {
        let client = self.begin_long_poll(serializer, Credentials::default());
        self.finish_long_poll(client).unwrap_or_else(|answer| panic!("refused: {answer}"));
        client
    }

    /// Asks for a session. What the server answers is looked at by
    /// [`finish_long_poll`](Self::finish_long_poll).
    pub fn begin_long_poll(&mut self, serializer: Serializer, credentials: Credentials<'_>) -> ClientId {
        let client = self.open();
        let entry = &mut self.clients[client.0];
        entry.serializer = serializer;
        entry.query = credentials.query.to_owned();
        entry.headers = credentials.headers.to_owned();
        self.get(client, None);
        client
    }

    /// Looks at the answer to the request for a session, and begins to poll.
    ///
    /// # Errors
    /// The answer, if it opens no session, or none has come.
    pub fn finish_long_poll(&mut self, client: ClientId) -> Result<(), Value> {
        let answer = self.take_response(client).ok_or(Value::Null)?;
        let token = answer["token"].as_str().filter(|_| answer["status"] == 410).map(str::to_owned);
        let Some(token) = token else { return Err(answer) };
        let posts = self.open();
        self.clients[client.0].long_poll = Some(LongPoll { token, posts });
        self.poll(client);
        Ok(())
    }

    /// The token of a client's session.
    #[must_use]
    pub fn token(&self, client: ClientId) -> Option<&str> {
        self.clients[client.0].long_poll.as_ref().map(|long_poll| long_poll.token.as_str())
    }

    fn get(&mut self, client: ClientId, token: Option<&str>) {
        let entry = &self.clients[client.0];
        let (query, headers) = (super::query(&entry.query, entry.serializer), &entry.headers);
        let path = self.path.replace("/websocket", "/longpoll");
        let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
        let request = format!("GET {path}?{query}{token} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        self.send_bytes(client, request.as_bytes());
    }

    /// Sends a poll. A client whose connection is gone polls on a new one.
    pub fn poll(&mut self, client: ClientId) {
        let Some(token) = self.token(client).map(str::to_owned) else { return };
        let peer = self.peer(client);
        if peer.gone || peer.cut || peer.shut_down {
            return self.poll_anew(client);
        }
        self.get(client, Some(&token));
    }

    /// Sends a poll on a new connection. What has come on the old one stays to be read.
    pub fn poll_anew(&mut self, client: ClientId) {
        let Some(token) = self.token(client).map(str::to_owned) else { return };
        let unread = self.take_bytes(client);
        let fresh = self.open();
        let (shard, peer) = (self.clients[fresh.0].shard, self.clients[fresh.0].peer);
        (self.clients[client.0].shard, self.clients[client.0].peer) = (shard, peer);
        self.peer_mut(client).received = unread;
        self.get(client, Some(&token));
    }

    /// Sends the messages of one POST; the answer.
    pub(super) fn post(&mut self, client: ClientId, content_type: &str, body: &str) -> Option<Value> {
        let long_poll = self.clients[client.0].long_poll.as_ref()?;
        let (token, mut posts) = (long_poll.token.clone(), long_poll.posts);
        if self.peer(posts).gone || self.peer(posts).shut_down {
            posts = self.open();
            if let Some(long_poll) = &mut self.clients[client.0].long_poll {
                long_poll.posts = posts;
            }
        }
        let path = self.path.replace("/websocket", "/longpoll");
        let request = format!(
            "POST {path}?token={token} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send_bytes(posts, request.as_bytes());
        self.take_response(posts)
    }

    pub(super) fn post_text(&mut self, client: ClientId, text: &str) {
        let answer = self.post(client, "application/json", text);
        self.note_post(client, answer.as_ref());
    }

    pub(super) fn post_binary(&mut self, client: ClientId, data: &[u8]) {
        let answer = self.post(client, "application/x-ndjson", &STANDARD.encode(data));
        self.note_post(client, answer.as_ref());
    }

    fn note_post(&mut self, client: ClientId, answer: Option<&Value>) {
        if let Some(answer) = answer.filter(|answer| answer["status"] != 200) {
            self.end(client, answer);
        }
    }

    /// phoenix.js gives a session up at any such answer.
    fn end(&mut self, client: ClientId, answer: &Value) {
        let reason = answer["reason"].as_str().unwrap_or_default().to_owned();
        let code = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        self.clients[client.0].closed.get_or_insert(Closed { code, reason });
    }

    /// Reads the answers that have come, and polls again after each.
    pub(super) fn read_answers(&mut self, client: ClientId) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(answer) = self.take_response(client) {
            match answer["status"].as_u64() {
                Some(200) => {
                    let messages = answer["messages"].as_array().into_iter().flatten();
                    let texts = messages.map(|message| message.as_str().expect("a message is a string"));
                    frames.extend(texts.map(frame_of));
                    self.poll(client);
                }
                Some(204) => self.poll(client),
                _ => {
                    self.end(client, &answer);
                    break;
                }
            }
        }
        frames
    }

    /// Takes the JSON of a response that has come whole.
    fn take_response(&mut self, client: ClientId) -> Option<Value> {
        let received = &mut self.peer_mut(client).received;
        let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&received[..head]).expect("a head is ASCII");
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let end =
            head + length.and_then(|length| length.parse::<usize>().ok()).expect("a response has a length");
        if received.len() < end {
            return None;
        }
        let body = serde_json::from_slice(&received[head..end]).unwrap_or(json!({"status": 0}));
        received.drain(..end);
        Some(body)
    }
}

/// A message of an answer as the frame that would carry it on a WebSocket.
fn frame_of(text: &str) -> Frame {
    if text.starts_with(['[', '{']) {
        return Frame { opcode: 0x1, payload: text.as_bytes().to_vec() };
    }
    // The bytes of a binary message are the characters of their numbers.
    let payload = text.chars().filter_map(|character| u8::try_from(u32::from(character)).ok()).collect();
    Frame { opcode: 0x2, payload }
}
