//! mkfs.erofs as the packer: the same tree as the native packer's, through the kernel.

#[path = "support/mkfs.rs"]
mod mkfs;
#[path = "support/mounted.rs"]
mod mounted;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mkfs::{PACKER, can_mount, can_pack, passed_on};
use mounted::{Mounted, entries, make_varied_tree};
use support::skip;
use workplace::{RSA, Workplace, build, run, sysgraft, text};

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

/// What the kernel shows of the image that a build makes.
fn tree_of(workplace: &Workplace, arguments: &[&str]) -> Vec<(String, String)> {
    build(workplace, arguments);
    let mounted = Mounted::data_partition(&workplace.out().join("x.sysext.raw"));
    let mut entries: Vec<_> = entries(mounted.path()).into_iter().collect();
    // `entries` leaves out the root itself.
    let root = fs::metadata(mounted.path()).unwrap();
    let (mode, owner, group) = (root.mode(), root.uid(), root.gid());
    let time = (root.mtime(), root.mtime_nsec());
    entries.push((String::new(), format!("{mode:o} {owner}:{group} {time:?}")));
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
    assert!(
        native
            .iter()
            .any(|(_, seen)| seen.contains("at -2.000000000"))
    );
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
    fs::write(root.join("usr/bin/small"), "text ".repeat(1200)).unwrap();
    let image = format!("dir:{}", root.display());
    let native = tree_of(&workplace, &["--compression", "none", "x", &image]);
    for (compression, tails, shown) in [
        ("none", "none", "not compressed, needs Linux 5.4"),
        ("lz4", "none", "LZ4"),
        ("lz4", "inline", "needs Linux 5.17"),
        ("lz4hc:3", "fragments", "needs Linux 6.1"),
        ("zstd:9", "none", "Zstandard"),
    ] {
        let compression = ["--compression", compression, "--tail-packing", tails];
        let chunks = ["--chunk-size", "64K"];
        let arguments = [&PACKER[..], &compression, &chunks, &["x", &image]].concat();
        let tree = tree_of(&workplace, &arguments);
        assert_equal_trees(&tree, &native, shown);
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
    // The closed /usr/bin is meant.
    let arguments = ["--allow", "directory-locked", "x", &image];
    let native = tree_of(&workplace, &arguments);
    let mkfs = tree_of(&workplace, &[&PACKER[..], &arguments].concat());
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
    let image = format!("dir:{}", root.display());
    let build_twice = || {
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
            assert!(inspected(&workplace).contains("/usr/bin/hello"));
        }
    };
    // A file system of one block, all of which its checksum covers.
    build_twice();
    for number in 0..300 {
        let content = format!("{number} ").repeat(number * 37);
        fs::write(root.join(format!("usr/bin/{number}")), content).unwrap();
    }
    fs::hard_link(root.join("usr/bin/9"), root.join("usr/bin/nine")).unwrap();
    build_twice();
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
        ] {
            assert!(facts.contains(word), "{word} is not in {facts}");
        }
        // Some versions do not compress fragments of an image that is so small.
        let unread = facts.lines().find(|line| line.contains("NOT READ"));
        match unread {
            Some(line) => assert!(line.contains(&format!("compressed with {algorithm}"))),
            None => assert!(facts.contains("ID=_any")),
        }
    }
}
