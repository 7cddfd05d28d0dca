//! What it costs to read and write one message, in memory.
//!
//! `cargo bench --no-default-features --bench phoenix`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hailer::limits::Limits;
use hailer::phoenix::{Message, Payload, Serializer, events, write_json_string};

const SERIALIZERS: [(Serializer, &str); 2] = [(Serializer::V1, "v1"), (Serializer::V2, "v2")];

const HEARTBEAT: [&str; 2] = [
    r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"5"}"#,
    r#"[null,"5","phoenix","heartbeat",{}]"#,
];

const NEW_MSG: [&str; 2] = [
    r#"{"topic":"room:lobby","event":"new_msg","payload":{"body":"How do you do? \"Fine\"."},"ref":"3"}"#,
    r#"["1","3","room:lobby","new_msg",{"body":"How do you do? \"Fine\"."}]"#,
];

fn decode(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("decode");
    for (name, texts) in [("heartbeat", HEARTBEAT), ("new_msg", NEW_MSG)] {
        for ((serializer, vsn), text) in SERIALIZERS.into_iter().zip(texts) {
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(name, vsn), |bencher| {
                bencher.iter(|| serializer.decode_text(black_box(text), &limits).is_ok());
            });
        }
    }
    let push = b"\0\x01\x01\x0a\x0713room:lobbynew_msg\x01\x02\x03\x04";
    group.throughput(Throughput::Bytes(push.len() as u64));
    group.bench_function("binary_push/v2", |bencher| {
        bencher.iter(|| Serializer::V2.decode_binary(black_box(push), &mut String::new(), &limits).is_ok());
    });
    let broadcast = b"\x03\x01\x01\x0e\x05\0\x0113realtime:lobbyshout{\"x\":1,\"y\":[2,3]}";
    group.throughput(Throughput::Bytes(broadcast.len() as u64));
    group.bench_function("user_broadcast/v2", |bencher| {
        bencher
            .iter(|| Serializer::V2.decode_binary(black_box(broadcast), &mut String::new(), &limits).is_ok());
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("encode");
    for ((serializer, vsn), text) in SERIALIZERS.into_iter().zip(NEW_MSG) {
        let message = serializer.decode_text(text, &limits).expect("the text is a message");
        let Message { join_ref, message_ref, ref topic, ref event, payload } = message;
        let name = topic.as_str().expect("the topic is a string");
        let mut out = Vec::with_capacity(1024);
        group.bench_function(BenchmarkId::new("reply", vsn), |bencher| {
            bencher.iter(|| {
                out.clear();
                serializer.encode_reply(&mut out, join_ref, message_ref, topic, "ok", Payload::empty())
            });
        });
        group.bench_function(BenchmarkId::new("broadcast", vsn), |bencher| {
            bencher.iter(|| {
                out.clear();
                serializer.encode_broadcast(&mut out, black_box(name), event, payload)
            });
        });
    }
    group.finish();
}

/// A heartbeat from text to the text of its reply.
fn heartbeat(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("heartbeat");
    for ((serializer, vsn), text) in SERIALIZERS.into_iter().zip(HEARTBEAT) {
        let mut out = Vec::with_capacity(1024);
        group.bench_function(vsn, |bencher| {
            bencher.iter(|| {
                out.clear();
                let message =
                    serializer.decode_text(black_box(text), &limits).expect("the text is a message");
                assert_eq!(message.event, events::HEARTBEAT);
                let Message { message_ref, topic, .. } = message;
                serializer.encode_reply(&mut out, None, message_ref, &topic, "ok", Payload::empty())
            });
        });
    }
    group.finish();
}

/// An encoded message put into a JSON string, as long-poll needs it.
fn quote(criterion: &mut Criterion) {
    let long = format!(r#"[null,null,"room:lobby","new_msg",{{"body":"{}"}}]"#, "Hallo Welt ".repeat(100));
    let mut group = criterion.benchmark_group("write_json_string");
    for (name, text) in [("new_msg", NEW_MSG[1]), ("1KB", long.as_str())] {
        let mut out = Vec::with_capacity(4096);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write_json_string(&mut out, black_box(text));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, heartbeat, quote);
criterion_main!(benches);
