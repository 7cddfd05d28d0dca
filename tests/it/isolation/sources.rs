//! Whether the tables name all places where the library calls an application's code, or drops what it was given.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{places, server};

/// Methods and closures that no row of a table has to name, each with the reason.
const EXEMPT: &[(&str, &str)] = &[
    ("Sink::send", "the event loop itself"),
    ("Sink::send_many", "the event loop itself"),
    ("Sink::shutdown", "the event loop itself"),
    ("Sink::has_failed", "the event loop itself"),
    ("Bound::parse", "implemented for what limits are made of"),
    ("Bound::show", "implemented for what limits are made of"),
    ("Accounts::look_up", "called in Connect::connect"),
    ("Publishing::*", "called in Service::call, and by the application"),
    ("Inspection::*", "called in Service::call, and by the application"),
    ("Records::*", "called in Service::call, and by the application"),
    ("Board::keep", "called before it returns, in the caller's thread"),
    ("Board::keep_all", "called before it returns, in the caller's thread"),
    ("Board::take_back", "called before it returns, in the caller's thread"),
    ("Inputs::new", "called before a server starts"),
    ("Inputs::read", "called before a server starts"),
    ("Admin::new", "called in Service::call"),
    ("Admin::on_sign_out", "called in Service::call, or as a chore"),
    ("Endpoint::inspect_topic_hashes", "the library's own question"),
    ("Sources::dropped_log_lines", "called in Service::call"),
    ("Standalone::count_dropped_log_lines", "called in Service::call"),
    ("Sources::topic_of", "called in Service::call"),
    ("Sources::store", "called in Service::call"),
    (
        "Clerk::start",
        "tests/it/desk/scheduled.rs: what_is_scheduled_waits_for_ever_behind_a_chore_that_panics",
    ),
];

/// Fields and aliases that hold what an application has given without guarding it, each with the reason.
const UNGUARDED: &[(&str, &str)] = &[
    ("src/admin/mod.rs: type Entropy", "a part of a Service"),
    ("src/admin/office.rs: type Close", "a part of a Service"),
    ("src/auth/connect.rs: struct Answer", "called once, in a thread that decides who may connect"),
    ("src/auth/gate.rs: accounts", "a part of a Connect"),
    ("src/auth/identity.rs: assigns", "Identity disposes of it"),
    ("src/channel/assigns.rs: type Values", "Assigns drops its values one by one"),
    ("src/channel/error.rs: struct Chain", "borrowed"),
    ("src/channel/error.rs: type BoxedError", "ChannelError holds it guarded"),
    ("src/config/mod.rs: read", "borrowed"),
    ("src/desk/mod.rs: inspection", "a part of a Service"),
    ("src/desk/mod.rs: publishing", "a part of a Service"),
    ("src/desk/mod.rs: records", "a part of a Service"),
    ("src/endpoint/admission.rs: connect", "Endpoint drops it guarded, and so does the pool"),
    ("src/endpoint/apply.rs: channel", "the router has another"),
    ("src/endpoint/mod.rs: plain", "Endpoint drops it guarded"),
    ("src/endpoint/mod.rs: service", "Endpoint drops it guarded, and so does the pool"),
    ("src/server/accounts/lookups/mod.rs: type Reply", "consumed by its one call"),
    ("src/server/accounts/threads.rs: type Open", "held guarded"),
    ("src/server/desk/clerk.rs: type Chore", "held guarded"),
    ("src/server/inspect.rs: connect", "a part of a Service"),
    ("src/server/inspect.rs: dropped_log_lines", "a part of a Service"),
    ("src/server/inspect.rs: store", "a part of a Service"),
    ("src/server/inspect.rs: type TopicOf", "a part of a Service"),
    ("src/server/mod.rs: type Companion", "consumed by its one call"),
    ("src/server/questions.rs: type Question", "the library's own"),
    ("src/standalone/mod.rs: open_store", "borrowed"),
    ("src/standalone/office.rs: connect", "the library's own"),
    ("src/testing/mod.rs: connect", "dropped in the thread of the test"),
    ("src/testing/mod.rs: service", "dropped in the thread of the test"),
];

/// The sources without their tests, and without those of the program itself.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut waiting) = (Vec::new(), vec![root.join("src")]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path: PathBuf = entry.expect("the entry is readable").path();
            let name = path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned();
            if path.is_dir() {
                if !["src/cli", "src/load"].contains(&&*name) {
                    waiting.push(path);
                }
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("the file is text");
                let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
                found.push((name, text[..end].to_owned()));
            }
        }
    }
    found
}

/// The word behind `before` at the beginning of a line.
fn named<'l>(line: &'l str, before: &str) -> Option<&'l str> {
    let rest = line.strip_prefix(before)?;
    Some(&rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_')?])
}

/// The methods of the traits that an application implements.
fn methods(text: &str) -> Vec<String> {
    let (mut found, mut of) = (Vec::new(), None);
    for line in text.lines() {
        match of {
            None => of = named(line, "pub trait "),
            Some(_) if line == "}" => of = None,
            Some(of) => found.extend(named(line, "    fn ").map(|method| format!("{of}::{method}"))),
        }
    }
    found
}

