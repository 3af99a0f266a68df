//! The commands that documents show do what they promise.
//!
//! All code blocks of a document that are marked as `sh` or `console` are run as one script, in an empty
//! folder of a host that is made for it (`support/little-world`), word for word. What a `console` block
//! shows behind its commands is what they print. A document can have commands that readers need not see,
//! as comments of HTML.

#[path = "support/document_blocks.rs"]
mod document_blocks;
#[path = "support/document_images.rs"]
mod document_images;
#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_real.rs"]
mod registry_real;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use document_blocks::{Block, Kind, Step, blocks, is_as_expected, said_by, script, steps};

/// Where documents are.
const FOLDERS: [&str; 3] = [".", "docs", "examples"];

/// What each document needs that names it; `.ci/setup test` and its neighbours install all.
const PROGRAMS: [(&str, &str); 13] = [
    ("openssl", "/usr/bin/openssl"),
    ("jq", "/usr/bin/jq"),
    ("gpg", "/usr/bin/gpg"),
    ("skopeo", "/usr/bin/skopeo"),
    ("curl", "/usr/bin/curl"),
    ("softhsm2-util", "/usr/bin/softhsm2-util"),
    ("sig-list-to-certs", "/usr/bin/sig-list-to-certs"),
    ("virt-fw-vars", "target/virt-firmware/bin/virt-fw-vars"),
    ("systemd-sysupdate", "target/newer-systemd/bin/sysupdate-on"),
    ("systemd-dissect", "/usr/bin/systemd-dissect"),
    ("mkfs.erofs", "target/erofs-utils/bin/mkfs.erofs"),
    ("check-image", "/usr/sbin/veritysetup"),
    ("sshd", "/usr/sbin/sshd"),
];

/// What the little world is made with.
const WORLD: [&str; 4] = [
    "/usr/bin/docker-registry",
    "/usr/sbin/nginx",
    "/usr/bin/skopeo",
    "/usr/bin/curl",
];

/// What other tests run: document, word of the fence, and where that is.
const ELSEWHERE: [(&str, &str, &str); 6] = [
    ("README.md", "vm", "tests/container/five-commands"),
    ("docs/container.md", "docker", "tests/container/commands"),
    ("docs/container.md", "image", "tests/container/image-check"),
    ("docs/quick-start.md", "docker", "tests/container/commands"),
    // The same five commands.
    ("docs/quick-start.md", "vm", "README.md"),
    ("examples/README.md", "examples", "tests/examples.rs"),
];

/// What is never run, as often as it is not, with the reason.
const NOT_RUN: [(&str, &str); 8] = [
    ("README.md", "builds-itself"),
    ("docs/contributing.md", "builds-itself"),
    ("docs/contributing.md", "builds-itself"),
    ("docs/node.md", "builds-itself"),
    ("docs/packages.md", "builds-itself"),
    // `make dist-check` installs the package.
    ("docs/packages.md", "packages"),
    ("docs/packages.md", "builds-itself"),
    // Firmware has to be in setup mode; tests/secure-boot-check enrols with systemd-boot instead.
    ("docs/secure-boot.md", "firmware"),
];

/// Documents, sorted.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "md")
                && !path.ends_with("CHANGELOG.md")
            {
                found.push(path.strip_prefix(".").unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    found
}

fn blocks_of(document: &Path) -> Vec<Block> {
    let text = fs::read_to_string(document).unwrap();
    blocks(&text).unwrap_or_else(|error| panic!("{}: {error}", document.display()))
}

/// Runs the commands of a document; what is wrong with them.
fn run(document: &Path, blocks: &[Block], images: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    fs::write(&file, script(blocks)).unwrap();
    let output = Command::new("tests/support/little-world")
        .arg(&file)
        .env("SOURCE", env!("CARGO_MANIFEST_DIR"))
        .env(
            "PROGRAMS",
            Path::new(env!("CARGO_BIN_EXE_sysgraft")).parent().unwrap(),
        )
        .env("IMAGES", images)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{}: {}\n{said}{stderr}",
            document.display(),
            output.status
        ));
    }
    let sessions = blocks.iter().filter(|block| block.kind == Kind::Session);
    let steps = sessions.flat_map(|block| steps(&block.text));
    for (number, Step { command, expected }) in steps.enumerate() {
        let printed = said_by(number, &said).unwrap_or_default();
        let lines: Vec<&str> = printed.lines().collect();
        if !is_as_expected(&lines, &expected) {
            let document = document.display();
            return Err(format!(
                "{document}: `{command}` prints something else:\n{printed}"
            ));
        }
    }
    Ok(())
}

/// Why the little world cannot be had.
fn obstacle() -> Option<String> {
    let missing = WORLD.iter().find(|program| !Path::new(program).exists());
    if let Some(missing) = missing {
        return Some(format!("{missing} is not installed"));
    }
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let probe = unshare
        .args(["--mount", "--net", "--pid", "--fork", "true"])
        .output();
    match probe {
        Ok(output) if output.status.success() => None,
        _ => Some("no namespaces can be made here".to_owned()),
    }
}

