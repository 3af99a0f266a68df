//! What the builds make, as the tools of systemd, cryptsetup, erofs-utils and the kernel see it.

#[path = "support/mounted.rs"]
mod mounted;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::process::{Command, Stdio};

use mounted::{Mounted, entries};
use serde_json::Value;
use support::skip;
use workplace::{EC, RSA, Workplace, build, is_root, run, sysgraft, text};

/// Runs `examples/check-image`, in which nothing may be left out.
fn judged(image: &std::path::Path, certificate: &str) {
    let output = Command::new("examples/check-image")
        .arg(image)
        .arg(certificate)
        .output()
        .unwrap();
    let verdicts = text(&output.stdout);
    assert!(
        output.status.success(),
        "{verdicts}{}",
        text(&output.stderr)
    );
    let accepted = verdicts
        .lines()
        .filter(|line| line.starts_with("accepted"))
        .count();
    if accepted < 6 {
        skip("judged", &verdicts);
    }
}

fn inspect(image: &std::path::Path) -> Value {
    let output = sysgraft(["inspect", "--json"]).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_judge_accepts_a_signed_sysext() {
    let workplace = Workplace::new();
    let archive = format!("oci-archive:{}", workplace.example("hello").display());
    for (arguments, certificate) in [(RSA, "keys-example/db.pem"), (EC, "keys-example/ec.pem")] {
        build(&workplace, &[&arguments[..], &["hello", &archive]].concat());
        judged(&workplace.out().join("hello.sysext.raw"), certificate);
    }
}

#[test]
fn every_judge_accepts_a_signed_confext() {
    let workplace = Workplace::new();
    let output = sysgraft(["confext", "--output"])
        .arg(workplace.out())
        .args(RSA)
        .arg("config")
        .arg(format!(
            "oci-archive:{}",
            workplace.example("config").display()
        ))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    judged(
        &workplace.out().join("config.confext.raw"),
        "keys-example/db.pem",
    );
}

#[test]
fn systemd_takes_a_sysext_for_a_signed_system_extension() {
    if !is_root() {
        let test = "systemd_takes_a_sysext_for_a_signed_system_extension";
        return skip(test, "systemd-dissect needs root for a loop device");
    }
    let workplace = Workplace::new();
    let image = format!("oci-archive:{}", workplace.example("service").display());
    build(&workplace, &[&RSA[..], &["service", &image]].concat());
    // systemd before 255 does not take .sysext off the file's name.
    let renamed = workplace.path("service.raw");
    fs::rename(workplace.out().join("service.sysext.raw"), &renamed).unwrap();
    let output = Command::new("systemd-dissect")
        .arg("--json=short")
        .arg(&renamed)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let dissected: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(dissected["useSystemExtension"], true, "{dissected}");
    assert_eq!(dissected["mounts"][0]["verity"], "signed", "{dissected}");
    assert_eq!(dissected["mounts"][0]["fstype"], "erofs", "{dissected}");
}

#[test]
fn the_kernel_mounts_a_tree_equal_to_the_source() {
    if !is_root() {
        return skip(
            "the_kernel_mounts_a_tree_equal_to_the_source",
            "mounting needs root",
        );
    }
    let workplace = Workplace::new();
    let root = workplace.path("root");
    mounted::make_varied_tree(&root);
    let archive = workplace.tar(&root);
    run(Command::new("zstd").arg("-q").arg(&archive));
    for reference in [
        format!("dir:{}", root.display()),
        format!("tar:{}", archive.display()),
        format!("tar:{}.zst", archive.display()),
    ] {
        build(&workplace, &["x", &reference]);
        let mounted = Mounted::data_partition(&workplace.out().join("x.sysext.raw"));
        let mut packed = entries(mounted.path());
        let release = packed
            .remove("usr/lib/extension-release.d/extension-release.x")
            .unwrap();
        assert!(release.starts_with("file 644 0:0"), "{release}");
        packed.remove("usr/lib/extension-release.d").unwrap();
        let source = entries(&root);
        for (path, expected) in &source {
            assert_eq!(packed.get(path), Some(expected), "{path} of {reference}");
        }
        assert_eq!(packed.len(), source.len());
    }
}

#[test]
fn a_release_file_reloads_the_manager_on_demand_under_either_name_of_the_flag() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    for flag in ["--service-reload", "--service-load"] {
        build(&workplace, &["x", &image, flag]);
        let facts = inspect(&workplace.out().join("x.sysext.raw"));
        assert_eq!(facts["release"]["EXTENSION_RELOAD_MANAGER"], "1", "{facts}");
        assert_eq!(facts["release"]["ID"], "_any");
    }
}

