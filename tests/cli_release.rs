//! What the release file of a built extension says, what the file is called, and whether the programs
//! that read it, ours and systemd's, understand both.

mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Map, Value};
use support::skip;
use workplace::{RSA, Workplace, build, is_root, run, sysgraft, text};

const DEBIAN: &str = "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"13\"\n";

/// The fields of the release file in an image, as `sysgraft inspect` shows them.
fn fields(image: &Path) -> Map<String, Value> {
    let output = sysgraft(["inspect", "--json"]).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    facts["release"].as_object().unwrap().clone()
}

/// Builds `hello` from a small tree; the fields of its release file.
fn released(workplace: &Workplace, arguments: &[&str]) -> Map<String, Value> {
    let tree = format!("dir:{}", workplace.small_tree().display());
    build(workplace, &[arguments, &["hello", &tree]].concat());
    fields(&workplace.out().join("hello.sysext.raw"))
}

/// The same, when it must fail: with which code, and what is said.
fn refused(workplace: &Workplace, arguments: &[&str]) -> (Option<i32>, String) {
    let tree = format!("dir:{}", workplace.small_tree().display());
    let output = sysgraft(["sysext", "hello", &tree, "--output"])
        .arg(workplace.out())
        .args(arguments)
        .output()
        .unwrap();
    assert!(workplace.outputs().is_empty(), "{arguments:?}");
    (output.status.code(), text(&output.stderr))
}

fn verify(image: &Path, arguments: &[&str]) -> Output {
    let arguments = [
        &["verify", "--certificate", "keys-example/db.pem"],
        arguments,
    ]
    .concat();
    sysgraft(arguments).arg(image).output().unwrap()
}

#[test]
fn every_argument_has_its_field() {
    let workplace = Workplace::new();
    let plain = released(&workplace, &["--no-provenance"]);
    assert_eq!(plain.keys().collect::<Vec<_>>(), ["ARCHITECTURE", "ID"]);

    let all = released(
        &workplace,
        &[
            "--no-provenance",
            "--id=debian",
            "--version-id=13",
            "--level=2.0",
            "--scope=system,initrd",
            "--scope=system",
            "--restart-unit=a.service",
            "--restart-unit=b@1.service",
            "--restart-unit=a.service",
            "--reload-or-restart-unit=c.socket",
            "--set=SYSEXT_PRETTY_NAME=Hello, \"world\" $HOME",
        ],
    );
    for (key, value) in [
        ("ID", "debian"),
        ("VERSION_ID", "13"),
        ("SYSEXT_LEVEL", "2.0"),
        ("SYSEXT_SCOPE", "system initrd"),
        ("EXTENSION_RELOAD_MANAGER", "1"),
        ("EXTENSION_RESTART_UNITS", "a.service b@1.service"),
        ("EXTENSION_RELOAD_OR_RESTART_UNITS", "c.socket"),
        ("SYSEXT_PRETTY_NAME", "Hello, \"world\" $HOME"),
    ] {
        assert_eq!(all[key], value, "{key}");
    }
    assert_eq!(all.len(), 9);
}

