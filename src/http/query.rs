//! The parameters of a query or form (`application/x-www-form-urlencoded`).
//!
//! Like Plug's parser, which Phoenix uses, this one refuses what can't be decoded instead of guessing: an
//! escape that is not two hex digits, or bytes that are not UTF-8 once decoded. Unlike Plug's, it leaves
//! names such as `a[b]` as they are, and [`last`] does not judge a parameter that is not asked for.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Status;
use super::syntax::split;

/// Why a query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryError {
    /// A `%` is not followed by two hex digits.
    Escape,
    /// A name or value is not UTF-8 once decoded.
    NotUtf8,
}

impl QueryError {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> Status {
        Status::BadRequest
    }

    /// A sentence for whoever wrote the client: what is wrong and what to do.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Escape => "Write every % in the query as %25, or with two hex digits after it.",
            Self::NotUtf8 => "Escape the query's parameters from UTF-8, as encodeURIComponent does.",
        }
    }
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for QueryError {}

/// A decoded name and value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// All parameters in their order, decoded: `+` is a space, `%` begins an escape. A parameter without `=` has
/// an empty value; empty ones (`&&`, a trailing `&`) are skipped.
///
/// An item is an error where that parameter can't be decoded; who reads them all refuses the whole query then.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<Pair<'_>, QueryError>> {
    raw_pairs(query).map(|(name, value)| Ok((decode(name)?, decode(value)?)))
}

/// The value of the parameter `name`; the last one if it is repeated, as in Plug. Other parameters are not judged: a
/// proxy or another program may have put them there.
///
/// # Errors
/// The value can't be decoded.
pub fn last<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, QueryError> {
    let named = raw_pairs(query).filter(|(known, _)| decode(known).is_ok_and(|known| known == name));
    named.last().map(|(_, value)| decode(value)).transpose()
}

/// Names and values as they were sent.
fn raw_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    split(query, b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let equals = memchr::memchr(b'=', pair.as_bytes());
        equals.map_or((pair, ""), |at| (&pair[..at], &pair[at + 1..]))
    })
}

fn decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let is_escape = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !memchr::memchr_iter(b'%', text.as_bytes()).all(is_escape) {
        return Err(QueryError::Escape);
    }
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().map_err(|_| QueryError::NotUtf8);
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| QueryError::NotUtf8)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &[(&str, &str)]) {
        let pairs: Vec<_> = pairs(query).map(Result::unwrap).collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(pairs, expected, "{query}");
    }

    #[test]
    fn pairs_are_split_and_decoded() {
        check("", &[]);
        check("&", &[]);
        check("vsn=2.0.0&", &[("vsn", "2.0.0")]);
        check("&&a=1&&b=2", &[("a", "1"), ("b", "2")]);
        check("a", &[("a", "")]);
        check("a=", &[("a", "")]);
        check("=b", &[("", "b")]);
        check("=", &[("", "")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=1;b=2", &[("a", "1;b=2")]);
        check("a+b=c+%2B", &[("a b", "c +")]);
        check("%61%26=%3d%C3%A9", &[("a&", "=é")]);
        check("a%5Bb%5D=1&a[b]=2", &[("a[b]", "1"), ("a[b]", "2")]);
        check("a=%00", &[("a", "\0")]);
        check("a=%2525", &[("a", "%25")]);
    }

    #[test]
    fn the_last_of_a_repeated_parameter_wins() {
        let query = "token=user&vsn=2.0.0&token=session&";
        assert_eq!(last(query, "token").unwrap().as_deref(), Some("session"));
        assert_eq!(last(query, "vsn").unwrap().as_deref(), Some("2.0.0"));
        assert_eq!(last(query, "Token").unwrap(), None);
        assert_eq!(last("%74oken=a", "token").unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error() {
        for (query, error) in [
            ("a=%", QueryError::Escape),
            ("a=%4", QueryError::Escape),
            ("a=%zz", QueryError::Escape),
            ("a=%+1", QueryError::Escape),
            ("%4=a", QueryError::Escape),
            ("a=%é", QueryError::Escape),
            ("a=%ff", QueryError::NotUtf8),
            ("a=+%ff", QueryError::NotUtf8),
            ("%C3=a", QueryError::NotUtf8),
            ("a=%ED%A0%80", QueryError::NotUtf8),
        ] {
            assert_eq!(pairs(query).next(), Some(Err(error)), "{query}");
            // Who asks for another one has no part in it.
            assert_eq!(last(&format!("x=1&{query}"), "x").unwrap().as_deref(), Some("1"), "{query}");
            assert_eq!(last(&format!("{query}&x=1"), "x").unwrap().as_deref(), Some("1"), "{query}");
        }
        assert_eq!(last("a=%", "a"), Err(QueryError::Escape));
        assert_eq!(last("b=1&a=%ff&c=2", "a"), Err(QueryError::NotUtf8));
        // The last one counts, and an earlier one does not take its place.
        assert_eq!(last("a=1&a=%ff", "a"), Err(QueryError::NotUtf8));
        assert_eq!(last("a=%ff&a=1", "a").unwrap().as_deref(), Some("1"));
        assert_eq!(last("a%=1", "a").unwrap(), None);
    }

    #[test]
    fn what_needs_no_decoding_is_borrowed() {
        assert!(matches!(last("a=b", "a"), Ok(Some(Cow::Borrowed("b")))));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(name in ".*", value in ".*") {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%20", "+");
            let query = format!("{}={}", encode(&name), encode(&value));
            let found = last(&query, &name).unwrap();
            prop_assert_eq!(found.as_deref(), Some(value.as_str()));
        }

        #[test]
        fn any_text_is_answered(query in "[%+&=a-f0-9é]*") {
            let _ = pairs(&query).count();
        }
    }
}
