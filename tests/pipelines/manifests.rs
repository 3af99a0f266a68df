//! Pipelines and manifests are what those who read them take: judged by their programs, else by schemas.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::extension_image::example;
use crate::judges::{Judges, shellcheck};
use crate::published::{edition, publish};
use crate::support::skip;
use crate::workplace::{Workplace, text};

const CHECK: &str = "check-jsonschema";

/// A judge takes the file, and would not take it with a mistake in it.
fn judged(judges: &Judges, (program, words): (&str, &[&str]), file: &str, mistake: (&str, &str)) {
    let output = judges.ask(program, words, &[Path::new(file)]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{program} of {file}: {said}");
    let content = fs::read_to_string(file).unwrap();
    assert!(content.contains(mistake.0), "{file} has no {}", mistake.0);
    let spoilt = content.replacen(mistake.0, mistake.1, 1);
    let name = Path::new(file).file_name().unwrap().to_str().unwrap();
    let taken = judges.takes((program, words), name, &spoilt);
    assert!(!taken, "{program} does not see {} in {file}", mistake.1);
}

#[test]
fn github_takes_the_action_and_the_workflow() {
    let Some(judges) = Judges::of("github_takes_the_action_and_the_workflow") else {
        return;
    };
    let action = &["--builtin-schema", "vendor.github-actions"];
    let workflow = &["--builtin-schema", "vendor.github-workflows"];
    let mistake = ("using: composite", "using: composed");
    judged(&judges, (CHECK, action), "action.yml", mistake);
    let file = "pipelines/github-workflow.yml";
    judged(&judges, (CHECK, workflow), file, ("runs-on:", "run-on:"));
    let offline = &["--offline", "--no-progress", "--format=plain"];
    let mistake = ("realpath \"$PROGRAM\"", "realpath ${{ inputs.program }}");
    judged(&judges, ("zizmor", offline), "action.yml", mistake);
    let pinned = "checkout@11bd71901bbe5b1630ceea73d27597364c9af683";
    let mistake = (pinned, "checkout@v4");
    judged(&judges, ("zizmor", offline), file, mistake);
}

#[test]
fn each_job_of_the_workflow_has_the_least() {
    let Some(judges) = Judges::of("each_job_of_the_workflow_has_the_least") else {
        return;
    };
    let workflow = judges.documents(Path::new("pipelines/github-workflow.yml"));
    let jobs = workflow[0]["jobs"].as_object().unwrap();
    assert_eq!(jobs.len(), 3);
    for (name, job) in jobs {
        let text = job.to_string();
        let has = |word: &str| text.contains(word);
        assert_eq!(has("secrets."), name == "sign", "{text}");
        assert_eq!(job["environment"] == "release", name == "sign");
        assert_eq!(has("docker build"), name == "build", "{text}");
        let publishes = name == "publish";
        assert_eq!(
            (has("\"packages\""), has("docker login")),
            (publishes, publishes)
        );
    }
}

#[test]
fn gitlab_takes_the_template() {
    let Some(judges) = Judges::of("gitlab_takes_the_template") else {
        return;
    };
    let template = fs::read_to_string("pipelines/gitlab-ci.yml").unwrap();
    // The schema does not look at hidden jobs.
    let shown = template.replace(".sysgraft", "sysgraft");
    let judge = (CHECK, &["--builtin-schema", "vendor.gitlab-ci"][..]);
    assert!(judges.takes(judge, "gitlab-ci.yml", &template));
    assert!(judges.takes(judge, "gitlab-ci.yml", &shown));
    let spoilt = shown.replace("environment: release", "environment: [release]");
    assert!(!judges.takes(judge, "gitlab-ci.yml", &spoilt));
}

#[test]
fn kubernetes_takes_the_manifests() {
    let Some(judges) = Judges::of("kubernetes_takes_the_manifests") else {
        return;
    };
    for version in ["1.30", "1.37"] {
        let words = &["--strict", "--kubernetes-version", version];
        let mistake = ("fsGroup: 65532", "fsGroup: staff");
        let file = "pipelines/kubernetes/build-job.yaml";
        judged(&judges, ("kubernetes-validate", words), file, mistake);
        let mistake = ("minReadySeconds", "minimalReadySeconds");
        let file = "pipelines/kubernetes/daemonset.yaml";
        judged(&judges, ("kubernetes-validate", words), file, mistake);
    }
}

#[test]
fn tekton_and_argo_take_theirs() {
    let Some(judges) = Judges::of("tekton_and_argo_take_theirs") else {
        return;
    };
    let tekton = judges.documents(Path::new("pipelines/tekton.yaml"));
    let argo = judges.documents(Path::new("pipelines/argo.yaml"));
    let cases = [
        ("tekton-task.json", &tekton[0], "/spec/steps/0/image"),
        ("tekton-pipeline.json", &tekton[1], "/spec/tasks/1/runAfter"),
        ("argo.json", &argo[0], "/spec/templates/1/container/args"),
    ];
    assert_eq!((tekton.len(), argo.len()), (2, 1));
    for (schema, document, field) in cases {
        assert!(judges.fits(schema, document), "{document}");
        let mut spoilt = document.clone();
        *spoilt.pointer_mut(field).unwrap() = 7.into();
        assert!(!judges.fits(schema, &spoilt), "{schema} takes {field}");
    }
}

/// The file is what the command of its comment prints, and what is more is said to be.
#[test]
fn the_plan_is_what_publish_emits() {
    let Some(judges) = Judges::of("the_plan_is_what_publish_emits") else {
        return;
    };
    let file = judges.documents(Path::new("pipelines/kubernetes/plan.yaml"));
    assert!(judges.fits("plan.json", &file[0]), "{}", file[0]);
    let workplace = Workplace::new();
    let image = edition(&workplace.path(""), "k3s", "1.30.4", "x86-64");
    let words = ["--emit", "k8s-plan", "--certificate"];
    let certificate = example("db", "pem");
    let repository = "registry.example.org/extensions/k3s";
    let from = [certificate.to_str().unwrap(), "--from-registry", repository];
    let emitted = workplace.path("plan.yaml");
    fs::write(&emitted, publish(&[&words[..], &from].concat(), &[&image])).unwrap();
    let mut emitted = judges.documents(&emitted)[0].clone();
    let pinned = emitted["spec"]["upgrade"]["args"][3].as_str().unwrap();
    let (place, digest) = pinned.split_once("@sha256:").unwrap();
    let zeros = format!("{place}@sha256:{}", "0".repeat(digest.len()));
    emitted["spec"]["upgrade"]["args"][3] = zeros.into();

    let mut plan = file[0].clone();
    let arguments = plan["spec"]["upgrade"]["args"].as_array_mut().unwrap();
    assert_eq!(arguments.split_off(6), ["--health-unit", "k3s.service"]);
    for more in ["cordon", "jobActiveDeadlineSecs", "tolerations"] {
        assert!(plan["spec"].as_object_mut().unwrap().remove(more).is_some());
    }
    assert_eq!(plan, emitted);
}

/// Every script of a document: the texts of more than one line.
fn scripts(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::String(text) if text.trim_end().contains('\n') => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| scripts(value, found)),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| {
                !["description", "data", "variables", "with"].contains(&name.as_str())
            })
            .for_each(|(_, value)| scripts(value, found)),
        _ => {}
    }
}

#[test]
fn shellcheck_takes_every_script() {
    let test = "shellcheck_takes_every_script";
    let Some(judges) = Judges::of(test) else {
        return;
    };
    let files = [
        ("bash", "action.yml", 3),
        ("bash", "pipelines/github-workflow.yml", 2),
        ("sh", "pipelines/gitlab-ci.yml", 5),
        ("sh", "pipelines/kubernetes/daemonset.yaml", 1),
    ];
    for (shell, file, count) in files {
        let mut found = Vec::new();
        for document in judges.documents(Path::new(file)) {
            scripts(&document, &mut found);
        }
        assert_eq!(found.len(), count, "{file}: {found:#?}");
        for script in found {
            match shellcheck(shell, &script) {
                Some(result) => assert_eq!(result, Ok(()), "{file}"),
                None => return skip(test, "shellcheck is not installed"),
            }
        }
    }
    assert!(shellcheck("sh", "rm -rf $1\n").unwrap().is_err());
}
