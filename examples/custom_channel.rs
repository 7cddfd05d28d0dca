//! A channel of one's own: `cargo run --example custom_channel [IP:PORT [SHARDS]]`
//!
//! Clients join `chat:<anything>` with `{"name": "…"}`. `ping` is answered, `shout` reaches everybody,
//! `whisper` everybody else, `bye` ends the channel.

use hailer::channel::{Channel, ChannelError, Context, JoinError, PayloadBuf, Router};
use hailer::endpoint::Config;
use hailer::phoenix::Payload;
use hailer::server::{Server, ServerConfig, run_until_signalled};
use serde_json::{Value, json};

struct Name(String);

struct Chat;

impl Channel for Chat {
    fn join(&self, _: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        let params: Value = payload.deserialize()?;
        let name = params["name"].as_str().ok_or(JoinError::reason("name required"))?;
        cx.assigns_mut().insert(Name(name.to_owned()));
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match event {
            "ping" => cx.reply_ok(payload.into()),
            "shout" => cx.broadcast("shout", payload.into()),
            "whisper" => cx.broadcast_from("whisper", payload.into()),
            "whoami" => {
                let name = cx.assigns().get::<Name>().map(|name| name.0.clone());
                cx.reply_ok(json!({ "name": name }).into());
            }
            "bye" => cx.stop(),
            _ => cx.reply_error("unknown event"),
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = Config::new(Router::new().channel("chat:*".parse()?, Chat));
    let mut config = ServerConfig::new(endpoint);
    if let Some(address) = std::env::args().nth(1) {
        config.listen = address.parse()?;
    }
    if let Some(shards) = std::env::args().nth(2) {
        config.shards = shards.parse()?;
    }
    let server = Server::start(&config)?;
    println!("Listening on http://{}", server.handle().local_addr());
    Ok(run_until_signalled(server)?)
}
