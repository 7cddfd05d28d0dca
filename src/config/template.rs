//! The file that `hailer init` writes: every setting with its description and default, commented out, and the few
//! that matter set.

use std::fmt::Write as _;

use super::report::limit_rows;
use super::table::Row;
use super::value::quoted;
use super::{ApiKey, AuthKey, Settings, TopicRule};

/// What is not commented out: the setting, and its value unless that is its default.
const SET: &[&str] = &["listen", "check_origin", "path"];

const HEAD: &str = "\
# The configuration of Hailer.
#
# Lines with ## describe the setting below them. A setting that is commented out shows its default, or an example
# where nothing is set; to set it, take the \"# \" before it away, and that before its [table] as well.
#
# `hailer check-config --config FILE` prints what is in force and warns of what is unwise. The environment goes before
# this file (HAILER_LISTEN, HAILER_AUTH_ISSUER, HAILER_LIMITS_IDLE_TIMEOUT; no [[lists]]), and flags go before both.
# Paths are relative to the folder of this file. docs/configuration.md says more.

";

/// A configuration whose secret lies in `secret_file`, which is relative to the configuration's folder.
#[must_use]
pub fn template(secret_file: &str) -> String {
    let settings = Settings::default();
    let secret = quoted(secret_file);
    let mut text = HEAD.to_owned();
    let mut table = |header: &str, commented: bool, rows: Vec<Row>| {
        let mark = if commented { "# " } else { "" };
        // Only memory could fail, and that does not return.
        let _ = if header.is_empty() { Ok(()) } else { writeln!(text, "\n{mark}{header}\n") };
        for row in rows {
            for line in wrapped(&row.about) {
                let _ = writeln!(text, "## {line}");
            }
            // An example tells more than a default that nobody could want.
            let value =
                row.value.filter(|_| row.example.is_empty()).unwrap_or_else(|| row.example.to_owned());
            let _ = match row.key {
                "secret_file" if !commented => writeln!(text, "secret_file = {secret}"),
                key if !commented && SET.contains(&key) => writeln!(text, "{key} = {value}"),
                key => writeln!(text, "# {key} = {value}"),
            };
        }
    };
    table("", false, settings.rows());
    table("[limits]", false, limit_rows(&settings.limits));
    table("[auth]", false, settings.auth.rows());
    table("[[auth.keys]]", true, AuthKey::default().rows());
    table("[store]", false, settings.store.rows());
    table("[accounts]", true, settings.accounts.rows());
    table("[api]", false, settings.api.rows());
    table("[[api.keys]]", true, ApiKey::default().rows());
    table("[admin]", false, settings.admin.rows());
    table("[messages]", false, settings.messages.rows());
    table("[[topics]]", true, TopicRule::default().rows());
    for rule in TopicRule::defaults() {
        text.push_str("\n[[topics]]\n");
        let default = TopicRule::default().rows();
        for (row, default) in rule.rows().into_iter().zip(default) {
            if let Some(value) = row.value.filter(|value| default.value.as_ref() != Some(value)) {
                let _ = writeln!(text, "{} = {value}", row.key);
            }
        }
    }
    text
}

/// The description in lines that fit a screen.
fn wrapped(about: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in about.split_whitespace() {
        let line = lines.last_mut().filter(|line| line.len() + word.len() < 100);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
