//! The HTTP API, as the commands on top of it use it.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Error};

use super::Failure;
use super::args::ConfigFile;
use super::users::shown;
use crate::auth::connect::Secret;
use crate::config::{API_KEY_VARIABLE, API_VARIABLE, ApiListen, Flags};

/// Time until a connection is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until the answer is there whole. A publish may wait for a disk.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer: a page of a thousand connections with twenty long topics each is a tenth of it.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A file that holds more is no key.
const KEY_BYTES_MAX: usize = 1024;

pub(super) const HELP: &str = "\
The API is where --api or HAILER_API says, or else where the server of --config listens for it, or else at \
http://127.0.0.1:4001.

The API key is that of HAILER_API_KEY, or of --key-file FILE; `hailer api-key` makes one. It is never an argument, since \
other users of the machine see those.";

/// Where the API is, and who asks.
#[derive(Debug, Args)]
pub(super) struct ApiOptions {
    /// Where the API is [default: as the configuration says]
    #[arg(long = "api", value_name = "URL", env = API_VARIABLE, hide_env_values = true)]
    url: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
    /// A file with the API key, rather than the variable HAILER_API_KEY
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// A connection to the API, and the key that is shown to it.
pub(super) struct Client {
    agent: Agent,
    /// The URL before the paths of the API, without a slash at its end.
    base: String,
    key: Option<Secret>,
}

/// What an error of the API is answered with.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalDetail,
}

#[derive(Deserialize)]
struct RefusalDetail {
    code: String,
    message: String,
    field: Option<String>,
}

impl Client {
    pub(super) fn new(options: &ApiOptions) -> Result<Self, Failure> {
        Self::with_timeout(options, TIMEOUT)
    }

    /// One that waits for so long for each answer.
    pub(super) fn with_timeout(options: &ApiOptions, timeout: Duration) -> Result<Self, Failure> {
        let base = match &options.url {
            Some(url) => base(url).map_err(|message| Failure { message, usage: true })?,
            None => configured_base(options.file.config.as_deref())?,
        };
        let key = match &options.key_file {
            Some(path) => Some(read_key(path)?),
            None => key_of_environment()?,
        };
        if key.is_some() && !is_here(&base) {
            // There is nowhere left to say that stderr is closed.
            let _ = writeln!(
                std::io::stderr(),
                "warning: the key goes to {base} without TLS, and can be read on the way: a tunnel (ssh -L) hides it"
            );
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Neither another place nor a proxy of the environment is to get the key.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(timeout))
            .user_agent(concat!("hailer/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), base, key })
    }

    /// The URL before the paths of the API.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Asks for something; pairs without a value are left out of the query.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> Result<T, String> {
        self.decode(&self.get_bytes(path, query)?)
    }

    /// Asks for a text.
    pub(super) fn get_text(&self, path: &str) -> Result<String, String> {
        String::from_utf8(self.get_bytes(path, &[])?).map_err(|_| self.no_api("it is not text (UTF-8)"))
    }

    fn get_bytes(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<Vec<u8>, String> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in query {
            if let Some(value) = value {
                request = request.query(*name, *value);
            }
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.expose()));
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
        self.body(response).map_err(|failed| failed.to_string(self))
    }

