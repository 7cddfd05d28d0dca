//! The check of a browser's `Origin` (Phoenix: `check_origin` of `Phoenix.Socket.Transport`).
//!
//! A browser says from which page a request comes, and a page can't say otherwise: so a page of somebody else can't
//! use the cookies or the network of its visitor to connect here. Programs that are no browser say what they like;
//! tokens are for them.
//!
//! An origin is compared by scheme, host and port, and nothing else: no text is searched in another one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A name that is longer is none (RFC 1035), and an origin is hardly more than a name.
const ORIGIN_BYTES_MAX: usize = 255;

/// What the request itself says of where it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestOrigin<'a> {
    /// The header `Host`.
    pub host: Option<&'a str>,
    /// Whether it came by TLS. `None`: nobody knows, for a proxy may have ended it.
    pub secure: Option<bool>,
}

impl RequestOrigin<'_> {
    /// Whether it goes to an address, to this machine by name, or to a name without a dot, as a container or a host of
    /// the own network has. No page elsewhere has such a name: those that anyone may register have dots.
    fn is_local(&self) -> bool {
        self.host.and_then(HostName::of_header).is_some_and(|host| {
            let name = host.0.strip_suffix('.').unwrap_or(&host.0);
            let is_one_label =
                !name.contains('.') && name.starts_with(|first: char| first.is_ascii_alphabetic());
            host.address().is_some() || is_one_label || name.ends_with(".localhost")
        })
    }
}

/// Which origins may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPolicy {
    /// All (Phoenix: `false`).
    Off,
    /// Those of this host, by any scheme and port (Phoenix: `true`).
    Host(HostName),
    /// Those that the request goes to: its own scheme, host and port (Phoenix: `:conn`).
    Conn,
    /// The same, if the request goes to one of these hosts or to an address. A page elsewhere whose name leads here (DNS
    /// rebinding) is of the host that it asks; a page of an address has no name that could lead here.
    ConnTo(Arc<[HostName]>),
    /// Those that match one of these.
    List(Vec<OriginPattern>),
    /// The same, for requests that go to an address, to `localhost` or a name below it, or to a name without a dot. Any
    /// other one is refused, whatever its origin, and without one: its name may be that of a page elsewhere (DNS rebinding), whose
    /// requests are then of their own origin, and some of those carry none.
    LocalList(Vec<OriginPattern>),
}

/// Which requests may connect, by their origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginCheck {
    /// Which origins may.
    pub policy: OriginPolicy,
    /// Whether a request without an origin may not: every browser sends one, no other client has to.
    pub require_origin: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OriginError {
    /// It goes to a name that may be anyone's.
    ForeignHost,
    /// It has no origin, and needs one.
    Missing,
    /// It has several.
    Several,
    /// Its origin is no scheme, host and port: a file's or a sandbox's page has none.
    Opaque,
    /// Its origin is not among those that may connect.
    NotAllowed,
}

impl OriginError {
    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ForeignHost => {
                "the host is a name with a dot, which may be a page's elsewhere (it needs check_origin or [auth])"
            }
            Self::Missing => "no origin",
            Self::Several => "several origins",
            Self::Opaque => "origin without a host",
            Self::NotAllowed => "origin not allowed",
        }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for OriginError {}

impl OriginCheck {
    /// Decides about a request by its `Origin` headers; there should be one, or none.
    ///
    /// # Errors
    /// The request may not connect.
    pub fn check<'a>(
        &self,
        origins: impl IntoIterator<Item = &'a str>,
        request: &RequestOrigin<'_>,
    ) -> Result<(), OriginError> {
        if matches!(self.policy, OriginPolicy::LocalList(_)) && !request.is_local() {
            return Err(OriginError::ForeignHost);
        }
        let mut origins = origins.into_iter();
        let Some(origin) = origins.next() else {
            return if self.require_origin { Err(OriginError::Missing) } else { Ok(()) };
        };
        if self.policy == OriginPolicy::Off {
            return Ok(());
        }
        if origins.next().is_some() {
            return Err(OriginError::Several);
        }
        self.policy.check(origin, request)
    }
}

impl OriginPolicy {
    fn check(&self, text: &str, request: &RequestOrigin<'_>) -> Result<(), OriginError> {
        let opaque = Opaque::read(text);
        let origin = Origin::read(text);
        let allowed = match (self, &opaque, &origin) {
            (Self::Off, ..) => true,
            (Self::List(patterns) | Self::LocalList(patterns), Some(opaque), _) => {
                patterns.contains(&OriginPattern(Pattern::Opaque(*opaque)))
            }
            (_, _, None) => false,
            (Self::Host(host), _, Some(origin)) => origin.host == *host,
            (Self::Conn, _, Some(origin)) => origin.is_of(request),
            (Self::ConnTo(hosts), _, Some(origin)) => {
                let is_here = hosts.contains(&origin.host) || origin.host.address().is_some();
                origin.is_of(request) && is_here
            }
            (Self::List(patterns) | Self::LocalList(patterns), _, Some(origin)) => {
                patterns.iter().any(|pattern| pattern.matches(origin, request))
            }
        };
        match origin {
            _ if allowed => Ok(()),
            Some(_) => Err(OriginError::NotAllowed),
            None => Err(OriginError::Opaque),
        }
    }

