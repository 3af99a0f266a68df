//! `sysgraft-agent apply`: a node becomes what a file declares, and nothing else of it changes.

#[path = "support/extension_image.rs"]
mod extension_image;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use extension_image::{By, Extension, NodeTree};
use serde_json::Value;

const ANY: &str = "ID=_any\nARCHITECTURE=x86-64\n";
const STORE: &str = "var/lib/kairos/extensions";

/// A node, images for it, and the file that declares what it shall have.
struct Declared {
    node: NodeTree,
    images: tempfile::TempDir,
}

impl Declared {
    fn new() -> Declared {
        Declared {
            node: NodeTree::trusting(),
            images: tempfile::tempdir().unwrap(),
        }
    }

    /// An image of `name`, with content of its own for each file name.
    fn image(&self, name: &str, file: &str, by: By<'_>) -> PathBuf {
        let path = self.images.path().join(file);
        let extension = Extension::sysext(name, ANY).with("usr/share/file", file);
        extension.image(&path, by)
    }

    fn agent(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sysgraft-agent"))
            .arg("--root")
            .arg(self.node.path(""))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn apply(&self, text: &str, flags: &[&str]) -> Output {
        let file = self.images.path().join("extensions.toml");
        let folder = self.images.path().to_str().unwrap();
        fs::write(&file, text.replace("DIR", folder)).unwrap();
        let arguments = [&["apply", file.to_str().unwrap()], flags].concat();
        self.agent(&arguments)
    }

    /// Applies, which must succeed; the steps.
    fn applied(&self, text: &str) -> Vec<String> {
        steps(&self.apply(text, &["--json"]))
    }

    fn stored(&self) -> Vec<String> {
        self.files(STORE)
    }

    fn linked(&self, profile: &str) -> Vec<String> {
        self.files(&format!("{STORE}/{profile}"))
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.node.path(folder)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".raw")).collect();
        names.sort();
        names
    }
}

