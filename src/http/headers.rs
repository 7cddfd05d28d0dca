//! The header fields of a request.

use super::syntax::list;

/// Fields kept without the heap. Browsers send 10 to 20, proxies add some.
const INLINE: usize = 32;

/// One field: its name as written, and its value without the white space around it.
type Field<'a> = (&'a str, &'a [u8]);

/// The header fields of a request in the order they came. Names are compared without regard to case.
///
/// Values are bytes: a proxy adds names and places in the encoding it has them in, another application of the same
/// domain sets the cookies it likes, and RFC 9110, section 5.5 asks to treat 0x80 to 0xFF as opaque data. Control bytes
/// are in none of them. A reader decides what a value that is not text means for the field that it reads; for those
/// that grant something, that is never "absent".
#[derive(Clone)]
pub struct Headers<'a> {
    inline: [Field<'a>; INLINE],
    inline_len: usize,
    more: Vec<Field<'a>>,
}

impl<'a> Headers<'a> {
    pub(super) const fn new() -> Self {
        Self { inline: [("", b""); INLINE], inline_len: 0, more: Vec::new() }
    }

    pub(super) fn push(&mut self, name: &'a str, value: &'a [u8]) {
        if let Some(slot) = self.inline.get_mut(self.inline_len) {
            *slot = (name, value);
            self.inline_len += 1;
        } else {
            self.more.push((name, value));
        }
    }

    /// The number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inline_len + self.more.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All fields, names as written.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.inline[..self.inline_len].iter().chain(&self.more).copied()
    }

    /// The value of the field `name`, the first if there are several.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields `name`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        // Most names differ in length already, and the comparison is a call.
        let is_it = move |known: &str| known.len() == name.len() && known.eq_ignore_ascii_case(name);
        self.iter().filter(move |(known, _)| is_it(known)).map(|(_, value)| value)
    }

    /// The elements of the comma-separated lists in all fields `name` (RFC 9110, section 5.6.1).
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(list)
    }

    /// Whether the list `name` has the element `token`, without regard to case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        // Nearly always the element is all that there is, and needs no splitting.
        let is_token = |element: &[u8]| element.eq_ignore_ascii_case(token.as_bytes());
        self.all(name).any(|value| is_token(value) || list(value).any(is_token))
    }
}

/// Shows the names only: values hold tokens and cookies, which must not reach a log.
impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_past_the_inline_ones_are_found_as_well() {
        let names: Vec<String> = (0..INLINE + 5).map(|number| format!("x-{number}")).collect();
        let mut headers = Headers::new();
        assert!(headers.is_empty());
        for name in &names {
            headers.push(name, name.as_bytes());
        }
        assert_eq!(headers.len(), names.len());
        assert!(headers.iter().map(|(name, _)| name).eq(names.iter().map(String::as_str)));
        for name in &names {
            assert_eq!(headers.get(&name.to_uppercase()), Some(name.as_bytes()));
        }
    }

    #[test]
    fn several_fields_of_one_name_are_one_list() {
        let mut headers = Headers::new();
        headers.push("Connection", b"keep-alive, Upgrade");
        headers.push("Host", b"a");
        headers.push("connection", b" , x\xe9, y");
        assert_eq!(headers.get("CONNECTION"), Some(&b"keep-alive, Upgrade"[..]));
        assert_eq!(headers.all("connection").count(), 2);
        let elements = [&b"keep-alive"[..], b"Upgrade", b"x\xe9", b"y"];
        assert!(headers.elements("connection").eq(elements));
        assert!(headers.has_token("connection", "upgrade") && headers.has_token("connection", "Y"));
        assert!(!headers.has_token("connection", "keep") && !headers.has_token("upgrade", "x"));
        assert_eq!(headers.get("hos"), None);
    }

    #[test]
    fn values_are_not_shown() {
        let mut headers = Headers::new();
        headers.push("Authorization", b"Bearer secret");
        assert_eq!(format!("{headers:?}"), r#"["Authorization"]"#);
    }
}
