//! What can go wrong with mkfs.erofs as the packer: one clear error, exit code 1, and nothing left
//! behind, no process either.

#[path = "support/mkfs.rs"]
mod mkfs;
mod support;
#[path = "support/unmount.rs"]
mod unmount;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mkfs::{PACKER, can_mount, can_pack, passed_on};
use unmount::unmount;
use workplace::{Workplace, run, sysgraft, text};

/// A build that must fail with one error and leave nothing, and must not take long.
fn refused(workplace: &Workplace, arguments: &[&str], image: &Path) -> String {
    let started = Instant::now();
    let output = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args(arguments)
        .arg("x")
        .arg(format!("dir:{}", image.display()))
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(60));
    refusal(workplace, &output)
}

fn refusal(workplace: &Workplace, output: &Output) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(workplace.outputs(), [""; 0], "something was left: {stderr}");
    assert!(output.stdout.is_empty(), "errors belong on stderr");
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0].to_owned()
}

fn assert_names(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{error:?} does not name {word:?}");
    }
}

/// The `--packer` for a script that says it is of `version`, and else does what `body` says.
fn fake(workplace: &Workplace, version: &str, body: &str) -> String {
    let said = format!("mkfs.erofs (erofs-utils) {version}");
    let script = format!("if [ \"$1\" = --version ]; then echo \"{said}\"; exit; fi\n{body}");
    packer_script(workplace, &script)
}

/// The `--packer` for a script.
fn packer_script(workplace: &Workplace, script: &str) -> String {
    let path = workplace.path("fake-mkfs");
    // Never open for writing in a process that another test forks just now: text file busy.
    let draft = workplace.path("draft");
    fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    run(Command::new("install").arg("-m755").args([&draft, &path]));
    format!("mkfs.erofs={}", path.display())
}

#[test]
fn programs_that_cannot_be_trusted_are_refused_before_anything_is_read() {
    let workplace = Workplace::new();
    let nowhere = Path::new("/nowhere/image");
    let missing = refused(
        &workplace,
        &["--packer", "mkfs.erofs=/nowhere/mkfs"],
        nowhere,
    );
    assert_names(
        &missing,
        &["/nowhere/mkfs", "erofs-utils", "1.8.6", "--packer"],
    );
    let other = refused(&workplace, &["--packer", "mkfs.erofs=true"], nowhere);
    assert_names(&other, &["true is no mkfs.erofs"]);
    for (version, reason) in [
        ("1.5", "cannot read archives"),
        ("1.6", "cannot read archives"),
        ("1.7.1", "faults in reading archives"),
        ("1.8.5", "faults in reading archives"),
        ("1.8.7", "whiteouts"),
        ("1.8.8", "small files (fragments)"),
    ] {
        let fake = fake(&workplace, version, "exit 9");
        let error = refused(&workplace, &["--packer", &fake], nowhere);
        assert_names(&error, &["fake-mkfs", version, reason, "1.8.6 or newer"]);
    }
    // Asked for its version, Debian 12's says it only in its help, and fails.
    let old = packer_script(&workplace, "echo mkfs.erofs 1.5; echo usage; exit 1");
    let error = refused(&workplace, &["--packer", &old], nowhere);
    assert_names(&error, &["erofs-utils 1.5", "cannot read archives"]);
}

#[test]
fn options_that_lose_content_are_refused_before_anything_is_read() {
    let workplace = Workplace::new();
    let fake = fake(&workplace, "1.8.6", "exit 9");
    for options in [
        &["-Eall-fragments,ztailpacking"][..],
        &["-Eztailpacking", "-zlz4", "-Eall-fragments"],
        &["-Eall-fragments"],
        &["-Efragments,fragdedupe"],
    ] {
        let mut arguments = passed_on(options);
        arguments[1] = &fake;
        let error = refused(&workplace, &arguments, Path::new("/nowhere/image"));
        assert_names(&error, &["frag", "wrong content"]);
    }
    let mut arguments = passed_on(&["fragments"]);
    arguments[1] = &fake;
    let error = refused(&workplace, &arguments, Path::new("/nowhere/image"));
    assert_names(&error, &["\"fragments\"", "-Efragments"]);
}

