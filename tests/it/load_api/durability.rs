//! What is acknowledged at level "disk" outlives the process, and a full disk is said to be full.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::publishing::{API_KEY, configured, serve};
use super::{Caller, api_of};
use crate::support::{Client, Disk, PatientStream, crowd, eventually};

const KILLS: usize = if cfg!(debug_assertions) { 5 } else { 20 };
/// Publishes of each process, of which it gets to half.
const PUBLISHES: usize = 500;
const CALLERS: usize = 4;

/// Makes calls until the server is gone, and notes the messages that it has acknowledged.
fn publish_until_killed(api: SocketAddr, acknowledged: &Mutex<Vec<String>>, count: &AtomicUsize) {
    let Ok(stream) = TcpStream::connect(api) else { return };
    let mut stream = PatientStream::new(stream);
    let message = json!({
        "topic": "room:lobby", "event": "new_msg", "payload": {"body": "kept"}, "durability": "disk",
    });
    let body = message.to_string();
    let request = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if stream.write_all(request.as_bytes()).is_err() {
            return;
        }
        // An answer ends with its only brace that closes an object.
        while !received.ends_with(b"}") {
            match stream.read(&mut buffer) {
                Ok(read @ 1..) => received.extend_from_slice(&buffer[..read]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&received);
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
        let answer: Value = serde_json::from_str(body).expect("an answer is JSON");
        assert_eq!(answer["durability"], "disk");
        let id = answer["id"].as_str().expect("it has an id").to_owned();
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        count.fetch_add(1, Ordering::Relaxed);
        received.clear();
    }
}

#[test]
fn what_is_acknowledged_at_level_disk_is_there_after_each_of_many_kills() {
    let _crowd = crowd();
    let folder = configured("load-api-kills", "[store]\npath = \"kept.db\"");
    let acknowledged = Mutex::new(Vec::new());
    for round in 1..=KILLS {
        let hailer = serve(&folder);
        let (api, count) = (api_of(&hailer), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| publish_until_killed(api, &acknowledged, &count));
            }
            eventually("publishes", || (count.load(Ordering::Relaxed) >= PUBLISHES).then_some(()));
            hailer.signal("KILL");
        });
        drop(hailer);
        println!("killed {round} times: {} acknowledged", acknowledged.lock().expect("it is whole").len());
    }
    let hailer = serve(&folder);
    let mut caller = Caller::new(api_of(&hailer), API_KEY);
    let acknowledged = acknowledged.into_inner().expect("it is whole");
    assert!(acknowledged.len() >= KILLS * PUBLISHES);
    let mut there = std::collections::HashSet::new();
    let mut before = String::new();
    loop {
        let page = caller.get(&format!("/api/v1/history?limit=1000{before}"));
        let messages = page["messages"].as_array().expect("a page has messages");
        there.extend(messages.iter().map(|message| message["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    let missing: Vec<_> = acknowledged.iter().filter(|id| !there.contains(*id)).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), acknowledged.len());
    println!("{} acknowledged, {} there", acknowledged.len(), there.len());
}

#[test]
fn a_full_disk_refuses_level_disk_and_the_server_goes_on() {
    let folder = configured("load-api-full", "[store]\npath = \"small/kept.db\"");
    let Some(disk) = Disk::mount(&folder.file("small"), "3m") else { return };
    let ballast = disk.path().join("ballast");
    let hailer = serve(&folder);
    let api = api_of(&hailer);
    let mut caller = Caller::new(api, API_KEY);
    let message = |durability: &str| {
        json!({
            "topic": "room:lobby", "event": "new_msg", "payload": {"body": "x".repeat(1000)},
            "durability": durability,
        })
        .to_string()
    };
    let first = caller.post("/api/v1/publish", &message("disk"));
    // Fills what is left.
    let full = std::fs::write(&ballast, vec![0; 4 * 1024 * 1024]).expect_err("the disk is small");
    println!("{full}");
    let token = crate::load_users::Mint::hs512().passes(1).remove(0).token;
    let params = format!("token={token}");
    let serializer = hailer::phoenix::Serializer::V2;
    let mut client = Client::try_connect(hailer.address(), serializer, &params).expect("it is let in");
    client.join("room:lobby");

    let refused = eventually("a refusal", || {
        let (status, answer) = caller.try_post("/api/v1/publish", &message("disk"));
        if status == 200 {
            client.event();
        }
        (status != 200).then_some((status, answer))
    });
    assert_eq!(
        (refused.0, refused.1["error"]["code"].as_str()),
        (503, Some("store_unavailable")),
        "{refused:?}"
    );
    assert!(refused.1["error"]["message"].as_str().is_some_and(|text| text.contains("full")), "{refused:?}");
    hailer.log_line("is full");
    // Clients are told things all the same, at another level.
    let sent = caller.post("/api/v1/publish", &message("memory"));
    assert_eq!(sent["subscribers"], 1);
    assert_eq!(client.event().event, "new_msg");
    let ready = caller.get("/ready");
    assert_eq!(ready["ready"], true);
    assert!(ready["problems"][0].as_str().is_some_and(|text| text.contains("store")), "{ready}");

    std::fs::remove_file(&ballast).expect("it is there");
    eventually("room", || (caller.try_post("/api/v1/publish", &message("disk")).0 == 200).then_some(()));
    assert_eq!(client.event().event, "new_msg");
    let path = format!("/api/v1/messages/{}", first["id"].as_str().expect("it has an id"));
    assert_eq!(caller.get(&path)["message"]["id"], first["id"]);
    eventually("a store that is well", || (caller.get("/ready")["problems"] == json!([])).then_some(()));
}
