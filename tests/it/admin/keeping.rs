//! What somebody has written is not lost with their session.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fake::{PASSWORD, Visitor, borrowed, field, header, hidden_fields, letter, text};
use hailer::admin::Config;
use hailer::http::{Method, Status};

const MINUTE: u64 = 60_000;
const WRITTEN: [(&str, &str); 6] = [
    ("author", "ada"),
    ("to", "user"),
    ("user", "42"),
    ("title", "Tea & cake"),
    ("body", "first line\r\n<second>"),
    ("link", "/x?a=b&c"),
];
const PATHS: [&str; 3] = ["/admin/compose/preview", "/admin/compose/edit", "/admin/compose/send"];

/// Somebody whose session as `ada` has ended.
fn signed_out() -> Visitor {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    visitor.at += 31 * MINUTE;
    visitor
}

/// The fields of the page to sign in on, with those that people type.
fn typed(page: &str, name: &str, password: &str) -> Vec<(String, String)> {
    let mut fields = hidden_fields(page);
    fields.extend([("name", name), ("password", password)].map(|(name, value)| (name.into(), value.into())));
    fields
}

#[track_caller]
fn assert_restored(page: &str) {
    for part in [
        r#"name="to" value="user" checked"#,
        r#"name="user" value="42""#,
        r#"name="title" value="Tea &amp; cake""#,
        "\nfirst line\n&lt;second&gt;</textarea>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains("<h1>Compose</h1>"), "{page}");
}

#[test]
fn a_text_is_not_lost_when_the_session_ends_while_writing() {
    for path in PATHS {
        let mut visitor = signed_out();
        let reply = visitor.post_plain(path, &letter(&WRITTEN));
        assert_eq!((reply.status, header(&reply, "location")), (Status::Forbidden, None), "{path}");
        let page = text(&reply);
        assert!(page.contains("sign in as ada to go on"), "{page}");
        assert!(page.contains("name=\"name\" value=\"ada\""), "{page}");
        // A wrong password loses nothing either.
        let reply = visitor.post_plain("/admin/sign-in", &borrowed(&typed(&page, "ada", "wrong")));
        assert_eq!(reply.status, Status::UnprocessableContent);
        let fields = typed(&text(&reply), "ada", PASSWORD);
        let reply = visitor.post_plain("/admin/sign-in", &borrowed(&fields));
        let address = "/admin/compose?restored=1";
        assert_eq!((reply.status, header(&reply, "location")), (Status::SeeOther, Some(address)));
        visitor.cookie = Some(super::fake::cookie_of(&reply));
        let page = visitor.page(address);
        assert_restored(&page);
        assert!(page.contains("Nothing is lost"), "{page}");
        assert_restored(&visitor.page(address));
        assert!(!visitor.page("/admin/compose").contains("Tea"), "the form is empty when it is asked for");
        assert!(visitor.fake.published.lock().unwrap().is_empty(), "{path}: nothing is sent by itself");
        assert!(
            !format!("{:?}", visitor.fake.audit.lock().unwrap()).contains("Tea"),
            "nothing is in the log"
        );
        // It is gone when it is sent.
        let preview = text(&visitor.post("/admin/compose/preview", &letter(&WRITTEN)));
        let reply = visitor.post_plain("/admin/compose/send", &borrowed(&hidden_fields(&preview)));
        assert_eq!(header(&reply, "location"), Some("/admin/messages/m-1"));
        assert!(!visitor.page(address).contains("Tea"));
    }
}

#[test]
fn the_preview_can_be_sent_to_the_sign_in_as_it_is() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let preview = text(&visitor.post("/admin/compose/preview", &letter(&WRITTEN)));
    visitor.at += 31 * MINUTE;
    let page = text(&visitor.post_plain("/admin/compose/send", &borrowed(&hidden_fields(&preview))));
    let reply = visitor.post_plain("/admin/sign-in", &borrowed(&typed(&page, "ada", PASSWORD)));
    visitor.cookie = Some(super::fake::cookie_of(&reply));
    assert_restored(&visitor.page(header(&reply, "location").unwrap()));
    assert!(visitor.fake.published.lock().unwrap().is_empty());
}

