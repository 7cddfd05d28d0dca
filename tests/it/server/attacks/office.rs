//! The back office: guesses, stolen and forged cookies, forms of other sites, and text that would like to be markup.

use serde_json::json;

use super::world::{KEY, PASSWORD, SECRET, World, cookie_of, hidden};
use crate::support::{Hailer, Peer, eventually};

const OTHER: &str = "M4rked battery staple";

fn world(config: &str) -> World {
    World::start_with(config, &[], |folder| {
        World::staff(folder, &["add", "ada"], PASSWORD);
        World::staff(folder, &["add", "grace"], PASSWORD);
    })
}

#[test]
fn an_account_is_guessed_at_five_times_and_then_waits_longer_each_time() {
    let world = world("");
    // Names that nobody has are no different.
    for name in ["ada", "nobody"] {
        let answers: Vec<_> = (0..5).map(|n| world.try_sign_in(name, &format!("M4rked guess {n}"))).collect();
        for answer in &answers {
            assert_eq!((answer.status, answer.field("set-cookie")), (422, None), "{answer:?}");
            assert!(answer.body.contains("The name or the password is wrong."));
        }
        // The right password is no way out, nor is another address that a header claims.
        let locked = world.try_sign_in(name, PASSWORD);
        assert_eq!((locked.status, locked.field("set-cookie")), (429, None), "{locked:?}");
        let wait: u32 = locked.field("retry-after").expect("it says when").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
    }
    // Others at the same address still get in.
    let cookie = world.sign_in("grace", PASSWORD);
    let audit = world.page("/admin/audit", &cookie).body;
    for words in ["sign_in_refused", "wrong password", "unknown name", "locked"] {
        assert!(audit.contains(words), "{words}");
    }
    assert!(!audit.contains("M4rked") && !audit.contains("nobody"), "names of nobody may be passwords");
    world.hailer.log_line("too many failed sign-ins");
}

#[test]
fn an_address_is_refused_after_twenty_guesses_at_any_names() {
    let world = world("");
    let statuses: Vec<u16> =
        (0..22).map(|n| world.try_sign_in(&format!("name{n}"), PASSWORD).status).collect();
    assert_eq!((&statuses[..20], &statuses[20..]), (&[422; 20][..], &[429; 2][..]));
    assert_eq!(world.try_sign_in("ada", PASSWORD).status, 429);
    let link = world.post("/admin/welcome", "", &[("token", "guess")]);
    assert_eq!(link.status, 429, "{link:?}");
}

