//! Names that are not ours (DNS rebinding), and pages that are not ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::world::{PASSWORD, World};
use crate::support::Peer;

const HOSTS: &str = "[api]\nhosts = [\"office.example\", \"2001:db8::1\", \"192.0.2.7\"]\n";

fn world() -> World {
    World::start_with(HOSTS, &["--log-level", "debug"], |folder| {
        World::staff(folder, &["add", "ada"], PASSWORD);
    })
}

#[test]
fn by_a_foreign_name_nothing_is_had_but_health() {
    let world = world();
    let cookie = world.sign_in("ada", PASSWORD);
    let port = world.api.port();
    let paths = [
        "/",
        "/admin",
        "/admin/sign-in",
        "/admin/compose",
        "/admin/app.js",
        "/api/v1/openapi.json",
        "/api/v1/topics",
        "/metrics",
        "/nowhere",
        "/live/x",
        "//admin//compose",
        "//metrics",
        "/x//live",
    ];
    let foreign = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "localhost.evil.example".to_owned(),
        "127.0.0.1.evil.example".to_owned(),
        "evil-localhost".to_owned(),
        "sub.office.example".to_owned(),
        "localhost.".to_owned(),
        "127.0.0.2".to_owned(),
        "127.1".to_owned(),
        "0x7f000001".to_owned(),
        "2130706433".to_owned(),
        format!("0.0.0.0:{port}"),
        format!("[::2]:{port}"),
        "[::ffff:127.0.0.1]".to_owned(),
    ];
    for host in &foreign {
        for path in paths {
            let response = world.ask("GET", path, &[("host", host), ("cookie", &cookie)], "");
            assert_eq!(response.status, 421, "{host} {path}: {response:?}");
            assert_eq!(response.field("set-cookie"), None);
        }
        for path in ["/live", "/ready", "//live", "/ready/"] {
            assert_eq!(world.ask("GET", path, &[("host", host)], "").status, 200, "{host} {path}");
        }
    }
    // What is no host at all is no request.
    for host in
        ["", "localhost:", "localhost:x", "localhost:1:2", "a@localhost", "localhost/x", "[::1", "::1"]
    {
        let status = world.ask("GET", "/metrics", &[("host", host)], "").status;
        assert!([400, 421].contains(&status), "{host:?}: {status}");
    }
}

/// A browser takes an address that begins with two slashes for another host's.
#[test]
fn a_path_that_reads_as_a_host_is_redirected_to_no_host() {
    let world = world();
    for path in [
        "//",
        "//admin",
        "//admin//",
        "//admin//messages",
        "//admin//evil.example",
        "//evil.example",
        "//evil.example/admin",
        "///evil.example/",
        "/\\evil.example/",
        "//admin/sign-in?next=//evil.example",
        "/admin//sign-in?next=/admin//evil.example",
    ] {
        let response = world.ask("GET", path, &[], "");
        assert!([200, 303, 404].contains(&response.status), "{path}: {response:?}");
        if let Some(location) = response.field("location") {
            let is_ours = location == "/admin" || location.starts_with("/admin/");
            assert!(is_ours && !location.contains("//"), "{path}: {location}");
        }
    }
    // Who is not let in is not let in by another spelling.
    for path in ["//admin//messages", "/admin//audit/", "//api//v1//topics", "/api/v1//history/"] {
        let status = world.ask("GET", path, &[], "").status;
        assert!([303, 401].contains(&status), "{path}: {status}");
    }
}

#[test]
fn our_own_names_are_known_however_they_are_written() {
    let world = world();
    let port = world.api.port();
    let own = [
        format!("127.0.0.1:{port}"),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
        "LocalHost:80".to_owned(),
        "[::1]".to_owned(),
        "[0:0:0:0:0:0:0:1]:4001".to_owned(),
        "office.example".to_owned(),
        "OFFICE.EXAMPLE:443".to_owned(),
        "[2001:db8::1]".to_owned(),
        "[2001:DB8:0::1]:8443".to_owned(),
        "192.0.2.7:4001".to_owned(),
    ];
    for host in &own {
        assert_eq!(world.ask("GET", "/metrics", &[("host", host)], "").status, 200, "{host}");
    }
}

