//! What the pages show.

use super::fake::{NOON, Visitor, header, letter, message, text};
use hailer::admin::Config;
use hailer::desk::{ConnectionView, Disconnect, DisconnectWho, MessageState, Progress};
use hailer::http::Status;

/// What must never become markup, in an attribute or a text.
const MARKUP: &str = r#"'"><script>alert(1)</script><img/src=x/onerror=alert(1)>&lt;"#;

fn connection(id: &str, user: Option<&str>) -> ConnectionView {
    ConnectionView {
        id: id.to_owned(),
        transport: "websocket".to_owned(),
        user: user.map(str::to_owned),
        socket_id: None,
        address: "192.0.2.1:4000".parse().ok(),
        connected_at: NOON,
        topics: vec!["room:lobby".to_owned()],
        topic_count: 3,
        waiting_bytes: 7,
    }
}

#[test]
fn every_page_is_whole() {
    let visitor = Visitor::inside(Config::default());
    visitor.send(&[]);
    visitor.fake.connections.lock().unwrap().push(connection("c1", Some("ada")));
    for (address, heading) in [
        ("/admin/compose", "Compose"),
        ("/admin/messages", "Messages"),
        ("/admin/messages?state=scheduled", "Scheduled"),
        ("/admin/messages/m-1", "Message"),
        ("/admin/messages/m-1/resend", "Preview"),
        ("/admin/connections", "Connections"),
        ("/admin/connections/disconnect?who=user&id=ada", "Disconnect"),
        ("/admin/audit", "Audit log"),
        ("/admin/account", "Account"),
    ] {
        let page = visitor.page(address);
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{page}");
        assert!(page.contains(&format!("<h1>{heading}</h1>")), "{address}: {page}");
        assert!(page.contains(&format!("<title>{heading} · Hailer</title>")), "{page}");
        assert!(page.contains("<b id=\"online-websocket\">12</b>"), "{page}");
        assert_eq!(page.matches("<main").count(), 1);
        assert_eq!(page.matches("<h1").count(), 1);
    }
    let reply = visitor.get("/admin/");
    assert_eq!((reply.status, header(&reply, "location")), (Status::SeeOther, Some("/admin/compose")));
    for address in ["/admin/nothing", "/admin/messages/none", "/admin/messages/../compose", "/administrator"]
    {
        assert_eq!(visitor.get(address).status, Status::NotFound, "{address}");
    }
}

