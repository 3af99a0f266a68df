//! Manual pages and shell completions.

mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::process::{Command, Stdio};

use workplace::{Workplace, sysgraft, text};

fn is_missing(program: &str) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("command -v {program}")]);
    !shell.stdout(Stdio::null()).status().unwrap().success()
}

#[test]
fn every_command_has_a_manual_page_that_mandoc_reads() {
    let workplace = Workplace::new();
    let output = sysgraft(["man"]).arg(workplace.out()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let pages = workplace.outputs();
    for page in [
        "sysgraft.1",
        "sysgraft-sysext.1",
        "sysgraft-diff.1",
        "sysgraft-sign-attach.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page} of {pages:?}");
    }
    let diff = fs::read_to_string(workplace.out().join("sysgraft-diff.1")).unwrap();
    assert!(diff.contains("what\\-is\\-new.html"), "{diff}");
    if is_missing("mandoc") {
        return support::skip("every_command_has_a_manual_page", "mandoc is not installed");
    }
    for page in pages {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-T", "lint", "-W", "error"]);
        let lint = mandoc.arg(workplace.out().join(&page)).output().unwrap();
        assert!(lint.status.success(), "{page}: {}", text(&lint.stdout));
    }
}

#[test]
fn the_page_of_the_program_goes_to_standard_output() {
    let output = sysgraft(["man"]).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stdout).contains(".TH sysgraft 1"));
}

#[test]
fn bash_completes_commands_and_flags() {
    let workplace = Workplace::new();
    let script = workplace.path("sysgraft.bash");
    let output = sysgraft(["completions", "bash"]).output().unwrap();
    fs::write(&script, output.stdout).unwrap();
    let complete = |words: &str, last: usize| {
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _sysgraft sysgraft \"${{COMP_WORDS[{last}]}}\" \"\"; echo \"${{COMPREPLY[*]}}\"",
            script.display()
        );
        let shell = Command::new("bash")
            .args(["--norc", "-c", &ask])
            .output()
            .unwrap();
        assert!(shell.status.success(), "{}", text(&shell.stderr));
        text(&shell.stdout).trim().to_owned()
    };
    assert_eq!(complete("sysgraft insp", 1), "inspect");
    assert_eq!(complete("sysgraft diff --ht", 2), "--html");
}

#[test]
fn other_shells_have_completions_too() {
    for (shell, sign) in [
        ("zsh", "#compdef sysgraft"),
        ("fish", "complete -c sysgraft"),
    ] {
        let output = sysgraft(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains(sign), "{shell}");
    }
}
