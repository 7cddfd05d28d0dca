//! Who gets in, and who stays out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fake::{NOON, PASSWORD, Visitor, browser_headers, cookie_of, field, header, text};
use hailer::admin::Config;
use hailer::auth::connect::Secret;
use hailer::auth::password;
use hailer::desk::Records;
use hailer::http::{Method, Status};

const MINUTE: u64 = 60_000;

/// Every page, and what every form asks for.
const GETS: [&str; 9] = [
    "/admin",
    "/admin/compose",
    "/admin/messages",
    "/admin/messages/m-1",
    "/admin/messages/m-1/resend",
    "/admin/connections",
    "/admin/connections/disconnect",
    "/admin/audit",
    "/admin/account",
];
const POSTS: [&str; 9] = [
    "/admin/sign-out",
    "/admin/compose/preview",
    "/admin/compose/edit",
    "/admin/compose/send",
    "/admin/messages/m-1/retract",
    "/admin/messages/m-1/cancel",
    "/admin/connections/disconnect",
    "/admin/audit/export",
    "/admin/account/password",
];

#[track_caller]
fn assert_leads_to_sign_in(visitor: &Visitor) {
    let reply = visitor.get("/admin/compose");
    assert_eq!(reply.status, Status::SeeOther);
    assert_eq!(header(&reply, "location"), Some("/admin/sign-in?next=/admin/compose"));
}

#[test]
fn nothing_is_shown_or_done_without_a_session() {
    let visitor = Visitor::new(Config::default());
    for address in GETS {
        let reply = visitor.get(address);
        assert_eq!(reply.status, Status::SeeOther, "{address}");
        assert!(header(&reply, "location").unwrap().starts_with("/admin/sign-in"), "{address}");
    }
    for address in POSTS {
        let reply = visitor.post_plain(address, &[("csrf", "")]);
        assert_eq!(header(&reply, "location"), Some("/admin/sign-in?ended=1"), "{address}");
    }
    assert!(visitor.fake.audit.lock().unwrap().is_empty());
}

