//! The rules of the source tree that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hailer::limits::Limits;
use hailer::stats::Stats;
use hailer::web::PAGES;

/// The modules of `src`, from top to bottom, as ARCHITECTURE.md has them. A module imports those of lower
/// layers alone: modules of one layer meet in the layer above.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["lib"],
    &["cli"],
    &["standalone"],
    &["config"],
    &["server"],
    &["testing", "notification", "api", "admin", "load"],
    &["web"],
    &["endpoint"],
    &["broker", "connection"],
    &["socket"],
    &["hub"],
    &["board", "prepared", "fault"],
    &["channel", "longpoll", "desk", "service"],
    &["auth"],
    &["http", "ws", "phoenix"],
    &["limits", "stats"],
    &["guard", "suggest"],
    &["tables"],
];

/// The modules that may touch sockets, clocks, threads, files and the process.
const SHELL: &[&str] = &["main", "cli", "server"];

/// What names something of the world outside.
const IMPURE: &[&str] = &[
    "mio",
    "socket2",
    "libc",
    "signal_hook",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "Instant::now",
    "SystemTime",
    ".elapsed()",
    "std::thread",
    "thread::",
    "std::fs",
    "File::",
    "std::env",
    "std::process",
    "io::Read",
    "io::Write",
    "stdin(",
    "stdout(",
    "stderr(",
    "random(",
];

/// Where an impure name stands outside the shell on purpose.
const ALLOWED: &[(&str, &str)] = &[("src/testing/mod.rs", "Instant::now")];

const LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below the folders that have one of the extensions, with their texts.
fn files(folders: &[&str], extensions: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            if path.is_dir() {
                if !path.ends_with("node_modules") && !path.ends_with("target") && !path.ends_with("corpus") {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|found| extensions.iter().any(|one| found == *one)) {
                let name = path.strip_prefix(root()).expect("it lies below the root").to_owned();
                found.insert(name, fs::read_to_string(&path).expect("the file is text"));
            }
        }
    }
    assert!(!found.is_empty(), "{folders:?} hold nothing");
    found
}

fn sources() -> BTreeMap<PathBuf, String> {
    files(&["src"], &["rs"])
}

/// All that people write here, but prose.
fn code() -> BTreeMap<PathBuf, String> {
    files(&["src", "tests", "benches", "examples", "fuzz"], &["rs", "js", "mjs", "css", "html", "sh", "toml"])
}

/// The folder or file of `src` that a path belongs to.
fn module(path: &Path) -> String {
    let first = path.components().nth(1).expect("a file in src").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The lines of Rust with their numbers, without comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).map(|(number, line)| {
        let comment = line.find("// ").or_else(|| line.find("///")).or_else(|| line.find("//!"));
        (number, &line[..comment.unwrap_or(line.len())])
    })
}

/// The words of Rust or JavaScript: names and numbers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|byte: char| !byte.is_alphanumeric() && byte != '_').filter(|word| !word.is_empty())
}

/// Where `name` stands in a line as whole words.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let before = line[..at].chars().next_back().is_some_and(is_word);
        let after = line[at + name.len()..].chars().next().is_some_and(is_word);
        let (begins, ends) = (name.starts_with(is_word), name.ends_with(is_word));
        !(begins && before || ends && after)
    })
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let own = module(&path);
        let depth = path.components().count() - 2;
        for (number, line) in lines(&text) {
            for (at, start) in line.match_indices("crate::") {
                let rest = &line[at + start.len()..];
                let Some(named) = words(rest).next().filter(|_| !rest.starts_with('{')) else {
                    wrong.push(format!("{}:{number}: one import for each module, please", path.display()));
                    continue;
                };
                if named != own && layer(named) <= layer(&own) {
                    wrong.push(format!("{}:{number}: {own} imports {named}", path.display()));
                }
            }
            // A way around: up to the crate's root, and down again.
            if line.contains(&"super::".repeat(depth + 2)) || (depth == 0 && line.starts_with("use super")) {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert_none("imports that don't point down", &wrong);
}

/// The place of a module among the layers.
fn layer(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| {
        panic!("{module} has no place among the layers: give it one here and in ARCHITECTURE.md")
    })
}

#[test]
fn the_layers_are_those_of_the_guide() {
    let there: BTreeSet<String> = sources().keys().map(|path| module(path)).collect();
    let named: BTreeSet<String> = LAYERS.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(named, there);
    let guide = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is a guide");
    let tree =
        guide.split("\nsrc/\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has a tree");
    let listed: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once("   ").filter(|(names, _)| !names.is_empty()))
        .flat_map(|(names, _)| names.split([' ', ',', '/']))
        .map(|name| name.trim_end_matches(".rs"))
        .filter(|name| !name.is_empty())
        .collect();
    let missing: Vec<_> =
        there.into_iter().filter(|name| name != "lib" && !listed.contains(&&**name)).collect();
    assert_none("not in ARCHITECTURE.md", &missing);
    assert!(listed.is_sorted_by_key(|name| layer(name)), "in another order: {listed:?}");
}