#[test]
fn the_image_does_not_depend_on_the_number_of_threads() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    for number in 0..300_u32 {
        let content = vec![number as u8; number as usize * 97];
        fs::write(root.join(format!("usr/bin/{number}")), content).unwrap();
    }
    fs::write(root.join("usr/bin/large"), vec![9; 9_000_001]).unwrap();
    let archive = format!("tar:{}", workplace.tar(&root).display());
    let image = workplace.out().join("x.sysext.raw");
    let mut images = Vec::new();
    for jobs in ["1", "8", "2"] {
        build(
            &workplace,
            &[&EC[..], &["--jobs", jobs, "x", &archive]].concat(),
        );
        images.push(fs::read(&image).unwrap());
    }
    assert!(images[0] == images[1] && images[0] == images[2]);
}

#[test]
fn source_date_epoch_clamps_every_time() {
    let workplace = Workplace::new();
    let image = format!("dir:{}", workplace.small_tree().display());
    let built = |epoch: &str| {
        let output = sysgraft(["sysext", "--output"])
            .arg(workplace.out())
            .args(["x", &image])
            .env("SOURCE_DATE_EPOCH", epoch)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(workplace.out().join("x.sysext.raw")).unwrap()
    };
    let first = built("1000000000");
    run(Command::new("touch").arg(workplace.path("root/usr/bin/hello")));
    assert!(first == built("1000000000"));
    assert!(first != built("1000000001"));
}

#[test]
fn what_a_layer_has_besides_is_named() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    for path in ["usrlocal", "etc", "var/lib"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("etc/secret"), "").unwrap();
    fs::write(root.join("usr/bin/.wh.gone"), "").unwrap();
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    fs::write(root.join("usr/lib/os-release"), "ID=other").unwrap();
    let image = format!("dir:{}", root.display());
    let output = build(&workplace, &["x", &image]);
    let stderr = text(&output.stderr);
    for word in ["/etc", "/usrlocal", "/var", "gone", "os-release"] {
        assert!(stderr.contains(word), "{word} is not in {stderr}");
    }
    let facts = inspect(&workplace.out().join("x.sysext.raw"));
    let files: Vec<&str> = facts["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "/usr",
            "/usr/bin",
            "/usr/bin/hello",
            "/usr/lib",
            "/usr/lib/extension-release.d",
            "/usr/lib/extension-release.d/extension-release.x"
        ]
    );
}

#[test]
fn opt_is_kept_on_demand() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    fs::create_dir_all(root.join("opt/tool")).unwrap();
    fs::write(root.join("opt/tool/x"), "x").unwrap();
    let image = format!("dir:{}", root.display());
    let paths = |arguments: &[&str]| {
        build(&workplace, arguments);
        inspect(&workplace.out().join("x.sysext.raw"))["files"].to_string()
    };
    assert!(!paths(&["x", &image]).contains("/opt/tool/x"));
    assert!(paths(&["x", &image, "--with-opt"]).contains("/opt/tool/x"));
}

#[test]
fn a_layer_can_come_from_a_pipe() {
    let workplace = Workplace::new();
    let archive = workplace.tar(&workplace.small_tree());
    // Its name would be recorded.
    let status = sysgraft(["sysext", "--no-provenance", "x", "-", "--output"])
        .arg(workplace.out())
        .stdin(fs::File::open(&archive).unwrap())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let piped = fs::read(workplace.out().join("x.sysext.raw")).unwrap();
    let file = format!("tar:{}", archive.display());
    build(&workplace, &["--no-provenance", "x", &file]);
    assert!(piped == fs::read(workplace.out().join("x.sysext.raw")).unwrap());
}

#[test]
fn inspect_tells_people_and_programs_the_same() {
    let workplace = Workplace::new();
    let image = format!("oci-archive:{}", workplace.example("hello").display());
    let built = build(
        &workplace,
        &[&RSA[..], &["--json", "hello", &image]].concat(),
    );
    let built: Value = serde_json::from_slice(&built.stdout).unwrap();
    let path = workplace.out().join("hello.sysext.raw");
    let facts = inspect(&path);
    assert_eq!(facts["rootHash"], built["rootHash"]);
    assert_eq!(facts["size"], fs::metadata(&path).unwrap().len());
    assert_eq!(facts["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(facts["partitions"][0]["label"], "root-x86-64");
    let output = sysgraft(["inspect"]).arg(&path).output().unwrap();
    let shown = text(&output.stdout);
    for word in [
        facts["rootHash"].as_str().unwrap(),
        "root-x86-64-verity-sig",
        "/usr/bin/hello",
        "ID=_any",
        "sysgraft example",
    ] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
}

#[test]
fn inspect_refuses_what_is_no_image() {
    let workplace = Workplace::new();
    let path = workplace.path("no-image");
    for content in [&b""[..], b"text", &[0; 100_000]] {
        fs::write(&path, content).unwrap();
        let output = sysgraft(["inspect"]).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("no-image"));
    }
}
