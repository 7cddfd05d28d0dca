//! `hailer serve`

use std::io::ErrorKind;
use std::net::SocketAddr;

use tracing::warn;
use tracing_subscriber::filter::LevelFilter;

use super::Failure;
use super::args::Serve;
use crate::config::LogLevel;
use crate::server::StopSignals;
use crate::standalone::Standalone;

pub(super) fn run(mut serve: Serve) -> Result<(), Failure> {
    let file = serve.file.config.take();
    let loaded = super::load(file.as_deref(), serve.flags())?;
    let settings = &loaded.settings;
    log_to_stderr(settings.log_level);
    let standalone = Standalone::new(settings).map_err(|error| error.to_string())?;
    let signals = StopSignals::catch().map_err(|error| format!("can't catch signals: {error}"))?;
    let server = standalone.start().map_err(|error| cannot_start(settings.listen, &error))?;
    for notice in loaded.notices() {
        warn!("{notice}");
    }
    if settings.is_demo() {
        warn!("no [auth] is configured: this is the open demo, everyone who can reach it may write");
    }
    super::print(&format!("Listening on http://{} (Ctrl-C stops)\n", server.handle().local_addr()))?;
    signals.run(server).map_err(|error| Failure::from(format!("the server has failed: {error}")))
}

fn log_to_stderr(level: LogLevel) {
    let filter = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(filter).with_ansi(ansi);
    // What can't be written is lost; reporting that on the same stderr would panic.
    let log = log.with_target(false).log_internal_errors(false);
    // Only a second call could fail, and there is none.
    let _ = log.try_init();
}

/// Says what stands in the way, and what to do.
fn cannot_start(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "can't listen on {address}: another program does already. Stop it, or choose another port, for \
             example with --listen {}:{}",
            address.ip(),
            address.port().checked_add(1).unwrap_or(4000)
        ),
        ErrorKind::PermissionDenied => format!(
            "can't listen on {address}: not permitted. Ports below 1024 are for root; choose a higher one with \
             --listen {}:4000",
            address.ip()
        ),
        ErrorKind::AddrNotAvailable => format!(
            "can't listen on {address}: this machine does not have the address {}. Use one of its own, or \
             0.0.0.0 for all of them",
            address.ip()
        ),
        _ => format!("can't listen on {address}: {error}"),
    }
}
