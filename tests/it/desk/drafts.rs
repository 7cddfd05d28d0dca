//! Drafts that are refused, each with what is wrong with it.

use std::time::Duration;

use hailer::desk::{Draft, ErrorCode, Target};
use serde_json::value::RawValue;

use super::{HOUR, Plan, draft, kept, now};

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("it is JSON")
}

#[test]
fn each_mistake_is_named_with_its_field() {
    let desk = Plan::default().start();
    let mut client = desk.join("room:1");
    let check = |bad: Draft, code: ErrorCode, field: &str| {
        let drafts = vec![draft("room:1", 0), draft("room:1", 1), bad];
        let error = desk.publish_all(drafts, None).expect_err(field);
        let expected = format!("messages[2].{field}");
        assert_eq!((error.code, error.field.as_deref()), (code, Some(&*expected)), "{error}");
        assert!(!error.sentence.is_empty());
    };
    let base = || draft("room:1", 2);
    let topic = |topic: &str| draft(topic, 2);
    let user = |user: &str| Draft { target: Target::User(user.to_owned()), ..base() };
    let event = |event: &str| Draft { event: event.to_owned(), ..base() };
    let with_id = |payload: &str| Draft { with_id: true, payload: json(payload), ..base() };
    let invalid = ErrorCode::Invalid;
    for bad in ["", "room:\n", &"x".repeat(65)] {
        check(topic(bad), invalid, "topic");
    }
    for bad in ["", "a\u{7}", &"x".repeat(60), &"x".repeat(256)] {
        check(user(bad), invalid, "user");
    }
    for bad in ["", "a\tb", "phx_reply", "disconnect", "presence_diff", &"x".repeat(33)] {
        check(event(bad), invalid, "event");
    }
    let large = json(&format!("\"{}\"", "x".repeat(4095)));
    check(Draft { payload: large, ..base() }, ErrorCode::TooLarge, "payload");
    for bad in ["1", "[]", "null", r#"{"id":1}"#, r#"{"\u0069d":1}"#] {
        check(with_id(bad), invalid, "payload");
    }
    for bad in [Duration::ZERO, HOUR + Duration::from_secs(1)] {
        check(Draft { lifetime: Some(bad), ..base() }, invalid, "expires_in");
    }
    let year = 367 * 24 * 60 * 60 * 1000;
    check(Draft { send_at: Some(now() + year), ..base() }, invalid, "send_at");
    client.heartbeat();
    assert!(desk.ids().is_empty());
}

#[test]
fn requests_have_limits() {
    let desk = Plan::default().start();
    let check = |drafts: Vec<Draft>, code: ErrorCode| {
        let error = desk.publish_all(drafts, None).expect_err("it is refused");
        assert_eq!((error.code, error.field.as_deref()), (code, Some("messages")));
    };
    check(Vec::new(), ErrorCode::Invalid);
    check(vec![draft("room:1", 0); 11], ErrorCode::TooLarge);
    check(vec![draft("room:1", "x".repeat(4000)); 3], ErrorCode::TooLarge);
    desk.publish_all(vec![draft("room:1", 0); 10], None).expect("so many may be");
    for key in ["", "a\nb", &"x".repeat(256)] {
        let error = desk.publish_all(vec![draft("room:1", 0)], Some(key)).expect_err("it is no key");
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some("idempotency_key")));
    }
}

#[test]
fn an_id_is_put_in_front_of_what_is_there() {
    let desk = Plan::default().start();
    for (payload, behind) in [("{}", "}"), (r#"{ "a" : 1e400 }"#, r#", "a" : 1e400 }"#)] {
        let published = desk.publish(Draft { with_id: true, payload: json(payload), ..draft("room:1", 0) });
        let expected = format!("{{\"id\":\"{}\"{behind}", published.id);
        assert_eq!(desk.record(&published.id).payload.get(), expected);
    }
}

#[test]
fn a_client_is_told_until_when_a_message_is_kept() {
    let desk = Plan::default().start();
    for (payload, behind) in [("{}", ""), (r#"{"a":1}"#, r#","a":1"#)] {
        let published = desk.publish(kept(Draft { payload: json(payload), ..draft("room:1", 0) }));
        let record = desk.record(&published.id);
        let until = record.expires_at.expect("it expires");
        let expected = format!(r#"{{"id":"{}","expires_at":{until}{behind}}}"#, published.id);
        assert_eq!(record.payload.get(), expected);
    }
    // What the application says itself is left as it is.
    let own = r#"{"expires_at":"tomorrow"}"#;
    let published = desk.publish(kept(Draft { payload: json(own), ..draft("room:1", 0) }));
    let expected = format!(r#"{{"id":"{}","expires_at":"tomorrow"}}"#, published.id);
    assert_eq!(desk.record(&published.id).payload.get(), expected);
}
