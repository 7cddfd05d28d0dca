//! What the WebSocket codec costs for one frame: nanoseconds and bytes per second, in memory, on one core.
//!
//! The frames are masked with a key of zeros: the work is the same, and the frame that was unmasked in place
//! can be decoded again without a copy that would be measured as well.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hailer::limits::Limits;
use hailer::ws::{Data, Decoder, Input, Message, OpCode, header, write_frame};
use std::hint::black_box;

const TEXT: OpCode = OpCode::Data(Data::Text);

/// A text frame of `len` bytes from a client.
fn masked_text(len: usize) -> Vec<u8> {
    let mut frame = header(TEXT, len).as_slice().to_vec();
    frame[1] |= 0x80;
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + len, b'x');
    frame
}

/// Decodes a frame that arrives in pieces of `piece` bytes and tells the length of its text.
fn decode(frame: &mut [u8], piece: usize, limits: &Limits) -> usize {
    let mut decoder = Decoder::new();
    let mut text_len = 0;
    for bytes in frame.chunks_mut(piece) {
        let mut input = Input::new(bytes);
        while let Ok(Some(message)) = decoder.decode(&mut input, limits) {
            if let Message::Text(text) = black_box(message) {
                text_len += text.len();
            }
        }
    }
    text_len
}

fn bench_decode(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("ws_decode_text");
    for len in [64, 16 * 1024] {
        let mut frame = masked_text(len);
        let whole = frame.len();
        group.throughput(Throughput::Bytes(len as u64));
        for (name, piece) in [("whole", whole), ("in two reads", whole.div_ceil(2))] {
            assert_eq!(decode(&mut frame, piece, &limits), len);
            group.bench_function(format!("{len} B {name}"), |b| {
                b.iter(|| decode(black_box(&mut frame), piece, &limits));
            });
        }
    }
    group.finish();
}

fn bench_encode(c: &mut Criterion) {
    c.bench_function("ws_header", |b| b.iter(|| header(black_box(TEXT), black_box(300))));
    let payload = [b'x'; 300];
    let mut out = Vec::new();
    c.bench_function("ws_write_frame 300 B", |b| {
        b.iter(|| {
            out.clear();
            write_frame(&mut out, black_box(TEXT), black_box(&payload));
            black_box(out.len())
        });
    });
}

criterion_group!(benches, bench_decode, bench_encode);
criterion_main!(benches);
