use hailer::http::{
    BodyDecoder, Framing, HeadError, HeadScanner, Headers, Method, Request, Response, Subprotocols, Version,
    parse_head, query, upgrade,
};
use hailer::limits::Limits;

/// However a head is cut the scanner gives one answer, whatever parses keeps the codec's promises, and
/// nothing a peer sent breaks a line of the answer.
pub(crate) fn check(data: &[u8]) {
    let mut small = Limits::default();
    for (name, value) in [("head_bytes_max", "1024"), ("headers_max", "16"), ("target_bytes_max", "256")] {
        small.set(name, value).expect("the limit exists");
    }
    for limits in [&Limits::default(), &small] {
        let found = scan(data, [data.len()], limits);
        let half = data.len() / 2;
        assert_eq!(scan(data, 0..=data.len(), limits), found, "bytewise");
        assert_eq!(scan(data, [half, data.len()], limits), found, "in two");
        let parsed = parse_head(data, limits);
        if parsed.is_ok() {
            assert_eq!(found, Ok(Some(data.len())), "only what the scanner finds is a head");
        }
        match found {
            Ok(Some(end)) => {
                let head = &data[..end];
                match parse_head(head, limits) {
                    Ok(request) => check_request(head, &request, limits),
                    Err(error) => check_refusal(error),
                }
            }
            Ok(None) => assert!(data.len() < limits.head_bytes_max),
            Err(error) => check_refusal(error),
        }
    }
}

/// Shows the scanner the prefixes of `data` with these ends, until it answers.
fn scan(
    data: &[u8],
    ends: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> Result<Option<usize>, HeadError> {
    let mut scanner = HeadScanner::default();
    for end in ends {
        match scanner.find(&data[..end], limits) {
            Ok(None) => {}
            answer => return answer,
        }
    }
    Ok(None)
}

fn check_refusal(error: HeadError) {
    assert!(error.status().code() >= 400);
    let mut out = Vec::new();
    Response::from(error).write(&mut out, false, false);
    assert!(out.ends_with(error.reason().as_bytes()));
}

fn check_request(head: &[u8], request: &Request<'_>, limits: &Limits) {
    let count = |name| request.headers.all(name).count();
    assert!(head.len() <= limits.head_bytes_max && request.target.len() <= limits.target_bytes_max);
    assert!(request.headers.len() <= limits.headers_max);
    assert_eq!(request.headers.len(), request.headers.iter().count());
    for (name, value) in request.headers.iter() {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
        assert!(value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
        assert_eq!(value, value.trim_ascii());
    }

    assert!(request.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert!(request.path.starts_with('/') || request.path == "*" && request.method == Method::Options);
    assert!(request.target.ends_with(request.query) && !request.path.contains('?'));
    assert!(count("host") <= 1 && (count("host") == 1 || request.version == Version::Http10));
    assert!(request.host.is_none_or(|host| !host.is_empty() && !host.contains(['@', '/', ' ', ','])));

    let coded = count("transfer-encoding") > 0;
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    assert_eq!(request.body == Framing::Chunked, coded);
    if let Framing::Length(length) = request.body {
        let written = request.headers.get("content-length").and_then(|value| std::str::from_utf8(value).ok());
        assert_eq!(written.and_then(|value| value.parse().ok()), Some(length));
        assert!(length > 0);
    }
    assert!(
        BodyDecoder::new(request.body, 0).is_ok_and(|body| body.is_done()) || request.body != Framing::None
    );
    assert!(!request.keep_alive || !request.headers.has_token("connection", "close"));
    assert!(!request.expect_continue || request.body != Framing::None);

    let pairs = query::pairs(request.query).count();
    assert!(pairs <= request.query.len());
    let _ = query::last(request.query, "vsn");
    check_upgrade(request);
}

fn check_upgrade(request: &Request<'_>) {
    let mut out = Vec::new();
    match upgrade::check(request) {
        Ok(handshake) => {
            assert!(request.method == Method::Get && request.version == Version::Http11);
            assert!(request.body == Framing::None && handshake.key.len() == 24);
            let subprotocols = Subprotocols::default();
            let protocol = subprotocols.choose(&request.headers).expect("none is required");
            upgrade::write_101(&mut out, &handshake.accept(), protocol.map(|name| &**name));
            check_response(&out);
        }
        Err(error) => {
            error.write(request, &mut out, request.keep_alive);
            check_response(&out);
        }
    }
    check_protocols(&request.headers);
}

/// The head of a response is lines of plain text, and its length is that of what follows.
fn check_response(response: &[u8]) {
    let text = std::str::from_utf8(response).expect("a response is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a response has a head");
    assert!(head.split("\r\n").all(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
    assert!(body.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    match head.split_once("content-length: ") {
        Some((_, length)) => assert!(length == body.len().to_string() || body.is_empty()),
        None => assert!(head.starts_with("HTTP/1.1 101 ")),
    }
}

fn check_protocols(headers: &Headers<'_>) {
    if let Ok(protocols) = upgrade::protocols(headers) {
        let listed = Subprotocols::new(&["a", "b"]).expect("these are tokens");
        let chosen = listed.choose(headers).is_ok_and(|chosen| chosen.is_some());
        assert!(!chosen || headers.get("sec-websocket-protocol").is_some());
        let decoded = protocols.bearer.and_then(upgrade::bearer_token);
        assert!(decoded.is_none_or(|token| token.len() <= protocols.bearer.unwrap_or_default().len()));
    }
}
