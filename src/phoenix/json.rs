//! The little JSON that serde_json leaves to us: what its raw values let through, and writing strings fast.

use std::borrow::Cow;

/// For each byte, the letter after the backslash of its JSON escape: 0 for none, `u` for the long form.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0C] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends `text` as a JSON string, quotes included. Only what JSON forbids in a string is escaped.
pub fn write_json_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let [byte, tail @ ..] = special else { break };
        match ESCAPES[usize::from(*byte)] {
            b'u' => {
                let [high, low] = [byte >> 4, byte & 0x0F].map(|digit| HEX[usize::from(digit)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        rest = tail;
    }
    out.push(b'"');
}

/// The number of bytes before the first one that must be escaped, or before the end.
fn plain_len(bytes: &[u8]) -> usize {
    // Without an early exit inside a chunk the compiler looks at all of it with a few vector instructions.
    let is_special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    let (chunks, _) = bytes.as_chunks::<16>();
    let plain =
        chunks.iter().take_while(|chunk| !chunk.iter().fold(false, |any, byte| any | is_special(byte)));
    let start = plain.count() * 16;
    bytes.iter().skip(start).position(is_special).map_or(bytes.len(), |at| start + at)
}

/// The number of bytes that [`write_json_string`] appends for `text`.
pub(super) fn json_string_len(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match ESCAPES[usize::from(byte)] {
        0 => 0,
        b'u' => 5,
        _ => 1,
    });
    text.len() + 2 + escapes.sum::<usize>()
}

/// The string that `json`, a JSON text without white space around it, stands for; `None` if it is no string.
///
/// Borrows unless there are escapes.
pub(crate) fn parse_string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// Whether arrays and objects are nested more than `depth_max` deep in `text`, which may be any text.
pub(crate) fn is_deeper_than(text: &str, depth_max: usize) -> bool {
    // A text can't be deeper than it has openers, and counting those needs no look at what a string is, so
    // the compiler makes it vector code. `[` and `{` differ in the bit 0x20 alone.
    let openers = text.bytes().filter(|byte| byte | 0x20 == b'{').count();
    openers > depth_max && depth(text.as_bytes()) > depth_max
}

/// The depth of nesting in `bytes`; never too small for valid JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = closing_quote(bytes, at + 1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// The place of the quote that ends the string whose content begins at `at`, or the end of the input.
fn closing_quote(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// Whether `text`, if it is JSON, has an escape `\uD800`..`\uDFFF` that is not half of a pair.
///
/// RFC 8259, section 8.2, leaves open what that means. Phoenix refuses it, and so do strict clients, but
/// serde_json lets it pass in values that it keeps raw or ignores. Backslashes stand only in strings, so
/// there is no need to follow where strings begin and end.
pub(crate) fn has_lone_surrogate(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some((_, escape)) = memchr::memchr(b'\\', rest).and_then(|at| rest.split_at_checked(at + 1)) {
        rest = match escape {
            [b'u', digits @ ..] => match code_unit(digits) {
                Some(0xDC00..=0xDFFF) => return true,
                Some(0xD800..=0xDBFF) => {
                    let low = digits.get(4..).and_then(|after| after.strip_prefix(b"\\u"));
                    let Some((low, tail)) = low.and_then(|low| Some((code_unit(low)?, low.get(4..)?))) else {
                        return true;
                    };
                    if !matches!(low, 0xDC00..=0xDFFF) {
                        return true;
                    }
                    tail
                }
                _ => digits,
            },
            [_, tail @ ..] => tail,
            [] => return false,
        };
    }
    false
}

/// The number that the first four bytes write in hexadecimal digits.
fn code_unit(bytes: &[u8]) -> Option<u32> {
    bytes
        .first_chunk::<4>()?
        .iter()
        .try_fold(0, |unit, byte| Some(unit << 4 | char::from(*byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let cases: &[(&str, usize)] = &[
            ("", 0),
            ("1", 0),
            (r#""[[[[""#, 0),
            (r#""\"[[""#, 0),
            (r#""\\"[]"#, 1),
            ("[]", 1),
            ("[[],[],{}]", 2),
            (r#"{"a":[{"]":[]}]}"#, 4),
            ("[[[", 3),
            ("]]][", 1),
            (r#"["open [[["#, 1),
            (r#"["\"#, 1),
        ];
        for (text, expected) in cases {
            assert_eq!(depth(text.as_bytes()), *expected, "{text}");
            assert!(!is_deeper_than(text, *expected), "{text}");
            assert!(*expected == 0 || is_deeper_than(text, expected - 1), "{text}");
        }
    }

    #[test]
    fn lone_surrogates_are_found() {
        let cases: &[(&str, bool)] = &[
            (r#""\ud834\udd1e""#, false),
            (r#""\uD834\uDD1E\uD834\uDD1E""#, false),
            (r#""\ud834""#, true),
            (r#""\ud834\ud834\udd1e""#, true),
            (r#""\udd1e""#, true),
            (r#""\udd1e\ud834""#, true),
            (r#""\ud834x\udd1e""#, true),
            (r#""\ud834\n\udd1e""#, true),
            (r#""\ud834\\udd1e""#, true),
            (r#""\ud834\udd1""#, true),
            (r#""\ud834\udd1x""#, true),
            (r#""\\ud834""#, false),
            (r#""\\\ud834""#, true),
            (r#""\ud7ff\ue000""#, false),
            (r#""\u00e9\u0000""#, false),
            (r#""\u12"#, false),
            (r#""\ud8"#, false),
            (r#""\ud834"#, true),
            (r#""\"#, false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(has_lone_surrogate(text), *expected, "{text}");
        }
    }

    #[test]
    fn a_string_is_parsed_without_a_copy_if_it_can_be() {
        assert!(matches!(parse_string(r#""room""#), Some(Cow::Borrowed("room"))));
        assert!(matches!(parse_string(r#""""#), Some(Cow::Borrowed(""))));
        assert_eq!(parse_string(r#""r\u006fom\n""#).as_deref(), Some("room\n"));
        for other in ["1", "null", "[\"\"]", "\"", ""] {
            assert_eq!(parse_string(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in "([\\x00-\\x7f]|\\PC|[\"\\\\])*") {
            let mut out = b"before".to_vec();
            write_json_string(&mut out, &text);
            let expected = format!("before{}", serde_json::to_string(&text).unwrap());
            prop_assert_eq!(out, expected.as_bytes());
            prop_assert_eq!(json_string_len(&text) + 6, expected.len());
        }

        #[test]
        fn surrogates_are_judged_as_serde_json_judges_them_in_strings(
            parts in prop::collection::vec(
                prop::sample::select(vec!["\\ud834", "\\uDD1E", "\\u0041", "\\\\", "\\n", "u", "d834", "x"]),
                0..8,
            )
        ) {
            let text = format!("\"{}\"", parts.concat());
            prop_assert_eq!(has_lone_surrogate(&text), serde_json::from_str::<String>(&text).is_err());
        }
    }
}
