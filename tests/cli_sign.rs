//! Signing in two steps, and signing anew.

#[path = "support/signatures.rs"]
mod signatures;
mod support;
#[path = "support/unmount.rs"]
mod unmount;
#[path = "support/workplace.rs"]
mod workplace;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use signatures::{Pair, image_of_one_step, image_to_sign, openssl_verifies, refusal, sign, tree};
use support::skip;
use sysgraft::digest::Digest;
use sysgraft::image::Ddi;
use unmount::unmount;
use workplace::{EC, RSA, Workplace, build, is_root, run, sysgraft, text};

fn assert_names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{said:?} does not name {word:?}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn two_steps_make_the_same_bytes_as_one() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    // Hash trees of one and of two levels.
    let large: Vec<u8> = (0..900_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/small"), "x").unwrap();
    fs::write(root.join("usr/bin/large"), large).unwrap();
    let tree = tree(&workplace);
    let p384 = Pair::p384(&workplace);
    for kind in ["sysext", "confext"] {
        for key in [RSA, EC, p384.arguments()] {
            let image = |folder: &str, arguments: &[&str]| {
                let folder = workplace.path(folder);
                fs::create_dir_all(&folder).unwrap();
                let output = sysgraft([kind, "--output"])
                    .arg(&folder)
                    .args(arguments)
                    .args(["x", &tree])
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", text(&output.stderr));
                folder.join(format!("x.{kind}.raw"))
            };
            let at_once = fs::read(image("at-once", &key)).unwrap();
            let later = image("later", &["--sign-later", key[2], key[3]]);
            sign(&later, &key);
            assert!(fs::read(later).unwrap() == at_once, "{kind} {key:?}");
            // Without a signature partition there is still a place for one.
            let unsigned = image("unsigned", &[]);
            sign(&unsigned, &key);
            assert!(fs::read(unsigned).unwrap() == at_once, "{kind} {key:?}");
        }
    }
}

#[test]
fn an_unsigned_image_with_a_seed_of_its_own_is_signed_with_that_seed() {
    let workplace = Workplace::new();
    let seed = ["--seed", "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f"];
    let image = workplace.out().join("x.sysext.raw");
    build(&workplace, &[&seed[..], &["x", &tree(&workplace)]].concat());
    let error = refusal(&image, sysgraft(["sign"]).args(RSA).arg(&image));
    assert_names(&error, &["x.sysext.raw", "--seed", "--sign-later"]);
    sign(&image, &[&RSA[..], &seed].concat());
    let at_once = image_of_one_step(&workplace, &[&RSA[..], &seed].concat());
    assert!(fs::read(&image).unwrap() == at_once);
}

#[test]
fn the_request_says_what_is_to_be_signed() {
    let workplace = Workplace::new();
    let output = build(
        &workplace,
        &[
            "--sign-later",
            RSA[2],
            RSA[3],
            "--json",
            "x",
            &tree(&workplace),
        ],
    );
    let image = workplace.out().join("x.sysext.raw");
    let path = workplace.out().join("x.sign-request.json");
    assert_eq!(workplace.outputs(), ["x.sign-request.json", "x.sysext.raw"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["signRequest"], path.to_str().unwrap());
    assert_eq!(said["signedBy"], Value::Null);

    let content = fs::read(&image).unwrap();
    let request = fs::read(&path).unwrap();
    let parsed: Value = serde_json::from_slice(&request).unwrap();
    assert_eq!(parsed["schemaVersion"], 1);
    assert_eq!(
        (&parsed["kind"], &parsed["name"]),
        (&"sysext".into(), &"x".into())
    );
    assert_eq!(parsed["rootHash"], said["rootHash"]);
    assert_eq!(parsed["digestAlgorithm"], "sha256");
    assert_eq!(parsed["image"]["fileName"], "x.sysext.raw");
    assert_eq!(parsed["image"]["size"], content.len());
    assert_eq!(parsed["image"]["digest"], Digest::of(&content).to_string());
    let ddi = Ddi::open(&image).unwrap();
    for (number, name) in ["data", "hash", "signature"].iter().enumerate() {
        let uuid = ddi.partitions[number].uuid.to_string();
        assert_eq!(parsed["partitions"][name], uuid);
    }
    assert_eq!(parsed["release"]["ID"], "_any");
    let fingerprint = text(
        &Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", RSA[3]])
            .output()
            .unwrap()
            .stdout,
    );
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap();
    let fingerprint = fingerprint.replace(':', "").to_lowercase();
    assert_eq!(parsed["certificateFingerprint"], fingerprint);

    let printed = sysgraft(["sign", "request", RSA[2], RSA[3]])
        .arg(&image)
        .output();
    assert_eq!(text(&printed.unwrap().stdout), text(&request));
    let written = workplace.path("request.json");
    let status = sysgraft(["sign", "request", "--output"])
        .args([&written, &image])
        .status()
        .unwrap();
    assert!(status.success());
    let written: Value = serde_json::from_slice(&fs::read(written).unwrap()).unwrap();
    assert_eq!(written["certificateFingerprint"], Value::Null);
    assert_eq!(written["rootHash"], parsed["rootHash"]);

    let p384 = Pair::p384(&workplace);
    let printed = sysgraft(["sign", "request", "--certificate"])
        .args([&p384.certificate, &image])
        .output()
        .unwrap();
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed["digestAlgorithm"], "sha384");
}

