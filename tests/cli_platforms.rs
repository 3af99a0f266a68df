//! One run for several platforms: names, contents, partition types, what is left out, what fails.

#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_server.rs"]
mod registry_server;
#[path = "support/request_head.rs"]
mod request_head;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use registry_image::{Blobs, INDEX, index, tarball};
use registry_server::{Behaviour, RegistryServer};
use serde_json::{Value, json};
use support::skip;
use workplace::{Workplace, sysgraft, text};

const PLATFORMS: [&str; 6] = [
    "linux/amd64",
    "linux/arm64/v8",
    "linux/riscv64",
    "linux/arm/v6",
    "linux/arm/v7",
    "windows/amd64",
];

/// An image for each platform, whose one layer says for which.
fn images(platforms: &[&str]) -> (Blobs, Vec<u8>) {
    let mut blobs = Blobs::default();
    let mut manifests: Vec<Value> = platforms
        .iter()
        .map(|platform| {
            blobs.add_image(
                platform,
                &[&tarball(&[("usr/platform", platform.as_bytes())])],
            )
        })
        .collect();
    let attested = manifests[0].clone();
    let mut attestation = blobs.add_image("unknown/unknown", &[&tarball(&[("x", b"x")])]);
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": attested["digest"],
    });
    manifests.push(attestation);
    (blobs, index(&manifests))
}

/// The same as a layout, whose own index names that of the image.
fn layout(workplace: &Workplace, platforms: &[&str]) -> PathBuf {
    let (mut blobs, of_image) = images(platforms);
    let index = index(&[blobs.add(INDEX, of_image)]);
    let folder = workplace.path("layout");
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    for (digest, content) in &blobs.0 {
        fs::write(folder.join("blobs/sha256").join(digest.hex()), content).unwrap();
    }
    fs::write(folder.join("index.json"), index).unwrap();
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    folder
}

fn build(workplace: &Workplace, image: &str, arguments: &[&str]) -> Output {
    sysgraft(["sysext", "app", image, "--output"])
        .arg(workplace.out())
        .args(arguments)
        .output()
        .unwrap()
}

fn inspect(image: &Path) -> Value {
    let output = sysgraft(["inspect", "--json"]).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// For each file that was made: ARCHITECTURE, label of the data partition, size of `usr/platform`.
fn made(workplace: &Workplace) -> BTreeMap<String, (String, String, u64)> {
    let facts = |name: &String| {
        let facts = inspect(&workplace.out().join(name));
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let files = facts["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"] == "/usr/platform");
        (
            word(&facts["release"]["ARCHITECTURE"]),
            word(&facts["partitions"][0]["label"]),
            file.unwrap()["size"].as_u64().unwrap(),
        )
    };
    let names = workplace.outputs();
    names
        .iter()
        .map(|name| (name.clone(), facts(name)))
        .collect()
}

fn expected(files: &[(&str, &str, &str)]) -> BTreeMap<String, (String, String, u64)> {
    let entry = |(name, architecture, platform): &(&str, &str, &str)| {
        let label = format!("root-{architecture}");
        (
            (*name).to_owned(),
            ((*architecture).to_owned(), label, platform.len() as u64),
        )
    };
    files.iter().map(entry).collect()
}

#[test]
fn all_platforms_of_a_layout_give_one_extension_each() {
    let workplace = Workplace::new();
    let image = format!("oci:{}", layout(&workplace, &PLATFORMS).display());
    let output = build(
        &workplace,
        &image,
        &["--platform=all", "--extension-version=1.2", "--json"],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        made(&workplace),
        expected(&[
            ("app_1.2_arm.sysext.raw", "arm", "linux/arm/v7"),
            ("app_1.2_arm64.sysext.raw", "arm64", "linux/arm64/v8"),
            ("app_1.2_riscv64.sysext.raw", "riscv64", "linux/riscv64"),
            ("app_1.2_x86-64.sysext.raw", "x86-64", "linux/amd64"),
        ])
    );
    let said = text(&output.stderr);
    assert!(said.contains("linux/arm/v6 is left out"), "{said}");
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let platforms: Vec<&Value> = (facts.as_array().unwrap().iter())
        .map(|facts| &facts["platform"])
        .collect();
    assert_eq!(
        platforms,
        [
            "linux/amd64",
            "linux/arm64/v8",
            "linux/riscv64",
            "linux/arm/v7"
        ]
    );
}

