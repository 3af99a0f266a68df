//! `sysgraft diff`: what it finds, and its exit codes.

#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use workplace::{EC, RSA, Workplace, build, sysgraft, text};

fn write(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Builds an image of `root` as NAME.raw in the workplace.
fn image(workplace: &Workplace, name: &str, root: &Path, arguments: &[&str]) -> PathBuf {
    let source = format!("dir:{}", root.display());
    build(workplace, &[arguments, &["sample", &source]].concat());
    let image = workplace.path(&format!("{name}.raw"));
    fs::rename(workplace.out().join("sample.sysext.raw"), &image).unwrap();
    image
}

fn diff(arguments: &[&str], a: &Path, b: &Path) -> Output {
    sysgraft(["diff"])
        .args(arguments)
        .args([a, b])
        .output()
        .unwrap()
}

fn json(a: &Path, b: &Path) -> Value {
    let output = diff(&["--json"], a, b);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn paths(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect()
}

/// A tree in which everything has its place, and the time 0.
fn tree(workplace: &Workplace) -> PathBuf {
    let root = workplace.path("root");
    write(&root, "usr/bin/same", &b"same ".repeat(30_000));
    write(&root, "usr/bin/edited", &b"abcd ".repeat(60_000));
    write(&root, "usr/bin/mode", b"mode");
    write(&root, "usr/lib/gone/deep/file", &[b'g'; 5000]);
    write(&root, "usr/lib/turns", b"a file");
    fs::hard_link(root.join("usr/bin/edited"), root.join("usr/bin/linked")).unwrap();
    symlink("same", root.join("usr/bin/link")).unwrap();
    root
}

fn change(root: &Path) {
    let mut edited = b"abcd ".repeat(60_000);
    edited[250_000] = b'X';
    fs::write(root.join("usr/bin/edited"), edited).unwrap();
    fs::set_permissions(
        root.join("usr/bin/mode"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    fs::remove_dir_all(root.join("usr/lib/gone")).unwrap();
    fs::remove_file(root.join("usr/lib/turns")).unwrap();
    write(root, "usr/lib/turns/into", b"a folder");
    write(root, "usr/share/new", &[b'n'; 3000]);
    fs::remove_file(root.join("usr/bin/link")).unwrap();
    symlink("mode", root.join("usr/bin/link")).unwrap();
}

#[test]
fn equal_images_have_exit_code_0() {
    let workplace = Workplace::new();
    let root = tree(&workplace);
    let a = image(&workplace, "a", &root, &RSA);
    let b = image(&workplace, "b", &root, &RSA);
    let output = diff(&[], &a, &b);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("are equal\n"));
    assert_eq!(json(&a, &b)["equal"], true);
}

#[test]
fn every_change_of_a_tree_is_found() {
    let workplace = Workplace::new();
    let root = tree(&workplace);
    let a = image(&workplace, "a", &root, &[]);
    change(&root);
    let b = image(&workplace, "b", &root, &[]);
    let difference = json(&a, &b);
    assert_eq!(difference["equal"], false);
    let files = &difference["files"];
    assert_eq!(
        paths(&files["added"]),
        ["/usr/lib/turns/into", "/usr/share", "/usr/share/new"]
    );
    assert_eq!(
        paths(&files["removed"]),
        [
            "/usr/lib/gone",
            "/usr/lib/gone/deep",
            "/usr/lib/gone/deep/file"
        ]
    );
    let changes = |path: &str| {
        let changed = files["changed"].as_array().unwrap();
        let file = changed.iter().find(|file| file["path"] == path)?;
        let aspects = file["changes"].as_array().unwrap().iter();
        let aspects = aspects.map(|aspect| aspect.as_str().unwrap());
        Some(
            aspects
                .filter(|&aspect| aspect != "time")
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(changes("/usr/bin/same"), None);
    assert_eq!(changes("/usr/bin/edited"), Some(vec!["content"]));
    assert_eq!(changes("/usr/bin/linked"), Some(vec!["content"]));
    assert_eq!(changes("/usr/bin/mode"), Some(vec!["mode"]));
    assert_eq!(changes("/usr/bin/link"), Some(vec!["target"]));
    assert_eq!(changes("/usr/lib/turns").unwrap()[0], "type");
    let folders = difference["folders"].as_array().unwrap();
    let gone = folders
        .iter()
        .find(|folder| folder["path"] == "/usr/lib/gone")
        .unwrap();
    assert_eq!((&gone["a"], &gone["b"]), (&5000.into(), &0.into()));

    let output = diff(&[], &a, &b);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    for line in [
        "  - /usr/lib/gone/  with 2 entries, 4.88 KiB",
        "  + /usr/share/  with 1 entry, 2.93 KiB",
        "mode 0644 → 4755",
        "target same → mode",
        "content, still 292.97 KiB",
        "regular file → directory",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test]
fn the_same_tree_stored_and_signed_in_another_way_is_told() {
    let workplace = Workplace::new();
    let root = tree(&workplace);
    let a = image(&workplace, "a", &root, &RSA);
    let zstd = [&EC[..], &["--compression", "zstd", "--service-reload"]].concat();
    let b = image(&workplace, "b", &root, &zstd);
    let difference = json(&a, &b);
    for list in ["added", "removed"] {
        assert!(paths(&difference["files"][list]).is_empty());
    }
    let changed = paths(&difference["files"]["changed"]);
    assert_eq!(
        changed,
        ["/usr/lib/extension-release.d/extension-release.sample"]
    );
    let field = |list: &str, name: &str| {
        let fields = difference[list].as_array().unwrap();
        let field = fields.iter().find(|field| field["name"] == name);
        field.map(|field| (field["a"].clone(), field["b"].clone()))
    };
    let (none, one) = (Value::Null, Value::from("1"));
    assert_eq!(
        field("release", "EXTENSION_RELOAD_MANAGER"),
        Some((none, one))
    );
    assert_eq!(
        field("image", "compression"),
        Some(("LZ4".into(), "Zstandard".into()))
    );
    assert!(field("image", "signer").is_some());
    assert!(field("image", "root hash").is_some());
    let partitions = difference["partitions"].as_array().unwrap();
    assert_eq!(partitions[0]["name"], "data");
    assert_ne!(partitions[0]["a"]["size"], partitions[0]["b"]["size"]);
}

#[test]
fn what_cannot_be_compared_has_exit_code_2() {
    let workplace = Workplace::new();
    let a = image(&workplace, "a", &workplace.small_tree(), &[]);
    let missing = diff(&[], &a, &workplace.path("missing.raw"));
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("missing.raw"));
    let none = workplace.path("none.raw");
    fs::write(&none, [0; 9000]).unwrap();
    assert_eq!(diff(&[], &none, &a).status.code(), Some(2));
    let usage = sysgraft(["diff"]).arg(&a).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