#[test]
fn an_image_that_awaits_its_signature_says_so_and_systemd_refuses_it() {
    let test = "an_image_that_awaits_its_signature_says_so_and_systemd_refuses_it";
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    let inspect = |json: &str| {
        let mut command = sysgraft(["inspect"]);
        command.args(json.split_whitespace());
        let output = command.arg(&image).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_names(&inspect(""), &["none yet", "sysgraft sign"]);
    let facts: Value = serde_json::from_str(&inspect("--json")).unwrap();
    assert_eq!(facts["awaitsSignature"], true);
    assert_eq!(facts["signature"], Value::Null);
    let accepted = || {
        let output = Command::new("systemd-dissect")
            .arg(&image)
            .output()
            .unwrap();
        output.status.success()
    };
    let judged = if is_root() {
        assert!(!accepted(), "systemd took an image without its signature");
        true
    } else {
        skip(test, "systemd-dissect needs root for a loop device");
        false
    };
    sign(&image, &EC);
    assert!(!judged || accepted());
    let facts: Value = serde_json::from_str(&inspect("--json")).unwrap();
    assert_eq!(facts["awaitsSignature"], false);
    assert_eq!(facts["signature"]["valid"], true);
}

#[test]
fn an_image_is_signed_anew_with_another_key() {
    let workplace = Workplace::new();
    let image = workplace.out().join("x.sysext.raw");
    build(&workplace, &[&RSA[..], &["x", &tree(&workplace)]].concat());
    fs::set_permissions(&image, PermissionsExt::from_mode(0o640)).unwrap();
    let (by_rsa, inode) = (
        fs::read(&image).unwrap(),
        fs::metadata(&image).unwrap().ino(),
    );
    let (link, hard_link) = (workplace.path("link"), workplace.path("hard-link"));
    symlink(&image, &link).unwrap();
    fs::hard_link(&image, &hard_link).unwrap();

    let output = sign(&link, &[&EC[..], &["--json"]].concat());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["path"], image.to_str().unwrap());
    assert!(said["signedBy"].as_str().unwrap().contains("P-256"));
    assert!(fs::read(&image).unwrap() == image_of_one_step(&workplace, &EC));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_ne!(metadata.ino(), inode, "an image in use must not change");
    assert!(fs::read(&hard_link).unwrap() == by_rsa);
    assert_eq!(workplace.outputs(), ["x.sysext.raw"]);

    sign(&image, &RSA);
    assert!(fs::read(&image).unwrap() == by_rsa);
}

