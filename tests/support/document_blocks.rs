//! The code blocks of documents, and what of them is run.

use std::fmt::Write as _;

/// Words of fences behind which there are no commands.
const NO_COMMANDS: [&str; 9] = [
    "text",
    "toml",
    "yaml",
    "json",
    "ini",
    "dockerfile",
    "xml",
    "rust",
    "diff",
];

/// What a code block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands: "```sh", or, unseen by readers, "<!-- sh".
    Commands,
    /// Commands behind `$ `, and what they print: "```console".
    Session,
    /// A file that is written where the commands are: "```WORD file:NAME".
    File(String),
    /// Commands that another test runs: "```sh WORD".
    Elsewhere(String),
    /// Commands that no test runs: "```sh not-run:REASON".
    NotRun(String),
    /// Anything else.
    Other,
}

/// A code block of a document.
#[derive(Debug)]
pub struct Block {
    /// The line of the document on which it begins.
    pub line: usize,
    pub kind: Kind,
    pub text: String,
}

/// All code blocks of a document.
///
/// # Errors
/// What a test could not run, although it may be commands.
pub fn blocks(document: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut end = None;
    let mut is_behind_blank = true;
    for (number, line) in (1..).zip(document.lines()) {
        let at = |what: String| format!("line {number}: {what}");
        if end == Some(line.trim()) {
            end = None;
        } else if end.is_some() {
            let block = blocks.last_mut().unwrap();
            block.text += &format!("{line}\n");
        } else if let Some(info) = line.trim_start().strip_prefix("```") {
            end = Some("```");
            let kind = kind(info).map_err(at)?;
            let text = String::new();
            blocks.push(Block {
                line: number,
                kind,
                text,
            });
        } else if line == "<!-- sh" {
            end = Some("-->");
            let (kind, text) = (Kind::Commands, String::new());
            blocks.push(Block {
                line: number,
                kind,
                text,
            });
        } else if is_behind_blank && is_indented_code(line) {
            return Err(at("a block without a fence".to_owned()));
        }
        is_behind_blank = line.trim().is_empty();
    }
    if end.is_some() {
        return Err("the last block has no end".to_owned());
    }
    for block in &blocks {
        if block.kind == Kind::Session && !block.text.starts_with("$ ") {
            return Err(format!(
                "line {}: a session begins with a command",
                block.line
            ));
        }
        let is_command = |line: &str| {
            ["$ ", "sysgraft ", "sysgraft-agent "]
                .iter()
                .any(|start| line.starts_with(start))
        };
        if block.kind == Kind::Other && block.text.lines().any(is_command) {
            return Err(format!(
                "line {}: commands that are not marked so",
                block.line
            ));
        }
    }
    Ok(blocks)
}

fn kind(info: &str) -> Result<Kind, String> {
    let mut words = info.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("sh"), None, None) => Ok(Kind::Commands),
        (Some("sh"), Some(word), None) => Ok(match word.strip_prefix("not-run:") {
            Some(reason) => Kind::NotRun(reason.to_owned()),
            None => Kind::Elsewhere(word.to_owned()),
        }),
        (Some("console"), None, None) => Ok(Kind::Session),
        (Some(word), more, None) if NO_COMMANDS.contains(&word) => match more {
            None => Ok(Kind::Other),
            Some(more) => match more.strip_prefix("file:") {
                Some(name) => Ok(Kind::File(name.to_owned())),
                None => Err(format!("{more:?} means nothing behind \"```{word}\"")),
            },
        },
        _ => Err(format!(
            "a fence \"```{info}\", of which no test knows whether it is to be run"
        )),
    }
}

/// Behind a blank line; those of lists are their paragraphs.
fn is_indented_code(line: &str) -> bool {
    line.strip_prefix("    ").is_some_and(|rest| {
        let rest = rest.trim_start();
        let is_item =
            rest.starts_with("- ") || rest.starts_with(|first: char| first.is_ascii_digit());
        !rest.is_empty() && !is_item
    })
}

