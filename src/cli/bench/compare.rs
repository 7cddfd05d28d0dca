//! `hailer bench compare`

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{Failure, print};
use crate::load::outcome::Outcome;
use crate::load::report::comparison::Comparison;

const ABOUT: &str = "\
Each file is what `hailer bench --json FILE` wrote, or an array of such outcomes. Whose a run is stands in \
its labels: --label server=hailer --label round=1 --label case='64 B to 10,000'.";

/// Which runs, and how they are told.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(super) struct Compare {
    /// Outcomes of runs, as JSON
    #[arg(value_name = "FILE.json", required = true)]
    files: Vec<PathBuf>,
    /// The server that the others are measured by, within each round
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Prints Markdown (the default, unless there is --html)
    #[arg(long)]
    markdown: bool,
    /// Writes a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(compare: &Compare) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    for file in &compare.files {
        outcomes.extend(read(file)?);
    }
    let comparison = Comparison::of(&outcomes, compare.base.as_deref())?;
    if let Some(file) = &compare.html {
        std::fs::write(file, comparison.html())
            .map_err(|error| format!("can't write {}: {error}", file.display()))?;
    }
    if compare.markdown || compare.html.is_none() {
        print(&comparison.markdown())?;
    }
    Ok(())
}

/// The outcomes of a file: one, or an array of them.
fn read(file: &Path) -> Result<Vec<Outcome>, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("can't read {name}: {error}"))?;
    let outcomes = if text.trim_start().starts_with('[') {
        serde_json::from_str(&text)
    } else {
        serde_json::from_str(&text).map(|outcome| vec![outcome])
    };
    outcomes.map_err(|error| format!("{name} is not the outcome of a run: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hailer-compare-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("the folder can be made");
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("the file can be written");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn outcome(server: &str, per_second: f64) -> Outcome {
        let mut outcome = Outcome { scenario: "fan-out".to_owned(), ..Outcome::default() };
        outcome.settings.insert("server".to_owned(), server.to_owned());
        (outcome.deliveries.received, outcome.deliveries.per_second) = (1, per_second);
        outcome
    }

    #[test]
    fn runs_of_several_files_become_a_page() {
        let folder = Folder::new("page");
        let json = |outcomes: &[Outcome]| serde_json::to_string_pretty(outcomes).expect("it can be written");
        let one = serde_json::to_string(&outcome("floor", 50_000.0)).expect("it can be written");
        let files =
            vec![folder.write("1.json", &one), folder.write("2.json", &json(&[outcome("hailer", 55_000.0)]))];
        let page = folder.0.join("page.html");
        let mut compare =
            Compare { files, base: Some("floor".to_owned()), markdown: false, html: Some(page.clone()) };
        assert!(run(&compare).is_ok());
        let written = std::fs::read_to_string(&page).expect("the page is there");
        assert!(written.contains("55,000") && written.contains("1.10"), "{written}");

        compare.base = Some("bun".to_owned());
        let failure = run(&compare).expect_err("no run is of it");
        assert_eq!(failure.message, "no run is of \"bun\": there are floor, hailer");
    }

    #[test]
    fn what_is_no_outcome_is_told_by_its_file() {
        let folder = Folder::new("wrong");
        for text in ["", "{}", "[{}]", "no"] {
            let error = read(&folder.write("wrong.json", text)).expect_err("it is no outcome");
            assert!(error.contains("wrong.json is not the outcome of a run: "), "{error}");
        }
        let error = read(&folder.0.join("missing.json")).expect_err("there is none");
        assert!(error.starts_with("can't read ") && error.contains("missing.json"), "{error}");
        assert_eq!(read(&folder.write("none.json", "[]")).expect("it is an array"), []);
    }
}
