//! Claims and records in few bytes: every connected user has some, and they are rarely looked into.
//!
//! What JSON texts about users are full of has short forms: well-known names, times, UUIDs, and the user's id,
//! which is kept beside them anyway. Whatever else there is stays as it is, so every text comes back byte by byte.

/// Stands before a byte that would be taken for a phrase.
const LITERAL: u8 = 0xff;
/// Stands before the 16 bytes of a UUID, written in lower case with hyphens.
const UUID: u8 = 0xfe;
/// Stand before a whole number of 4 and of 8 bytes.
const NUMBER: u8 = 0xfd;
const LARGE_NUMBER: u8 = 0xfc;
/// The user's id, as a whole text in quotes.
const USER: u8 = 0xfb;

/// What control characters stand for, which JSON has between values at most. UTF-8 has none of the bytes above.
///
/// All begin with a quote, so that a text is looked at from its own beginning ([`may_hold`] relies on that), and
/// a longer one stands before its beginning.
const PHRASES: [&str; 30] = [
    r#""aud":["#,
    r#""aud":""#,
    r#""auth_time":"#,
    r#""azp":""#,
    r#""client_id":""#,
    r#""email_verified":true"#,
    r#""email_verified":"#,
    r#""email":""#,
    r#""exp":"#,
    r#""family_name":""#,
    r#""given_name":""#,
    r#""iat":"#,
    r#""id":"#,
    r#""iss":"https://"#,
    r#""iss":""#,
    r#""jti":""#,
    r#""locale":""#,
    r#""name":""#,
    r#""nbf":"#,
    r#""permissions":["#,
    r#""preferred_username":""#,
    r#""role":""#,
    r#""roles":["#,
    r#""scope":""#,
    r#""sid":""#,
    r#""sub":""#,
    r#""typ":"access""#,
    r#""typ":""#,
    r#"","#,
    r#""}"#,
];

/// Fewer digits are as short as they are.
const DIGITS_MIN: usize = 6;

/// Appends the short form of `text` to `out`.
pub(super) fn pack(text: &str, user: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    let mut in_quotes = false;
    while let Some(&byte) = rest.first() {
        let taken = match byte {
            _ if in_quotes && is_user(rest, user) => {
                out.push(USER);
                user.len()
            }
            b'0'..=b'9' | b'a'..=b'f' => pack_hex(rest, out),
            b'"' => pack_phrase(rest, out),
            0..0x20 => {
                out.extend_from_slice(&[LITERAL, byte]);
                1
            }
            _ => {
                out.push(byte);
                1
            }
        };
        in_quotes = rest.get(taken - 1) == Some(&b'"');
        rest = &rest[taken..];
    }
}

fn is_user(rest: &[u8], user: &str) -> bool {
    !user.is_empty() && rest.strip_prefix(user.as_bytes()).is_some_and(|behind| behind.first() == Some(&b'"'))
}

fn pack_phrase(rest: &[u8], out: &mut Vec<u8>) -> usize {
    match (0..).zip(PHRASES).find(|(_, phrase)| rest.starts_with(phrase.as_bytes())) {
        Some((code, phrase)) => {
            out.push(code);
            phrase.len()
        }
        None => {
            out.push(b'"');
            1
        }
    }
}

fn pack_hex(rest: &[u8], out: &mut Vec<u8>) -> usize {
    match uuid(rest) {
        Some(bytes) => {
            out.push(UUID);
            out.extend_from_slice(&bytes);
            UUID_LEN
        }
        None if rest[0].is_ascii_digit() => pack_digits(rest, out),
        None => {
            out.push(rest[0]);
            1
        }
    }
}