    /// Asks that something be done.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, String> {
        let body = serde_json::to_vec(body).map_err(|error| format!("can't write the request: {error}"))?;
        let mut request = self.agent.post(format!("{}{path}", self.base));
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.expose()));
        }
        let undone = |error: &Error| match error {
            Error::ConnectionFailed | Error::HostNotFound => "",
            Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "",
            _ => ". It is not known whether it was done",
        };
        let response = request.send(&body[..]);
        let response = response.map_err(|error| self.unreachable(&error) + undone(&error))?;
        let bytes = self.body(response).map_err(|failed| match &failed {
            Unanswered::Broken(error) => failed.to_string(self) + undone(error),
            Unanswered::Refused(_) => failed.to_string(self),
        })?;
        self.decode(&bytes)
    }

    /// The body of a good answer, and a sentence for any other.
    fn body(&self, response: Response<Body>) -> Result<Vec<u8>, Unanswered> {
        let status = response.status();
        let body = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(Unanswered::Broken)?;
        if status.is_success() {
            return Ok(body);
        }
        let refusal = serde_json::from_slice::<Refusal>(&body).ok().map(|refusal| refusal.error);
        Err(Unanswered::Refused(match (refusal, status.as_u16()) {
            (Some(_), 401) => self.unauthorized(),
            (Some(RefusalDetail { code, message, field }), _) => {
                // A sentence that names its field needs no more.
                let field = field.filter(|field| !message.contains(field.as_str()));
                let field = field.map(|field| format!("{}: ", shown(&field))).unwrap_or_default();
                format!("{field}{} ({})", shown(message.trim_end_matches('.')), shown(&code))
            }
            (None, status) => self.no_api(&format!("the answer has the status {status}")),
        }))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, String> {
        // The error names places and types; a value of the answer may be anything.
        serde_json::from_slice(bytes).map_err(|error| self.no_api(&shown(&error.to_string())))
    }

    fn unauthorized(&self) -> String {
        if self.key.is_some() {
            format!(
                "the API at {} does not know the key: compare {API_KEY_VARIABLE}, or --key-file, with [[api.keys]] of the \
                 server's configuration (`hailer api-key --hash` prints the hash of a key)",
                self.base
            )
        } else {
            format!(
                "the API at {} asks for a key: set {API_KEY_VARIABLE} or give --key-file FILE (`hailer api-key` makes one)",
                self.base
            )
        }
    }

    fn unreachable(&self, error: &Error) -> String {
        let why = match error {
            Error::Timeout(_) => "it does not answer in time".to_owned(),
            Error::HostNotFound => "there is no host of this name".to_owned(),
            Error::ConnectionFailed => "nobody answers there".to_owned(),
            Error::Io(error) => error.to_string(),
            // Other texts may quote the request.
            _ => "it does not speak HTTP as expected".to_owned(),
        };
        format!(
            "can't reach the API at {}: {why}. Is the server running, and is this its [api] listen address? Another one \
             is that of --config FILE, or is given with --api URL or {API_VARIABLE}",
            self.base
        )
    }

    pub(super) fn no_api(&self, why: &str) -> String {
        format!(
            "what answers at {} is not the API of this version of Hailer: {why}. Is this the server's [api] listen address, \
             rather than that of its clients?",
            self.base
        )
    }
}

/// A line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|error| format!("can't write the answer: {error}"))
}

/// Why there is no good answer.
enum Unanswered {
    /// The answer says so.
    Refused(String),
    /// It did not come whole.
    Broken(Error),
}

impl Unanswered {
    fn to_string(&self, client: &Client) -> String {
        match self {
            Self::Refused(sentence) => sentence.clone(),
            Self::Broken(Error::BodyExceedsLimit(_)) => client.no_api("the answer has no end"),
            Self::Broken(error) => client.unreachable(error),
        }
    }
}

/// What stands before the paths of the API. The URL is not repeated in the sentence: it may hold a password.
fn base(url: &str) -> Result<String, String> {
    const EXPECTED: &str = "expected a URL such as http://127.0.0.1:4001";
    let of = |message: &str| format!("--api ({API_VARIABLE}): {message}");
    let uri: Uri = url.parse().map_err(|_| of(EXPECTED))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(of(
                "TLS is not spoken here: give the address that the API listens on, on the server's own machine or \
                 through a tunnel (ssh -L 4001:127.0.0.1:4001 HOST)",
            ));
        }
        _ => return Err(of(EXPECTED)),
    }
    let authority = uri.authority().ok_or_else(|| of(EXPECTED))?;
    if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
        return Err(of(
            "the URL has neither a user nor a query; the key is in a variable or a file of its own",
        ));
    }
    Ok(format!("http://{authority}{}", uri.path().trim_end_matches('/')))
}

/// The URL of the API of a server with this configuration and the present environment.
fn configured_base(file: Option<&Path>) -> Result<String, Failure> {
    // Who may use the API need not be able to read the server's secrets, and nothing here depends on them.
    let unread = |_: &Path| Ok(b"not read".to_vec());
    let settings = super::load_with(file, Flags::default(), &unread)?.settings;
    base_of(settings.api.listen).map_err(Failure::from)
}

