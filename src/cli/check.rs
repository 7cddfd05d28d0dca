//! `hailer check-config`

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Failure;
use crate::config::{Flags, exposed};
use crate::standalone::verifier;

/// Prints what is in force to stdout, and what is unwise to stderr.
pub(super) fn run(file: Option<&Path>) -> Result<(), Failure> {
    let loaded = super::load(file, Flags::default())?;
    let settings = &loaded.settings;
    // A key that the server would not start with.
    verifier(&settings.auth, &settings.limits).map_err(|error| error.to_string())?;
    super::print(&loaded.report())?;
    let mut warnings: Vec<String> = loaded.warnings().iter().map(ToString::to_string).collect();
    for path in loaded.secret_files(file) {
        // A database that is not there yet is made by the server.
        if let Ok(metadata) = std::fs::metadata(&path) {
            warnings.extend(exposed(&path, metadata.permissions().mode()));
        }
    }
    if settings.is_demo() {
        warnings.push(
            "no [auth] is configured: this is the open demo, everyone who can reach it may write".to_owned(),
        );
    }
    for warning in warnings {
        // There is nowhere left to say that stderr is closed.
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    Ok(())
}
