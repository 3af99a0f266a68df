//! Several layers of an image, and what is wanted of them, beside what the kernel's overlayfs and
//! umoci make of the same layers.

#[path = "support/mounted.rs"]
mod mounted;
#[path = "support/peak_memory.rs"]
mod peak_memory;
mod support;
#[path = "support/torture.rs"]
mod torture;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mounted::{Mounted, unmount};
use peak_memory::watch;
use serde_json::Value;
use support::skip;
use torture::{Item, What, archive, common_archive, stack, without_parents, write_layout};
use workplace::{Workplace, is_root, run, sysgraft, text};

/// What lies below `usr` in a tree: a line for each name, and the names that are one file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    entries: BTreeMap<String, String>,
    groups: BTreeSet<BTreeSet<String>>,
}

fn see(root: &Path) -> Seen {
    let mut entries = BTreeMap::new();
    let mut inodes: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut waiting = vec![root.join("usr")];
    while let Some(path) = waiting.pop() {
        // Whiteouts that hide nothing may still be listed.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            continue;
        }
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let what = if kind.is_dir() {
            let children = fs::read_dir(&path).unwrap();
            waiting.extend(children.map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            format!("{:02x?}", openssl::sha::sha256(&fs::read(&path).unwrap()))
        } else {
            format!("{kind:?} {}", metadata.rdev())
        };
        if !kind.is_dir() {
            inodes
                .entry(metadata.ino())
                .or_default()
                .insert(name.clone());
        }
        // Whether a symbolic link has permissions of its own is each file system's affair.
        let mode = if kind.is_symlink() {
            0
        } else {
            metadata.permissions().mode() & 0o7777
        };
        let note = match kind.is_symlink() {
            true => None,
            false => xattr::get(&path, "user.note").unwrap(),
        };
        // The judges leave the times of directories to chance in which something comes and goes.
        let mtime = match kind.is_dir() {
            true => String::new(),
            false => format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()),
        };
        let owner = format!("{}:{}", metadata.uid(), metadata.gid());
        entries.insert(name, format!("{what} {mode:o} {owner} {mtime} {note:?}"));
    }
    Seen {
        entries,
        groups: inodes
            .into_values()
            .filter(|names| names.len() > 1)
            .collect(),
    }
}

/// What is in an image, without what sysgraft itself puts there.
fn see_image(image: &Path, has_lib: bool) -> Seen {
    let mounted = Mounted::data_partition(image);
    let mut seen = see(mounted.path());
    seen.entries.retain(|path, _| {
        !path.starts_with("usr/lib/extension-release.d") && (has_lib || path != "usr/lib")
    });
    seen
}

/// The layers as overlayfs shows them, unpacked by GNU tar.
struct Overlay {
    folder: tempfile::TempDir,
}

impl Overlay {
    fn mount(archives: &[Vec<u8>]) -> Overlay {
        let folder = tempfile::tempdir().unwrap();
        for name in ["empty", "merged"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut lower = vec![folder.path().join("empty")];
        for (number, archive) in archives.iter().enumerate() {
            let layer = folder.path().join(number.to_string());
            fs::create_dir(&layer).unwrap();
            let file = folder.path().join(format!("{number}.tar"));
            fs::write(&file, archive).unwrap();
            run(Command::new("tar")
                .args([
                    "--xattrs",
                    "--xattrs-include=*",
                    "-p",
                    "--same-owner",
                    "--delay-directory-restore",
                    "--numeric-owner",
                    "-C",
                ])
                .arg(&layer)
                .arg("-xf")
                .arg(&file)
                .stderr(Stdio::null()));
            convert_whiteouts(&layer);
            lower.push(layer);
        }
        lower.reverse();
        let lower: Vec<String> = lower
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(format!("ro,lowerdir={}", lower.join(":")))
            .arg(folder.path().join("merged")));
        Overlay { folder }
    }

    fn see(&self) -> Seen {
        see(&self.folder.path().join("merged"))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        unmount(&self.folder.path().join("merged"));
    }
}

