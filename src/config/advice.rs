//! What is unwise, although it may be meant.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CheckOrigin, KeyScope, Loaded, Place, Problem, RefusalStyle, Settings, TopicRule, WhenAway};
use crate::auth::connect::Secret;
use crate::auth::rights::Who;
use crate::limits::Limits;

/// phoenix.js gives a long-poll up after this time.
const POLL_PATIENCE: Duration = Duration::from_secs(20);
/// phoenix.js sends a heartbeat after this time, and a slow network holds it up.
const HEARTBEAT: Duration = Duration::from_secs(35);
const DRIFT_USUAL: Duration = Duration::from_secs(10);
const GRACE_USUAL: Duration = Duration::from_secs(300);
const CACHE_USUAL: Duration = Duration::from_secs(600);

/// Everything that is unwise, in the order of the file.
pub(super) fn warnings(loaded: &Loaded) -> Vec<Problem> {
    let mut found = loaded.notices().to_vec();
    let settings = &loaded.settings;
    let mut warn = |key: &str, message: &str| {
        found.push(Problem { place: loaded.place(key), key: key.to_owned(), message: message.to_owned() });
    };
    network(settings, &mut warn);
    limits(&settings.limits, &mut warn);
    if !settings.is_demo() {
        auth(settings, &mut warn);
        topics(settings, &mut warn);
    }
    accounts(settings, &mut warn);
    api(settings, &mut warn);
    messages(settings, &mut warn);
    for key in ["auth.secret", "accounts.url"] {
        if matches!(loaded.place(key), Place::File { .. }) {
            warn(
                key,
                "a secret in the configuration is easily copied along with it: use the …_file \
                 setting, or the environment",
            );
        }
    }
    for at in 0..settings.auth.keys.len() {
        if settings.auth.keys[at].secret.is_some() {
            let key = format!("auth.keys[{at}].secret");
            warn(&key, "a secret in the configuration is easily copied along with it: use file");
        }
    }
    found.sort();
    found
}

fn network(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    if settings.check_origin == CheckOrigin::Off {
        warn(
            "check_origin",
            "false lets every web page of the world connect as its visitor: list the origins",
        );
    }
    if !settings.listen.ip().to_canonical().is_loopback() {
        let message = "other machines reach this address without TLS: tokens and messages can be read on the way. \
                       Put a proxy with TLS before it";
        warn("listen", message);
    }
}

fn limits(limits: &Limits, warn: &mut dyn FnMut(&str, &str)) {
    let mut check = |unwise: bool, name: &str, message: &str| {
        if unwise {
            warn(&format!("limits.{name}"), message);
        }
    };
    let Limits { message_bytes_max: message, .. } = *limits;
    check(
        limits.frame_bytes_max > message,
        "frame_bytes_max",
        "a frame above message_bytes_max is refused all the same",
    );
    check(
        limits.outbox_bytes_max < message,
        "outbox_bytes_max",
        "a reply as large as message_bytes_max closes its client",
    );
    check(
        limits.topic_log_bytes_max < message,
        "topic_log_bytes_max",
        "a broadcast as large as message_bytes_max makes every subscriber a slow reader",
    );
    check(
        limits.mailbox_bytes_max < message,
        "mailbox_bytes_max",
        "a message as large as message_bytes_max finds no room",
    );
    check(
        limits.target_bytes_max > limits.head_bytes_max,
        "target_bytes_max",
        "a target above head_bytes_max is refused all the same",
    );
    check(
        limits.poll_window >= POLL_PATIENCE,
        "poll_window",
        "phoenix.js gives a poll up after 20s: choose less",
    );
    check(
        limits.keep_alive_timeout < limits.poll_window,
        "keep_alive_timeout",
        "a long-poll client's second connection ends within a poll_window, and each POST needs another",
    );
    check(
        limits.idle_timeout < HEARTBEAT,
        "idle_timeout",
        "phoenix.js sends a heartbeat every 30s: choose at least 35s, or idle clients are closed",
    );
    check(
        limits.drain_timeout < limits.close_timeout,
        "drain_timeout",
        "a stop ends before the close_timeout of its clients",
    );
}

