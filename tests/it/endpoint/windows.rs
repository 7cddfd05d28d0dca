//! Clients whose windows shut after every byte of a small scenario, or open by a few bytes at a time.

use hailer::phoenix::Serializer;
use hailer::testing::ClientId;
use serde_json::json;

use super::dialogue::{BOTH, Dialogue, joined};
use super::probe::config;

/// What `a` gets while others and itself send `lines`, if it takes `window` bytes first, nothing more until
/// all of it is said, and then `step` bytes at a time.
fn play_through(serializer: Serializer, lines: &[&str], window: Option<usize>, step: usize) -> Vec<String> {
    let mut dialogue = Dialogue::new(&config(), serializer);
    dialogue.play(&joined("a b", "probe:1"));
    dialogue.play(&joined("a b", "probe:2"));
    let slow = dialogue.client("a");
    dialogue.server.set_window(slow, window);
    for line in lines {
        let (name, text) = line.split_once(" -> ").unwrap();
        let (client, bytes) = (dialogue.client(name), dialogue.masked(text));
        dialogue.server.send_bytes(client, &bytes);
    }
    if window.is_some() {
        open_in_steps(&mut dialogue, slow, step);
    }
    dialogue.server.set_window(slow, None);
    dialogue.take("a")
}

/// Lets the client take `step` bytes at a time until it has all.
fn open_in_steps(dialogue: &mut Dialogue, client: ClientId, step: usize) {
    let mut writes = dialogue.server.writes(client);
    loop {
        dialogue.server.set_window(client, Some(step));
        if std::mem::replace(&mut writes, dialogue.server.writes(client)) == writes {
            return;
        }
    }
}

/// Whatever the window is when `a` begins to read slowly, it gets the very frames in the very order.
#[track_caller]
fn check_every_window(lines: &[&str]) {
    for serializer in BOTH {
        let expected = play_through(serializer, lines, None, 0);
        let bytes: usize = expected.iter().map(|line| line.len() + 4).sum();
        assert!(bytes > 100, "{expected:#?}");
        for window in 0..=bytes {
            let got = play_through(serializer, lines, Some(window), 1 << 20);
            assert_eq!(got, expected, "{serializer:?}: after {window} bytes");
        }
        for step in [1, 2, 3, 50] {
            let got = play_through(serializer, lines, Some(0), step);
            assert_eq!(got, expected, "{serializer:?}: {step} bytes at a time");
        }
    }
}

#[test]
fn broadcasts_and_replies_keep_their_order_wherever_the_window_shuts() {
    check_every_window(&[
        r#"b -> ["1","2","probe:1","shout",{"n":1}]"#,
        r#"a -> ["1","3","probe:1","echo",{"n":2}]"#,
        r#"b -> ["1","4","probe:1","shout",{"n":3}]"#,
        r#"b -> ["1","5","probe:1","shout",{"n":4}]"#,
        "a -> ping five",
        r#"a -> ["1","6","probe:1","shout_and_reply",{"n":6}]"#,
        r#"a -> [null,"7","phoenix","heartbeat",{}]"#,
        r#"b -> ["1","8","probe:1","shout",{"n":8}]"#,
    ]);
}

#[test]
fn a_channel_may_be_left_and_joined_again_wherever_the_window_shuts() {
    check_every_window(&[
        r#"b -> ["1","2","probe:1","shout",1]"#,
        r#"a -> ["1","3","probe:1","phx_leave",{}]"#,
        r#"b -> ["1","4","probe:1","shout","not for a"]"#,
        r#"a -> ["5","5","probe:1","phx_join",{"do":"push"}]"#,
        r#"b -> ["1","6","probe:1","shout",2]"#,
        r#"a -> ["7","7","probe:1","phx_join",{}]"#,
        r#"b -> ["1","8","probe:1","shout",3]"#,
        r#"a -> ["7","9","probe:1","crash",{}]"#,
        r#"b -> ["1","10","probe:1","shout","not for a"]"#,
        r#"a -> ["11","11","probe:1","phx_join",{}]"#,
        r#"b -> ["1","12","probe:1","shout",4]"#,
    ]);
}

