//! The application's own table as accounts, in PostgreSQL.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use bytes::BytesMut;
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Row, Statement};
use serde_json::{Map, Number, Value};
use time::format_description::well_known::Rfc3339;
use time::macros::{date, datetime};
use time::{OffsetDateTime, PrimitiveDateTime};

use super::{Account, Directory, DirectoryError};
use crate::auth::connect::Secret;

/// The column that says whether a user may not connect.
const DISABLED: &str = "disabled";

/// Time between two of the kernel's questions whether the other end still lives.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Where the table is, and how a user is found in it.
#[derive(Clone)]
pub struct PostgresConfig {
    connection: Config,
    query: String,
    deadline: Duration,
}

impl PostgresConfig {
    /// Reads the URL (`postgres://user:password@host/database`, or `key=value` pairs). `query` finds the user
    /// whose id is `$1`, for example `select id, name from users where id = $1 and not disabled`. Connecting
    /// and querying are each given up after `deadline`.
    ///
    /// # Errors
    /// The URL can't be read, or asks for TLS, which there is none of.
    pub fn new(url: &Secret, query: &str, deadline: Duration) -> Result<Self, DirectoryError> {
        // What is wrong with it is not repeated: it may be a part of the password.
        let mut connection: Config = url.expose().parse().map_err(|_| {
            DirectoryError::failed(
                "the accounts' URL can't be read; it has the form postgres://USER:PASSWORD@HOST/DATABASE",
            )
        })?;
        if connection.get_ssl_mode() == SslMode::Require {
            return Err(DirectoryError::failed(
                "the accounts' URL asks for TLS (sslmode=require), which is not supported; connect through a Unix \
                 socket, a private network or a proxy on this machine that speaks TLS",
            ));
        }
        connection.ssl_mode(SslMode::Disable).connect_timeout(deadline).tcp_user_timeout(deadline);
        // A connection that has silently gone is noticed within a minute and not, as by default, in hours.
        connection.keepalives_idle(KEEPALIVE * 3).keepalives_interval(KEEPALIVE).keepalives_retries(3);
        if connection.get_application_name().is_none() {
            connection.application_name("hailer");
        }
        Ok(Self { connection, query: query.to_owned(), deadline })
    }

    /// A server's answer to a connection, which may repeat what it was sent, without the password.
    fn redact(&self, reason: &str) -> String {
        match self.connection.get_password().map(String::from_utf8_lossy) {
            Some(password) if !password.is_empty() => reason.replace(&*password, "[secret]"),
            _ => reason.to_owned(),
        }
    }
}

/// A connection to the table.
///
/// The columns of the one row that the query brings become the account's details: texts, numbers, booleans,
/// UUIDs, JSON, dates and times, and null; columns of other types are left out. A boolean column `disabled`
/// says whether the user may not connect, and is not among them; null is no.
pub struct PostgresDirectory {
    client: Client,
    query: Statement,
}

impl PostgresDirectory {
    /// Connects, for reading alone, and prepares the query.
    ///
    /// # Errors
    /// There is no connection, or the query is not one that finds a user by `$1`.
    pub fn open(config: &PostgresConfig) -> Result<Self, DirectoryError> {
        let failed = |error: postgres::Error| DirectoryError::broken(config.redact(&reason(&error)));
        let mut client = config.connection.connect(NoTls).map_err(failed)?;
        let timeout = config.deadline.as_millis().clamp(1, i32::MAX as u128);
        let settings = format!("SET default_transaction_read_only = on; SET statement_timeout = {timeout}");
        client.batch_execute(&settings).map_err(failed)?;
        let query = client.prepare(&config.query).map_err(|error| {
            DirectoryError::broken(format!("the accounts' query can't be prepared: {}", reason(&error)))
        })?;
        check_query(&query)?;
        Ok(Self { client, query })
    }
}

impl Directory for PostgresDirectory {
    fn find(&mut self, user: &str) -> Result<Option<Account>, DirectoryError> {
        let Some(user) = self.query.params().first().and_then(|kind| Parameter::new(kind, user)) else {
            return Ok(None);
        };
        // Rows beyond the second are thrown away as they come, so that a query without a condition does no
        // harm.
        let rows =
            self.client.query_raw(&self.query, [user]).and_then(|rows| rows.take(2).collect::<Vec<_>>());
        match rows.as_deref() {
            Ok([]) => Ok(None),
            Ok([row]) => account(row).map(Some),
            Ok(_) => Err(DirectoryError::failed("the accounts' query brings several rows for one user")),
            Err(error) if is_about_the_text(error) => Ok(None),
            Err(error) if self.client.is_closed() || error.is_closed() => Err(broken(error)),
            Err(error) => match error.as_db_error() {
                // The server may say why it ends the connection before it does so: class 57P is for that.
                Some(error) if error.code().code().starts_with("57P") => {
                    Err(DirectoryError::broken(clean(error.message())))
                }
                Some(_) => Err(DirectoryError::failed(reason(error))),
                None => Err(broken(error)),
            },
        }
    }
}

