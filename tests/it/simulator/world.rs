//! What really happened, noted by the channel that the pretended clients talk to.
//!
//! The node is driven by one thread, so the order in which the channel's callbacks run is the order in which
//! things happen. Whatever a callback records carries numbers that the clients check when it arrives:
//!
//! - `n`: the place of a broadcast among all broadcasts of the node;
//! - `seen`: how many broadcasts had reached the shard when a message for one client was made, so those up to
//!   `seen` come before it and all others after it;
//! - `d`: which of the messages that callbacks have made for this client alone it is;
//! - `h`: the same for the messages that reach a join through the shard's mailbox;
//! - `join`: the join that it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hailer::channel::{
    Channel, ChannelError, ChannelHandle, Context, DeferredReply, Ended, Info, JoinError, PayloadBuf,
};
use hailer::phoenix::Payload;
use serde_json::{Value, json};

/// A broadcast; its number is its place in [`World::casts`], counted from 1.
pub(super) struct Cast {
    pub(super) topic: String,
    /// The client that is left out.
    pub(super) from: Option<usize>,
    pub(super) binary: bool,
    /// It goes through `handle_out`.
    pub(super) out: bool,
    /// It is counted who receives it: a ping stands right behind it.
    pub(super) counted: bool,
}

/// A join that was granted; its token is its place in [`World::joins`].
pub(super) struct Joined {
    pub(super) client: usize,
    pub(super) topic: String,
    pub(super) shard: usize,
    /// The call of the endpoint in which it was granted.
    pub(super) born: u64,
    /// The broadcasts that had reached the shard when it began.
    pub(super) start: usize,
    /// Those that had reached it when it ended, and how it ended.
    pub(super) end: Option<(usize, Ended)>,
    /// The call of the endpoint in which that was.
    pub(super) ended_in: u64,
    pub(super) handle: ChannelHandle,
    /// Messages put into the shard's mailbox for it.
    pub(super) mailed: usize,
    /// Broadcasts that have been through its `handle_out`.
    pub(super) outs: Vec<usize>,
    pub(super) tasks_sent: usize,
    pub(super) tasks_done: usize,
}

#[derive(Default)]
pub(super) struct Client {
    pub(super) v1: bool,
    /// Messages that callbacks have made for it.
    pub(super) directs: usize,
    /// For each of its messages that has reached the channel: the replies it is to get, but for those that
    /// are left for later.
    pub(super) answers: BTreeMap<u64, usize>,
    /// Bytes made for it alone since it was last written out, at the most.
    pub(super) made: usize,
}

/// More than a message weighs in an outbox besides its padding.
pub(super) const MESSAGE_BYTES: usize = 400;

/// An answer that is given later.
pub(super) struct Later {
    pub(super) reply: DeferredReply,
    pub(super) token: usize,
    /// The message; `None` if that has an answer already.
    message: Option<(usize, u64)>,
}

/// What a task sent to a channel is to do.
pub(super) struct Task {
    pub(super) nth: usize,
    pub(super) seen: usize,
    pub(super) acts: Vec<Value>,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) casts: Vec<Cast>,
    pub(super) joins: Vec<Joined>,
    pub(super) clients: Vec<Client>,
    pub(super) later: Vec<Later>,
    /// Messages that were answered later.
    pub(super) answered_later: BTreeSet<(usize, u64)>,
    /// How many broadcasts have reached each shard.
    pub(super) reached: Vec<usize>,
    /// The shard that is being called, and which call of all it is.
    pub(super) shard: usize,
    pub(super) call: u64,
    /// A callback of this call has recorded something that may not be done yet.
    pub(super) acted: bool,
    /// No broadcast comes from `terminate`.
    pub(super) no_farewells: bool,
    /// The message of the call that has reached the channel last.
    pub(super) last_answered: Option<(usize, u64)>,
    /// What a callback found wrong; an assertion there would only look like a crash of the channel.
    pub(super) complaint: Option<String>,
}

