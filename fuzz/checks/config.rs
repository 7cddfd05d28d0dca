use std::io;
use std::path::Path;

use hailer::auth::connect::Secret;
use hailer::config::{Inputs, Settings, load};

/// What every file holds that a setting names.
const MARK: &str = "marked-secret-0123456789";

/// A file, and behind a NUL an environment: a variable on each line.
pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once('\0').unwrap_or((text, ""));
    let environment: Vec<_> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("HAILER_{name}"), value.to_owned()))
        .collect();
    let read = |path: &Path| match path.as_os_str().len() {
        length if length > 64 => Err(io::Error::from(io::ErrorKind::NotFound)),
        _ => Ok(format!("{MARK}\n").into_bytes()),
    };
    let path = Path::new("hailer.toml");
    let inputs = Inputs { file: Some((path, file)), environment: &environment, ..Inputs::new(&read) };
    match load(&inputs) {
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert_hidden(text, &error.to_string());
        }
        Ok(loaded) => {
            let report = loaded.report();
            assert_hidden(text, &format!("{report}{:?}{loaded:?}", loaded.warnings()));
            // What is in force is in force again if it is read again.
            let again = load(&Inputs { file: Some((path, &report)), ..Inputs::new(&read) });
            let again = again.unwrap_or_else(|error| panic!("{error}\n{report}"));
            assert_eq!(without_secrets(loaded.settings), without_secrets(again.settings), "{report}");
        }
    }
}

fn assert_hidden(given: &str, said: &str) {
    assert!(given.contains(MARK) || !said.contains(MARK), "{said}");
}

/// The settings as far as a report can have them.
fn without_secrets(mut settings: Settings) -> Settings {
    settings.auth.secret = None;
    settings.accounts.url = None;
    for key in &mut settings.auth.keys {
        key.text = Secret::default();
        key.secret = key.secret.take().map(|_| Secret::default());
    }
    settings
}
