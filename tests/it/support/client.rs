//! A client with manners: tungstenite, and the messages of Phoenix over it.

use std::net::{SocketAddr, TcpStream};

use hailer::phoenix::Serializer;
use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::PATIENCE;
use super::patient::PatientStream;

/// A message, whatever its form on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) join_ref: Value,
    pub(crate) message_ref: Value,
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) payload: Value,
}

/// A Phoenix client on a WebSocket.
pub(crate) struct Client {
    web_socket: WebSocket<PatientStream>,
    serializer: Serializer,
    next_ref: u64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, Serializer::V2)
    }

    pub(crate) fn connect_with(address: SocketAddr, serializer: Serializer) -> Self {
        Self::try_connect(address, serializer, "").expect("the upgrade succeeds")
    }

    /// Connects with these parameters before `vsn`; the status of the answer if the upgrade is refused.
    pub(crate) fn try_connect(
        address: SocketAddr,
        serializer: Serializer,
        params: &str,
    ) -> Result<Self, u16> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        let vsn = match serializer {
            Serializer::V1 => "1.0.0",
            Serializer::V2 => "2.0.0",
        };
        let separator = if params.is_empty() { "" } else { "&" };
        let address = format!("ws://{address}/socket/websocket?{params}{separator}vsn={vsn}");
        match tungstenite::client::client(address, PatientStream::new(stream)) {
            Ok((web_socket, _)) => Ok(Self { web_socket, serializer, next_ref: 1 }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade fails: {error}"),
        }
    }

    /// Connects and joins a topic.
    pub(crate) fn joined(address: SocketAddr, topic: &str) -> Self {
        let mut client = Self::connect(address);
        let reply = client.join(topic);
        assert_eq!(reply, json!({"status": "ok", "response": {}}));
        client
    }

    pub(crate) fn send_text(&mut self, text: impl Into<String>) {
        self.web_socket.send(Message::text(text.into())).expect("the server takes the message");
    }

    fn send(&mut self, topic: &str, event: &str, payload: &Value, join: bool) -> Value {
        let message_ref = json!(self.next_ref.to_string());
        self.next_ref += 1;
        let join_ref = if join { message_ref.clone() } else { Value::Null };
        let message = match self.serializer {
            Serializer::V2 => json!([join_ref, message_ref, topic, event, payload]),
            Serializer::V1 => {
                json!({"topic": topic, "event": event, "payload": payload, "ref": message_ref})
            }
        };
        self.send_text(message.to_string());
        message_ref
    }

    /// Pushes an event; its ref.
    pub(crate) fn push(&mut self, topic: &str, event: &str, payload: &Value) -> Value {
        self.send(topic, event, payload, false)
    }

    /// Joins a topic: the payload of the reply, which must be the next message.
    pub(crate) fn join(&mut self, topic: &str) -> Value {
        let message_ref = self.send(topic, "phx_join", &json!({}), true);
        let reply = self.event();
        assert_eq!((&reply.message_ref, &*reply.event), (&message_ref, "phx_reply"), "{reply:?}");
        reply.payload
    }

    /// The next message.
    pub(crate) fn event(&mut self) -> Event {
        let message = self.web_socket.read().expect("a message comes");
        let value: Value = match &message {
            Message::Text(text) => serde_json::from_str(text).expect("a message is JSON"),
            other => panic!("{other:?} instead of a message"),
        };
        let text = |value: &Value| value.as_str().expect("a name is a string").to_owned();
        match self.serializer {
            Serializer::V2 => Event {
                join_ref: value[0].clone(),
                message_ref: value[1].clone(),
                topic: text(&value[2]),
                event: text(&value[3]),
                payload: value[4].clone(),
            },
            Serializer::V1 => Event {
                join_ref: Value::Null,
                message_ref: value["ref"].clone(),
                topic: text(&value["topic"]),
                event: text(&value["event"]),
                payload: value["payload"].clone(),
            },
        }
    }

    /// The body of the next message, which must be a `new_msg`.
    pub(crate) fn body(&mut self) -> Value {
        let event = self.event();
        assert_eq!(event.event, "new_msg", "{event:?}");
        event.payload["body"].clone()
    }

    /// The server's answer to a heartbeat, which must be the next message.
    pub(crate) fn heartbeat(&mut self) {
        let message_ref = self.push("phoenix", "heartbeat", &json!({}));
        let reply = self.event();
        assert_eq!((reply.message_ref, &*reply.topic), (message_ref, "phoenix"));
    }

    /// Answers a ping, which must be next.
    pub(crate) fn answer_ping(&mut self) {
        match self.web_socket.read() {
            // The answer waits for whatever is sent next.
            Ok(Message::Ping(_)) => self.web_socket.flush().expect("the server takes it"),
            other => panic!("{other:?} instead of a ping"),
        }
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>) {
        self.web_socket.close(frame).expect("a close frame can be sent");
    }

    /// The server's close frame, which must be next; then its end of the connection.
    pub(crate) fn closed(&mut self) -> Option<(u16, String)> {
        let frame = match self.web_socket.read() {
            Ok(Message::Close(frame)) => frame,
            other => panic!("{other:?} instead of a close frame"),
        };
        // The close frame is answered by this read, and the server ends the connection.
        match self.web_socket.read() {
            Err(Error::ConnectionClosed) => {}
            other => panic!("{other:?} instead of the end"),
        }
        frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()))
    }
}