#[test]
fn a_text_that_was_written_by_way_of_a_one_time_link_goes_on_by_the_next_one() {
    let mut visitor = Visitor::inside(Config::default());
    let mut fields = letter(&WRITTEN);
    fields.retain(|(name, _)| *name != "author");
    fields.push(("author", "demo"));
    visitor.at += 31 * MINUTE;
    let page = text(&visitor.post_plain(PATHS[0], &fields));
    assert!(page.contains("prints a link") && !page.contains("name=\"password\""), "{page}");
    let answer = |page: &str, link: &str| {
        let mut fields = hidden_fields(page);
        fields.push(("token".to_owned(), link.to_owned()));
        visitor.post_plain("/admin/welcome", &borrowed(&fields))
    };
    let page = text(&answer(&page, "http://127.0.0.1:4001/admin/welcome#wrong"));
    assert!(page.contains("not good any more"), "{page}");
    let link = format!(" http://127.0.0.1:4001{} ", visitor.admin.one_time_link(visitor.at));
    let reply = answer(&page, &link);
    assert_eq!(header(&reply, "location"), Some("/admin/compose?restored=1"));
    visitor.cookie = Some(super::fake::cookie_of(&reply));
    assert_restored(&visitor.page("/admin/compose?restored=1"));
    assert!(!format!("{:?}", visitor.fake.audit.lock().unwrap()).contains("Tea"));
}

#[test]
fn another_account_does_not_get_the_text_of_the_first() {
    let mut visitor = signed_out();
    visitor.add_staff("grace");
    let page = text(&visitor.post_plain(PATHS[0], &letter(&WRITTEN)));
    let reply = visitor.post_plain("/admin/sign-in", &borrowed(&typed(&page, "grace", PASSWORD)));
    assert_eq!(header(&reply, "location"), Some("/admin/compose"));
    visitor.cookie = Some(super::fake::cookie_of(&reply));
    for address in ["/admin/compose", "/admin/compose?restored=1"] {
        assert!(!visitor.page(address).contains("Tea"), "{address}");
    }
    // A tab of the first that is still open: its form is taken for what it is.
    for path in PATHS {
        let reply = visitor.post_plain(path, &letter(&WRITTEN));
        assert_eq!(reply.status, Status::Forbidden);
        let page = text(&reply);
        assert!(page.contains("<h1>Sign in</h1>") && page.contains("sign in as ada"), "{page}");
        assert_eq!(field(&page, "title"), "Tea &amp; cake");
    }
    assert!(visitor.fake.published.lock().unwrap().is_empty());
}

#[test]
fn a_form_from_before_the_sign_in_is_shown_again_and_not_acted_on() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let mut fields = letter(&WRITTEN);
    let old = visitor.csrf();
    fields.extend([("csrf", old.as_str()), ("nonce", "abcdef")]);
    // Signed in again, in another tab.
    visitor.sign_in();
    for path in PATHS {
        let reply = visitor.post_plain(path, &fields);
        assert_eq!(reply.status, Status::Forbidden, "{path}");
        let page = text(&reply);
        assert_restored(&page);
        assert!(page.contains(&visitor.csrf()) && !page.contains(&old), "it has the session's own token");
    }
    assert!(visitor.fake.published.lock().unwrap().is_empty());
    // Without words there is nothing to show.
    let reply = visitor.post_plain(PATHS[0], &[("author", "ada"), ("csrf", "x")]);
    assert!(text(&reply).contains("This form is not good any more"), "{}", text(&reply));
}

#[test]
fn another_site_can_put_no_words_into_the_sign_in() {
    let mut visitor = signed_out();
    let sites =
        [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "none")];
    for (name, value) in sites {
        let own = visitor.headers.clone();
        visitor.headers.iter_mut().find(|(known, _)| known == name).unwrap().1 = value.to_owned();
        for path in PATHS.iter().chain(&["/admin/sign-in"]) {
            let mut fields = letter(&WRITTEN);
            fields.extend([("name", "ada"), ("password", PASSWORD)]);
            let reply = visitor.post_plain(path, &fields);
            assert_eq!((reply.status, header(&reply, "set-cookie")), (Status::Forbidden, None), "{path}");
            assert!(!text(&reply).contains("Tea"), "{path} {value}: {}", text(&reply));
        }
        visitor.headers = own;
    }
    // Nor by an address.
    for address in ["/admin/sign-in?author=ada&body=Tea", "/admin/compose?restored=1&author=ada&body=Tea"] {
        assert!(!text(&visitor.get(address)).contains("Tea"), "{address}");
    }
}

#[test]
fn whoever_has_to_wait_for_the_sign_in_keeps_the_text() {
    let visitor = signed_out();
    let page = text(&visitor.post_plain(PATHS[0], &letter(&WRITTEN)));
    let fields = typed(&page, "ada", "wrong");
    for _ in 0..5 {
        visitor.post_plain("/admin/sign-in", &borrowed(&fields));
    }
    let reply = visitor.post_plain("/admin/sign-in", &borrowed(&typed(&page, "ada", PASSWORD)));
    assert_eq!((reply.status, header(&reply, "retry-after")), (Status::TooManyRequests, Some("60")));
    assert_eq!(field(&text(&reply), "title"), "Tea &amp; cake");
    assert_eq!(field(&text(&reply), "author"), "ada");
}

