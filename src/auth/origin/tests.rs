use proptest::prelude::*;

use super::*;

const HERE: RequestOrigin<'_> = RequestOrigin { host: Some("example.com"), secure: None };

fn list(entries: &[&str]) -> OriginPolicy {
    OriginPolicy::List(entries.iter().map(|entry| entry.parse().unwrap()).collect())
}

fn check(policy: OriginPolicy) -> OriginCheck {
    OriginCheck { policy, require_origin: false }
}

#[track_caller]
fn check_list(entry: &str, origin: &str, allowed: bool) {
    let verdict = check(list(&[entry])).check(Some(origin), &HERE);
    assert_eq!(verdict.is_ok(), allowed, "{entry} {origin}: {verdict:?}");
}

#[test]
fn an_entry_with_a_scheme_is_one_scheme_host_and_port() {
    check_list("https://example.com", "https://example.com", true);
    check_list("https://example.com", "HTTPS://EXAMPLE.com", true);
    check_list("HTTPS://Example.COM", "https://example.com", true);
    check_list("https://example.com", "https://example.com:443", true);
    check_list("https://example.com:443", "https://example.com", true);
    check_list("https://example.com", "http://example.com", false);
    check_list("https://example.com", "http://example.com:443", false);
    check_list("https://example.com", "https://example.com:444", false);
    check_list("http://example.com", "http://example.com:80", true);
    check_list("http://host:8080", "http://host:8080", true);
    check_list("http://host:8080", "http://host", false);
    check_list("http://host:8080", "http://host:80801", false);
    check_list("https://example.com", "https://www.example.com", false);
    check_list("https://example.com", "https://example.com.", false);
    check_list("https://example.com.", "https://example.com.", true);
    check_list("https://example.com", "https://example.co", false);
    check_list("https://example.com", "https://example.com.evil.com", false);
    check_list("https://example.com", "https://evil-example.com", false);
    check_list("https://example.com", "https://evilexample.com", false);
    check_list("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", true);
    check_list("https://xn--bcher-kva.example", "https://b\u{fc}cher.example", false);
    check_list("http://127.0.0.1:4000", "http://127.0.0.1:4000", true);
    check_list("http://127.0.0.1:4000", "http://localhost:4000", false);
    check_list("http://[::1]:4000", "http://[::1]:4000", true);
    check_list("http://[0:0:0:0:0:0:0:1]:4000", "http://[::1]:4000", true);
    check_list("http://[2001:DB8::1]", "http://[2001:db8::1]", true);
    check_list("http://[::1]", "http://[::2]", false);
    check_list("http://[::1]", "http://::1", false);
    check_list("capacitor://localhost", "capacitor://localhost", true);
    check_list("capacitor://localhost", "http://localhost", false);
    check_list("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop", true);
    check_list("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnopq", false);
}

#[test]
fn an_entry_without_a_scheme_is_any_scheme_and_port() {
    check_list("//example.com", "https://example.com", true);
    check_list("//example.com", "http://example.com:8080", true);
    check_list("//example.com", "capacitor://example.com", true);
    check_list("//example.com", "https://www.example.com", false);
    check_list("//example.com", "https://example.com@evil.com", false);
    check_list("//example.com:8080", "https://example.com:8080", true);
    check_list("//example.com:8080", "https://example.com", false);
    check_list("//example.com:443", "https://example.com", true);
}

