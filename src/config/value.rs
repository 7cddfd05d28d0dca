//! How the values of settings are read, from the file and from text, and how they are written.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::auth::connect::Secret;
use crate::channel::SlowReader;
use crate::limits::Bound;
use crate::limits::IoUring;

/// What a report holds in the place of a secret.
pub(super) const HIDDEN: &str = "[hidden]";

/// A value of the file with its place.
pub(super) type Node<'a> = toml::Spanned<DeValue<'a>>;

/// A value as somebody gave it.
#[derive(Clone, Copy)]
pub(super) enum Given<'a> {
    /// In the file, with a type of its own.
    Node(&'a Node<'a>),
    /// As text: in the environment, or to a flag.
    Text(&'a str),
}

/// Why a value is not taken. The value itself is left out: it may be a secret in the wrong place.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Where in the file, if not at the value itself.
    pub(super) span: Option<Range<usize>>,
    pub(super) message: Cow<'static, str>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { span: None, message: message.into() }
    }

    pub(super) fn at(span: Range<usize>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { span: Some(span), message: message.into() }
    }
}

/// A type of settings.
pub(super) trait Setting: Sized {
    /// What a value looks like, to stand behind "expected".
    const EXPECTED: &'static str;

    /// Reads the value from text.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads the value from the file; a type that is no text there says so.
    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        node.get_ref().as_str().and_then(Self::from_text).ok_or_else(Self::wrong)
    }

    /// The value as TOML; `None` if nothing is set.
    fn show(&self) -> Option<String>;

    fn wrong() -> Wrong {
        Wrong::new(format!("expected {}", Self::EXPECTED))
    }

    fn read(given: Given<'_>) -> Result<Self, Wrong> {
        match given {
            Given::Node(node) => Self::from_node(node),
            Given::Text(text) => Self::from_text(text).ok_or_else(Self::wrong),
        }
    }
}

/// Reads an address to listen on as the file has it.
#[cfg(feature = "cli")]
pub(crate) fn address(text: &str) -> Option<SocketAddr> {
    SocketAddr::from_text(text)
}

/// The whole number that an integer of the file stands for.
pub(super) fn integer(node: &Node<'_>) -> Option<u64> {
    let integer = node.get_ref().as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Some)
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        T::from_node(node).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        node.get_ref().as_bool().ok_or_else(Self::wrong)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u16 {
    const EXPECTED: &'static str = "a number from 1 to 1024";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| (1..=1024).contains(number))
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        integer(node).and_then(|number| Self::from_text(&number.to_string())).ok_or_else(Self::wrong)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "a number of at least 1";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| *number >= 1)
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        integer(node).and_then(|number| Self::from_text(&number.to_string())).ok_or_else(Self::wrong)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for usize {
    const EXPECTED: &'static str = "a number of at least 1 such as 100, or a size such as \"64KiB\"";

    fn from_text(text: &str) -> Option<Self> {
        <Self as Bound>::parse(text).filter(|number| *number >= 1)
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        match integer(node) {
            Some(number) => Self::from_text(&number.to_string()),
            None => node.get_ref().as_str().and_then(Self::from_text),
        }
        .ok_or_else(Self::wrong)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a time such as \"250ms\", \"60s\", \"10m\", \"1h\", \"2d\" or \"4w\"";

    fn from_text(text: &str) -> Option<Self> {
        <Self as Bound>::parse(text)
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        match integer(node) {
            Some(seconds) => Self::from_text(&seconds.to_string()),
            None => node.get_ref().as_str().and_then(Self::from_text),
        }
        .ok_or_else(Self::wrong)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&Bound::show(self)))
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str =
        "an IP address, or localhost, and a port, such as \"127.0.0.1:4000\" or \"[::1]:4000\"";

    /// Of all host names only that is known here which means the same on every machine: the others are looked up, and
    /// nothing here asks the network.
    fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix("localhost:") {
            Some(port) => Some(Self::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
            None => text.parse().ok(),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for Secret {
    const EXPECTED: &'static str = "a text that is not empty";

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::new(text))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(HIDDEN))
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "the path of a file";

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

/// A list; one text alone is a list of one, and in the environment commas stand between them. An empty list is
/// as good as none.
impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a text, or a list of texts, none of them empty";

    fn from_text(text: &str) -> Option<Self> {
        let texts: Self = text.split(',').map(|text| text.trim().to_owned()).collect();
        texts.iter().all(|text| !text.is_empty()).then_some(texts)
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        let texts: Option<Self> = match node.get_ref() {
            DeValue::String(text) => Some(vec![text.to_string()]),
            DeValue::Array(nodes) => {
                nodes.iter().map(|node| node.get_ref().as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        texts.filter(|texts| texts.iter().all(|text| !text.is_empty())).ok_or_else(Self::wrong)
    }

    fn show(&self) -> Option<String> {
        match &**self {
            [] => None,
            [one] => Some(quoted(one)),
            many => Some(list(many.iter().map(|text| quoted(text)))),
        }
    }
}

/// A text as TOML.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Values as a list in TOML.
pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// Makes settings of enums whose values are words.
macro_rules! words {
    ($($type:ident: $expected:literal { $($variant:ident = $word:literal,)* })*) => {$(
        impl $crate::config::value::Setting for $type {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn show(&self) -> Option<String> {
                Some($crate::config::value::quoted(match self { $(Self::$variant => $word,)* }))
            }
        }
    )*};
}

pub(super) use words;

words! {
    SlowReader: "\"close\" or \"skip\"" {
        Close = "close",
        Skip = "skip",
    }
}

words! {
    IoUring: "\"auto\", \"on\" or \"off\"" {
        Auto = "auto",
        On = "on",
        Off = "off",
    }
}