#[test]
fn all_platforms_of_a_registry_are_found() {
    let workplace = Workplace::new();
    let (blobs, document) = images(&["linux/riscv64", "linux/amd64/v3", "linux/amd64"]);
    let registry = RegistryServer::start(Behaviour::new(blobs, "1", document));
    let image = format!("docker://{}/app:1", registry.host());
    let output = build(&workplace, &image, &["--platform", "all"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        made(&workplace),
        expected(&[
            ("app_riscv64.sysext.raw", "riscv64", "linux/riscv64"),
            ("app_x86-64.sysext.raw", "x86-64", "linux/amd64"),
        ])
    );
}

#[test]
fn all_platforms_come_from_one_index_wherever_its_tag_moves() {
    for platforms in ["all", "amd64,riscv64"] {
        let workplace = Workplace::new();
        let (mut blobs, document) = images(&["linux/riscv64", "linux/amd64"]);
        blobs.add(INDEX, document.clone());
        let (others, moved) = images(&["linux/amd64/v2", "linux/riscv64"]);
        blobs.0.extend(others.0);
        let mut behaviour = Behaviour::new(blobs, "1", document.clone());
        behaviour.moves.insert("1".to_owned(), moved);
        let registry = RegistryServer::start(behaviour);
        let image = format!("docker://{}/app:1", registry.host());
        let output = build(&workplace, &image, &["--platform", platforms]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            made(&workplace),
            expected(&[
                ("app_riscv64.sysext.raw", "riscv64", "linux/riscv64"),
                ("app_x86-64.sysext.raw", "x86-64", "linux/amd64"),
            ])
        );
        let requests = registry.requests();
        let of_tag = requests.iter().filter(|path| path.ends_with("manifests/1"));
        assert_eq!(of_tag.count(), 1);
    }
}

#[test]
fn named_platforms_have_the_architecture_in_the_name_only_if_they_are_several() {
    let workplace = Workplace::new();
    let image = format!("oci:{}", layout(&workplace, &PLATFORMS).display());
    let one = build(&workplace, &image, &["--platform=linux/riscv64", "--json"]);
    assert!(one.status.success(), "{}", text(&one.stderr));
    let facts: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(facts["platform"], "linux/riscv64");
    assert_eq!(
        made(&workplace),
        expected(&[("app.sysext.raw", "riscv64", "linux/riscv64")])
    );
    fs::remove_file(workplace.out().join("app.sysext.raw")).unwrap();
    let two = build(
        &workplace,
        &image,
        &["--platform=amd64,linux/arm/v6", "--arch=riscv64"],
    );
    assert!(two.status.success(), "{}", text(&two.stderr));
    assert_eq!(
        made(&workplace),
        expected(&[
            ("app_arm.sysext.raw", "arm", "linux/arm/v6"),
            ("app_riscv64.sysext.raw", "riscv64", "linux/riscv64"),
            ("app_x86-64.sysext.raw", "x86-64", "linux/amd64"),
        ])
    );
}

#[test]
fn a_platform_that_fails_does_not_take_the_others_with_it() {
    let workplace = Workplace::new();
    let image = format!("oci:{}", layout(&workplace, &PLATFORMS).display());
    let output = build(
        &workplace,
        &image,
        &["--platform=amd64,s390x,riscv64", "--json"],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("no extension for linux/s390x"), "{said}");
    assert_eq!(
        workplace.outputs(),
        ["app_riscv64.sysext.raw", "app_x86-64.sysext.raw"]
    );
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts.as_array().unwrap().len(), 2);
}

#[test]
fn platforms_that_cannot_be_told_apart_or_found_are_refused() {
    let workplace = Workplace::new();
    let image = format!("oci:{}", layout(&workplace, &PLATFORMS).display());
    let tree = format!("dir:{}", workplace.small_tree().display());
    for (image, platforms, code, reason) in [
        (
            &image,
            "linux/arm/v6,linux/arm/v7",
            2,
            "files of the same name",
        ),
        (&image, "amd64,amd64", 2, "files of the same name"),
        (&image, "all,amd64", 2, "once and alone"),
        (&image, "amd64,all", 2, "once and alone"),
        (&image, "all,all", 2, "once and alone"),
        (&tree, "all", 1, "finds no platform"),
        (&"-".to_owned(), "amd64,arm64", 2, "read once only"),
        (&"-".to_owned(), "all", 2, "read once only"),
        (
            &"tar:/dev/stdin".to_owned(),
            "amd64,arm64",
            2,
            "read once only",
        ),
    ] {
        let output = build(&workplace, image, &["--platform", platforms]);
        assert_eq!(output.status.code(), Some(code));
        let said = text(&output.stderr);
        assert!(said.contains(reason), "{said}");
        assert!(workplace.outputs().is_empty());
    }
    let unknown = build(&workplace, &image, &["--platform=amd65"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn skopeos_copy_of_a_multi_platform_image_gives_the_same_bytes() {
    let workplace = Workplace::new();
    let folder = layout(&workplace, &PLATFORMS[..3]);
    let archive = workplace.path("app.oci.tar");
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--all", "--quiet"])
        .arg(format!("oci:{}", folder.display()))
        .arg(format!("oci-archive:{}", archive.display()))
        .output();
    match copied {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{}", text(&output.stderr)),
        Err(error) => {
            let test = "skopeos_copy_of_a_multi_platform_image_gives_the_same_bytes";
            return skip(test, &format!("skopeo cannot be started: {error}"));
        }
    }
    let images = [
        format!("oci:{}", folder.display()),
        format!("oci-archive:{}", archive.display()),
    ];
    let built = images.map(|image| {
        let output = build(&workplace, &image, &["--platform=all", "--no-provenance"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let names = workplace.outputs();
        assert_eq!(names.len(), 3);
        let content = |name: &String| fs::read(workplace.out().join(name)).unwrap();
        names.iter().map(content).collect::<Vec<_>>()
    });
    assert!(built[0] == built[1]);
}
