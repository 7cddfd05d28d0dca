//! `hailer serve`

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::Failure;
use super::args::Serve;
use super::descriptors::{self, Raised};
use super::log::Log;
use crate::config::{Auth, Flags, Loaded, RemovedKeys, Settings};
use crate::server::keys::Keys;
use crate::server::{ServerHandle, StopSignals};
use crate::standalone::{Running, RunningOffice, Standalone, StartError, verifier};

pub(super) fn run(mut serve: Serve) -> Result<(), Failure> {
    let file = serve.file.config.take();
    let flags = serve.flags();
    let loaded = super::load(file.as_deref(), flags.clone())?;
    let log = Log::to_stderr(loaded.settings.log_level, loaded.settings.limits.log_bytes_waiting_max);
    // From here on nothing but the log writes to stderr, not even why the server fails: signals are caught, and a write
    // that blocks would never end.
    run_logging(&loaded, file, flags, &log).map_err(|failure| log.fail(&failure))
}

fn run_logging(loaded: &Loaded, file: Option<PathBuf>, flags: Flags, log: &Log) -> Result<(), Failure> {
    let settings = &loaded.settings;
    raise_descriptors();
    let mut standalone = Standalone::new(settings).map_err(|error| error.to_string())?;
    standalone.count_dropped_log_lines(Arc::new(log.dropped_lines()));
    // The demo has nothing to read again, and ends with its terminal.
    let keys = standalone.keys();
    let catch = if keys.is_some() { StopSignals::catch_with_reload } else { StopSignals::catch };
    let signals = catch().map_err(|error| format!("can't catch signals: {error}"))?;
    let Running { server, office } = standalone.start().map_err(|error| sentence(settings, &error))?;
    for notice in loaded.notices() {
        warn!("{notice}");
    }
    // Passwords and keys go that way, and not everybody checks a configuration before it is served.
    for notice in loaded.warnings().iter().filter(|notice| notice.key == "api.listen") {
        warn!("{notice}");
    }
    if settings.is_demo() {
        warn!("no [auth] is configured: this is the open demo, everyone who can reach it may write");
    }
    let mut told = format!("Listening on http://{} (Ctrl-C stops)\n", server.handle().local_addr());
    if let Some(office) = &office {
        told.push_str(&introduction(office, settings.admin.enabled));
    }
    print_aside(told);
    // What the end of the process drops here must not be the last to hold a thread that may hang.
    drop(office);
    let (handle, settings) = (server.handle().clone(), settings.clone());
    let reload = move || {
        let Some(keys) = &keys else { return };
        let reloaded = super::load(file.as_deref(), flags.clone()).map_err(|failure| failure.message);
        match reloaded.and_then(|loaded| replace_keys(keys, &settings, &loaded.settings, &handle)) {
            Ok(()) => {}
            Err(message) => error!("the configuration is not read again: {message}"),
        }
    };
    signals.run_with(server, reload).map_err(|error| {
        Failure::from(match error.kind() {
            ErrorKind::TimedOut => error.to_string(),
            _ => format!("the server has failed: {error}"),
        })
    })
}

/// Raises the number of descriptors that the process may have, of which each connection takes one. Most systems start
/// programs with 1,024, for the sake of those that use `select`.
fn raise_descriptors() {
    match descriptors::raise_limit() {
        Ok(Some(Raised { from, to })) => info!("the limit of open files was {from} and is raised to {to}"),
        Ok(None) => {}
        Err(error) => warn!(%error, "the limit of open files stays as it is (ulimit -n)"),
    }
}

/// Prints on a thread of its own: neither the start nor the end may wait for the reader of stdout.
fn print_aside(text: String) {
    let print = move || {
        if let Err(error) = super::print(&text) {
            warn!("{error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("hailer-stdout".to_owned()).spawn(print) {
        warn!(%error, "can't start the thread that prints where the server listens");
    }
}

/// Where the API and the back office are. What is secret is the demo's, good for this run or for one sign-in, and for
/// the terminal that it was started on.
fn introduction(office: &RunningOffice, has_admin: bool) -> String {
    let RunningOffice { address, welcome, demo_key, .. } = office;
    let mut text = format!("API on http://{address}\n");
    match welcome {
        Some(path) => text.push_str(&format!("Back office at http://{address}{path} (good once)\n")),
        None if has_admin => text.push_str(&format!("Back office at http://{address}/admin\n")),
        None => {}
    }
    if let Some(key) = demo_key {
        text.push_str(&format!("API key of this run: {}\n", key.expose()));
    }
    text
}

/// Puts the keys into force, and what is compared in tokens, of a configuration that was read again.
fn replace_keys(keys: &Keys, old: &Settings, new: &Settings, server: &ServerHandle) -> Result<(), String> {
    let verifier = verifier(&new.auth, &new.limits).map_err(|error| error.to_string())?;
    let verifier = verifier.ok_or("no key is left, and without one everybody could connect")?;
    keys.replace(verifier, new.auth.removed_keys == RemovedKeys::Close, server);
    let mut same = old.clone();
    let Auth { secret, secret_file, secret_encoding, algorithm, jwks_file, jwks, keys, .. } =
        new.auth.clone();
    let Auth { issuer, audience, typ, removed_keys, .. } = new.auth.clone();
    let Auth { require_typ, allowed_drift, require_exp, .. } = new.auth;
    let auth = &mut same.auth;
    (auth.secret, auth.secret_file, auth.secret_encoding) = (secret, secret_file, secret_encoding);
    (auth.algorithm, auth.jwks_file, auth.jwks, auth.keys) = (algorithm, jwks_file, jwks, keys);
    (auth.issuer, auth.audience, auth.typ, auth.removed_keys) = (issuer, audience, typ, removed_keys);
    (auth.require_typ, auth.allowed_drift, auth.require_exp) = (require_typ, allowed_drift, require_exp);
    if same != *new {
        warn!("other settings than those of keys and tokens have changed: they need a restart");
    }
    Ok(())
}

/// Why a server with these settings does not start, in a sentence.
pub(super) fn sentence(settings: &Settings, error: &StartError) -> String {
    match error {
        StartError::Clients(error) => cannot_start(settings.listen, "listen", error),
        StartError::Api(address, error) => cannot_start(*address, "api-listen", error),
        other => other.to_string(),
    }
}

/// Says what stands in the way, and what to do.
fn cannot_start(address: SocketAddr, flag: &str, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "can't listen on {address}: another program does already. Stop it, or choose another port, for \
             example with --{flag} {}:{}",
            address.ip(),
            // The next one is often that of the other listener.
            address.port().checked_add(2).unwrap_or(4000)
        ),
        ErrorKind::PermissionDenied => format!(
            "can't listen on {address}: not permitted. Ports below 1024 are for root; choose a higher one with \
             --{flag} {}:4000",
            address.ip()
        ),
        ErrorKind::AddrNotAvailable => format!(
            "can't listen on {address}: this machine does not have the address {}. Use one of its own, or \
             0.0.0.0 for all of them",
            address.ip()
        ),
        // It is not about the address.
        ErrorKind::Unsupported => error.to_string(),
        _ => format!("can't listen on {address}: {error}"),
    }
}
