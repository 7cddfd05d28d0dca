//! `[api]`, `[[api.keys]]` and `[admin]`: the listener of those who run the server and of their programs.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use toml::de::DeValue;

use super::table::table;
use super::value::{Node, Setting, Wrong, list, quoted, words};
use crate::auth::connect::Secret;
use crate::channel::TopicPattern;

/// What the keys that `hailer api-key` makes begin with.
pub const API_KEY_PREFIX: &str = "hlr_";

/// What the text of a hash begins with.
const HASH_PREFIX: &str = "sha256:";

table! {
    /// `[api]`: the listener of the HTTP API and the back office, apart from that of clients.
    Api {
        /// Address of the HTTP API and the back office; "off" for neither. Port 0 takes any free port.
        listen: ApiListen = ApiListen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 4001)));
        /// Names under which requests may come besides localhost and the address that is connected to. Requests with
        /// any other Host are refused.
        hosts: Vec<String> = Vec::new(), like "\"hailer.example.com\"";
        /// Threads that answer requests.
        threads: u16 = 4;
        /// Whether `/metrics` is given without a key.
        metrics_open: bool = true;
        /// Time for which a request with an idempotency key that was used is answered as the first one was.
        idempotency_lifetime: Duration = Duration::from_secs(5 * 60);
        /// Messages of one request.
        messages_per_request_max: usize = 10_000;
        /// Bytes of a message's payload.
        payload_bytes_max: usize = 64 * 1024;
        /// Requests of one address with a wrong key in a minute; beyond it further ones are answered 429.
        failures_per_minute_max: u32 = 20;
    }
    besides {
        /// `[[api.keys]]`: who may use the API. Without one there is nobody.
        keys: Vec<ApiKey> = Vec::new();
    }
}

table! {
    /// `[[api.keys]]`: a key of the API, by its hash.
    ApiKey {
        /// What the key is called, in the record of what was done with it.
        name: String = String::new(), like "\"orders\"";
        /// The hash of the key, as `hailer api-key` prints it; never the key itself.
        hash: KeyHash = KeyHash::default(), like "\"sha256:50e04c4588ddb286a67eb33266486b9d14e71ea4a86ea99e34b4357fca880820\"";
        /// What may be done with it: "publish", "disconnect" and "read" (who is connected, what was sent).
        scopes: Vec<KeyScope> = Vec::new(), like "[\"publish\", \"read\"]";
        /// The topics that the key is for: names, prefixes with * at their ends, or names with {sub} in the place of a
        /// user's id. Without it all topics.
        topics: Vec<TopicPattern> = Vec::new(), like "[\"room:*\"]";
    }
    besides {}
}

table! {
    /// `[admin]`: the back office at `/admin` of the API's listener.
    Admin {
        /// Whether there is a back office.
        enabled: bool = true;
        /// What its pages are called.
        title: String = "Hailer".to_owned();
        /// The topic of a message to everyone.
        default_topic: String = "room:lobby".to_owned();
        /// Topics that are offered besides it; any other can be typed.
        topics: Vec<String> = Vec::new(), like "[\"room:sales\", \"room:support\"]";
        /// Whether a proxy in front speaks TLS: cookies are then for TLS alone.
        tls: bool = false;
        /// Time without a request after which a session ends.
        session_idle: Duration = Duration::from_secs(30 * 60);
        /// Time from the sign-in after which a session ends.
        session_lifetime: Duration = Duration::from_secs(12 * 3600);
        /// Messages that one account may send in a minute.
        sends_per_minute_max: u32 = 30;
    }
    besides {}
}

