//! `hailer deny`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::users::{StoreOptions, columns, date, json_line, shown};
use crate::auth::UnixTime;
use crate::auth::deny::Denial;
use crate::config::{Auth, Flags, Settings};
use crate::limits::Bound;
use crate::server::store::StoredDenial;
use crate::server::unix_time;

const EXAMPLES: &str = "\
Examples:
  hailer deny add --sub 4711 --issued-before now
                                           the user has to log in again
  hailer deny add --sub 4711               no token of the user is good
  hailer deny add --jti f81d4fae --for 1d  one token that was stolen
  hailer deny list";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Deny {
    /// Denies a user's tokens, or one token; the store is made if it is missing
    #[command(after_help = EXAMPLES)]
    Add(Add),
    /// Lists what is denied at present
    List {
        #[command(flatten)]
        options: StoreOptions,
    },
    /// Takes denials back
    Remove {
        /// Their numbers, as `hailer deny list` shows them
        #[arg(required = true, value_name = "NUMBER")]
        numbers: Vec<u64>,
        #[command(flatten)]
        options: StoreOptions,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The user: what tokens have as `sub`
    #[arg(long, value_name = "USER", required_unless_present = "jti")]
    sub: Option<String>,
    /// Only tokens issued before this time: `now` (and as much later as clocks may differ, auth.allowed_drift),
    /// 2026-11-23, 2026-11-23T10:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", requires = "sub", value_parser = parse_time)]
    issued_before: Option<Time>,
    /// Only the token with this id (`jti`)
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
    /// How long: as long as such tokens are good
    #[arg(long = "for", value_name = "TIME", default_value = "4w", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    options: StoreOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Now,
    At(UnixTime),
}

fn parse_time(text: &str) -> Result<Time, String> {
    if text == "now" {
        return Ok(Time::Now);
    }
    let day = format_description!("[year]-[month]-[day]");
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| Date::parse(text, day).map(|day| day.midnight().assume_utc()));
    let seconds = match time {
        Ok(time) => time.unix_timestamp().try_into().ok(),
        Err(_) => text.parse().ok(),
    };
    seconds
        .map(Time::At)
        .ok_or_else(|| "give now, 2026-11-23, 2026-11-23T10:00:00Z, or seconds since 1970".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "give a time of at least a second, for example 12h or 4w".to_owned())
}

pub(super) fn run(deny: Deny) -> Result<(), String> {
    match deny {
        Deny::Add(add) => run_add(add),
        Deny::List { options } => {
            let denials = options.open()?.denials(unix_time()).map_err(|error| error.to_string())?;
            super::print(&match options.json {
                true => denials.iter().map(|stored| json_line(&in_json(stored))).collect(),
                false if denials.is_empty() => "nothing is denied\n".to_owned(),
                false => columns(&denials.iter().map(row).collect::<Vec<_>>()),
            })
        }
        Deny::Remove { numbers, options } => {
            let mut store = options.open()?;
            for number in numbers {
                if !store.remove_denial(number).map_err(|error| error.to_string())? {
                    return Err(format!("there is no denial {number}; `hailer deny list` shows all"));
                }
                super::print(&match options.json {
                    true => json_line(&json!({"number": number, "done": "removed"})),
                    false => format!("denial {number} removed\n"),
                })?;
            }
            options.warn_if_ignored(denials_ignored);
            Ok(())
        }
    }
}

/// How many seconds the clock of the issuer may be ahead of this one. Where the configuration can't be read, a denial
/// is needed no less.
fn allowed_drift(options: &StoreOptions) -> u64 {
    let loaded = super::load(options.file.config.as_deref(), Flags::default());
    let auth = loaded.map_or_else(|_| Auth::default(), |loaded| loaded.settings.auth);
    auth.allowed_drift.as_secs()
}

fn run_add(add: Add) -> Result<(), String> {
    let (now, drift) = (unix_time(), allowed_drift(&add.options));
    let denial = Denial {
        subject: add.sub,
        issued_before: add.issued_before.map(|time| match time {
            // By a clock that is ahead the tokens of this second are issued later. Those of the second itself are
            // meant as well, since tokens name no more than it.
            Time::Now => now.saturating_add(drift + 1),
            Time::At(time) => time,
        }),
        token_id: add.jti,
        until: now.saturating_add(add.duration.as_secs()).saturating_add(drift),
    };
    let mut store = add.options.make()?;
    let number = store.deny(&denial, now).map_err(|error| error.to_string())?;
    super::print(&match add.options.json {
        true => json_line(&json!({"number": number, "done": "added"})),
        false => {
            let mut text = format!("denial {number}: {} until {}\n", what(&denial), date(denial.until));
            if add.issued_before.is_some() {
                text += "Tokens without the claim iat are denied as well, whenever they were made.\n";
            }
            if add.issued_before == Some(Time::Now) && drift > 0 {
                text += &format!(
                    "Clocks may differ by {drift} s (auth.allowed_drift), so tokens of the next {drift} s are denied too.\n"
                );
            }
            text
        }
    })?;
    add.options.warn_if_ignored(denials_ignored);
    Ok(())
}

/// Why a server with these settings takes no notice of denials, if it does not.
fn denials_ignored(settings: &Settings) -> Option<String> {
    settings.is_demo().then(|| "without [auth] it asks nobody for a token".to_owned())
}

fn row(stored: &StoredDenial) -> [String; 3] {
    let until = format!("until {}", date(stored.denial.until));
    [stored.number.to_string(), until, what(&stored.denial)]
}

fn what(denial: &Denial) -> String {
    let mut text = match &denial.token_id {
        Some(token_id) => format!("the token {}", shown(token_id)),
        None => "all tokens".to_owned(),
    };
    if let Some(subject) = &denial.subject {
        text += &format!(" of {}", shown(subject));
    }
    if let Some(time) = denial.issued_before {
        text += &format!(" issued before {}", date(time));
    }
    text
}

fn in_json(stored: &StoredDenial) -> Value {
    let StoredDenial { number, created, denial } = stored;
    let Denial { subject, issued_before, token_id, until } = denial;
    json!({
        "number": number,
        "sub": subject,
        "issued_before": issued_before,
        "jti": token_id,
        "until": until,
        "created": created,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_several_spellings() {
        let check =
            |text: &str, expected: Option<Time>| assert_eq!(parse_time(text).ok(), expected, "{text}");
        let noon = Some(Time::At(1_795_435_200));
        check("now", Some(Time::Now));
        check("2026-11-23T12:00:00Z", noon);
        check("2026-11-23T13:00:00+01:00", noon);
        check("1795435200", noon);
        check("2026-11-23", Some(Time::At(1_795_392_000)));
        for wrong in ["", "soon", "-1", "1.5", "2026-13-01", "2026-11-23T25:00:00Z", "1960-01-01"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_denial_is_said_in_words() {
        let check = |subject: Option<&str>, issued_before, token_id: Option<&str>, expected: &str| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let denial = Denial { subject: text(subject), issued_before, token_id: text(token_id), until: 0 };
            assert_eq!(what(&denial), expected);
        };
        check(Some("ada"), None, None, "all tokens of ada");
        check(Some("ada"), Some(0), None, "all tokens of ada issued before 1970-01-01 00:00:00Z");
        check(None, None, Some("t-1"), "the token t-1");
        check(Some("ada"), None, Some("t-1"), "the token t-1 of ada");
    }
}
