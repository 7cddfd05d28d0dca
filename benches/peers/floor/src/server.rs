//! The loop, and who is connected.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use crate::phoenix::{self, Wish};
use crate::poll::{self, Events, IN, OUT, Poll};
use crate::uring::{Ring, Short};
use crate::ws::{self, Broken, CLOSE, INPUT_BYTES_MAX, PING, TEXT, put_head};

const EVENTS: usize = 1024;
const READ_BYTES: usize = 64 << 10;
const PONG: u8 = 10;

/// How it serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mode {
    pub coalesces: bool,
    pub uring: bool,
    pub phoenix: bool,
}

/// What stands in the table for each descriptor: eight bytes.
#[derive(Clone, Copy)]
struct Connection {
    /// The place among the subscribers.
    place: u32,
    state: State,
    /// Whether output waits for it in `rests`.
    is_behind: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Free,
    Handshake,
    Open,
}

const NOWHERE: u32 = u32::MAX;
const FREE: Connection = Connection { place: NOWHERE, state: State::Free, is_behind: false };

/// What waits for one connection: rarely anything.
#[derive(Default)]
struct Rest {
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output is sent.
    sent: usize,
}

pub struct Server {
    mode: Mode,
    listener: TcpListener,
    poll: Poll,
    ring: Option<Ring>,
    /// By descriptor.
    connections: Vec<Connection>,
    subscribers: Vec<RawFd>,
    /// How many connections are behind: while there are none, a walk over the subscribers looks at nothing else.
    behind: usize,
    rests: HashMap<RawFd, Rest>,
    /// What was published in this turn and is not sent yet.
    turn: Vec<u8>,
    buffer: Vec<u8>,
    reply: Vec<u8>,
    short: Vec<Short>,
}