#[test]
fn a_name_that_is_no_text_is_kept() {
    let workplace = Workplace::new();
    let built = image_to_sign(&workplace);
    let folder = workplace.path("odd");
    fs::create_dir(&folder).unwrap();
    let image = folder.join(OsStr::from_bytes(b"\xff.sysext.raw"));
    fs::rename(built, &image).unwrap();
    sign(&image, &RSA);
    openssl_verifies(&image, Path::new(RSA[3]));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

/// systemd-repart's images keep their layout, and its signature is what the same key gives here.
#[test]
fn images_by_systemd_repart_are_signed_as_it_signs_them() {
    let workplace = Workplace::new();
    let golden = |name: &str| {
        let image = workplace.out().join(name);
        run(Command::new("zstd")
            .args(["-q", "-f", "-d"])
            .arg(format!("tests/golden/{name}.zst"))
            .arg("-o")
            .arg(&image));
        image
    };
    let key = |name: &str| Pair {
        key: format!("tests/golden/keys/{name}.key").into(),
        certificate: format!("tests/golden/keys/{name}.crt").into(),
    };
    for name in ["small-rsa.sysext.raw", "conf-rsa.confext.raw"] {
        let image = golden(name);
        let theirs = fs::read(&image).unwrap();
        sign(&image, &key("ec").arguments());
        openssl_verifies(&image, &key("ec").certificate);
        assert!(fs::read(&image).unwrap() != theirs);
        sign(&image, &key("rsa").arguments());
        assert!(fs::read(&image).unwrap() == theirs, "{name}");
    }
    let unsigned = golden("small-unsigned.sysext.raw");
    let error = refusal(&unsigned, sysgraft(["sign"]).args(RSA).arg(&unsigned));
    assert_names(
        &error,
        &["small-unsigned.sysext.raw", "signature partition"],
    );
}

#[test]
fn the_request_beside_an_image_is_heeded() {
    let workplace = Workplace::new();
    let image = workplace.out().join("x.sysext.raw");
    let request = workplace.out().join("x.sign-request.json");
    let arguments = ["--sign-later", RSA[2], RSA[3], "x", &tree(&workplace)];
    build(&workplace, &arguments);
    let error = refusal(&image, sysgraft(["sign"]).args(EC).arg(&image));
    assert_names(&error, &[request.to_str().unwrap(), "fingerprint"]);
    sign(&image, &RSA);
    // What was asked for has been done: from now on it is another matter.
    sign(&image, &EC);

    build(&workplace, &arguments);
    let asked = fs::read_to_string(&request).unwrap();
    let root_hash = Ddi::open(&image).unwrap().root_hash().unwrap().to_string();
    fs::write(&request, asked.replace(&root_hash, &"ab".repeat(32))).unwrap();
    let error = refusal(&image, sysgraft(["sign"]).args(RSA).arg(&image));
    assert_names(&error, &[request.to_str().unwrap(), &root_hash, "abab"]);
    fs::write(&request, "{").unwrap();
    let error = refusal(&image, sysgraft(["sign"]).args(RSA).arg(&image));
    assert_names(&error, &[request.to_str().unwrap(), "no sign request"]);
    // One for the confext of the same name.
    fs::write(&request, asked.replace("\"sysext\"", "\"confext\"")).unwrap();
    sign(&image, &EC);
}

#[test]
fn what_is_no_sound_image_is_not_signed() {
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    let whole = fs::read(&image).unwrap();
    let partition = |number: usize| Ddi::open(&image).unwrap().partitions[number].offset as usize;
    let (data, hash, signature) = (partition(0), partition(1), partition(2));
    for (name, place, words) in [
        ("data", data + 5000, &["damaged", "data block 1"][..]),
        ("hash tree", hash + 4096, &["damaged", "root hash"]),
        ("superblock", hash, &["hash partition"]),
        ("table", 600, &["partition table", "damaged"]),
        ("backup", whole.len() - 500, &["partition table", "damaged"]),
        ("garbage", signature, &["signature partition"]),
    ] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&image, bytes).unwrap();
        let error = refusal(&image, sysgraft(["sign"]).args(RSA).arg(&image));
        assert_names(&error, &[&["x.sysext.raw"], words].concat());
        assert!(!error.contains("panicked"), "{name}");
    }
    fs::write(&image, "no image").unwrap();
    let error = refusal(&image, sysgraft(["sign"]).args(RSA).arg(&image));
    assert_names(&error, &["no extension image"]);
    for (path, word) in [
        ("/nowhere/x.raw", "No such file"),
        ("/dev/null", "regular file"),
    ] {
        let error = refusal(&image, sysgraft(["sign"]).args(RSA).arg(path));
        assert_names(&error, &[path, word]);
    }
}

/// Ends `sysgraft sign` with SIGKILL when it is about to make a system call.
#[test]
fn a_signing_that_is_killed_anywhere_leaves_the_old_image() {
    let test = "a_signing_that_is_killed_anywhere_leaves_the_old_image";
    let workplace = Workplace::new();
    let image = workplace.out().join("x.sysext.raw");
    build(&workplace, &[&RSA[..], &["x", &tree(&workplace)]].concat());
    let old = fs::read(&image).unwrap();
    let traced = |inject: &str| {
        let mut command = Command::new("strace");
        command
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                inject,
                "-e",
                "signal=none",
            ])
            .arg(env!("CARGO_BIN_EXE_sysgraft"))
            .arg("sign")
            .args(EC)
            .arg(&image)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status()
    };
    if traced("trace=none").is_ok_and(|status| status.success()) {
        fs::write(&image, &old).unwrap();
    } else {
        return skip(test, "strace cannot trace here");
    }
    let mut killed = 0;
    // With the number of the call that ends it: later ones are reached only by living longer.
    for (call, times) in [
        ("pwrite64", 3),
        ("copy_file_range", 1),
        ("fsync", 1),
        ("linkat", 2),
        ("rename", 1),
    ] {
        for number in 1..=times {
            let status = traced(&format!("inject={call}:signal=KILL:when={number}")).unwrap();
            if status.signal() == Some(9) || status.code() == Some(137) {
                killed += 1;
                assert!(fs::read(&image).unwrap() == old, "{call} {number}");
            } else {
                // The call was not made so often, or not here: some file systems share blocks.
                assert!(status.success(), "{call} {number}: {status}");
                fs::write(&image, &old).unwrap();
            }
            for left in names(&workplace.out()) {
                assert!(left == "x.sysext.raw" || left.starts_with(".#"), "{left}");
            }
        }
    }
    assert!(killed >= 5, "only {killed} calls were met");
    sign(&image, &EC);
    assert!(fs::read(&image).unwrap() == image_of_one_step(&workplace, &EC));
}

