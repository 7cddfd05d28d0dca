//! What is in force, as TOML.

use std::fmt::Write as _;

use super::table::Row;
use super::value::quoted;
use super::{ApiKey, AuthKey, Loaded, Place, TopicRule};
use crate::limits::Limits;

/// The rows of the limits, which have a table of their own.
pub(super) fn limit_rows(limits: &Limits) -> Vec<Row> {
    let row = |(key, value, about): (&'static str, String, &str)| {
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        let value = if is_number { value } else { quoted(&value) };
        Row { key, about: about.to_owned(), value: Some(value), example: "" }
    };
    limits.table().into_iter().map(row).collect()
}

pub(super) fn report(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let mut text = String::new();
    let mut table = |header: String, name: &str, rows: Vec<Row>| {
        if !header.is_empty() {
            // Only memory could fail, and that does not return.
            let _ = writeln!(text, "\n{header}");
        }
        for row in rows {
            let key = super::load::path(name, row.key);
            line(&mut text, loaded, &key, &row);
        }
    };
    table(String::new(), "", settings.rows());
    table("[limits]".to_owned(), "limits", limit_rows(&settings.limits));
    // A table without what it is for would be refused if it were read again.
    if settings.is_demo() {
        table("# [auth] is not configured: this is the open demo".to_owned(), "", Vec::new());
    } else {
        table("[auth]".to_owned(), "auth", settings.auth.rows());
    }
    for (at, key) in settings.auth.keys.iter().enumerate() {
        table("[[auth.keys]]".to_owned(), &format!("auth.keys[{at}]"), AuthKey::rows(key));
    }
    table("[store]".to_owned(), "store", settings.store.rows());
    if settings.accounts.source.is_some() {
        table("[accounts]".to_owned(), "accounts", settings.accounts.rows());
    } else {
        table("# [accounts] is not configured: no user is looked up".to_owned(), "", Vec::new());
    }
    table("[api]".to_owned(), "api", settings.api.rows());
    if settings.api.keys.is_empty() {
        let header = if settings.is_demo() {
            "# [[api.keys]] is not configured: each run of the open demo has a key of its own, which it prints"
        } else {
            "# [[api.keys]] is not configured: nobody may use the API"
        };
        table(header.to_owned(), "", Vec::new());
    }
    for (at, key) in settings.api.keys.iter().enumerate() {
        table("[[api.keys]]".to_owned(), &format!("api.keys[{at}]"), ApiKey::rows(key));
    }
    table("[admin]".to_owned(), "admin", settings.admin.rows());
    table("[messages]".to_owned(), "messages", settings.messages.rows());
    for (at, rule) in settings.topics.iter().enumerate() {
        table("[[topics]]".to_owned(), &format!("topics[{at}]"), TopicRule::rows(rule));
    }
    text
}

fn line(text: &mut String, loaded: &Loaded, key: &str, row: &Row) {
    let place = loaded.place(key);
    let is_read = matches!(key, "auth.secret" | "accounts.url") && place == Place::Default;
    let _ = match &row.value {
        None => writeln!(text, "# {} is not set", row.key),
        // Its file is the setting; a file with both would be refused.
        Some(_) if is_read => writeln!(text, "# {} is in {}_file", row.key, row.key),
        Some(value) => writeln!(text, "{:<40} # {place}", format!("{} = {value}", row.key)),
    };
}