    /// The line of the configuration that lets `origin` in besides those that may already. Nothing for what should
    /// not be let in for the asking: `null`, which any page can have, and what is no origin at all. Nor where the hosts are
    /// given, since their pages are let in already.
    #[must_use]
    pub fn suggestion(&self, origin: &str) -> Option<String> {
        let origin = Origin::read(origin)?.to_string();
        let mut entries = match self {
            Self::Off | Self::ConnTo(_) => return None,
            Self::Conn => vec!["conn".to_owned()],
            Self::Host(host) => vec![format!("//{host}")],
            Self::List(patterns) => patterns.iter().map(ToString::to_string).collect(),
            // In a list of the operator's the host is not looked at, so any name would do for `conn`.
            Self::LocalList(patterns) => {
                let listed = patterns.iter().filter(|pattern| pattern.0 != Pattern::Conn);
                listed.map(ToString::to_string).collect()
            }
        };
        entries.push(origin);
        // All of them are made of letters, digits and a few signs; none has to be escaped.
        Some(format!("check_origin = [\"{}\"]", entries.join("\", \"")))
    }
}

/// A host that may stand in an origin, in lower case: a name, an IPv4 address, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(Box<str>);

impl From<IpAddr> for HostName {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.to_string().into(),
            IpAddr::V6(address) => format!("[{address}]").into(),
        })
    }
}

impl HostName {
    /// The host of what a `Host` header says. `None` if that is not `host` or `host:port`.
    #[must_use]
    pub fn of_header(value: &str) -> Option<Self> {
        read_authority(value).map(|(host, _)| host)
    }

    /// The address, if it is one. That of IPv4 is the same however it is written, also as `[::ffff:192.0.2.1]`.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let text = self.0.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&self.0);
        text.parse().ok().map(|address: IpAddr| address.to_canonical())
    }

    fn read(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
            return Some(Self(format!("[{address}]").into()));
        }
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // A dot at the end is part of the name: browsers keep it, and treat the two as different origins.
        let labels = text.strip_suffix('.').unwrap_or(text);
        let good = text.len() <= ORIGIN_BYTES_MAX
            && labels.split('.').all(|label| !label.is_empty() && label.bytes().all(is_good));
        good.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// Whether this is `parent`, or a name below it.
    fn is_below(&self, parent: &Self) -> bool {
        let rest = self.0.strip_suffix(&*parent.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Whether it is an address, whose parts are no hierarchy of names.
    fn is_address(&self) -> bool {
        let last = self.0.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        last.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x")
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::read(text).ok_or(PatternError::Host)
    }
}

/// What a browser sends for a page that has no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opaque {
    /// A sandbox, a `data:` page, a redirect, a local file.
    Null,
    /// A local file, in some embedded browsers.
    File,
}

impl Opaque {
    fn read(text: &str) -> Option<Self> {
        match text {
            "null" => Some(Self::Null),
            "file://" => Some(Self::File),
            _ => None,
        }
    }
}

/// A scheme, host and port (RFC 6454, section 6.2): what browsers send, in lower case.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: Box<str>,
    host: HostName,
    /// The port that is meant, written or not; `None` for a scheme that has none of its own.
    port: Option<u16>,
}

impl Origin {
    /// Reads an origin, and nothing around it: no user, path, query, no slash at the end.
    fn read(text: &str) -> Option<Self> {
        if text.len() > ORIGIN_BYTES_MAX {
            return None;
        }
        let (scheme, authority) = text.split_once("://")?;
        let scheme = read_scheme(scheme)?;
        let (host, port) = read_authority(authority)?;
        Some(Self { port: port.or_else(|| default_port(&scheme)), scheme, host })
    }

