//! A channel that does what its messages tell it to, and keeps book of how it ended.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use hailer::channel::{
    Channel, ChannelError, ChannelHandle, Context, DeferredReply, Ended, Info, JoinError, PayloadBuf, Router,
    SlowReader,
};
use hailer::endpoint::Config;
use hailer::notification::Notification;
use hailer::phoenix::{Payload, PayloadError};
use serde_json::{Value, json};

/// What a test shares with the channel.
#[derive(Default)]
pub(super) struct Book {
    /// Topic and reason of every `terminate`.
    pub(super) ended: Mutex<Vec<(String, Ended)>>,
    pub(super) handles: Mutex<Vec<ChannelHandle>>,
    pub(super) deferred: Mutex<Vec<DeferredReply>>,
}

impl Book {
    /// Takes what has been terminated.
    pub(super) fn take_ended(&self) -> Vec<(String, Ended)> {
        std::mem::take(&mut self.ended.lock().unwrap())
    }

    pub(super) fn take_handle(&self) -> ChannelHandle {
        self.handles.lock().unwrap().remove(0)
    }

    pub(super) fn take_deferred(&self) -> DeferredReply {
        self.deferred.lock().unwrap().remove(0)
    }
}

/// The channel, at `probe:*`.
#[derive(Clone, Default)]
pub(super) struct Probe(pub(super) Arc<Book>);

/// What a client's channel has been told to remember.
struct Note(Value);

/// An application's own error.
#[derive(Debug)]
struct Wrapped(PayloadError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it could not be done")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn panic_on_purpose() -> ! {
    // Without the message of the panic handler, which would fill the output of the tests.
    std::panic::resume_unwind(Box::new("on purpose"))
}

impl Channel for Probe {
    fn join(&self, _: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        let params: Value = payload.deserialize().unwrap_or_default();
        match params["do"].as_str() {
            Some("refuse") => return Err(JoinError::reason("unauthorized")),
            Some("crash") => return Err(JoinError::Crashed(ChannelError::new("on purpose"))),
            Some("panic") => panic_on_purpose(),
            Some("respond") => return Ok(params["response"].clone().into()),
            Some("read") => _ = payload.deserialize::<u32>()?,
            Some("push") => cx.push("welcome", json!({"n": 1}).into()),
            Some("broadcast") => cx.broadcast("joined", json!({"n": 1}).into()),
            Some("stop") => cx.stop(),
            Some("handle") => self.0.handles.lock().unwrap().push(cx.handle()),
            Some("bytes") => return Ok(PayloadBuf::Binary((*b"\x00\xff").into())),
            _ => {}
        }
        Ok(PayloadBuf::empty())
    }

    fn handle_in(&self, event: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match event {
            "echo" => cx.reply_ok(payload.into()),
            "status" => cx.reply("teapot", payload.into()),
            "twice" => {
                cx.reply_ok(json!(1).into());
                cx.reply_ok(json!(2).into());
            }
            "shout" => cx.broadcast("shout", payload.into()),
            "shout_and_reply" => {
                cx.broadcast("shout", payload.into());
                cx.reply_ok(PayloadBuf::empty());
            }
            "reply_and_shout" => {
                cx.reply_ok(PayloadBuf::empty());
                cx.broadcast("shout", payload.into());
            }
            "whisper" => cx.broadcast_from("whisper", payload.into()),
            "whisper_and_reply" => {
                cx.broadcast_from("whisper", payload.into());
                cx.reply_ok(PayloadBuf::empty());
            }
            "shout_to" => {
                let topic: String = payload.deserialize()?;
                cx.broadcast_to(&topic, "shout", json!({"from": cx.topic()}).into());
            }
            "push" => cx.push("pushed", payload.into()),
            "secret" => cx.broadcast("secret", payload.into()),
            "note" => {
                let old = cx.assigns_mut().insert(Note(payload.deserialize()?));
                cx.reply_ok(old.map_or(Value::Null, |old| old.0).into());
            }
            "who" => {
                let user = cx.current_user().map(|user| {
                    let account: Value = serde_json::from_str(&user.account()).unwrap_or_default();
                    json!({
                        "user": user.user(),
                        "staff": user.claim("staff"),
                        "account": account,
                        "assigned": user.assigned::<u32>(),
                    })
                });
                cx.reply_ok(json!(user).into());
            }
            "handle" => self.0.handles.lock().unwrap().push(cx.handle()),
            "defer" => self.0.deferred.lock().unwrap().extend(cx.defer_reply()),
            "defer_twice" => {
                self.0.deferred.lock().unwrap().extend(cx.defer_reply());
                self.0.deferred.lock().unwrap().extend(cx.defer_reply());
            }
            "reply_and_defer" => {
                self.0.deferred.lock().unwrap().extend(cx.defer_reply());
                cx.reply_ok(PayloadBuf::empty());
            }
            "defer_shout_and_reply" => {
                let reply = cx.defer_reply().expect("a message is handled");
                reply.ok(json!("deferred").into()).expect("the server runs");
                cx.broadcast("shout", payload.into());
                cx.reply_ok(PayloadBuf::empty());
            }
            "forget" => drop(cx.defer_reply()),
            "act_and_read" => {
                cx.broadcast("shout", payload.into());
                cx.reply_ok(PayloadBuf::empty());
                drop(cx.defer_reply());
                payload.deserialize::<u32>()?;
            }
            "read_and_wrap" => {
                payload.deserialize::<u32>().map_err(Wrapped)?;
            }
            "stop" => cx.stop(),
            "reply_and_stop" => {
                cx.reply_ok(PayloadBuf::empty());
                cx.stop();
            }
            "stop_and_reply" => {
                cx.stop();
                cx.reply_ok(PayloadBuf::empty());
                cx.push("late", PayloadBuf::empty());
            }
            "shout_and_crash" => {
                cx.broadcast("shout", payload.into());
                return Err(ChannelError::new("on purpose"));
            }
            "shout_and_panic" => {
                cx.broadcast("shout", payload.into());
                panic_on_purpose();
            }
            "ignore" => {}
            _ => return Err(ChannelError::new("on purpose: unknown event")),
        }
        Ok(())
    }