impl Server {
    pub fn bind(port: u16, mode: Mode) -> io::Result<Self> {
        let listener = poll::listen(port)?;
        let poll = Poll::new()?;
        poll.add(listener.as_raw_fd(), IN)?;
        Ok(Self {
            mode,
            listener,
            poll,
            ring: if mode.uring { Some(Ring::new()?) } else { None },
            connections: Vec::new(),
            subscribers: Vec::new(),
            behind: 0,
            rests: HashMap::new(),
            turn: Vec::new(),
            buffer: vec![0; READ_BYTES],
            reply: Vec::new(),
            short: Vec::new(),
        })
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Serves until the kernel refuses to.
    pub fn run(&mut self) -> io::Error {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.turn(&mut events) {
                return error;
            }
        }
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.wait(events) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in events.iter() {
            let (fd, what) = (event.u64 as RawFd, event.events);
            if fd == self.listener.as_raw_fd() {
                self.accept()?;
                continue;
            }
            if what & OUT != 0 {
                self.write_rest(fd)?;
            }
            if what & !OUT != 0 {
                self.read(fd)?;
            }
        }
        self.flush()
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let fd = match poll::accept(&self.listener) {
                Ok(fd) => fd,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                // A floor that has run out of descriptors measures nothing.
                Err(error) => return Err(error),
            };
            if self.connections.len() <= fd as usize {
                self.connections.resize(fd as usize + 1, FREE);
            }
            self.connections[fd as usize] = Connection { state: State::Handshake, ..FREE };
            self.poll.add(fd, IN)?;
        }
    }

    fn read(&mut self, fd: RawFd) -> io::Result<()> {
        if self.connections[fd as usize].state == State::Free {
            return Ok(());
        }
        let mut buffer = mem::take(&mut self.buffer);
        let read = poll::recv(fd, &mut buffer);
        let answer = match read {
            Ok(0) => Err(Broken),
            Ok(bytes) => self.take(fd, &mut buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Broken),
        };
        self.buffer = buffer;
        if answer.is_err() {
            self.close(fd);
        }
        Ok(())
    }

    /// Handles what has been read, with what was left over before it, and keeps what is not whole.
    fn take(&mut self, fd: RawFd, bytes: &mut [u8]) -> Result<(), Broken> {
        // Nearly always nothing is left over, and what was read is handled where it is.
        let mut left = match self.rests.get_mut(&fd) {
            Some(rest) => mem::take(&mut rest.input),
            None => Vec::new(),
        };
        let consumed = if left.is_empty() {
            let consumed = self.handle(fd, bytes)?;
            left.extend_from_slice(&bytes[consumed..]);
            0
        } else {
            left.extend_from_slice(bytes);
            self.handle(fd, &mut left)?
        };
        left.drain(..consumed);
        if left.len() > 2 * INPUT_BYTES_MAX {
            return Err(Broken);
        }
        if !left.is_empty() {
            self.rests.entry(fd).or_default().input = left;
        } else if self.rests.get(&fd).is_some_and(|rest| rest.output.is_empty()) {
            self.rests.remove(&fd);
        }
        Ok(())
    }

    /// Handles the requests and frames that are whole, and returns how many bytes they are.
    fn handle(&mut self, fd: RawFd, input: &mut [u8]) -> Result<usize, Broken> {
        let mut at = 0;
        if self.connections[fd as usize].state == State::Handshake {
            let Some((answer, length)) = ws::handshake(input)? else { return Ok(0) };
            self.connections[fd as usize].state = State::Open;
            self.send(fd, answer.as_bytes());
            if !self.mode.phoenix {
                self.subscribe(fd).map_err(|_| Broken)?;
            }
            at = length;
        }
        while let Some(frame) = ws::frame(&mut input[at..])? {
            at += frame.length;
            match frame.opcode {
                TEXT if self.mode.phoenix => self.handle_push(fd, frame.payload)?,
                TEXT => self.publish(frame.payload)?,
                PING => self.answer(fd, PONG, frame.payload),
                CLOSE => {
                    self.answer(fd, CLOSE, frame.payload);
                    return Err(Broken);
                }
                _ => {}
            }
        }
        Ok(at)
    }

    fn answer(&mut self, fd: RawFd, opcode: u8, payload: &[u8]) {
        let mut frame = Vec::new();
        put_head(opcode, payload.len(), &mut frame);
        frame.extend_from_slice(payload);
        self.send(fd, &frame);
    }

    fn handle_push(&mut self, fd: RawFd, text: &[u8]) -> Result<(), Broken> {
        let mut reply = mem::take(&mut self.reply);
        reply.clear();
        let wish = phoenix::handle(text, &mut reply);
        if !reply.is_empty() {
            self.send(fd, &reply);
        }
        self.reply = reply;
        match wish {
            Some(Wish::Join) => self.subscribe(fd).map_err(|_| Broken),
            Some(Wish::Leave) => {
                self.unsubscribe(fd);
                Ok(())
            }
            Some(Wish::Publish(frame)) => {
                self.turn.extend_from_slice(&frame);
                self.end_of_message()
            }
            Some(Wish::Nothing) | None => Ok(()),
        }
    }

    fn publish(&mut self, payload: &[u8]) -> Result<(), Broken> {
        put_head(TEXT, payload.len(), &mut self.turn);
        self.turn.extend_from_slice(payload);
        self.end_of_message()
    }

    fn end_of_message(&mut self) -> Result<(), Broken> {
        if self.mode.coalesces { Ok(()) } else { self.flush().map_err(|_| Broken) }
    }

    /// What was published before it came in is not for it.
    fn subscribe(&mut self, fd: RawFd) -> io::Result<()> {
        self.flush()?;
        let place = self.subscribers.len() as u32;
        let connection = &mut self.connections[fd as usize];
        if connection.place == NOWHERE {
            connection.place = place;
            self.subscribers.push(fd);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, fd: RawFd) {
        let place = mem::replace(&mut self.connections[fd as usize].place, NOWHERE);
        if place != NOWHERE {
            self.subscribers.swap_remove(place as usize);
            if let Some(moved) = self.subscribers.get(place as usize) {
                self.connections[*moved as usize].place = place;
            }
        }
    }

    /// Sends what waits to all subscribers.
    fn flush(&mut self) -> io::Result<()> {
        if self.turn.is_empty() {
            return Ok(());
        }
        let bytes = mem::take(&mut self.turn);
        if self.ring.is_some() {
            self.submit_to_all(&bytes)?;
        } else {
            for at in 0..self.subscribers.len() {
                self.send(self.subscribers[at], &bytes);
            }
        }
        self.turn = bytes;
        self.turn.clear();
        Ok(())
    }

    fn submit_to_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let mut short = mem::take(&mut self.short);
        let connections = &self.connections;
        let is_behind = |fd: &RawFd| connections[*fd as usize].is_behind;
        if self.behind == 0 {
            ring.send_all(self.subscribers.iter().copied(), bytes, &mut short)?;
        } else {
            let others = self.subscribers.iter().copied().filter(|fd| !is_behind(fd));
            ring.send_all(others, bytes, &mut short)?;
            let behind: Vec<RawFd> = self.subscribers.iter().copied().filter(is_behind).collect();
            for fd in behind {
                self.keep(fd, bytes);
            }
        }
        for (fd, result) in short.drain(..) {
            match usize::try_from(result) {
                Ok(sent) => self.keep(fd, &bytes[sent..]),
                Err(_) if result == -libc::EAGAIN => self.keep(fd, bytes),
                // The poll tells of a connection that is broken.
                Err(_) => {}
            }
        }
        self.short = short;
        Ok(())
    }

    /// Sends to one; what the kernel does not take waits.
    fn send(&mut self, fd: RawFd, bytes: &[u8]) {
        if self.behind > 0 && self.connections[fd as usize].is_behind {
            return self.keep(fd, bytes);
        }
        match poll::send(fd, bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => self.keep(fd, &bytes[sent..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.keep(fd, bytes),
            // The poll tells of a connection that is broken.
            Err(_) => {}
        }
    }

    fn keep(&mut self, fd: RawFd, bytes: &[u8]) {
        self.rests.entry(fd).or_default().output.extend_from_slice(bytes);
        let connection = &mut self.connections[fd as usize];
        if !mem::replace(&mut connection.is_behind, true) {
            self.behind += 1;
            // It is open and in the poll: changing what it waits for takes no memory and can't fail.
            let _ = self.poll.change(fd, IN | OUT);
        }
    }

    fn write_rest(&mut self, fd: RawFd) -> io::Result<()> {
        if !self.connections[fd as usize].is_behind {
            return Ok(());
        }
        let Some(rest) = self.rests.get_mut(&fd) else { return Ok(()) };
        // An error shows with the read.
        rest.sent += poll::send(fd, &rest.output[rest.sent..]).unwrap_or(0);
        if rest.sent == rest.output.len() {
            (rest.output, rest.sent) = (Vec::new(), 0);
            if rest.input.is_empty() {
                self.rests.remove(&fd);
            }
            self.connections[fd as usize].is_behind = false;
            self.behind -= 1;
            self.poll.change(fd, IN)?;
        }
        Ok(())
    }

    fn close(&mut self, fd: RawFd) {
        self.unsubscribe(fd);
        self.rests.remove(&fd);
        let connection = mem::replace(&mut self.connections[fd as usize], FREE);
        self.behind -= usize::from(connection.is_behind);
        poll::close(fd);
    }
}