fn has_closure(text: &str) -> bool {
    const CLOSURES: &[&str] = &["impl Fn", "dyn Fn", "Chore", "Entropy", "TopicOf"];
    CLOSURES.iter().any(|kind| text.contains(kind))
}

/// The public functions that take closures, and the public fields that hold some.
fn closures(text: &str) -> Vec<String> {
    let (mut found, mut of) = (Vec::new(), "");
    let mut rest = text;
    while let Some((line, behind)) = rest.split_once('\n') {
        let generic = |name: &'_ str| name.starts_with('<');
        if let Some(name) = line
            .strip_prefix("impl")
            .and_then(|of| of.split([' ', '{']).find(|of| !of.is_empty() && !generic(of)))
        {
            of = &name[..name.find('<').unwrap_or(name.len())];
        } else if let Some(name) = named(line, "pub struct ") {
            of = name;
        }
        let field = line
            .strip_prefix("    pub ")
            .filter(|line| !line.starts_with("fn "))
            .and_then(|line| line.split_once(": "));
        if let Some(function) = named(line.trim_start(), "pub fn ") {
            let signature = &rest[..rest.find(['{', ';']).unwrap_or(rest.len())];
            found.extend(has_closure(signature).then(|| format!("{of}::{function}")));
        } else if let Some((field, kind)) = field {
            found.extend(has_closure(kind).then(|| format!("{of}::{field}")));
        }
        rest = behind;
    }
    found
}

/// The fields and aliases that hold what an application has given, with their lines.
fn kept(text: &str) -> Vec<(String, &str)> {
    const GIVEN: &[&str] = &[
        "Any",
        "Error",
        "Fn",
        "FnOnce",
        "Channel",
        "PlainSocket",
        "Service",
        "Connect",
        "Directory",
        "Accounts",
        "gate::Accounts",
        "Publishing",
        "Inspection",
        "Records",
    ];
    let (mut found, mut in_signature) = (Vec::new(), false);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        // Arguments, one a line, look like fields.
        let begins = line.ends_with('(') && line.contains("fn ");
        in_signature = begins || in_signature && !line.starts_with(')');
        let words = ["pub ", "pub(super) ", "pub(crate) "];
        let visible = words.iter().find(|word| line.starts_with(**word)).map_or("", |word| word);
        let bare = &line[visible.len()..];
        let name = match bare.split_once(": ") {
            _ if bare.starts_with("type ") || bare.starts_with("struct ") => {
                bare.split(['<', '(', ' ']).take(2).collect::<Vec<_>>().join(" ")
            }
            Some((name, _))
                if !in_signature
                    && line.ends_with(',')
                    && name.chars().all(|c| c.is_lowercase() || c == '_') =>
            {
                name.to_owned()
            }
            _ => continue,
        };
        if GIVEN.iter().any(|given| {
            line.match_indices(&format!("dyn {given}"))
                .any(|(at, found)| !line[at + found.len()..].starts_with(char::is_alphanumeric))
        }) {
            found.push((name, line));
        }
    }
    found
}

#[test]
fn a_place_where_the_application_s_code_runs_is_in_no_table() {
    let rows = places::PLACES.iter().map(|(name, ..)| *name);
    let rows = rows.chain(server::PLACES.iter().map(|(name, _)| *name)).chain([server::SIGNALS]);
    let rows: BTreeSet<&str> = rows.collect();
    let found: BTreeSet<String> =
        sources().iter().flat_map(|(_, text)| [methods(text), closures(text)].concat()).collect();
    for known in
        ["Channel::join", "Channel::handle_out", "Connect::connect", "ServerHandle::tally", "Sources::store"]
    {
        assert!(found.contains(known), "{known} is among {found:?}");
    }
    let is_exempt = |name: &str| {
        EXEMPT.iter().any(|(exempt, _)| match exempt.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == *exempt,
        })
    };
    let missing: Vec<_> = found.iter().filter(|name| !rows.contains(&***name) && !is_exempt(name)).collect();
    assert!(missing.is_empty(), "give each of these a row of a table, in which it panics: {missing:?}");
    let gone: Vec<_> = EXEMPT
        .iter()
        .filter(|(exempt, _)| !found.iter().any(|name| name.starts_with(exempt.trim_end_matches('*'))))
        .collect();
    assert!(gone.is_empty(), "these are not there any more: {gone:?}");
}

#[test]
fn what_an_application_has_given_is_dropped_without_a_guard() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (file, text) in sources() {
        for (name, line) in kept(&text).into_iter().filter(|(_, line)| !line.contains("Guarded<")) {
            let name = format!("{file}: {name}");
            match UNGUARDED.iter().find(|(known, _)| *known == name) {
                Some((known, _)) => _ = seen.insert(*known),
                None => wrong.push(format!("{name} ({line})")),
            }
        }
    }
    assert!(wrong.is_empty(), "hold these in a Guarded, or say why not:\n{}", wrong.join("\n"));
    let gone: Vec<_> = UNGUARDED.iter().filter(|(known, _)| !seen.contains(known)).collect();
    assert!(gone.is_empty(), "these are not there any more: {gone:?}");
}