#[test]
fn a_signing_that_waits_for_its_program_ends_with_a_signal() {
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    let old = fs::read(&image).unwrap();
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut child = sysgraft(["sign", "--sign-command", "sleep 5"])
            .args(&RSA[2..])
            .arg(&image)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        run(Command::new("kill")
            .args(["-s", signal])
            .arg(child.id().to_string()));
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(fs::read(&image).unwrap() == old);
        assert_eq!(workplace.outputs(), ["x.sign-request.json", "x.sysext.raw"]);
    }
}

#[test]
fn a_full_disk_leaves_the_old_image() {
    let test = "a_full_disk_leaves_the_old_image";
    if !is_root() {
        return skip(test, "mounting a tmpfs needs root");
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    fs::write(root.join("usr/bin/large"), vec![7; 2 << 20]).unwrap();
    let built = image_to_sign(&workplace);
    let folder = workplace.path("full");
    fs::create_dir(&folder).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&folder));
    let image = folder.join("x.sysext.raw");
    fs::copy(&built, &image).unwrap();
    let result =
        std::panic::catch_unwind(|| refusal(&image, sysgraft(["sign"]).args(RSA).arg(&image)));
    unmount(&folder);
    let error = result.unwrap();
    assert_names(&error, &["x.sysext.raw", "No space left"]);
}

#[test]
fn a_sign_request_that_cannot_be_written_leaves_no_image() {
    let workplace = Workplace::new();
    fs::create_dir(workplace.out().join("x.sign-request.json")).unwrap();
    let output = sysgraft(["sysext", "--sign-later", "--output"])
        .arg(workplace.out())
        .args(["x", &tree(&workplace)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_names(&text(&output.stderr), &["x.sign-request.json", "folder"]);
    assert_eq!(workplace.outputs(), ["x.sign-request.json"]);
}

/// One command signs all or, if one cannot be, none; and asks for the passphrase once.
#[test]
fn several_images_are_signed_together() {
    let workplace = Workplace::new();
    let tree = tree(&workplace);
    let image = |name: &str| {
        build(&workplace, &["--sign-later", RSA[2], RSA[3], name, &tree]);
        workplace.out().join(format!("{name}.sysext.raw"))
    };
    let (x, y) = (image("x"), image("y"));
    let mut damaged = fs::read(&y).unwrap();
    damaged[Ddi::open(&y).unwrap().partitions[0].offset as usize + 5000] ^= 1;
    let request = workplace.out().join("y.sign-request.json");
    for (path, spoilt) in [(&y, &damaged[..]), (&request, b"{")] {
        let sound = fs::read(path).unwrap();
        fs::write(path, spoilt).unwrap();
        let error = refusal(&x, sysgraft(["sign"]).args(RSA).args([&x, &y]));
        assert_names(&error, &[path.to_str().unwrap()]);
        fs::write(path, sound).unwrap();
    }

    let key = workplace.path("encrypted.key");
    run(Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:open sesame", "-in"])
        .args([RSA[1], "-out"])
        .arg(&key));
    // A pipe, which can be read once.
    let line =
        r#"echo open sesame | "$0" sign --passphrase-file /dev/stdin --json --private-key "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", line, env!("CARGO_BIN_EXE_sysgraft")]);
    let output = command
        .arg(&key)
        .args(&RSA[2..])
        .args([&x, &y])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (number, image) in [&x, &y].into_iter().enumerate() {
        openssl_verifies(image, Path::new(RSA[3]));
        assert_eq!(said[number]["path"], image.to_str().unwrap());
    }
}
