//! `hailer users`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::args::ConfigFile;
use crate::auth::UnixTime;
use crate::config::{AccountSource, Flags, Settings};
use crate::server::store::{Store, StoreError, StoreErrorKind, User};
use crate::server::unix_time;

/// Users that are read from the store and printed at a time.
const PAGE: usize = 1000;

const STORE_HELP: &str = "\
The store is the SQLite file that the server has as [store] path. A running server notices what is changed here, if it \
looks users up in its store ([accounts] source = \"store\").";

#[derive(Debug, Subcommand)]
#[command(after_help = STORE_HELP)]
pub(super) enum Users {
    /// Adds a user; the store is made if it is missing
    Add {
        /// The user's id: what tokens have as `sub`
        id: String,
        /// What people call the user
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        options: StoreOptions,
    },
    /// Lists all users
    List {
        #[command(flatten)]
        options: StoreOptions,
    },
    /// Shows one user
    Show(OneUser),
    /// Keeps a user from connecting, and closes the sockets that are open
    Disable(OneUser),
    /// Lets a user connect again
    Enable(OneUser),
    /// Removes a user; sockets that are open stay so, unless the user was disabled first
    Remove(OneUser),
}

#[derive(Debug, Args)]
pub(super) struct OneUser {
    /// The user's id: what tokens have as `sub`
    id: String,
    #[command(flatten)]
    options: StoreOptions,
}

/// What every command has that reads or writes the store.
#[derive(Debug, Args)]
pub(super) struct StoreOptions {
    /// The store [default: that of the configuration]
    #[arg(long = "store", value_name = "PATH", env = "HAILER_STORE_PATH")]
    path: Option<PathBuf>,
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Prints JSON: one object on each line, times in seconds since 1970
    #[arg(long)]
    pub(super) json: bool,
}

impl StoreOptions {
    /// Opens the store; one that is missing is made.
    pub(super) fn make(&self) -> Result<Store, String> {
        Store::open(self.path()?).map_err(|error| error.to_string())
    }

    /// Says on stderr why the server of the configuration takes no notice of what was changed, if it does not. `ignores`
    /// gives the reason in a sentence. Without a configuration nothing is known of a server.
    pub(super) fn warn_if_ignored(&self, ignores: impl FnOnce(&Settings) -> Option<String>) {
        let Some(file) = self.file.config.as_deref() else { return };
        // Who gives the store's path need not have a configuration that can be read, nor may read its secrets.
        let unread = |_: &Path| Ok(b"not read".to_vec());
        let Ok(loaded) = super::load_with(Some(file), Flags::default(), &unread) else { return };
        let settings = &loaded.settings;
        let named = file.display();
        let other = self.path.as_ref().filter(|path| !is_same(path, settings.store.path.as_deref()));
        match (other, &settings.store.path) {
            (Some(path), Some(own)) => super::warn(&format!(
                "this has no effect on the server of {named}: its store is {}, and not {}",
                own.display(),
                path.display()
            )),
            (Some(_), None) => super::warn(&format!(
                "this has no effect on the server of {named}: it has no store ([store] path is not set)"
            )),
            (None, _) => {
                if let Some(reason) = ignores(settings) {
                    super::warn(&format!("this has no effect on the server of {named}: {reason}"));
                }
            }
        }
    }

    /// Where the store is: as the command says, or else the configuration.
    fn path(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let none = || "give --store PATH, or --config FILE with store.path in it".to_owned();
        let file = self.file.config.as_deref().ok_or_else(none)?;
        let loaded = super::load(Some(file), Flags::default()).map_err(|failure| failure.message)?;
        loaded.settings.store.path.ok_or_else(none)
    }