#[test]
fn a_star_is_the_name_itself_and_whole_labels_before_it() {
    for entry in ["//*.example.com", "https://*.example.com", "//*.Example.Com"] {
        check_list(entry, "https://example.com", true);
        check_list(entry, "https://www.example.com", true);
        check_list(entry, "https://a.b.c.example.com", true);
        check_list(entry, "https://WWW.EXAMPLE.COM", true);
        check_list(entry, "https://evil-example.com", false);
        check_list(entry, "https://evilexample.com", false);
        check_list(entry, "https://example.com.evil.com", false);
        check_list(entry, "https://example.com.", false);
        check_list(entry, "https://.example.com", false);
        check_list(entry, "https://a..example.com", false);
        check_list(entry, "https://*.example.com", false);
        check_list(entry, "https://evil.com/.example.com", false);
        check_list(entry, "https://evil.com?.example.com", false);
        check_list(entry, "https://evil.com#.example.com", false);
        check_list(entry, "https://evil.com\\.example.com", false);
        check_list(entry, "https://evil.com\0.example.com", false);
        check_list(entry, "https://evil.com:80.example.com", false);
        check_list(entry, "https://com", false);
    }
    check_list("https://*.example.com", "http://www.example.com", false);
    check_list("https://*.example.com", "https://www.example.com:8443", false);
    check_list("https://*.example.com:8443", "https://www.example.com:8443", true);
    check_list("//*.example.com", "http://www.example.com:8080", true);
    check_list("//*.localhost", "http://app.localhost:3000", true);
}

#[test]
fn what_is_no_origin_matches_nothing() {
    for origin in [
        "",
        " ",
        "example.com",
        "//example.com",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "://example.com",
        "1https://example.com",
        "https://",
        "https://example.com/",
        "https://example.com/path",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com@",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com:0443",
        "https://example.com:+443",
        "https://example.com:65536",
        "https://example.com:443:443",
        " https://example.com",
        "https://example.com ",
        "https://example.com https://example.com",
        "https://example.com, https://example.com",
        "https://exam%70le.com",
        "https://example.com\n",
        "https://[::1",
        "https://::1]",
        "https://[example.com]",
        "https://[fe80::1%25eth0]",
        "https://[::1]x",
        "Null",
        "undefined",
        "about:blank",
        "data:text/html,x",
        "file:///etc/passwd",
        "FILE://",
    ] {
        for policy in [
            list(&["//*.example.com", "conn"]),
            OriginPolicy::Conn,
            OriginPolicy::Host("example.com".parse().unwrap()),
        ] {
            let verdict = check(policy).check(Some(origin), &HERE);
            assert_eq!(verdict, Err(OriginError::Opaque), "{origin}");
        }
        assert_eq!(check(OriginPolicy::Off).check(Some(origin), &HERE), Ok(()));
    }
    let long = format!("https://{}.example.com", "a".repeat(255));
    assert_eq!(check(list(&["//*.example.com"])).check(Some(&*long), &HERE), Err(OriginError::Opaque));
}

#[test]
fn pages_without_a_host_are_listed_by_name() {
    for (origin, other) in [("null", "file://"), ("file://", "null")] {
        check_list(origin, origin, true);
        check_list(origin, other, false);
        check_list("//*.example.com", origin, false);
        for policy in [OriginPolicy::Conn, OriginPolicy::Host("null".parse().unwrap()), list(&[])] {
            assert_eq!(check(policy).check(Some(origin), &HERE), Err(OriginError::Opaque));
        }
        assert_eq!(check(OriginPolicy::Off).check(Some(origin), &HERE), Ok(()));
    }
    check_list("null", "https://null", false);
    check_list("//null", "null", false);
}

