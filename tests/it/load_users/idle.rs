//! What an idle user costs, and a private message among many.

use std::time::Duration;

use hailer::phoenix::Serializer;
use serde_json::{Map, Value, json};

use super::{Mint, SECRET, UNDER_WAY_MAX, on_web_sockets};
use crate::load::clients;
use crate::support::members::{LOBBY, Members, Place};
use crate::support::{Client, Folder, Hailer, Memory, crowd, eventually};

const CLIENTS: usize = 15_000;
/// Memory of the server for each idle user who has joined the lobby and a topic of its own, the kernel's not
/// counted.
const IDLE_BYTES_MAX: u64 = 656;
const PRIVATE_MESSAGES: usize = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

const CONFIG: &str = r#"
    [auth]
    secret_file = "secret"
    issuer = ["my_app"]
    audience = ["my_app"]

    [[topics]]
    pattern = "room:lobby"
    join = "user"
    push = [{ event = "new_msg", by = { claim = "staff", value = true } }]

    [[topics]]
    pattern = "user:{sub}"
    join = "owner"
    push = [{ event = "new_msg", by = "owner" }]
"#;

/// A user with manners who has joined a topic.
fn joined(hailer: &Hailer, token: &str, topic: &str) -> Client {
    let params = format!("token={token}");
    let mut client = Client::try_connect(hailer.address(), Serializer::V2, &params).expect("it is let in");
    assert_eq!(client.join(topic), json!({"status": "ok", "response": {}}));
    client
}

/// Messages to one user's own topic, one after the other; what each has cost the server.
fn private_messages(hailer: &Hailer, user: &mut Client, topic: &str) -> Duration {
    let before = hailer.cpu_time();
    for number in 0..PRIVATE_MESSAGES {
        user.push(topic, "new_msg", &json!({"body": {"number": number}}));
        assert_eq!(user.body()["number"], number);
    }
    (hailer.cpu_time() - before) / u32::try_from(PRIVATE_MESSAGES).expect("it is small")
}

#[test]
fn an_idle_user_with_a_topic_of_its_own_stays_within_its_budget_and_is_told_things_alone() {
    let _crowd = crowd();
    let clients = clients(CLIENTS);
    let folder = Folder::new("load-users");
    folder.write("hailer.toml", CONFIG, 0o600);
    folder.write("secret", std::str::from_utf8(SECRET).expect("it is text"), 0o600);
    let config = folder.file("hailer.toml");
    let mut hailer = Hailer::start(&["--config", config.to_str().expect("the path is UTF-8")]);
    let mint = Mint::hs512();
    let told = mint.pass(clients);
    let topic = format!("user:{}", told.user);
    let staff = Map::from_iter([("staff".to_owned(), Value::Bool(true))]);
    let mut staff = joined(&hailer, &mint.token("staff", &staff), LOBBY);
    let mut user = joined(&hailer, &told.token, &topic);
    private_messages(&hailer, &mut user, &topic);
    let descriptors = hailer.descriptors();

    let mut members = Members::new(hailer.address(), &[Place::Lobby, Place::Own]);
    // A few clients first, so that the program's own pages are there.
    members.join(on_web_sockets(mint.passes(200.min(clients))), UNDER_WAY_MAX);
    members.leave();
    hailer.wait_for_descriptors(descriptors);
    members.join(on_web_sockets(mint.passes(10)), UNDER_WAY_MAX);
    let among_ten = private_messages(&hailer, &mut user, &topic);
    members.leave();
    hailer.wait_for_descriptors(descriptors);

    let before = Memory::of(hailer.pid());
    members.join(on_web_sockets(mint.passes(clients)), UNDER_WAY_MAX);
    let after = Memory::of(hailer.pid());
    let each = after.rss.saturating_sub(before.rss) * 1024 / clients as u64;
    println!("{clients} users, each with a topic of its own: RSS {each} B each");
    // With fewer, the pages that a process takes at a time are too coarse a measure.
    assert!(clients < 10_000 || each <= IDLE_BYTES_MAX, "an idle user takes {each} bytes");

    let among_all = private_messages(&hailer, &mut user, &topic);
    println!("a private message: {among_ten:.1?} among 10 users, {among_all:.1?} among {clients}");
    // Whoever had got anything else before would not take this for the first.
    staff.push(LOBBY, "new_msg", &json!({"body": {"number": 0}}));
    members.receive(Place::Lobby, 0, |_| true);
    assert!(members.received(Place::Own).all(|(_, messages)| messages == 0));

    members.leave();
    drop((user, staff));
    hailer.wait_for_descriptors(descriptors - 2);
    // The descriptors are closed a moment before the memory is given back.
    let grown = after.rss.saturating_sub(before.rss);
    let left = eventually("most of the memory is given back", || {
        let left = Memory::of(hailer.pid()).rss.saturating_sub(before.rss);
        (clients < 10_000 || left * 4 <= grown).then_some(left)
    });
    println!("when all have left: {left} KiB of {grown} KiB");
    hailer.stop();
    let stopping = hailer.log_line("stopping");
    assert!(stopping.contains("connections=0 web_sockets=0 topics=0"), "{stopping}");
}