#[test]
fn the_commands_of_all_documents_work() {
    const TEST: &str = "the_commands_of_all_documents_work";
    if let Some(obstacle) = obstacle() {
        return support::skip(TEST, &obstacle);
    }
    let only = std::env::var("SYSGRAFT_TEST_DOCUMENT").ok();
    let images = tempfile::tempdir().unwrap();
    document_images::write_layouts(images.path());
    let mut wrong = Vec::new();
    for document in documents() {
        if only.as_ref().is_some_and(|only| !document.ends_with(only)) {
            continue;
        }
        let blocks = blocks_of(&document);
        let script = script(&blocks);
        if script.is_empty() {
            continue;
        }
        let name = document.display();
        let missing = PROGRAMS
            .iter()
            .find(|(program, path)| script.contains(program) && !Path::new(path).exists());
        if let Some((program, _)) = missing {
            support::skip(
                TEST,
                &format!("{name} needs {program}, which is not installed"),
            );
            continue;
        }
        wrong.extend(run(&document, &blocks, images.path()).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_not_run_here_is_known() {
    let (mut not_run, mut elsewhere) = (Vec::new(), BTreeSet::new());
    let documents = documents();
    for document in &documents {
        let name = document.to_str().unwrap();
        for block in blocks_of(document) {
            match &block.kind {
                Kind::NotRun(reason) => not_run.push((name, reason.clone())),
                Kind::Elsewhere(word) => drop(elsewhere.insert((name, word.clone()))),
                _ => continue,
            }
            assert_could_be_run(&block, &format!("{name}, line {}", block.line));
        }
    }
    assert_eq!(
        not_run,
        NOT_RUN.map(|(name, reason)| (name, reason.to_owned()))
    );
    let known = ELSEWHERE.map(|(name, word, _)| (name, word.to_owned()));
    assert_eq!(elsewhere, BTreeSet::from(known));
    for (name, word, test) in ELSEWHERE {
        let text = fs::read_to_string(test).unwrap();
        assert!(
            text.contains(name) || text.contains(&format!("```sh {word}")),
            "{test} runs nothing of {name}"
        );
    }
}

/// As far as can be told without running it.
fn assert_could_be_run(block: &Block, place: &str) {
    let parsed = Command::new("sh")
        .args(["-nc", &block.text])
        .status()
        .unwrap();
    assert!(parsed.success(), "{place}: the shell does not take it");
    let lines = block
        .text
        .lines()
        .map(|line| line.split('#').next().unwrap());
    for target in lines.filter_map(|line| line.strip_prefix("make ")) {
        let output = Command::new("make")
            .arg("--dry-run")
            .args(target.split_whitespace())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{place}: there is no `make {target}`"
        );
    }
}

#[test]
fn blocks_are_told_apart_by_their_fences() {
    let document = "a\n```sh\nb\n```\n```text\nc\n```\n<!-- sh\nd\n\ne\n-->\n```console\n$ f\ng\n```\n\
        ```sh not-run:why\nh\n```\n```sh vm\ni\n```\n```toml file:x/y\nj\n```\n- k\n\n    - l\n";
    let blocks = blocks(document).unwrap();
    let kinds: Vec<Kind> = blocks.iter().map(|block| block.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            Kind::Commands,
            Kind::Other,
            Kind::Commands,
            Kind::Session,
            Kind::NotRun("why".to_owned()),
            Kind::Elsewhere("vm".to_owned()),
            Kind::File("x/y".to_owned()),
        ]
    );
    assert_eq!((blocks[2].line, &*blocks[2].text), (8, "d\n\ne\n"));
    let script = script(&blocks);
    for run in ["\nb\n", "\nd\n\ne\n", "\nf\n", "\nj\n"] {
        assert!(script.contains(run), "{script}");
    }
    for not_run in ["c\n", "g\n", "h\n", "\ni\n"] {
        assert!(!script.contains(not_run), "{script}");
    }
}

#[test]
fn no_command_hides_from_the_tests() {
    for document in [
        "```\na\n```\n",
        "```bash\na\n```\n",
        "a\n\n    sysgraft inspect a.raw\n",
        "```text\nsysgraft inspect a.raw\n```\n",
        "```text\n$ ls\n```\n",
        "```sh\na\n",
        "```console\na\n```\n",
        "```sh two words\na\n```\n",
        "```toml name\na\n```\n",
    ] {
        assert!(blocks(document).is_err(), "{document}");
    }
}

#[test]
fn sessions_are_held_to_what_they_show() {
    let shown = "$ a \\\n  b\nc 1.40 MiB 12ab60e5d397\nd … f\n$ g\n…\nh\n";
    let steps = steps(shown);
    assert_eq!(steps[0].command, "a \\\n  b");
    assert_eq!(steps[1].command, "g");
    let holds = |step: usize, said: &[&str]| is_as_expected(said, &steps[step].expected);
    assert!(holds(0, &["c   1 KiB 00000000aa", "d x e f"]));
    for other in [
        &["c 1 KiB 00000000aa"][..],
        &["c 1 KiB 00000000aa", "d x e f", "g"],
        &["c 1 KiB 00000000aa", "d x e"],
        &["c 12 00000000aa", "d x e f"],
        &["c 1 KiB short", "d x e f"],
    ] {
        assert!(!holds(0, other), "{other:?}");
    }
    assert!(holds(1, &["h"]) && holds(1, &["x", "y", "h"]));
    assert!(!holds(1, &["h", "x"]));
}
