//! The help of every command, as a terminal of 80 columns shows it.

use crate::support::hailer;

const WIDTH: usize = 80;

fn help(command: &[String], flag: &str) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).chain([flag]).collect();
    let output = hailer(&words).env("COLUMNS", WIDTH.to_string()).output().expect("the program starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        // What a name is about goes on further in.
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next()
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// All commands, those of commands among them.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut at = 0;
    while at < found.len() {
        let below = listed(&help(&found[at], "--help")).into_iter();
        let below: Vec<_> = below.map(|name| [found[at].clone(), vec![name]].concat()).collect();
        found.extend(below);
        at += 1;
    }
    found
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|character| *character == ' ').count()
}

/// Where the text of a line stands: behind the names of an option or command, if there are any.
fn column(line: &str) -> usize {
    let text = indent(line);
    // Two blanks or more are between the names and what they are about.
    line[text..].find("  ").map_or(text, |at| {
        let gap = &line[text + at..];
        text + at + indent(gap)
    })
}

/// The pairs of lines that were one sentence and were broken although the next word would have fitted.
fn broken(help: &str) -> Vec<String> {
    let lines: Vec<&str> = help.lines().collect();
    let pairs = lines.windows(2).filter(|pair| {
        let [line, next] = pair else { return false };
        let first = next.split_whitespace().next().unwrap_or_default();
        let goes_on = first.starts_with(|character: char| character.is_ascii_lowercase());
        let is_sentence = !line.trim().is_empty() && !line.ends_with(['.', ':', ';']);
        let is_example = |line: &str| line.trim_start().starts_with("hailer ") || line.starts_with("Usage:");
        let same = indent(next) == column(line);
        let fits = line.chars().count() + 1 + first.chars().count() <= WIDTH;
        goes_on && is_sentence && same && fits && !is_example(line) && !is_example(next)
    });
    pairs.map(|pair| pair.join("\n")).collect()
}

#[test]
fn every_help_text_fits_a_terminal_of_80_columns() {
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    for command in &commands {
        for flag in ["--help", "-h"] {
            let help = help(command, flag);
            for line in help.lines() {
                assert!(line.chars().count() <= WIDTH, "{command:?} {flag}: {line}");
            }
        }
    }
}

#[test]
fn no_sentence_of_a_help_text_is_broken_before_the_line_is_full() {
    for command in commands() {
        for flag in ["--help", "-h"] {
            let found = broken(&help(&command, flag));
            assert!(found.is_empty(), "{command:?} {flag}: {found:#?}");
        }
    }
}

#[test]
fn a_sentence_that_is_broken_too_early_would_be_found() {
    let twice =
        "The API key is that of HAILER_API_KEY. It is never an argument, since\nother users see those.\n";
    assert_eq!(broken(twice).len(), 1);
    let swallowed =
        "      --own-topic <TOPIC>  {user} becomes its token's sub,\n                           its number\n";
    assert_eq!(broken(swallowed).len(), 1);
    let full = format!("{}\nother users see those.\n", "word ".repeat(16).trim_end());
    assert_eq!(broken(&full).len(), 0);
}

#[test]
fn placeholders_are_shown_as_they_are_written() {
    let help = help(&["bench".to_owned()], "--help");
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("{user} becomes its token's sub, {number} its number"), "{help}");
}

#[test]
fn a_port_alone_is_answered_with_the_flag_for_it() {
    for wrong in [&["--port", "4000"][..], &["--port=4000"], &["--host", "0.0.0.0"], &["--bind", "a"]] {
        let output = hailer(&[&["serve"], wrong].concat()).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--listen 127.0.0.1:4000"), "{said}");
    }
}