/// Refuses what would find the wrong user, or let a disabled one in.
fn check_query(query: &Statement) -> Result<(), DirectoryError> {
    let [parameter] = query.params() else {
        return Err(DirectoryError::broken("the accounts' query has to use $1, the user's id, and no other"));
    };
    if Form::of(parameter).is_none() {
        return Err(DirectoryError::broken(format!(
            "the accounts' query compares $1 with a {}; cast that to text",
            parameter.name()
        )));
    }
    let disabled = query.columns().iter().find(|column| column.name() == DISABLED);
    if let Some(column) = disabled.filter(|column| *base(column.type_()) != Type::BOOL) {
        return Err(DirectoryError::broken(format!(
            "the column {DISABLED} of the accounts' query is a {} and has to be a boolean",
            column.type_().name()
        )));
    }
    Ok(())
}

/// The text of an error, without what may belong to a user or hold a password.
fn reason(error: &postgres::Error) -> String {
    match error.as_db_error() {
        // Detail, hint and context may hold rows.
        Some(error) => clean(error.message()),
        None => {
            let mut text = error.to_string();
            if let Some(source) = error.source().filter(|source| !text.contains(&source.to_string())) {
                // Writing to a text can't fail.
                let _ = write!(text, ": {source}");
            }
            clean(&text)
        }
    }
}

/// The server's words on one line.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(300).collect()
}

fn broken(error: &postgres::Error) -> DirectoryError {
    DirectoryError::broken(reason(error))
}

/// Whether the server could not take the user's id for what the query wants it to be.
fn is_about_the_text(error: &postgres::Error) -> bool {
    const ABOUT_THE_TEXT: [SqlState; 5] = [
        SqlState::INVALID_TEXT_REPRESENTATION,
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        SqlState::UNTRANSLATABLE_CHARACTER,
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
    ];
    error.code().is_some_and(|code| ABOUT_THE_TEXT.contains(code))
}

/// The type below domains.
fn base(mut kind: &Type) -> &Type {
    while let Kind::Domain(below) = kind.kind() {
        kind = below;
    }
    kind
}

/// How a value looks on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Int2,
    Int4,
    Int8,
    Uuid,
}

impl Form {
    fn of(kind: &Type) -> Option<Self> {
        let kind = base(kind);
        Some(match *kind {
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => Self::Text,
            Type::INT2 => Self::Int2,
            Type::INT4 => Self::Int4,
            Type::INT8 => Self::Int8,
            Type::UUID => Self::Uuid,
            _ if kind.name() == "citext" || matches!(kind.kind(), Kind::Enum(_)) => Self::Text,
            _ => return None,
        })
    }
}

/// The user's id in the form of the column that it is compared with.
#[derive(Debug)]
struct Parameter(Vec<u8>);

impl Parameter {
    /// `None` if the text is no value of this type. Numbers and UUIDs have one spelling each (but for the case
    /// of a UUID's letters), so that there is one user id for each account: denials go by the id.
    fn new(kind: &Type, user: &str) -> Option<Self> {
        let number = || user.parse::<i64>().ok().filter(|number| number.to_string() == user);
        Some(Self(match Form::of(kind)? {
            // PostgreSQL's texts can't hold this character.
            Form::Text if user.contains('\0') => return None,
            Form::Text => user.as_bytes().to_vec(),
            Form::Int2 => i16::try_from(number()?).ok()?.to_be_bytes().to_vec(),
            Form::Int4 => i32::try_from(number()?).ok()?.to_be_bytes().to_vec(),
            Form::Int8 => number()?.to_be_bytes().to_vec(),
            Form::Uuid => parse_uuid(user)?.to_be_bytes().to_vec(),
        }))
    }
}

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        Form::of(kind).is_some()
    }

    to_sql_checked!();
}

