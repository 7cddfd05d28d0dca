//! Why a token is refused, in full.

use std::fmt;

use serde_json::value::RawValue;

use super::TokenError;

/// Longer texts of a token are in no sentence.
const SHOWN_BYTES_MAX: usize = 64;
/// Of more texts than these the others are counted.
const SHOWN_MAX: usize = 3;

/// Why a token is refused: in a word, and for those who run the server the claim or header that is at fault, and the
/// setting that it was compared with.
///
/// The sentence ([`Display`](fmt::Display)) has nothing of the token's signature, its user or its own id in it. Of
/// other texts it has those that are short and plain, and it is one line. Still it tells what is configured, so a
/// client gets no more than [`TokenError::reason`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRefusal {
    error: TokenError,
    cause: Option<Box<str>>,
}

impl TokenRefusal {
    /// What is wrong, in a word.
    #[must_use]
    pub fn error(&self) -> TokenError {
        self.error
    }
}

impl From<TokenError> for TokenRefusal {
    fn from(error: TokenError) -> Self {
        Self { error, cause: None }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error.reason())?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for TokenRefusal {}

impl TokenError {
    /// The refusal with this cause, which must be harmless ([`shown`]).
    pub(super) fn because(self, cause: impl Into<Box<str>>) -> TokenRefusal {
        TokenRefusal { error: self, cause: Some(cause.into()) }
    }
}

/// A text of a token, as a sentence may have it: quoted if it is short and plain, or else its length.
pub(super) fn shown(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.:/@+*|".contains(&byte);
    if text.len() <= SHOWN_BYTES_MAX && text.bytes().all(is_plain) {
        format!("\"{text}\"")
    } else {
        format!("a string of {} bytes", text.len())
    }
}

/// Several such texts, with `word` before the last.
pub(super) fn shown_list(texts: &[String], word: &str) -> String {
    let mut parts: Vec<String> = texts.iter().take(SHOWN_MAX).map(|text| shown(text)).collect();
    if texts.len() > SHOWN_MAX {
        parts.push(format!("{} more", texts.len() - SHOWN_MAX));
    }
    joined(&parts, word)
}

/// `a, b or c`
pub(super) fn joined(parts: &[String], word: &str) -> String {
    match parts {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

/// What a JSON value is.
pub(super) fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_and_plain_texts_are_shown() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("HS256", "\"HS256\"");
        check("https://example.eu.auth0.com/", "\"https://example.eu.auth0.com/\"");
        check("", "\"\"");
        check(&"a".repeat(64), &format!("\"{}\"", "a".repeat(64)));
        check(&"a".repeat(65), "a string of 65 bytes");
        for harmful in
            ["a\nb", "a\u{1b}[31m", "a\"b", "a\\b", "<b>", "é", "a\u{202e}b", "\u{0}", "a=b", "a%0ab"]
        {
            check(harmful, &format!("a string of {} bytes", harmful.len()));
        }
    }

    #[test]
    fn many_texts_are_counted() {
        let check = |count: usize, expected: &str| {
            let texts: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            assert_eq!(shown_list(&texts, "or"), expected);
        };
        check(0, "none");
        check(1, "\"0\"");
        check(2, "\"0\" or \"1\"");
        check(3, "\"0\", \"1\" or \"2\"");
        check(5, "\"0\", \"1\", \"2\" or 2 more");
    }
}
