//! What can go wrong in a build: one clear error, exit code 1, and nothing left behind.

mod support;
#[path = "support/unmount.rs"]
mod unmount;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::skip;
use unmount::unmount;
use workplace::{EC, RSA, Workplace, build, is_root, run, sysgraft, text};

/// Builds an image that must not come to be, and checks that there is one error line and no output.
fn refused(workplace: &Workplace, arguments: &[&str]) -> String {
    let output = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args(arguments)
        .output()
        .unwrap();
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

fn assert_names(error: &str, what: &[&str]) {
    for word in what {
        assert!(error.contains(word), "{error:?} does not name {word:?}");
    }
}

#[test]
fn a_missing_image_is_named() {
    let workplace = Workplace::new();
    for image in [
        "oci-archive:/nowhere/x.tar",
        "oci:/nowhere/x",
        "tar:/nowhere/x",
        "dir:/nowhere/x",
        "docker-archive:/nowhere/x",
    ] {
        assert_names(&refused(&workplace, &["x", image]), &["/nowhere/x"]);
    }
}

#[test]
fn a_missing_output_folder_is_named() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    let output = sysgraft(["sysext", "--output", "/nowhere/out", "x"])
        .arg(format!("dir:{}", root.display()))
        .output()
        .unwrap();
    assert_names(&refusal(&workplace, &output), &["/nowhere/out"]);
}

#[test]
fn keys_that_cannot_sign_are_refused_before_anything_is_read() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    let key = workplace.path("k");
    fs::write(&key, "no key").unwrap();
    let key = key.to_str().unwrap();
    for (key, certificate, words) in [
        ("/nowhere/k", "keys-example/db.pem", ["/nowhere/k", ""]),
        ("keys-example/db.key", "/nowhere/c", ["/nowhere/c", ""]),
        (key, "keys-example/db.pem", [key, ""]),
        ("keys-example/db.key", key, [key, ""]),
        (
            "keys-example/db.key",
            "keys-example/ec.pem",
            ["keys-example/db.key", "keys-example/ec.pem"],
        ),
    ] {
        let error = refused(
            &workplace,
            &[
                "--private-key",
                key,
                "--certificate",
                certificate,
                "x",
                &image,
            ],
        );
        assert_names(&error, &words);
    }
}

#[test]
fn keys_of_other_kinds_are_refused_with_the_reason() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    let key = workplace.path("k");
    let certificate = workplace.path("c");
    for (kind, word) in [
        ("ed25519", "Ed25519"),
        ("rsa:1024", "1024"),
        ("rsa-pss", "PSS"),
    ] {
        run(Command::new("openssl")
            .args([
                "req", "-x509", "-nodes", "-subj", "/CN=x", "-newkey", kind, "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null()));
        let error = refused(
            &workplace,
            &[
                "--private-key",
                key.to_str().unwrap(),
                "--certificate",
                certificate.to_str().unwrap(),
                "x",
                &image,
            ],
        );
        assert_names(&error, &[word]);
    }
}

#[test]
fn certificates_that_are_signed_with_sha1_or_pss_are_refused_with_the_reason() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    let certificate = workplace.path("c");
    let certificate = certificate.to_str().unwrap();
    let key = "keys-example/db.key";
    for (options, word) in [
        (&["-sha1"][..], "SHA-1"),
        (&["-sha256", "-sigopt", "rsa_padding_mode:pss"], "PSS"),
    ] {
        run(Command::new("openssl")
            .args(["req", "-x509", "-subj", "/CN=x", "-key", key])
            .args(["-out", certificate])
            .args(options)
            .stderr(Stdio::null()));
        let arguments = ["--private-key", key, "--certificate", certificate];
        let error = refused(&workplace, &[&arguments[..], &["x", &image]].concat());
        assert_names(&error, &[certificate, word]);
    }
}

#[test]
fn a_passphrase_is_taken_from_file_or_environment() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    let key = workplace.path("k");
    run(Command::new("openssl")
        .args([
            "pkcs8",
            "-topk8",
            "-passout",
            "pass:open sesame",
            "-in",
            "keys-example/db.key",
            "-out",
        ])
        .arg(&key));
    let file = workplace.path("passphrase");
    fs::write(&file, "open sesame\n").unwrap();
    let arguments = [
        "--private-key",
        key.to_str().unwrap(),
        "--certificate",
        "keys-example/db.pem",
        "x",
        &image,
    ];

    refused(&workplace, &arguments);
    let command = || {
        let mut command = sysgraft(["sysext", "--output"]);
        command.arg(workplace.out()).args(arguments);
        command
    };
    let wrong = command()
        .env("SYSGRAFT_PASSPHRASE", "wrong")
        .output()
        .unwrap();
    let error = refusal(&workplace, &wrong);
    assert_names(&error, &["passphrase", key.to_str().unwrap()]);
    assert!(!error.contains("wrong passphrase: wrong"));

    assert!(
        command()
            .env("SYSGRAFT_PASSPHRASE", "open sesame")
            .status()
            .unwrap()
            .success()
    );
    fs::remove_file(workplace.out().join("x.sysext.raw")).unwrap();
    assert!(
        command()
            .arg("--passphrase-file")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn one_of_key_and_certificate_alone_is_wrong_usage() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    for pair in [&RSA[..2], &RSA[2..]] {
        let output = sysgraft(["sysext", "--output"])
            .arg(workplace.out())
            .args(pair)
            .args(["x", &image])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(workplace.outputs(), [""; 0]);
        assert_names(&text(&output.stderr), &["--private-key", "--certificate"]);
    }
}

#[test]
fn a_truncated_layer_is_refused_wherever_it_ends() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    fs::write(root.join("usr/bin/large"), vec![7; 300_000]).unwrap();
    let archive = workplace.tar(&root);
    let whole = fs::read(&archive).unwrap();
    run(Command::new("gzip").arg("-k").arg(&archive));
    let compressed = fs::read(archive.with_extension("tar.gz")).unwrap();
    let cut = workplace.path("cut");
    let reference = format!("tar:{}", cut.display());
    for bytes in [
        &whole[..0],
        &whole[..512],
        &whole[..700],
        &whole[..150_000],
        &compressed[..compressed.len() / 2],
        &compressed[..compressed.len() - 4],
    ] {
        fs::write(&cut, bytes).unwrap();
        refused(&workplace, &["x", &reference]);
    }
}

