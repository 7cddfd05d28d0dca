//! `hailer api-key`

use std::io::{Read, Write};
use std::path::Path;

use clap::{Args, ValueEnum};

use super::args::ConfigFile;
use super::{Failure, client};
use crate::api::Key;
use crate::auth::connect::Secret;
use crate::channel::TopicPattern;
use crate::config::{API_KEY_VARIABLE, ApiKey, Flags, KeyHash, KeyScope};

/// A key of somebody's own is hashed once, so it has to be as hard to guess as one of ours. This is the length of one
/// without its prefix.
const OWN_KEY_CHARACTERS_MIN: usize = 43;
const STDIN_BYTES_MAX: u64 = 4096;

const EXAMPLES: &str = "\
The key is written to stdout, and the lines for the server's configuration to stderr. With --config it is said what \
keeps the server from taking them; the file is not changed.

Examples:
  hailer api-key orders --scope publish --topic 'room:*' --topic 'user:{sub}'
  hailer api-key monitoring --scope read
  hailer api-key --hash < key.txt          the hash of a key that is there";

/// A key for a program.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ApiKeyCommand {
    /// What the key is called, in the record of what was done with it
    #[arg(required_unless_present = "hash")]
    name: Option<String>,
    /// What may be done with it; repeatable [default: publish]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// A topic that it is for: a name, a prefix with * at its end, or a name with {sub} for a user's id;
    /// repeatable [default: all]
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// Reads a key from stdin and prints its hash
    #[arg(long, conflicts_with_all = ["name", "scopes", "topics"])]
    hash: bool,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Publish, retract and cancel messages
    Publish,
    /// Close sockets
    Disconnect,
    /// See who is connected and what was sent
    Read,
}

pub(super) fn run(command: ApiKeyCommand) -> Result<(), Failure> {
    let Some(name) = command.name.filter(|_| !command.hash) else {
        return Ok(super::print(&format!("{}\n", hash(&read_key()?)))?);
    };
    let key = ApiKey::key(super::fresh_bytes()?);
    let mut scopes: Vec<KeyScope> = Vec::new();
    for scope in command.scopes {
        let scope = match scope {
            Scope::Publish => KeyScope::Publish,
            Scope::Disconnect => KeyScope::Disconnect,
            Scope::Read => KeyScope::Read,
        };
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        scopes.push(KeyScope::Publish);
    }
    let lines = ApiKey::lines(&name, hash(&key), scopes, command.topics)
        .map_err(|error| Failure { message: format!("NAME: {error}"), usage: true })?;
    // The key alone, so that it can be written to a file.
    super::print(&format!("{}\n", key.expose()))?;
    // There is nowhere left to say that stderr is closed.
    let _ = write!(
        std::io::stderr(),
        "\n# The line above is the key: it is shown this once, and kept nowhere. Programs send it as \"Authorization:\n\
         # Bearer\", and commands take it from {API_KEY_VARIABLE} or --key-file. These lines, for the server's\n\
         # configuration, hold its hash alone:\n\n{lines}"
    );
    if let Some(file) = &command.file.config {
        warn_if_refused(file, &name);
    }
    Ok(())
}

/// Says on stderr why the server of the configuration would not take a key of this name, as far as that is known.
fn warn_if_refused(file: &Path, name: &str) {
    let unread = |_: &Path| Ok(b"not read".to_vec());
    let Ok(loaded) = super::load_with(Some(file), Flags::default(), &unread) else { return };
    let (api, file) = (&loaded.settings.api, file.display());
    if api.listen.address().is_none() {
        super::warn(&format!(
            "this has no effect on the server of {file}: it has no API (api.listen = \"off\")"
        ));
    }
    if api.keys.iter().any(|key| key.name == name) {
        super::warn(&format!(
            "{file} has a key of the name {name} already: with both the server does not start"
        ));
    }
}

/// The hash that the configuration has of a key.
fn hash(key: &Secret) -> KeyHash {
    KeyHash(Key::hash_of(key))
}

fn read_key() -> Result<Secret, String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| format!("can't read stdin: {error}"))?;
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    let key = text.and_then(client::key).ok_or("expected one key on stdin, of visible ASCII characters")?;
    if key.expose().len() < OWN_KEY_CHARACTERS_MIN {
        return Err(format!(
            "a key of less than {OWN_KEY_CHARACTERS_MIN} characters could be guessed from its hash: `hailer api-key NAME` \
             makes one"
        ));
    }
    Ok(key)
}
