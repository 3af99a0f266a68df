//! What those who come from AuroraBoot would trip over, each weakness once: a pipeline that only
//! swaps the program gets the right thing.
//!
//! `docs/from-auroraboot.md` names a test for every weakness; those that need engines, registries or
//! several layers are in the tests of these.

mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sysgraft::erofs::FileSystem;
use sysgraft::image::{Ddi, Role};
use workplace::{RSA, Workplace, build, is_root, sysgraft, text};

/// A layer, entry by entry.
struct Archive(tar::Builder<File>);

impl Archive {
    fn new(path: &Path) -> Archive {
        Archive(tar::Builder::new(File::create(path).unwrap()))
    }

    fn entry(&mut self, kind: tar::EntryType, name: &str, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        header
    }

    fn folder(mut self, name: &str) -> Archive {
        let header = self.entry(tar::EntryType::Directory, name, 0o755);
        self.put(header, b"");
        self
    }

    fn file(mut self, name: &str, content: &[u8]) -> Archive {
        let mut header = self.entry(tar::EntryType::Regular, name, 0o644);
        header.set_size(content.len() as u64);
        self.put(header, content);
        self
    }

    fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Archive {
        let mut header = self.entry(kind, name, 0o777);
        header.set_link_name_literal(target).unwrap();
        self.put(header, b"");
        self
    }

    fn put(&mut self, mut header: tar::Header, content: &[u8]) {
        header.set_cksum();
        self.0.append(&header, content).unwrap();
    }

    fn finish(self) {
        self.0.into_inner().unwrap();
    }
}

/// `tar:PATH` of the layer that `fill` makes.
fn layer(workplace: &Workplace, fill: impl FnOnce(Archive) -> Archive) -> String {
    let path = workplace.path("layer.tar");
    fill(Archive::new(&path)).finish();
    format!("tar:{}", path.display())
}

