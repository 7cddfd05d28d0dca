//! Clients on long-poll, beside those on WebSockets.

use std::io::{ErrorKind, Read, Write};

use mio::event::Event as Ready;
use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::SockRef;

use super::clock;
use super::connect::connect;
use super::engine::Engine;
use crate::load::client::is_push;
use crate::load::poller::{Answer, Ask, write_request};

/// Numbers of pollers begin here, so that they differ from those of all other clients.
pub(super) const FIRST_POLLER: u32 = 0x8000_0000;
/// Tokens of their connections begin here, two for each.
pub(super) const FIRST_TOKEN: usize = FIRST_POLLER as usize;
/// A path of WebSockets ends so, and that of polls as the other.
const PATHS: [&str; 2] = ["/websocket", "/longpoll"];

/// How far one has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Off,
    /// It asks for a session.
    Opening,
    /// It has one, and asks to join.
    Joining,
    In,
}

/// One of its connections.
#[derive(Debug, Default)]
struct Line {
    stream: Option<TcpStream>,
    /// Whether the connection is there.
    open: bool,
    /// Whether something has come on it.
    used: bool,
    /// The beginning of an answer that was cut.
    partial: Vec<u8>,
}

/// A client on long-poll.
#[derive(Debug, Default)]
pub(super) struct Poller {
    stage: Stage,
    session: Box<str>,
    /// The number of the message that comes next.
    next: u32,
    since: u64,
    /// Where it polls.
    poll: Line,
    /// Where it pushes: gone when the answer is there, as a browser's idle connection goes.
    post: Line,
}

impl Engine {
    pub(super) fn pollers_in(&self) -> u32 {
        self.pollers_in
    }

    /// Begins to open a session.
    pub(super) fn connect_poller(&mut self, number: u32, now: u64) {
        let poller = &mut self.pollers[(number - FIRST_POLLER) as usize];
        (poller.stage, poller.since) = (Stage::Opening, now);
        self.core.line.under_way += 1;
        self.open_line(number, false);
    }