impl ApiKey {
    /// The key that these bytes make, which nobody can guess.
    #[must_use]
    pub fn key(bytes: [u8; 32]) -> Secret {
        Secret::new(format!("{API_KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The lines of the configuration for a key.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn lines(
        name: &str,
        hash: KeyHash,
        scopes: Vec<KeyScope>,
        topics: Vec<TopicPattern>,
    ) -> Result<String, &'static str> {
        if let Some(fault) = key_name_fault(name) {
            return Err(fault);
        }
        let key = Self { name: name.to_owned(), hash, scopes, topics };
        let set = key.rows().into_iter().filter_map(|row| Some(format!("{} = {}\n", row.key, row.value?)));
        Ok(format!("[[api.keys]]\n{}", set.collect::<String>()))
    }
}

/// Why a text can't be what a key is called, if it can't: it stands in records beside everything that is done.
pub(super) fn key_name_fault(name: &str) -> Option<&'static str> {
    let is_name = !name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control);
    (!is_name).then_some("expected a name of at most 64 bytes, without control characters")
}

/// Where the API listens, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiListen {
    /// Nowhere: there is neither API nor back office.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl ApiListen {
    /// The address, if there is one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Setting for ApiListen {
    const EXPECTED: &'static str =
        "an IP address, or localhost, and a port, such as \"127.0.0.1:4001\", or \"off\"";

    fn from_text(text: &str) -> Option<Self> {
        if text == "off" { Some(Self::Off) } else { SocketAddr::from_text(text).map(Self::At) }
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Off => Some(quoted("off")),
            Self::At(address) => address.show(),
        }
    }
}

/// What may be done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// Messages may be published, retracted and cancelled.
    Publish,
    /// Sockets may be closed.
    Disconnect,
    /// It may be read who is connected and what was sent.
    Read,
}

words! {
    KeyScope: "\"publish\", \"disconnect\" or \"read\"" {
        Publish = "publish",
        Disconnect = "disconnect",
        Read = "read",
    }
}

/// Values of a list that must hold something: an empty one would be read as none by one person and as no bound by
/// another.
fn some_of<T>(
    node: &Node<'_>,
    wrong: fn() -> Wrong,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Wrong> {
    let DeValue::Array(nodes) = node.get_ref() else { return Err(wrong()) };
    let read = |node: &Node<'_>| {
        let value = node.get_ref().as_str().and_then(&read);
        value.ok_or_else(|| Wrong { span: Some(node.span()), ..wrong() })
    };
    let values = nodes.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if values.is_empty() { Err(wrong()) } else { Ok(values) }
}

impl Setting for Vec<KeyScope> {
    const EXPECTED: &'static str = "a list of one or more of \"publish\", \"disconnect\" and \"read\"";

    /// There are no keys outside of the file.
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        some_of(node, Self::wrong, KeyScope::from_text)
    }

    fn show(&self) -> Option<String> {
        self.iter().map(Setting::show).collect::<Option<Vec<_>>>().map(|scopes| list(scopes.into_iter()))
    }
}

impl Setting for Vec<TopicPattern> {
    const EXPECTED: &'static str = "a list of one or more topics, prefixes such as \"room:*\", or names such as \
                                    \"user:{sub}\"; leave it out for all topics";

    /// There are no keys outside of the file.
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        some_of(node, Self::wrong, |text| TopicPattern::parse(text).ok())
    }

    fn show(&self) -> Option<String> {
        let patterns = self.iter().map(|pattern| quoted(&pattern.to_string()));
        (!self.is_empty()).then(|| list(patterns))
    }
}

/// The SHA-256 of a key. A key is 256 random bits, so a slow hash would gain nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

/// `sha256:` and the bytes in hexadecimal.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Setting for KeyHash {
    const EXPECTED: &'static str =
        "the hash of a key, \"sha256:\" and 64 hexadecimal digits, as `hailer api-key` prints it";

    fn from_text(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH_PREFIX).filter(|digits| digits.len() == 64)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        let text = node.get_ref().as_str();
        if text.is_some_and(|text| text.contains(API_KEY_PREFIX)) {
            return Err(Wrong::new(
                "this is a key itself, and whoever reads the file could use it: give its hash, which \
                 `hailer api-key --hash` prints of a key on its stdin",
            ));
        }
        text.and_then(Self::from_text).ok_or_else(Self::wrong)
    }

    /// A key that has no hash yet shows none.
    fn show(&self) -> Option<String> {
        (*self != Self::default()).then(|| quoted(&self.to_string()))
    }
}