/// From the whiteouts of images to those of overlayfs; directories keep their times.
fn convert_whiteouts(folder: &Path) {
    let modified = fs::metadata(folder).unwrap().modified().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == ".wh..wh..opq" {
            fs::remove_file(&path).unwrap();
            xattr::set(folder, "trusted.overlay.opaque", b"y").unwrap();
        } else if let Some(hidden) = name.strip_prefix(".wh.") {
            fs::remove_file(&path).unwrap();
            run(Command::new("mknod")
                .arg(folder.join(hidden))
                .args(["c", "0", "0"]));
        } else if fs::symlink_metadata(&path).unwrap().is_dir() {
            convert_whiteouts(&path);
        }
    }
    let times = FileTimes::new().set_modified(modified);
    File::open(folder).unwrap().set_times(times).unwrap();
}

/// Makes an extension of the chosen layers; the error, if there is none.
fn extension(workplace: &Workplace, layout: &Path, arguments: &[&str]) -> Result<PathBuf, String> {
    let output = sysgraft(["sysext", "--compression", "none", "--output"])
        .arg(workplace.out())
        // Modes are random.
        .args(["--allow", "directory-locked"])
        .args(arguments)
        .arg("torture")
        .arg(format!("oci:{}:t", layout.display()))
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(workplace.out().join("torture.sysext.raw")),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn layers_are_merged_as_overlayfs_merges_them() {
    if !is_root() {
        return skip(
            "layers_are_merged_as_overlayfs_merges_them",
            "mounting needs root",
        );
    }
    for seed in 0..25 {
        let layers = stack(seed, 2 + seed as usize % 5);
        let archives: Vec<Vec<u8>> = layers.iter().map(|layer| archive(layer, seed)).collect();
        let workplace = Workplace::new();
        let layout = workplace.path("layout");
        write_layout(&layout, &archives, &[]);
        for (choice, archives) in [
            ("all", &archives[..]),
            ("2..", &archives[1..]),
            ("-2..", &archives[archives.len() - 2..]),
            ("..2", &archives[..2]),
            ("last", &archives[archives.len() - 1..]),
        ] {
            let expected = Overlay::mount(archives).see();
            let what = format!("seed {seed}, layers {choice}: {layers:#?}");
            match extension(&workplace, &layout, &["--layers", choice]) {
                Ok(image) => {
                    let has_lib = expected.entries.contains_key("usr/lib");
                    let seen = see_image(&image, has_lib);
                    assert_eq!(seen.entries, expected.entries, "{what}");
                    assert_eq!(seen.groups, expected.groups, "{what}");
                }
                Err(error) => {
                    assert!(error.contains("nothing under /usr"), "{error} {what}");
                    assert!(expected.entries.len() < 2, "{error} {what}");
                }
            }
        }
    }
}

#[test]
fn layers_are_merged_as_umoci_unpacks_them() {
    let test = "layers_are_merged_as_umoci_unpacks_them";
    if !is_root() {
        return skip(test, "devices and mounts need root");
    }
    if Command::new("umoci").arg("--version").output().is_err() {
        return skip(test, "there is no umoci");
    }
    for seed in 100..120 {
        let layers = match seed % 2 {
            0 => stack(seed, 4),
            _ => without_parents(stack(seed, 4)),
        };
        let archives: Vec<Vec<u8>> = layers
            .iter()
            .map(|layer| common_archive(layer, seed))
            .collect();
        let workplace = Workplace::new();
        let layout = workplace.path("layout");
        write_layout(&layout, &archives, &[]);
        let bundle = workplace.path("bundle");
        let unpacked = Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:t", layout.display()))
            .arg(&bundle)
            .output()
            .unwrap();
        let error = text(&unpacked.stderr);
        assert!(unpacked.status.success(), "{error} {layers:#?}");
        let expected = see(&bundle.join("rootfs"));
        let image = extension(&workplace, &layout, &["--layers", "all"]).unwrap();
        let seen = see_image(&image, true);
        assert_eq!(seen, expected, "seed {seed}: {layers:#?}");
    }
}

#[test]
fn layers_that_umoci_inserts_have_no_last_padding_and_are_read() {
    if Command::new("umoci").arg("--version").output().is_err() {
        let test = "layers_that_umoci_inserts_have_no_last_padding_and_are_read";
        return skip(test, "there is no umoci");
    }
    let workplace = Workplace::new();
    let layout = workplace.path("layout");
    write_layout(&layout, &[plain(&["usr/bin/a"])], &[]);
    fs::write(workplace.path("b"), "b\n").unwrap();
    run(Command::new("umoci")
        .args(["insert", "--rootless", "--image"])
        .arg(format!("{}:t", layout.display()))
        .arg(workplace.path("b"))
        .arg("/usr/bin/b"));
    let image = extension(&workplace, &layout, &["--layers", "all"]).unwrap();
    let output = sysgraft(["inspect", "--json"]).arg(image).output().unwrap();
    let listed = text(&output.stdout);
    assert!(
        listed.contains("/usr/bin/a") && listed.contains("/usr/bin/b"),
        "{listed}"
    );
}

/// A layer that GNU-tar-like headers describe: `path` or `path -> hard link target`.
fn plain(paths: &[&str]) -> Vec<u8> {
    let items: Vec<Item> = paths
        .iter()
        .map(|path| {
            let (path, what) = match path.split_once(" = ") {
                Some((path, target)) => (path, What::Hardlink(target.to_owned())),
                None => (*path, What::File(path.as_bytes().to_vec())),
            };
            Item {
                path: path.to_owned(),
                what,
                mode: 0o644,
                owner: 0,
                mtime: 1_700_000_000,
                xattr: None,
            }
        })
        .collect();
    archive(&items, 1)
}

/// A layout of three layers: programs, a changed program, and configuration only.
fn example(workplace: &Workplace) -> PathBuf {
    let layout = workplace.path("layout");
    let layers = [
        plain(&["usr/bin/a", "usr/bin/b", "etc/a.conf", "var/x"]),
        plain(&[
            "usr/bin/a",
            "usr/.wh.gone",
            "opt/tool/t",
            "usr/lib/linked = opt/tool/t",
        ]),
        plain(&["etc/b.conf"]),
    ];
    let long = format!("RUN make\u{1b}[31m {}", "x".repeat(200));
    write_layout(&layout, &layers, &["ADD rootfs", &long, "COPY b.conf /etc"]);
    layout
}

fn run_sysgraft(arguments: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let output = sysgraft(arguments).current_dir(folder).output().unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn layers_are_listed_with_their_commands_and_files() {
    let workplace = Workplace::new();
    example(&workplace);
    let root = workplace.path("");
    let (code, table, _) = run_sysgraft(&["layers", "oci:layout:t"], &root);
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "LAYER", "DIGEST", "SIZE", "/usr", "/opt", "/etc", "OTHER", "COMMAND"
        ]
    );
    assert_eq!(lines[1][4..], ["2", "0", "1", "1", "ADD", "rootfs"]);
    assert_eq!(lines[2][4..8], ["2", "1", "0", "0"]);
    assert_eq!(
        lines[3][4..],
        ["0", "0", "1", "0", "COPY", "b.conf", "/etc"]
    );
    assert!(!table.contains('\u{1b}') && table.contains("make\\u{1b}[31m"));
    let (_, json, _) = run_sysgraft(&["layers", "--json", "oci:layout:t"], &root);
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(facts["layers"][1]["files"]["usr"], 2);
    assert_eq!(facts["layers"][1]["files"]["whiteouts"], 1);
    assert_eq!(facts["layers"][2]["createdBy"], "COPY b.conf /etc");
    assert!(facts["layers"][1]["createdBy"].as_str().unwrap().len() > 200);
    let digest = facts["layers"][0]["diffId"].as_str().unwrap();
    assert!(lines[1][1].len() == 19 && digest.starts_with(lines[1][1]));
    let (_, table, _) = run_sysgraft(&["layers", "--no-files", "oci:layout:t"], &root);
    assert!(!table.contains("/opt"), "{table}");
}

