//! `sysgraft lint`, and lint in builds, with real programs, a real host and images of systemd-repart.

mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use workplace::{Workplace, run, sysgraft, text};

/// The codes that lint finds.
fn codes(output: &Output) -> BTreeSet<String> {
    findings(output)
        .iter()
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

fn findings(output: &Output) -> Vec<Value> {
    let facts: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    facts["findings"].as_array().unwrap().clone()
}

fn lint(arguments: &[&str], target: &Path) -> Output {
    sysgraft(["lint", "--json", "--allow", "foreign-owner"])
        .args(arguments)
        .arg(target)
        .output()
        .unwrap()
}

fn write(root: &Path, path: &str, mode: u32, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A program in `root` that calls `answer` of a library, version `ANSWER_2` of it, which is in `host`.
fn compile(workplace: &Workplace, root: &Path, host: &Path) {
    for folder in [root.join("usr/bin"), host.join("usr/lib")] {
        fs::create_dir_all(folder).unwrap();
    }
    write(
        &workplace.path(""),
        "answer.c",
        0o644,
        "int answer(void) { return 42; }\n",
    );
    write(
        &workplace.path(""),
        "main.c",
        0o644,
        "int answer(void);\nint main(void) { return answer(); }\n",
    );
    library(
        workplace,
        &host.join("usr/lib/libanswer.so.1"),
        "ANSWER_1 {}; ANSWER_2 { answer; } ANSWER_1;",
    );
    run(Command::new("gcc")
        .arg("-o")
        .arg(root.join("usr/bin/ask"))
        .arg(workplace.path("main.c"))
        .arg(host.join("usr/lib/libanswer.so.1")));
}

fn library(workplace: &Workplace, path: &Path, versions: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(&workplace.path(""), "answer.map", 0o644, versions);
    run(Command::new("gcc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libanswer.so.1", "-o"])
        .arg(path)
        .arg(format!(
            "-Wl,--version-script={}",
            workplace.path("answer.map").display()
        ))
        .arg(workplace.path("answer.c")));
}

/// The libraries and the loader of this machine, as far as the C library has them.
fn add_libc(host: &Path) {
    let loader = fs::canonicalize("/lib64/ld-linux-x86-64.so.2").unwrap();
    let libc = loader.with_file_name("libc.so.6");
    fs::create_dir_all(host.join("usr/lib64")).unwrap();
    fs::copy(loader, host.join("usr/lib64/ld-linux-x86-64.so.2")).unwrap();
    fs::copy(libc, host.join("usr/lib64/libc.so.6")).unwrap();
    symlink("usr/lib64", host.join("lib64")).unwrap();
}

#[test]
fn real_programs_are_judged_beside_real_libraries() {
    if !cfg!(target_arch = "x86_64") {
        return support::skip("real_programs", "the loader has another name here");
    }
    let workplace = Workplace::new();
    let (root, host) = (workplace.path("root"), workplace.path("host"));
    compile(&workplace, &root, &host);
    let host_root = format!("--host-root={}", host.display());
    let beside = || codes(&lint(&[&host_root], &root));

    let alone = lint(&[], &root);
    let messages: Vec<String> = findings(&alone)
        .iter()
        .map(|finding| finding["message"].to_string())
        .collect();
    assert_eq!(codes(&alone), BTreeSet::from(["host-needed".to_owned()]));
    assert!(
        messages
            .iter()
            .any(|message| message.contains("libanswer.so.1") && message.contains("ANSWER_2")),
        "{messages:?}"
    );

    // The host has the library, but neither loader nor C library.
    let expected = ["missing-interpreter", "missing-library"].map(str::to_owned);
    assert_eq!(beside(), BTreeSet::from(expected));
    add_libc(&host);
    assert_eq!(beside(), BTreeSet::new());

    let theirs = host.join("usr/lib/libanswer.so.1");
    library(&workplace, &theirs, "ANSWER_1 { answer; };");
    assert_eq!(beside(), BTreeSet::from(["symbol-version".to_owned()]));
    fs::remove_file(&theirs).unwrap();
    assert_eq!(beside(), BTreeSet::from(["missing-library".to_owned()]));

    // In a folder of its own only a search path finds it.
    let own = root.join("usr/lib/ask/libanswer.so.1");
    library(
        &workplace,
        &own,
        "ANSWER_1 {}; ANSWER_2 { answer; } ANSWER_1;",
    );
    assert_eq!(beside(), BTreeSet::from(["missing-library".to_owned()]));
    for search in [
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib/ask",
        "-Wl,--disable-new-dtags,-rpath,/usr/lib/ask",
    ] {
        run(Command::new("gcc")
            .arg(search)
            .arg("-o")
            .arg(root.join("usr/bin/ask"))
            .arg(workplace.path("main.c"))
            .arg(&own));
        assert_eq!(beside(), BTreeSet::new(), "{search}");
    }
    // Or the configuration of the host's loader.
    compile(&workplace, &root, &workplace.path("elsewhere"));
    write(
        &host,
        "etc/ld.so.conf.d/ask.conf",
        0o644,
        "# ask\n/usr/lib/ask\n",
    );
    assert_eq!(beside(), BTreeSet::new());
}

#[test]
fn a_program_of_this_machine_runs_on_it() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    compile(&workplace, &root, &root);
    // Not below the names of the host.
    fs::create_dir_all(root.join("usr/lib/of-a-test")).unwrap();
    let output = lint(&["--host-root", "/"], &root);
    let missing: Vec<Value> = findings(&output)
        .into_iter()
        .filter(|finding| finding["code"].as_str().unwrap().starts_with("missing"))
        .collect();
    assert_eq!(missing, Vec::<Value>::new());
    let env = fs::read("/usr/bin/env").unwrap();
    write(&root, "usr/bin/env", 0o755, env);
    assert!(codes(&lint(&["--host-root", "/"], &root)).contains("repeated-file"));
    write(&root, "usr/bin/env", 0o755, "#!/bin/sh\n");
    assert!(codes(&lint(&["--host-root", "/"], &root)).contains("overwritten-file"));
}

