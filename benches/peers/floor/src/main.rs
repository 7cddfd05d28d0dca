//! The least that a WebSocket server can do for a fan-out: one thread, epoll, and a text frame that any client sends
//! goes to all clients, its sender as well. What a server costs beyond this is its own.

mod phoenix;
mod poll;
mod server;
mod uring;
mod ws;

use std::process::ExitCode;

use server::{Mode, Server};

const USAGE: &str = "usage: floor PORT [--send|--coalesce] [--uring] [--phoenix]

  --send      one send for each message and subscriber (the default)
  --coalesce  what is published in one turn of the loop is sent to each subscriber with one send
  --uring     sends are submitted through io_uring, 1,024 at a time
  --phoenix   the lobby's join, leave, heartbeat and new_msg of Phoenix Channels (V2), with canned replies";

fn main() -> ExitCode {
    let mut mode = Mode::default();
    let mut port = None;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--send" => mode.coalesces = false,
            "--coalesce" => mode.coalesces = true,
            "--uring" => mode.uring = true,
            "--phoenix" => mode.phoenix = true,
            other => match other.parse::<u16>() {
                Ok(number) => port = Some(number),
                Err(_) => return usage(&format!("what is {other}?")),
            },
        }
    }
    let Some(port) = port else { return usage("which port?") };
    let mut server = match Server::bind(port, mode) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("floor: can't start on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening {}", server.port());
    let error = server.run();
    eprintln!("floor: {error}");
    ExitCode::FAILURE
}

fn usage(what: &str) -> ExitCode {
    eprintln!("floor: {what}\n\n{USAGE}");
    ExitCode::from(2)
}