#[test]
fn conn_is_the_host_and_port_of_the_request() {
    #[track_caller]
    fn check_conn(host: &str, secure: Option<bool>, origin: &str, allowed: bool) {
        let request = RequestOrigin { host: Some(host), secure };
        for policy in [OriginPolicy::Conn, list(&["https://other.example", "conn"])] {
            let verdict = check(policy).check(Some(origin), &request);
            assert_eq!(verdict.is_ok(), allowed, "{origin} to {host}, {secure:?}: {verdict:?}");
        }
    }
    check_conn("example.com", None, "http://example.com", true);
    check_conn("example.com", None, "https://example.com", true);
    check_conn("Example.Com", None, "https://example.com", true);
    check_conn("example.com", None, "https://example.com:8443", false);
    check_conn("example.com:8443", None, "https://example.com:8443", true);
    check_conn("example.com:8443", None, "https://example.com", false);
    check_conn("example.com:443", None, "https://example.com", true);
    check_conn("example.com:443", None, "http://example.com", false);
    check_conn("localhost:4000", None, "http://localhost:4000", true);
    check_conn("localhost:4000", None, "http://localhost:3000", false);
    check_conn("[::1]:4000", None, "http://[::1]:4000", true);
    check_conn("example.com", Some(true), "https://example.com", true);
    check_conn("example.com", Some(true), "http://example.com", false);
    check_conn("example.com:80", Some(true), "http://example.com", false);
    check_conn("example.com", Some(false), "http://example.com", true);
    check_conn("example.com", Some(false), "https://example.com", false);
    check_conn("example.com", None, "wss://example.com", false);
    check_conn("example.com", None, "capacitor://example.com", false);
    check_conn("example.com", None, "https://evil.com", false);
    check_conn("evil.com", None, "https://example.com", false);
    check_conn("example.com", None, "https://www.example.com", false);
    for host in ["", "user@example.com", "example.com:", "example.com/", "example.com:x"] {
        check_conn(host, None, "https://example.com", false);
    }
    let nowhere = RequestOrigin { host: None, secure: None };
    assert_eq!(check(OriginPolicy::Conn).check(Some("https://a"), &nowhere), Err(OriginError::NotAllowed));
}

#[test]
fn a_host_is_any_scheme_and_port_of_it() {
    let policy = check(OriginPolicy::Host("Example.com".parse().unwrap()));
    for origin in ["https://example.com", "http://example.com:8080", "https://EXAMPLE.COM"] {
        assert_eq!(policy.check(Some(origin), &HERE), Ok(()));
    }
    for origin in ["https://www.example.com", "https://example.com.", "https://example.org"] {
        assert_eq!(policy.check(Some(origin), &HERE), Err(OriginError::NotAllowed));
    }
    for host in
        ["", "https://example.com", "example.com:80", "a b", "example..com", "*.example.com", "b\u{fc}cher"]
    {
        assert_eq!(host.parse::<HostName>(), Err(PatternError::Host), "{host}");
    }
}

#[test]
fn there_is_one_origin_or_none() {
    let good = "https://example.com";
    for policy in [OriginPolicy::Off, OriginPolicy::Conn, list(&[good])] {
        let lax = OriginCheck { policy: policy.clone(), require_origin: false };
        let strict = OriginCheck { policy: policy.clone(), require_origin: true };
        assert_eq!(lax.check(None, &HERE), Ok(()));
        assert_eq!(strict.check(None, &HERE), Err(OriginError::Missing));
        assert_eq!(strict.check(Some(good), &HERE), Ok(()));
        let two = if policy == OriginPolicy::Off { Ok(()) } else { Err(OriginError::Several) };
        assert_eq!(lax.check([good, good], &HERE), two);
        assert_eq!(lax.check([good, "https://evil.example"], &HERE), two);
    }
}

#[test]
fn an_entry_that_is_none_says_why() {
    let check = |entry: &str, expected: PatternError| {
        assert_eq!(OriginPattern::parse(entry), Err(expected), "{entry}");
        assert!(!expected.to_string().is_empty());
    };
    check("", PatternError::NoScheme);
    check("example.com", PatternError::NoScheme);
    check("*", PatternError::NoScheme);
    check("Null", PatternError::NoScheme);
    check("://example.com", PatternError::Scheme);
    check("ht tp://example.com", PatternError::Scheme);
    check("https://", PatternError::Host);
    check("//", PatternError::Host);
    check("https://a b", PatternError::Host);
    check("https://b\u{fc}cher.example", PatternError::Host);
    check("https://::1", PatternError::Host);
    check("https://example.com/", PatternError::Path);
    check("https://example.com/path", PatternError::Path);
    check("https://example.com?x", PatternError::Path);
    check("https://user@example.com", PatternError::User);
    check("https://example.com:", PatternError::Port);
    check("https://example.com:http", PatternError::Port);
    check("https://example.com:65536", PatternError::Port);
    check("https://*example.com", PatternError::Star);
    check("https://www.*.com", PatternError::Star);
    check("https://*.*.com", PatternError::Star);
    check("https://example.com:*", PatternError::Star);
    check("//*", PatternError::StarAlone);
    check("https://*.0.0.1", PatternError::StarAlone);
    check("https://*.[::1]", PatternError::StarAlone);
}

