//! `hailer staff`

use std::io::{BufRead, IsTerminal};

use clap::{Args, Subcommand};
use serde_json::json;

use super::users::{StoreOptions, columns, date, json_line, shown};
use crate::auth::connect::Secret;
use crate::auth::password;
use crate::config::Settings;
use crate::desk::{Actor, ActorKind, AuditEntry, StaffAccount};
use crate::server::store::{Store, Write};
use crate::server::unix_millis;

/// Bytes of a name of the system's users that is taken over into the audit log.
const USER_BYTES_MAX: usize = 64;

const HELP: &str = "\
Staff sign in at /admin. The password is asked for at the terminal, or else is the first line of stdin: never an \
argument, which everybody on the machine can read.

Examples:
  hailer staff add ada --config hailer.toml
  hailer staff password ada --config hailer.toml < password.txt";

#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum Staff {
    /// Adds an account and asks for its password; the store is made if it is missing
    #[command(after_help = HELP)]
    Add(OneAccount),
    /// Lists all accounts
    List {
        #[command(flatten)]
        options: StoreOptions,
    },
    /// Asks for another password for an account
    Password(OneAccount),
    /// Keeps an account from signing in
    Disable(OneAccount),
    /// Lets an account sign in again
    Enable(OneAccount),
    /// Removes an account; what it did stays in the audit log
    Remove(OneAccount),
}

#[derive(Debug, Args)]
pub(super) struct OneAccount {
    /// The account's name
    name: String,
    #[command(flatten)]
    options: StoreOptions,
}

pub(super) fn run(staff: Staff) -> Result<(), String> {
    match staff {
        Staff::Add(one) => add(&one),
        Staff::List { options } => list(&options),
        Staff::Password(one) => set_password(&one),
        Staff::Disable(one) => set_disabled(&one, true),
        Staff::Enable(one) => set_disabled(&one, false),
        Staff::Remove(one) => {
            let write = Write::RemoveStaff { name: one.name.clone() };
            change(&one, &mut one.options.open()?, write, "staff_remove", "removed")
        }
    }
}

fn add(one: &OneAccount) -> Result<(), String> {
    let mut store = one.options.make()?;
    let there = || format!("there is an account of staff {} already; nothing was changed", shown(&one.name));
    // Nobody chooses a password for nothing.
    if store.staff(&one.name).map_err(|error| error.to_string())?.is_some() {
        return Err(there());
    }
    let account = StaffAccount {
        name: one.name.clone(),
        password_hash: hashed(&one.name)?,
        disabled: false,
        created_at: unix_millis(),
    };
    match write(&mut store, &one.name, Write::AddStaff(account), "staff_add")? {
        true => report(one, "added"),
        false => Err(there()),
    }
}

fn set_password(one: &OneAccount) -> Result<(), String> {
    let mut store = one.options.open()?;
    if store.staff(&one.name).map_err(|error| error.to_string())?.is_none() {
        return Err(no_such(&one.name));
    }
    let write =
        Write::SetStaffPassword { name: one.name.clone(), hash: hashed(&one.name)?, at: unix_millis() };
    change(one, &mut store, write, "staff_password", "has another password")
}

fn set_disabled(one: &OneAccount, disabled: bool) -> Result<(), String> {
    let (action, done) = if disabled { ("staff_disable", "disabled") } else { ("staff_enable", "enabled") };
    let write = Write::SetStaffDisabled { name: one.name.clone(), disabled, at: unix_millis() };
    change(one, &mut one.options.open()?, write, action, done)
}

fn change(
    one: &OneAccount,
    store: &mut Store,
    change: Write,
    action: &str,
    done: &str,
) -> Result<(), String> {
    match write(store, &one.name, change, action)? {
        true => report(one, done),
        false => Err(no_such(&one.name)),
    }
}

/// Changes an account and says so in the audit log, or does neither; `false` if there was nothing to change.
fn write(store: &mut Store, name: &str, change: Write, action: &str) -> Result<bool, String> {
    let actor = Actor { kind: ActorKind::Local, name: system_user(), address: None };
    let entry = AuditEntry::new(&actor, unix_millis(), action, name, String::new());
    let rows = store.write(&Write::All(vec![change, Write::Audit(entry)]));
    rows.map(|rows| rows > 0).map_err(|error| error.to_string())
}