/// The way of flatcar/sysext-bakery#131.
fn keepalived(workplace: &Workplace) -> (PathBuf, PathBuf) {
    let (root, host) = (workplace.path("root"), workplace.path("host"));
    write(&root, "usr/sbin/keepalived", 0o755, "#!/bin/sh\n");
    write(&host, "usr/bin/mount", 0o755, "");
    symlink("bin", host.join("usr/sbin")).unwrap();
    (root, host)
}

#[test]
fn a_build_fails_on_errors_and_leaves_nothing_behind() {
    let workplace = Workplace::new();
    let (root, host) = keepalived(&workplace);
    let archive = format!("tar:{}", workplace.tar(&root).display());
    let attempt = |arguments: &[&str]| {
        sysgraft(["sysext", "--allow", "foreign-owner", "--output"])
            .arg(workplace.out())
            .args(arguments)
            .args(["keepalived", &archive])
            .output()
            .unwrap()
    };
    let host_root = host.to_str().unwrap();
    for (arguments, code) in [
        (&["--host-root", host_root][..], "link-conflict"),
        (&["--strict"][..], "merged-usr-directory"),
    ] {
        let output = attempt(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(workplace.outputs(), Vec::<String>::new());
        assert!(
            text(&output.stderr).contains(&format!("{code}: /usr/sbin")),
            "{}",
            text(&output.stderr)
        );
        assert!(
            text(&output.stderr).contains("--allow"),
            "{}",
            text(&output.stderr)
        );
        let output = attempt(&[arguments, &["--allow", code]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(workplace.outputs(), ["keepalived.sysext.raw"]);
        fs::remove_file(workplace.out().join("keepalived.sysext.raw")).unwrap();
    }
    // Without a host it may be right.
    let output = attempt(&["--json"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("warning: merged-usr-directory: /usr/sbin"));
    assert_eq!(
        codes(&output),
        BTreeSet::from(["merged-usr-directory".to_owned()])
    );

    let image = workplace.out().join("keepalived.sysext.raw");
    assert_eq!(lint(&[], &image).status.code(), Some(0));
    assert_eq!(lint(&["--strict"], &image).status.code(), Some(1));
    let passed_over = lint(
        &["--strict", "--allow=usr-local,merged-usr-directory"],
        &image,
    );
    assert_eq!(passed_over.status.code(), Some(0));
    assert_eq!(codes(&passed_over), BTreeSet::new());
    let beside = lint(&["--host-root", host_root], &image);
    assert_eq!(beside.status.code(), Some(1));
    assert_eq!(codes(&beside), BTreeSet::from(["link-conflict".to_owned()]));
}

#[test]
fn a_container_image_is_judged_and_taken_for_a_base() {
    let workplace = Workplace::new();
    let (root, host) = keepalived(&workplace);
    let target = format!("dir:{}", root.display());
    let base = format!("--base=dir:{}", host.display());
    assert_eq!(
        codes(&lint(&[], Path::new(&target))),
        BTreeSet::from(["merged-usr-directory".to_owned()])
    );
    let output = lint(&[&base], Path::new(&target));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(codes(&output), BTreeSet::from(["link-conflict".to_owned()]));
}

#[test]
fn nothing_is_said_of_a_harmless_build() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    write(
        &workplace.path(""),
        "tool.c",
        0o644,
        "int main(void) { return 0; }\n",
    );
    run(Command::new("gcc")
        .args(["-static", "-o"])
        .arg(root.join("usr/bin/tool"))
        .arg(workplace.path("tool.c")));
    let unit = "[Service]\nExecStart=/usr/bin/tool\n[Install]\nWantedBy=multi-user.target\n";
    write(&root, "usr/lib/systemd/system/tool.service", 0o644, unit);
    let drop_in = "usr/lib/systemd/system/multi-user.target.d/10-tool.conf";
    write(&root, drop_in, 0o644, "[Unit]\nUpholds=tool.service\n");
    let archive = format!("tar:{}", workplace.tar(&root).display());
    for packer in [&["--compression", "none"][..], &["--compression", "zstd"]] {
        let output = sysgraft([
            "sysext",
            "--json",
            "--strict",
            "--allow=foreign-owner",
            "--service-reload",
            "--output",
        ])
        .arg(workplace.out())
        .args(packer)
        .args(["tool", &archive])
        .output()
        .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(codes(&output), BTreeSet::new());
        let output = lint(&["--strict"], &workplace.out().join("tool.sysext.raw"));
        assert_eq!(codes(&output), BTreeSet::new());
    }
    // But of the same without --service-reload.
    let output = sysgraft(["sysext", "--json", "--output"])
        .arg(workplace.out())
        .args(["tool", &archive])
        .output()
        .unwrap();
    assert!(codes(&output).contains("reload-missing"));
}

#[test]
fn images_of_systemd_repart_are_judged() {
    let workplace = Workplace::new();
    for (name, kind) in [
        ("small-rsa.sysext.raw", "sysext"),
        ("conf-rsa.confext.raw", "confext"),
    ] {
        // What stands in its release file.
        let image = workplace.path(&name.replace("-rsa", ""));
        run(Command::new("zstd")
            .args(["-dq", "-o"])
            .arg(&image)
            .arg(format!("tests/golden/{name}.zst")));
        let output = lint(&[], &image);
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(facts["kind"], kind);
        assert_eq!(facts["errors"], 0, "{facts:#}");
    }
}

#[test]
fn hostile_folders_lead_nowhere() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    write(
        &workplace.path("secret"),
        "usr/bin/key.pem",
        0o600,
        "-----BEGIN PRIVATE KEY-----\n",
    );
    fs::create_dir_all(&root).unwrap();
    symlink(workplace.path("secret/usr"), root.join("usr")).unwrap();
    symlink("/etc/shadow", root.join("opt")).unwrap();
    let output = lint(&[], &root);
    let found = codes(&output);
    assert!(found.contains("core-directory-replaced"), "{found:?}");
    assert!(!found.contains("private-key"), "{found:?}");
    write(&root, "broken.raw", 0o644, "EFI PART");
    let output = lint(&[], &root.join("broken.raw"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_damaged_program_in_a_folder_is_told_beside_the_others() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    let mut program = vec![0; 64];
    program[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (program[16], program[18], program[20]) = (2, 62, 1);
    (program[52], program[54], program[56]) = (64, 56, 1);
    // Its segments lie where no file can have them.
    program[32..40].copy_from_slice(&(1u64 << 63).to_le_bytes());
    write(&root, "usr/bin/damaged", 0o755, program);
    write(&root, "usr/local/x", 0o644, "");
    let expected = ["unreadable-content", "usr-local"].map(str::to_owned);
    assert_eq!(codes(&lint(&[], &root)), BTreeSet::from(expected));
}

#[test]
fn a_link_in_the_place_of_usr_is_an_error_beside_a_host_too() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    fs::create_dir(&root).unwrap();
    symlink("/somewhere", root.join("usr")).unwrap();
    for arguments in [&[][..], &["--host-root", "/"]] {
        assert_eq!(
            lint(arguments, &root).status.code(),
            Some(1),
            "{arguments:?}"
        );
    }
}

#[test]
fn what_a_normal_user_may_not_read_is_told() {
    let test = "what_a_normal_user_may_not_read_is_told";
    if !rustix::process::geteuid().is_root() {
        return support::skip(test, "only root can make files of others");
    }
    let workplace = Workplace::new();
    let (root, host) = (workplace.path("root"), workplace.path("host"));
    let program = workplace.path("sysgraft");
    fs::copy(env!("CARGO_BIN_EXE_sysgraft"), &program).unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(&root, "usr/share/closed/x", 0o644, "");
    write(&root, "usr/share/polkit-1/rules.d/x.rules", 0o644, "");
    symlink("/srv/x", root.join("usr/share/link")).unwrap();
    write(&host, "usr/share/polkit-1/rules.d/y.rules", 0o644, "");
    write(&host, "srv/x", 0o644, "");
    mode(&workplace.path(""), 0o755);
    mode(&root.join("usr/share/closed"), 0o700);
    mode(&host, 0o711);
    for closed in ["usr/share/polkit-1/rules.d", "srv"] {
        mode(&host.join(closed), 0o700);
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["lint", "--json", "--host-root"])
        .args([&host, &root])
        .output()
        .unwrap();
    let unreadable: BTreeSet<String> = findings(&output)
        .iter()
        .filter(|finding| finding["code"] == "unreadable-content")
        .map(|finding| finding["path"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "/srv/x",
        "/usr/share/closed",
        "/usr/share/polkit-1/rules.d/x.rules",
    ];
    assert_eq!(unreadable, BTreeSet::from(expected.map(str::to_owned)));
    assert!(!codes(&output).contains("dangling-link"));
}

#[test]
fn a_renamed_image_is_an_error() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    write(&root, "usr/share/tool/data", 0o644, "data");
    let archive = format!("tar:{}", workplace.tar(&root).display());
    run(sysgraft(["sysext", "--allow=foreign-owner", "--output"])
        .arg(workplace.out())
        .args(["tool", &archive]));
    let [built, renamed, versioned] =
        ["tool.sysext.raw", "renamed.raw", "tool_1.raw"].map(|name| workplace.out().join(name));
    assert!(lint(&[], &built).status.success());
    fs::copy(&built, &renamed).unwrap();
    fs::rename(&built, &versioned).unwrap();
    let found = lint(&[], &renamed);
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(codes(&found), BTreeSet::from(["release-name".to_owned()]));
    assert!(lint(&[], &versioned).status.success());
}

#[test]
fn wrong_usage_is_told_apart_and_codes_are_explained() {
    for arguments in [
        &["lint"][..],
        &["lint", "--allow", "no-such-code", "."],
        &["lint", "--explain", "no-such-code"],
        &["lint", "--host-root", "/", "--base", "dir:/", "."],
    ] {
        let output = sysgraft(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let one = sysgraft(["lint", "--explain", "link-conflict"])
        .output()
        .unwrap();
    assert!(text(&one.stdout).contains("flatcar/sysext-bakery#131"));
    let all = sysgraft(["lint", "--explain", "all"]).output().unwrap();
    assert!(
        text(&all.stdout)
            .lines()
            .filter(|line| line.starts_with("  mend"))
            .count()
            > 40
    );
    assert!(one.status.success() && all.status.success());
}
