//! JSON that everybody reads alike: an object, without duplicate members, not nested deeply.
//!
//! RFC 8725, section 2.6, and RFC 7515, section 4: of two members with one name a parser may take either, so a
//! token that has them says one thing here and another elsewhere.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::refusal::shown;

/// How deeply the objects and arrays of a token may be nested. Those of Guardian, Auth0 or Keycloak need four.
const DEPTH_MAX: u8 = 16;

/// Whether `text` is such an object, numbers in the range of a double included.
pub(super) fn is_plain_object(text: &str) -> bool {
    check_plain_object(text).is_ok()
}

/// The same; the error says what is wrong, and has no more of the text than a member's name.
pub(super) fn check_plain_object(text: &str) -> Result<(), serde_json::Error> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(serde_json::Error::custom("no object"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    Plain { depth: 0 }.deserialize(&mut json)?;
    json.end()
}

#[derive(Clone, Copy)]
struct Plain {
    depth: u8,
}

impl Plain {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth < DEPTH_MAX {
            Ok(Self { depth: self.depth + 1 })
        } else {
            Err(E::custom("nested too deeply"))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while elements.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("the member {} twice", shown(&name))));
            }
            names.insert(name);
            members.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(is_plain_object(text), expected, "{text}");
    }

    #[test]
    fn only_plain_objects_pass() {
        check("{}", true);
        check(" \n{ \"a\" : [1, -2.5, true, null, \"x\", {\"a\": {}}] } ", true);
        check("", false);
        check("[]", false);
        check("null", false);
        check("1", false);
        check("\"{}\"", false);
        check("{}{}", false);
        check("{} x", false);
        check("\u{feff}{}", false);
        check("{\"a\":1,}", false);
        check("{\"a\":01}", false);
        check("{\"a\":1e400}", false);
        check("{\"a\":NaN}", false);
        check("{\"a\":\"\\ud800\"}", false);
    }

    #[test]
    fn a_member_stands_once_at_every_depth_however_it_is_written() {
        check(r#"{"a":1,"A":1}"#, true);
        check(r#"{"a":1,"a":1}"#, false);
        check(r#"{"a":1,"\u0061":1}"#, false);
        check(r#"{"a":[{"b":1,"b":2}]}"#, false);
        check(r#"{"a":{"b":1},"c":{"b":2}}"#, true);
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        check(&nested(16), true);
        check(&nested(17), false);
        check(&nested(10_000), false);
        check(&format!("{{\"a\":{}", "[".repeat(10_000)), false);
    }
}