/// Who runs the command, as the environment says: whoever may write the store may write what they like into it, so this
/// helps those who are honest.
fn system_user() -> String {
    let good = |name: &String| {
        !name.is_empty() && name.len() <= USER_BYTES_MAX && !name.chars().any(char::is_control)
    };
    let mut names = ["SUDO_USER", "LOGNAME", "USER"].into_iter().filter_map(|name| std::env::var(name).ok());
    names.find(good).unwrap_or_else(|| "command line".to_owned())
}

/// Asks for a password for the account, and hashes it.
fn hashed(name: &str) -> Result<Secret, String> {
    let password = ask()?;
    password::check(name, &password)?;
    let salt = super::fresh_bytes::<16>()?;
    Ok(password::hash(&password, salt))
}

/// Reads a password, twice from a terminal, where nobody sees what is typed.
fn ask() -> Result<Secret, String> {
    if !std::io::stdin().is_terminal() {
        return first_line(std::io::stdin().lock());
    }
    let failed = |error: std::io::Error| format!("can't read the password from the terminal: {error}");
    let first = Secret::new(rpassword::prompt_password("Password: ").map_err(failed)?);
    let second = Secret::new(rpassword::prompt_password("The same again: ").map_err(failed)?);
    if first != second {
        return Err("the two passwords differ; nothing was changed".to_owned());
    }
    Ok(first)
}

/// The first line of what is given, without its end.
fn first_line(source: impl BufRead) -> Result<Secret, String> {
    let mut line = Vec::new();
    // With the end of the line.
    let bytes_max = password::PASSWORD_BYTES_MAX + 2;
    let read = source.take(bytes_max as u64 + 1).read_until(b'\n', &mut line);
    read.map_err(|error| format!("can't read the password from stdin: {error}"))?;
    if line.len() > bytes_max {
        return Err("the first line of stdin is too long for a password".to_owned());
    }
    if line.is_empty() {
        return Err("there is no password on stdin".to_owned());
    }
    // The error would hold the text.
    let line = String::from_utf8(line).map_err(|_| "the password on stdin is not text (UTF-8)".to_owned())?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line)))
}

fn report(one: &OneAccount, done: &str) -> Result<(), String> {
    super::print(&if one.options.json {
        json_line(&json!({"name": one.name, "done": done}))
    } else {
        format!("staff {} {done}\n", shown(&one.name))
    })?;
    one.options.warn_if_ignored(staff_ignored);
    Ok(())
}

/// Why nobody signs in at a server with these settings, if nobody does.
fn staff_ignored(settings: &Settings) -> Option<String> {
    if settings.api.listen.address().is_none() {
        return Some("it has no back office (api.listen = \"off\")".to_owned());
    }
    (!settings.admin.enabled).then(|| "it has no back office (admin.enabled = false)".to_owned())
}

fn list(options: &StoreOptions) -> Result<(), String> {
    let staff = options.open()?.all_staff().map_err(|error| error.to_string())?;
    super::print(&match options.json {
        true => staff.iter().map(json_of).collect(),
        false if staff.is_empty() => "no staff; `hailer staff add NAME` adds an account\n".to_owned(),
        false => columns(&staff.iter().map(row).collect::<Vec<_>>()),
    })
}

fn row(account: &StaffAccount) -> [String; 3] {
    let state = if account.disabled { "disabled" } else { "enabled" };
    [shown(&account.name), state.to_owned(), date(account.created_at / 1000)]
}

fn json_of(account: &StaffAccount) -> String {
    let StaffAccount { name, disabled, created_at, .. } = account;
    json_line(&json!({"name": name, "disabled": disabled, "created": created_at / 1000}))
}

fn no_such(name: &str) -> String {
    format!("there is no account of staff {}; `hailer staff list` shows all", shown(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        let check = |given: &[u8], expected: Result<&str, &str>| match (first_line(given), expected) {
            (Ok(password), Ok(expected)) => assert_eq!(password.expose(), expected),
            (Err(sentence), Err(words)) => assert!(sentence.contains(words), "{sentence}"),
            (result, _) => panic!("{given:?}: {result:?}"),
        };
        check(b"correct horse\n", Ok("correct horse"));
        check(b"correct horse\r\n", Ok("correct horse"));
        check(b"correct horse", Ok("correct horse"));
        check(b"  spaces belong to it  \nmore", Ok("  spaces belong to it  "));
        check(b"\nsecond", Ok(""));
        check(b"", Err("no password"));
        check(b"\xff\xff\n", Err("UTF-8"));
        check("ä".repeat(1_000_000).as_bytes(), Err("too long"));
        let longest = "x".repeat(password::PASSWORD_BYTES_MAX);
        check(format!("{longest}\r\n").as_bytes(), Ok(&longest));
    }
}
