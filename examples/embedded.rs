//! The standalone server as a part of one's own program, which may say something to users and put them off the
//! line: `cargo run --example embedded -- hailer.toml [IP:PORT [SHARDS]]`
//!
//! It obeys the lines of its input, and ends with it:
//!
//! * `broadcast TOPIC EVENT JSON` says something to all subscribers of a topic;
//! * `disconnect SOCKET_ID` closes all sockets of a user, whose clients come back with what their `params`
//!   functions give them: `disconnect user_socket:42`;
//! * `disconnect SOCKET_ID stay-away` closes them with the code that means so.

// A program of its own reads files and its input, and may have threads.
#![allow(clippy::disallowed_methods)]

use std::error::Error;
use std::io::IsTerminal;
use std::path::Path;

use hailer::channel::PayloadBuf;
use hailer::config::{ApiListen, Flags, Inputs, load};
use hailer::server::{ServerHandle, StopSignals};
use hailer::standalone::Standalone;

const USAGE: &str = "usage: embedded CONFIG [IP:PORT [SHARDS]]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or(USAGE)?;
    let listen = args.next().map(|address| address.parse()).transpose()?;
    let shards = args.next().map(|shards| shards.parse()).transpose()?;

    // A thread of its own writes the log: a stderr that blocks would block all clients of a shard.
    let (log, _written_at_the_end) = tracing_appender::non_blocking(std::io::stderr());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(log).with_ansi(colours).with_target(false).init();
    let text = std::fs::read_to_string(&path)?;
    let settings = load(&Inputs {
        file: Some((Path::new(&path), &text)),
        // Whoever has the handle needs no HTTP API.
        flags: Flags { listen, shards, api_listen: Some(ApiListen::Off), ..Flags::default() },
        ..Inputs::new(&|path| std::fs::read(path))
    })?
    .settings;

    let signals = StopSignals::catch()?;
    let server = Standalone::new(&settings)?.start()?.server;
    println!("Listening on http://{}", server.handle().local_addr());

    // The handle is cheap to clone and works from any thread: that of a request, of a queue, of a timer.
    let handle = server.handle().clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if let Err(error) = obey(&line, &handle) {
                eprintln!("{line}: {error}");
            }
        }
        handle.drain();
    });
    Ok(signals.run(server)?)
}

fn obey(line: &str, handle: &ServerHandle) -> Result<(), Box<dyn Error>> {
    // What comes last is JSON, with spaces of its own.
    let words: Vec<&str> = line.splitn(4, ' ').collect();
    match words[..] {
        ["broadcast", topic, event, json] => {
            let payload: serde_json::Value = serde_json::from_str(json)?;
            handle.broadcast(topic, event, PayloadBuf::from(payload))?;
        }
        ["disconnect", socket_id] => handle.disconnect(socket_id, true)?,
        ["disconnect", socket_id, "stay-away"] => handle.disconnect(socket_id, false)?,
        _ => return Err("not understood".into()),
    }
    Ok(())
}