    /// Whether the request goes to where its page came from.
    fn is_of(&self, request: &RequestOrigin<'_>) -> bool {
        let scheme_fits = match request.secure {
            Some(true) => &*self.scheme == "https",
            Some(false) => &*self.scheme == "http",
            None => matches!(&*self.scheme, "http" | "https"),
        };
        let Some((host, port)) = request.host.and_then(read_authority) else { return false };
        scheme_fits && host == self.host && port.or_else(|| default_port(&self.scheme)) == self.port
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if default_port(&self.scheme) != Some(port) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// RFC 3986, section 3.1.
fn read_scheme(text: &str) -> Option<Box<str>> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let good = text.bytes().all(is_good) && text.bytes().next()?.is_ascii_alphabetic();
    good.then(|| text.to_ascii_lowercase().into())
}

fn read_authority(text: &str) -> Option<(HostName, Option<u16>)> {
    // The colons of an IPv6 address lie within its brackets.
    let end = text.find(']').map_or(0, |at| at + 1);
    let (host, port) = match text[end..].find(':') {
        Some(colon) => (&text[..end + colon], Some(&text[end + colon + 1..])),
        None => (text, None),
    };
    let port = match port {
        Some(digits) => Some(read_port(digits)?),
        None => None,
    };
    Some((HostName::read(host)?, port))
}

fn read_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok())?
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// An entry of the list of origins:
///
/// - `https://example.com`, `http://host:8080`: exactly this scheme, host and port, the scheme's own port if none is
///   written;
/// - `//example.com`: any scheme and port; `//example.com:8080`: any scheme;
/// - `//*.example.org`, `https://*.example.org`: the host itself and all below it, by whole labels;
/// - `conn`: those that the request goes to;
/// - `null`, `file://`: pages without a host. Any page can make itself one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Conn,
    Opaque(Opaque),
    Hosts {
        /// `None`: any.
        scheme: Option<Box<str>>,
        host: HostName,
        and_below: bool,
        /// The port as it is written.
        port: Option<u16>,
    },
}

/// Why a text is no such entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternError {
    /// There is neither a scheme nor `//` before the host.
    NoScheme,
    /// The scheme is none.
    Scheme,
    /// There is something behind the host and port: a path, a slash.
    Path,
    /// There is a user before the host.
    User,
    /// The host is none, or not in ASCII.
    Host,
    /// The port is no number from 1 to 65535.
    Port,
    /// A `*` stands elsewhere than alone in front of the first dot.
    Star,
    /// A `*` stands before an address, or before nothing.
    StarAlone,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "an origin begins with its scheme, as in https://example.com, or with // for any",
            Self::Scheme => "the scheme is none; most are http or https",
            Self::Path => "an origin ends with its host or port: no path, and no slash",
            Self::User => "an origin names no user",
            Self::Host => {
                "the host is none; a name with other letters is written as browsers send it (xn--...), an IPv6 \
                 address in brackets"
            }
            Self::Port => "the port is no number from 1 to 65535",
            Self::Star => "a * stands for whole labels in front, as in //*.example.com",
            Self::StarAlone => "a * needs a name behind it, as in //*.example.com; check_origin = false lets all in",
        })
    }
}

impl std::error::Error for PatternError {}

impl OriginPattern {
    /// Reads an entry.
    ///
    /// # Errors
    /// It is none; the error says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "conn" {
            return Ok(Self(Pattern::Conn));
        }
        if let Some(opaque) = Opaque::read(text) {
            return Ok(Self(Pattern::Opaque(opaque)));
        }
        let (scheme, authority) = match (text.strip_prefix("//"), text.split_once("://")) {
            (Some(authority), _) => (None, authority),
            (None, Some((scheme, authority))) => {
                (Some(read_scheme(scheme).ok_or(PatternError::Scheme)?), authority)
            }
            (None, None) => return Err(PatternError::NoScheme),
        };
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(PatternError::Path);
        }
        if authority.contains('@') {
            return Err(PatternError::User);
        }
        let (and_below, authority) = match authority.strip_prefix("*.") {
            Some(authority) => (true, authority),
            None if authority == "*" => return Err(PatternError::StarAlone),
            None => (false, authority),
        };
        if authority.contains('*') {
            return Err(PatternError::Star);
        }
        let (host, port) = match read_authority(authority) {
            Some(read) => read,
            None if authority.rsplit_once(':').is_some_and(|(host, _)| HostName::read(host).is_some()) => {
                return Err(PatternError::Port);
            }
            None => return Err(PatternError::Host),
        };
        if and_below && host.is_address() {
            return Err(PatternError::StarAlone);
        }
        Ok(Self(Pattern::Hosts { scheme, host, and_below, port }))
    }

    fn matches(&self, origin: &Origin, request: &RequestOrigin<'_>) -> bool {
        match &self.0 {
            Pattern::Conn => origin.is_of(request),
            Pattern::Opaque(_) => false,
            Pattern::Hosts { scheme, host, and_below, port } => {
                let host_fits = if *and_below { origin.host.is_below(host) } else { origin.host == *host };
                let port_fits = match (scheme, port) {
                    (None, None) => true,
                    (Some(scheme), None) => origin.port == default_port(scheme),
                    (_, port) => origin.port == *port,
                };
                host_fits && port_fits && scheme.as_ref().is_none_or(|scheme| *scheme == origin.scheme)
            }
        }
    }
}

impl FromStr for OriginPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Conn => f.write_str("conn"),
            Pattern::Opaque(Opaque::Null) => f.write_str("null"),
            Pattern::Opaque(Opaque::File) => f.write_str("file://"),
            Pattern::Hosts { scheme, host, and_below, port } => {
                if let Some(scheme) = scheme {
                    write!(f, "{scheme}:")?;
                }
                write!(f, "//{}{host}", if *and_below { "*." } else { "" })?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
