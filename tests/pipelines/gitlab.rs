//! The template for GitLab, whose jobs are run one after the other as a runner runs them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::extension_image::example;
use crate::judges::Judges;
use crate::workplace::{Workplace, sysgraft, text};

/// A job with everything that it extends, nearest first.
fn lineage<'a>(template: &'a Value, job: &str) -> Vec<&'a Value> {
    let mut jobs = vec![&template[job]];
    while let Some(parent) = jobs.last().unwrap()["extends"].as_str() {
        jobs.push(&template[parent]);
    }
    jobs
}

/// Runs a job with these variables.
fn job(
    template: &Value,
    name: &str,
    folder: &Path,
    more: &[(&str, &str)],
) -> Result<String, String> {
    let jobs = lineage(template, name);
    let mut variables = BTreeMap::new();
    for job in jobs.iter().rev() {
        for (name, value) in job["variables"].as_object().into_iter().flatten() {
            variables.insert(name.clone(), value.as_str().unwrap().to_owned());
        }
    }
    variables.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let mut script = String::new();
    for field in ["before_script", "script"] {
        let lines = jobs.iter().find_map(|job| job[field].as_array()).unwrap();
        for line in lines {
            script += &format!("{}\n", line.as_str().unwrap());
        }
    }
    let output = Command::new("sh")
        .args(["-e", "-c", &script])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", folder)
        .envs(variables)
        .output()
        .unwrap();
    let log = text(&output.stdout) + &text(&output.stderr);
    if output.status.success() {
        Ok(log)
    } else {
        Err(log)
    }
}

#[test]
fn the_jobs_build_sign_and_publish() {
    let Some(judges) = Judges::of("the_jobs_build_sign_and_publish") else {
        return;
    };
    let template = judges
        .documents(Path::new("pipelines/gitlab-ci.yml"))
        .remove(0);
    let place = Workplace::new();
    let folder = place.path("");
    fs::create_dir(place.path("feed")).unwrap();
    fs::create_dir_all(place.path("rootfs/usr/share/hello")).unwrap();
    fs::write(place.path("rootfs/usr/share/hello/greeting"), "hello\n").unwrap();
    // GitLab makes files of variables that others can read.
    let key = place.path("key");
    fs::copy(example("db", "key"), &key).unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let certificate = example("db", "pem");
    let certificate = ("SYSGRAFT_CERTIFICATE", certificate.to_str().unwrap());
    let program = ("SYSGRAFT", env!("CARGO_BIN_EXE_sysgraft"));

    let evil = "a; touch pwned; $(touch pwned)";
    let build = |name, arguments| {
        let words = [
            ("NAME", name),
            ("IMAGE", "dir:rootfs"),
            ("VERSION", "1.2"),
            ("ARGUMENTS", arguments),
        ];
        let registry = [
            ("CI_REGISTRY", "registry.example.org"),
            ("CI_REGISTRY_USER", "job"),
            ("CI_REGISTRY_PASSWORD", "s3cret"),
        ];
        let variables = [&words[..], &registry, &[certificate, program]].concat();
        job(&template, ".sysgraft:build", &folder, &variables)
    };
    assert!(build(evil, "").is_err() && build("hello", evil).is_err());
    let log = build(
        "hello",
        "--reload-manager\n\n--set\nSYSEXT_PRETTY_NAME=Hello you",
    )
    .unwrap();
    assert!(!log.contains("s3cret"), "{log}");

    let key = ("SYSGRAFT_PRIVATE_KEY", key.to_str().unwrap());
    let log = job(
        &template,
        ".sysgraft:sign",
        &folder,
        &[key, certificate, program],
    )
    .unwrap();
    assert!(!log.contains("can be read by others"), "{log}");
    let publish = "--sysupdate\nfeed\n--base-url=https://example.org/feed";
    let publish = [("PUBLISH", publish), certificate, program];
    job(&template, ".sysgraft:publish", &folder, &publish).unwrap();
    let image = place.path("feed/hello_1.2_x86-64.sysext.raw");
    let verified = sysgraft(["verify", "--certificate"])
        .args([example("db", "pem"), image])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    assert!(!place.path("pwned").exists());

    // Without a program in the image of the job a release is fetched, and its checksum must be said.
    let release = [("SYSGRAFT", ""), ("SYSGRAFT_URL", "file:///dev/null")];
    let said = job(&template, ".sysgraft:sign", &folder, &release).unwrap_err();
    assert!(said.contains("sha256sum"), "{said}");
}
