//! What documents say of tests and of messages is so.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The cells of all rows of tables whose head begins with `head`.
fn rows(document: &str, head: impl Fn(&str) -> bool) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut inside = None;
    for line in document.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            if !line.starts_with("|-") {
                inside = None;
            }
            continue;
        };
        let cells: Vec<&str> = row
            .trim_end_matches('|')
            .split(" | ")
            .map(str::trim)
            .collect();
        match inside {
            None => inside = Some(head(cells[0])),
            Some(true) => rows.push(cells),
            Some(false) => (),
        }
    }
    rows
}

/// What stands in code spans.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            found.push(path);
        }
    }
}

/// Whether there is such a test: `FILE::TEST`, or `vm:SCENARIO`.
fn is_a_test(name: &str) -> bool {
    if let Some(scenario) = name.strip_prefix("vm:") {
        return Path::new(&format!("tests/vm/scenarios/{scenario}.py")).exists();
    }
    let Some((file, test)) = name.split_once("::") else {
        return false;
    };
    let source = ["tests", "src"]
        .iter()
        .find_map(|folder| fs::read_to_string(format!("{folder}/{file}.rs")).ok());
    // Tests that differ in one argument are made by a macro, one in a line.
    let begins = [format!("fn {test}("), format!("{test} ")];
    source.is_some_and(|source| {
        let mut lines = source.lines().map(str::trim_start);
        lines.any(|line| begins.iter().any(|begin| line.starts_with(begin)))
    })
}

#[test]
fn every_threat_has_tests_that_are_there() {
    let document = fs::read_to_string("docs/security.md").unwrap();
    let threats = rows(&document, |head| head == "threat");
    assert!(threats.len() >= 20, "{} threats", threats.len());
    for threat in threats {
        let [_, defence, tests] = threat[..] else {
            panic!("not three columns: {threat:?}");
        };
        assert!(!defence.is_empty(), "{threat:?}");
        let tests = code(tests);
        assert!(!tests.is_empty(), "{threat:?}");
        for test in tests {
            assert!(is_a_test(test), "{test}: no such test");
        }
    }
}

#[test]
fn messages_are_those_of_the_programs() {
    let document = fs::read_to_string("docs/troubleshooting.md").unwrap();
    let mut paths = Vec::new();
    sources(Path::new("src"), &mut paths);
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let source: String = paths
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let source = continued.replace_all(&source, "");
    let messages = rows(&document, |head| head.starts_with("sysgraft"));
    assert!(messages.len() >= 30, "{} messages", messages.len());
    for row in messages {
        let message = code(row[0]);
        assert_eq!(message.len(), 1, "{row:?}");
        for part in message[0].split('…') {
            let part = part.trim_matches([' ', '(', ')']);
            assert!(source.contains(part), "no message has {part:?}");
        }
    }
}
