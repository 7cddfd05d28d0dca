//! Which subprotocol a WebSocket speaks (RFC 6455, section 1.9): the server's choice, as Phoenix makes it
//! (`check_subprotocols` of `Phoenix.Socket.Transport`).

use std::fmt;
use std::sync::Arc;

use super::Headers;
use super::syntax::is_token;
use super::upgrade::BEARER_PREFIX;

/// What phoenix.js offers beside its `authToken`, and needs answered: browsers close a WebSocket whose offer is not.
const PHOENIX: &str = "phoenix";

/// The subprotocols that a server speaks, the one it likes best first.
///
/// By default that is `phoenix` alone, and who offers others gets a WebSocket without one. Where some are listed, who
/// offers nothing of the list is refused; who offers nothing at all is not.
#[derive(Clone, PartialEq, Eq)]
pub struct Subprotocols {
    names: Arc<[Arc<str>]>,
    required: bool,
}

/// Why something can't be a subprotocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubprotocolError {
    /// It is no token.
    NotAToken,
    /// It begins as the bearer tokens of phoenix.js do, which are never answered.
    Bearer,
    /// It is listed twice.
    Repeated,
}

/// A client offers subprotocols, and the server speaks none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoneInCommon;

impl Default for Subprotocols {
    fn default() -> Self {
        Self { names: Arc::new([PHOENIX.into()]), required: false }
    }
}

impl Subprotocols {
    /// The list of a configuration. If it is empty, this is the default. `phoenix` need not be listed, and comes first
    /// then, as in Phoenix where `auth_token` is on: phoenix.js counts on it.
    ///
    /// # Errors
    /// An entry can't be a subprotocol, or is there twice.
    pub fn new<T: AsRef<str>>(listed: &[T]) -> Result<Self, SubprotocolError> {
        let names: Vec<&str> = listed.iter().map(AsRef::as_ref).collect();
        for (at, name) in names.iter().enumerate() {
            if !is_token(name.as_bytes()) {
                return Err(SubprotocolError::NotAToken);
            }
            if name.starts_with(BEARER_PREFIX) {
                return Err(SubprotocolError::Bearer);
            }
            if names[..at].contains(name) {
                return Err(SubprotocolError::Repeated);
            }
        }
        if names.is_empty() {
            return Ok(Self::default());
        }
        let first = (!names.contains(&PHOENIX)).then_some(PHOENIX);
        Ok(Self { names: first.into_iter().chain(names).map(Arc::from).collect(), required: true })
    }

    /// The subprotocol to answer, if any: the first of the server's that the client offers. Names are compared byte for
    /// byte, and a bearer token is no offer.
    ///
    /// # Errors
    /// The client is to be refused.
    pub fn choose(&self, headers: &Headers<'_>) -> Result<Option<&Arc<str>>, NoneInCommon> {
        let is_name = |entry: &&[u8]| !entry.starts_with(BEARER_PREFIX.as_bytes());
        let mut offers = headers.elements("sec-websocket-protocol").filter(is_name).peekable();
        if offers.peek().is_none() {
            return Ok(None);
        }
        let offers: Vec<&[u8]> = offers.collect();
        let chosen = self.names.iter().find(|name| offers.contains(&name.as_bytes()));
        if chosen.is_none() && self.required { Err(NoneInCommon) } else { Ok(chosen) }
    }
}

/// The names with commas between them.
impl fmt::Display for Subprotocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.iter().enumerate().try_for_each(|(at, name)| {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")
        })
    }
}

impl fmt::Debug for Subprotocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.names).finish()
    }
}

impl fmt::Display for SubprotocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAToken => "expected names such as \"v12.stomp\": letters, digits and !#$%&'*+-.^_`|~",
            Self::Bearer => {
                "names must not begin with \"base64url.bearer.phx.\", as the tokens of phoenix.js do"
            }
            Self::Repeated => "expected each name once",
        })
    }
}

impl std::error::Error for SubprotocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server with this list answers to what is offered, one field each.
    #[track_caller]
    fn check(listed: &[&str], fields: &[&str], expected: Result<Option<&str>, NoneInCommon>) {
        let subprotocols = Subprotocols::new(listed).unwrap();
        let mut headers = Headers::new();
        for field in fields {
            headers.push("Sec-WebSocket-Protocol", field.as_bytes());
        }
        let chosen = subprotocols.choose(&headers).map(|chosen| chosen.map(|name| &**name));
        assert_eq!(chosen, expected, "{listed:?} {fields:?}");
    }

    const BEARER: &str = "base64url.bearer.phx.YWJj";

    #[test]
    fn without_a_list_phoenix_is_answered_and_all_else_passes() {
        for (fields, expected) in [
            (&[][..], None),
            (&["phoenix"], Some("phoenix")),
            (&["chat, phoenix"], Some("phoenix")),
            (&["chat"], None),
            (&["Phoenix"], None),
            (&[""], None),
            (&[BEARER], None),
            (&["phoenix", BEARER], Some("phoenix")),
        ] {
            check(&[], fields, Ok(expected));
        }
    }

    #[test]
    fn the_server_s_order_decides() {
        let listed = &["v2.chat", "v1.chat"];
        check(listed, &["v1.chat, v2.chat"], Ok(Some("v2.chat")));
        check(listed, &["v1.chat", "v2.chat"], Ok(Some("v2.chat")));
        check(listed, &["mqtt, v1.chat"], Ok(Some("v1.chat")));
        check(&["v1.chat", "v2.chat"], &["v2.chat,v1.chat"], Ok(Some("v1.chat")));
        // As in Phoenix with `auth_token`.
        check(listed, &["v2.chat, phoenix"], Ok(Some("phoenix")));
        check(&["v2.chat", "phoenix"], &["phoenix, v2.chat"], Ok(Some("v2.chat")));
    }

    #[test]
    fn none_in_common_is_refused_and_nothing_offered_is_not() {
        let listed = &["v2.chat"];
        for fields in [&["mqtt"][..], &["mqtt, V2.chat", "v2"], &["v2.chat2"], &["a b"], &["mqtt", BEARER]] {
            check(listed, fields, Err(NoneInCommon));
        }
        for fields in [&[][..], &[""], &[" , "], &[BEARER]] {
            check(listed, fields, Ok(None));
        }
    }

    #[test]
    fn the_token_of_phoenix_js_goes_on_working() {
        let both = format!("phoenix, {BEARER}");
        check(&["v2.chat"], &[&both], Ok(Some("phoenix")));
        check(&["v2.chat"], &[&format!("{BEARER},v2.chat")], Ok(Some("v2.chat")));
    }

    #[test]
    fn what_can_be_no_subprotocol_is_not_listed() {
        for (listed, error) in [
            (&["a b"][..], SubprotocolError::NotAToken),
            (&[""], SubprotocolError::NotAToken),
            (&["é"], SubprotocolError::NotAToken),
            (&["a", "b/c"], SubprotocolError::NotAToken),
            (&[BEARER], SubprotocolError::Bearer),
            (&["a", "b", "a"], SubprotocolError::Repeated),
        ] {
            assert_eq!(Subprotocols::new(listed), Err(error), "{listed:?}");
        }
        assert_eq!(Subprotocols::new(&["a", "b"]).unwrap().to_string(), "phoenix, a, b");
    }
}
