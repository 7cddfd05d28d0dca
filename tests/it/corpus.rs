//! Replays the committed fuzz corpora through the same checks that the fuzzers run.

use std::path::Path;

#[cfg(feature = "api")]
#[path = "../../fuzz/checks/api.rs"]
mod api;
#[cfg(feature = "config")]
#[path = "../../fuzz/checks/config.rs"]
mod config;
#[path = "../../fuzz/checks/endpoint.rs"]
mod endpoint;
#[path = "../../fuzz/checks/heartbeat.rs"]
mod heartbeat;
#[path = "../../fuzz/checks/http_body.rs"]
mod http_body;
#[path = "../../fuzz/checks/http_head.rs"]
mod http_head;
#[path = "../../fuzz/checks/longpoll.rs"]
mod longpoll;
#[path = "../../fuzz/checks/origin.rs"]
mod origin;
#[path = "../../fuzz/checks/phoenix_v1.rs"]
mod phoenix_v1;
#[path = "../../fuzz/checks/phoenix_v2.rs"]
mod phoenix_v2;
#[path = "../../fuzz/checks/token.rs"]
mod token;
#[path = "../../fuzz/checks/ws_frames.rs"]
mod ws_frames;

macro_rules! replay {
    ($($test:ident: $target:ident;)*) => {$(
        #[test]
        fn $test() {
            replay(stringify!($target), $target::check);
        }
    )*};
}

replay! {
    http_head_corpus_holds: http_head;
    http_body_corpus_holds: http_body;
    longpoll_corpus_holds: longpoll;
    ws_frames_corpus_holds: ws_frames;
    phoenix_v1_corpus_holds: phoenix_v1;
    phoenix_v2_corpus_holds: phoenix_v2;
    endpoint_corpus_holds: endpoint;
    token_corpus_holds: token;
    origin_corpus_holds: origin;
}

#[cfg(feature = "api")]
replay! {
    api_corpus_holds: api;
}

#[cfg(feature = "config")]
replay! {
    config_corpus_holds: config;
}

/// Runs `check` on every file of the target's corpus, and on every prefix of the small ones.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus folder exists") {
        let bytes =
            std::fs::read(entry.expect("the entry is readable").path()).expect("the file is readable");
        check(&bytes);
        if bytes.len() <= 512 {
            (0..bytes.len()).for_each(|end| check(&bytes[..end]));
        }
        inputs += 1;
    }
    assert!(inputs > 0, "{} holds no input", folder.display());
}
