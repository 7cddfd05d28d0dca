//! Puts the configuration together from its parts.

use std::collections::BTreeMap;
use std::path::Path;

use super::settings::Settings;
use super::topics::TopicRule;
use super::value::{Given, Setting, Wrong, integer};
use super::{ConfigError, Flags, Inputs, Loaded, OTHER_VARIABLES, Place, Problem, check, file};
use crate::auth::connect::Secret;
use crate::limits::{LimitError, Limits};
use crate::suggest::nearest;

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "HAILER_";

/// Settings that exclude each other: what is given later puts the other out of force.
const PAIRS: &[(&str, &str)] = &[("auth.secret", "auth.secret_file"), ("accounts.url", "accounts.url_file")];

/// A configuration under construction.
pub(super) struct Loader {
    pub(super) settings: Settings,
    pub(super) places: BTreeMap<String, Place>,
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<Problem>,
}

pub(super) fn load(inputs: &Inputs<'_>) -> Result<Loaded, ConfigError> {
    let mut loader = Loader {
        settings: Settings::default(),
        places: BTreeMap::new(),
        problems: Vec::new(),
        notices: Vec::new(),
    };
    if let Some((path, text)) = inputs.file {
        file::read(&mut loader, path, text);
    }
    loader.environment(inputs.environment);
    loader.flags(&inputs.flags);
    loader.resolve_paths(inputs.file.map(|(path, _)| path));
    loader.read_files(inputs.read);
    // What contradicts what is only said of a configuration whose parts are sound.
    if loader.problems.is_empty() {
        check::check(&mut loader);
    }
    if !loader.problems.is_empty() {
        return Err(ConfigError::new(loader.problems));
    }
    if !loader.settings.is_demo() && loader.settings.topics.is_empty() {
        loader.settings.topics = TopicRule::defaults();
    }
    loader.notices.sort();
    Ok(Loaded { settings: loader.settings, places: loader.places, notices: loader.notices })
}

/// The settings that are no lists of tables: the table's name (empty above all tables) and the setting's.
pub(super) fn plain_settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    let limits: Vec<_> = Limits::default().table().into_iter().map(|(name, _, _)| ("limits", name)).collect();
    let of = |table, keys: &'static [&'static str]| keys.iter().map(move |key| (table, *key));
    of("", Settings::KEYS)
        .chain(limits)
        .chain(of("auth", super::Auth::KEYS))
        .chain(of("store", super::Store::KEYS))
        .chain(of("accounts", super::Accounts::KEYS))
        .chain(of("api", super::Api::KEYS))
        .chain(of("admin", super::Admin::KEYS))
        .chain(of("messages", super::Messages::KEYS))
}