impl World {
    /// Takes the right to answer the message of a later answer; false if it has been answered.
    pub(super) fn take_answer(&mut self, later: &Later) -> bool {
        later.message.is_some_and(|message| self.answered_later.insert(message))
    }

    /// How many broadcasts have reached the shard that is being called.
    fn here(&self) -> usize {
        self.reached[self.shard]
    }

    /// Notes that the shard being called has got everything up to `n`.
    fn reach(&mut self, n: usize) {
        let shard = self.shard;
        self.reached[shard] = self.reached[shard].max(n);
    }

    /// Notes a broadcast that the caller publishes next: its number.
    pub(super) fn cast(&mut self, cast: Cast) -> usize {
        self.casts.push(cast);
        self.casts.len()
    }

    /// The fields of the next message made for one client alone.
    fn direct(&mut self, token: usize, pad: usize) -> Value {
        let seen = self.here();
        let client = &mut self.clients[self.joins[token].client];
        client.made += pad + MESSAGE_BYTES;
        client.directs += 1;
        json!({"join": token, "d": client.directs - 1, "seen": seen})
    }

    /// The fields of the next message that reaches a join through its shard's mailbox.
    pub(super) fn mailed(&mut self, token: usize) -> Value {
        let client = self.joins[token].client;
        self.clients[client].made += MESSAGE_BYTES;
        json!({"join": token, "h": self.joins[token].mailed, "seen": self.casts.len()})
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }

    /// How many of the broadcasts behind `after` and up to `until` a subscriber of the topic is to get.
    pub(super) fn count(&self, topic: &str, client: usize, after: usize, until: usize) -> usize {
        let casts = self.casts.get(after..until).unwrap_or_default();
        casts.iter().filter(|cast| self.is_for(cast, topic, client)).count()
    }

    pub(super) fn is_for(&self, cast: &Cast, topic: &str, client: usize) -> bool {
        let unencodable = cast.binary && self.clients[client].v1;
        cast.topic == topic && cast.from != Some(client) && !unencodable && !cast.out
    }
}

/// `fields` with so many bytes of padding, as JSON or as the bytes of that JSON.
pub(super) fn body(mut fields: Value, pad: usize, binary: bool) -> PayloadBuf {
    fields["pad"] = "x".repeat(pad).into();
    if binary { PayloadBuf::Binary(fields.to_string().into_bytes().into()) } else { fields.into() }
}

/// The JSON of a payload of either kind.
fn read(payload: Payload<'_>) -> Result<Value, ChannelError> {
    match payload {
        Payload::Json(json) => Ok(serde_json::from_str(json.get())?),
        Payload::Binary(bytes) => Ok(serde_json::from_slice(bytes)?),
        Payload::UserBroadcast(broadcast) => Ok(serde_json::from_slice(broadcast.data())?),
    }
}

/// The event of plain broadcasts, and that of those that go through `handle_out`.
pub(super) const PLAIN: &str = "b";
pub(super) const OUT: &str = "out";
/// The event of what must never arrive.
pub(super) const VOID: &str = "void";

/// A channel that does what the client's payload says.
pub(super) struct Script {
    pub(super) world: Arc<Mutex<World>>,
}

struct Token(usize);

impl Script {
    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn token(cx: &Context<'_>) -> usize {
        cx.assigns().get::<Token>().expect("a join has its token").0
    }

