//! JSON bodies, read strictly and in one pass: an object's fields are known, each is there once, and their values stay
//! where they are until they are asked for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::error::{ApiError, Code};
use crate::phoenix;
use crate::suggest::{listed, nearest};

/// Fields that an object can have at most.
const FIELDS_MAX: usize = 12;

/// The names of an object's fields.
pub(super) type Names = &'static [&'static str];

/// An object whose fields are known.
#[derive(Debug)]
pub(super) struct Object<'a> {
    names: Names,
    values: [Option<&'a RawValue>; FIELDS_MAX],
    /// The list it stands in, and its place there.
    place: Option<(&'static str, usize)>,
}

/// A list of objects in an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListShape {
    /// The list's name, one of the outer object's.
    pub(super) name: &'static str,
    /// The fields of its objects.
    pub(super) items: Names,
    /// At most so many objects.
    pub(super) max: usize,
}

/// Reads a body that is an object.
pub(super) fn object<'a>(body: &'a [u8], names: Names) -> Result<Object<'a>, ApiError> {
    read(body, names, None, &mut |_| Ok(()))
}

/// Reads a body that is an object with a list of objects, each of which `each` gets as it comes.
pub(super) fn list<'a>(
    body: &'a [u8],
    names: Names,
    shape: ListShape,
    each: &mut dyn FnMut(Object<'a>) -> Result<(), ApiError>,
) -> Result<Object<'a>, ApiError> {
    let object = read(body, names, Some(shape), each)?;
    match object.raw(shape.name) {
        Some(_) => Ok(object),
        None => Err(object.missing(shape.name)),
    }
}

fn read<'a>(
    body: &'a [u8],
    names: Names,
    shape: Option<ListShape>,
    each: &mut dyn FnMut(Object<'a>) -> Result<(), ApiError>,
) -> Result<Object<'a>, ApiError> {
    let Ok(text) = simdutf8::basic::from_utf8(body) else {
        return Err(ApiError::new(Code::InvalidJson, "The body is not UTF-8."));
    };
    let mut reader = Reader { list: shape, each, place: Place::Body, refused: None };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let result = ObjectSeed { reader: &mut reader, names, inner: None }
        .deserialize(&mut deserializer)
        .and_then(|object| deserializer.end().map(|()| object));
    result.map_err(|error| reader.refusal(&error))
}

/// What is read at present.
#[derive(Debug, Clone, Copy)]
enum Place {
    Body,
    List(&'static str),
    Item(&'static str, usize),
}

struct Reader<'a, 'f> {
    list: Option<ListShape>,
    each: &'f mut dyn FnMut(Object<'a>) -> Result<(), ApiError>,
    place: Place,
    /// Why reading ended, if not because of the JSON itself.
    refused: Option<ApiError>,
}

impl Reader<'_, '_> {
    fn refuse<E: serde::de::Error>(&mut self, error: ApiError) -> E {
        self.refused = Some(error);
        E::custom("refused")
    }

    fn refusal(&mut self, error: &serde_json::Error) -> ApiError {
        if let Some(refused) = self.refused.take() {
            return refused;
        }
        match (error.classify(), self.place) {
            // The error's own words repeat nothing of a text that is no JSON.
            (Category::Syntax | Category::Eof | Category::Io, _) => {
                ApiError::new(Code::InvalidJson, format!("The body is not JSON: {error}."))
            }
            (Category::Data, Place::Body) => {
                ApiError::new(Code::InvalidRequest, "The body must be a JSON object.")
            }
            (Category::Data, Place::List(name)) => {
                ApiError::invalid(name, format!("\"{name}\" must be an array of objects."))
            }
            (Category::Data, Place::Item(name, at)) => ApiError::invalid(
                format!("{name}[{at}]"),
                format!("Every element of \"{name}\" must be an object."),
            ),
        }
    }
}

struct ObjectSeed<'r, 'a, 'f> {
    reader: &'r mut Reader<'a, 'f>,
    names: Names,
    /// The list it stands in, and its place there.
    inner: Option<(&'static str, usize)>,
}

impl<'a> DeserializeSeed<'a> for ObjectSeed<'_, 'a, '_> {
    type Value = Object<'a>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Object<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for ObjectSeed<'_, 'a, '_> {
    type Value = Object<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Object<'a>, M::Error> {
        let mut object = Object { names: self.names, values: [None; FIELDS_MAX], place: self.inner };
        while let Some(name) = map.next_key_seed(NameSeed { names: self.names })? {
            let at = match name {
                Ok(at) => at,
                Err(unknown) => return Err(self.reader.refuse(object.unknown(&unknown))),
            };
            if object.values[at].is_some() {
                return Err(self.reader.refuse(object.wrong(self.names[at], "is there twice: give it once")));
            }
            object.values[at] = match self.reader.list.filter(|list| list.name == self.names[at]) {
                Some(list) if self.inner.is_none() => {
                    map.next_value_seed(ListSeed { reader: self.reader, list })?;
                    Some(RawValue::NULL)
                }
                _ => Some(map.next_value()?),
            };
        }
        Ok(object)
    }
}

