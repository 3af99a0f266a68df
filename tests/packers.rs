//! mkfs.erofs as the packer: the same tree as the native packer's, through the kernel; and what can
//! go wrong with a helper program.

#[path = "support/mounted.rs"]
mod mounted;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mounted::{Mounted, entries, make_varied_tree};
use support::skip;
use sysgraft::erofs::mkfs::MkfsProgram;
use workplace::{RSA, Workplace, build, is_root, run, sysgraft, text};

const PACKER: [&str; 2] = ["--packer", "mkfs.erofs"];

/// What people use mkfs.erofs for, as options for it.
const OPTIONS: [&[&str]; 10] = [
    &[],
    &["-zlz4hc"],
    &["-zlz4hc,9", "-C65536", "-Efragments"],
    &["-zlz4", "-Ededupe"],
    &["-zlzma"],
    &["-zlzma,level=9", "-C1048576", "-Efragments,dedupe"],
    &["-zdeflate"],
    &["-zzstd", "-C65536", "-Efragments,ztailpacking"],
    &["-zzstd,3", "-C131072", "--max-extent-bytes=131073"],
    &["--workers=1", "-x1"],
];

/// Whether `PATH` has an mkfs.erofs that is new enough; a skipped test if not.
fn can_pack(test: &str) -> bool {
    match MkfsProgram::find(Path::new("mkfs.erofs"), Vec::new()) {
        Ok(_) => true,
        Err(error) => {
            skip(test, &error.to_string());
            false
        }
    }
}

fn can_mount(test: &str) -> bool {
    if !is_root() {
        skip(test, "mounting needs root");
    }
    is_root()
}

/// The arguments that pass `options` on.
fn passed_on<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let options = options.iter().flat_map(|option| ["--mkfs-option", option]);
    PACKER.into_iter().chain(options).collect()
}

/// What the kernel shows of the image that a build makes.
fn tree_of(workplace: &Workplace, arguments: &[&str]) -> Vec<(String, String)> {
    build(workplace, arguments);
    let mounted = Mounted::data_partition(&workplace.out().join("x.sysext.raw"));
    let mut entries: Vec<_> = entries(mounted.path()).into_iter().collect();
    // `entries` leaves out the root itself.
    let wrapper = tempfile::tempdir().unwrap();
    let root = wrapper.path().join("root");
    fs::create_dir(&root).unwrap();
    run(Command::new("mount")
        .arg("--bind")
        .args([mounted.path(), &root]));
    let found = mounted::entries(wrapper.path()).remove("root").unwrap();
    run(Command::new("umount").arg(&root));
    entries.push((String::new(), found));
    entries
}

/// Fails with the first difference between two trees.
fn assert_equal_trees(actual: &[(String, String)], expected: &[(String, String)], case: &str) {
    let different = actual.iter().zip(expected).find(|(a, b)| a != b);
    assert!(different.is_none(), "{case}: {different:#?}");
    assert_eq!(actual.len(), expected.len(), "{case}");
}

