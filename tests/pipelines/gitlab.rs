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

/// Runs a job with these variables, which prevail over those of the template but not over the job's, as
/// those do that stand at the top of somebody's .gitlab-ci.yml.
fn job(
    template: &Value,
    name: &str,
    folder: &Path,
    more: &[(&str, &str)],
) -> Result<String, String> {
    let jobs = lineage(template, name);
    let declared = |place: &Value| -> Vec<(String, String)> {
        let variables = place["variables"].as_object().into_iter().flatten();
        variables
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    };
    let more = more
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut variables: BTreeMap<String, String> = declared(template).into_iter().collect();
    variables.extend(more);
    variables.extend(jobs.iter().rev().flat_map(|job| declared(job)));
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
            ("VERSION", "v1.2"),
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
    // As one job for several platforms makes several images.
    build("other", "").unwrap();

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
    let image = |name| place.path(&format!("feed/{name}_1.2_x86-64.sysext.raw"));
    let verified = sysgraft(["verify", "--certificate"])
        .args([example("db", "pem"), image("hello"), image("other")])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    assert!(!place.path("pwned").exists());

    // Without a program in the image of the job a release is fetched, and its checksum must be said.
    let url = ("SYSGRAFT_URL", "file:///dev/null");
    let wrong = "0".repeat(64);
    for (checksum, word) in [(None, "say SYSGRAFT_SHA256"), (Some(&wrong), "sha256sum")] {
        let mut release = vec![url];
        release.extend(checksum.map(|checksum| ("SYSGRAFT_SHA256", checksum.as_str())));
        let said = job(&template, ".sysgraft:sign", &folder, &release).unwrap_err();
        assert!(said.contains(word), "{said}");
    }
}

/// The job with the key writes no login and reads no folder of an earlier pipeline; a pipeline without
/// stages of its own has those of the template.
#[test]
fn the_jobs_fit_a_pipeline() {
    let Some(judges) = Judges::of("the_jobs_fit_a_pipeline") else {
        return;
    };
    let template = judges
        .documents(Path::new("pipelines/gitlab-ci.yml"))
        .remove(0);
    assert!(template["stages"].is_null());
    for (name, stage, strategy, steps) in [
        ("build", "build", None, 2),
        ("sign", "deploy", Some("empty"), 1),
        ("publish", "deploy", Some("empty"), 2),
    ] {
        let jobs = lineage(&template, &format!(".sysgraft:{name}"));
        assert_eq!(jobs[0]["stage"], stage);
        assert_eq!(jobs[0]["variables"]["GIT_STRATEGY"].as_str(), strategy);
        let before = jobs.iter().find_map(|job| job["before_script"].as_array());
        let before = before.unwrap();
        assert_eq!(before.len(), steps, "{name}");
        let login = before
            .iter()
            .any(|it| it.as_str().unwrap().contains("CI_REGISTRY"));
        assert_eq!(login, steps == 2, "{name}");
    }
}