    /// Does `acts` one by one. Where they end in a failure, nothing of them may have an effect.
    fn perform(&self, cx: &mut Context<'_>, acts: &[Value], id: Option<u64>) -> Result<(), ChannelError> {
        let failure =
            acts.iter().filter_map(|act| act[0].as_str()).find(|act| ["fail", "panic"].contains(act));
        let mut void = failure.is_some();
        let (mut replies, before) = (0, self.world().later.len());
        self.world().acted |= !acts.is_empty();
        for act in acts {
            match act[0].as_str() {
                Some("stop") => {
                    cx.stop();
                    void = true;
                }
                Some("fail" | "panic") => {}
                _ if void => {
                    cx.push(VOID, PayloadBuf::empty());
                    cx.reply(VOID, PayloadBuf::empty());
                    if failure.is_some() {
                        cx.broadcast(VOID, PayloadBuf::empty());
                    }
                }
                Some("reply") if replies > 0 => cx.reply(VOID, PayloadBuf::empty()),
                Some("reply") => {
                    replies += 1;
                    self.reply(cx, act);
                }
                _ => self.act(cx, act),
            }
        }
        if let Some(id) = id {
            let mut world = self.world();
            let client = world.joins[Self::token(cx)].client;
            let message = Some((client, id)).filter(|_| replies == 0);
            world.later[before..].iter_mut().for_each(|later| later.message = message);
            world.last_answered = Some((client, id));
            if world.clients[client].answers.insert(id, replies).is_some() {
                world.complain(format!("the message {id} of client {client} came twice"));
            }
        }
        match failure {
            Some("panic") => resume_unwind(Box::new("scripted")),
            Some(_) => Err(ChannelError::new("scripted")),
            None => Ok(()),
        }
    }

    fn reply(&self, cx: &mut Context<'_>, act: &Value) {
        let (pad, binary) = (number(&act[1]), self.may_be_binary(cx, act));
        let fields = self.world().direct(Self::token(cx), pad);
        cx.reply(["ok", "error", "whatever"][pad % 3], body(fields, pad, binary));
    }

    fn may_be_binary(&self, cx: &Context<'_>, act: &Value) -> bool {
        let world = self.world();
        act[2] == true && !world.clients[world.joins[Self::token(cx)].client].v1
    }

    fn act(&self, cx: &mut Context<'_>, act: &Value) {
        let pad = number(&act[1]);
        match act[0].as_str() {
            Some("push") => {
                let fields = self.world().direct(Self::token(cx), pad);
                cx.push("direct", body(fields, pad, self.may_be_binary(cx, act)));
            }
            Some("defer") => {
                let token = Self::token(cx);
                if let Some(reply) = cx.defer_reply() {
                    self.world().later.push(Later { reply, token, message: None });
                }
            }
            Some("cast") => self.cast(cx, act),
            _ => self.world().complain(format!("what is to be done about {act}?")),
        }
    }

    /// `["cast", pad, binary, "all" | "from" | topic, "" | mode of handle_out]`
    fn cast(&self, cx: &mut Context<'_>, act: &Value) {
        let (pad, binary) = (number(&act[1]), act[2] == true);
        let (to, mode) = (act[3].as_str().unwrap_or_default(), act[4].as_str().unwrap_or_default());
        let mut world = self.world();
        let topic = if ["all", "from"].contains(&to) { cx.topic() } else { to }.to_owned();
        let from = (to == "from").then(|| world.joins[Self::token(cx)].client);
        let n = world.cast(Cast { topic, from, binary, out: !mode.is_empty(), counted: false });
        // What this callback records behind it comes when its own shard has got it.
        world.reach(n);
        drop(world);
        let event = if mode.is_empty() { PLAIN } else { OUT };
        let payload = body(json!({"n": n, "mode": mode}), pad, binary);
        match to {
            "all" => cx.broadcast(event, payload),
            "from" => cx.broadcast_from(event, payload),
            topic => cx.broadcast_to(topic, event, payload),
        }
    }
}

pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    // Scripted panics unwind through callbacks, though never while the lock is held.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn number(value: &Value) -> usize {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or_default()
}

