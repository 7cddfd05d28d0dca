//! Media types (RFC 9110, section 8.3.1).

/// What `Content-Type` says: a type, and parameters behind it. Of the parameters only those that a reader uses are
/// looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType<'a> {
    essence: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> MediaType<'a> {
    /// Reads the value of a field. Anything can be read; what is no media type [is](Self::is) none.
    #[must_use]
    pub fn read(value: &'a [u8]) -> Self {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let (essence, parameters) = value.split_at(end);
        Self { essence: essence.trim_ascii(), parameters }
    }

    /// Returns true if this is the type of that name, whatever its parameters. Names have no case.
    #[must_use]
    pub fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence.as_bytes())
    }

    /// Returns true if no parameter says that the text is in another encoding than UTF-8.
    #[must_use]
    pub fn is_utf_8(&self) -> bool {
        let parameters = self.parameters.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let values = parameters.filter_map(|parameter| {
            let at = parameter.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&parameter[..at], &parameter[at + 1..]);
            name.eq_ignore_ascii_case(b"charset").then_some(value)
        });
        let is_utf_8 = |value: &[u8]| {
            let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            let value = unquoted.unwrap_or(value);
            [&b"utf-8"[..], b"utf8"].iter().any(|name| value.eq_ignore_ascii_case(name))
        };
        values.into_iter().all(is_utf_8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_whatever_its_case_and_parameters() {
        for (value, is_json, is_utf_8) in [
            (&b"application/json"[..], true, true),
            (b"Application/JSON", true, true),
            (b" application/json ;charset=utf-8", true, true),
            (b"application/json; charset=UTF-8", true, true),
            (b"application/json; Charset=\"utf-8\"; v=1", true, true),
            (b"application/json; charset=utf8", true, true),
            (b"application/json;", true, true),
            (b"application/json; x; =; ;y=\xe9", true, true),
            (b"application/json; xcharset=latin1", true, true),
            (b"application/json; charset=iso-8859-1", true, false),
            (b"application/json; charset=utf-8; charset=latin1", true, false),
            (b"application/json; charset=\"utf-8", true, false),
            (b"application/json; charset=", true, false),
            (b"application/json; charset=\xe9", true, false),
            (b"application/jsonp", false, true),
            (b"application/json\xe9", false, true),
            (b"json", false, true),
            (b"; application/json", false, true),
            (b"", false, true),
        ] {
            let media_type = MediaType::read(value);
            let found = (media_type.is("application/json"), media_type.is_utf_8());
            assert_eq!(found, (is_json, is_utf_8), "{:?}", String::from_utf8_lossy(value));
        }
    }
}
