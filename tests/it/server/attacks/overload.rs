//! A publisher that is faster than what it is said to can be sent.

use serde_json::json;

use super::world::{KEY, World};
use crate::support::peer::Response;
use crate::support::{Memory, Peer, eventually};

#[test]
fn a_publisher_that_is_too_fast_is_told_to_wait_and_memory_stays_bounded() {
    // A request is answered when the loop has counted who gets its messages, so no more of them are under way than there
    // are threads; those behind them are bounded as well.
    let limits = ["mailbox_bytes_max=65536", "topic_log_bytes_max=65536", "requests_waiting_max=16"];
    let limits: Vec<&str> = limits.iter().flat_map(|limit| ["--limit", limit]).collect();
    let world = World::start("[api]\nthreads = 2\n", &[&limits[..], &["--shards", "1"]].concat());
    let payload = "x".repeat(15_000);
    let message = json!({"topic": "room:lobby", "event": "e", "payload": payload});
    let body = json!({ "messages": [message] }).to_string();
    let headers = [("authorization", &*format!("Bearer {KEY}")), ("content-type", "application/json")];
    let request = world.request("POST", "/api/v1/batch", &headers, &body);
    let before = Memory::of(world.hailer.pid()).anonymous;
    // Many callers at once, none of which waits for the others.
    let mut refused: Vec<Response> = Vec::new();
    let mut served = 0;
    eventually("a caller is told to wait", || {
        let mut callers: Vec<Peer> = (0..64).map(|_| Peer::connect(world.api)).collect();
        callers.iter_mut().for_each(|caller| caller.send(&request));
        for caller in &mut callers {
            let response = caller.response();
            match response.status {
                200 => served += 1,
                503 => refused.push(response),
                _ => panic!("{response:?}"),
            }
        }
        (!refused.is_empty()).then_some(())
    });
    for response in &refused {
        let wait = response.field("retry-after").and_then(|wait| wait.parse::<u32>().ok());
        assert!(wait.is_some_and(|wait| wait >= 1), "{response:?}");
    }
    let grown = Memory::of(world.hailer.pid()).anonymous.saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    // Whoever waited is served.
    eventually("there is room again", || {
        (world.call(KEY, "POST", "/api/v1/batch", &body).status == 200).then_some(())
    });
    assert!(world.published() > served, "what was answered with 200 was published");
}