impl Channel for Script {
    fn join(&self, topic: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<PayloadBuf, JoinError> {
        let payload = read(payload).map_err(JoinError::Crashed)?;
        let how = payload["how"].as_str().unwrap_or_default();
        if how != "ok" {
            cx.push(VOID, PayloadBuf::empty());
            cx.broadcast(VOID, PayloadBuf::empty());
        }
        match how {
            "refuse" => return Err(JoinError::reason("refused")),
            "fail" => return Err(JoinError::Crashed(ChannelError::new("scripted"))),
            "panic" => resume_unwind(Box::new("scripted")),
            _ => {}
        }
        let mut world = self.world();
        let joined = Joined {
            client: number(&payload["client"]),
            topic: topic.to_owned(),
            shard: world.shard,
            born: world.call,
            start: world.here(),
            end: None,
            ended_in: 0,
            handle: cx.handle(),
            mailed: 0,
            outs: Vec::new(),
            tasks_sent: 0,
            tasks_done: 0,
        };
        world.joins.push(joined);
        let token = world.joins.len() - 1;
        let fields = world.direct(token, number(&payload["size"]));
        drop(world);
        cx.assigns_mut().insert(Token(token));
        let acts = payload["acts"].as_array().cloned().unwrap_or_default();
        self.perform(cx, &acts, None).map_err(JoinError::Crashed)?;
        Ok(body(fields, number(&payload["size"]), false))
    }

    fn handle_in(&self, _: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        let payload = read(payload)?;
        let acts = payload["acts"].as_array().cloned().unwrap_or_default();
        self.perform(cx, &acts, payload["id"].as_u64())
    }

    fn intercepts(&self) -> &'static [&'static str] {
        &[OUT]
    }

    fn handle_out(&self, _: &str, payload: Payload<'_>, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        let payload = read(payload)?;
        let (n, token) = (number(&payload["n"]), Self::token(cx));
        let mut world = self.world();
        world.reach(n);
        if world.joins[token].outs.contains(&n) {
            world.complain(format!("broadcast {n} came to handle_out of join {token} twice"));
        }
        if world.casts[n - 1].from == Some(world.joins[token].client) {
            world.complain(format!("broadcast {n} came to handle_out of its own sender"));
        }
        world.joins[token].outs.push(n);
        drop(world);
        let mut act = |acts: Value| self.perform(cx, acts.as_array().map_or(&[], Vec::as_slice), None);
        match payload["mode"].as_str() {
            Some("drop") => Ok(()),
            Some("stop") if (token + n) % 3 == 0 => act(json!([["push", 1, false], ["stop"], ["push"]])),
            Some("fail") if (token + n) % 3 == 0 => act(json!([["push"], ["cast"], ["fail"]])),
            Some("panic") if (token + n) % 3 == 0 => act(json!([["push"], ["cast"], ["panic"]])),
            _ => act(json!([["push", payload["pad"].as_str().map_or(0, str::len), n % 2 == 0]])),
        }
    }

    fn handle_info(&self, info: Info, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        let Ok(task) = info.downcast::<Task>() else { return Err(ChannelError::new("no task")) };
        let token = Self::token(cx);
        let mut world = self.world();
        world.reach(task.seen);
        if world.joins[token].tasks_done != task.nth {
            world.complain(format!("task {} of join {token} came out of order", task.nth));
        }
        world.joins[token].tasks_done += 1;
        drop(world);
        self.perform(cx, &task.acts, None)
    }

    fn terminate(&self, reason: Ended, cx: &mut Context<'_>) {
        let token = Self::token(cx);
        let mut world = self.world();
        let end = world.here();
        world.joins[token].ended_in = world.call;
        if world.joins[token].end.replace((end, reason)).is_some() {
            world.complain(format!("join {token} ended twice"));
        }
        cx.push(VOID, PayloadBuf::empty());
        cx.reply(VOID, PayloadBuf::empty());
        // A connection may end while a callback's broadcasts are being published one by one; a broadcast from
        // here would get its number in another order than its place.
        let in_order = reason != Ended::Disconnected || !world.acted;
        if in_order && !world.no_farewells && token.is_multiple_of(3) {
            let topic = cx.topic().to_owned();
            let n = world.cast(Cast { topic, from: None, binary: false, out: false, counted: false });
            if reason != Ended::Disconnected {
                world.reach(n);
            }
            drop(world);
            cx.broadcast(PLAIN, body(json!({"n": n}), token % 50, false));
        }
    }
}