    fn intercepts(&self) -> &'static [&'static str] {
        &["secret"]
    }

    fn handle_out(
        &self,
        event: &str,
        payload: Payload<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ChannelError> {
        match payload.as_json_str() {
            Some(r#""crash""#) => return Err(ChannelError::new("on purpose")),
            Some(r#""hide""#) => {}
            _ => {
                let note = cx.assigns().get::<Note>().map_or(Value::Null, |note| note.0.clone());
                cx.push(event, json!({"note": note}).into());
            }
        }
        Ok(())
    }

    fn handle_info(&self, info: Info, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        match info.downcast_ref::<&str>() {
            Some(&"crash") => return Err(ChannelError::new("on purpose")),
            Some(&"read") => _ = Payload::empty().deserialize::<u32>()?,
            Some(&"reply") => cx.reply_ok(PayloadBuf::empty()),
            Some(text) => cx.push("info", json!({"text": text}).into()),
            None => {}
        }
        Ok(())
    }

    fn terminate(&self, reason: Ended, cx: &mut Context<'_>) {
        self.0.ended.lock().unwrap().push((cx.topic().to_owned(), reason));
        cx.broadcast("gone", json!({"why": format!("{reason:?}")}).into());
        // None of these reaches anybody, for the channel is over.
        cx.push("late", PayloadBuf::empty());
        cx.reply_ok(PayloadBuf::empty());
        cx.stop();
        if cx.assigns().get::<Note>().is_some_and(|note| note.0 == "panic") {
            panic_on_purpose();
        }
    }
}

/// Channels of all kinds: the room of the standalone server, and the probe; slow readers are closed, or
/// skipped at `skip:*` and `probe:skip:*`.
pub(super) fn router(probe: &Probe) -> Router {
    let pattern = |text: &str| text.parse().expect("a pattern");
    Router::new()
        .channel(pattern("room:*"), Notification::default())
        .channel_with(pattern("skip:*"), Arc::new(Notification::default()), SlowReader::Skip)
        .channel_with(pattern("probe:skip:*"), Arc::new(probe.clone()), SlowReader::Skip)
        .channel(pattern("probe:*"), probe.clone())
        .channel(pattern("Exact"), Notification::default())
}

/// The configuration of most tests.
pub(super) fn config() -> Config {
    Config::new(router(&Probe::default()))
}

/// The same with a book that the test reads.
pub(super) fn config_with_book() -> (Config, Arc<Book>) {
    let probe = Probe::default();
    (Config::new(router(&probe)), probe.0)
}

/// The configuration with these limits set.
pub(super) fn config_with(limits: &[(&str, &str)]) -> Config {
    let mut config = config();
    let bounds = Arc::make_mut(&mut config.limits);
    limits.iter().for_each(|(name, value)| bounds.set(name, value).expect("a good limit"));
    config
}
