//! `hailer init`

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::template;

/// What HS512 asks for: as many bytes as its hash has (RFC 7518, 3.2).
const SECRET_BYTES: usize = 64;

/// Writes the configuration and a fresh secret; neither may be there already.
pub(super) fn run(path: &Path) -> Result<(), String> {
    let secret_path = path.with_extension("secret");
    let secret_name = secret_path.file_name().and_then(|name| name.to_str()).filter(|_| secret_path != path);
    let secret_name =
        secret_name.ok_or_else(|| format!("{} is no name for a configuration", path.display()))?;
    if path.try_exists().unwrap_or(true) {
        return Err(already_there(path));
    }
    let bytes = super::fresh_bytes::<SECRET_BYTES>()?;
    let secret = format!("{}\n", URL_SAFE_NO_PAD.encode(bytes));
    write_new(&secret_path, &secret)?;
    write_new(path, &template(secret_name)).inspect_err(|_| {
        // A secret that nothing names would stand in the way of the next try; without success it does.
        let _ = std::fs::remove_file(&secret_path);
    })?;
    let (name, secret_name) = (path.display(), secret_path.display());
    super::print(&format!(
        "Wrote {name}, and a fresh secret to {secret_name}.\n\
         Start the server, and make a token for a first client:\n\n  \
         hailer serve --config {name}\n  \
         hailer token --config {name} --sub alice --ttl 1h\n"
    ))
}

/// Writes a file that is not there yet and that nobody else may read.
fn write_new(path: &Path, text: &str) -> Result<(), String> {
    let open = |path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let write = |mut file: File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    open(path).and_then(write).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => already_there(path),
        _ => format!("can't write {}: {error}", path.display()),
    })
}

fn already_there(path: &Path) -> String {
    format!("{} is there already, and is left alone: give another name, or move it away", path.display())
}