/// A row of digits: as a number if that is shorter and says the same, or else as it is.
fn pack_digits(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let len = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let digits = &rest[..len];
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    match number.filter(|_| len >= DIGITS_MIN && digits[0] != b'0') {
        Some(number) => match u32::try_from(number) {
            Ok(number) => {
                out.push(NUMBER);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Err(_) => {
                out.push(LARGE_NUMBER);
                out.extend_from_slice(&number.to_le_bytes());
            }
        },
        None => out.extend_from_slice(digits),
    }
    len
}

/// The text whose short form this is.
pub(super) fn unpack(mut packed: &[u8], user: &str) -> String {
    let mut text = Vec::with_capacity(packed.len() * 4);
    while let Some((&code, rest)) = packed.split_first() {
        packed = rest;
        match code {
            LITERAL => text.extend_from_slice(&take::<1>(&mut packed)),
            UUID => write_uuid(take(&mut packed), &mut text),
            NUMBER => text.extend_from_slice(u32::from_le_bytes(take(&mut packed)).to_string().as_bytes()),
            LARGE_NUMBER => {
                text.extend_from_slice(u64::from_le_bytes(take(&mut packed)).to_string().as_bytes());
            }
            USER => text.extend_from_slice(user.as_bytes()),
            _ => match PHRASES.get(usize::from(code)) {
                Some(phrase) => text.extend_from_slice(phrase.as_bytes()),
                None => text.push(code),
            },
        }
    }
    debug_assert!(std::str::from_utf8(&text).is_ok(), "it was text when it was packed");
    String::from_utf8(text).unwrap_or_default()
}

fn take<const N: usize>(packed: &mut &[u8]) -> [u8; N] {
    match packed.split_first_chunk() {
        Some((bytes, rest)) => {
            *packed = rest;
            *bytes
        }
        None => [0; N],
    }
}

/// Whether `needle` may be one of the texts in a packed JSON text. `false` is certain; for the most that are not
/// there it is found without unpacking.
pub(super) fn may_hold(packed: &[u8], needle: &str, user: &str) -> bool {
    // A text may be written with escapes.
    if needle == user || memchr::memchr(b'\\', packed).is_some() {
        return true;
    }
    match uuid(needle.as_bytes()).filter(|_| needle.len() == UUID_LEN) {
        Some(bytes) => memchr::memmem::find(packed, &bytes).is_some(),
        None => memchr::memmem::find(unpack(packed, user).as_bytes(), needle.as_bytes()).is_some(),
    }
}

const UUID_LEN: usize = 36;

/// The UUID that a text begins with.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let text = text.first_chunk::<UUID_LEN>()?;
    if [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    for byte in &mut bytes {
        *byte = hex_digit(*digits.next()?)? << 4 | hex_digit(*digits.next()?)?;
    }
    // More hyphens than these leave digits short.
    digits.next().is_none().then_some(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn write_uuid(bytes: [u8; 16], text: &mut Vec<u8>) {
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        text.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADA: &str = "6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f2";

    fn packed(text: &str, user: &str) -> Vec<u8> {
        let mut out = Vec::new();
        pack(text, user, &mut out);
        out
    }

    #[track_caller]
    fn check(text: &str, user: &str, len: usize) {
        let packed = packed(text, user);
        assert_eq!(unpack(&packed, user), text);
        assert_eq!(packed.len(), len, "{text}");
    }

    #[test]
    fn a_text_comes_back_byte_by_byte() {
        check("", "", 0);
        check("{}", "", 2);
        check(r#"{"sub":"ada"}"#, "ada", 4);
        check(r#"{"sub":"adam"}"#, "ada", 7);
        check(r#"{"sub":"ada"#, "ada", 5);
        check(r#"["ada","ada"]"#, "ada", 8);
        check(r#"{"exp":1802419200}"#, "", 8);
        check(r#"{"exp":99999}"#, "", 8);
        check(r#"{"exp":100000}"#, "", 8);
        check(r#"{"at":1802419200123}"#, "", 16);
        check("18446744073709551615", "", 9);
        check("18446744073709551616", "", 20);
        check("0123456", "", 7);
        check("\u{1}\n\t\r\u{1f}\u{7f}ä\u{10ffff}", "", 17);
        check(ADA, "", 17);
        check(&ADA.to_uppercase(), "", 36);
        check(&ADA[..35], "", 35);
        check("6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06-2", "", 36);
        check(&ADA.replace('-', "f"), "", 36);
    }

    #[test]
    fn every_phrase_is_found_as_itself() {
        for (code, phrase) in (0..).zip(PHRASES) {
            assert_eq!(packed(phrase, ""), [code], "{phrase}");
            assert!(phrase.starts_with('"') && code < 0x20);
        }
    }

    #[test]
    fn what_guardian_writes_takes_less_than_half() {
        let claims = format!(
            r#"{{"aud":"my_app","exp":1802419200,"iat":1800000000,"iss":"my_app","jti":"{ADA}","nbf":1799999999,"sub":"ada","typ":"access"}}"#
        );
        assert_eq!(claims.len(), 154);
        check(&claims, "ada", 62);
    }

    #[test]
    fn what_is_there_may_be_there() {
        let claims = format!(r#"{{"sub":"ada","jti":"{ADA}","x":["one","7777777"],"y": "{ADA}"}}"#);
        for user in ["ada", ADA, "6c", "one"] {
            let packed = packed(&claims, user);
            for (needle, expected) in [
                ("ada", true),
                (ADA, true),
                ("one", true),
                ("7777777", true),
                ("bob", false),
                ("6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f3", false),
            ] {
                assert_eq!(may_hold(&packed, needle, user), expected, "{needle} with {user}");
            }
        }
        assert!(may_hold(&packed(r#"{"jti":"\u0061da"}"#, ""), "ada", ""));
    }

    /// Texts of pieces that have short forms, of parts of them, and of anything else.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            prop::sample::select(PHRASES.to_vec()).prop_map(str::to_owned),
            prop::sample::select(vec![ADA, "ada", "\"ada\"", "\"", "-", "0", "\\"]).prop_map(str::to_owned),
            (0..4usize, any::<u64>()).prop_map(|(cut, number)| (number >> (cut * 16)).to_string()),
            (0..37usize).prop_map(|len| ADA[..len.min(ADA.len())].to_owned()),
            any::<char>().prop_map(String::from),
            (0..0x80u8).prop_map(|byte| char::from(byte).to_string()),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in texts(), user in prop::sample::select(vec!["", "ada", ADA, "6", "\""])) {
            prop_assert_eq!(unpack(&packed(&text, user), user), text);
        }

        #[test]
        fn a_text_in_quotes_may_be_there(before in texts(), needle in "[a-f0-9]{1,12}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}") {
            let claims = serde_json::json!({ "a": before, "jti": needle, "z": before }).to_string();
            prop_assert!(may_hold(&packed(&claims, "ada"), &needle, "ada"));
        }
    }
}
