//! Refs: what a client chooses to tell its messages apart.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::DecodeError;
use super::json::{json_string_len, parse_string, write_json_string};

/// A `ref` or `join_ref`: opaque, and echoed as it was. A number comes back as a number.
///
/// Null is no ref; it is `None` in an `Option<Ref>`.
///
/// Two refs are equal if they are the same string, however it is written (`"1"`, `"\u0031"`, or the bare
/// byte `1` of a binary message), or if they are the same JSON text: the number `1` is neither `"1"` nor
/// `1.0`.
#[derive(Debug, Clone, Copy)]
pub struct Ref<'a>(Form<'a>);

/// How the peer wrote the ref.
#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    /// Any JSON value but null, without white space around it.
    Json(&'a str),
    /// The content of a string, as binary messages have it: no quotes, no escapes.
    Bare(&'a str),
}

impl<'a> Ref<'a> {
    /// The ref that is the string `text`, as `phoenix.js` makes them (`"1"`, `"2"`, …).
    #[must_use]
    pub fn from_text(text: &'a str) -> Self {
        Self(Form::Bare(text))
    }

    /// The ref that stands in a binary message. It is a string; an empty one is `""`, not null.
    ///
    /// # Errors
    /// [`DecodeError::BadUtf8`] if the bytes are no text.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        simdutf8::basic::from_utf8(bytes).map(Self::from_text).map_err(|_| DecodeError::BadUtf8)
    }

    /// The ref that stands in a text message; `None` if it is null.
    #[must_use]
    pub fn from_json(json: &'a RawValue) -> Option<Self> {
        let text = json.get();
        (text != "null").then_some(Self(Form::Json(text)))
    }

    /// The ref that is written as `json`, a JSON string.
    pub(super) fn from_json_text(json: &'a str) -> Self {
        Self(Form::Json(json))
    }

    /// The ref as JSON text. Borrows unless it came from a binary message.
    #[must_use]
    pub fn to_json(self) -> Cow<'a, str> {
        match self.0 {
            Form::Json(json) => Cow::Borrowed(json),
            Form::Bare(_) => Cow::Owned(RefBuf::from(self).as_json().to_owned()),
        }
    }

    /// The ref as it stands in a binary message: a string without quotes and escapes, anything else as its
    /// JSON text.
    pub(super) fn to_bare(self) -> Cow<'a, str> {
        match self.0 {
            Form::Json(json) => parse_string(json).unwrap_or(Cow::Borrowed(json)),
            Form::Bare(text) => Cow::Borrowed(text),
        }
    }

    /// Appends the ref as JSON text.
    pub(super) fn write_json(self, out: &mut Vec<u8>) {
        match self.0 {
            Form::Json(json) => out.extend_from_slice(json.as_bytes()),
            Form::Bare(text) => write_json_string(out, text),
        }
    }

    /// The number of bytes of the ref as JSON text.
    pub(super) fn json_len(self) -> usize {
        match self.0 {
            Form::Json(json) => json.len(),
            Form::Bare(text) => json_string_len(text),
        }
    }

    /// The string that the ref is, if it is one.
    fn as_string(self) -> Option<Cow<'a, str>> {
        match self.0 {
            Form::Json(json) => parse_string(json),
            Form::Bare(text) => Some(Cow::Borrowed(text)),
        }
    }
}

impl PartialEq for Ref<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.0, other.0) {
            (Form::Json(one), Form::Json(two)) if one == two => true,
            (Form::Bare(one), Form::Bare(two)) => one == two,
            _ => self.as_string().is_some_and(|one| other.as_string().is_some_and(|two| one == two)),
        }
    }
}

impl Eq for Ref<'_> {}

/// A [`Ref`] that owns its text: 16 bytes, and no allocation for refs of up to 14 bytes of JSON.
///
/// An `Option<RefBuf>` is no larger.
#[derive(Clone)]
pub struct RefBuf(Text);

/// The most bytes that lie in a [`RefBuf`] itself: a counter of twelve digits, in quotes.
const SHORT_MAX: usize = 14;

/// JSON text.
#[derive(Clone)]
enum Text {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    // Boxed twice on purpose: the length would be eight bytes more in every join.
    Long(Box<Box<str>>),
}