/// The URL at which a program on the same machine finds what listens there.
fn base_of(listen: ApiListen) -> Result<String, String> {
    let address = listen.address().ok_or_else(|| {
        format!(
            "the server of this configuration has no API (api.listen = \"off\"): the API of another one is given with \
             --api URL or {API_VARIABLE}"
        )
    })?;
    if address.port() == 0 {
        return Err(format!(
            "the API of this configuration has a port that the system chooses (api.listen = \"{address}\"): give its URL, \
             which the server has printed, with --api URL or {API_VARIABLE}"
        ));
    }
    Ok(format!("http://{}", super::reachable(address)))
}

/// Whether a URL of [`base`] leads to this machine.
fn is_here(base: &str) -> bool {
    let uri: Option<Uri> = base.parse().ok();
    uri.as_ref().and_then(Uri::host).is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
    })
}

fn key_of_environment() -> Result<Option<Secret>, String> {
    let Some(value) = std::env::var_os(API_KEY_VARIABLE) else { return Ok(None) };
    let value = value.into_string().map_err(|_| format!("{API_KEY_VARIABLE}: {NO_KEY}"))?;
    key(value.trim()).map(Some).ok_or_else(|| format!("{API_KEY_VARIABLE}: {NO_KEY}"))
}

fn read_key(path: &Path) -> Result<Secret, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("can't read {name}: {error}"))?;
    let text = std::str::from_utf8(&bytes).ok().and_then(|text| key(text.trim()));
    text.ok_or_else(|| format!("{name}: {NO_KEY}"))
}

const NO_KEY: &str = "this is no key: expected one line of visible ASCII characters";

/// A key that can stand in a header.
pub(super) fn key(text: &str) -> Option<Secret> {
    let is_key =
        !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_key.then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_that_before_all_paths() {
        let good = [
            ("http://127.0.0.1:4001", "http://127.0.0.1:4001"),
            ("http://localhost:4001/", "http://localhost:4001"),
            ("http://[::1]:4001", "http://[::1]:4001"),
            ("http://hailer.example.com/live/", "http://hailer.example.com/live"),
        ];
        for (url, expected) in good {
            assert_eq!(base(url).as_deref(), Ok(expected));
        }
        for wrong in ["", "127.0.0.1:4001", "localhost", "ftp://a", "http://", "/api", "http://a b"] {
            assert!(base(wrong).is_err_and(|said| said.contains("expected a URL")), "{wrong}");
        }
        let marked = ["http://ada:M4rked@a", "http://a/?key=M4rked", "http://a/#M4rked", "https://M4rked@a"];
        for wrong in marked {
            assert!(base(wrong).is_err_and(|said| !said.contains("M4rked")), "{wrong}");
        }
        assert!(base("https://a").is_err_and(|said| said.contains("tunnel")));
    }

    #[test]
    fn an_address_that_is_listened_on_becomes_one_that_can_be_connected_to() {
        let check = |listen: &str, expected: Result<&str, &str>| {
            let listen = match listen {
                "off" => ApiListen::Off,
                address => ApiListen::At(address.parse().expect("it is an address")),
            };
            match (base_of(listen), expected) {
                (Ok(base), Ok(expected)) => assert_eq!(base, expected),
                (Err(sentence), Err(words)) => assert!(sentence.contains(words), "{sentence}"),
                (result, _) => panic!("{listen:?}: {result:?}"),
            }
        };
        check("127.0.0.1:4001", Ok("http://127.0.0.1:4001"));
        check("0.0.0.0:5001", Ok("http://127.0.0.1:5001"));
        check("[::]:5001", Ok("http://[::1]:5001"));
        check("10.1.2.3:5001", Ok("http://10.1.2.3:5001"));
        check("127.0.0.1:0", Err("a port that the system chooses"));
        check("off", Err("has no API"));
    }

    #[test]
    fn a_key_that_leaves_the_machine_is_noticed() {
        for here in
            ["http://127.0.0.1:4001", "http://localhost/a", "http://[::1]:1", "http://[::ffff:127.0.0.1]"]
        {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in [
            "http://192.0.2.1:4001",
            "http://hailer:4001",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_key_is_one_line_of_visible_text() {
        assert_eq!(key("hlr_a-b_c").map(|key| key.expose().to_owned()).as_deref(), Some("hlr_a-b_c"));
        for wrong in ["", "a b", "a\nb", "é", "a\u{7f}", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert!(key(wrong).is_none(), "{wrong:?}");
        }
    }
}