#[test]
fn a_layer_without_digest_needs_the_mark_at_its_end() {
    let workplace = Workplace::new();
    let archive = workplace.tar(&workplace.small_tree());
    let whole = fs::read(&archive).unwrap();
    let zeros = whole.iter().rev().take_while(|&&byte| byte == 0).count();
    // The mark's blocks, without those that only fill the last record, end at a multiple of 512.
    let end = (whole.len() - zeros).next_multiple_of(512);
    let reference = format!("tar:{}", archive.display());
    fs::write(&archive, &whole[..end]).unwrap();
    assert_names(&refused(&workplace, &["x", &reference]), &["cut off"]);
    fs::write(&archive, &whole[..end + 1024]).unwrap();
    build(&workplace, &["x", &reference]);
}

#[test]
fn a_layer_with_another_digest_is_refused() {
    let workplace = Workplace::new();
    let archive = workplace.example("hello");
    let mut bytes = fs::read(&archive).unwrap();
    // The last byte of the gzip stream that is not the archive's padding belongs to its length
    // field; one in the middle of the layer changes content.
    let layer = bytes.windows(3).position(|w| w == [0x1f, 0x8b, 8]).unwrap();
    bytes[layer + 4] ^= 1; // the mtime field of the gzip header: same content, other blob
    fs::write(&archive, bytes).unwrap();
    let error = refused(
        &workplace,
        &["hello", &format!("oci-archive:{}", archive.display())],
    );
    assert_names(&error, &["sha256:"]);
}

#[test]
fn a_layer_with_nothing_to_keep_says_what_it_has() {
    let workplace = Workplace::new();
    let root = workplace.path("root");
    fs::create_dir_all(root.join("srv/www")).unwrap();
    fs::write(root.join("srv/www/index.html"), "").unwrap();
    let error = refused(&workplace, &["x", &format!("dir:{}", root.display())]);
    assert_names(&error, &["/usr", "/srv"]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    if !is_root() {
        return skip("a_full_disk_leaves_nothing", "mounting a tmpfs needs root");
    }
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    fs::write(root.join("usr/bin/large"), vec![7; 8 << 20]).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(workplace.out()));
    let output = sysgraft(["sysext", "--compression", "none", "--output"])
        .arg(workplace.out())
        .arg("x")
        .arg(format!("dir:{}", root.display()))
        .output();
    let left = workplace.outputs();
    let free = Command::new("df")
        .arg("--output=used")
        .arg(workplace.out())
        .output();
    unmount(&workplace.out());
    let output = output.unwrap();
    assert_eq!(left, [""; 0]);
    assert_names(
        &refusal(&workplace, &output),
        &["No space left", "x.sysext.raw"],
    );
    assert!(text(&free.unwrap().stdout).lines().nth(1).unwrap().trim() == "0");
}

