//! What settings must have to do with each other.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use super::api::key_name_fault;
use super::load::Loader;
use super::settings::is_host;
use super::topics::{SUB, Shape, TopicRule};
use super::{AccountSource, CheckOrigin, Place, Problem, Settings};
use crate::auth::rights::Who;
use crate::desk::Durability;
use crate::http::Subprotocols;
use crate::limits::Limits;

/// The most that clocks may differ; beyond it a clock is wrong.
const DRIFT_MAX: Duration = Duration::from_secs(60);

/// Looks for contradictions in settings that are sound one by one.
pub(super) fn check(loader: &mut Loader) {
    addresses(loader);
    demo(loader);
    auth(loader);
    accounts(loader);
    topics(loader);
    api(loader);
    messages(loader);
}

fn addresses(loader: &mut Loader) {
    let path = &loader.settings.socket_path;
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    if !path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment)) {
        let message = "expected a path such as \"/socket\": a slash and a name, of letters, digits and -._~";
        loader.problem_at("socket_path", message);
    }
    if let Err(error) = Subprotocols::new(&loader.settings.subprotocols) {
        loader.problem_at("subprotocols", error.to_string());
    }
    match &loader.settings.host {
        Some(host) if !is_host(host) => {
            loader
                .problem_at("host", "expected a host name such as \"example.com\", without scheme and port");
        }
        None if loader.settings.check_origin == CheckOrigin::Host => {
            let message = "true compares origins with the server's own host name: give host as well";
            loader.problem_at("check_origin", message);
        }
        _ => {}
    }
}

/// Without a key everybody may write. That must be meant, and stay on this machine.
fn demo(loader: &mut Loader) {
    const KEYS: &str = "auth.secret_file, auth.jwks_file or [[auth.keys]]";
    if !loader.settings.is_demo() {
        if !loader.settings.demo_topics.is_empty() {
            let message = "topics have rules where clients have tokens: give the pattern in [[topics]], with join \
                           and push";
            loader.problem_at("demo_topics", message);
        }
        return;
    }
    let of = |loader: &Loader, table: &str| {
        let inner = format!("{table}.");
        let mut keys = loader.places.keys();
        keys.find(|key| **key == *table || key.starts_with(&inner) || key.starts_with(&format!("{table}[")))
            .cloned()
    };
    let needs_key = ["auth", "accounts", "topics"].into_iter().find_map(|table| of(loader, table));
    if let Some(key) = needs_key {
        let message = format!(
            "there is no key to tell who a client is, so that everybody might write: give {KEYS} (`hailer init` makes \
             a secret)"
        );
        loader.problem_at(&key, message);
        return;
    }
    let listen = loader.settings.listen;
    if !listen.ip().to_canonical().is_loopback() {
        let message = format!(
            "{listen} can be reached from other machines, and without a key everybody who reaches it may write. Let \
             `hailer init` write a configuration with a secret and start with --config hailer.toml, or listen on \
             127.0.0.1"
        );
        // There is nothing wrong with the flag as such.
        let place = loader.places.get("listen").filter(|place| !matches!(place, Place::Flag(_))).cloned();
        loader.problem(place.unwrap_or(Place::Default), "listen", message);
    }
}

fn auth(loader: &mut Loader) {
    let auth = loader.settings.auth.clone();
    if auth.allowed_drift > DRIFT_MAX {
        loader.problem_at("auth.allowed_drift", "expected at most \"60s\": set the clock right instead");
    }
    if auth.socket_id.matches(SUB).count() != 1 {
        loader.problem_at("auth.socket_id", "expected one {sub}, as in \"user_socket:{sub}\"");
    }
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if auth.token_param.is_empty() || !is_name(&auth.token_param) {
        loader.problem_at("auth.token_param", "expected the name of a parameter, of letters, digits and -_.");
    } else if auth.token_param == "vsn" {
        loader.problem_at("auth.token_param", "the parameter \"vsn\" belongs to the protocol");
    }
    for (at, key) in auth.keys.iter().enumerate() {
        let place = |name: &str| format!("auth.keys[{at}].{name}");
        if key.secret.is_some() && !key.algorithm.is_symmetric() {
            loader.problem_at(&place("secret"), "this algorithm has a public key, in PEM: give file");
        }
        let is_same = |other: &super::AuthKey| key.kid.is_some() && other.kid == key.kid;
        if auth.keys[..at].iter().any(is_same) {
            loader.problem_at(&place("kid"), "another key has this kid already");
        }
    }
}