#[test]
fn a_password_opens_a_session_and_signing_out_ends_it() {
    let mut visitor = Visitor::new(Config::default());
    let page = visitor.page("/admin/sign-in?next=/admin/audit");
    assert_eq!(field(&page, "next"), "/admin/audit");
    let fields = [("name", "ada"), ("password", PASSWORD), ("next", "/admin/audit")];
    let reply = visitor.post_plain("/admin/sign-in", &fields);
    assert_eq!((reply.status, header(&reply, "location")), (Status::SeeOther, Some("/admin/audit")));
    let cookie = header(&reply, "set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    visitor.cookie = Some(cookie_of(&reply));
    assert!(visitor.page("/admin/audit").contains("sign_in"));

    let reply = visitor.post("/admin/sign-out", &[]);
    assert_eq!(header(&reply, "location"), Some("/admin/sign-in"));
    assert_eq!(header(&reply, "set-cookie"), Some("hailer=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
    assert_leads_to_sign_in(&visitor);
    assert_eq!(visitor.fake.actions(), ["staff:ada sign_in", "staff:ada sign_out"]);
    let closed = visitor.closed.lock().unwrap();
    assert!(closed.len() == 1 && closed[0].starts_with("admin_session:"), "{closed:?}");
}

#[test]
fn behind_tls_the_cookie_is_bound_to_the_host_and_pages_are_https() {
    let mut visitor = Visitor::new(Config { tls: true, ..Config::default() });
    assert_eq!(visitor.sign_in().status, Status::Forbidden, "an http page");
    visitor.headers[1].1 = "https://127.0.0.1:4001".to_owned();
    let reply = visitor.sign_in();
    let cookie = header(&reply, "set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-hailer="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    visitor.page("/admin/compose");
    visitor.cookie = visitor.cookie.map(|cookie| cookie.replace("__Host-hailer", "hailer"));
    assert_leads_to_sign_in(&visitor);
}

#[test]
fn after_signing_in_the_way_leads_to_a_page_of_ours_alone() {
    let bad = [
        "https://evil.example",
        "//evil.example",
        "/admin//evil.example",
        "/admin/\\evil",
        "/other",
        "/admin/x\r\n",
    ];
    for next in bad {
        let visitor = Visitor::new(Config::default());
        let fields = [("name", "ada"), ("password", PASSWORD), ("next", next)];
        let reply = visitor.post_plain("/admin/sign-in", &fields);
        assert_eq!(header(&reply, "location"), Some("/admin/compose"), "{next}");
    }
}

#[test]
fn wrong_names_and_wrong_passwords_are_answered_alike_and_written_down() {
    let visitor = Visitor::new(Config::default());
    visitor.add_staff("grace");
    visitor.fake.staff.lock().unwrap().get_mut("grace").unwrap().disabled = true;
    let answers: Vec<String> = [("ada", "wrong"), ("grace", PASSWORD), ("hunter2 typed here", PASSWORD)]
        .into_iter()
        .map(|(name, password)| {
            let reply = visitor.post_plain("/admin/sign-in", &[("name", name), ("password", password)]);
            assert_eq!(reply.status, Status::UnprocessableContent);
            assert_eq!(header(&reply, "set-cookie"), None);
            text(&reply).replace(name, "NAME")
        })
        .collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(!answers[0].contains("wrong\""), "the password does not come back");
    let refused = ["staff:ada", "staff:grace", "local:unknown"].map(|who| format!("{who} sign_in_refused"));
    assert_eq!(visitor.fake.actions(), refused);
    let audit = format!("{:?}", visitor.fake.audit.lock().unwrap());
    assert!(!audit.contains("hunter2") && !audit.contains(PASSWORD), "{audit}");
}

#[test]
fn guessing_has_to_wait_longer_and_longer_and_the_wait_ends() {
    let mut visitor = Visitor::new(Config::default());
    for name in ["ada", "nobody"] {
        for _ in 0..5 {
            let reply = visitor.post_plain("/admin/sign-in", &[("name", name), ("password", "wrong")]);
            assert_eq!(reply.status, Status::UnprocessableContent);
        }
        let reply = visitor.post_plain("/admin/sign-in", &[("name", name), ("password", PASSWORD)]);
        assert_eq!(reply.status, Status::TooManyRequests, "{name}: even the right one");
        assert_eq!(header(&reply, "retry-after"), Some("60"));
        assert!(text(&reply).contains("60 seconds"), "{}", text(&reply));
        assert_eq!(visitor.last_audit().action, "locked");
    }
    visitor.at += MINUTE;
    let reply = visitor.post_plain("/admin/sign-in", &[("name", "ada"), ("password", "wrong")]);
    assert_eq!(reply.status, Status::UnprocessableContent);
    let reply = visitor.post_plain("/admin/sign-in", &[("name", "ada"), ("password", PASSWORD)]);
    assert_eq!(header(&reply, "retry-after"), Some("120"));
    visitor.at += 2 * MINUTE;
    assert_eq!(visitor.sign_in().status, Status::SeeOther);
    visitor.page("/admin/compose");
}

#[test]
fn an_address_that_guesses_names_has_to_wait() {
    let mut visitor = Visitor::new(Config::default());
    for n in 0..20 {
        visitor.post_plain("/admin/sign-in", &[("name", &format!("name{n}")), ("password", "x")]);
    }
    assert_eq!(visitor.sign_in().status, Status::TooManyRequests);
    let reply = visitor.post_plain("/admin/welcome", &[("token", "x")]);
    assert_eq!(reply.status, Status::TooManyRequests);
    visitor.peer = [192, 0, 2, 1].into();
    assert_eq!(visitor.sign_in().status, Status::SeeOther);
}

#[test]
fn a_session_ends_by_itself() {
    let config = Config {
        session_idle: Duration::from_secs(30 * 60),
        session_lifetime: Duration::from_secs(2 * 60 * 60),
        ..Config::default()
    };
    let mut visitor = Visitor::inside(config);
    for _ in 0..4 {
        visitor.at += 29 * MINUTE;
        visitor.page("/admin/account");
    }
    visitor.at += 4 * MINUTE;
    assert_leads_to_sign_in(&visitor);
    visitor.enter();
    visitor.at += 30 * MINUTE;
    assert_leads_to_sign_in(&visitor);
    visitor.admin.expire(visitor.at);
    assert_eq!(visitor.closed.lock().unwrap().len(), 2, "live sockets are closed");
}

#[test]
fn a_session_ends_with_its_account() {
    let spoil: [fn(&Visitor); 3] = [
        |visitor| visitor.fake.staff.lock().unwrap().get_mut("ada").unwrap().disabled = true,
        |visitor| drop(visitor.fake.staff.lock().unwrap().remove("ada")),
        |visitor| {
            let hash = password::hash(&Secret::new("another password"), [2; 16]);
            visitor.fake.set_staff_password("ada", &hash, NOON).unwrap();
        },
    ];
    for spoil in spoil {
        let mut visitor = Visitor::new(Config::default());
        visitor.sign_in();
        visitor.page("/admin/compose");
        visitor.admin.expire(visitor.at);
        assert!(visitor.closed.lock().unwrap().is_empty());
        spoil(&visitor);
        visitor.fake.store_is_away.store(true, Ordering::Relaxed);
        visitor.admin.expire(visitor.at);
        assert_eq!(visitor.get("/admin/compose").status, Status::ServiceUnavailable);
        assert!(visitor.closed.lock().unwrap().is_empty(), "a store that is away says nothing");
        visitor.fake.store_is_away.store(false, Ordering::Relaxed);
        visitor.admin.expire(visitor.at);
        assert_eq!(visitor.closed.lock().unwrap().len(), 1);
        assert_leads_to_sign_in(&visitor);
    }
}

#[test]
fn a_session_is_never_taken_over_from_what_a_browser_brings() {
    let mut visitor = Visitor::new(Config::default());
    visitor.cookie = Some("hailer=chosen-by-somebody-else".to_owned());
    let fixed = visitor.cookie.clone();
    visitor.sign_in();
    let first = visitor.cookie.clone();
    assert_ne!(first, fixed);
    visitor.cookie = fixed;
    assert_leads_to_sign_in(&visitor);
    // Signing in again ends the session at hand.
    visitor.cookie = first.clone();
    visitor.sign_in();
    assert_ne!(visitor.cookie, first);
    visitor.page("/admin/compose");
    visitor.cookie = first;
    assert_leads_to_sign_in(&visitor);
}

#[test]
fn two_cookies_of_our_name_are_none() {
    let mut visitor = Visitor::inside(Config::default());
    let good = visitor.cookie.clone().unwrap();
    for spoiled in [format!("{good}; hailer=x"), format!("hailer=x; {good}"), format!("{good}; {good}")] {
        visitor.cookie = Some(spoiled);
        assert_leads_to_sign_in(&visitor);
    }
    visitor.cookie = Some(good);
    visitor.page("/admin/compose");
}

#[test]
fn a_one_time_link_is_good_once() {
    let visitor = Visitor::new(Config::default());
    let link = visitor.admin.one_time_link(NOON);
    let token = link.strip_prefix("/admin/welcome#").unwrap();
    assert_eq!(token.len(), 43);
    let page = visitor.page("/admin/welcome");
    assert!(!page.contains(token) && page.contains("/admin/welcome.js"));
    let reply = visitor.post_plain("/admin/welcome", &[("token", "wrong")]);
    assert_eq!((reply.status, header(&reply, "set-cookie")), (Status::UnprocessableContent, None));
    let reply = visitor.post_plain("/admin/welcome", &[("token", token)]);
    assert_eq!((reply.status, header(&reply, "location")), (Status::SeeOther, Some("/admin/compose")));
    let reply = visitor.post_plain("/admin/welcome", &[("token", token)]);
    assert_eq!((reply.status, header(&reply, "set-cookie")), (Status::UnprocessableContent, None));
    let refused = "local:unknown sign_in_refused";
    assert_eq!(visitor.fake.actions(), [refused, "staff:demo sign_in", refused]);
    assert!(!format!("{:?}", visitor.fake.audit.lock().unwrap()).contains(token));
}

#[test]
fn a_one_time_link_runs_out() {
    let mut visitor = Visitor::new(Config::default());
    let link = visitor.admin.one_time_link(NOON);
    visitor.at += 15 * MINUTE;
    let token = link.split_once('#').unwrap().1.to_owned();
    let reply = visitor.post_plain("/admin/welcome", &[("token", &token)]);
    assert_eq!(reply.status, Status::UnprocessableContent);
}

#[test]
fn a_cookie_of_another_application_costs_no_session_whatever_its_bytes() {
    let mut visitor = Visitor::inside(Config::default());
    let neighbours: [&[u8]; 4] =
        [b"town=Z\xfcrich", b"n=\x93\x8c\x8b\x9e", b"\xff", b"hailer\xe9=x; xhailer=y"];
    for neighbour in neighbours {
        visitor.neighbour = neighbour.to_vec();
        visitor.page("/admin/messages");
        let csrf = visitor.csrf();
        assert_eq!(visitor.post_plain("/admin/compose/edit", &[("csrf", &csrf)]).status, Status::Ok);
    }
    visitor.neighbour = b"hailer=\xff".to_vec();
    assert_eq!(visitor.get("/admin/messages").status, Status::SeeOther, "of two of our name none counts");
}

/// Spoils the fields of a good POST.
fn without(name: &str) -> Vec<(String, String)> {
    browser_headers().into_iter().filter(|(known, _)| known != name).collect()
}

fn with(name: &str, value: &str) -> Vec<(String, String)> {
    let mut headers = without(name);
    headers.push((name.to_owned(), value.to_owned()));
    headers
}

#[test]
fn forms_of_other_sites_are_refused() {
    let mut visitor = Visitor::inside(Config::default());
    let csrf = visitor.csrf();
    let mut twice = browser_headers();
    twice.push(("origin".to_owned(), "http://127.0.0.1:4001".to_owned()));
    let mut silent = without("origin");
    silent.retain(|(name, _)| name != "sec-fetch-site");
    let refused = [
        with("origin", "http://evil.example"),
        with("origin", "https://127.0.0.1:4001"),
        with("origin", "http://127.0.0.1"),
        with("origin", "http://127.0.0.1:4001.evil.example"),
        with("origin", "null"),
        with("origin", ""),
        with("sec-fetch-site", "cross-site"),
        with("sec-fetch-site", "same-site"),
        with("sec-fetch-site", "none"),
        with("host", ""),
        without("host"),
        twice,
        silent,
    ];
    for headers in refused {
        visitor.headers = headers;
        for address in POSTS.iter().chain(&["/admin/sign-in", "/admin/welcome"]) {
            let reply = visitor.post_plain(address, &[("csrf", &csrf)]);
            assert_eq!(reply.status, Status::Forbidden, "{address} {:?}", visitor.headers);
        }
    }
    assert_eq!(visitor.fake.actions(), ["staff:demo sign_in"]);
    // Older browsers say nothing of the site, and some pages have no Origin that is shown.
    for headers in [without("sec-fetch-site"), without("origin"), with("host", "127.0.0.1:4001")] {
        visitor.headers = headers;
        assert_eq!(visitor.post_plain("/admin/compose/edit", &[("csrf", &csrf)]).status, Status::Ok);
    }
}

#[test]
fn forms_without_the_session_s_token_are_refused() {
    let mut visitor = Visitor::inside(Config::default());
    let own = visitor.csrf();
    let first = visitor.cookie.clone();
    visitor.cookie = None;
    visitor.enter();
    let other = visitor.csrf();
    assert_ne!(own, other, "each session has its own");
    visitor.cookie = first;
    for address in POSTS {
        for token in ["", "x", &other, &own[..own.len() - 1]] {
            let reply = visitor.post_plain(address, &[("csrf", token)]);
            assert_eq!(reply.status, Status::Forbidden, "{address} {token}");
        }
        assert_eq!(visitor.post_plain(address, &[]).status, Status::Forbidden, "{address}");
    }
    assert!(visitor.fake.published.lock().unwrap().is_empty());
}

#[test]
fn only_forms_of_a_bearable_size_are_read() {
    let mut visitor = Visitor::inside(Config::default());
    let csrf = visitor.csrf();
    for media_type in ["text/plain", "multipart/form-data; boundary=x", "application/json", ""] {
        visitor.headers = with("content-type", media_type);
        let reply = visitor.post_plain("/admin/compose/edit", &[("csrf", &csrf)]);
        assert_eq!(reply.status, Status::UnsupportedMediaType, "{media_type}");
    }
    visitor.headers = with("content-type", "Application/X-WWW-Form-Urlencoded; charset=UTF-8");
    assert_eq!(visitor.post_plain("/admin/compose/edit", &[("csrf", &csrf)]).status, Status::Ok);
    let large = "x".repeat(64 * 1024);
    let reply = visitor.post_plain("/admin/compose/edit", &[("csrf", &csrf), ("body", &large)]);
    assert_eq!(reply.status, Status::ContentTooLarge);
    for body in ["csrf=%", &format!("csrf={csrf}&csrf={csrf}"), "csrf=%ff"] {
        assert_eq!(visitor.post_body("/admin/compose/edit", body).status, Status::BadRequest, "{body}");
    }
}

#[test]
fn methods_are_those_of_the_place_and_gets_change_nothing() {
    let visitor = Visitor::inside(Config::default());
    visitor.send(&[]);
    let before = visitor.fake.actions();
    for address in GETS.iter().chain(&["/admin/sign-in", "/admin/welcome", "/admin/app.js"]) {
        assert_ne!(visitor.get(address).status, Status::MethodNotAllowed, "{address}");
        assert_ne!(visitor.method(Method::Head, address).status, Status::MethodNotAllowed, "{address}");
        for method in [Method::Put, Method::Delete, Method::Options, Method::Patch, Method::Trace] {
            let reply = visitor.method(method, address);
            assert_eq!(reply.status, Status::MethodNotAllowed, "{address}");
            assert!(header(&reply, "allow").unwrap().starts_with("GET, HEAD"), "{address}");
        }
    }
    for address in POSTS.iter().filter(|address| !address.ends_with("/disconnect")) {
        let reply = visitor.get(address);
        assert_eq!(
            (reply.status, header(&reply, "allow")),
            (Status::MethodNotAllowed, Some("POST")),
            "{address}"
        );
    }
    assert_eq!(visitor.fake.actions(), before);
    assert_eq!(visitor.fake.published.lock().unwrap().len(), 1);
}

#[test]
fn what_can_not_be_written_down_is_not_done() {
    let mut visitor = Visitor::new(Config::default());
    visitor.fake.log_is_full.store(true, Ordering::Relaxed);
    assert_eq!(visitor.sign_in().status, Status::ServiceUnavailable);
    assert_eq!(
        visitor.post_plain("/admin/sign-in", &[("name", "x"), ("password", "y")]).status,
        Status::ServiceUnavailable
    );
    visitor.fake.log_is_full.store(false, Ordering::Relaxed);
    visitor.sign_in();
    visitor.send(&[]);
    visitor.fake.log_is_full.store(true, Ordering::Relaxed);
    assert_eq!(visitor.send(&[]).status, Status::ServiceUnavailable);
    for (path, fields) in [
        ("/admin/messages/m-1/retract", vec![]),
        ("/admin/connections/disconnect", vec![("who", "user"), ("id", "7"), ("mode", "back")]),
        ("/admin/audit/export", vec![]),
        ("/admin/sign-out", vec![]),
        (
            "/admin/account/password",
            vec![("old", PASSWORD), ("new", "a better password"), ("again", "a better password")],
        ),
    ] {
        assert_eq!(visitor.post(path, &fields).status, Status::ServiceUnavailable, "{path}");
    }
    assert_eq!(visitor.fake.published.lock().unwrap().len(), 1);
    assert!(visitor.fake.disconnects.lock().unwrap().is_empty());
    assert!(visitor.fake.messages.lock().unwrap()[0].ended_at.is_none());
    visitor.page("/admin/account");
}

#[test]
fn changing_the_password_asks_for_the_old_one_and_signs_others_out() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let elsewhere = visitor.cookie.clone();
    visitor.cookie = None;
    visitor.sign_in();
    let before = visitor.cookie.clone();
    let new = "a better password";
    for (old, new, again, words) in [
        ("wrong", new, new, "present password is wrong"),
        (PASSWORD, new, "other", "in two ways"),
        (PASSWORD, "short", "short", "at least 12"),
        ("", new, new, "present password is wrong"),
    ] {
        let reply = visitor.post("/admin/account/password", &[("old", old), ("new", new), ("again", again)]);
        assert_eq!(reply.status, Status::UnprocessableContent);
        assert!(text(&reply).contains(words), "{words}");
    }
    let reply = visitor.post("/admin/account/password", &[("old", PASSWORD), ("new", new), ("again", new)]);
    assert_eq!(header(&reply, "location"), Some("/admin/account?changed=1"));
    visitor.cookie = Some(cookie_of(&reply));
    assert!(visitor.page("/admin/account?changed=1").contains("is changed"));
    for old in [elsewhere, before] {
        visitor.cookie = old;
        assert_leads_to_sign_in(&visitor);
    }
    assert_eq!(visitor.closed.lock().unwrap().len(), 2);
    assert_eq!(visitor.sign_in().status, Status::UnprocessableContent, "the old password");
    let reply = visitor.post_plain("/admin/sign-in", &[("name", "ada"), ("password", new)]);
    assert_eq!(reply.status, Status::SeeOther);
    let audit = format!("{:?}", visitor.fake.audit.lock().unwrap());
    assert!(audit.contains("password_refused") && !audit.contains(new), "{audit}");
}

#[test]
fn an_open_session_is_no_way_to_guess_its_password() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let fields = [("old", "guess"), ("new", "a better password"), ("again", "a better password")];
    for _ in 0..5 {
        assert_eq!(visitor.post("/admin/account/password", &fields).status, Status::UnprocessableContent);
    }
    assert_eq!(visitor.post("/admin/account/password", &fields).status, Status::TooManyRequests);
}

#[test]
fn secrets_are_not_shown_by_debug() {
    let visitor = Visitor::inside(Config::default());
    let secret = visitor.cookie.clone().unwrap().replace("hailer=", "");
    let shown = format!("{:?}", visitor.admin);
    assert!(!shown.contains(&secret) && shown.starts_with("Admin"), "{shown}");
}