#[test]
fn options_without_the_packer_are_wrong_usage() {
    for arguments in [
        &["--mkfs-option", "-zlzma"][..],
        &["--packer", "native", "--mkfs-option", "-zlzma"],
        &["--packer", "mkfs.ext4"],
        &["--packer", "mkfs.erofs="],
    ] {
        let output = sysgraft(["sysext"])
            .args(arguments)
            .args(["x", "dir:/nowhere"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("packer"), "{arguments:?}");
    }
}

/// A tree that no pipe holds.
fn large_tree(workplace: &Workplace) -> PathBuf {
    let root = workplace.small_tree();
    fs::write(root.join("usr/bin/large"), vec![7; 6 << 20]).unwrap();
    root
}

#[test]
fn a_failing_program_is_quoted() {
    let workplace = Workplace::new();
    let root = large_tree(&workplace);
    for (body, words) in [
        (
            "head -c 100000 >/dev/null; echo '<E> erofs: out of luck' >&2; exit 1",
            &["exit status: 1", "<E> erofs: out of luck"][..],
        ),
        (
            "cat >/dev/null; for i in 1 2 3 4; do echo $i >&2; done; exit 3",
            &["exit status: 3", "2; 3; 4"],
        ),
        (
            "cat >/dev/null; yes nonsense | head -c 2000000 >&2; exit 1",
            &["nonsense; nonsense"],
        ),
        (
            "cat >/dev/null; kill -9 $$",
            &["SIGKILL", "it said nothing"],
        ),
        ("exit 1", &["exit status: 1"]),
        ("exec <&-; sleep 0.3; echo late >&2; exit 1", &["late"]),
        (
            "exec <&-; exec sleep 600",
            &["could not be given all files"],
        ),
        ("head -c 100000 >/dev/null; exit 0", &["could not be given"]),
        (
            "cat >/dev/null; exit 0",
            &["reported success", "no file system"],
        ),
        (
            "cat >/dev/null; for last; do :; done; head -c 2000000 /dev/zero >$last",
            &["reported success", "there is no EROFS"],
        ),
        ("sleep 30 & cat >/dev/null; exit 1", &["exit status: 1"]),
    ] {
        let fake = fake(&workplace, "1.8.6", body);
        let error = refused(&workplace, &["--packer", &fake], &root);
        let named = ["x.sysext.raw", "fake-mkfs"];
        assert_names(&error, &[&named[..], words].concat());
    }
}

#[test]
fn a_file_system_that_is_another_one_is_refused() {
    const TEST: &str = "a_file_system_that_is_another_one_is_refused";
    if !can_pack(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    let error = refused(&workplace, &passed_on(&["-b512"]), &root);
    assert_names(&error, &["other blocks", "4096", "512"]);
    // Where all of the archive but its root goes lost.
    let body = "cat >/dev/null; exec mkfs.erofs \"$@\" <\"$0.tar\"";
    let fake = fake(&workplace, "1.8.6", body);
    let empty = workplace.path("empty");
    fs::create_dir(&empty).unwrap();
    run(Command::new("tar")
        .arg("-C")
        .arg(&empty)
        .arg("-cf")
        .arg(workplace.path("fake-mkfs.tar"))
        .arg("."));
    let error = refused(&workplace, &["--packer", &fake], &root);
    assert_names(&error, &["too few inodes", "7 are needed", "there are 1"]);
}

#[test]
fn what_archives_cannot_carry_is_refused_with_its_path() {
    const TEST: &str = "what_archives_cannot_carry_is_refused_with_its_path";
    if !can_pack(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    xattr::set(root.join("usr/bin/hello"), "user.a=b", b"c").unwrap();
    let error = refused(&workplace, &PACKER, &root);
    assert_names(&error, &["/usr/bin/hello", "user.a=b", "native"]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    const TEST: &str = "a_full_disk_leaves_nothing";
    if !can_pack(TEST) || !can_mount(TEST) {
        return;
    }
    // Enough for nothing, and enough for our copy of the content but not for mkfs.erofs' own, which
    // then stumbles over something else.
    for (megabytes, said) in [(4, "No space left"), (9, "mkfs.erofs failed")] {
        let workplace = Workplace::new();
        let root = workplace.small_tree();
        fs::write(root.join("usr/bin/large"), vec![7; 8 << 20]).unwrap();
        let size = format!("size={megabytes}m");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(workplace.out()));
        let output = sysgraft(["sysext", "--output"])
            .arg(workplace.out())
            .args(PACKER)
            .arg("x")
            .arg(format!("dir:{}", root.display()))
            .output();
        let used = Command::new("df")
            .arg("--output=used")
            .arg(workplace.out())
            .output();
        let left = workplace.outputs();
        unmount(&workplace.out());
        assert_eq!(left, [""; 0]);
        assert_names(
            &refusal(&workplace, &output.unwrap()),
            &[said, "x.sysext.raw"],
        );
        let used = text(&used.unwrap().stdout);
        assert_eq!(used.lines().nth(1).unwrap().trim(), "0");
    }
}

#[test]
fn a_killed_build_takes_the_program_along() {
    for (signal, hangs) in [
        ("TERM", "exec sleep 600"),
        ("INT", "cat >/dev/null; exec sleep 600"),
        ("KILL", "exec sleep 600"),
    ] {
        let workplace = Workplace::new();
        let root = large_tree(&workplace);
        let body = format!("echo $$ >\"$0.pid\"; {hangs}");
        let fake = fake(&workplace, "1.8.6", &body);
        let mut child = sysgraft(["sysext", "--output"])
            .arg(workplace.out())
            .args(["--packer", &fake, "x"])
            .arg(format!("dir:{}", root.display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let helper = wait_for(|| {
            let process = fs::read_to_string(workplace.path("fake-mkfs.pid")).ok()?;
            process.trim().parse::<u32>().ok()
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "it should wait");
        run(Command::new("kill")
            .args(["-s", signal])
            .arg(child.id().to_string()));
        let status = child.wait().unwrap();
        match signal {
            "TERM" => assert_eq!(status.code(), Some(143)),
            "INT" => assert_eq!(status.code(), Some(130)),
            _ => assert_eq!(status.code(), None),
        }
        assert_eq!(workplace.outputs(), [""; 0], "after SIG{signal}");
        wait_for(|| has_ended(helper).then_some(()));
    }
}

/// Whether a process is gone, or only its parent has not heard of it yet.
fn has_ended(process: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return true;
    };
    let state = status.rsplit(')').next().unwrap_or_default();
    state.trim_start().starts_with('Z')
}

fn wait_for<T>(mut find: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}