/// A live socket of the session that is in `admin:overview`.
fn live(world: &World, cookie: &str) -> Peer {
    let (status, mut peer) =
        world.socket(&[("origin", &format!("http://{}", world.api)), ("cookie", cookie)]);
    assert_eq!(status, 101);
    peer.send_text(r#"["1","1","admin:overview","phx_join",{}]"#);
    let reply = peer.message();
    assert_eq!(reply[4]["status"], "ok", "{reply}");
    peer
}

/// Reads to the close of a socket.
fn expect_closed(mut peer: Peer) {
    while let Some(frame) = peer.next_frame() {
        if frame.opcode == crate::support::peer::CLOSE {
            return;
        }
    }
}

#[test]
fn a_disabled_account_is_out_at_once_with_its_sockets() {
    let world = world("");
    let (ada, grace) = (world.sign_in("ada", PASSWORD), world.sign_in("grace", PASSWORD));
    let (hers, other) = (live(&world, &ada), live(&world, &grace));
    World::staff(&world.folder, &["disable", "ada"], "");
    // Nobody asks for anything: the server looks by itself.
    expect_closed(hers);
    assert!(!world.is_in(&ada) && world.is_in(&grace));
    assert_eq!(world.try_sign_in("ada", PASSWORD).status, 422);
    World::staff(&world.folder, &["enable", "ada"], "");
    assert!(!world.is_in(&ada), "a session that has ended is over");
    world.sign_in("ada", PASSWORD);
    drop(other);
}

#[test]
fn a_changed_password_ends_the_other_sessions() {
    let world = world("");
    let (here, there) = (world.sign_in("ada", PASSWORD), world.sign_in("ada", PASSWORD));
    let socket = live(&world, &there);
    let csrf = world.csrf(&here);
    let change = |old: &str, csrf: &str| {
        let fields = [("csrf", csrf), ("old", old), ("new", OTHER), ("again", OTHER)];
        world.post("/admin/account/password", &here, &fields)
    };
    assert_eq!(change("M4rked wrong one", &csrf).status, 422);
    assert_eq!(change(PASSWORD, "forged").status, 403);
    assert!(world.is_in(&there));
    let changed = change(PASSWORD, &csrf);
    assert_eq!(changed.status, 303, "{changed:?}");
    expect_closed(socket);
    let fresh = cookie_of(&changed);
    assert!(fresh != here && world.is_in(&fresh));
    assert!(!world.is_in(&here) && !world.is_in(&there));
    assert_eq!(world.try_sign_in("ada", PASSWORD).status, 422);
    // By the command on the server's machine as well.
    let session = world.sign_in("ada", OTHER);
    let socket = live(&world, &session);
    World::staff(&world.folder, &["password", "ada"], PASSWORD);
    expect_closed(socket);
    assert!(!world.is_in(&session) && !world.is_in(&fresh));
}

#[test]
fn a_restart_ends_all_sessions_and_keeps_what_was_sent() {
    let mut world = world("");
    let cookie = world.sign_in("ada", PASSWORD);
    world.done(
        "POST",
        "/api/v1/publish",
        r#"{"topic":"room:lobby","event":"e","payload":1,"durability":"disk"}"#,
    );
    world.hailer.stop();
    let folder = world.folder;
    let world = World::start_in(folder, &[]);
    assert!(!world.is_in(&cookie));
    world.sign_in("ada", PASSWORD);
    assert_eq!(world.published(), 1);
}

#[test]
fn a_session_is_nothing_that_a_browser_could_be_given() {
    let world = world("");
    for planted in ["hailer=planted", "hailer=", "hailer=%00", &format!("hailer={}", "A".repeat(43))] {
        assert!(!world.is_in(planted), "{planted}");
        let signed_in = world.post("/admin/sign-in", planted, &[("name", "ada"), ("password", PASSWORD)]);
        let cookie = cookie_of(&signed_in);
        assert!(cookie != planted && cookie.len() == "hailer=".len() + 43, "{cookie}");
        let field = signed_in.field("set-cookie").unwrap_or_default();
        assert!(field.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{field}");
        assert!(!world.is_in(planted) && world.is_in(&cookie));
        assert!(!world.is_in(&format!("{cookie}; {planted}")), "of two cookies none is ours");
        // Whoever signs in anew does not keep the old session.
        let again = world.post("/admin/sign-in", &cookie, &[("name", "ada"), ("password", PASSWORD)]);
        assert!(!world.is_in(&cookie) && world.is_in(&cookie_of(&again)));
    }
}

#[test]
fn behind_tls_cookies_are_bound_to_the_host() {
    let world = world("[api]\nhosts = [\"office.example\"]\n[admin]\ntls = true\n");
    let sign_in = |origin: &str| {
        let headers = [
            ("host", "office.example"),
            ("origin", origin),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        world.ask("POST", "/admin/sign-in", &headers, "name=ada&password=M4rked+correct+horse")
    };
    assert_eq!(sign_in("http://office.example").status, 403);
    let signed_in = sign_in("https://office.example");
    let field = signed_in.field("set-cookie").expect("it sets one");
    assert!(field.starts_with("__Host-hailer="), "{field}");
    assert!(field.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{field}");
    let cookie = cookie_of(&signed_in);
    assert!(world.is_in(&cookie));
    // A cookie that a page of another subdomain or without TLS could set.
    assert!(!world.is_in(cookie.trim_start_matches("__Host-")));
}

#[test]
fn forms_of_other_sites_do_nothing() {
    let world = world("");
    let cookie = world.sign_in("ada", PASSWORD);
    let csrf = world.csrf(&cookie);
    let own = format!("http://{}", world.api);
    let body = super::world::form(&[
        ("csrf", &csrf),
        ("to", "everyone"),
        ("severity", "info"),
        ("lifetime_unit", "none"),
        ("when", "now"),
        ("body", "forged"),
        ("nonce", "0123456789abcdef"),
    ]);
    let content = ("content-type", "application/x-www-form-urlencoded");
    let send = |headers: &[(&str, &str)], body: &str| {
        let headers = [&[("cookie", &*cookie)], headers].concat();
        world.ask("POST", "/admin/compose/send", &headers, body).status
    };
    for origin in [
        "http://evil.example",
        "null",
        "https://localhost",
        &format!("{own}.evil.example"),
        &format!("{own}/"),
        "",
    ] {
        assert_eq!(send(&[content, ("origin", origin)], &body), 403, "{origin}");
        // A browser that names the site, and says that it is another one.
        for site in ["cross-site", "same-site", "none"] {
            assert_eq!(send(&[content, ("origin", &own), ("sec-fetch-site", site)], &body), 403, "{site}");
        }
    }
    assert_eq!(send(&[content], &body), 403);
    assert_eq!(send(&[content, ("origin", &own), ("origin", &own)], &body), 403);
    for other in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
        assert_eq!(send(&[("content-type", other), ("origin", &own)], &body), 415, "{other}");
    }
    let csrf = &super::world::form(&[("csrf", &csrf)])["csrf=".len()..];
    let grace = world.csrf(&world.sign_in("grace", PASSWORD));
    let grace = &super::world::form(&[("csrf", &grace)])["csrf=".len()..];
    // The last is the token of somebody else's session.
    for forged in ["", &csrf[1..], &csrf.to_lowercase(), grace] {
        assert!(body.contains(csrf));
        assert_eq!(send(&[content, ("origin", &own)], &body.replace(csrf, forged)), 403, "{forged}");
    }
    assert_eq!(send(&[content, ("origin", &own)], &body.replace("csrf=", "x=")), 403);
    let doubled = format!("{body}&csrf={csrf}");
    assert_eq!(send(&[content, ("origin", &own)], &doubled), 400);
    // What is sent by a GET is nothing at all.
    assert_eq!(world.page(&format!("/admin/compose/send?{body}"), &cookie).status, 405);
    assert_eq!(world.published(), 0);
}

const MARKUP: &str = "'\"><script>alert(1)</script><img src=x onerror=alert(1)>&lt;b&gt;{{7*7}}";

#[test]
fn what_programs_and_users_are_called_is_text_on_every_page() {
    let world = world("");
    let cookie = world.sign_in("ada", PASSWORD);
    let mut customer = world.client(MARKUP);
    assert_eq!(customer.join("room:lobby")["status"], "ok");
    let payload = json!({
        "body": MARKUP, "title": MARKUP, "link": "javascript:alert(1)", "severity": "info\" onclick=\"x",
    });
    for (topic, payload) in [
        (MARKUP, payload),
        ("room:lobby", json!({"body": MARKUP, "title": MARKUP, "link": "javascript:alert(1)"})),
    ] {
        let message = json!({"topic": topic, "event": MARKUP, "payload": payload, "durability": "disk"});
        world.done("POST", "/api/v1/publish", &message.to_string());
    }
    let newest = world.done("GET", "/api/v1/history", "")["messages"].clone();
    let escaped: String = super::world::form(&[("x", MARKUP)])[2..].to_owned();
    let mut paths: Vec<String> = ["messages", "connections", "audit", "account", "compose"]
        .iter()
        .map(|page| format!("/admin/{page}"))
        .collect();
    for message in newest.as_array().unwrap() {
        paths.push(format!("/admin/messages/{}", message["id"].as_str().unwrap()));
    }
    for query in [
        "messages?text=",
        "messages?topic=",
        "connections?user=",
        "connections?topic=",
        "audit?actor=",
        "audit?action=",
        "compose?user=",
        "compose?topic=",
        "connections/disconnect?who=user&id=",
        "sign-in?next=",
    ] {
        paths.push(format!("/admin/{query}{escaped}"));
    }
    for path in paths {
        let page = world.page(&path, &cookie);
        assert!([200, 303].contains(&page.status), "{path}: {page:?}");
        for bad in ["<script>", "<img src=x", "onerror=alert(1)>", "href=\"javascript:"] {
            assert!(!page.body.contains(bad), "{bad} in {path}: {}", page.body);
        }
        let policy = page.field("content-security-policy").expect("there is a policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.field("x-frame-options"), Some("DENY"));
        assert_eq!(page.field("cache-control"), Some("no-store"));
    }
    assert!(world.page("/admin/connections", &cookie).body.contains("&lt;script&gt;"), "the user is shown");
}

#[test]
fn a_second_click_and_a_repeated_form_send_once() {
    let world = world("");
    let cookie = world.sign_in("ada", PASSWORD);
    let csrf = world.csrf(&cookie);
    let fields = [
        ("csrf", &*csrf),
        ("to", "everyone"),
        ("severity", "info"),
        ("lifetime_unit", "none"),
        ("when", "now"),
        ("body", "once"),
    ];
    let preview = world.post("/admin/compose/preview", &cookie, &fields);
    assert_eq!(preview.status, 200, "{preview:?}");
    let nonce = hidden(&preview.body, "nonce");
    let fields = [&fields[..], &[("nonce", &*nonce)]].concat();
    let request = world.form_request("/admin/compose/send", &cookie, &fields);
    let mut clicks: Vec<Peer> = (0..4).map(|_| Peer::connect(world.api)).collect();
    clicks.iter_mut().for_each(|click| click.send(&request));
    let place = |click: &mut Peer| {
        let answer = click.response();
        answer.field("location").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    };
    let places: Vec<String> = clicks.iter_mut().map(place).collect();
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    assert_eq!(world.published(), 1);
}

#[test]
fn what_is_not_ours_reaches_no_page_from_the_clients_listener() {
    let world = world("");
    let cookie = world.sign_in("ada", PASSWORD);
    let clients = world.hailer.address();
    for path in [
        "/metrics",
        "/live",
        "/ready",
        "/admin",
        "/admin/compose",
        "/api/v1/topics",
        "/api/v1/publish",
        "/admin/socket/websocket",
    ] {
        let mut peer = Peer::connect(clients);
        let headers = [("authorization", &*format!("Bearer {KEY}")), ("cookie", &*cookie)];
        peer.send(&world.request("GET", path, &headers, ""));
        assert_eq!(peer.response().status, 404, "{path}");
    }
    // And clients' tokens are nothing here.
    let token = super::super::users::token(SECRET, "ada", "id", super::super::users::unix_time(), 600);
    assert_eq!(world.call(&token, "GET", "/api/v1/topics", "").status, 401);
    assert!(!world.is_in(&format!("hailer={token}")));
    let (status, _) = world.socket(&[
        ("origin", &format!("http://{}", world.api)),
        ("authorization", &format!("Bearer {token}")),
    ]);
    assert_eq!(status, 403);
}

#[test]
fn beyond_this_machine_the_program_warns_of_what_can_be_read() {
    let folder = crate::support::Folder::new("attacks");
    folder.write("hailer.toml", "[api]\nlisten = \"0.0.0.0:0\"\n", 0o600);
    let checked =
        folder.hailer(&["check-config", "--config", "hailer.toml"]).env_remove("HAILER_API_LISTEN").output();
    let said = String::from_utf8(checked.expect("the program starts").stderr).expect("it is text");
    assert!(said.contains("api.listen: other machines reach this address without TLS"), "{said}");
    let mut serve = folder.hailer(&["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"]);
    serve.env_remove("HAILER_API_LISTEN");
    let hailer = Hailer::run(serve);
    eventually("the warning", || {
        let warned = |line: &String| line.contains("WARN") && line.contains("without TLS");
        hailer.log().iter().any(warned).then_some(())
    });
}