/// A command of a session, and what it is to print.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub expected: Vec<String>,
}

/// The steps of a session's text. A command goes on behind a backslash.
pub fn steps(session: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for line in session.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step {
                command: command.to_owned(),
                expected: Vec::new(),
            }),
            None => {
                let step = steps.last_mut().expect("blocks() demands it");
                match goes_on {
                    true => step.command += &format!("\n{line}"),
                    false => step.expected.push(line.to_owned()),
                }
            }
        }
        goes_on = line.ends_with('\\') && (goes_on || line.starts_with("$ "));
    }
    steps
}

/// Begins a line of the script's output that tells where the script is.
const MARK: &str = "\u{1e}";

/// The blocks as one script, which says of each step of a session where its output begins and ends.
pub fn script(blocks: &[Block]) -> String {
    let mut script = String::new();
    let mut step_number = 0;
    for block in blocks {
        match &block.kind {
            Kind::Commands => {
                let _ = writeln!(script, "echo '# line {}' >&2", block.line);
                let _ = write!(script, "set -x\n{}{{ set +x; }} 2>/dev/null\n", block.text);
            }
            Kind::Session => {
                for step in steps(&block.text) {
                    let _ = writeln!(script, "echo '{MARK}{step_number}'");
                    let _ = writeln!(script, "{{\n{}\n}} 2>&1", step.command);
                    let _ = writeln!(script, "echo '{MARK}'");
                    step_number += 1;
                }
            }
            Kind::File(name) => {
                let _ = writeln!(script, "mkdir -p \"$(dirname '{name}')\"");
                let _ = write!(script, "cat >'{name}' <<'{MARK}'\n{}{MARK}\n", block.text);
            }
            Kind::Elsewhere(_) | Kind::NotRun(_) | Kind::Other => {}
        }
    }
    script
}

/// What was printed by the step with this number.
pub fn said_by(step: usize, output: &str) -> Option<&str> {
    let (_, rest) = output.split_once(&format!("{MARK}{step}\n"))?;
    Some(rest.split_once(&format!("{MARK}\n"))?.0)
}

/// Whether this was to be expected: `…` stands for anything, alone on a line for any number of lines.
pub fn is_as_expected(said: &[&str], expected: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return said.is_empty();
    };
    if first == "…" {
        return (0..=said.len()).any(|skipped| is_as_expected(&said[skipped..], rest));
    }
    said.split_first().is_some_and(|(line, others)| {
        is_like(&plain(line), &plain(first)) && is_as_expected(others, rest)
    })
}

fn is_like(said: &str, expected: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else {
        return said == expected;
    };
    said.strip_prefix(start).is_some_and(|said| {
        let mut ends = said
            .char_indices()
            .map(|(place, _)| place)
            .chain([said.len()]);
        ends.any(|place| is_like(&said[place..], rest))
    })
}

/// A line without what differs from run to run: digests, sizes and times; blanks are one.
fn plain(line: &str) -> String {
    const UNITS: [&str; 8] = ["B", "KiB", "MiB", "GiB", "kB", "MB", "GB", "s"];
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let is_unit = UNITS.contains(&word.trim_end_matches([',', ';', ')']));
        match words.last_mut() {
            Some(number) if is_unit && is_number(number.trim_start_matches('(')) => {
                *number = "SIZE".to_owned();
            }
            _ => words.push(without_digests(word)),
        }
    }
    words.join(" ")
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn without_digests(word: &str) -> String {
    let mut plain = String::new();
    let mut digits = String::new();
    for next in word.chars().map(Some).chain([None]) {
        match next {
            Some(digit @ ('0'..='9' | 'a'..='f')) => digits.push(digit),
            _ => {
                let is_digest = digits.len() >= 8;
                plain += if is_digest { "DIGEST" } else { &digits };
                digits.clear();
                plain.extend(next);
            }
        }
    }
    plain
}
