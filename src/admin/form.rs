//! The fields of a form or query.

use crate::http::{Status, query};

use super::page::Trouble;

/// Fields of one form; the forms here have fewer.
const FIELDS_MAX: usize = 64;

/// Decoded fields, each at most once.
#[derive(Default)]
pub(super) struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded`. A field that stands twice is refused: two readers could take a
    /// different one.
    pub(super) fn read(text: &str) -> Result<Self, Trouble> {
        let bad = |sentence| Trouble::new(Status::BadRequest, "That can't be read", sentence);
        let mut fields: Vec<(String, String)> = Vec::new();
        for pair in query::pairs(text) {
            let (name, value) = pair.map_err(|error| bad(error.reason()))?;
            if fields.len() >= FIELDS_MAX || fields.iter().any(|(known, _)| *known == name) {
                return Err(bad("The form has too many fields, or one of them twice."));
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { fields })
    }

    /// All fields with their names.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A field as it was sent; empty if it is missing.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A field without the white space around it; empty if it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// A field that has something in it.
    pub(super) fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_stand_once() {
        let form = Form::read("a=+x%3Cy+&b=").unwrap();
        assert_eq!((form.raw("a"), form.text("a"), form.text("b"), form.text("c")), (" x<y ", "x<y", "", ""));
        assert_eq!((form.some("a").as_deref(), form.some("b")), (Some("x<y"), None));
        for bad in ["a=1&a=2", "a=1&%61=2", "a=%", "a=%ff"] {
            assert_eq!(
                Form::read(bad).err().map(|trouble| trouble.status()),
                Some(Status::BadRequest),
                "{bad}"
            );
        }
        let many: String = (0..=FIELDS_MAX).map(|n| format!("f{n}=&")).collect();
        assert!(Form::read(&many).is_err());
    }
}
