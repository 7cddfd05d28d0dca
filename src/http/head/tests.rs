use proptest::prelude::*;

use super::super::{HeadScanner, Status};
use super::*;

fn parse(head: &str) -> Result<Request<'_>, HeadError> {
    parse_head(head.as_bytes(), &Limits::default())
}

/// The head is accepted, and `view` of it is `expected`.
#[track_caller]
fn check<'a, T: Copy + PartialEq + std::fmt::Debug>(
    head: &'a str,
    view: impl Fn(&Request<'a>) -> T,
    expected: T,
) {
    assert_eq!(view(&parse(head).expect("the head is good")), expected, "{head:?}");
}

/// The head is refused so.
#[track_caller]
fn refuse(head: impl AsRef<[u8]>, expected: HeadError) {
    let head = head.as_ref();
    match parse_head(head, &Limits::default()) {
        Err(error) => assert_eq!(error, expected, "{:?}", String::from_utf8_lossy(head)),
        Ok(request) => panic!("{request:?} from {:?}", String::from_utf8_lossy(head)),
    }
}

/// A head of HTTP/1.1 with these fields, each without its CR LF.
fn with(fields: &[&str]) -> String {
    let mut head = "POST /x HTTP/1.1\r\nHost: a\r\n".to_owned();
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

const CHROME: &str = "GET /socket/websocket?token=abc&vsn=2.0.0 HTTP/1.1\r\n\
    Host: example.com:4000\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Origin: https://example.com\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_browsers_upgrade_is_read() {
    let request = parse(CHROME).unwrap();
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.target, "/socket/websocket?token=abc&vsn=2.0.0");
    assert_eq!((request.path, request.query), ("/socket/websocket", "token=abc&vsn=2.0.0"));
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.host, Some("example.com:4000"));
    assert_eq!(request.headers.len(), 6);
    assert_eq!(request.headers.get("origin"), Some(&b"https://example.com"[..]));
    assert!(request.keep_alive && !request.expect_continue);
    assert_eq!(request.body, Framing::None);
}

#[test]
fn no_prefix_of_a_head_is_a_head() {
    for end in 0..CHROME.len() {
        let error = parse(&CHROME[..end]).expect_err("it is a prefix");
        assert_eq!(error, HeadError::Incomplete, "{end}");
    }
    refuse(format!("{CHROME}G"), HeadError::Incomplete);
    refuse(format!("{CHROME}\r\n"), HeadError::Incomplete);
    refuse(format!("{CHROME}{CHROME}"), HeadError::Incomplete);
}