    fn open_line(&mut self, number: u32, is_post: bool) {
        let at = (number - FIRST_POLLER) as usize;
        let source = self.sources.map(|sources| sources.of(number - FIRST_POLLER));
        let token = Token(FIRST_TOKEN + 2 * at + usize::from(is_post));
        let begun = connect(source, self.target.address, None).and_then(|mut stream| {
            stream.set_nodelay(true)?;
            self.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => {
                let line = Line { stream: Some(stream), ..Line::default() };
                let poller = &mut self.pollers[at];
                *(if is_post { &mut poller.post } else { &mut poller.poll }) = line;
            }
            Err(error) => self.lose_poller(number, &format!("connections that failed: {error}")),
        }
    }

    /// Something happened on a connection of a poller.
    pub(super) fn handle_poller(&mut self, event: &Ready) {
        let place = event.token().0 - FIRST_TOKEN;
        let (at, is_post) = (place / 2, place % 2 == 1);
        let Ok(number) = u32::try_from(FIRST_TOKEN + at) else { return };
        let poller = &mut self.pollers[at];
        let line = if is_post { &mut poller.post } else { &mut poller.poll };
        let Some(stream) = &line.stream else { return };
        if !line.open {
            if let Ok(Some(error)) | Err(error) = stream.take_error() {
                return self.lose_poller(number, &format!("connections that failed: {error}"));
            }
            if stream.peer_addr().is_err() {
                return;
            }
            line.open = true;
            return self.ask(number, is_post);
        }
        self.read_poller(number, is_post);
    }

    /// Sends the request that is due on a connection.
    fn ask(&mut self, number: u32, is_post: bool) {
        let at = (number - FIRST_POLLER) as usize;
        let path = self.target.path.replacen(PATHS[0], PATHS[1], 1);
        let join = self.core.topic.as_ref().map(|topic| format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
        let poller = &mut self.pollers[at];
        let ask = match (is_post, &join, poller.stage) {
            (true, Some(join), _) => Ask::Push(join),
            (_, _, Stage::Opening) => Ask::Open,
            _ => Ask::Poll,
        };
        self.request.clear();
        let (host, auth) = (&self.target.host, self.tokens.of(number - FIRST_POLLER));
        write_request(&mut self.request, host, &path, &poller.session, auth, ask);
        let line = if is_post { &mut poller.post } else { &mut poller.poll };
        let sent = line.stream.as_mut().and_then(|stream| stream.write(self.request.as_bytes()).ok());
        if sent != Some(self.request.len()) {
            self.lose_poller(number, "requests that the server did not take");
        }
    }

    fn read_poller(&mut self, number: u32, is_post: bool) {
        let at = (number - FIRST_POLLER) as usize;
        loop {
            let poller = &mut self.pollers[at];
            let line = if is_post { &mut poller.post } else { &mut poller.poll };
            let Some(stream) = &mut line.stream else { return };
            let n = match stream.read(&mut self.buffer) {
                // Between two answers a server may end a connection that has served for long.
                Ok(0) if line.used && line.partial.is_empty() && !is_post => {
                    return self.open_line(number, false);
                }
                Ok(0) => return self.lose_poller(number, "connections ended by the server before an answer"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.lose_poller(number, &format!("connections that broke: {error}")),
            };
            line.used = true;
            let mut bytes = std::mem::take(&mut line.partial);
            bytes.extend_from_slice(&self.buffer[..n]);
            match Answer::read(&bytes) {
                None => line.partial = bytes,
                Some(answer) => self.take_answer(number, is_post, &answer),
            }
        }
    }

    fn take_answer(&mut self, number: u32, is_post: bool, answer: &Answer<'_>) {
        let now = clock();
        let poller = &mut self.pollers[(number - FIRST_POLLER) as usize];
        match (is_post, poller.stage, answer.status) {
            (true, _, 200) => {
                if let Some(stream) = poller.post.stream.take() {
                    // It has all that it was sent; its port need not rest.
                    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
                }
            }
            (false, Stage::Opening, 410) => {
                poller.session = answer.session.unwrap_or_default().into();
                poller.stage = Stage::Joining;
                self.core.upgrade.record(now.saturating_sub(poller.since));
                poller.since = now;
                self.ask(number, false);
                self.open_line(number, true);
            }
            (false, Stage::Joining | Stage::In, 200 | 204) => {
                if let Some(session) = answer.session.filter(|session| **session != *poller.session) {
                    poller.session = session.into();
                }
                self.take_messages(number, answer, now);
                if self.pollers[(number - FIRST_POLLER) as usize].stage != Stage::Off {
                    self.ask(number, false);
                }
            }
            (_, _, status) => {
                self.lose_poller(number, &format!("polls or pushes answered with status {status}"));
            }
        }
    }

    fn take_messages(&mut self, number: u32, answer: &Answer<'_>, now: u64) {
        let Self { pollers, core, speech, pollers_in, unescaped, .. } = self;
        let poller = &mut pollers[(number - FIRST_POLLER) as usize];
        answer.for_each(unescaped, |message| {
            if let Some(stamp) = speech.messages.read(message, None, now) {
                core.ledger.arrive(number, &mut poller.next, stamp, now, None);
            } else if poller.stage == Stage::Joining && message.starts_with(br#"["1","1","#) {
                if memchr::memmem::find(message, br#""status":"ok""#).is_some() {
                    poller.stage = Stage::In;
                    core.join.record(now.saturating_sub(poller.since));
                    core.line.under_way = core.line.under_way.saturating_sub(1);
                    *pollers_in += 1;
                } else {
                    core.wrong(format!("joins refused, such as {}", String::from_utf8_lossy(message)));
                    core.denied += 1;
                }
            } else if is_push(message) {
                core.ledger.pushed += 1;
            } else {
                core.wrong("unknown messages in answers to polls");
            }
        });
    }

    /// A poller is gone, because of what went wrong.
    fn lose_poller(&mut self, number: u32, why: &str) {
        self.core.wrong(why);
        let poller = &mut self.pollers[(number - FIRST_POLLER) as usize];
        match poller.stage {
            Stage::Off => {}
            Stage::In => self.pollers_in -= 1,
            Stage::Opening | Stage::Joining => {
                self.core.line.under_way = self.core.line.under_way.saturating_sub(1);
            }
        }
        *poller = Poller { next: poller.next, ..Poller::default() };
    }

    /// Ends all connections of pollers.
    pub(super) fn close_pollers(&mut self) {
        for poller in &mut self.pollers {
            for line in [&mut poller.poll, &mut poller.post] {
                if let Some(stream) = line.stream.take() {
                    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
                }
            }
        }
    }
}
