//! How far a run is, on stderr: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use ratatui::crossterm::terminal;

/// Time between two drawings of the bar: ten in a second.
const DRAW: Duration = Duration::from_millis(100);
/// Time between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// Cells of the bar itself.
const BAR: usize = 24;
/// Columns where the terminal doesn't tell.
const COLUMNS: usize = 80;

/// Tells how far a run is. It is given the time, and says nothing more often than a reader can follow.
pub(super) struct Progress {
    out: Option<Box<dyn Write>>,
    terminal: bool,
    colour: bool,
    phase: Option<Phase>,
    told: Option<Instant>,
}

/// A part of the run.
struct Phase {
    name: &'static str,
    total: u64,
    done: u64,
    note: String,
    since: Instant,
}

impl Progress {
    /// Tells on stderr; with `quiet` nothing.
    pub(super) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        // The standard of NO_COLOR: any value but an empty one.
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::to((!quiet).then(|| Box::new(std::io::stderr()) as Box<dyn Write>), terminal, colour)
    }

    fn to(out: Option<Box<dyn Write>>, terminal: bool, colour: bool) -> Self {
        Self { out, terminal, colour, phase: None, told: None }
    }

    /// Ends the part that went on, with a line that stays, and begins another of `total` steps; 0 where nobody knows
    /// their number.
    pub(super) fn phase(&mut self, name: &'static str, total: u64, now: Instant) {
        self.finish(now);
        self.phase = Some(Phase { name, total, done: 0, note: String::new(), since: now });
        self.tell(now);
    }

    /// Says how many steps are done, and something more. It costs next to nothing where it isn't time to tell.
    pub(super) fn set(&mut self, done: u64, note: impl FnOnce() -> String, now: Instant) {
        let Some(phase) = &mut self.phase else { return };
        phase.done = done;
        let pause = if self.terminal { DRAW } else { LINE };
        if self.out.is_some() && self.told.is_none_or(|told| now.duration_since(told) >= pause) {
            phase.note = note();
            self.tell(now);
        }
    }

    /// Ends the part that goes on, with a line that stays.
    pub(super) fn finish(&mut self, now: Instant) {
        let Some(phase) = self.phase.take() else { return };
        let (start, end) = if self.terminal { ("\r\x1b[K", "\n") } else { ("", "\n") };
        let line = phase.plain(now);
        self.write(&format!("{start}{line}{end}"));
        self.told = None;
    }

    fn tell(&mut self, now: Instant) {
        let Some(phase) = &self.phase else { return };
        let text = if self.terminal {
            let columns = terminal::size().map_or(COLUMNS, |(columns, _)| usize::from(columns));
            // What was there before may have been longer: the rest of the line is cleared.
            format!("\r{}\x1b[K", phase.bar(columns, self.colour, now))
        } else {
            format!("{}\n", phase.plain(now))
        };
        self.told = Some(now);
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        // A run goes on though nobody reads its progress.
        if let Some(out) = &mut self.out {
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Drop for Progress {
    /// What is written next begins on a line of its own.
    fn drop(&mut self) {
        if self.phase.is_some() && self.terminal {
            self.write("\n");
        }
    }
}

impl Phase {
    fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done as f64 / self.total as f64).min(1.0))
    }

    fn figures(&self) -> String {
        match self.share() {
            Some(share) => format!("{} of {} ({:.0} %)", self.done, self.total, (share * 100.0).floor()),
            None => self.done.to_string(),
        }
    }

    fn plain(&self, now: Instant) -> String {
        let seconds = now.duration_since(self.since).as_secs_f64();
        let note = if self.note.is_empty() { String::new() } else { format!(", {}", self.note) };
        format!("{}: {} after {seconds:.1} s{note}", self.name, self.figures())
    }

    /// One line that fits into the columns, the last of which stays free: some terminals would go on to a new line.
    fn bar(&self, columns: usize, colour: bool, now: Instant) -> String {
        let seconds = now.duration_since(self.since).as_secs();
        let bar = self.share().map(|share| {
            let full = (share * BAR as f64) as usize;
            format!("{}{}", "━".repeat(full), "╌".repeat(BAR - full))
        });
        let words = [format!("{seconds} s"), self.figures(), self.note.clone()];
        let words = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join("  ");
        let room = columns.saturating_sub(1);
        let line = match &bar {
            Some(bar) => format!("{:<12} {bar} {words}", self.name),
            None => format!("{:<12} {words}", self.name),
        };
        let cut: String = line.chars().take(room).collect();
        match bar.filter(|bar| colour && cut.contains(bar.as_str())) {
            Some(bar) => cut.replacen(&bar, &format!("\x1b[36m{bar}\x1b[0m"), 1),
            None => cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.borrow_mut())).expect("it is text")
        }
    }

    fn progress(terminal: bool) -> (Progress, Paper) {
        let paper = Paper::default();
        (Progress::to(Some(Box::new(paper.clone())), terminal, false), paper)
    }

    #[test]
    fn elsewhere_there_is_a_line_each_few_seconds() {
        let (mut progress, paper) = progress(false);
        let start = Instant::now();
        progress.phase("connecting", 1_000, start);
        assert_eq!(paper.take(), "connecting: 0 of 1000 (0 %) after 0.0 s\n");
        for tenth in 1..=120 {
            let now = start + Duration::from_millis(tenth * 100);
            progress.set(tenth * 5, || format!("{tenth} a second"), now);
        }
        assert_eq!(
            paper.take(),
            "connecting: 250 of 1000 (25 %) after 5.0 s, 50 a second\n\
             connecting: 500 of 1000 (50 %) after 10.0 s, 100 a second\n"
        );
        progress.phase("holding", 0, start + Duration::from_secs(13));
        assert_eq!(
            paper.take(),
            "connecting: 600 of 1000 (60 %) after 13.0 s, 100 a second\nholding: 0 after 0.0 s\n"
        );
        progress.finish(start + Duration::from_secs(14));
        progress.finish(start + Duration::from_secs(15));
        drop(progress);
        assert_eq!(paper.take(), "holding: 0 after 1.0 s\n");
    }

    #[test]
    fn a_terminal_is_drawn_on_ten_times_a_second_at_most() {
        let (mut progress, paper) = progress(true);
        let start = Instant::now();
        progress.phase("publishing", 200, start);
        for milli in 0..1_000 {
            progress.set(milli / 10, || "x".to_owned(), start + Duration::from_millis(milli));
        }
        let drawn = paper.take();
        assert_eq!(drawn.matches('\r').count(), 10, "{drawn:?}");
        assert!(!drawn.contains('\n'), "{drawn:?}");
        drop(progress);
        assert_eq!(paper.take(), "\n", "the next line begins at its beginning");
    }

    #[test]
    fn a_bar_fits_into_its_line() {
        let start = Instant::now();
        let phase =
            Phase { name: "publishing", total: 200, done: 100, note: "p99 12 ms".to_owned(), since: start };
        let now = start + Duration::from_secs(7);
        assert_eq!(
            phase.bar(100, false, now),
            "publishing   ━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌ 7 s  100 of 200 (50 %)  p99 12 ms"
        );
        assert!(phase.bar(100, true, now).contains("\x1b[36m━"));
        for columns in 0..80 {
            let fits = phase.bar(columns, false, now).chars().count();
            assert!(fits < columns.max(1), "{fits} of {columns}");
        }
        let over = Phase { total: 10, done: 15, ..phase };
        assert!(over.bar(100, false, now).contains(&"━".repeat(BAR)));
        assert!(over.bar(100, false, now).contains("15 of 10 (100 %)"));
    }

    #[test]
    fn quiet_is_quiet() {
        let mut progress = Progress::to(None, true, true);
        let start = Instant::now();
        progress.phase("connecting", 10, start);
        progress.set(1, || unreachable!("nobody reads it"), start + Duration::from_secs(60));
        progress.finish(start);
    }
}