impl Text {
    fn new(json: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (u8::try_from(json.len()), bytes.get_mut(..json.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(json.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(Box::new(json.into())),
        }
    }
}

impl RefBuf {
    /// The ref as JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        match &self.0 {
            // It was text when it was put there.
            Text::Short { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default()
            }
            Text::Long(json) => json,
        }
    }

    /// The ref, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> Ref<'_> {
        Ref(Form::Json(self.as_json()))
    }
}

impl From<Ref<'_>> for RefBuf {
    fn from(reference: Ref<'_>) -> Self {
        Self(match reference.0 {
            Form::Json(json) => Text::new(json),
            Form::Bare(text) => {
                let mut json = Vec::with_capacity(json_string_len(text));
                write_json_string(&mut json, text);
                Text::new(&String::from_utf8_lossy(&json))
            }
        })
    }
}

impl std::fmt::Debug for RefBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_json())
    }
}

impl PartialEq for RefBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for RefBuf {}

impl PartialEq<Ref<'_>> for RefBuf {
    fn eq(&self, other: &Ref<'_>) -> bool {
        self.as_ref() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ref written as `json`.
    fn json(json: &str) -> Ref<'_> {
        Ref::from_json(serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn refs_are_equal_as_strings_or_as_json_text() {
        let same: &[(Ref<'_>, Ref<'_>)] = &[
            (json(r#""1""#), json(r#""1""#)),
            (json(r#""1""#), json(r#""\u0031""#)),
            (json(r#""1""#), Ref::from_text("1")),
            (json(r#""""#), Ref::from_text("")),
            (json(r#""\"\n""#), Ref::from_text("\"\n")),
            (json("1"), json("1")),
            (json("[1]"), json(" [1] ")),
        ];
        let different: &[(Ref<'_>, Ref<'_>)] = &[
            (json(r#""1""#), json("1")),
            (json("1"), json("1.0")),
            (json("1"), Ref::from_text("1")),
            (json(r#""1""#), Ref::from_text("2")),
            (json(r#""null""#), json("false")),
            (json("[\"a\"]"), Ref::from_text("a")),
        ];
        for (cases, expected) in [(same, true), (different, false)] {
            for (one, two) in cases {
                assert_eq!(one == two, expected, "{one:?} {two:?}");
                assert_eq!(two == one, expected, "{one:?} {two:?}");
                let [owned_one, owned_two] = [*one, *two].map(RefBuf::from);
                assert_eq!(owned_one == *two, expected, "{one:?} {two:?}");
                assert_eq!(owned_one == owned_two, expected, "{one:?} {two:?}");
            }
        }
    }

    #[test]
    fn null_is_no_ref() {
        assert_eq!(Ref::from_json(RawValue::from_string("null".to_owned()).unwrap().as_ref()), None);
    }

    #[test]
    fn refs_are_written_in_both_forms() {
        let cases: &[(Ref<'_>, &str, &str)] = &[
            (json("7"), "7", "7"),
            (json(r#""7""#), r#""7""#, "7"),
            (json(r#""a\"\/""#), r#""a\"\/""#, "a\"/"),
            (json("true"), "true", "true"),
            (Ref::from_text("7"), r#""7""#, "7"),
            (Ref::from_text(""), r#""""#, ""),
            (Ref::from_text("\0é\""), r#""\u0000é\"""#, "\0é\""),
        ];
        for (reference, json, bare) in cases {
            let mut written = Vec::new();
            reference.write_json(&mut written);
            assert_eq!(written, json.as_bytes());
            assert_eq!(reference.json_len(), json.len());
            assert_eq!(reference.to_json(), *json);
            assert_eq!(reference.to_bare(), *bare);
            assert_eq!(RefBuf::from(*reference).as_json(), *json);
        }
    }

    #[test]
    fn a_ref_is_small_and_does_not_allocate() {
        assert_eq!(size_of::<RefBuf>(), 16);
        assert_eq!(size_of::<Option<RefBuf>>(), 16);
        assert!(matches!(RefBuf::from(Ref::from_text("4294967295")).0, Text::Short { .. }));
        let long = RefBuf::from(Ref::from_text("4294967295000"));
        assert_eq!((long.as_json(), matches!(long.0, Text::Long(_))), ("\"4294967295000\"", true));
        assert_eq!(Ref::from_bytes(b"\xff"), Err(DecodeError::BadUtf8));
    }
}