#[test]
fn a_text_is_not_lost_when_the_records_are_away() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let mut fields = letter(&WRITTEN);
    let csrf = visitor.csrf();
    fields.push(("csrf", &csrf));
    visitor.fake.store_is_away.store(true, Ordering::Relaxed);
    let reply = visitor.post_plain(PATHS[0], &fields);
    assert_eq!(reply.status, Status::ServiceUnavailable);
    let page = text(&reply);
    assert!(page.contains(r#"action="/admin/compose/preview""#), "{page}");
    visitor.fake.store_is_away.store(false, Ordering::Relaxed);
    let again = visitor.post_plain(PATHS[0], &borrowed(&hidden_fields(&page)));
    assert!(again.status == Status::Ok && text(&again).contains("Tea &amp; cake"), "{}", text(&again));
    // The same for the sign-in.
    visitor.at += 31 * MINUTE;
    let page = text(&visitor.post_plain(PATHS[0], &fields));
    visitor.fake.store_is_away.store(true, Ordering::Relaxed);
    let reply = visitor.post_plain("/admin/sign-in", &borrowed(&typed(&page, "ada", PASSWORD)));
    assert_eq!(reply.status, Status::ServiceUnavailable);
    assert_eq!(field(&text(&reply), "title"), "Tea &amp; cake");
}

#[test]
fn a_text_is_not_lost_when_it_can_not_be_sent() {
    type Spoil = fn(&Visitor);
    let spoils: [(Config, Spoil, Status); 3] = [
        (
            Config::default(),
            |it| it.fake.is_overloaded.store(true, Ordering::Relaxed),
            Status::ServiceUnavailable,
        ),
        (
            Config::default(),
            |it| it.fake.log_is_full.store(true, Ordering::Relaxed),
            Status::ServiceUnavailable,
        ),
        (
            Config { sends_per_minute_max: 1, ..Config::default() },
            |it| drop(it.send(&[])),
            Status::TooManyRequests,
        ),
    ];
    for (config, spoil, status) in spoils {
        let visitor = Visitor::inside(config);
        let preview = text(&visitor.post(PATHS[0], &letter(&WRITTEN)));
        spoil(&visitor);
        let reply = visitor.post_plain("/admin/compose/send", &borrowed(&hidden_fields(&preview)));
        assert_eq!(reply.status, status);
        for path in [PATHS[0], PATHS[1]] {
            let again = text(&visitor.post_plain(path, &borrowed(&hidden_fields(&text(&reply)))));
            assert!(again.contains("Tea &amp; cake"), "{path}: {again}");
        }
    }
}

#[test]
fn asking_how_long_a_session_lasts_does_not_prolong_it_and_staying_does() {
    let config = Config {
        session_idle: Duration::from_secs(30 * 60),
        session_lifetime: Duration::from_secs(60 * 60),
        ..Config::default()
    };
    let mut visitor = Visitor::inside(config);
    let answer = |minutes: u64, most: u64| {
        format!(r#"{{"account":"demo","ends_in_ms":{},"at_most_ms":{}}}"#, minutes * MINUTE, most * MINUTE)
    };
    let over = r#"{"account":null,"ends_in_ms":0,"at_most_ms":0}"#;
    let csrf = visitor.csrf();
    let page = visitor.page("/admin/compose");
    assert!(page.contains(&format!("data-ends-in=\"{}\"", 30 * MINUTE)), "{page}");
    visitor.at += 20 * MINUTE;
    for _ in 0..2 {
        assert_eq!(text(&visitor.get("/admin/session")), answer(10, 40));
    }
    assert_eq!(visitor.post_plain("/admin/session", &[]).status, Status::Forbidden);
    assert_eq!(text(&visitor.post_plain("/admin/session", &[("csrf", &csrf)])), answer(30, 40));
    visitor.at += 29 * MINUTE;
    assert_eq!(text(&visitor.post_plain("/admin/session", &[("csrf", &csrf)])), answer(11, 11));
    visitor.at += 11 * MINUTE;
    assert_eq!(text(&visitor.get("/admin/session")), over);
    assert_eq!(text(&visitor.post_plain("/admin/session", &[("csrf", &csrf)])), over);
    visitor.cookie = None;
    assert_eq!(text(&visitor.get("/admin/session")), over);
    assert_eq!(visitor.method(Method::Put, "/admin/session").status, Status::MethodNotAllowed);
}