/// A setting's whole name.
pub(super) fn path(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// The variable of a setting.
pub(super) fn variable(table: &str, key: &str) -> String {
    format!("{PREFIX}{}", path(table, key).replace('.', "_").to_ascii_uppercase())
}

impl Loader {
    pub(super) fn problem(&mut self, place: Place, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { place, key: key.into(), message: message.into() });
    }

    /// Says that the setting of this name is wrong, where it was set.
    pub(super) fn problem_at(&mut self, key: &str, message: impl Into<String>) {
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        self.problem(place, key, message);
    }

    /// Sets a setting; `false` if there is none of this name. `place` is that of a part of the value.
    pub(super) fn set(
        &mut self,
        (table, key): (&str, &str),
        given: Given<'_>,
        place: &dyn Fn(Option<std::ops::Range<usize>>) -> Place,
    ) -> bool {
        let result = match table {
            "limits" => self.set_limit(key, given),
            "auth" => self.settings.auth.set(key, given),
            "store" => self.settings.store.set(key, given),
            "accounts" => self.settings.accounts.set(key, given),
            "api" => self.settings.api.set(key, given),
            "admin" => self.settings.admin.set(key, given),
            "messages" => self.settings.messages.set(key, given),
            _ => self.settings.set(key, given),
        };
        match result {
            None => return false,
            Some(Ok(())) => self.note(path(table, key), place(None)),
            Some(Err(wrong)) => self.problem(place(wrong.span), path(table, key), wrong.message),
        }
        true
    }

    fn set_limit(&mut self, name: &str, given: Given<'_>) -> Option<Result<(), Wrong>> {
        let text = match given {
            Given::Text(text) => text.to_owned(),
            Given::Node(node) => match integer(node) {
                Some(number) => number.to_string(),
                None => node.get_ref().as_str().unwrap_or_default().to_owned(),
            },
        };
        match self.settings.limits.set(name, &text) {
            Ok(()) => Some(Ok(())),
            Err(LimitError::UnknownName { .. }) => None,
            Err(LimitError::BadValue { least, .. }) => {
                let example = if least.ends_with('s') { "10s" } else { "64KiB" };
                Some(Err(Wrong::new(format!(
                    "expected a value such as 100 or \"{example}\", at least {least}"
                ))))
            }
        }
    }

    /// Keeps where a setting comes from, and what it puts out of force.
    fn note(&mut self, key: String, place: Place) {
        let pair = PAIRS.iter().find(|(one, other)| key == *one || key == *other);
        if let Some((one, other)) = pair {
            let other = if key == *one { *other } else { *one };
            match self.places.get(other).map(Place::rank) {
                Some(rank) if rank == place.rank() => {
                    let name = other.rsplit('.').next().unwrap_or(other);
                    self.problem(place.clone(), &*key, format!("give this or {name}, not both"));
                }
                Some(_) => {
                    self.places.remove(other);
                    self.forget(other);
                }
                None => {}
            }
        }
        self.places.insert(key, place);
    }

    fn forget(&mut self, key: &str) {
        match key {
            "auth.secret" => self.settings.auth.secret = None,
            "auth.secret_file" => self.settings.auth.secret_file = None,
            "accounts.url" => self.settings.accounts.url = None,
            _ => self.settings.accounts.url_file = None,
        }
    }

    fn environment(&mut self, environment: &[(String, String)]) {
        let known: BTreeMap<String, (&str, &str)> =
            plain_settings().map(|(table, key)| (variable(table, key), (table, key))).collect();
        for (name, value) in environment {
            if !name.starts_with(PREFIX) || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let place = Place::Variable(name.clone());
            match known.get(name) {
                Some(setting) => {
                    self.set(*setting, Given::Text(value), &|_| place.clone());
                }
                // No error: whoever starts the server may keep variables of that name for purposes of their own
                // (Kubernetes makes some for a service called "hailer").
                None => {
                    // What all names begin with would make any two of them alike.
                    let own = known.keys().map(|name| &name[PREFIX.len()..]);
                    let message = match nearest(&name[PREFIX.len()..], own) {
                        Some(nearest) => format!("there is no such setting; did you mean {PREFIX}{nearest}?"),
                        None => "there is no such setting".to_owned(),
                    };
                    self.notices.push(Problem { place, key: String::new(), message });
                }
            }
        }
    }

    fn flags(&mut self, flags: &Flags) {
        let flag = |name| move |_| Place::Flag(name);
        // The command line has read these already; what it has found holds.
        if let Some(listen) = flags.listen {
            self.settings.listen = listen;
            self.note("listen".to_owned(), Place::Flag("--listen"));
        }
        if let Some(listen) = flags.api_listen {
            self.settings.api.listen = listen;
            self.note("api.listen".to_owned(), Place::Flag("--api-listen"));
        }
        if let Some(shards) = flags.shards {
            self.settings.shards = Some(shards);
            self.note("shards".to_owned(), Place::Flag("--shards"));
        }
        if let Some(slow_readers) = flags.slow_readers {
            self.settings.slow_readers = slow_readers;
            self.note("slow_readers".to_owned(), Place::Flag("--slow-readers"));
        }
        if let Some(io_uring) = flags.io_uring {
            self.settings.io_uring = io_uring;
            self.note("io_uring".to_owned(), Place::Flag("--io-uring"));
        }
        if let Some(level) = flags.log_level {
            self.settings.log_level = level;
            self.note("log_level".to_owned(), Place::Flag("--log-level"));
        }
        if let Some(check_origin) = &flags.check_origin {
            self.settings.check_origin = check_origin.clone();
            self.note("check_origin".to_owned(), Place::Flag("--check-origin"));
        }
        if let Some(timeout) = flags.timeout {
            self.settings.limits.idle_timeout = timeout;
            self.note("limits.idle_timeout".to_owned(), Place::Flag("--timeout"));
        }
        for (name, value) in &flags.limits {
            if !self.set(("limits", name), Given::Text(value), &flag("--limit")) {
                self.problem(Place::Flag("--limit"), "", format!("there is no limit named \"{name}\""));
            }
        }
        self.settings.demo_topics.clone_from(&flags.topics);
        if !flags.topics.is_empty() {
            self.note("demo_topics".to_owned(), Place::Flag("--topic"));
        }
    }

    /// Makes paths that the file names relative to the file's folder.
    fn resolve_paths(&mut self, file: Option<&Path>) {
        let Some(folder) = file.and_then(Path::parent) else { return };
        let auth = &mut self.settings.auth;
        let paths = [
            ("auth.secret_file", &mut auth.secret_file),
            ("auth.jwks_file", &mut auth.jwks_file),
            ("store.path", &mut self.settings.store.path),
            ("accounts.url_file", &mut self.settings.accounts.url_file),
        ];
        for (key, path) in paths {
            if matches!(self.places.get(key), Some(Place::File { .. }))
                && let Some(path) = path
            {
                *path = folder.join(&*path);
            }
        }
        for path in auth.keys.iter_mut().filter_map(|key| key.file.as_mut()) {
            *path = folder.join(&*path);
        }
    }

    /// Reads the files that settings name.
    fn read_files(&mut self, read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>) {
        if let Some(path) = self.settings.auth.secret_file.clone() {
            self.settings.auth.secret = self.read_text("auth.secret_file", &path, read);
        }
        if let Some(path) = self.settings.auth.jwks_file.clone() {
            self.settings.auth.jwks = self.read_text("auth.jwks_file", &path, read);
        }
        if let Some(path) = self.settings.accounts.url_file.clone() {
            self.settings.accounts.url = self.read_text("accounts.url_file", &path, read);
        }
        for at in 0..self.settings.auth.keys.len() {
            let key = self.settings.auth.keys[at].clone();
            let text = match (key.file, key.secret) {
                (Some(path), None) => self.read_text(&format!("auth.keys[{at}].file"), &path, read),
                (None, Some(secret)) => Some(secret),
                (file, _) => {
                    let table = format!("auth.keys[{at}]");
                    let both = file.is_some();
                    let message = if both { "give file or secret, not both" } else { "give file or secret" };
                    self.problem_at(&table, message);
                    None
                }
            };
            self.settings.auth.keys[at].text = text.unwrap_or_default();
        }
    }

    fn read_text(
        &mut self,
        key: &str,
        path: &Path,
        read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Option<Secret> {
        let name = path.display();
        let fault = match read(path).map(String::from_utf8) {
            Err(error) => format!("can't read {name}: {error}"),
            // The error would hold the text.
            Ok(Err(_)) => format!("{name} is not text (UTF-8); give other bytes in base64"),
            Ok(Ok(text)) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                match Secret::from_text(text) {
                    Some(secret) => return Some(secret),
                    None => format!("{name} is empty"),
                }
            }
        };
        self.problem_at(key, fault);
        None
    }
}