#[test]
fn a_request_with_two_names_is_none() {
    let world = world();
    let check = |request: &str, status: u16| {
        let mut peer = Peer::connect(world.api);
        peer.send(request.as_bytes());
        assert_eq!(peer.response().status, status, "{request}");
        if status == 400 {
            peer.expect_end();
        }
    };
    check("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400);
    check("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400);
    check("GET /metrics HTTP/1.1\r\n\r\n", 400);
    check("GET /metrics HTTP/1.0\r\n\r\n", 421);
    check("GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400);
    check("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
    check("GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421);
    check("GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
    check("GET /metrics HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n", 421);
    check("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n\r\n", 200);
}

#[test]
fn the_socket_is_for_pages_of_our_own_names() {
    let world = world();
    let cookie = world.sign_in("ada", PASSWORD);
    let own = world.api.to_string();
    let status = |host: &str, origin: Option<&str>, cookie: &str| {
        let mut headers = vec![("host", host), ("cookie", cookie)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let (web_socket, _) = world.socket(&headers);
        let poll = world.ask("GET", "/admin/socket/longpoll?vsn=2.0.0", &headers, "");
        // Long-poll says in its body what came of it.
        let opened = poll.body.contains("\"token\"");
        assert_eq!(opened, web_socket == 101, "{host} {origin:?}: {poll:?}");
        web_socket
    };
    let page = format!("http://{own}");
    assert_eq!(status(&own, Some(&page), &cookie), 101);
    assert_eq!(status("office.example", Some("https://office.example"), &cookie), 101);
    assert_eq!(status("[2001:db8::1]:8443", Some("https://[2001:db8::1]:8443"), &cookie), 101);
    // A page whose name leads here (DNS rebinding) says that it is of the host that it asks.
    assert_eq!(status("evil.example:4001", Some("http://evil.example:4001"), &cookie), 403);
    assert_eq!(status("localhost.evil.example", Some("http://localhost.evil.example"), &cookie), 403);
    // Pages of other origins, among them those of other ports of this machine, for which cookies are the same.
    assert_eq!(status(&own, Some("http://127.0.0.1:1"), &cookie), 403);
    assert_eq!(status(&own, Some("http://localhost"), &cookie), 403);
    assert_eq!(status(&own, Some("https://office.example"), &cookie), 403);
    assert_eq!(status(&own, Some("null"), &cookie), 403);
    assert_eq!(status(&own, None, &cookie), 403);
    // Without a session.
    assert_eq!(status(&own, Some(&page), ""), 403);
    assert_eq!(status(&own, Some(&page), &format!("{cookie}x")), 403);
    assert_eq!(status(&own, Some(&page), &format!("{cookie}; {cookie}")), 403);
    // Whoever reads the log is not told to let strangers in to the clients' listener.
    world.hailer.log_line("origin not allowed");
    assert!(!world.hailer.log().join("\n").contains("to let it in"), "{:#?}", world.hailer.log());
}

/// A server whose API listens on all addresses, asked at one that is not in its configuration.
fn everywhere(listen: IpAddr, asked: IpAddr) -> World {
    let listen = std::net::SocketAddr::new(listen, 0).to_string();
    let mut world = World::start_at(&listen, |folder| World::staff(folder, &["add", "ada"], PASSWORD));
    world.api.set_ip(asked);
    world
}

/// An address of this machine as a pod has one: another after each deployment.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));

#[test]
fn prometheus_gets_metrics_by_the_address_that_it_has_connected_to() {
    for listen in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        let world = everywhere(listen, POD);
        let port = world.api.port();
        let check = |host: &str, status: u16| {
            for path in ["/metrics", "/api/v1/openapi.json", "/admin/sign-in"] {
                let response = world.ask("GET", path, &[("host", host)], "");
                assert_eq!(response.status, status, "{listen} {host} {path}: {response:?}");
            }
        };
        for own in ["127.0.0.5", "127.0.0.5:80", "127.0.0.5:443", "[::ffff:127.0.0.5]", "[::FFFF:7f00:5]"] {
            check(own, 200);
        }
        check(&format!("127.0.0.5:{port}"), 200);
        check(&format!("[::ffff:127.0.0.5]:{port}"), 200);
        // Addresses of this machine as well, but not those that the connection came to; other ways to write it, which no
        // browser sends; and names.
        for foreign in [
            "127.0.0.6",
            "127.5",
            "0x7f000005",
            "2130706437",
            "127.0.0.5.",
            "127.0.0.5.evil.example",
            "evil.example",
            "[::5]",
            "[::127.0.0.5]",
        ] {
            check(foreign, 421);
        }
        // Each request is looked at, also on a connection whose first was good.
        let mut peer = Peer::connect(world.api);
        for (host, status) in [("127.0.0.5", 200), ("evil.example", 421), ("127.0.0.5", 200)] {
            peer.send(&world.request("GET", "/metrics", &[("host", host)], ""));
            assert_eq!(peer.response().status, status, "{host}");
        }
    }
}

#[test]
fn metrics_are_had_by_an_address_of_ipv6() {
    let world = everywhere(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into());
    let port = world.api.port();
    for (host, status) in [
        (format!("[::1]:{port}"), 200),
        ("[::1]".to_owned(), 200),
        ("[0:0:0:0:0:0:0:1]:9".to_owned(), 200),
        ("127.0.0.5".to_owned(), 421),
        ("[::2]".to_owned(), 421),
    ] {
        assert_eq!(world.ask("GET", "/metrics", &[("host", &host)], "").status, status, "{host}");
    }
}

#[test]
fn the_back_office_works_by_the_address_that_was_connected_to() {
    let world = everywhere(Ipv4Addr::UNSPECIFIED.into(), POD);
    let cookie = world.sign_in("ada", PASSWORD);
    assert!(world.is_in(&cookie));
    let (own, page) = (world.api.to_string(), format!("http://{}", world.api));
    let status = |host: &str, origin: &str, cookie: &str| {
        world.socket(&[("host", host), ("origin", origin), ("cookie", cookie)]).0
    };
    assert_eq!(status(&own, &page, &cookie), 101);
    assert_eq!(status(&own, "http://127.0.0.6", &cookie), 403);
    assert_eq!(status(&own, "http://evil.example", &cookie), 403);
    assert_eq!(status("evil.example", "http://evil.example", &cookie), 403);
    assert_eq!(status(&own, &page, ""), 403);
}