#[test]
fn the_suggestion_adds_the_origin_to_what_is_allowed() {
    let check = |policy: &OriginPolicy, origin: &str, expected: Option<&str>| {
        assert_eq!(policy.suggestion(origin).as_deref(), expected, "{origin}");
    };
    let conn = OriginPolicy::Conn;
    check(&conn, "https://evil.example", Some(r#"check_origin = ["conn", "https://evil.example"]"#));
    check(&conn, "HTTPS://Evil.Example:443", Some(r#"check_origin = ["conn", "https://evil.example"]"#));
    check(&conn, "http://a:8080", Some(r#"check_origin = ["conn", "http://a:8080"]"#));
    check(&list(&[]), "http://[::1]:80", Some(r#"check_origin = ["http://[::1]"]"#));
    let host = OriginPolicy::Host("example.com".parse().unwrap());
    check(&host, "https://a", Some(r#"check_origin = ["//example.com", "https://a"]"#));
    let two = list(&["//*.example.org", "https://b:1", "null"]);
    check(
        &two,
        "https://a",
        Some(r#"check_origin = ["//*.example.org", "https://b:1", "null", "https://a"]"#),
    );
    check(&OriginPolicy::Off, "https://a", None);
    for origin in [
        "null",
        "file://",
        "",
        "https://a/",
        "https://a\n",
        "https://a\"]",
        "https://\u{fc}",
        "https://a\u{1b}[2J",
    ] {
        check(&conn, origin, None);
    }
    check(&conn, &format!("https://{}", "a".repeat(248)), None);
    assert!(conn.suggestion(&format!("https://{}", "a".repeat(247))).is_some());
}

proptest! {
    #[test]
    fn an_origin_that_is_suggested_is_let_in(text in "[a-z]{1,5}://[-a-zA-Z0-9._:\\[\\]]{0,20}") {
        for policy in [OriginPolicy::Conn, list(&["https://other.example"])] {
            if let Some(line) = policy.suggestion(&text) {
                let entries = line.strip_prefix("check_origin = [\"").and_then(|line| line.strip_suffix("\"]")).unwrap();
                let entries: Vec<&str> = entries.split("\", \"").collect();
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                prop_assert_eq!(check(list(&entries)).check(Some(&*text), &HERE), Ok(()));
            }
        }
    }

    #[test]
    fn no_origin_and_no_entry_panics(text in ".*", host in ".*") {
        let request = RequestOrigin { host: Some(&host), secure: None };
        for policy in [OriginPolicy::Conn, list(&["//*.example.com"])] {
            let _ = policy.suggestion(&text);
            let _ = check(policy).check(Some(&*text), &request);
        }
        if let Ok(pattern) = OriginPattern::parse(&text) {
            let again = pattern.to_string().parse();
            prop_assert_eq!(again, Ok(pattern));
        }
    }
}

#[test]
fn a_local_list_is_for_requests_to_addresses_and_to_localhost() {
    let patterns = ["conn", "//localhost"].map(|entry| entry.parse().unwrap());
    let policy = check(OriginPolicy::LocalList(patterns.into()));
    let check = |host: &str, local: bool| {
        let request = RequestOrigin { host: Some(host), secure: None };
        let own = format!("http://{host}");
        let expected = if local { Ok(()) } else { Err(OriginError::ForeignHost) };
        assert_eq!(policy.check(Some(&*own), &request), expected, "{host}");
        assert_eq!(policy.check(None, &request), expected, "{host}");
        let elsewhere = policy.check(Some("https://evil.example"), &request);
        assert_eq!(elsewhere, expected.and(Err(OriginError::NotAllowed)), "{host}");
    };
    for host in [
        "localhost",
        "LOCALHOST:4000",
        "localhost.",
        "app.localhost:4000",
        "127.0.0.1:4000",
        "192.0.2.7",
        "[::1]:4000",
        "[2001:db8::7]",
        "hailer:4000",
        "notlocalhost",
        "a",
    ] {
        check(host, true);
    }
    for host in [
        "evil.example:4000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0x7f000001",
    ] {
        check(host, false);
    }
    let nowhere = RequestOrigin { host: None, secure: None };
    assert_eq!(policy.check(None, &nowhere), Err(OriginError::ForeignHost));
    // With the line that is suggested the host is not looked at any more.
    let line = policy.policy.suggestion("http://evil.example:4000");
    assert_eq!(line.as_deref(), Some(r#"check_origin = ["//localhost", "http://evil.example:4000"]"#));
}

#[test]
fn hosts_that_are_given_are_those_that_requests_go_to() {
    let hosts: [HostName; 3] = ["localhost", "[::1]", "office.example"].map(|host| host.parse().unwrap());
    let policy = check(OriginPolicy::ConnTo(hosts.into()));
    let check = |origin: &str, host: &str, allowed: bool| {
        let request = RequestOrigin { host: Some(host), secure: None };
        assert_eq!(policy.check(Some(origin), &request).is_ok(), allowed, "{origin} {host}");
        assert_eq!(policy.policy.suggestion(origin), None);
    };
    check("http://localhost:4001", "localhost:4001", true);
    check("http://localhost:4001", "LOCALHOST:4001", true);
    check("http://[::1]:4001", "[0:0:0::1]:4001", true);
    check("https://office.example", "office.example", true);
    check("http://192.0.2.7:4001", "192.0.2.7:4001", true);
    check("http://[2001:db8::7]:4001", "[2001:db8::7]:4001", true);
    check("http://192.0.2.7:4001", "192.0.2.8:4001", false);
    check("http://192.0.2.7:4001", "localhost:4001", false);
    check("http://127.1:4001", "127.1:4001", false);
    check("http://192.0.2.7.evil.example", "192.0.2.7.evil.example", false);
    check("http://evil.example:4001", "evil.example:4001", false);
    check("http://localhost.", "localhost.", false);
    check("http://localhost:4000", "localhost:4001", false);
    check("http://localhost:4001", "[::1]:4001", false);
    check("null", "localhost", false);
}

#[test]
fn the_host_of_a_header_is_one_however_it_is_written() {
    let check = |value: &str, expected: Option<&str>| {
        assert_eq!(HostName::of_header(value), expected.map(|host| host.parse().unwrap()), "{value}");
    };
    check("Example.com:80", Some("example.com"));
    check("[2001:DB8:0::1]", Some("[2001:db8::1]"));
    for wrong in ["", ":80", "a:b", "a:1:2", "::1", "[::1", "a b", "a/b", "u@a"] {
        check(wrong, None);
    }
    let address = |host: &str| host.parse::<HostName>().unwrap().address();
    let loopback = Some(IpAddr::from([127, 0, 0, 1]));
    assert_eq!(["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"].map(address), [loopback; 3]);
    assert_eq!(address("[0::1]"), Some(Ipv6Addr::LOCALHOST.into()));
    for name in ["127.0.0.1.", "127.1", "0x7f000001", "2130706433", "localhost"] {
        assert_eq!(address(name), None, "{name}");
    }
    assert_eq!(HostName::from(IpAddr::from([127, 0, 0, 1])), "127.0.0.1".parse().unwrap());
    assert_eq!(HostName::from(IpAddr::from(Ipv6Addr::LOCALHOST)), "[::1]".parse().unwrap());
}