#[test]
fn layers_can_be_chosen_in_every_way() {
    let workplace = Workplace::new();
    let layout = example(&workplace);
    let (_, json, _) = run_sysgraft(&["layers", "--json", "oci:layout:t"], &workplace.path(""));
    let facts: Value = serde_json::from_str(&json).unwrap();
    let digest = &facts["layers"][1]["digest"].as_str().unwrap()[..20];
    for (choice, files) in [
        ("all", 4),
        ("1", 3),
        (digest, 3),
        ("-3..1", 3),
        ("..2", 4),
        ("3,1", 3),
    ] {
        let report = workplace.path("report.json");
        let arguments = ["--layers", choice, "--report", report.to_str().unwrap()];
        extension(&workplace, &layout, &arguments).unwrap();
        let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        // With the release file.
        assert_eq!(report["kept"]["files"], files, "{choice}");
    }
    let error = extension(&workplace, &layout, &["--layers", "2..7"]).unwrap_err();
    assert!(
        error.contains("3 layers") && error.contains("no layer 7"),
        "{error}"
    );
    for arguments in [
        &["--layers", "x"][..],
        &["--layers", "1", "--base", "oci:layout:t"],
        &["--include", "["],
        &["--owner", "nobody:nogroup"],
        &["--dir-mode", "999"],
        &["--clamp-mtime", "yesterday"],
        &["--remap", "/etc"],
        &["--remap", "/etc=/var/etc"],
        &["--remap", "/opt=/usr/a", "--remap", "/opt=/usr/b"],
    ] {
        let output = sysgraft(["sysext", "x", "oci:layout:t"])
            .args(arguments)
            .current_dir(workplace.path(""))
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?} {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_base_leaves_its_layers_out() {
    let workplace = Workplace::new();
    let layout = example(&workplace);
    let base = workplace.path("base");
    write_layout(
        &base,
        &[plain(&["usr/bin/a", "usr/bin/b", "etc/a.conf", "var/x"])],
        &[],
    );
    let base = format!("oci:{}", base.display());
    let image = extension(&workplace, &layout, &["--base", &base]).unwrap();
    if is_root() {
        let names: Vec<String> = see_image(&image, true).entries.into_keys().collect();
        assert_eq!(
            names,
            ["usr", "usr/bin", "usr/bin/a", "usr/lib", "usr/lib/linked"]
        );
    }
    let other = workplace.path("other");
    write_layout(&other, &[plain(&["usr/bin/other"])], &[]);
    let error = extension(
        &workplace,
        &layout,
        &["--base", &format!("oci:{}", other.display())],
    )
    .unwrap_err();
    assert!(
        error.contains("not built on") && error.contains("part at layer 1"),
        "{error}"
    );
    assert_eq!(error.matches("sha256:").count(), 2, "{error}");
    let error = extension(&workplace, &layout, &["--base", "dir:/usr"]).unwrap_err();
    assert!(error.contains("no diff ids"), "{error}");
}

#[test]
fn an_error_of_nothing_to_keep_says_which_layers_have_something() {
    let workplace = Workplace::new();
    let layout = example(&workplace);
    let error = extension(&workplace, &layout, &[]).unwrap_err();
    for needle in [
        "looking into the other layers (2 of 3)",
        "nothing under /usr, only /etc (1 entry)",
        "layer 1 (2 files), layer 2 (2 files)",
        "--layers 1..2",
        "--layers all",
        "sysgraft confext",
    ] {
        assert!(error.contains(needle), "{needle}: {error}");
    }
    assert!(workplace.outputs().is_empty());
    let error = extension(&workplace, &layout, &["--exclude", "*", "--layers", "all"]).unwrap_err();
    assert!(error.contains("match an --exclude"), "{error}");
}

#[test]
fn a_link_into_what_is_left_out_has_its_content() {
    let workplace = Workplace::new();
    let layout = example(&workplace);
    let image = extension(&workplace, &layout, &["--layers", "2"]).unwrap();
    if is_root() {
        let mounted = Mounted::data_partition(&image);
        let content = fs::read_to_string(mounted.path().join("usr/lib/linked")).unwrap();
        assert_eq!(content, "opt/tool/t");
    }
    // What can be read only once is read only once.
    let mut child = sysgraft(["sysext", "x", "-", "--output"])
        .arg(workplace.out())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let archive = plain(&["opt/t", "usr/linked = opt/t"]);
    child.stdin.take().unwrap().write_all(&archive).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for needle in ["/usr/linked", "/opt/t", "use tar:FILE"] {
        assert!(error.contains(needle), "{error}");
    }
}

#[test]
fn the_report_accounts_for_every_path() {
    let workplace = Workplace::new();
    let layout = example(&workplace);
    let report = workplace.path("report.json");
    fs::write(&report, "old").unwrap();
    let output = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args([
            "--layers",
            "all",
            "--exclude",
            "/usr/bin/b",
            "--exclude",
            "*.none",
            "-v",
        ])
        .args([
            "--remap",
            "/opt/tool=/usr/lib/tool",
            "--remap",
            "/srv=/usr/srv",
            "--report",
        ])
        .arg(&report)
        .args(["torture", &format!("oci:{}", layout.display())])
        .output()
        .unwrap();
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    for needle in [
        "all of its 3 layers",
        "3: outside of what the extension may hold",
        "1: matches an --exclude",
        "1: deleted or replaced by a layer above",
        "dropped /var/x: outside",
        "warning: --exclude *.none had no effect",
        "warning: --remap /srv=… had no effect",
    ] {
        assert!(log.contains(needle), "{needle}: {log}");
    }
    let facts: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let paths = |cause: &str| facts["dropped"]["byCause"][cause]["paths"].clone();
    assert_eq!(paths("excluded"), serde_json::json!(["/usr/bin/b"]));
    assert_eq!(paths("shadowed"), serde_json::json!(["/usr/bin/a"]));
    assert_eq!(
        paths("outside"),
        serde_json::json!(["/etc/b.conf", "/etc/a.conf", "/var/x"])
    );
    assert_eq!(paths("whiteout"), serde_json::json!(["/usr/gone"]));
    assert_eq!(facts["dropped"]["total"], 6);
    assert_eq!(facts["dropped"]["unnamed"], 0);
    assert_eq!(facts["layers"].as_array().unwrap().len(), 3);
    assert_eq!(facts["layers"][0]["createdBy"], "ADD rootfs");
    assert_eq!(facts["unused"].as_array().unwrap().len(), 2);
    // usr/bin/a, both names of the tool, the release file.
    assert_eq!(facts["kept"]["files"], 4);
}

#[test]
fn owners_modes_and_times_are_as_asked_for() {
    let workplace = Workplace::new();
    let layout = example(&workplace);
    let arguments = [
        "--layers",
        "all",
        "--owner",
        "12:34",
        "--dir-mode",
        "0711",
        "--clamp-mtime",
        "2001-02-03",
    ];
    let image = extension(&workplace, &layout, &arguments).unwrap();
    if !is_root() {
        return skip(
            "owners_modes_and_times_are_as_asked_for",
            "mounting needs root",
        );
    }
    let mounted = Mounted::data_partition(&image);
    let seen = see(mounted.path());
    for (path, line) in &seen.entries {
        assert!(
            line.starts_with("directory") || line.contains(" 981158400.000000000 "),
            "{path} {line}"
        );
        assert!(
            line.contains(" 12:34 ") || path.ends_with("extension-release.torture"),
            "{path} {line}"
        );
        assert!(
            !line.starts_with("directory") || line.contains(" 711 "),
            "{path} {line}"
        );
    }
}

#[test]
fn many_layers_take_no_more_memory_than_few() {
    let workplace = Workplace::new();
    let layout = workplace.path("layout");
    let layers: Vec<Vec<u8>> = (0_u32..120)
        .map(|number| {
            let mut items: Vec<Item> = Vec::new();
            let mut add = |path: String, content: Vec<u8>| {
                items.push(Item {
                    path,
                    what: What::File(content),
                    mode: 0o644,
                    owner: 0,
                    mtime: 1,
                    xattr: None,
                });
            };
            let content =
                (0..2_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761 + number) >> 13) as u8);
            add(format!("usr/share/{number}"), content.collect());
            // The same names in every layer.
            for name in 0..500 {
                add(format!("usr/share/names/{name}"), Vec::new());
            }
            archive(&items, u64::from(number))
        })
        .collect();
    write_layout(&layout, &layers, &[]);
    drop(layers);
    let mut child = sysgraft([
        "sysext",
        "--jobs",
        "2",
        "--compression",
        "none",
        "--layers",
        "all",
        "--output",
    ])
    .arg(workplace.out())
    .arg("many")
    .arg(format!("oci:{}", layout.display()))
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    watch(&mut child, 128 << 20, || ());
}

#[test]
fn lint_says_which_layers_have_something_to_judge() {
    let workplace = Workplace::new();
    let layout = workplace.path("image");
    write_layout(&layout, &[plain(&["usr/bin/a"]), plain(&["var/x"])], &[]);
    let output = sysgraft(["lint", &format!("oci:{}", layout.display())])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--layers 1"), "{said}");
}
