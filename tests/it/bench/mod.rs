//! The load tool, as its users run it: against the real server, and against servers that do wrong on purpose.

mod faulty;
mod own_topic;
mod scenarios;

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::hailer;

/// What a run has come to.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Runs `hailer bench` with these arguments to its end.
    fn of(args: &[&str]) -> Self {
        Self::with(args, &[])
    }

    fn with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = [&["bench"], args, &["--settle", "10ms"]].concat();
        if !args.contains(&"--patience") {
            all.extend(["--patience", "20s"]);
        }
        let output: Output = hailer(&all)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The figures, which were asked for on stdout.
    #[track_caller]
    fn figures(&self) -> Figures {
        let json = serde_json::from_str(&self.stdout);
        Figures(json.unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr)))
    }

    /// Those of a run in which all went well.
    #[track_caller]
    fn good(&self) -> Figures {
        assert_eq!(self.code, Some(0), "{} {}", self.stdout, self.stderr);
        let figures = self.figures();
        for wrong in ["/deliveries/lost", "/deliveries/doubled", "/deliveries/out_of_order"] {
            assert_eq!(figures.number(wrong), 0, "{wrong}");
        }
        assert_eq!(figures.number("/deliveries/expected"), figures.number("/deliveries/received"));
        assert_eq!(figures.errors(), BTreeMap::new());
        figures
    }
}

struct Figures(Value);

impl Figures {
    #[track_caller]
    fn at(&self, place: &str) -> &Value {
        self.0.pointer(place).unwrap_or_else(|| panic!("no {place} in {:#}", self.0))
    }

    #[track_caller]
    fn number(&self, place: &str) -> u64 {
        self.at(place).as_u64().unwrap_or_else(|| panic!("{place} is no number: {:#}", self.0))
    }

    fn errors(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.at("/errors").clone()).expect("errors have numbers")
    }
}