#[test]
fn only_the_shell_names_the_world_outside() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if SHELL.contains(&module(&path).as_str()) {
            continue;
        }
        for (number, line) in lines(&text) {
            for impure in IMPURE.iter().filter(|impure| names(line, impure)) {
                if !ALLOWED.iter().any(|(file, name)| path == Path::new(file) && name == impure) {
                    wrong.push(format!("{}:{number}: {impure}", path.display()));
                }
            }
        }
    }
    assert_none("the core names the world outside", &wrong);
}

#[test]
fn panics_are_caught_in_one_place() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // The payload that a thread has ended with is disposed of there as well.
        let names_it = |line: &str| names(line, "catch_unwind") || line.contains("drop(thread.join())");
        let found = lines(&text).filter(|(_, line)| path != Path::new("src/guard.rs") && names_it(line));
        wrong.extend(found.map(|(number, _)| format!("{}:{number}", path.display())));
    }
    assert_none("panics are caught by crate::guard alone", &wrong);
}

#[test]
fn what_is_allowed_is_needed() {
    for (file, name) in ALLOWED {
        let text = fs::read_to_string(root().join(file)).expect("the file is there");
        assert!(lines(&text).any(|(_, line)| names(line, name)), "{file} does not name {name}");
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (path, text) in code() {
        let count = text.lines().count();
        if count > LINES_MAX {
            long.push(format!("{}: {count} lines", path.display()));
        }
    }
    for (path, text) in sources() {
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        let mut begun: Option<(usize, String)> = None;
        for (number, line) in lines(&text[..tests]) {
            let indent = &line[..line.len() - line.trim_start().len()];
            match &begun {
                None if words(line)
                    .take_while(|word| *word != "fn")
                    .all(|word| ["pub", "crate", "super", "const"].contains(&word))
                    && names(line, "fn")
                    && line.ends_with('{') =>
                {
                    begun = Some((number, format!("{indent}}}")));
                }
                Some((start, end)) if line == end => {
                    let count = number - start + 1;
                    if count > FUNCTION_LINES_MAX && !path.ends_with("tests.rs") {
                        long.push(format!("{}:{start}: a function of {count} lines", path.display()));
                    }
                    begun = None;
                }
                _ => {}
            }
        }
    }
    assert_none("too long", &long);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|halves| halves.concat());
    let skipped = ["#[ign", "ore]"].concat();
    let mut found = Vec::new();
    for (path, text) in code() {
        for (number, line) in (1..).zip(text.lines()) {
            if line.contains(&skipped) {
                found.push(format!("{}:{number}: a test is skipped without a reason", path.display()));
            }
            found.extend(
                marks
                    .iter()
                    .filter(|mark| names(line, mark))
                    .map(|mark| format!("{}:{number}: {mark}", path.display())),
            );
        }
    }
    assert_none("left for later", &found);
}

/// The words of all tests: those beside the sources, and those in them.
fn words_of_tests() -> BTreeSet<String> {
    let mut texts = files(&["tests"], &["rs", "js", "mjs"]);
    texts.remove(Path::new("tests/it/tidy.rs"));
    for (path, text) in sources() {
        // The tests of the limits themselves use any of them as an example.
        if path == Path::new("src/limits.rs") {
            continue;
        }
        let tests = if path.ends_with("tests.rs") { Some(0) } else { text.find("#[cfg(test)]") };
        texts.insert(path, tests.map_or_else(String::new, |at| text[at..].to_owned()));
    }
    texts.values().flat_map(|text| words(text).map(str::to_owned)).collect()
}

#[test]
fn every_limit_and_every_counter_is_named_in_a_test() {
    let words = words_of_tests();
    let limits = Limits::default().table().into_iter().map(|(name, _, _)| name);
    let stats = Stats::default().table().into_iter().map(|(name, _, _)| name);
    let missing: Vec<_> =
        limits.chain(stats).filter(|name| !words.contains(*name)).map(str::to_owned).collect();
    assert_none("no test names", &missing);
}

#[test]
fn every_file_of_the_pages_is_served() {
    let mut wrong = Vec::new();
    let mut bodies = Vec::new();
    for entry in fs::read_dir(root().join("src/web")).expect("there are pages") {
        let path = entry.expect("the entry is readable").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if name == "mod.rs" {
            continue;
        }
        let address = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let body = fs::read(&path).expect("the file is readable");
        match PAGES.iter().find(|page| page.path == address) {
            Some(page) if page.body == body => {}
            Some(_) => wrong.push(format!("{name}: another file is served at {address}")),
            None => wrong.push(format!("{name}: nothing is served at {address}")),
        }
        bodies.push(address);
    }
    wrong.extend(
        PAGES
            .iter()
            .filter(|page| !bodies.iter().any(|address| address == page.path))
            .map(|page| format!("{}: there is no such file", page.path)),
    );
    assert_none("the pages and their files", &wrong);
}
