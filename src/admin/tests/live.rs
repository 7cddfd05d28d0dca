//! The admin socket.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::fake::{NOON, Visitor};
use crate::admin::Config;
use crate::auth::Identity;
use crate::auth::connect::{Answer, ConnectRequest, Refusal, Secret, Transport, Verdict};
use crate::desk::Progress;

fn connect_with(visitor: &Visitor, cookie: Option<&str>, renewal: bool, at: u64) -> Verdict {
    let told = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&told);
    let request = ConnectRequest {
        token: Some(Secret::new("no matter")),
        params: Vec::new(),
        cookie: cookie.map(Secret::new),
        transport: Transport::WebSocket,
        peer: None,
        renewal,
    };
    let answer = Answer::new(move |verdict| *answer.lock().unwrap() = Some(verdict));
    visitor.admin.connect_hook().connect(request, at / 1000, answer);
    told.lock().unwrap().take().expect("the hook decides at once")
}

fn connect(visitor: &Visitor) -> Result<Identity, Refusal> {
    connect_with(visitor, visitor.cookie.as_deref(), false, visitor.at)
}

#[test]
fn only_staff_who_are_signed_in_connect() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    let identity = connect(&visitor).unwrap();
    assert_eq!((identity.user(), identity.claims()), ("ada", "{}"));
    assert!(identity.socket_id().starts_with("admin_session:"));
    assert_eq!(identity.expires(), Some(NOON / 1000 + 12 * 60 * 60));

    let cookie = visitor.cookie.clone().unwrap();
    let among_others = format!("theme=dark; {cookie}");
    assert!(connect_with(&visitor, Some(&among_others), false, NOON).is_ok());
    let twice = format!("{cookie}; hailer=x");
    for (cookie, renewal) in [
        (None, false),
        (Some(""), false),
        (Some("hailer="), false),
        (Some("hailer=x"), false),
        (Some(twice.as_str()), false),
        (Some(cookie.as_str()), true),
    ] {
        assert!(connect_with(&visitor, cookie, renewal, NOON).is_err(), "{cookie:?}");
    }
    // A socket that stays open does not keep its session from becoming idle.
    assert!(connect_with(&visitor, Some(&cookie), false, NOON + 29 * 60_000).is_ok());
    assert!(connect_with(&visitor, Some(&cookie), false, NOON + 30 * 60_000).is_err());
    visitor.post("/admin/sign-out", &[]);
    assert!(connect(&visitor).is_err());
    assert_eq!(*visitor.closed.lock().unwrap(), [identity.socket_id()]);
}

#[test]
fn a_disabled_account_loses_its_sockets() {
    let mut visitor = Visitor::new(Config::default());
    visitor.sign_in();
    visitor.fake.staff.lock().unwrap().get_mut("ada").unwrap().disabled = true;
    assert_eq!(connect(&visitor).err(), Some(Refusal::DisabledUser));
    assert_eq!(visitor.closed.lock().unwrap().len(), 1);
}
