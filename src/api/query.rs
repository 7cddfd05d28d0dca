//! The parameters of a query, read strictly, and ids in paths.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::{ApiError, Code};
use super::rules::check_name;
use crate::http::query::pairs;
use crate::suggest::{listed, nearest};

/// Bytes of a parameter's value.
const VALUE_BYTES_MAX: usize = 255;

/// Parameters that people put keys and tokens into.
const SECRETS: &[&str] =
    &["key", "api_key", "apikey", "api-key", "x-api-key", "token", "access_token", "authorization"];

/// What keys begin with.
const KEY_PREFIX: &str = "hlr_";

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Params<'a> {
    values: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Params<'a> {
    /// Reads a query. Every parameter must be a known one, and there once.
    pub(super) fn parse(query: &'a str, known: &'static [&'static str]) -> Result<Self, ApiError> {
        let mut values: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        for pair in pairs(query) {
            let (name, value) = pair.map_err(|error| ApiError::invalid("query", error.reason()))?;
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                return Err(unknown(&name, known));
            };
            if values.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::invalid(name, format!("\"{name}\" is there twice: give it once.")));
            }
            values.push((name, value));
        }
        Ok(Self { values })
    }

    /// A text of at most 255 bytes without control characters.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let found = self.values.iter().find(|(known, _)| *known == name);
        let Some((name, value)) = found else { return Ok(None) };
        check_name(value, VALUE_BYTES_MAX)
            .map_err(|what| ApiError::invalid(*name, format!("\"{name}\" {what}.")))?;
        Ok(Some(value))
    }

    /// The same, owned.
    pub(super) fn owned(&self, name: &str) -> Result<Option<String>, ApiError> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    /// One of several words, and what it stands for.
    pub(super) fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*meaning));
        }
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        Err(ApiError::invalid(name, format!("\"{name}\" must be one of: {}.", words.join(", "))))
    }

    /// A whole number in a range.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        // `parse` takes a plus sign.
        let number = text.parse().ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_digit()));
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::invalid(
                name,
                format!("\"{name}\" must be a whole number from {min} to {max}."),
            )),
        }
    }
}

fn unknown(name: &str, known: &'static [&'static str]) -> ApiError {
    let name: String = name.chars().take(64).collect();
    let sentence = match nearest(&name, known.iter().copied()) {
        Some(nearest) => format!("There is no such parameter here; the nearest one is \"{nearest}\"."),
        None if known.is_empty() => "This path takes no parameters.".to_owned(),
        None => format!("There is no such parameter here; there are {}.", listed(known)),
    };
    ApiError::invalid(name, sentence)
}

/// Refuses a query that holds a key or a token: what stands in an address is in logs, histories and referrers.
pub(super) fn refuse_secrets(query: &str) -> Result<(), ApiError> {
    for pair in pairs(query) {
        // What can't be decoded is refused where the parameters are read.
        let Ok((name, value)) = pair else { continue };
        let known = SECRETS.iter().find(|known| name.eq_ignore_ascii_case(known));
        if known.is_some() || value.starts_with(KEY_PREFIX) || name.starts_with(KEY_PREFIX) {
            let error = ApiError::new(
                Code::KeyInQuery,
                "Keys and tokens do not belong into an address, which ends up in logs: send the API key in the \
                 header Authorization: Bearer or X-API-Key, and a token to check in the body or in X-Hailer-Token. \
                 Replace a key that was sent like this.",
            );
            return Err(error.field(known.copied().unwrap_or("query")));
        }
    }
    Ok(())
}

/// The id that a part of a path stands for, percent-decoded. `None` if it can't be one.
pub(super) fn id_of(segment: &str) -> Option<Cow<'_, str>> {
    let is_escape = |at: usize| {
        let digits = segment.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !memchr::memchr_iter(b'%', segment.as_bytes()).all(is_escape) {
        return None;
    }
    let id = percent_decode_str(segment).decode_utf8().ok()?;
    check_name(&id, VALUE_BYTES_MAX).is_ok().then_some(id)
}