#[test]
fn bytes_that_look_like_a_pong_are_none_wherever_the_window_shuts() {
    let ping = "a -> ping x";
    // Each Ê ends with the byte that begins a pong.
    let shout = r#"b -> ["1","2","probe:1","shout","ÊÊÊÊ"]"#;
    let mut lines = vec![ping; 16];
    lines.extend([shout, r#"a -> ["1","3","probe:1","phx_leave",{}]"#, shout]);
    check_every_window(&lines);
    // The last of more pings than are answered takes a pong's place, never that of another frame.
    for serializer in BOTH {
        for window in 0..400 {
            let mut flood = lines.clone();
            flood.push("a -> ping last");
            let got = play_through(serializer, &flood, Some(window), 1 << 20);
            assert_eq!(got.iter().filter(|line| line.contains("ÊÊÊÊ")).count(), 1, "{window}: {got:#?}");
            assert!(got.contains(&"pong last".to_owned()), "{window}: {got:#?}");
        }
    }
}

/// The frames with those of different topics between two direct ones brought into one order: which topic
/// comes first there is open.
fn normalised(frames: Vec<String>) -> Vec<String> {
    let is_broadcast = |frame: &String| frame.contains("\"shout\"");
    let mut out = frames;
    for run in out.chunk_by_mut(|one, two| is_broadcast(one) && is_broadcast(two)) {
        run.sort_by_key(|frame| frame.contains("probe:2"));
    }
    out
}

#[test]
fn two_topics_never_mix_inside_a_frame_wherever_the_window_shuts() {
    let lines = [
        r#"b -> ["1","2","probe:1","shout",1]"#,
        r#"b -> ["1","3","probe:2","shout",2]"#,
        r#"b -> ["1","4","probe:1","shout",3]"#,
        r#"a -> ["1","5","probe:2","echo",{}]"#,
        r#"b -> ["1","6","probe:2","shout",4]"#,
        r#"b -> ["1","7","probe:1","shout",5]"#,
        r#"a -> ["8","8","probe:3","phx_join",{}]"#,
        r#"b -> ["1","9","probe:1","shout",6]"#,
        r#"a -> ["1","10","probe:1","phx_leave",{}]"#,
        r#"b -> ["1","11","probe:2","shout",7]"#,
        r#"a -> ["1","12","probe:2","whisper_and_reply",8]"#,
        r#"b -> ["1","13","probe:2","shout",9]"#,
    ];
    for serializer in BOTH {
        let expected = normalised(play_through(serializer, &lines, None, 0));
        let bytes: usize = expected.iter().map(|line| line.len() + 4).sum();
        for window in 0..=bytes {
            let got = normalised(play_through(serializer, &lines, Some(window), 1 << 20));
            assert_eq!(got, expected, "{serializer:?}: after {window} bytes");
        }
        for step in [1, 2, 3, 50] {
            let got = normalised(play_through(serializer, &lines, Some(0), step));
            assert_eq!(got, expected, "{serializer:?}: {step} bytes at a time");
        }
    }
}

#[test]
fn a_topic_whose_join_could_not_be_answered_never_stands_inside_a_frame_of_another() {
    for window in 0..100 {
        let mut dialogue = Dialogue::new(&config(), Serializer::V1);
        dialogue.play(&joined("a b", "probe:1"));
        let slow = dialogue.client("a");
        dialogue.server.set_window(slow, Some(window));
        dialogue.server.broadcast("probe:1", "news", json!("of the first")).unwrap();
        // A client of V1 can't be answered with bytes, so it is told nothing, but it is joined.
        let join = dialogue.masked(r#"[null,"2","probe:2","phx_join",{"do":"bytes"}]"#);
        dialogue.server.send_bytes(slow, &join);
        dialogue.server.broadcast("probe:2", "news", json!("of the second")).unwrap();
        let leave = dialogue.masked(r#"[null,"3","probe:2","phx_leave",{}]"#);
        dialogue.server.send_bytes(slow, &leave);
        dialogue.server.set_window(slow, None);
        let mut got = dialogue.take("a");
        assert_eq!(got.len(), 4, "{got:#?}");
        got[..2].sort();
        let expected = ["of the first", "of the second", "phx_reply", "phx_close"];
        assert!(got.iter().zip(expected).all(|(line, expected)| line.contains(expected)), "{got:#?}");
    }
}