fn accounts(loader: &mut Loader) {
    let accounts = loader.settings.accounts.clone();
    let given: Vec<String> =
        loader.places.keys().filter(|key| key.starts_with("accounts.")).cloned().collect();
    match accounts.source {
        None => {
            if loader.places.contains_key("accounts") || !given.is_empty() {
                let key = given.first().map_or("accounts", String::as_str);
                loader.problem_at(
                    key,
                    "where are users looked up? Give accounts.source, \"store\" or \"postgres\"",
                );
            }
        }
        Some(AccountSource::Store) => {
            if loader.settings.store.path.is_none() {
                loader.problem_at("accounts.source", "\"store\" needs a database: give store.path");
            }
            for key in given
                .iter()
                .filter(|key| ["accounts.url", "accounts.url_file", "accounts.query"].contains(&&***key))
            {
                loader.problem_at(key, "this belongs to source = \"postgres\"");
            }
        }
        Some(AccountSource::Postgres) => {
            if accounts.url.is_none() {
                let message = "\"postgres\" needs a database: give accounts.url_file, or HAILER_ACCOUNTS_URL";
                loader.problem_at("accounts.source", message);
            }
            match &accounts.query {
                None => loader.problem_at("accounts.source", "\"postgres\" needs accounts.query"),
                Some(query) if !query.contains("$1") => {
                    loader.problem_at("accounts.query", "expected a query with $1, the token's sub");
                }
                Some(_) => {}
            }
        }
    }
    if accounts.deadline.is_zero() {
        loader.problem_at("accounts.deadline", "expected more than no time");
    }
}

fn topics(loader: &mut Loader) {
    let topics = loader.settings.topics.clone();
    for (at, rule) in topics.iter().enumerate() {
        let key = |name: &str| format!("topics[{at}].{name}");
        let shape = Shape::of(&rule.pattern);
        let names_a_user = matches!(shape, Shape::User(..));
        if rule.join == Who::Owner && !names_a_user {
            loader.problem_at(
                &key("join"),
                "\"owner\" is the user whom {sub} names, and this pattern has none",
            );
        }
        if !names_a_user && rule.push.iter().any(|right| right.by == Who::Owner) {
            loader.problem_at(
                &key("push"),
                "\"owner\" is the user whom {sub} names, and this pattern has none",
            );
        }
        if rule.auto_join && matches!(shape, Shape::Prefix(_)) {
            loader.problem_at(
                &key("auto_join"),
                "a pattern with * names no topic that could be joined by itself",
            );
        }
        if rule.auto_join && rule.join == Who::Nobody {
            loader.problem_at(&key("auto_join"), "nobody may join these topics");
        }
        match topics[..at].iter().position(|earlier| earlier.covers(rule)) {
            Some(earlier) if topics[earlier].pattern == rule.pattern => {
                loader.problem_at(&key("pattern"), "another rule has this pattern already");
            }
            Some(earlier) => notice(
                loader,
                &key("pattern"),
                format!(
                    "this rule never holds: the earlier \"{}\" matches all its topics",
                    topics[earlier].pattern
                ),
            ),
            None => {}
        }
        bounds(loader, at, rule);
    }
}

