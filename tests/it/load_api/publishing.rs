//! Publishing over the API to very many users, each told something of its own, while others are told things as well.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hailer::api::Key;
use hailer::auth::connect::Secret;
use serde_json::json;

use super::{Caller, api_of};
use crate::load::clients;
use crate::load_users::{Mint, SECRET, UNDER_WAY_MAX, on_web_sockets};
use crate::support::members::{Members, Pass, Place};
use crate::support::{Folder, Hailer, crowd, percentiles};

const CLIENTS: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
/// Those who are told nothing but what is for everybody, whose deliveries are timed.
const LISTENERS: usize = 200;
const BATCH: usize = 1_000;
/// How often every user is told something in batches.
const ROUNDS: u64 = if cfg!(debug_assertions) { 2 } else { 10 };
/// Connections that make single calls at a time, and the calls that each makes.
const CALLERS: usize = 4;
const CALLS: usize = if cfg!(debug_assertions) { 250 } else { 2_500 };
pub(super) const API_KEY: &str = "hlr_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const BROADCASTS: u64 = 40;
const INTERVAL: Duration = Duration::from_millis(25);

/// A folder with a configuration, and more of it.
pub(super) fn configured(name: &str, further: &str) -> Folder {
    let hash = Key::show_hash(&Key::hash_of(&Secret::new(API_KEY)));
    let text = format!(
        r#"
        [auth]
        secret_file = "secret"

        [[topics]]
        pattern = "room:lobby"
        join = "user"

        [[topics]]
        pattern = "user:{{sub}}"
        join = "owner"

        [[api.keys]]
        name = "load"
        hash = "{hash}"
        scopes = ["publish", "read"]
        {further}
        "#
    );
    let folder = Folder::new(name);
    folder.write("hailer.toml", &text, 0o600);
    folder.write("secret", std::str::from_utf8(SECRET).expect("it is text"), 0o600);
    folder
}

/// A server with the configuration of a folder.
pub(super) fn serve(folder: &Folder) -> Hailer {
    let config = folder.file("hailer.toml");
    let config = config.to_str().expect("the path is UTF-8");
    Hailer::start(&["--config", config, "--api-listen", "127.0.0.1:0"])
}

fn body(number: u64) -> serde_json::Value {
    json!({"body": {"number": number, "text": "your order was shipped"}})
}

/// Tells everybody something every now and then, from number `first` on, while `work` is done: how long it took to
/// reach the listeners, each of whom gets all of it in order; the next number, and what the work has come to.
fn time_deliveries<T>(
    api: SocketAddr,
    listeners: &mut Members,
    first: u64,
    work: impl FnOnce() -> T + Send,
) -> (String, u64, T)
where
    T: Send,
{
    listeners.arrivals = Some(Vec::new());
    let (done, heard) = (AtomicBool::new(false), AtomicBool::new(false));
    let (done, heard) = (&done, &heard);
    let (sent, worked) = std::thread::scope(|scope| {
        let publisher = scope.spawn(move || {
            let mut caller = Caller::new(api, API_KEY);
            let mut sent = Vec::new();
            while (sent.len() as u64) < BROADCASTS || !done.load(Ordering::Acquire) {
                let number = first + sent.len() as u64;
                let message = json!({"topic": "room:lobby", "event": "new_msg", "payload": body(number)});
                sent.push(Instant::now());
                caller.post("/api/v1/publish", &message.to_string());
                std::thread::park_timeout(INTERVAL);
            }
            heard.store(true, Ordering::Release);
            sent
        });
        let worker = scope.spawn(move || {
            let worked = work();
            done.store(true, Ordering::Release);
            worked
        });
        listeners.serve_until(heard, INTERVAL);
        let worked = worker.join().expect("the work is done");
        (publisher.join().expect("everything is taken"), worked)
    });
    listeners.receive(Place::Lobby, first + sent.len() as u64 - 1, |_| true);
    let arrivals = listeners.arrivals.take().unwrap_or_default();
    let taken = arrivals
        .iter()
        .map(|(number, time)| *time - sent[usize::try_from(number - first).expect("it was sent")]);
    (percentiles(taken.collect()), first + sent.len() as u64, worked)
}

