//! What Supabase's clients (`@supabase/realtime-js` and its kin) expect of a channel, as far as it is about broadcasts.
//!
//! Such a client says with its join what is to become of its own broadcasts, and sends them as the event `broadcast`
//! with the payload `{"type": "broadcast", "event": …, "payload": …}`. There is no presence here, and no table of a
//! database to listen to; a client that asks for either finds out.

use serde::Deserialize;
use serde_json::json;

use crate::channel::{Context, PayloadBuf};
use crate::phoenix::{Payload, events};

/// The event by which a client would be tracked.
pub(super) const PRESENCE: &str = "presence";

/// What every topic of such a client begins with.
const TOPIC_PREFIX: &str = "realtime:";

/// What a client wants for its own broadcasts; kept for as long as it is joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Wishes {
    /// To get them itself.
    #[serde(rename = "self")]
    own: bool,
    /// To have each of them answered.
    ack: bool,
}

/// The params of a join, as far as they matter.
#[derive(Deserialize)]
struct Params {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    broadcast: Option<Wishes>,
}

/// Notes what a client wants, if its join is one of Supabase's clients; the response of the join.
pub(super) fn join(params: Payload<'_>, cx: &mut Context<'_>) -> PayloadBuf {
    // Nearly all joins are of other clients, most of them without params.
    if params.as_json_str().is_none_or(|json| !json.contains("\"config\"")) {
        return PayloadBuf::empty();
    }
    let Ok(Params { config }) = params.deserialize() else { return PayloadBuf::empty() };
    cx.assigns_mut().insert(config.broadcast.unwrap_or_default());
    // A client that listens to a table finds that it is not among these, and says so to its application.
    json!({ "postgres_changes": [] }).into()
}

/// Whether this client has joined as Supabase's do.
pub(super) fn has_joined(cx: &Context<'_>) -> bool {
    cx.assigns().get::<Wishes>().is_some()
}

/// Broadcasts what a client sends as `broadcast`. One that has not said what it wants gets its own broadcasts and no
/// answer, as with any other event.
pub(super) fn broadcast(payload: Payload<'_>, cx: &mut Context<'_>) {
    if matches!(payload, Payload::UserBroadcast(_)) && !cx.topic().starts_with(TOPIC_PREFIX) {
        // Elsewhere are clients that can't read them: phoenix.js fails at a kind of message that it does not know.
        return cx.reply_error("broadcasts of bytes are for topics that begin with realtime:");
    }
    let wishes = cx.assigns().get().copied().unwrap_or(Wishes { own: true, ack: false });
    if wishes.own {
        cx.broadcast(events::BROADCAST, payload.into());
    } else {
        cx.broadcast_from(events::BROADCAST, payload.into());
    }
    if wishes.ack {
        cx.reply_ok(PayloadBuf::empty());
    }
}
