//! The commands that documents show do what they promise.
//!
//! The code blocks of a document that are marked as `sh` are run as one script, in an empty folder and
//! with the programs under test in reach.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Documents with commands, and the programs that those need beside ours.
const DOCUMENTS: [(&str, &[&str]); 4] = [
    ("docs/signing.md", &["openssl", "jq", "softhsm2-util"]),
    ("docs/lint.md", &["jq"]),
    ("docs/inspect.md", &["jq"]),
    ("docs/publish.md", &["openssl", "jq", "gpg", "sha256sum"]),
];

/// Everything between lines of "```sh" and "```".
fn commands(document: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in document.lines() {
        match (inside, line) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, line) => script += &format!("{line}\n"),
            (false, _) => {}
        }
    }
    assert!(!inside, "a code block has no end");
    script
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn run_commands_of(document: &str, programs: &[&str]) {
    if let Some(missing) = programs.iter().find(|program| !is_installed(program)) {
        return support::skip(document, &format!("{missing} is not installed"));
    }
    let script = commands(&fs::read_to_string(document).unwrap());
    assert!(!script.is_empty(), "{document} has no commands");
    let folder = tempfile::tempdir().unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_sysgraft")).parent().unwrap();
    let mut path = vec![ours.to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let output = Command::new("sh")
        .args(["-eux", "-c", &script])
        .current_dir(&folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{document}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_commands_of_all_documents_work() {
    for (document, programs) in DOCUMENTS {
        run_commands_of(document, programs);
    }
}

#[test]
fn no_document_with_commands_is_left_out() {
    let mut documents = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir("docs").unwrap() {
        documents.push(entry.unwrap().path());
    }
    for document in documents {
        let Ok(text) = fs::read_to_string(&document) else {
            continue;
        };
        let listed = DOCUMENTS
            .iter()
            .any(|(name, _)| document == Path::new(name));
        assert!(
            listed || commands(&text).is_empty(),
            "{} has commands that no test runs",
            document.display()
        );
    }
}

#[test]
fn commands_are_the_code_blocks_marked_as_such() {
    let document = "a\n```sh\nb\n```\n```\nc\n```\n    d\n```sh\ne\n\nf\n```\n";
    assert_eq!(commands(document), "b\ne\n\nf\n");
}