/// What archives and packers have stumbled over, beside all that [`make_varied_tree`] has.
fn torture_tree(workplace: &Workplace) -> PathBuf {
    let root = workplace.path("root");
    make_varied_tree(&root);
    let bin = root.join("usr/bin");
    let deep = root.join(format!("usr/lib/{0}/{0}", "d".repeat(200)));
    fs::create_dir_all(&deep).unwrap();
    for name in [
        &b"line\nbreak"[..],
        b"back\\slash",
        b"=",
        b".wh",
        b"\x01\x1b[31m",
    ] {
        fs::write(deep.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    // Names that fill the field of a header, and one that is a byte longer.
    for length in [99, 100, 101] {
        let name = "n".repeat(length - "usr/lib/".len());
        fs::write(root.join("usr/lib").join(name), "").unwrap();
    }
    fs::hard_link(deep.join("="), bin.join("first name of a deep file")).unwrap();
    symlink("somewhere", bin.join("y link")).unwrap();
    fs::hard_link(bin.join("y link"), bin.join("z link")).unwrap();
    fs::hard_link(bin.join("pipe"), bin.join("pipe link")).unwrap();
    symlink("t".repeat(100), bin.join("link of 100")).unwrap();
    symlink("t".repeat(101), bin.join("link of 101")).unwrap();
    for (name, value) in [
        ("user.empty", &b""[..]),
        ("user.newlines", b"\n12 path=x\n\n"),
        ("user.binary", b"\0=\0"),
        ("trusted.large", &[0xaa; 3000]),
        ("security.any", b"1"),
    ] {
        xattr::set(bin.join("size-4096"), name, value).unwrap();
    }
    // Versions of mkfs.erofs disagree on fractions before 1970.
    run(Command::new("find")
        .arg(&root)
        .args(["!", "-newermt", "1970-01-01"])
        .args(["-exec", "touch", "-h", "-d", "@-2", "{}", "+"]));
    // Compressible, and larger than any cluster; a part of it occurs twice.
    let lines: String = (0..120_000).map(|line| format!("line {line}\n")).collect();
    fs::write(root.join("usr/share/lines"), &lines).unwrap();
    fs::write(root.join("usr/share/half"), &lines[lines.len() / 2..]).unwrap();
    for number in 0..200 {
        let name = format!("usr/share/deep/small-{number}");
        fs::write(root.join(name), &lines[number * 100..number * 130]).unwrap();
    }
    root
}

#[test]
fn both_packers_make_equal_trees() {
    const TEST: &str = "both_packers_make_equal_trees";
    if !can_pack(TEST) || !can_mount(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let image = format!("dir:{}", torture_tree(&workplace).display());
    let native = tree_of(&workplace, &["x", &image]);
    assert!(native.len() > 600);
    for options in OPTIONS {
        let arguments = [&passed_on(options)[..], &["x", &image]].concat();
        let tree = tree_of(&workplace, &arguments);
        assert_equal_trees(&tree, &native, &format!("{options:?}"));
        fsck(&workplace);
    }
}

/// Has fsck.erofs read all content of the file system.
fn fsck(workplace: &Workplace) {
    let output = Command::new("fsck.erofs")
        .args(["--extract", "--offset=1048576"])
        .arg(workplace.out().join("x.sysext.raw"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_arguments_for_compression_reach_mkfs_erofs() {
    const TEST: &str = "the_arguments_for_compression_reach_mkfs_erofs";
    if !can_pack(TEST) || !can_mount(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    fs::write(root.join("usr/bin/large"), "text ".repeat(500_000)).unwrap();
    let image = format!("dir:{}", root.display());
    let native = tree_of(&workplace, &["--compression", "none", "x", &image]);
    for (compression, shown) in [
        ("none", "not compressed, needs Linux 5.4"),
        ("lz4", "LZ4"),
        ("lz4hc:3", "LZ4"),
        ("zstd:9", "Zstandard"),
    ] {
        let compression = ["--compression", compression, "--chunk-size", "64K"];
        let arguments = [&PACKER[..], &compression, &["x", &image]].concat();
        let tree = tree_of(&workplace, &arguments);
        assert_equal_trees(&tree, &native, compression[1]);
        let facts = inspected(&workplace);
        assert!(facts.contains(shown), "{facts}");
    }
}

fn inspected(workplace: &Workplace) -> String {
    let image = workplace.out().join("x.sysext.raw");
    let output = sysgraft(["inspect"]).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_layer_that_contradicts_itself_is_packed_alike() {
    const TEST: &str = "a_layer_that_contradicts_itself_is_packed_alike";
    if !can_pack(TEST) || !can_mount(TEST) {
        return;
    }
    use tar::EntryType::{Directory, Link, Regular};
    let workplace = Workplace::new();
    let archive = workplace.path("layer.tar");
    let mut layer = tar::Builder::new(fs::File::create(&archive).unwrap());
    let mut add = |kind, name: &str, mtime, mode, content: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mtime(mtime);
        header.set_mode(mode);
        if kind == Link {
            header.set_size(0);
            layer.append_link(&mut header, name, content).unwrap();
        } else {
            header.set_size(content.len() as u64);
            let content = content.as_bytes();
            layer.append_data(&mut header, name, content).unwrap();
        }
    };
    add(Regular, "usr/bin/replaced", 1, 0o755, "first");
    add(
        Link,
        "usr/bin/keeps-the-first",
        2,
        0o755,
        "usr/bin/replaced",
    );
    add(Regular, "usr/bin/replaced", 3, 0o644, "second");
    add(Regular, "usr/lib/becomes-a-directory", 4, 0o644, "gone");
    add(Directory, "usr/lib/becomes-a-directory", 5, 0o2750, "");
    add(Regular, "usr/lib/becomes-a-directory/inside", 6, 0o600, "x");
    add(Regular, "usr/lib/.wh.hidden", 7, 0o600, "");
    // The entries of directories behind what lies in them.
    add(Directory, "usr/bin", 8, 0o1700, "");
    add(Directory, "usr", 9, 0o711, "");
    layer.finish().unwrap();
    let image = format!("tar:{}", archive.display());
    let native = tree_of(&workplace, &["x", &image]);
    let mkfs = tree_of(&workplace, &[&PACKER[..], &["x", &image]].concat());
    assert_equal_trees(&mkfs, &native, "layer");
}

#[test]
fn times_are_clamped_once() {
    const TEST: &str = "times_are_clamped_once";
    if !can_pack(TEST) || !can_mount(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    for (name, time) in [("old", "@1000.5"), ("new", "@2000000000.25")] {
        fs::write(root.join("usr/bin").join(name), name).unwrap();
        let path = root.join("usr/bin").join(name);
        run(Command::new("touch").args(["-d", time]).arg(path));
    }
    let image = format!("dir:{}", root.display());
    let trees = [&[][..], &PACKER].map(|packer| {
        let status = sysgraft(["sysext", "--output"])
            .arg(workplace.out())
            .args(packer)
            .args(["x", &image])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        entries(Mounted::data_partition(&workplace.out().join("x.sysext.raw")).path())
    });
    assert_eq!(trees[0], trees[1]);
    assert!(trees[1]["usr/bin/old"].contains("at 1000.5"));
    assert!(trees[1]["usr/bin/new"].contains("at 1700000000.0"));
}

#[test]
fn every_judge_accepts_a_signed_image() {
    const TEST: &str = "every_judge_accepts_a_signed_image";
    if !can_pack(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let archive = format!("oci-archive:{}", workplace.example("hello").display());
    for options in OPTIONS {
        let arguments = [&RSA[..], &passed_on(options), &["hello", &archive]].concat();
        build(&workplace, &arguments);
        let output = Command::new("examples/check-image")
            .arg(workplace.out().join("hello.sysext.raw"))
            .arg("keys-example/db.pem")
            .output()
            .unwrap();
        let verdicts = text(&output.stdout);
        assert!(output.status.success(), "{options:?}: {verdicts}");
        if verdicts.matches("accepted").count() < 6 {
            skip(TEST, &verdicts);
        }
    }
}

#[test]
fn equal_input_gives_equal_bytes_and_leaves_nothing_else() {
    const TEST: &str = "equal_input_gives_equal_bytes_and_leaves_nothing_else";
    if !can_pack(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    for number in 0..300 {
        let content = format!("{number} ").repeat(number * 37);
        fs::write(root.join(format!("usr/bin/{number}")), content).unwrap();
    }
    fs::hard_link(root.join("usr/bin/9"), root.join("usr/bin/nine")).unwrap();
    let image = format!("dir:{}", root.display());
    for options in OPTIONS {
        let [first, second] = [1, 2].map(|_| {
            build(
                &workplace,
                &[&passed_on(options)[..], &["x", &image]].concat(),
            );
            assert_eq!(workplace.outputs(), ["x.sysext.raw"]);
            fs::read(workplace.out().join("x.sysext.raw")).unwrap()
        });
        assert!(first == second, "{options:?}");
    }
}

#[test]
fn inspect_shows_what_only_kernels_can_read() {
    const TEST: &str = "inspect_shows_what_only_kernels_can_read";
    if !can_pack(TEST) {
        return;
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    for number in 0..100 {
        fs::write(root.join(format!("usr/bin/{number}")), "text ".repeat(300)).unwrap();
    }
    let image = format!("dir:{}", root.display());
    for (options, algorithm) in [
        (["-zlzma", "-Efragments"], "LZMA"),
        (["-zdeflate", "-Efragments"], "DEFLATE"),
    ] {
        build(
            &workplace,
            &[&passed_on(&options)[..], &["x", &image]].concat(),
        );
        let facts = inspected(&workplace);
        for word in [
            &format!("{algorithm}, content to image"),
            "needs Linux 6.",
            "x (sysext)",
            "/usr/bin/99",
            &format!("release file NOT READ: inode"),
            &format!("compressed with {algorithm}"),
        ] {
            assert!(facts.contains(word), "{word} is not in {facts}");
        }
    }
}

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
    let path = workplace.path("fake-mkfs");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo \"mkfs.erofs (erofs-utils) {version}\"; \
         exit; fi\n{body}\n"
    );
    // Never open for writing in a process that another test forks just now: text file busy.
    let draft = workplace.path("draft");
    fs::write(&draft, script).unwrap();
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
    let old = workplace.path("old");
    fs::write(&old, "#!/bin/sh\necho mkfs.erofs 1.5; echo usage; exit 1\n").unwrap();
    fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).unwrap();
    let old = format!("mkfs.erofs={}", old.display());
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
        ("sleep 600 & cat >/dev/null; exit 1", &["exit status: 1"]),
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
        run(Command::new("umount").arg(workplace.out()));
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
