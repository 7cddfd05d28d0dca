//! `hailer top`

mod draw;
mod sample;

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::disable_raw_mode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Failure;
use super::client::{self, ApiOptions, Client};
use crate::limits::Bound;
use sample::{Sample, View};

/// Time for which an answer is waited for, before it is said that there is none.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time until a signal is noticed at the latest.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time from a signal to the end at the latest, with the terminal as it was before.
const RESTORE_TIME: Duration = Duration::from_secs(1);

/// How often, and for how long.
#[derive(Debug, Args)]
#[command(after_help = client::HELP)]
pub(super) struct Top {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Prints what can be seen after one interval, and ends
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    api: ApiOptions,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
        .filter(|time| (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(time))
        .ok_or_else(|| "give a time from 100ms to 1h, for example 1s".to_owned())
}

pub(super) fn run(top: &Top) -> Result<(), Failure> {
    let client = Client::with_timeout(&top.api, TIMEOUT)?;
    // What stands in the way of the first look is a reason not to begin.
    let first = sample::take(&client)?;
    let mut view = View::new(client.base(), top.interval, first);
    if top.once {
        std::thread::sleep(top.interval);
        view.add(sample::take(&client)?);
        return Ok(super::print(&draw::text(&view))?);
    }
    let samples = keep_sampling(client, top.interval)?;
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        on_terminal(&mut view, &samples)
    } else {
        as_lines(&mut view, &samples)
    }
    .map_err(|error| Failure::from(format!("can't show it: {error}")))
}

/// Takes samples on a thread of its own, so that keys are heard while an answer is waited for. The thread ends when
/// nobody listens any more.
fn keep_sampling(client: Client, interval: Duration) -> Result<Receiver<Result<Sample, String>>, String> {
    let (sender, samples) = channel();
    let work = move || {
        loop {
            std::thread::sleep(interval);
            if sender.send(sample::take(&client)).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("top".to_owned()).spawn(work);
    started.map(|_| samples).map_err(|error| format!("can't start a thread: {error}"))
}

/// One line for each look, for whatever is no terminal.
fn as_lines(view: &mut View, samples: &Receiver<Result<Sample, String>>) -> std::io::Result<()> {
    loop {
        match samples.recv() {
            Ok(Ok(sample)) => view.add(sample),
            Ok(Err(error)) => {
                // There is nowhere left to say that stderr is closed.
                let _ = writeln!(std::io::stderr(), "hailer: {error}");
                continue;
            }
            Err(_) => return Ok(()),
        }
        let mut stdout = std::io::stdout();
        let written = writeln!(stdout, "{}", draw::line(view)).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
}

/// The live view. However it ends, the terminal is as it was before: after a key, a signal, an error, and a panic, whose
/// hook is ratatui's.
fn on_terminal(view: &mut View, samples: &Receiver<Result<Sample, String>>) -> std::io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    watch_terminal(Arc::clone(&ended))?;
    let shown = ratatui::try_init().and_then(|mut terminal| show(&mut terminal, view, samples, &ended));
    let restored = ratatui::try_restore();
    shown.and(restored)
}

/// Ends the process once its terminal is gone: what reads keys tries to for ever then, and there is nothing to restore.
/// Also if a signal has not ended it: a terminal that takes no more, behind a hanging ssh for example, holds up what draws.
fn watch_terminal(ended: Arc<AtomicBool>) -> std::io::Result<()> {
    let watch = move || {
        while std::io::stdout().is_terminal() && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
        }
        if ended.load(Ordering::Relaxed) {
            std::thread::sleep(RESTORE_TIME);
            // The modes are a matter of the system; what is on the screen has to stay.
            let _ = disable_raw_mode();
        }
        std::process::exit(1);
    };
    std::thread::Builder::new().name("terminal".to_owned()).spawn(watch).map(drop)
}

fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    samples: &Receiver<Result<Sample, String>>,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut changed = true;
    while !ended.load(Ordering::Relaxed) {
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| draw::draw(view, frame.area(), frame.buffer_mut()))?;
        }
        match event::poll(PATIENCE) {
            Ok(true) => match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let interrupts = key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                        KeyCode::Char('c') if interrupts => return Ok(()),
                        KeyCode::Char('?' | 'h') => {
                            view.help = !view.help;
                            changed = true;
                        }
                        _ => {}
                    }
                }
                Event::Resize(..) => changed = true,
                _ => {}
            },
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        match samples.try_recv() {
            Ok(Ok(sample)) => view.add(sample),
            Ok(Err(error)) => view.fail(error),
            Err(TryRecvError::Empty) => continue,
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        changed = true;
    }
    Ok(())
}
