//! `hailer check-config`

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use super::args::Serve;
use super::{Failure, count_of, serve};
use crate::config::{Loaded, exposed};
use crate::standalone::try_settings;

pub(super) const HELP: &str = "\
It takes the options of `hailer serve`, and does what that does up to listening; nothing is left behind: no store is \
made or changed. The configuration goes to stdout, warnings and notes to stderr. The last line says \"ok\", or \"not \
ok\" where the server would not start.

Exit code: 0 if it would start, 1 if not, 2 if an option is wrong.";

/// Prints what is in force to stdout; what is unwise, and whether the server would start with it, to stderr.
pub(super) fn run(mut serve: Serve) -> ExitCode {
    let file = serve.file.config.take();
    let loaded = match super::load(file.as_deref(), serve.flags()) {
        Ok(loaded) => loaded,
        Err(failure) => {
            let code = failure.tell();
            say(&not_ok(failure.message.lines().count()));
            return code;
        }
    };
    check(file.as_deref(), &loaded).unwrap_or_else(|failure| failure.tell())
}

fn check(file: Option<&Path>, loaded: &Loaded) -> Result<ExitCode, Failure> {
    let settings = &loaded.settings;
    let trial = try_settings(settings);
    super::print(&loaded.report())?;
    let warnings = warnings(file, loaded);
    warnings.iter().for_each(|warning| super::warn(warning));
    for note in &trial.notes {
        say(&format!("note: {note}"));
    }
    if trial.problems.is_empty() {
        say(&format!("ok: the server would start with this, {}", count_of(warnings.len(), "warning")));
        return Ok(ExitCode::SUCCESS);
    }
    for error in &trial.problems {
        say(&format!("hailer: {}", serve::sentence(settings, error)));
    }
    say(&not_ok(trial.problems.len()));
    Ok(ExitCode::FAILURE)
}

fn not_ok(problems: usize) -> String {
    format!("not ok: the server would not start with this, {}", count_of(problems, "problem"))
}

fn say(line: &str) {
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Everything that is unwise.
fn warnings(file: Option<&Path>, loaded: &Loaded) -> Vec<String> {
    let mut warnings: Vec<String> = loaded.warnings().iter().map(ToString::to_string).collect();
    for path in loaded.secret_files(file) {
        // A database that is not there yet is made by the server.
        if let Ok(metadata) = std::fs::metadata(&path) {
            warnings.extend(exposed(&path, metadata.permissions().mode()));
        }
    }
    if loaded.settings.is_demo() {
        warnings.push(
            "no [auth] is configured: this is the open demo, everyone who can reach it may write".to_owned(),
        );
    }
    warnings
}