fn auth(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    let auth = &settings.auth;
    if !auth.require_exp {
        warn("auth.require_exp", "false takes tokens that never run out: a stolen one is good for ever");
    }
    if auth.typ.is_empty() {
        warn("auth.typ", "\"\" takes tokens of every type, refresh tokens too");
    }
    if auth.allowed_drift > DRIFT_USUAL {
        warn(
            "auth.allowed_drift",
            "more than 10s hides a clock that is wrong, and keeps tokens alive that have run out",
        );
    }
    if auth.expiry_grace > GRACE_USUAL {
        warn("auth.expiry_grace", "a socket whose token has run out goes on for more than five minutes");
    }
    if auth.refusal == RefusalStyle::Polite {
        warn(
            "auth.refusal",
            "\"polite\" tells whoever asks why a token is not good, and costs an upgrade each time",
        );
    }
    let anyone_joins = settings.topics.iter().any(|rule| rule.join == Who::Anyone);
    if auth.anonymous && !anyone_joins {
        let message = "clients without a token may connect, but no rule of [[topics]] has join = \"anyone\": there is nothing \
                       that they may join";
        warn("auth.anonymous", message);
    }
    if settings.store.path.is_none() {
        warn(
            "store.path",
            "without it denied tokens, sent messages and the audit log are kept in memory: after a restart the tokens are \
             good again, and the rest is forgotten",
        );
    }
}

fn topics(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    for (at, rule) in settings.topics.iter().enumerate() {
        let anyone = rule.join == Who::Anyone;
        if anyone && rule.push.iter().any(|right| right.by == Who::Anyone) {
            let message = "whoever reaches the server may write to whoever has joined";
            warn(&format!("topics[{at}].push"), message);
        }
        if anyone && !settings.auth.anonymous {
            let message = "\"anyone\" is as \"user\" here: without auth.anonymous = true nobody connects \
                           without a token";
            warn(&format!("topics[{at}].join"), message);
        }
        if rule.join == Who::User && rule.pattern.contains(super::topics::SUB) {
            let message =
                "\"user\" lets every user into every other's topic: \"owner\" is the user whom {sub} names";
            warn(&format!("topics[{at}].join"), message);
        }
    }
}

fn accounts(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    let accounts = &settings.accounts;
    if accounts.source.is_none() {
        return;
    }
    if accounts.when_away == WhenAway::Cached {
        warn("accounts.when_away", "\"cached\" lets users in who were disabled while the database is away");
    }
    if accounts.cache_lifetime > CACHE_USUAL {
        warn(
            "accounts.cache_lifetime",
            "a user who is disabled may connect until it is over: more than ten minutes",
        );
    }
    if accounts.deadline >= settings.limits.connect_timeout {
        warn("accounts.deadline", "a client is refused by limits.connect_timeout before its look-up is");
    }
    if accounts.url.as_ref().is_some_and(sends_password_in_clear) {
        let key = if accounts.url_file.is_some() { "accounts.url_file" } else { "accounts.url" };
        let message = "the password goes to another host without TLS, which is not spoken to PostgreSQL: put a pooler or \
                       a tunnel that does on this machine";
        warn(key, message);
    }
}

fn api(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    let Settings { ref api, ref admin, ref limits, .. } = *settings;
    let Some(listen) = api.listen.address() else { return };
    if !listen.ip().to_canonical().is_loopback() {
        if !admin.tls {
            let message = "other machines reach this address without TLS: keys, passwords and messages can be read on \
                           the way. Put a proxy with TLS before it, and set admin.tls = true";
            warn("api.listen", message);
        }
        if api.hosts.is_empty() {
            let message = "other machines reach this address, but no name that they call it by is listed: requests \
                           with one are refused";
            warn("api.hosts", message);
        }
        if api.metrics_open {
            warn("api.metrics_open", "whoever reaches this address may read how much the server does");
        }
    }
    if api.payload_bytes_max > limits.request_bytes_max {
        warn("api.payload_bytes_max", "a payload above limits.request_bytes_max is refused all the same");
    }
    if api.payload_bytes_max > limits.topic_log_bytes_max {
        let message = "a payload as large as this makes every subscriber a slow reader: limits.topic_log_bytes_max is less";
        warn("api.payload_bytes_max", message);
    }
    for (at, key) in api.keys.iter().enumerate() {
        let all = [KeyScope::Publish, KeyScope::Disconnect, KeyScope::Read];
        if key.topics.is_empty() && all.iter().all(|scope| key.scopes.contains(scope)) {
            let message = "this key may do everything, on all topics: give each program a key of its own, with the \
                           scopes and topics that it needs";
            warn(&format!("api.keys[{at}].scopes"), message);
        }
    }
    if admin.session_idle > admin.session_lifetime {
        warn("admin.session_idle", "a session ends with session_lifetime all the same, which is less");
    }
}

