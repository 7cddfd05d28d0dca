//! From the form to the desk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fake::{NOON, Visitor, borrowed, field, header, hidden_fields, letter, message, text};
use hailer::admin::Config;
use hailer::desk::{Durability, MessageState, Target};
use hailer::http::Status;

#[test]
fn a_message_goes_from_the_form_by_the_preview_to_its_page() {
    let visitor = Visitor::inside(Config { durability: Durability::Disk, ..Config::default() });
    let fields =
        [("title", "Sale"), ("body", "Half price\r\ntoday"), ("link", "/sale"), ("severity", "warning")];
    let preview = visitor.post("/admin/compose/preview", &letter(&fields));
    let page = text(&preview);
    assert!(page.contains(r#"class="notice notice-warning""#), "{page}");
    assert!(page.contains("Half price\ntoday</p>") && page.contains(r#"href="/sale""#), "{page}");
    assert!(page.contains("<b>2</b> recipients"), "{page}");
    let reply = visitor.post_plain("/admin/compose/send", &borrowed(&hidden_fields(&page)));
    assert_eq!((reply.status, header(&reply, "location")), (Status::SeeOther, Some("/admin/messages/m-1")));
    let published = visitor.fake.published.lock().unwrap();
    let draft = &published[0].drafts[0];
    assert_eq!(draft.target, Target::Topic("room:lobby".to_owned()));
    assert_eq!((draft.event.as_str(), draft.durability), ("new_msg", Durability::Disk));
    assert!(draft.with_id && draft.receipts);
    assert_eq!((draft.lifetime, draft.send_at, &draft.resend_of), (None, None, &None));
    let payload = r#"{"body":"Half price\ntoday","title":"Sale","link":"/sale","severity":"warning"}"#;
    assert_eq!(draft.payload.get(), payload);
    let audit = visitor.fake.audit.lock().unwrap();
    let entries: Vec<_> = audit.iter().map(|entry| (entry.action.as_str(), entry.subject.as_str())).collect();
    assert_eq!(entries, [("sign_in", "demo"), ("publish", "room:lobby"), ("published", "m-1")]);
    assert_eq!(
        audit[1].detail,
        format!("new_msg to a topic, warning, {} bytes, 2 subscribers", payload.len())
    );
    assert!(audit.iter().all(|entry| entry.address == "127.0.0.1" && entry.actor == "staff:demo"));
}

#[test]
fn one_user_or_one_topic_can_be_addressed() {
    let visitor = Visitor::inside(Config::default());
    visitor.send(&[("to", "user"), ("user", "ada")]);
    visitor.send(&[("to", "topic"), ("topic", "room:7")]);
    let published = visitor.fake.published.lock().unwrap();
    assert_eq!(published[0].drafts[0].target, Target::User("ada".to_owned()));
    assert_eq!(published[1].drafts[0].target, Target::Topic("room:7".to_owned()));
    assert_ne!(published[0].idempotency_key, published[1].idempotency_key);
}

#[test]
fn lifetimes_and_times_are_understood() {
    let visitor = Visitor::inside(Config::default());
    visitor.send(&[("lifetime", "90"), ("lifetime_unit", "minutes")]);
    visitor.send(&[("lifetime", "2"), ("lifetime_unit", "hours")]);
    // Five in the morning in Berlin is four in UTC, where the clock shows four.
    visitor.send(&[("when", "later"), ("send_at", "2026-11-23T05:30"), ("offset", "-60")]);
    assert_eq!(visitor.last_audit().action, "scheduled");
    let published = visitor.fake.published.lock().unwrap();
    let drafts: Vec<_> = published.iter().map(|publish| &publish.drafts[0]).collect();
    assert_eq!(drafts[0].lifetime, Some(Duration::from_secs(90 * 60)));
    assert_eq!(drafts[1].lifetime, Some(Duration::from_secs(2 * 60 * 60)));
    assert_eq!((drafts[2].lifetime, drafts[2].send_at), (None, Some(NOON + 30 * 60_000)));
}

#[test]
fn what_is_wrong_stands_at_its_field_and_nothing_is_lost() {
    let visitor = Visitor::inside(Config { payload_bytes_max: 4_000, ..Config::default() });
    let long = "x".repeat(2_001);
    let wide = "\u{1F980}".repeat(1_500);
    let title = "x".repeat(121);
    let topic = "x".repeat(256);
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 20] = [
        (&[("body", " \r\n ")], "body", "Write what"),
        (&[("body", &long)], "body", "at most 2,000"),
        (&[("body", &wide)], "body", "4000 bytes"),
        (&[("body", "a\u{0}b")], "body", "control"),
        (&[("title", &title)], "title", "at most 120"),
        (&[("title", "a\u{7}b")], "title", "one line"),
        (&[("link", "javascript:alert(1)")], "link", "https://"),
        (&[("link", "//evil.example")], "link", "https://"),
        (&[("severity", "loud")], "severity", "Choose"),
        (&[("to", "all")], "to", "Choose"),
        (&[("to", "topic")], "topic", "which topic"),
        (&[("to", "topic"), ("topic", &topic)], "topic", "255"),
        (&[("to", "user")], "user", "which user"),
        (&[("lifetime_unit", "hours")], "lifetime", "how long"),
        (&[("lifetime_unit", "hours"), ("lifetime", "-1")], "lifetime", "how long"),
        (&[("lifetime_unit", "hours"), ("lifetime", "721")], "lifetime", "30 days"),
        (&[("lifetime_unit", "hours"), ("lifetime", "18446744073709551615")], "lifetime", "30 days"),
        (&[("when", "later")], "send_at", "which day"),
        (&[("when", "later"), ("send_at", "2026-11-23T04:00")], "send_at", "past"),
        (&[("when", "later"), ("send_at", "2028-11-23T04:00")], "send_at", "a year"),
    ];
    for (fields, name, words) in cases {
        let mut all = letter(fields);
        all.push(("user_typed", "x"));
        for path in ["/admin/compose/preview", "/admin/compose/send"] {
            let reply = visitor.post(path, &all);
            assert_eq!(reply.status, Status::UnprocessableContent, "{name} {words}");
            let page = text(&reply);
            let at_field = format!("id=\"{name}-error\">");
            let sentence = page.split(&at_field).nth(1).unwrap_or_else(|| panic!("no {at_field} in {page}"));
            assert!(sentence.split('<').next().unwrap().contains(words), "{name} {words}: {page}");
            assert!(page.contains(r#"role="alert""#), "{page}");
        }
    }
    assert!(visitor.fake.published.lock().unwrap().is_empty());
    let reply = visitor.post("/admin/compose/preview", &letter(&[("title", "kept"), ("link", "bad")]));
    assert!(text(&reply).contains(r#"value="kept""#));
}

#[test]
fn a_message_for_one_user_does_not_go_to_everybody_when_scripts_are_off() {
    let visitor = Visitor::inside(Config::default());
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (&[("user", "42")], &["user"]),
        (&[("topic", "room:7")], &["topic"]),
        (&[("user", "42"), ("topic", "room:7")], &["topic", "user"]),
        (&[("to", "topic"), ("topic", "room:7"), ("user", "42")], &["user"]),
        (&[("to", "user"), ("user", "42"), ("topic", "room:7")], &["topic"]),
        // The same of what is chosen elsewhere: it would be sent at once, and kept for nobody.
        (&[("send_at", "2026-11-23T05:30")], &["send_at"]),
        (&[("lifetime", "5")], &["lifetime"]),
        (&[("lifetime", "5"), ("lifetime_unit", "")], &["lifetime"]),
    ];
    for (fields, wrong) in cases {
        for path in ["/admin/compose/preview", "/admin/compose/send"] {
            let mut all = letter(fields);
            all.push(("nonce", "abcdef"));
            let reply = visitor.post(path, &all);
            assert_eq!(reply.status, Status::UnprocessableContent, "{path} {fields:?}");
            let page = text(&reply);
            for field in ["topic", "user", "send_at", "lifetime"] {
                let is_refused = page.contains(&format!("<p class=\"error\" id=\"{field}-error\">"));
                assert_eq!(is_refused, wrong.contains(&field), "{path} {fields:?} {field}: {page}");
            }
            // Nothing of what was typed is lost.
            assert!(fields.iter().all(|(_, value)| page.contains(&format!("value=\"{value}\""))), "{page}");
        }
    }
    assert!(visitor.fake.published.lock().unwrap().is_empty());
    // White space is nothing.
    assert_eq!(visitor.send(&[("user", " "), ("topic", "")]).status, Status::SeeOther);
}

#[test]
fn a_preview_to_everybody_says_so_loudly() {
    let visitor = Visitor::inside(Config::default());
    let loud = |fields: &[(&str, &str)]| {
        let page = text(&visitor.post("/admin/compose/preview", &letter(fields)));
        assert!(page.contains("<h1>Preview</h1>"), "{page}");
        page.contains("<strong>To EVERYONE</strong> <b>2</b> recipients")
    };
    assert!(loud(&[]));
    assert!(loud(&[("to", "topic"), ("topic", "room:lobby")]), "by its name it is the same");
    assert!(!loud(&[("to", "topic"), ("topic", "room:7")]));
    assert!(!loud(&[("to", "user"), ("user", "ada")]));
}

#[test]
fn a_second_click_shows_what_came_of_the_first() {
    let visitor = Visitor::inside(Config { sends_per_minute_max: 1, ..Config::default() });
    let preview = text(&visitor.post("/admin/compose/preview", &letter(&[])));
    let fields = hidden_fields(&preview);
    for _ in 0..3 {
        let reply = visitor.post_plain("/admin/compose/send", &borrowed(&fields));
        assert_eq!(header(&reply, "location"), Some("/admin/messages/m-1"));
    }
    assert_eq!(visitor.fake.published.lock().unwrap().len(), 1);
    let sent = visitor.fake.actions().into_iter().filter(|action| action.ends_with(" publish")).count();
    assert_eq!(sent, 1);
}

#[test]
fn two_clicks_at_once_send_once() {
    let visitor = Visitor::inside(Config::default());
    let preview = text(&visitor.post("/admin/compose/preview", &letter(&[])));
    let fields = hidden_fields(&preview);
    std::thread::scope(|scope| {
        let click = || {
            let reply = visitor.post_plain("/admin/compose/send", &borrowed(&fields));
            header(&reply, "location").map(str::to_owned)
        };
        let clicks: Vec<_> = (0..4).map(|_| scope.spawn(click)).collect();
        for click in clicks {
            assert_eq!(click.join().unwrap().as_deref(), Some("/admin/messages/m-1"));
        }
    });
    assert_eq!(visitor.fake.published.lock().unwrap().len(), 1);
}

#[test]
fn the_same_form_in_a_later_session_sends_nothing_again() {
    let mut visitor = Visitor::inside(Config::default());
    let mut fields = hidden_fields(&text(&visitor.post("/admin/compose/preview", &letter(&[]))));
    visitor.post_plain("/admin/compose/send", &borrowed(&fields));
    visitor.enter();
    fields.iter_mut().find(|(name, _)| name == "csrf").unwrap().1 = visitor.csrf();
    let reply = visitor.post_plain("/admin/compose/send", &borrowed(&fields));
    assert_eq!(header(&reply, "location"), Some("/admin/messages/m-1"));
    assert_eq!(visitor.fake.published.lock().unwrap().len(), 1);
}

#[test]
fn a_form_without_its_nonce_is_previewed_again() {
    let visitor = Visitor::inside(Config::default());
    for nonce in ["", "not\u{20}one", &"x".repeat(65)] {
        let mut fields = letter(&[]);
        fields.push(("nonce", nonce));
        let reply = visitor.post("/admin/compose/send", &fields);
        assert_eq!(reply.status, Status::UnprocessableContent);
        assert_eq!(field(&text(&reply), "nonce").len(), 22);
    }
    assert!(visitor.fake.published.lock().unwrap().is_empty());
}

#[test]
fn very_many_recipients_are_confirmed_with_a_word() {
    let visitor = Visitor::inside(Config::default());
    let send = |fields: &[(&str, &str)], word: &str| {
        let page = text(&visitor.post("/admin/compose/preview", &letter(fields)));
        let asked = page.contains(r#"name="confirm""#);
        let mut all = hidden_fields(&page);
        all.push(("confirm".to_owned(), word.to_owned()));
        (asked, visitor.post_plain("/admin/compose/send", &borrowed(&all)).status)
    };
    visitor.fake.subscribers.store(1_000, Ordering::Relaxed);
    assert_eq!(send(&[], ""), (false, Status::SeeOther));
    visitor.fake.subscribers.store(1_001, Ordering::Relaxed);
    for word in ["", "yes", "sen", "send it"] {
        assert_eq!(send(&[], word), (true, Status::UnprocessableContent), "{word}");
    }
    assert_eq!(send(&[], " Send "), (true, Status::SeeOther));
    // They may be many if nobody can count them.
    let uncounted = [("to", "topic"), ("topic", "no:shards")];
    assert_eq!(send(&uncounted, ""), (true, Status::UnprocessableContent));
    assert_eq!(send(&uncounted, "send"), (true, Status::SeeOther));
    // More have come since the preview was made.
    visitor.fake.subscribers.store(1, Ordering::Relaxed);
    let fields = hidden_fields(&text(&visitor.post("/admin/compose/preview", &letter(&[]))));
    visitor.fake.subscribers.store(1_001, Ordering::Relaxed);
    let reply = visitor.post_plain("/admin/compose/send", &borrowed(&fields));
    assert_eq!(reply.status, Status::UnprocessableContent);
    assert_eq!(visitor.fake.published.lock().unwrap().len(), 3);
}

#[test]
fn an_account_sends_so_many_in_a_minute() {
    let mut visitor = Visitor::inside(Config { sends_per_minute_max: 2, ..Config::default() });
    assert_eq!(visitor.send(&[]).status, Status::SeeOther);
    assert_eq!(visitor.send(&[]).status, Status::SeeOther);
    visitor.at += 10_000;
    visitor.enter();
    let reply = visitor.send(&[]);
    assert_eq!((reply.status, header(&reply, "retry-after")), (Status::TooManyRequests, Some("50")));
    visitor.at += 50_000;
    assert_eq!(visitor.send(&[]).status, Status::SeeOther);
}

#[test]
fn what_the_desk_refuses_is_said_and_written_down() {
    let visitor = Visitor::inside(Config::default());
    visitor.fake.is_overloaded.store(true, Ordering::Relaxed);
    let reply = visitor.send(&[]);
    assert_eq!((reply.status, header(&reply, "retry-after")), (Status::ServiceUnavailable, Some("5")));
    assert!(text(&reply).contains("A shard has too much to do."));
    let last = visitor.last_audit();
    assert_eq!((last.action.as_str(), last.detail.as_str()), ("publish_failed", "overloaded"));
}

#[test]
fn messages_are_retracted_cancelled_and_sent_again() {
    let visitor = Visitor::inside(Config::default());
    visitor.send(&[("to", "user"), ("user", "ada"), ("title", "Hi")]);
    visitor.send(&[("when", "later"), ("send_at", "2026-11-23T05:00")]);
    let sent = visitor.page("/admin/messages/m-1");
    assert!(sent.contains("/admin/messages/m-1/retract") && !sent.contains("m-1/cancel"), "{sent}");
    let waiting = visitor.page("/admin/messages/m-2");
    assert!(!waiting.contains("m-2/retract") && waiting.contains("/admin/messages/m-2/cancel"), "{waiting}");
    assert!(visitor.page("/admin/messages?state=scheduled").contains("/admin/messages/m-2"));

    for (path, id) in [("retract", "m-1"), ("cancel", "m-2")] {
        let reply = visitor.post(&format!("/admin/messages/{id}/{path}"), &[]);
        assert_eq!(header(&reply, "location"), Some(format!("/admin/messages/{id}").as_str()));
        let last = visitor.last_audit();
        assert_eq!((last.action.as_str(), last.subject.as_str()), (path, id));
    }
    assert_eq!(visitor.post("/admin/messages/m-1/cancel", &[]).status, Status::Conflict);
    assert_eq!(visitor.last_audit().action, "cancel_failed");
    assert_eq!(visitor.post("/admin/messages/m-9/retract", &[]).status, Status::NotFound);
    let page = visitor.page("/admin/messages/m-1");
    assert!(page.contains("badge-retracted") && page.contains("staff:demo") && !page.contains("m-1/retract"));

    let again = visitor.page("/admin/messages/m-1/resend");
    let reply = visitor.post_plain("/admin/compose/send", &borrowed(&hidden_fields(&again)));
    assert_eq!(header(&reply, "location"), Some("/admin/messages/m-3"));
    let published = visitor.fake.published.lock().unwrap();
    let (first, third) = (&published[0].drafts[0], &published[2].drafts[0]);
    assert_eq!(third.target, Target::User("ada".to_owned()));
    assert_eq!((third.resend_of.as_deref(), third.payload.get()), (Some("m-1"), first.payload.get()));
}

#[test]
fn what_programs_sent_is_shown_but_not_repeated() {
    let visitor = Visitor::inside(Config::default());
    let payloads = [("order", r#"{"body":"x"}"#), ("new_msg", r#"{"text":"<b>x"}"#)];
    for (n, (event, payload)) in payloads.into_iter().enumerate() {
        let foreign = message(&format!("f-{n}"), "room:1", None, event, payload, MessageState::Sent, NOON);
        visitor.fake.messages.lock().unwrap().push(foreign);
        let page = visitor.page(&format!("/admin/messages/f-{n}"));
        assert!(!page.contains("resend"), "{page}");
        assert_eq!(visitor.get(&format!("/admin/messages/f-{n}/resend")).status, Status::Conflict);
    }
    assert!(visitor.page("/admin/messages/f-1").contains("&lt;b&gt;x"));
}