fn inspect(image: &Path) -> Value {
    let output = sysgraft(["inspect", "--json"]).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The files of an image as `inspect` lists them, by path, without those that every build adds.
fn files(image: &Path) -> BTreeMap<String, Value> {
    let facts = inspect(image);
    let files = facts["files"].as_array().unwrap().iter();
    files
        .map(|file| {
            let path = file["path"].as_str().unwrap().trim_start_matches('/');
            (path.to_owned(), file.clone())
        })
        .filter(|(path, _)| !path.is_empty() && !path.contains("extension-release.d"))
        .collect()
}

fn content(image: &Path, path: &str) -> String {
    let ddi = Ddi::open(image).unwrap();
    let data = ddi.open_partition(Role::Data).unwrap().unwrap();
    let file_system = FileSystem::open(data).unwrap();
    let inode = file_system.lookup(path.as_bytes()).unwrap().unwrap();
    let mut content = String::new();
    let mut reader = file_system.content(&inode).unwrap();
    reader.read_to_string(&mut content).unwrap();
    content
}

/// The one line with which a build fails.
fn refusal(workplace: &Workplace, arguments: &[&str]) -> String {
    let output = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    let [error] = errors[..] else {
        panic!("not one error: {said}");
    };
    assert_eq!(text(&output.stdout), "");
    assert_eq!(workplace.outputs(), [""; 0]);
    error.to_owned()
}

fn small_image(workplace: &Workplace) -> String {
    format!("dir:{}", workplace.small_tree().display())
}

fn hello(workplace: &Workplace) -> PathBuf {
    workplace.out().join("hello.sysext.raw")
}

#[test]
fn owners_modes_times_and_hard_links_are_the_layers_whatever_the_umask() {
    let workplace = Workplace::new();
    let image = layer(&workplace, |archive| {
        archive
            .folder("usr/")
            .folder("usr/bin/")
            .file("usr/bin/a", b"a\n")
            .link(tar::EntryType::Link, "usr/bin/b", "usr/bin/a")
    });
    let mut images = Vec::new();
    for umask in ["000", "077"] {
        let output = Command::new("sh")
            .args(["-c", "umask $0; exec \"$@\"", umask])
            .arg(env!("CARGO_BIN_EXE_sysgraft"))
            .args(["sysext", "hello", &image, "--output"])
            .arg(workplace.out())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        images.push(fs::read(hello(&workplace)).unwrap());
    }
    assert!(images[0] == images[1], "the umask shows");
    let files = files(&hello(&workplace));
    for name in ["usr/bin/a", "usr/bin/b"] {
        let file = &files[name];
        assert_eq!(
            (&file["uid"], &file["gid"]),
            (&7.into(), &8.into()),
            "{file}"
        );
        assert!(file["mode"].as_str().unwrap().ends_with("644"), "{file}");
        assert_eq!(content(&hello(&workplace), name), "a\n");
    }
}

#[test]
fn a_layer_without_entries_for_parents_is_built() {
    let workplace = Workplace::new();
    let image = layer(&workplace, |archive| {
        archive.file("usr/lib/deep/er/x", b"x")
    });
    build(&workplace, &["hello", &image]);
    let files = files(&hello(&workplace));
    for parent in ["usr", "usr/lib", "usr/lib/deep", "usr/lib/deep/er"] {
        let file = &files[parent];
        assert!(file["mode"].as_str().unwrap().ends_with("755"), "{file}");
        assert_eq!(file["uid"], 0);
    }
}

#[test]
fn a_shorter_second_entry_leaves_nothing_of_the_first() {
    let workplace = Workplace::new();
    let image = layer(&workplace, |archive| {
        archive
            .file("usr/share/x", b"a long first text")
            .file("usr/share/x", b"short")
    });
    build(&workplace, &["hello", &image]);
    assert_eq!(content(&hello(&workplace), "usr/share/x"), "short");
}

#[test]
fn a_link_is_never_written_through() {
    let workplace = Workplace::new();
    let victim = workplace.path("victim");
    fs::create_dir(&victim).unwrap();
    for target in [victim.to_str().unwrap(), "../../../../../../victim"] {
        let image = layer(&workplace, |archive| {
            archive
                .link(tar::EntryType::Symlink, "usr/evil", target)
                .file("usr/evil/owned", b"x")
        });
        let error = refusal(&workplace, &["hello", &image]);
        assert!(error.contains("usr/evil/owned"), "{error}");
        assert!(error.contains("no directory"), "{error}");
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn a_layer_that_is_empty_or_broken_is_one_sentence_and_no_panic() {
    let workplace = Workplace::new();
    let empty = layer(&workplace, |archive| archive);
    let error = refusal(&workplace, &["hello", &empty]);
    assert!(error.contains("empty") && error.contains("/usr"), "{error}");

    let broken = workplace.path("broken.tar");
    fs::write(&broken, vec![b'x'; 2048]).unwrap();
    let error = refusal(&workplace, &["hello", &format!("tar:{}", broken.display())]);
    assert!(
        error.contains("broken.tar") || error.contains("layer"),
        "{error}"
    );
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn folders_that_only_begin_like_usr_are_left_out_and_counted() {
    let workplace = Workplace::new();
    let image = layer(&workplace, |archive| {
        archive
            .file("usr/bin/x", b"x")
            .file("usrlocal/bin/y", b"y")
            .file("usr-foo", b"z")
            .file("srv/www/index.html", b"w")
    });
    let output = build(&workplace, &["hello", &image]);
    let said = text(&output.stderr);
    for dropped in ["/usrlocal (1)", "/usr-foo (1)", "/srv (1)"] {
        assert!(said.contains(dropped), "{dropped} in {said}");
    }
    let paths: Vec<String> = files(&hello(&workplace)).into_keys().collect();
    assert_eq!(paths, ["usr", "usr/bin", "usr/bin/x", "usr/lib"]);
}

#[test]
fn every_architecture_gets_its_own_name_and_partition_types() {
    let workplace = Workplace::new();
    let image = small_image(&workplace);
    let mut types = Vec::new();
    for (given, named) in [
        ("riscv64", "riscv64"),
        ("amd64", "x86-64"),
        ("arm64", "arm64"),
        ("aarch64", "arm64"),
    ] {
        build(&workplace, &["--arch", given, "hello", &image]);
        let facts = inspect(&hello(&workplace));
        assert_eq!(facts["release"]["ARCHITECTURE"], named);
        types.push(facts["partitions"][0]["type"].to_string());
    }
    assert_eq!(types[2], types[3]);
    types.dedup();
    assert_eq!(types.len(), 3, "{types:?}");
}

#[test]
fn without_a_platform_the_machines_own_is_meant() {
    let workplace = Workplace::new();
    build(&workplace, &["hello", &small_image(&workplace)]);
    let named = inspect(&hello(&workplace))["release"]["ARCHITECTURE"].to_string();
    let machine = Command::new("uname").arg("-m").output().unwrap().stdout;
    let machine: sysgraft::architecture::Architecture = text(&machine).trim().parse().unwrap();
    assert_eq!(named.trim_matches('"'), machine.systemd_name());
}

#[test]
fn a_second_run_replaces_the_first_with_the_same_bytes() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    let archive = format!("tar:{}", workplace.tar(&root).display());
    let arguments = [&RSA[..], &["hello", &archive]].concat();
    build(&workplace, &arguments);
    let first = fs::read(hello(&workplace)).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    build(&workplace, &arguments);
    assert!(first == fs::read(hello(&workplace)).unwrap());
    assert_eq!(workplace.outputs(), ["hello.sysext.raw"]);
}

#[test]
fn extensions_of_different_names_have_no_identifier_in_common() {
    let workplace = Workplace::new();
    let image = small_image(&workplace);
    let identifiers = |name: &str| {
        build(&workplace, &[&RSA[..], &[name, &image]].concat());
        let facts = inspect(&workplace.out().join(format!("{name}.sysext.raw")));
        let partitions = facts["partitions"].as_array().unwrap();
        assert_eq!(partitions.len(), 3);
        let uuids = partitions.iter().map(|partition| &partition["uuid"]);
        uuids
            .chain([&facts["diskGuid"], &facts["verity"]["salt"]])
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let (firmware, fwupd) = (identifiers("firmware"), identifiers("fwupd"));
    for identifier in &firmware {
        assert!(!fwupd.contains(identifier), "{identifier}");
    }
}

#[test]
fn content_is_compressed_unless_told_otherwise() {
    let workplace = Workplace::new();
    let text: String = (0..200_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    let image = layer(&workplace, |archive| {
        archive.file("usr/share/text", text.as_bytes())
    });
    let size = |arguments: &[&str]| {
        build(&workplace, &[arguments, &["hello", &image]].concat());
        fs::metadata(hello(&workplace)).unwrap().len()
    };
    let (compressed, plain) = (size(&[]), size(&["--compression", "none"]));
    assert!(compressed * 10 < plain * 7, "{compressed} of {plain}");
}

#[test]
fn nobody_builds_an_image_without_any_other_program() {
    if !is_root() {
        return support::skip(
            "nobody_builds_an_image_without_any_other_program",
            "only root can become nobody",
        );
    }
    let workplace = Workplace::new();
    let image = layer(&workplace, |archive| archive.file("usr/bin/x", b"x"));
    fs::set_permissions(workplace.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(workplace.out(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = workplace.path("sysgraft");
    fs::copy(env!("CARGO_BIN_EXE_sysgraft"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .args(["env", "-i", "PATH=/nowhere"])
        .arg(&program)
        .args(["sysext", "hello", &image, "--output"])
        .arg(workplace.out())
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(files(&hello(&workplace))["usr/bin/x"]["uid"], 7);
}

#[test]
fn flags_count_wherever_they_stand() {
    let workplace = Workplace::new();
    let image = small_image(&workplace);
    let output = sysgraft(["sysext", "hello", &image, "--output"])
        .arg(workplace.out())
        .args(RSA)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(inspect(&hello(&workplace))["signature"]["valid"], true);
}

#[test]
fn release_files_and_os_release_of_the_layer_stay_out_with_a_warning() {
    let workplace = Workplace::new();
    let folder = "usr/lib/extension-release.d";
    let image = layer(&workplace, |archive| {
        archive
            .file("usr/bin/x", b"x")
            .file("usr/lib/os-release", b"ID=other\n")
            .file(
                &format!("{folder}/extension-release.k3s-VERSION"),
                b"ID=_any\n",
            )
    });
    let output = build(&workplace, &["hello", &image]);
    let said = text(&output.stderr);
    for warned in ["usr/lib/os-release", "extension-release.k3s-VERSION"] {
        let warning = said.lines().find(|line| line.contains(warned));
        assert!(
            warning.is_some_and(|line| line.contains("warning")),
            "{said}"
        );
    }
    let facts = inspect(&hello(&workplace));
    let listed = facts["files"].as_array().unwrap().iter();
    let listed: Vec<&str> = listed.map(|file| file["path"].as_str().unwrap()).collect();
    assert!(!listed.iter().any(|path| path.ends_with("os-release")));
    let mut releases = listed
        .iter()
        .filter(|path| path.contains("extension-release.d/"));
    let own = "/usr/lib/extension-release.d/extension-release.hello";
    assert_eq!(releases.next(), Some(&own));
    assert_eq!(releases.next(), None);
}

#[test]
fn every_weakness_has_a_test_that_is_there() {
    let document = fs::read_to_string("docs/from-auroraboot.md").unwrap();
    let mut numbers = Vec::new();
    for row in document.lines().filter(|line| line.starts_with("| B")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, number, weakness, answer, tests, _] = cells[..] else {
            panic!("not four columns: {row}");
        };
        assert!(!weakness.is_empty() && !answer.is_empty(), "{row}");
        numbers.push(number[1..].parse::<u32>().unwrap());
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}"));
            let source = ["tests", "src"]
                .iter()
                .find_map(|folder| fs::read_to_string(format!("{folder}/{file}.rs")).ok())
                .unwrap_or_else(|| panic!("{file}: no such file"));
            assert!(
                source.contains(&format!("fn {name}(")),
                "{test}: no such test"
            );
        }
    }
    assert_eq!(numbers, (1..=33).collect::<Vec<_>>());
}