#[test]
fn what_pages_load_is_there() {
    let visitor = Visitor::inside(Config::default());
    for page in [visitor.page("/admin/compose"), visitor.page("/admin/welcome")] {
        let addresses = page.split(['"']).filter(|part| {
            part.starts_with("/admin/") && [".css", ".js", ".svg"].iter().any(|end| part.ends_with(end))
        });
        let mut count = 0;
        for address in addresses {
            assert!(!visitor.get(address).body.is_empty(), "{address}");
            assert_eq!(visitor.get(address).status, Status::Ok, "{address}");
            count += 1;
        }
        assert!(count >= 4);
    }
    // The scripts import these.
    for address in ["/admin/client.js", "/admin/transports.js"] {
        let reply = visitor.get(address);
        assert_eq!(header(&reply, "content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(reply.status, Status::Ok);
    }
}

/// Markup in everything that people or programs can write, on every page that shows it.
#[test]
fn markup_is_text_everywhere() {
    let config = Config {
        topics: vec![MARKUP.to_owned()],
        default_topic: MARKUP.to_owned(),
        title: MARKUP.to_owned(),
        ..Config::default()
    };
    let visitor = Visitor::inside(config);
    visitor.add_staff(MARKUP);
    let payload = serde_json::json!({ "body": MARKUP, "title": MARKUP, "link": MARKUP }).to_string();
    let mut notice =
        message("m-1", MARKUP, Some(MARKUP.to_owned()), "new_msg", &payload, MessageState::Retracted, NOON);
    notice.ended_by = Some(MARKUP.to_owned());
    notice.sender = MARKUP.to_owned();
    let raw = serde_json::json!([MARKUP]).to_string();
    let other = message("m-2", MARKUP, None, MARKUP, &raw, MessageState::Sent, NOON);
    visitor.fake.messages.lock().unwrap().extend([notice, other]);
    let mut open = connection(MARKUP, Some(MARKUP));
    open.topics = vec![MARKUP.to_owned()];
    open.transport = MARKUP.to_owned();
    visitor.fake.connections.lock().unwrap().push(open);
    {
        let mut audit = visitor.fake.audit.lock().unwrap();
        let mut entry = audit[0].clone();
        for text in
            [&mut entry.actor, &mut entry.action, &mut entry.subject, &mut entry.detail, &mut entry.address]
        {
            MARKUP.clone_into(text);
        }
        audit.push(entry);
    }
    let escaped =
        percent_encoding::utf8_percent_encode(MARKUP, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut pages: Vec<String> = ["messages", "messages/m-1", "messages/m-2", "connections", "audit"]
        .map(|page| visitor.page(&format!("/admin/{page}")))
        .to_vec();
    for query in [
        "messages?text=X&topic=X&sender=X&state=X&before=X",
        "connections?user=X&topic=X&transport=X&order=X&after=X",
        "connections/disconnect?who=user&id=X",
        "connections/disconnect?who=connection&id=X",
        "audit?actor=X&action=X&before=X",
        "compose?topic=X",
        "compose?user=X",
        "sign-in?next=X&ended=X",
    ] {
        pages.push(visitor.page(&format!("/admin/{}", query.replace('X', &escaped))));
    }
    let names = [
        "to",
        "topic",
        "user",
        "title",
        "body",
        "link",
        "severity",
        "lifetime",
        "lifetime_unit",
        "when",
        "send_at",
        "offset",
        "resend_of",
    ];
    let all: Vec<_> = names.map(|name| (name, MARKUP)).to_vec();
    pages.push(text(&visitor.post("/admin/compose/edit", &all)));
    pages.push(text(&visitor.post("/admin/compose/preview", &all)));
    let sound =
        [("to", "user"), ("user", MARKUP), ("title", MARKUP), ("body", MARKUP), ("resend_of", MARKUP)];
    pages.push(text(&visitor.post("/admin/compose/preview", &letter(&sound))));
    pages.push(text(&visitor.post("/admin/compose/preview", &letter(&[]))));
    pages.push(text(
        &visitor.post_plain("/admin/sign-in", &[("name", MARKUP), ("password", MARKUP), ("next", MARKUP)]),
    ));
    pages.push(text(&visitor.get("/admin/messages/nothing")));
    for page in pages {
        assert!(page.contains("&lt;script&gt;alert(1)"), "it does not show what it was given: {page}");
        assert!(!page.contains("<script>") && !page.contains("<img/"), "{page}");
        // A quote that gets out of its attribute leaves this behind.
        assert!(!page.contains("'\"><") && !page.contains("\"'\">"), "{page}");
    }
}

#[test]
fn how_far_a_message_has_got_is_shown_without_a_script() {
    let visitor = Visitor::inside(Config::default());
    visitor.send(&[]);
    let progress = Progress { addressed: 20, written: 17, received: 11, behind: 2, gone: 1, done: false };
    visitor.fake.progress.lock().unwrap().insert("m-1".to_owned(), progress);
    let page = visitor.page("/admin/messages/m-1");
    for part in [
        r#"data-message="m-1""#,
        r#"<progress id="written-bar" value="17" max="20">"#,
        r#"<dd id="behind">2</dd>"#,
        r#"<dd id="gone">1</dd>"#,
        r#"<b id="received-text">11</b>"#,
        "Refresh the figures",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    visitor.fake.progress.lock().unwrap().clear();
    let page = visitor.page("/admin/messages/m-1");
    assert!(page.contains("Addressed to <b>2</b>") && !page.contains("data-message"), "{page}");
}

#[test]
fn connections_are_put_off_the_line_after_a_question() {
    let visitor = Visitor::inside(Config::default());
    visitor.fake.connections.lock().unwrap().push(connection("0-7-1", Some("a&b")));
    let page = visitor.page("/admin/connections?user=a%26b&order=oldest");
    assert!(page.contains("who=connection&amp;id=0%2D7%2D1"), "{page}");
    assert!(page.contains("who=user&amp;id=a%26b") && page.contains("and 2 more"), "{page}");
    assert!(page.contains("user=a%26b&amp;order=oldest&amp;after=next%20one"), "{page}");
    assert!(visitor.page("/admin/connections/disconnect?who=user&id=a%26b").contains("<b>a&amp;b</b>"));
    assert!(visitor.fake.disconnects.lock().unwrap().is_empty(), "it only asks");

    let path = "/admin/connections/disconnect";
    for (who, id, mode) in
        [("connection", "0-7-1", "back"), ("user", "a&b", "away"), ("socket", "s:1", "back")]
    {
        let reply = visitor.post(path, &[("who", who), ("id", id), ("mode", mode)]);
        assert!(text(&reply).contains("<b>1</b> connection is closed"));
        assert_eq!(visitor.last_audit().subject, id);
    }
    let expected = [
        (DisconnectWho::Connection("0-7-1".to_owned()), true),
        (DisconnectWho::User("a&b".to_owned()), false),
        (DisconnectWho::SocketId("s:1".to_owned()), true),
    ];
    let expected = expected.map(|(who, reconnect)| Disconnect { who, reconnect });
    assert_eq!(*visitor.fake.disconnects.lock().unwrap(), expected);
    for bad in [
        vec![("who", "user"), ("id", ""), ("mode", "back")],
        vec![("who", "everyone"), ("id", "x"), ("mode", "back")],
        vec![("who", "user"), ("id", "x"), ("mode", "")],
        vec![("who", "user"), ("id", "x\ny"), ("mode", "back")],
    ] {
        assert_eq!(visitor.post(path, &bad).status, Status::UnprocessableContent, "{bad:?}");
    }
    assert_eq!(visitor.get("/admin/connections/disconnect").status, Status::UnprocessableContent);
}

#[test]
fn the_audit_log_is_paged_filtered_and_exported() {
    let visitor = Visitor::inside(Config::default());
    {
        let mut audit = visitor.fake.audit.lock().unwrap();
        let mut entry = audit[0].clone();
        for number in 2..=2_345 {
            (entry.number, entry.subject) = (number, format!("=cmd|{number}"));
            entry.actor = if number % 2 == 0 { "staff:even" } else { "staff:odd" }.to_owned();
            audit.push(entry.clone());
        }
    }
    let page = visitor.page("/admin/audit?actor=staff:even");
    assert_eq!(page.matches("<tr>").count(), 1 + 100);
    assert!(page.contains("before=2146&amp;actor=staff%3Aeven&amp;action="), "{page}");
    assert!(!page.contains("staff:odd"));
    assert!(visitor.page("/admin/audit?before=2").contains("by one-time link"));

    let reply = visitor.post("/admin/audit/export", &[]);
    assert_eq!(header(&reply, "content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(header(&reply, "content-disposition"), Some("attachment; filename=\"hailer-audit.csv\""));
    let csv = text(&reply);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "number,at,actor,action,subject,detail,address");
    // The entry of the export itself is the newest.
    assert_eq!(lines.len(), 1 + 2_346);
    assert!(lines[1].contains(",export,"), "{}", lines[1]);
    assert!(
        lines[2].starts_with("2345,2026-11-23T04:00:00.000Z,staff:odd,sign_in,'=cmd|2345,"),
        "{}",
        lines[2]
    );
    let reply = visitor.post("/admin/audit/export", &[("actor", "staff:odd")]);
    assert_eq!(text(&reply).lines().count(), 1 + 1_172);
}

#[test]
fn the_form_is_opened_for_somebody() {
    let visitor = Visitor::inside(Config { topics: vec!["room:7".to_owned()], ..Config::default() });
    let page = visitor.page("/admin/compose?user=ada");
    assert!(
        page.contains(r#"name="to" value="user" checked"#) && page.contains(r#"name="user" value="ada""#),
        "{page}"
    );
    let page = visitor.page("/admin/compose");
    assert!(
        page.contains(r#"<option value="room:7">"#) && page.contains(r#"value="everyone" checked"#),
        "{page}"
    );
}
