//! A plain WebSocket echo server on the same loop and codec, for conformance suites:
//! `cargo run --release --example echo -- --listen 127.0.0.1:9001`

use std::sync::Arc;

use hailer::channel::Router;
use hailer::endpoint::{Config, PlainMessage, PlainSocket};
use hailer::limits::Limits;
use hailer::server::{Server, ServerConfig, run_until_signalled};

struct Echo;

impl PlainSocket for Echo {
    fn handle(&self, message: PlainMessage<'_>, send: &mut dyn FnMut(PlainMessage<'_>)) {
        send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The suites send messages of 16 MiB, in many fragments, and many at once.
    let mut limits = Limits::default();
    for (name, value) in [
        ("frame_bytes_max", "64MiB"),
        ("message_bytes_max", "64MiB"),
        ("outbox_bytes_max", "128MiB"),
        ("fragments_max", "1000000"),
    ] {
        limits.set(name, value)?;
    }
    let plain: (Arc<str>, Arc<dyn PlainSocket>) = ("/".into(), Arc::new(Echo));
    let endpoint = Config { limits: Arc::new(limits), plain: Some(plain), ..Config::new(Router::new()) };
    let mut config = ServerConfig::new(endpoint);
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (None, _) => {}
        (Some("--listen"), Some(address)) => config.listen = address.parse()?,
        _ => return Err("usage: echo [--listen IP:PORT]".into()),
    }
    let server = Server::start(&config)?;
    println!("Listening on ws://{}", server.handle().local_addr());
    Ok(run_until_signalled(server)?)
}
