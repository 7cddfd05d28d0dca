//! What one request costs from its bytes to a decision: finding the head's end, parsing, and for the upgrade
//! the handshake with its answer. In memory, one head at a time, warm caches; no socket is involved.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hailer::http::{HeadScanner, Request, Subprotocols, parse_head, query, upgrade};
use hailer::limits::Limits;

/// What Chrome sends for `new Socket("/socket", {params: {token}})`.
const CHROME_UPGRADE: &[u8] = b"GET /socket/websocket?token=SFMyNTY.g2gDYQFuBgDnYW1haWwB&vsn=2.0.0 HTTP/1.1\r\n\
    Host: example.com\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://example.com\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// What phoenix.js sends for each poll.
const LONGPOLL_GET: &[u8] = b"GET /socket/longpoll?vsn=2.0.0&token=SFMyNTY.g2gDaANtAAAAEHBoeDpscDpIc2JtYVdSM2FBA\
    QFuBgCnz3VwmAFiABJ1AA.L2nYbJx0Zc3k6cKQb2j5mV1eX0a9sW7uTqR4yIoP8dE HTTP/1.1\r\n\
    Host: example.com\r\n\
    Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\n\
    Accept: */*\r\n\
    Origin: https://example.com\r\n\
    Sec-Fetch-Site: same-site\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Referer: https://example.com/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\r\n";

fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Request<'a> {
    let end =
        HeadScanner::default().find(bytes, limits).expect("the head is good").expect("the head is whole");
    parse_head(&bytes[..end], limits).expect("the head is good")
}

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("http");

    group.throughput(Throughput::Bytes(CHROME_UPGRADE.len() as u64));
    group.bench_function("chrome upgrade: head", |b| {
        b.iter(|| black_box(read(black_box(CHROME_UPGRADE), &limits)));
    });
    let mut out = Vec::with_capacity(256);
    let subprotocols = Subprotocols::default();
    group.bench_function("chrome upgrade: head, query, handshake, 101", |b| {
        b.iter(|| {
            let request = read(black_box(CHROME_UPGRADE), &limits);
            let version = query::last(request.query, "vsn").expect("the query is good");
            let handshake = upgrade::check(&request).expect("the handshake is good");
            let protocol = subprotocols.choose(&request.headers).expect("none is required");
            out.clear();
            upgrade::write_101(&mut out, &handshake.accept(), protocol.map(|name| &**name));
            black_box((version, &out));
        });
    });

    group.throughput(Throughput::Bytes(LONGPOLL_GET.len() as u64));
    group.bench_function("phoenix.js poll: head", |b| {
        b.iter(|| black_box(read(black_box(LONGPOLL_GET), &limits)));
    });
    group.bench_function("phoenix.js poll: head, query", |b| {
        b.iter(|| {
            let request = read(black_box(LONGPOLL_GET), &limits);
            black_box(query::last(request.query, "token").expect("the query is good"));
        });
    });
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