fn messages(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    let messages = &settings.messages;
    let own = TopicRule { pattern: messages.user_topic.clone(), ..TopicRule::default() };
    let rule = settings.topics.iter().find(|rule| rule.covers(&own));
    if !settings.is_demo() && rule.is_none_or(|rule| rule.join == Who::Nobody) {
        let message =
            "no rule of [[topics]] lets users join these topics, so that nobody gets what is sent to a user";
        warn("messages.user_topic", message);
    }
    back_office_topics(settings, warn);
    if messages.lifetime_max > messages.keep_records {
        let message =
            "the record of a message may go before its lifetime is over; it can't be retracted then";
        warn("messages.lifetime_max", message);
    }
}

/// Topics that the back office offers, where what is sent would reach nobody.
fn back_office_topics(settings: &Settings, warn: &mut dyn FnMut(&str, &str)) {
    let admin = &settings.admin;
    if settings.is_demo() || !admin.enabled || settings.api.listen.address().is_none() {
        return;
    }
    let is_joined = |topic: &String| {
        let topic = TopicRule { pattern: topic.clone(), ..TopicRule::default() };
        settings.topics.iter().find(|rule| rule.covers(&topic)).is_some_and(|rule| rule.join != Who::Nobody)
    };
    if !is_joined(&admin.default_topic) {
        let message = "no rule of [[topics]] lets anybody join this topic, so that a message to everyone reaches nobody";
        warn("admin.default_topic", message);
    }
    for topic in admin.topics.iter().filter(|topic| !is_joined(topic)) {
        let message = format!(
            "no rule of [[topics]] lets anybody join \"{topic}\", so that what is sent there reaches nobody"
        );
        warn("admin.topics", &message);
    }
}

/// Whether a connection by this URL, or by these `name=value` pairs, may show a password to the network.
fn sends_password_in_clear(url: &Secret) -> bool {
    let url = url.expose();
    let value = |name: &str| {
        let pairs = url.split_once('?').map_or(url, |(_, query)| query);
        pairs.split([' ', '&']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    let with_tls = value("sslmode").is_some_and(|mode| mode == "require" || mode.starts_with("verify-"));
    let is_local = |host: &str| {
        let name = host.strip_prefix('[').map_or(host, |inner| inner.split(']').next().unwrap_or_default());
        let name = if host.starts_with('[') { name } else { name.split(':').next().unwrap_or_default() };
        let address = name.parse::<std::net::IpAddr>();
        // A socket of the machine's own is a path, in a URL with its slashes escaped.
        let is_path = name.is_empty() || name.starts_with(['/', '@']) || name.starts_with("%2");
        is_path || name == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    let (password, hosts) = match url.split_once("://") {
        Some((_, rest)) => {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
            let hosts = if hosts.is_empty() { value("host").unwrap_or_default() } else { hosts };
            (user.contains(':') || value("password").is_some(), hosts)
        }
        None => (value("password").is_some(), value("host").unwrap_or_default()),
    };
    password && !with_tls && !hosts.split(',').all(is_local)
}

/// The files that hold secrets.
pub(super) fn secret_files(loaded: &Loaded, file: Option<&Path>) -> Vec<PathBuf> {
    let settings = &loaded.settings;
    let in_file = |key: &str| matches!(loaded.place(key), Place::File { .. });
    let keys = &settings.auth.keys;
    let own =
        in_file("auth.secret") || in_file("accounts.url") || keys.iter().any(|key| key.secret.is_some());
    let own = file.filter(|_| own).map(Path::to_owned);
    let of_keys = keys.iter().filter(|key| key.algorithm.is_symmetric()).filter_map(|key| key.file.clone());
    // Nobody minds who reads public keys.
    let symmetric = settings.auth.jwks.as_ref().is_some_and(|jwks| jwks.expose().contains("\"oct\""));
    let jwks = settings.auth.jwks_file.clone().filter(|_| symmetric);
    let others = [&settings.auth.secret_file, &settings.accounts.url_file, &settings.store.path];
    own.into_iter().chain(others.into_iter().flatten().cloned()).chain(of_keys).chain(jwks).collect()
}

/// What is unwise about the mode of a file that holds secrets, if anything.
#[must_use]
pub fn exposed(path: &Path, mode: u32) -> Option<String> {
    (mode & 0o077 != 0).then(|| {
        let name = path.display();
        format!(
            "{name}: it holds secrets, and others may read it (mode {:04o}): chmod 600 {name}",
            mode & 0o7777
        )
    })
}
