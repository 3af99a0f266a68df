//! What sysgraft-agent does with the real systemd-sysext and systemd-confext, without dm-verity.

mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::skip;
use workplace::{Workplace, is_root};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/merge-for-real");
/// Where the acceptance lab lies beside the repository.
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/lab");

/// A naked EROFS image of an extension that only has its version.
fn image(workplace: &Workplace, kind: &str, name: &str, version: &str, id: &str, file: &Path) {
    let tree = workplace.path("tree");
    let (release, content) = match kind {
        "sysext" => ("usr/lib/extension-release.d", "usr/share/merged"),
        _ => ("etc/extension-release.d", "etc/merged"),
    };
    for folder in [release, content] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let release = tree.join(release).join(format!("extension-release.{name}"));
    fs::write(release, format!("ID={id}\n")).unwrap();
    fs::write(tree.join(content).join(name), format!("{version}\n")).unwrap();
    let made = Command::new("mkfs.erofs").arg(file).arg(&tree).output();
    assert!(made.unwrap().status.success(), "mkfs.erofs");
    fs::remove_dir_all(&tree).unwrap();
}

fn images(workplace: &Workplace, kind: &str) -> PathBuf {
    let folder = workplace.path("images");
    fs::create_dir_all(folder.join("foreign")).unwrap();
    let make = |name: &str, version: &str, id: &str, file: &str| {
        image(workplace, kind, name, version, id, &folder.join(file));
    };
    make("hello", "1", "_any", "hello_1.raw");
    make("hello", "2", "_any", "hello_2.raw");
    make("hello", "3", "another", "foreign/hello_3.raw");
    make("other", "1", "_any", "other.raw");
    fs::write(folder.join("bad.raw"), [0; 4096]).unwrap();
    folder
}

fn merges(test: &str, kind: &str, tree: &str) {
    if !is_root() {
        return skip(test, "merging needs root");
    }
    let workplace = Workplace::new();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", SCRIPT])
        .env("AGENT", env!("CARGO_BIN_EXE_sysgraft-agent"))
        .env("KIND", kind)
        .env("IMAGES", images(&workplace, kind))
        .env("TREE", tree)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_systemd_of_this_machine_merges_what_is_enabled() {
    let test = "the_systemd_of_this_machine";
    match Command::new("systemd-sysext").arg("--version").output() {
        Ok(_) => merges(test, "sysext", ""),
        Err(_) => skip(test, "there is no systemd-sysext"),
    }
}

/// The lab's tree has a later systemd than this machine.
fn merges_in_tree(test: &str, kind: &str) {
    let named = env::var("VMLAB").ok();
    if named.is_none() && !Path::new(LAB).exists() {
        eprintln!("left out: no acceptance lab beside the repository");
        return;
    }
    let lab = named.unwrap_or_else(|| "/var/tmp/vmlab".to_owned());
    let tree = format!("{lab}/tree");
    match Path::new(&tree).join("usr/bin/systemd-confext").exists() {
        true => merges(test, kind, &tree),
        false => skip(test, "the acceptance lab is not set up"),
    }
}

#[test]
fn a_later_systemd_merges_sysexts() {
    merges_in_tree("a_later_systemd_merges_sysexts", "sysext");
}

#[test]
fn a_later_systemd_merges_confexts() {
    merges_in_tree("a_later_systemd_merges_confexts", "confext");
}