/// Waits until the time of step number `step`, if there is a pace.
fn keep_pace(began: Instant, pace: Option<Duration>, step: u32) {
    let Some(pace) = pace else { return };
    // A thread may be woken without a reason.
    while let Some(left) = (began + pace * step).checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

fn per_second(count: usize, time: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / time.as_secs_f64()
}

/// Tells every user something `rounds` times, in batches, from number `first` on; each gets all of it in order.
fn tell_in_batches(
    api: SocketAddr,
    members: &mut Members,
    users: &[Pass],
    first: u64,
    pace: Option<Duration>,
) -> Duration {
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || members.receive(Place::Own, first + ROUNDS - 1, |_| true));
        let mut caller = Caller::new(api, API_KEY);
        let (began, mut step) = (Instant::now(), 0);
        for number in first..first + ROUNDS {
            for users in users.chunks(BATCH) {
                let message =
                    |pass: &Pass| json!({"user": *pass.user, "event": "new_msg", "payload": body(number)});
                let messages: Vec<_> = users.iter().map(message).collect();
                keep_pace(began, pace, step);
                let answer = caller.post("/api/v1/batch", &json!({ "messages": messages }).to_string());
                let answers = answer["messages"].as_array().expect("an answer for each message");
                assert_eq!(answers.len(), users.len());
                assert!(answers.iter().all(|answer| answer["subscribers"] == 1), "{answer}");
                step += 1;
            }
        }
        let published = began.elapsed();
        reading.join().expect("everybody gets everything");
        published
    })
}

#[test]
fn batches_to_users_topics_reach_each_of_them_and_hold_up_nobody() {
    let _crowd = crowd();
    let count = clients(CLIENTS);
    let folder = configured("load-api-batches", "");
    let hailer = serve(&folder);
    let api = api_of(&hailer);
    let mut passes = Mint::hs512().passes(count + LISTENERS);
    let others = passes.split_off(count);
    let mut listeners = Members::new(hailer.address(), &[Place::Lobby]);
    listeners.join(on_web_sockets(others), UNDER_WAY_MAX);
    let mut members = Members::new(hailer.address(), &[Place::Own]);
    members.join(on_web_sockets(passes.clone()), UNDER_WAY_MAX);

    let (quiet, mut next, ()) = time_deliveries(api, &mut listeners, 0, || ());
    println!("while it is quiet, a broadcast to {LISTENERS}: {quiet}");
    for (name, pace) in [("10,000 a second", Some(Duration::from_millis(100))), ("as fast as it goes", None)]
    {
        let first = if pace.is_some() { 0 } else { ROUNDS };
        let before = hailer.cpu_time();
        let members = &mut members;
        let (busy, after, published) = time_deliveries(api, &mut listeners, next, || {
            tell_in_batches(api, members, &passes, first, pace)
        });
        let messages = passes.len() * usize::try_from(ROUNDS).expect("it is small");
        let each = (hailer.cpu_time() - before) / u32::try_from(messages).expect("it is small");
        println!(
            "batches of {BATCH}, {name}: {messages} messages at {:.0}/s",
            per_second(messages, published)
        );
        println!("  CPU of the server for each, all told: {each:.2?}");
        println!("  a broadcast to {LISTENERS}: {busy}");
        next = after;
    }
}

/// Makes calls on several connections at once.
fn call(api: SocketAddr, users: &[Pass], pace: Option<Duration>) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..CALLERS {
            scope.spawn(move || {
                let mut caller = Caller::new(api, API_KEY);
                for step in 0..CALLS {
                    keep_pace(began, pace, u32::try_from(step).expect("it is small"));
                    let user = &users[(number * CALLS + step) % users.len()].user;
                    let message = json!({"user": **user, "event": "new_msg", "payload": body(0)});
                    let answer = caller.post("/api/v1/publish", &message.to_string());
                    assert!(answer["offset"].is_u64(), "{answer}");
                }
            });
        }
    });
    began.elapsed()
}

#[test]
fn single_calls_hold_up_nobody() {
    let _crowd = crowd();
    for (level, further) in
        [("memory", ""), ("disk", "[store]\npath = \"load.db\"\n[messages]\ndefault_durability = \"disk\"")]
    {
        let folder = configured("load-api-calls", further);
        let hailer = serve(&folder);
        let api = api_of(&hailer);
        let users = Mint::hs512().passes(100);
        let mut listeners = Members::new(hailer.address(), &[Place::Lobby]);
        listeners.join(on_web_sockets(Mint::hs512().passes(LISTENERS)), UNDER_WAY_MAX);
        let (quiet, mut next, ()) = time_deliveries(api, &mut listeners, 0, || ());
        println!("{level}, while it is quiet, a broadcast to {LISTENERS}: {quiet}");
        let pace = Duration::from_millis(1) * u32::try_from(CALLERS).expect("it is small");
        for (name, pace) in [("1,000 a second", Some(pace)), ("as fast as it goes", None)] {
            let before = hailer.cpu_time();
            let (busy, after, called) =
                time_deliveries(api, &mut listeners, next, || call(api, &users, pace));
            let calls = CALLERS * CALLS;
            let each = (hailer.cpu_time() - before) / u32::try_from(calls).expect("it is small");
            println!(
                "{level}, {name}: {calls} calls at {:.0}/s, CPU for each {each:.2?}",
                per_second(calls, called)
            );
            println!("  a broadcast to {LISTENERS}: {busy}");
            next = after;
        }
    }
}
