//! Reads the file.

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::api::ApiKey;
use super::load::{Loader, path, plain_settings};
use super::settings::AuthKey;
use super::topics::{TopicRule, pattern_fault};
use super::value::{Given, Node, Wrong};
use super::{Place, Problem};
use crate::suggest::nearest;

/// The tables of the file, and its lists of tables.
const TABLES: &[&str] = &["limits", "auth", "store", "accounts", "api", "admin", "messages"];
const LISTS: &[&str] = &["auth.keys", "api.keys", "topics"];

/// Reads the text into the loader's settings, as far as it is sound.
pub(super) fn read(loader: &mut Loader, path: &Path, text: &str) {
    let (root, errors) = DeTable::parse_recoverable(text);
    // What stands in a broken file may not be what was meant, so nothing more is said of it.
    if !errors.is_empty() {
        loader.problems.extend(errors.iter().map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            // The error's own text would quote the line, with whatever secret stands there.
            let message = error.message().to_owned();
            Problem { place: Place::in_file(path, text, at), key: String::new(), message }
        }));
        return;
    }
    let mut file = File { loader, path, text };
    file.table("", root.get_ref());
}

struct File<'a> {
    loader: &'a mut Loader,
    path: &'a Path,
    text: &'a str,
}

/// A type with settings of its own, of which the file has a list.
trait Listed: Default {
    const KEYS: &'static [&'static str];
    const REQUIRED: &'static [&'static str];
    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Wrong>>;
}

impl Listed for AuthKey {
    const KEYS: &'static [&'static str] = Self::KEYS;
    const REQUIRED: &'static [&'static str] = &["algorithm"];

    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Wrong>> {
        self.set(key, given)
    }
}

impl Listed for ApiKey {
    const KEYS: &'static [&'static str] = Self::KEYS;
    const REQUIRED: &'static [&'static str] = &["name", "hash", "scopes"];

    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Wrong>> {
        self.set(key, given)
    }
}

impl Listed for TopicRule {
    const KEYS: &'static [&'static str] = Self::KEYS;
    const REQUIRED: &'static [&'static str] = &["pattern", "join"];

    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Wrong>> {
        let result = self.set(key, given);
        match pattern_fault(&self.pattern) {
            Some(fault) if key == "pattern" && matches!(result, Some(Ok(()))) => Some(Err(Wrong::new(fault))),
            _ => result,
        }
    }
}

impl File<'_> {
    fn place(&self, at: usize) -> Place {
        Place::in_file(self.path, self.text, at)
    }

    /// Reads a table; the one above all has no name.
    fn table(&mut self, table: &str, members: &DeTable<'_>) {
        for (key, node) in members {
            let name = key.get_ref().as_ref();
            let whole = path(table, name);
            match (&*whole, node.get_ref()) {
                ("topics", _) => self.loader.settings.topics = self.list(&whole, node),
                ("auth.keys", _) => self.loader.settings.auth.keys = self.list(&whole, node),
                ("api.keys", _) => self.loader.settings.api.keys = self.list(&whole, node),
                (known, DeValue::Table(members)) if TABLES.contains(&known) => {
                    self.loader.places.insert(whole, self.place(key.span().start));
                    self.table(name, members);
                }
                (known, _) if TABLES.contains(&known) => {
                    self.wrong(node, &whole, format!("expected a table: [{known}]"));
                }
                _ => {
                    let start = key.span().start;
                    let (text, file) = (self.text, self.path);
                    let place = |span: Option<std::ops::Range<usize>>| {
                        Place::in_file(file, text, span.map_or(start, |span| span.start))
                    };
                    if !self.loader.set((table, name), Given::Node(node), &place) {
                        self.unknown(table, name, start);
                    }
                }
            }
        }
    }

    fn wrong(&mut self, node: &Node<'_>, key: &str, message: impl Into<String>) {
        let place = self.place(node.span().start);
        self.loader.problem(place, key, message);
    }

    /// Says that there is no such setting, and which may have been meant.
    fn unknown(&mut self, table: &str, name: &str, at: usize) {
        let elsewhere = plain_settings().find(|(_, key)| *key == name);
        let message = match elsewhere {
            Some((other, _)) => {
                let place = if other.is_empty() {
                    "stands above all tables".to_owned()
                } else {
                    format!("belongs to [{other}]")
                };
                format!("there is no such setting here; \"{name}\" {place}")
            }
            None => {
                let own = plain_settings().filter(|(other, _)| *other == table).map(|(_, key)| key);
                let below = TABLES.iter().chain(LISTS).filter_map(|whole| {
                    let (parent, name) = whole.rsplit_once('.').unwrap_or(("", whole));
                    (parent == table).then_some(name)
                });
                no_such_setting(nearest(name, own.chain(below)))
            }
        };
        let place = self.place(at);
        self.loader.problem(place, path(table, name), message);
    }

    /// Reads a list of tables.
    fn list<T: Listed>(&mut self, name: &str, node: &Node<'_>) -> Vec<T> {
        let DeValue::Array(nodes) = node.get_ref() else {
            self.wrong(node, name, format!("expected a list of tables: [[{name}]], with two brackets"));
            return Vec::new();
        };
        let mut list = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let whole = format!("{name}[{at}]");
            match node.get_ref() {
                DeValue::Table(members) => {
                    let place = self.place(node.span().start);
                    self.loader.places.insert(whole.clone(), place);
                    list.push(self.entry(&whole, node, members));
                }
                _ => self.wrong(node, &whole, format!("expected a table: [[{name}]]")),
            }
        }
        list
    }

    fn entry<T: Listed>(&mut self, name: &str, node: &Node<'_>, members: &DeTable<'_>) -> T {
        let mut entry = T::default();
        for (key, value) in members {
            let whole = path(name, key.get_ref());
            let start = key.span().start;
            match entry.set(key.get_ref(), Given::Node(value)) {
                Some(Ok(())) => {
                    let place = self.place(start);
                    self.loader.places.insert(whole, place);
                }
                Some(Err(wrong)) => {
                    let place = self.place(wrong.span.map_or(start, |span| span.start));
                    self.loader.problem(place, whole, wrong.message);
                }
                None => {
                    let message = no_such_setting(nearest(key.get_ref(), T::KEYS.iter().copied()));
                    let place = self.place(start);
                    self.loader.problem(place, whole, message);
                }
            }
        }
        for required in T::REQUIRED {
            if !members.keys().any(|key| key.get_ref() == required) {
                self.wrong(node, name, format!("{required} is missing"));
            }
        }
        entry
    }
}

fn no_such_setting(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("there is no such setting; did you mean \"{nearest}\"?"),
        None => "there is no such setting; docs/configuration.md lists all".to_owned(),
    }
}