#[test]
fn confexts_have_fields_of_their_own() {
    let workplace = Workplace::new();
    let root = workplace.path("etc-root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/site.conf"), "x").unwrap();
    let output = sysgraft(["confext", "--output"])
        .arg(workplace.out())
        .args(["--id=debian", "--level=1", "--scope=portable"])
        .args(["--reload-manager", "--extension-version=7", "site"])
        .arg(format!("dir:{}", root.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no CONFEXT_LEVEL will not merge"));
    let fields = fields(&workplace.out().join("site_7.confext.raw"));
    for (key, value) in [
        ("CONFEXT_LEVEL", "1"),
        ("CONFEXT_SCOPE", "portable"),
        ("CONFEXT_VERSION_ID", "7"),
        ("CONFEXT_IMAGE_VERSION", "7"),
        ("EXTENSION_RELOAD_MANAGER", "1"),
    ] {
        assert_eq!(fields[key], value, "{key}");
    }
}

#[test]
fn what_systemd_would_not_honour_is_refused_before_anything_is_made() {
    let workplace = Workplace::new();
    for (arguments, code, reason) in [
        (&["--id=Debian"][..], 2, "a-z, 0-9"),
        (&["--version-id=13"], 2, "--id"),
        (&["--id=debian", "--level=1 2"], 2, "a-z, 0-9"),
        (
            &["--id=_any", "--version-id=13"],
            2,
            "does not look at versions",
        ),
        (
            &["--id=debian", "--from-os-release=/etc/os-release"],
            2,
            "cannot be used with",
        ),
        (&["--scope=host"], 2, "system, initrd and portable"),
        (&["--restart-unit=hello"], 2, "hello.service"),
        (&["--restart-unit=a@.service"], 2, "template"),
        (
            &[
                "--restart-unit=a.service",
                "--reload-or-restart-unit=a.service",
            ],
            2,
            "only restart it",
        ),
        (&["--id=_any", "--level=1"], 2, "sysgraft sysext"),
        (
            &["--set=A=1", "--set=B=1", "--set=A=2"],
            2,
            "A is given twice",
        ),
        (&["--from-os-release=/dev/zero"], 1, "more than 1 MiB"),
        (&["--set=ID=x"], 2, "is set by --id"),
        (&["--set=SYSGRAFT_IMAGE=x"], 2, "sysgraft itself"),
        (&["--set=nothing"], 2, "KEY=VALUE"),
        (&["--extension-version=1_2"], 2, "architecture"),
        (&["--extension-version=1.0~rc1"], 2, "1.0-rc1"),
        (&["--extension-version=1.0+3-1"], 2, "attempts"),
        (&["--extension-version=../1"], 2, "character"),
    ] {
        let (found, said) = refused(&workplace, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn an_extension_made_for_a_host_is_fit_for_that_host_alone() {
    let workplace = Workplace::new();
    let host = workplace.path("os-release");
    let levelled = format!("{DEBIAN}SYSEXT_LEVEL=4\n");
    for (os_release, others) in [
        (DEBIAN, "ID=debian\nVERSION_ID=12\n"),
        (&levelled, "ID=debian\nVERSION_ID=13\nSYSEXT_LEVEL=5\n"),
        ("ID=arch\n", DEBIAN),
    ] {
        fs::write(&host, os_release).unwrap();
        let from = format!("--from-os-release={}", host.display());
        released(&workplace, &[&RSA[..], &[&from]].concat());
        let image = workplace.out().join("hello.sysext.raw");
        let fit = |os_release: &str| {
            fs::write(&host, os_release).unwrap();
            let arguments = ["--os-release", host.to_str().unwrap()];
            verify(&image, &arguments).status.success()
        };
        assert!(fit(os_release), "{os_release}");
        assert!(!fit(others), "{os_release} on {others}");
    }
    fs::write(&host, "VERSION_ID=13\n").unwrap();
    fs::remove_file(workplace.out().join("hello.sysext.raw")).unwrap();
    let (_, said) = refused(&workplace, &["--from-os-release", host.to_str().unwrap()]);
    assert!(said.contains("it has no ID"), "{said}");
}

#[test]
fn files_with_version_and_architecture_are_known_by_their_names() {
    let workplace = Workplace::new();
    let tree = format!("dir:{}", workplace.small_tree().display());
    let version = "--extension-version=1.29.2+k3s1";
    build(&workplace, &[&RSA[..], &[version, "hello", &tree]].concat());
    let image = workplace.out().join("hello_1.29.2+k3s1.sysext.raw");
    let found = fields(&image);
    assert_eq!(found["SYSEXT_VERSION_ID"], "1.29.2+k3s1");
    assert_eq!(found["SYSEXT_IMAGE_VERSION"], "1.29.2+k3s1");
    for name in [
        "hello_1.29.2+k3s1_x86-64.sysext.raw",
        "hello_x86-64.raw",
        "hello.raw",
    ] {
        let copy = workplace.path(name);
        fs::copy(&image, &copy).unwrap();
        let verdict = verify(&copy, &[]);
        assert!(
            verdict.status.success(),
            "{name}: {}",
            text(&verdict.stdout)
        );
    }
    let other = workplace.path("hallo_1.sysext.raw");
    fs::copy(&image, &other).unwrap();
    assert!(!verify(&other, &[]).status.success());

    let output = sysgraft(["sysext", version, "my_app", &tree])
        .output()
        .unwrap();
    assert!(
        text(&output.stderr).contains("my_app has a _"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn requests_for_signatures_of_versions_do_not_meet() {
    let workplace = Workplace::new();
    let tree = format!("dir:{}", workplace.small_tree().display());
    for version in ["--extension-version=1", "--extension-version=2"] {
        build(&workplace, &["--sign-later", version, "hello", &tree]);
    }
    assert_eq!(
        workplace.outputs(),
        [
            "hello_1.sign-request.json",
            "hello_1.sysext.raw",
            "hello_2.sign-request.json",
            "hello_2.sysext.raw"
        ]
    );
    let image = workplace.out().join("hello_1.sysext.raw");
    run(sysgraft(["sign"]).args(RSA).arg(&image));
    assert!(verify(&image, &[]).status.success());
}

#[test]
fn the_source_is_recorded_unless_that_is_not_wanted() {
    let workplace = Workplace::new();
    let archive = workplace.example("hello");
    let reference = format!("oci-archive:{}", archive.display());
    let image = workplace.out().join("hello.sysext.raw");
    build(&workplace, &["hello", &reference]);
    let first = fs::read(&image).unwrap();
    let found = fields(&image);
    assert_eq!(found["SYSGRAFT_VERSION"], env!("CARGO_PKG_VERSION"));
    assert_eq!(found["SYSGRAFT_IMAGE"], "oci-archive:hello.oci.tar");
    for (key, count) in [("SYSGRAFT_IMAGE_DIGEST", 1), ("SYSGRAFT_LAYERS", 1)] {
        let value = found[key].as_str().unwrap();
        let digests: Vec<_> = value
            .split(' ')
            .filter(|word| word.starts_with("sha256:"))
            .collect();
        assert_eq!(digests.len(), count, "{key}={value}");
    }
    let shown = text(&sysgraft(["inspect"]).arg(&image).output().unwrap().stdout);
    assert!(
        shown.contains("SYSGRAFT_IMAGE=oci-archive:hello.oci.tar"),
        "{shown}"
    );

    // The folder does not matter.
    let elsewhere = workplace.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(&archive, elsewhere.join("hello.oci.tar")).unwrap();
    let moved = format!("oci-archive:{}", elsewhere.join("hello.oci.tar").display());
    build(&workplace, &["hello", &moved]);
    assert!(fs::read(&image).unwrap() == first);

    build(&workplace, &["--no-provenance", "hello", &moved]);
    let keys = fields(&image);
    assert!(
        keys.keys().all(|key| !key.starts_with("SYSGRAFT")),
        "{keys:?}"
    );
}

#[test]
fn systemd_takes_an_extension_with_all_fields_for_one() {
    let test = "systemd_takes_an_extension_with_all_fields_for_one";
    if !is_root() {
        return skip(test, "systemd-dissect needs root for a loop device");
    }
    let workplace = Workplace::new();
    let host = Path::new("/usr/lib/os-release");
    if !host.exists() {
        return skip(test, "this machine has no os-release");
    }
    let image = format!("oci-archive:{}", workplace.example("hello").display());
    build(
        &workplace,
        &[
            &RSA[..],
            &[
                "--from-os-release=/usr/lib/os-release",
                "--scope=system,portable",
                "--restart-unit=hello.service",
                "--set=SYSEXT_PRETTY_NAME=Hello \"there\"",
                "hello",
                &image,
            ],
        ]
        .concat(),
    );
    // systemd before 255 does not take .sysext off the file's name.
    let renamed = workplace.path("hello.raw");
    fs::rename(workplace.out().join("hello.sysext.raw"), &renamed).unwrap();
    let output = Command::new("systemd-dissect")
        .arg("--json=short")
        .arg(&renamed)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let dissected: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(dissected["useSystemExtension"], true, "{dissected}");
    let fields =
        dissected["sysextRelease"].to_string() + &dissected["extensionRelease"].to_string();
    for field in ["SYSGRAFT_IMAGE", "Hello \\\"there\\\""] {
        assert!(fields.contains(field), "{field} is not in {dissected}");
    }
}

#[test]
fn a_host_that_no_flags_could_describe_is_refused() {
    let workplace = Workplace::new();
    let file = workplace.path("os-release");
    for (content, reason) in [
        ("ID=\"de bian\"\n", "ID \"de bian\" is no identifier"),
        ("ID=debian\nVERSION_ID=\"1\n3\"\n", "VERSION_ID \"1\\n3\""),
        ("ID=debian\nSYSEXT_LEVEL=1\0\n", "SYSEXT_LEVEL"),
        ("ID=_any\nVERSION_ID=13\n", "leave --from-os-release out"),
    ] {
        fs::write(&file, content).unwrap();
        let argument = format!("--from-os-release={}", file.display());
        let (code, said) = refused(&workplace, &[&argument]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn names_that_systemd_would_cut_elsewhere_are_wrong_usage() {
    let workplace = Workplace::new();
    let output = sysgraft(["sysext", "--extension-version=1", "a_b", "dir:/usr"])
        .current_dir(workplace.out())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn names_of_files_break_neither_the_release_file_nor_the_log() {
    let workplace = Workplace::new();
    let tree = workplace.path("tree\nID=evil\x1b[31m");
    fs::rename(workplace.small_tree(), &tree).unwrap();
    let output = build(&workplace, &["hello", &format!("dir:{}", tree.display())]);
    let fields = fields(&workplace.out().join("hello.sysext.raw"));
    assert_eq!(fields["ID"], "_any");
    assert_eq!(fields["SYSGRAFT_IMAGE"], "dir:tree\\nID=evil\\u{1b}[31m");
    let said = text(&output.stderr);
    assert!(
        !said.contains('\x1b') && !said.contains("\nID="),
        "{said:?}"
    );
}

#[test]
fn a_report_never_takes_the_place_of_what_is_made() {
    let workplace = Workplace::new();
    std::os::unix::fs::symlink(workplace.out(), workplace.path("again")).unwrap();
    let out = workplace.out();
    for (report, code, reason) in [
        (out.join("hello.sysext.raw"), 2, "another name"),
        (workplace.path("again/hello.sysext.raw"), 2, "another name"),
        (out.join("hello.sign-request.json"), 2, "another name"),
        (workplace.path("nowhere/report"), 1, "its folder"),
        (workplace.path("again"), 1, "no file"),
        ("/dev/null".into(), 1, "no file"),
    ] {
        let argument = format!("--report={}", report.display());
        let (found, said) = refused(&workplace, &[&argument]);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(!said.contains("Getting image info"), "{said}");
    }
}
