//! The small grammar that several parts of HTTP share.

use memchr::memchr;

/// Whether `byte` may stand in a token: a method, a field name, a subprotocol (RFC 9110, section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether `byte` may stand in a field's value: anything but control bytes other than a tab (RFC 9110, section 5.5).
pub(super) const fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// Whether this is a token: at least one byte, all of them token bytes.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Whether `text` may be written as a field value: visible ASCII and spaces, so that no value, wherever it
/// comes from, can end its line or carry a control byte.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A field value as text, where it is UTF-8.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// The elements of a comma-separated list without the white space around them. Empty elements are skipped,
/// as RFC 9110, section 5.6.1.2 asks of a recipient.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The texts between separators of one ASCII character. `str::split` takes any text for one, which costs it much more than
/// what is split here is worth.
pub(super) fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    debug_assert!(separator.is_ascii());
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(at) = memchr(separator, text.as_bytes()) else { return Some(text) };
        rest = text.get(at + 1..);
        text.get(..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_at_commas_and_trimmed() {
        for (value, expected) in [
            ("", &[][..]),
            (" ,\t, ", &[]),
            ("a", &["a"]),
            ("keep-alive, Upgrade", &["keep-alive", "Upgrade"]),
            (",a ,\tb c,", &["a", "b c"]),
        ] {
            let expected = expected.iter().map(|element: &&str| element.as_bytes());
            assert!(list(value.as_bytes()).eq(expected), "{value:?}");
        }
    }

    #[test]
    fn a_text_is_split_as_the_standard_library_splits_it() {
        for text in ["", "a", "&", "a&", "&a", "a&&b", "a=1&é=ü&&"] {
            assert!(split(text, b'&').eq(text.split('&')), "{text:?}");
        }
    }

    #[test]
    fn a_token_has_no_separators() {
        assert!(is_token(b"M-SEARCH!#$%&'*+.^_`|~09azAZ"));
        for text in ["", " ", "a b", "a/b", "a=b", "a\"", "é", "a\0", "(", "[x]", "a:b", "a,b", "{", "@"] {
            assert!(!is_token(text.as_bytes()), "{text:?}");
        }
    }
}
