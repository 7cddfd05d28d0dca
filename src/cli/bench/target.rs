//! Where clients connect, and what they show.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::args::Bench;
use crate::cli::{self, Failure};
use crate::config::Flags;

/// Where all clients find a Phoenix socket, unless they are told otherwise.
const PHOENIX_PATH: &str = "/socket/websocket";
/// A token of all clients, which the arguments must not show.
const TOKEN_VARIABLE: &str = "HAILER_BENCH_TOKEN";

/// Where the clients of a run connect: as the command says, or else where the server of the configuration listens.
pub(super) fn url(bench: &Bench) -> Result<String, Failure> {
    if let Some(url) = &bench.given_url {
        return Ok(url.clone());
    }
    // Nothing of it depends on the server's secrets, which a load test need not be able to read.
    let unread = |_: &Path| Ok(b"not read".to_vec());
    let settings = cli::load_with(bench.config.as_deref(), Flags::default(), &unread)?.settings;
    let address = cli::reachable(settings.listen);
    if address.port() == 0 {
        return Err(Failure::from(
            "the server of this configuration has a port that the system chooses (listen): give its URL"
                .to_owned(),
        ));
    }
    let path = if bench.plain { "" } else { &*format!("{}/websocket", settings.socket_path) };
    Ok(format!("ws://{address}{path}"))
}

/// A server's address, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    /// The path, and what follows.
    pub(super) path: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let usage = |message: String| Failure { message, usage: true };
        let rest = ["ws://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| {
            usage(format!("{url}: give an address that begins with ws://, such as ws://127.0.0.1:4000"))
        })?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let named = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let address = named.to_socket_addrs().ok().and_then(|mut found| {
            let all: Vec<SocketAddr> = found.by_ref().collect();
            all.iter().find(|one| one.is_ipv4()).or(all.first()).copied()
        });
        let address = address.ok_or_else(|| usage(format!("{host}: there is no such address")))?;
        let path = match path {
            "" => "/".to_owned(),
            path if path.starts_with('?') => format!("/{path}"),
            path => path.to_owned(),
        };
        Ok(Self { address, host: host.to_owned(), path })
    }

    /// That of Phoenix' clients.
    pub(super) fn parse_phoenix(url: &str) -> Result<Self, Failure> {
        let mut target = Self::parse(url)?;
        if target.path == "/" {
            PHOENIX_PATH.clone_into(&mut target.path);
        }
        if !target.path.contains("vsn=") {
            target.path.push(if target.path.contains('?') { '&' } else { '?' });
            target.path.push_str("vsn=2.0.0");
        }
        Ok(target)
    }

    /// How it is shown: without a query, which may hold a token.
    pub(super) fn shown(&self) -> String {
        format!("ws://{}{}", self.host, self.path.split('?').next().unwrap_or_default())
    }
}

/// The tokens of the clients.
#[derive(Debug, Default)]
pub(super) enum Tokens {
    #[default]
    None,
    /// The same for all.
    One(String),
    /// One each, in turn if there are more clients.
    Each(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    sub: serde_json::Value,
}

impl Tokens {
    pub(super) fn read(bench: &Bench) -> Result<Self, Failure> {
        if let Some(path) = &bench.tokens {
            let text = read(path)?;
            let tokens: Vec<String> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            if tokens.is_empty() {
                return Err(Failure::from(format!("{}: there is no token", path.display())));
            }
            return Ok(Self::Each(tokens));
        }
        if let Some(path) = &bench.token_file {
            return Ok(Self::One(read(path)?.trim().to_owned()));
        }
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        Ok(token.map_or(Self::None, Self::One))
    }

    pub(super) fn of(&self, client: u32) -> Option<&str> {
        match self {
            Self::None => None,
            Self::One(token) => Some(token),
            Self::Each(tokens) => Some(&tokens[client as usize % tokens.len()]),
        }
    }

    /// The user that a client's token names, or the client's number.
    pub(super) fn user(&self, client: u32) -> String {
        let claims = self.of(client).and_then(|token| {
            use base64::Engine as _;
            let part = token.split('.').nth(1)?;
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Claims>(&bytes).ok()
        });
        match claims.map(|claims| claims.sub) {
            Some(serde_json::Value::String(sub)) => sub,
            Some(serde_json::Value::Number(sub)) => sub.to_string(),
            _ => client.to_string(),
        }
    }

    /// The path with a client's token in it.
    pub(super) fn add_to(&self, path: &str, client: u32, out: &mut String) {
        out.push_str(path);
        if let Some(token) = self.of(client) {
            out.push(if path.contains('?') { '&' } else { '?' });
            out.push_str("token=");
            out.extend(utf8_percent_encode(token, NON_ALPHANUMERIC));
        }
    }
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path);
    Ok(text.map_err(|error| format!("can't read {}: {error}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: Result<Target, Failure>, path: &str, shown: &str) {
        let target = target.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((target.path.as_str(), target.shown().as_str()), (path, shown));
    }

    #[test]
    fn addresses_are_taken_apart() {
        let phoenix = |url| Target::parse_phoenix(url);
        let socket = "ws://127.0.0.1:4000/socket/websocket";
        check(phoenix("ws://127.0.0.1:4000"), "/socket/websocket?vsn=2.0.0", socket);
        check(phoenix("ws://127.0.0.1:4000/"), "/socket/websocket?vsn=2.0.0", socket);
        check(phoenix("http://127.0.0.1:5/live?a=b"), "/live?a=b&vsn=2.0.0", "ws://127.0.0.1:5/live");
        check(Target::parse("ws://127.0.0.1:9001"), "/", "ws://127.0.0.1:9001/");
        check(Target::parse("ws://[::1]:9001/sub?secret=1"), "/sub?secret=1", "ws://[::1]:9001/sub");
        for wrong in ["127.0.0.1:4000", "wss://127.0.0.1:4000", "ws://127.0.0.1:port"] {
            assert!(Target::parse(wrong).is_err_and(|failure| failure.usage), "{wrong}");
        }
    }

    #[test]
    fn each_client_has_its_token_and_its_user() {
        // {"sub":"alice"} and {"sub":7}
        let tokens =
            Tokens::Each(vec!["h.eyJzdWIiOiJhbGljZSJ9.s".into(), "h.eyJzdWIiOjd9.s".into(), "x".into()]);
        let users: Vec<String> = (0..4).map(|client| tokens.user(client)).collect();
        assert_eq!(users, ["alice", "7", "2", "alice"]);
        let mut path = String::new();
        Tokens::One("a+b".into()).add_to("/socket?vsn=2.0.0", 5, &mut path);
        assert_eq!(path, "/socket?vsn=2.0.0&token=a%2Bb");
    }
}