fn steps(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = facts["steps"].as_array().unwrap();
    let word = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    steps
        .iter()
        .map(|step| {
            format!(
                "{} {}{}",
                word(step, "do"),
                word(step, "name"),
                word(step, "file")
            )
        })
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const BOTH: &str = "\
[[sysext]]
name = \"k3s\"
version = \"1.0\"
source = \"DIR/k3s_{version}.sysext.raw\"

[[sysext]]
name = \"tool\"
source = \"DIR/tool.sysext.raw\"
profiles = [\"active\", \"passive\"]
";

fn with_both() -> Declared {
    let declared = Declared::new();
    declared.image("k3s", "k3s_1.0.sysext.raw", By::Example("db"));
    declared.image("tool", "tool.sysext.raw", By::Example("db"));
    declared
}

#[test]
fn what_is_missing_is_installed_and_enabled_and_a_second_run_has_nothing_to_do() {
    let declared = with_both();
    let steps = declared.applied(BOTH);
    assert_eq!(
        steps,
        [
            "install k3s",
            "install tool",
            "enable k3s_1.0.sysext.raw",
            "enable tool.sysext.raw",
            "enable tool.sysext.raw",
        ]
    );
    assert_eq!(declared.linked("common"), ["k3s_1.0.sysext.raw"]);
    assert_eq!(declared.linked("active"), ["tool.sysext.raw"]);
    assert_eq!(declared.linked("passive"), ["tool.sysext.raw"]);
    assert_eq!(declared.applied(BOTH), [""; 0]);
}

#[test]
fn another_version_takes_the_place_of_the_old_one_which_stays_for_a_rollback() {
    let declared = with_both();
    declared.applied(BOTH);
    declared.image("k3s", "k3s_1.1.sysext.raw", By::Example("db"));
    let steps = declared.applied(&BOTH.replace("\"1.0\"", "\"1.1\""));
    assert_eq!(steps, ["install k3s", "enable k3s_1.1.sysext.raw"]);
    assert_eq!(declared.linked("common"), ["k3s_1.1.sysext.raw"]);
    assert!(declared.stored().contains(&"k3s_1.0.sysext.raw".to_owned()));
}

#[test]
fn profiles_that_are_no_longer_named_lose_the_extension() {
    let declared = with_both();
    declared.applied(BOTH);
    let steps = declared.applied(&BOTH.replace("\"active\", \"passive\"", "\"passive\""));
    assert_eq!(steps, ["disable tool.sysext.raw"]);
    assert_eq!(declared.linked("active"), [""; 0]);
    assert_eq!(declared.linked("passive"), ["tool.sysext.raw"]);
}

#[test]
fn what_left_the_file_is_removed_but_nothing_that_was_installed_by_hand() {
    let declared = with_both();
    let by_hand = declared.image("hand", "hand.sysext.raw", By::Example("db"));
    let output = declared.agent(&["sysext", "install", by_hand.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    declared.applied(BOTH);
    let keep = format!("prune = false\n{}", BOTH.split("\n\n").next().unwrap());
    assert_eq!(declared.applied(&keep), [""; 0]);
    let steps = declared.applied(&keep.replace("false", "true"));
    assert_eq!(steps, ["remove tool.sysext.raw"]);
    assert_eq!(declared.stored(), ["hand.sysext.raw", "k3s_1.0.sysext.raw"]);
    assert_eq!(declared.linked("active"), [""; 0]);
}

#[test]
fn a_set_removes_nothing_that_another_set_brought() {
    let declared = with_both();
    declared.applied(BOTH);
    let other = "set = \"other\"\n[[sysext]]\nname = \"more\"\nsource = \"DIR/more.sysext.raw\"\n";
    declared.image("more", "more.sysext.raw", By::Example("db"));
    let steps = declared.applied(other);
    assert_eq!(steps, ["install more", "enable more.sysext.raw"]);
    assert_eq!(declared.stored().len(), 3);
    assert_eq!(declared.applied(BOTH), [""; 0]);
}

#[test]
fn what_somebody_installed_by_hand_is_enabled_but_never_removed() {
    let declared = with_both();
    let image = declared.images.path().join("tool.sysext.raw");
    let output = declared.agent(&["sysext", "install", image.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    // The same bytes from another place.
    let copy = declared.images.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(&image, copy.join("tool.sysext.raw")).unwrap();
    let entry = "[[sysext]]\nname = \"tool\"\nsource = \"DIR/copy/tool.sysext.raw\"\n";
    let steps = declared.applied(entry);
    assert_eq!(steps, ["install tool", "enable tool.sysext.raw"]);
    assert_eq!(declared.applied("prune = true\n"), [""; 0]);
    assert_eq!(declared.stored(), ["tool.sysext.raw"]);
}

#[test]
fn a_file_that_was_emptied_by_accident_is_refused() {
    let declared = with_both();
    declared.applied(BOTH);
    let output = declared.apply("", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("say `prune = true`"));
    assert_eq!(declared.stored().len(), 2);
    let steps = declared.applied("prune = true\n");
    assert_eq!(
        steps,
        ["remove k3s_1.0.sysext.raw", "remove tool.sysext.raw"]
    );
}

#[test]
fn what_is_enabled_and_not_merged_is_merged_now() {
    let declared = with_both();
    let entry = BOTH.split("\n\n").next().unwrap();
    declared.applied(entry);
    assert_eq!(
        steps(&declared.apply(entry, &["--now", "--dry-run", "--json"])),
        ["merge k3s_1.0.sysext.raw"]
    );
}

#[test]
fn one_that_cannot_be_installed_leaves_every_link_as_it_was() {
    let declared = with_both();
    declared.image("tool", "tool.sysext.raw", By::Example("ec"));
    let output = declared.apply(BOTH, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("tool cannot be installed"), "{said}");
    assert!(said.contains("nothing was enabled"), "{said}");
    assert_eq!(declared.linked("common"), [""; 0]);
    assert_eq!(declared.stored(), ["k3s_1.0.sysext.raw"]);
}

#[test]
fn a_source_with_another_extension_is_an_error() {
    let declared = Declared::new();
    declared.image("other", "other.sysext.raw", By::Example("db"));
    let entry = "[[sysext]]\nname = \"tool\"\nsource = \"DIR/other.sysext.raw\"\n";
    let output = declared.apply(entry, &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is not tool as the file declares it"),
        "{said}"
    );
    assert_eq!(declared.linked("common"), [""; 0]);
}

#[test]
fn an_unsigned_one_needs_permission_in_the_file() {
    let declared = Declared::new();
    declared.image("tool", "tool.sysext.raw", By::Nobody);
    let entry = "[[sysext]]\nname = \"tool\"\nsource = \"DIR/tool.sysext.raw\"\n";
    let output = declared.apply(entry, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    declared.applied(&format!("{entry}allow_unsigned = true\n"));
    assert_eq!(declared.linked("common"), ["tool.sysext.raw"]);
}

#[test]
fn a_wrong_digest_is_refused_and_the_right_one_taken() {
    let declared = Declared::new();
    let image = declared.image("tool", "tool.sysext.raw", By::Example("db"));
    let digest = sysgraft::digest::Digest::of(&fs::read(image).unwrap()).hex();
    let entry = "[[sysext]]\nname = \"tool\"\nsource = \"DIR/tool.sysext.raw\"\nsha256 = ";
    let wrong = format!("{entry}\"{}\"\n", "0".repeat(64));
    assert_eq!(declared.apply(&wrong, &[]).status.code(), Some(1));
    let right = format!("{entry}\"{digest}\"\n");
    declared.applied(&right);
    assert_eq!(declared.applied(&right), [""; 0]);
}

#[test]
fn a_dry_run_prints_the_plan_and_touches_nothing() {
    let declared = with_both();
    let output = declared.apply(BOTH, &["--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let plan = String::from_utf8(output.stdout).unwrap();
    assert!(
        plan.starts_with("would install sysext k3s 1.0 from "),
        "{plan}"
    );
    assert!(
        plan.contains("would enable sysext tool in passive"),
        "{plan}"
    );
    assert!(!declared.node.path("var").exists());
}

#[test]
fn a_version_is_there_only_if_the_image_says_so() {
    let declared = Declared::new();
    let path = declared.images.path().join("a.raw");
    Extension::sysext("a", &format!("{ANY}SYSEXT_VERSION_ID=1.30+k3s1\n"))
        .image(&path, By::Example("db"));
    let of = |version: &str| {
        format!("[[sysext]]\nname = \"a\"\nversion = \"{version}\"\nsource = \"DIR/a.raw\"\n")
    };
    let output = declared.apply(&of("1.31"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is version 1.30+k3s1"), "{said}");
    assert_eq!(declared.stored(), [""; 0]);
    assert_eq!(declared.applied(&of("v1.30_k3s1")).len(), 2);
    assert_eq!(declared.applied(&of("v1.30_k3s1")), [""; 0]);
}