fn parse_uuid(text: &str) -> Option<u128> {
    let hyphens = [8, 13, 18, 23];
    let fits = |(at, byte): (usize, u8)| match hyphens.contains(&at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    if text.len() != 36 || !text.bytes().enumerate().all(fits) {
        return None;
    }
    u128::from_str_radix(&text.replace('-', ""), 16).ok()
}

fn show_uuid(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// A column's bytes, whatever its type.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn account(row: &Row) -> Result<Account, DirectoryError> {
    let mut disabled = false;
    let mut details = Map::new();
    for (at, column) in row.columns().iter().enumerate() {
        let Raw(bytes) = row.try_get(at).map_err(|error| DirectoryError::failed(reason(&error)))?;
        let value = match bytes {
            None => Some(Value::Null),
            Some(bytes) => value(base(column.type_()), bytes),
        };
        if column.name() == DISABLED {
            disabled |= value == Some(Value::Bool(true));
        } else if let Some(value) = value {
            details.insert(column.name().to_owned(), value);
        }
    }
    Ok(Account { disabled, details: Value::Object(details).to_string().into_boxed_str() })
}

/// A value as JSON; `None` if the type is not known, or has no such value in JSON.
fn value(kind: &Type, bytes: &[u8]) -> Option<Value> {
    if let Some(Form::Text) = Form::of(kind) {
        return std::str::from_utf8(bytes).ok().map(Value::from);
    }
    Some(match *kind {
        Type::BOOL => Value::Bool(*bytes.first()? != 0),
        Type::INT2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        Type::INT4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        Type::INT8 => i64::from_be_bytes(bytes.try_into().ok()?).into(),
        Type::OID => u32::from_be_bytes(bytes.try_into().ok()?).into(),
        Type::FLOAT4 => {
            let float = f32::from_be_bytes(bytes.try_into().ok()?);
            // The shortest digits that mean this value, which those of the wider type are not.
            Value::Number(Number::from_f64(float.to_string().parse().ok()?)?)
        }
        Type::FLOAT8 => Value::Number(Number::from_f64(f64::from_be_bytes(bytes.try_into().ok()?))?),
        Type::UUID => show_uuid(bytes.try_into().ok()?).into(),
        Type::JSON => serde_json::from_slice(bytes).ok()?,
        Type::JSONB => serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()?,
        Type::TIMESTAMP => show_time(i64::from_be_bytes(bytes.try_into().ok()?), false)?.into(),
        Type::TIMESTAMPTZ => show_time(i64::from_be_bytes(bytes.try_into().ok()?), true)?.into(),
        Type::DATE => show_date(i32::from_be_bytes(bytes.try_into().ok()?))?.into(),
        _ => return None,
    })
}

/// A time in microseconds from the year 2000, as RFC 3339 has it; without the zone if there is none.
fn show_time(micros: i64, with_zone: bool) -> Option<String> {
    match micros {
        i64::MAX => return Some("infinity".to_owned()),
        i64::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    let epoch: PrimitiveDateTime = datetime!(2000-01-01 0:00);
    let time = epoch.checked_add(time::Duration::microseconds(micros))?;
    let mut text = OffsetDateTime::new_utc(time.date(), time.time()).format(&Rfc3339).ok()?;
    if !with_zone {
        text.pop();
    }
    Some(text)
}

/// A date in days from the year 2000.
fn show_date(days: i32) -> Option<String> {
    match days {
        i32::MAX => return Some("infinity".to_owned()),
        i32::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    Some(date!(2000 - 01 - 01).checked_add(time::Duration::days(days.into()))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_their_column() {
        let check = |kind: Type, user: &str, expected: Option<&[u8]>| {
            let found = Parameter::new(&kind, user);
            assert_eq!(found.as_ref().map(|parameter| &*parameter.0), expected, "{kind} {user:?}");
        };
        check(Type::TEXT, "ada", Some(b"ada"));
        check(Type::VARCHAR, "a'b", Some(b"a'b"));
        check(Type::TEXT, "a\0b", None);
        check(Type::INT4, "7", Some(&[0, 0, 0, 7]));
        check(Type::INT2, "-1", Some(&[0xff, 0xff]));
        check(Type::INT8, "9223372036854775807", Some(&i64::MAX.to_be_bytes()));
        for wrong in ["", "07", "+7", " 7", "7 ", "7.0", "0x7", "-0", "ada", "9223372036854775808", "٧"] {
            check(Type::INT8, wrong, None);
        }
        check(Type::INT4, "2147483648", None);
        check(Type::INT2, "32768", None);
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let bytes = 0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11_u128.to_be_bytes();
        check(Type::UUID, uuid, Some(&bytes));
        check(Type::UUID, &uuid.to_uppercase(), Some(&bytes));
        for wrong in ["", "a0eebc999c0b4ef8bb6d6bb9bd380a11", &uuid[1..], &uuid.replace('a', "g")] {
            check(Type::UUID, wrong, None);
        }
        check(Type::UUID, &format!("{{{}}}", &uuid[..34]), None);
        check(Type::UUID, "+0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", None);
        check(Type::BYTEA, "ada", None);
        assert_eq!(show_uuid(bytes), uuid);
    }

    #[test]
    fn times_are_texts() {
        assert_eq!(show_time(0, true).as_deref(), Some("2000-01-01T00:00:00Z"));
        assert_eq!(show_time(-1_000_000, false).as_deref(), Some("1999-12-31T23:59:59"));
        assert_eq!(show_time(1_500_000, true).as_deref(), Some("2000-01-01T00:00:01.5Z"));
        assert_eq!(show_time(i64::MAX, true).as_deref(), Some("infinity"));
        assert_eq!(show_time(i64::MAX - 1, true), None);
        assert_eq!(show_date(366).as_deref(), Some("2001-01-01"));
        assert_eq!(show_date(i32::MIN).as_deref(), Some("-infinity"));
        assert_eq!(show_date(i32::MAX - 1), None);
    }

    #[test]
    fn a_url_is_not_repeated() {
        let check = |url: &str, names: &str| {
            let error = PostgresConfig::new(&Secret::new(url), "", Duration::from_secs(1)).err();
            let text = error.expect("it is refused").to_string();
            assert!(text.contains(names) && !text.contains("hunter2"), "{text}");
        };
        check("hunter2", "can't be read");
        check("postgres://ada:hunter2@host:port/app", "can't be read");
        check("postgres://ada:hunter2@host/app?hunter2=1", "can't be read");
        check("postgres://ada:hunter2@host/app?sslmode=require", "TLS");
    }
}