/// The place of a field's name among those that are known, or the name.
struct NameSeed {
    names: Names,
}

impl<'a> DeserializeSeed<'a> for NameSeed {
    type Value = Result<usize, String>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|known| *known == name).ok_or_else(|| name.to_owned()))
    }
}

struct ListSeed<'r, 'a, 'f> {
    reader: &'r mut Reader<'a, 'f>,
    list: ListShape,
}

impl<'a> DeserializeSeed<'a> for ListSeed<'_, 'a, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        self.reader.place = Place::List(self.list.name);
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for ListSeed<'_, 'a, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<(), S::Error> {
        let ListShape { name, items, max } = self.list;
        for at in 0..max {
            self.reader.place = Place::Item(name, at);
            let seed = ObjectSeed { reader: &mut *self.reader, names: items, inner: Some((name, at)) };
            let Some(object) = seq.next_element_seed(seed)? else {
                self.reader.place = Place::Body;
                return Ok(());
            };
            (self.reader.each)(object).map_err(|error| self.reader.refuse::<S::Error>(error))?;
        }
        if seq.next_element::<IgnoredAny>()?.is_none() {
            self.reader.place = Place::Body;
            return Ok(());
        }
        let message = format!("There may be {max} {name} in one request at most.");
        Err(self.reader.refuse(ApiError::new(Code::TooLarge, message).field(name)))
    }
}

impl<'a> Object<'a> {
    /// A field's value as it was sent.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.names.iter().position(|known| *known == name);
        debug_assert!(at.is_some(), "{name} is no field");
        at.and_then(|at| self.values[at])
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
        let read = |raw: &'a RawValue| {
            phoenix::parse_string(raw.get()).ok_or_else(|| self.wrong(name, "must be a string"))
        };
        self.raw(name).map(read).transpose()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.raw(name).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// A whole number in a range. `1.0` and `1e0` are whole numbers as well.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let whole = raw.get().parse().ok().or_else(|| {
            let number: f64 = serde_json::from_str(raw.get()).ok()?;
            // Beyond 2^53 not every whole number has a float of its own.
            (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number))
                .then_some(number as u64)
        });
        match whole.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, &format!("must be a whole number from {min} to {max}"))),
        }
    }

    /// How errors name a field.
    pub(super) fn path(&self, name: &str) -> String {
        match self.place {
            Some((list, at)) => format!("{list}[{at}].{name}"),
            None => name.to_owned(),
        }
    }

    /// A field must be there.
    pub(super) fn missing(&self, name: &str) -> ApiError {
        self.wrong(name, "is missing")
    }

    /// A field's value is not what it must be; `what` goes on behind the field's name.
    pub(super) fn wrong(&self, name: &str, what: &str) -> ApiError {
        ApiError::invalid(self.path(name), format!("\"{name}\" {what}."))
    }

    fn unknown(&self, name: &str) -> ApiError {
        // What is longer is no mistyped name.
        let field: String = name.chars().take(64).collect();
        let known = match nearest(&field, self.names.iter().copied()) {
            Some(known) => format!("the nearest one is \"{known}\""),
            None => format!("there are {}", listed(self.names)),
        };
        ApiError::invalid(self.path(&field), format!("There is no such field here; {known}."))
    }
}