#[test]
fn a_log_that_cannot_be_written_does_not_stop_a_build() {
    let workplace = Workplace::new();
    let status = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .arg("x")
        .arg(format!("dir:{}", workplace.small_tree().display()))
        .stdout(Stdio::null())
        .stderr(fs::File::create("/dev/full").unwrap())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(workplace.outputs(), ["x.sysext.raw"]);
}

#[test]
fn a_folder_that_can_be_written_but_not_read_takes_an_image() {
    let workplace = Workplace::new();
    let tree = workplace.small_tree();
    fs::set_permissions(workplace.out(), PermissionsExt::from_mode(0o300)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft"));
    if is_root() {
        // Root minds the mode of a folder only without these.
        command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        command.arg(env!("CARGO_BIN_EXE_sysgraft"));
    }
    let output = command
        .args(["sysext", "--output"])
        .arg(workplace.out())
        .arg("x")
        .arg(format!("dir:{}", tree.display()))
        .output()
        .unwrap();
    fs::set_permissions(workplace.out(), PermissionsExt::from_mode(0o700)).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(workplace.outputs(), ["x.sysext.raw"]);
}

#[test]
fn absurdly_many_threads_are_wrong_usage() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    for jobs in ["0", "100000"] {
        let output = sysgraft(["sysext", "--jobs", jobs, "x", &image])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{jobs}");
    }
}

#[test]
fn an_existing_image_survives_a_failure_and_is_replaced_by_success() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    let image = workplace.out().join("x.sysext.raw");
    fs::write(&image, "old").unwrap();
    let cut = workplace.path("cut");
    fs::write(&cut, &fs::read(workplace.tar(&root)).unwrap()[..1500]).unwrap();
    let output = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .arg("x")
        .arg(format!("tar:{}", cut.display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(&image).unwrap(), b"old");

    build(&workplace, &["x", &format!("dir:{}", root.display())]);
    assert!(fs::metadata(&image).unwrap().len() > 1 << 20);
    assert_eq!(workplace.outputs(), ["x.sysext.raw"]);
    assert_eq!(
        fs::metadata(&image).unwrap().permissions().mode() & 0o7777 & !0o644,
        0
    );
}

/// Starts a build that has read half of its layer and waits for the rest.
fn half_done(workplace: &Workplace) -> std::process::Child {
    let root = workplace.small_tree();
    fs::write(root.join("usr/bin/large"), vec![7; 6 << 20]).unwrap();
    let archive = fs::read(workplace.tar(&root)).unwrap();
    let mut child = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args(EC)
        .args(["x", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&archive[..4 << 20])
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    child
}

#[test]
fn a_killed_build_leaves_nothing() {
    for signal in ["TERM", "INT", "KILL"] {
        let workplace = Workplace::new();
        let mut child = half_done(&workplace);
        assert!(
            child.try_wait().unwrap().is_none(),
            "it should be waiting for its input"
        );
        run(Command::new("kill")
            .arg("-s")
            .arg(signal)
            .arg(child.id().to_string()));
        // The input stays open: a program that only notices a closed pipe would hang here.
        let stdin = child.stdin.take();
        let status = child.wait().unwrap();
        drop(stdin);
        match signal {
            "TERM" => assert_eq!(status.code(), Some(143)),
            "INT" => assert_eq!(status.code(), Some(130)),
            _ => assert_eq!(status.signal(), Some(9)),
        }
        assert_eq!(workplace.outputs(), [""; 0], "after SIG{signal}");
    }
}

#[test]
fn names_that_would_leave_the_folder_are_wrong_usage() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    for name in ["../x", "a/b", "", ".x", "x.raw"] {
        let output = sysgraft(["sysext", "--output"])
            .arg(workplace.out())
            .args([name, &image])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
    assert!(!Path::new("../x.sysext.raw").exists());
}