    /// Opens the store, which has to be there: a mistyped path is not to become an empty store.
    pub(super) fn open(&self) -> Result<Store, String> {
        Store::open_existing(self.path()?).map_err(|error| match error.kind() {
            StoreErrorKind::Missing => {
                format!("{error}; `hailer users add` makes one, and so does `hailer deny add`")
            }
            _ => error.to_string(),
        })
    }
}

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: Option<&Path>) -> bool {
    let Some(other) = other else { return false };
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

/// Why a server with these settings takes no notice of the users of its store, if it does not.
fn users_ignored(settings: &Settings) -> Option<String> {
    if settings.is_demo() {
        return Some("without [auth] it does not know who its clients are".to_owned());
    }
    match settings.accounts.source {
        Some(AccountSource::Store) => None,
        Some(AccountSource::Postgres) => {
            Some("it looks users up in PostgreSQL (accounts.source), and not in its store".to_owned())
        }
        None => Some(
            "it looks no user up, so that every good token is let in. Give it [accounts] with source = \"store\", or keep \
             a user out with `hailer deny add --sub USER`"
                .to_owned(),
        ),
    }
}

pub(super) fn run(users: Users) -> Result<(), String> {
    match users {
        Users::Add { id, name, options } => add(&id, name.as_deref(), &options),
        Users::List { options } => list(&options),
        Users::Show(OneUser { id, options }) => {
            let user = options.open()?.user(&id).map_err(|error| error.to_string())?;
            let user = user.ok_or_else(|| no_such(&id))?;
            super::print(&if options.json { json_line(&in_json(&user)) } else { in_words(&user) })
        }
        Users::Disable(one) => change(&one, "disabled", |store, id| store.disable_user(id, unix_time())),
        Users::Enable(one) => change(&one, "enabled", |store, id| store.enable_user(id, unix_time())),
        Users::Remove(one) => change(&one, "removed", Store::remove_user),
    }
}

fn add(id: &str, name: Option<&str>, options: &StoreOptions) -> Result<(), String> {
    if !options.make()?.add_user(id, name, unix_time()).map_err(|error| error.to_string())? {
        return Err(format!("there is a user {} already; nothing was changed", shown(id)));
    }
    report(id, "added", options)?;
    options.warn_if_ignored(users_ignored);
    Ok(())
}

fn change(
    one: &OneUser,
    done: &str,
    apply: impl FnOnce(&mut Store, &str) -> Result<bool, StoreError>,
) -> Result<(), String> {
    let OneUser { id, options } = one;
    if !apply(&mut options.open()?, id).map_err(|error| error.to_string())? {
        return Err(no_such(id));
    }
    report(id, done, options)?;
    options.warn_if_ignored(users_ignored);
    Ok(())
}

fn report(id: &str, done: &str, options: &StoreOptions) -> Result<(), String> {
    super::print(&if options.json {
        json_line(&json!({"id": id, "done": done}))
    } else {
        format!("user {} {done}\n", shown(id))
    })
}

fn list(options: &StoreOptions) -> Result<(), String> {
    let store = options.open()?;
    let mut last: Option<String> = None;
    loop {
        let page = store.users(last.as_deref(), PAGE).map_err(|error| error.to_string())?;
        let text = match options.json {
            true => page.iter().map(|user| json_line(&in_json(user))).collect(),
            false if page.is_empty() && last.is_none() => "no users\n".to_owned(),
            false => table(&page),
        };
        super::print(&text)?;
        match page.into_iter().last() {
            Some(user) => last = Some(user.id),
            None => return Ok(()),
        }
    }
}

fn table(users: &[User]) -> String {
    let rows = users.iter().map(|user| {
        let name = user.name.as_deref().map(shown).unwrap_or_default();
        [shown(&user.id), state(user).to_owned(), date(user.created), name]
    });
    columns(&rows.collect::<Vec<_>>())
}

/// Lines with their columns below one another.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn state(user: &User) -> &'static str {
    if user.disabled { "disabled" } else { "enabled" }
}

fn in_words(user: &User) -> String {
    let rows = [
        ("id", shown(&user.id)),
        ("name", user.name.as_deref().map(shown).unwrap_or_default()),
        ("state", state(user).to_owned()),
        ("added", date(user.created)),
        ("changed", date(user.changed)),
    ];
    columns(&rows.map(|(what, value)| [what.to_owned(), value]))
}

fn in_json(user: &User) -> Value {
    let User { id, name, disabled, created, changed } = user;
    json!({"id": id, "name": name, "disabled": disabled, "created": created, "changed": changed})
}

pub(super) fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

fn no_such(id: &str) -> String {
    format!("there is no user {}; `hailer users list` shows all", shown(id))
}

/// A text for a terminal, which obeys control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// A time for people; those that no calendar has as seconds.
pub(super) fn date(seconds: UnixTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let time = i64::try_from(seconds).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00Z");
        assert_eq!(date(1_795_431_845), "2026-11-23 11:04:05Z");
        assert_eq!(date(UnixTime::MAX), "18446744073709551615");
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn columns_stand_below_one_another() {
        let rows = [["ä".to_owned(), "1".to_owned()], ["abc".to_owned(), String::new()]];
        assert_eq!(columns(&rows), "ä    1\nabc\n");
    }
}