#[test]
fn one_empty_line_may_precede() {
    check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", |r| r.path, "/");
    refuse("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::EmptyLines);
    refuse("\r\n\r\n", HeadError::EmptyLines);
    refuse("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::LineEnding);
}

#[test]
fn methods_are_exact() {
    for (token, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PATCH", Method::Patch),
        ("TRACE", Method::Trace),
    ] {
        check(&format!("{token} / HTTP/1.1\r\nHost: a\r\n\r\n"), |r| r.method, method);
    }
    for token in ["get", "GETX", "PROPFIND", "CONNECT", "M-SEARCH", "PRI"] {
        refuse(format!("{token} / HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::UnknownMethod);
    }
    refuse("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", HeadError::UnknownMethod);
}

#[test]
fn a_request_line_has_three_parts_and_single_spaces() {
    for line in
        ["GET", "GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1", "GET / HTTP/x", "GET / /"]
    {
        refuse(format!("{line}\r\nHost: a\r\n\r\n"), HeadError::RequestLine);
    }
    for line in [" GET / HTTP/1.1", "G(T / HTTP/1.1", "G\0T / HTTP/1.1", "GET / http/1.1", "GET / HTTP/1.10"]
    {
        let error = parse(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err();
        assert_eq!(error.status(), Status::BadRequest, "{line}");
    }
    // Trailing white space after the version is no line end.
    refuse("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", HeadError::LineEnding);
}

#[test]
fn other_versions_are_named_as_such() {
    refuse("PRI * HTTP/2.0\r\n\r\n", HeadError::Version);
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        refuse(format!("GET / {version}\r\nHost: a\r\n\r\n"), HeadError::Version);
    }
    check("GET / HTTP/1.0\r\n\r\n", |r| (r.version, r.host), (Version::Http10, None));
}

#[test]
fn targets_are_read_by_their_form() {
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (target, path, query) in [
        ("/", "/", ""),
        ("/?", "/", ""),
        ("/a/b?c?d=/e", "/a/b", "c?d=/e"),
        ("//socket/..;/%2e%2E", "//socket/..;/%2e%2E", ""),
        ("/a?redirect=http://b/", "/a", "redirect=http://b/"),
        ("http://a", "/", ""),
        ("HTTP://A/b?c", "/b", "c"),
        ("https://a?c", "/", "c"),
        ("http://a/b://c", "/b://c", ""),
    ] {
        let head = line(target);
        let request = parse(&head).unwrap();
        assert_eq!((request.path, request.query, request.target), (path, query, target));
        assert_eq!(request.host, Some("a"));
    }
    for target in
        ["*", "a", "a:443", "?x", "http:/a", "ftp://a/", "://a/", "http://", "http:///b", "http://u@a/"]
    {
        refuse(line(target), HeadError::Target);
    }
    for target in ["/#", "/a#b", "/a?b#c", "/é", "/\u{7f}", "/a\0", "/\x01"] {
        refuse(line(target), HeadError::Target);
    }
    refuse(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target);
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", |r| r.path, "*");
    refuse("OPTIONS *?x HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target);
}

#[test]
fn there_is_one_host() {
    let host = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    for good in [
        "a",
        "A.example:80",
        "127.0.0.1:4000",
        "[::1]",
        "[::1]:80",
        "a_b-c.d~",
        "a:",
        "xn--bcher-kva.example",
    ] {
        check(&host(&format!("hOsT: \t{good} \r\n")), |r| r.host, Some(good));
    }
    for bad in [
        "", "a b", "a,b", "u@a", "a/b", "a:b", "a:1:2", "a:65536", "a:+80", ":80", "[::1", "[]", "[::1]80",
        "[x]", "a%41", "é",
    ] {
        refuse(host(&format!("Host: {bad}\r\n")), HeadError::HostInvalid);
    }
    refuse(host(""), HeadError::HostMissing);
    refuse(host("Host: a\r\nhost: a\r\n"), HeadError::HostRepeated);
    refuse("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::HostRepeated);
    refuse("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::HostMismatch);
    refuse("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::HostMismatch);
    refuse("GET http://a/ HTTP/1.1\r\n\r\n", HeadError::HostMissing);
    check("GET http://a/ HTTP/1.0\r\n\r\n", |r| r.host, Some("a"));
}

#[test]
fn the_body_is_framed_in_one_way_only() {
    for (fields, framing) in [
        (&[][..], Framing::None),
        (&["Content-Length: 0"], Framing::None),
        (&["Content-Length: 5"], Framing::Length(5)),
        (&["content-length:005"], Framing::Length(5)),
        (&["Content-Length: 18446744073709551615"], Framing::Length(u64::MAX)),
        (&["Transfer-Encoding: Chunked"], Framing::Chunked),
    ] {
        check(&with(fields), |r| r.body, framing);
    }
    for (fields, error) in [
        (&["Content-Length:"][..], HeadError::LengthInvalid),
        (&["Content-Length: -1"], HeadError::LengthInvalid),
        (&["Content-Length: +1"], HeadError::LengthInvalid),
        (&["Content-Length: 1 2"], HeadError::LengthInvalid),
        (&["Content-Length: 1,1"], HeadError::LengthInvalid),
        (&["Content-Length: 0x1"], HeadError::LengthInvalid),
        (&["Content-Length: 1.0"], HeadError::LengthInvalid),
        (&["Content-Length: \u{661}"], HeadError::LengthInvalid),
        (&["Content-Length: 18446744073709551616"], HeadError::LengthInvalid),
        (&["Content-Length: 5", "Content-Length: 5"], HeadError::LengthRepeated),
        (&["Content-Length: 0", "Content-Length: 0"], HeadError::LengthRepeated),
        (&["Content-Length: 5", "Transfer-Encoding: chunked"], HeadError::LengthAndCoding),
        (&["Transfer-Encoding: chunked", "Content-Length: 0"], HeadError::LengthAndCoding),
        (&["Transfer-Encoding: x", "Content-Length: 0"], HeadError::LengthAndCoding),
        (&["Transfer-Encoding:"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding: gzip, chunked"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding: chunked, chunked"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding: chunked;x=y"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding: xchunked"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding: identity"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], HeadError::CodingUnsupported),
        (&["Transfer-Encoding : chunked"], HeadError::FieldName),
        (&["Transfer-Encoding: \x0bchunked"], HeadError::FieldValue),
    ] {
        refuse(with(fields), error);
    }
    refuse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::CodingOnHttp10);
}

#[test]
fn fields_are_strict() {
    check(
        &with(&["X:", "y: \t a\tb \t", "Z:\u{e9}"]),
        |r| (r.headers.get("x").and_then(text), r.headers.get("Y").and_then(text)),
        (Some(""), Some("a\tb")),
    );
    for (field, error) in [
        ("X", HeadError::FieldName),
        (": a", HeadError::FieldName),
        ("X : a", HeadError::FieldName),
        ("X\t: a", HeadError::FieldName),
        ("X(: a", HeadError::FieldName),
        ("\0: a", HeadError::FieldName),
        ("é: a", HeadError::FieldName),
        (" X: a", HeadError::FoldedField),
        ("X: a\r\n b", HeadError::FoldedField),
        ("X: a\r\n\tb", HeadError::FoldedField),
        ("X: a\r\n ", HeadError::FoldedField),
        ("X: a\0b", HeadError::FieldValue),
        ("X: \x1b[0m", HeadError::FieldValue),
        ("X: \x7f", HeadError::FieldValue),
        ("X: a\rb", HeadError::FieldValue),
        ("X: a\r", HeadError::FieldValue),
        ("X: \r", HeadError::FieldValue),
        ("X: a\nY: b", HeadError::LineEnding),
        ("X: a\n", HeadError::LineEnding),
    ] {
        refuse(with(&[field]), error);
    }
    refuse("GET / HTTP/1.1\r\n Host: a\r\n\r\n", HeadError::FoldedField);
}

/// RFC 9110, section 5.5: 0x80 to 0xFF is opaque data.
#[test]
fn bytes_that_are_not_utf_8_pass_in_values_that_decide_nothing() {
    let latin_1: Vec<u8> = (0x80..=0xff).collect();
    let values = [&b"Montr\xe9al"[..], b"a=b; town=Z\xfcrich", b"C\xc3", b"\xed\xa0\x80", b"\xff", &latin_1];
    for name in ["X-City", "Cookie", "Accept-Language", "Origin", "Sec-WebSocket-Extensions", "User-Agent"] {
        for value in values {
            let field = [name.as_bytes(), b": ", value].concat();
            let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", &field[..], b"\r\nX: y\r\n\r\n"].concat();
            let request =
                parse_head(&head, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(request.headers.get(name), Some(value));
            assert_eq!(request.headers.get("x"), Some(&b"y"[..]));
            // Beside such a byte a control byte is what it is anywhere.
            for control in (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
                let field = [&field[..], &[control], b"\xe9"].concat();
                let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", &field[..], b"\r\n\r\n"].concat();
                assert!(parse_head(&head, &Limits::default()).is_err(), "{name}: {control:#x}");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_judged_in_the_fields_that_decide_how_a_request_is_read() {
    for (field, error) in [
        (&b"Content-Length: 1\xe9"[..], HeadError::LengthInvalid),
        (b"Content-Length: \xb2", HeadError::LengthInvalid),
        (b"Transfer-Encoding: chunked\xa0", HeadError::CodingUnsupported),
        (b"Transfer-Encoding: \xe9", HeadError::CodingUnsupported),
        (b"X\xe9: a", HeadError::FieldName),
    ] {
        refuse([b"POST / HTTP/1.1\r\nHost: a\r\n", field, b"\r\n\r\n"].concat(), error);
    }
    refuse(b"GET / HTTP/1.1\r\nHost: z\xfcrich\r\n\r\n", HeadError::HostInvalid);
    refuse(b"GET / HTTP/1.1\r\nHost: \xe9\r\nHost: a\r\n\r\n", HeadError::HostInvalid);
    let head =
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: \xe9, close\r\nExpect: \xe9\r\nContent-Length: 1\r\n\r\n";
    let request = parse_head(head, &Limits::default()).unwrap();
    assert!(!request.keep_alive && !request.expect_continue);
}

#[test]
fn no_control_byte_passes_anywhere() {
    for at in 0..CHROME.len() {
        for byte in (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
            let mut head = CHROME.as_bytes().to_vec();
            if head[at] == byte {
                continue;
            }
            head.insert(at, byte);
            // A CR LF pair may only be completed by nothing: every insertion breaks a line or a token, save
            // that of a whole line end, which this is not.
            assert!(parse_head(&head, &Limits::default()).is_err(), "{byte:#x} at {at}");
        }
    }
}

#[test]
fn limits_are_exact() {
    let mut limits = Limits::default();
    limits.set("head_bytes_max", "1024").unwrap();
    limits.set("target_bytes_max", "256").unwrap();
    limits.set("headers_max", "16").unwrap();
    let check = |head: String, expected: Option<HeadError>| {
        assert_eq!(parse_head(head.as_bytes(), &limits).err(), expected);
    };
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1));
    check(target(256), None);
    check(target(257), Some(HeadError::TargetTooLong));
    let fields = |count: usize| with(&vec!["X: y"; count - 1]);
    check(fields(16), None);
    check(fields(17), Some(HeadError::TooManyFields));
    let bytes = |bytes: usize| with(&[&format!("X: {}", "y".repeat(bytes - with(&["X: "]).len()))]);
    check(bytes(1024), None);
    check(bytes(1025), Some(HeadError::HeadTooLarge));
}

#[test]
fn more_fields_than_the_stack_holds_are_read_where_the_limit_allows() {
    let mut limits = Limits::default();
    limits.set("headers_max", "1000").unwrap();
    for count in [STACK_FIELDS - 1, STACK_FIELDS, STACK_FIELDS + 1, 1000] {
        let head = with(&vec!["X: y"; count - 1]);
        assert_eq!(parse_head(head.as_bytes(), &limits).unwrap().headers.len(), count);
    }
}

#[test]
fn the_connection_persists_by_version_and_option() {
    for (version, option, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: Upgrade, CLOSE", false),
        ("1.1", "Connection: keep-alive, close", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close", false),
        ("1.1", "Connection: closed", true),
        ("1.0", "X: y", false),
        ("1.0", "Connection: Keep-Alive", true),
        ("1.0", "Connection: keep-alive, close", false),
    ] {
        let option = if option.is_empty() { "X: y" } else { option };
        check(&format!("GET / HTTP/{version}\r\nHost: a\r\n{option}\r\n\r\n"), |r| r.keep_alive, expected);
    }
}

#[test]
fn an_expectation_counts_where_there_is_a_body() {
    let expect = "Expect: 100-Continue";
    check(&with(&[expect, "Content-Length: 1"]), |r| r.expect_continue, true);
    check(&with(&[expect, "Transfer-Encoding: chunked"]), |r| r.expect_continue, true);
    check(&with(&[expect]), |r| r.expect_continue, false);
    check(&with(&["Expect: other", "Content-Length: 1"]), |r| r.expect_continue, false);
    let old = "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
    check(old, |r| r.expect_continue, false);
}

#[test]
fn a_request_is_shown_without_its_secrets() {
    let shown = format!("{:?}", parse(CHROME).unwrap());
    assert!(shown.contains("/socket/websocket") && !shown.contains("token=abc"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_head(&bytes, &Limits::default());
    }

    #[test]
    fn what_parses_is_what_the_scanner_finds(
        parts in prop::collection::vec(prop::sample::select(vec![
            "GET ", "/", "a", " HTTP/1.1", "\r\n", "\n", "\r", "Host: a\r\n", "X: y\r\n", " ", ":", "\r\n\r\n",
            "GET / HTTP/1.1\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
        ]), 0..12)
    ) {
        let bytes = parts.concat().into_bytes();
        let limits = Limits::default();
        if parse_head(&bytes, &limits).is_ok() {
            prop_assert_eq!(HeadScanner::default().find(&bytes, &limits), Ok(Some(bytes.len())));
        }
    }
}