fn api(loader: &mut Loader) {
    let Settings { listen: clients, ref api, .. } = loader.settings;
    let api = api.clone();
    if let Some(listen) = api.listen.address() {
        let overlap =
            listen.ip() == clients.ip() || listen.ip().is_unspecified() || clients.ip().is_unspecified();
        if listen.port() != 0 && listen.port() == clients.port() && overlap {
            let message = format!(
                "clients have this port already (listen = \"{clients}\"): choose another, or \"off\""
            );
            loader.problem_at("api.listen", message);
        }
    }
    let is_name = |host: &String| is_host(host) || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if !api.hosts.iter().all(is_name) {
        let message = "expected host names such as \"hailer.example.com\", without scheme and port";
        loader.problem_at("api.hosts", message);
    }
    for (at, key) in api.keys.iter().enumerate() {
        let place = |name: &str| format!("api.keys[{at}].{name}");
        if let Some(fault) = key_name_fault(&key.name) {
            loader.problem_at(&place("name"), fault);
        }
        let earlier = &api.keys[..at];
        if earlier.iter().any(|other| other.name == key.name) {
            loader.problem_at(
                &place("name"),
                "another key has this name, and records could not tell them apart",
            );
        }
        if let Some(other) = earlier.iter().find(|other| other.hash == key.hash) {
            let message = format!("this is the key \"{}\" once more: a key has one name", other.name);
            loader.problem_at(&place("hash"), message);
        }
    }
}

fn messages(loader: &mut Loader) {
    let Settings { ref messages, ref admin, ref limits, ref store, .. } = loader.settings;
    let (messages, topic_bytes_max) = (messages.clone(), limits.topic_bytes_max);
    let without_store = store.path.is_none();
    let is_topic = |topic: &str| {
        !topic.is_empty()
            && topic.len() <= topic_bytes_max
            && !topic.contains('*')
            && !topic.chars().any(char::is_control)
    };
    let wrong = [
        ("admin.default_topic", !is_topic(&admin.default_topic)),
        ("admin.topics", !admin.topics.iter().all(|topic| is_topic(topic))),
    ];
    let untitled = admin.title.trim().is_empty() || admin.title.chars().any(char::is_control);
    let no_time = [
        ("admin.session_idle", admin.session_idle.is_zero()),
        ("admin.session_lifetime", admin.session_lifetime.is_zero()),
        ("messages.receipts_time", messages.receipts_time.is_zero()),
    ];
    for (key, _) in wrong.into_iter().filter(|(_, wrong)| *wrong) {
        let message = format!("expected names of topics, of at most {topic_bytes_max} bytes and without *");
        loader.problem_at(key, message);
    }
    if untitled {
        loader.problem_at("admin.title", "expected a title, without control characters");
    }
    for (key, _) in no_time.into_iter().filter(|(_, wrong)| *wrong) {
        loader.problem_at(key, "expected more than no time");
    }
    if messages.user_topic.matches(SUB).count() != 1 || !is_topic(&messages.user_topic) {
        loader.problem_at("messages.user_topic", "expected one {sub} and no *, as in \"user:{sub}\"");
    }
    if messages.default_durability == Durability::Disk && without_store {
        loader.problem_at("messages.default_durability", "\"disk\" needs a database: give store.path");
    }
}

/// What a rule allows that the limits don't.
fn bounds(loader: &mut Loader, at: usize, rule: &TopicRule) {
    let Limits { topic_bytes_max, message_bytes_max, .. } = loader.settings.limits;
    if rule.pattern.replace(SUB, "").trim_end_matches('*').len() > topic_bytes_max {
        let message = format!("no topic is that long: limits.topic_bytes_max is {topic_bytes_max}");
        notice(loader, &format!("topics[{at}].pattern"), message);
    }
    if rule.payload_bytes_max.is_some_and(|max| max > message_bytes_max) {
        let message = format!("no payload is that large: limits.message_bytes_max is {message_bytes_max}");
        notice(loader, &format!("topics[{at}].payload_bytes_max"), message);
    }
    if rule.join == Who::Nobody && !rule.push.is_empty() {
        notice(loader, &format!("topics[{at}].push"), "nobody may join, so nobody can push".to_owned());
    }
}

fn notice(loader: &mut Loader, key: &str, message: String) {
    let place = loader.places.get(key).cloned().unwrap_or(Place::Default);
    loader.notices.push(Problem { place, key: key.to_owned(), message });
}
