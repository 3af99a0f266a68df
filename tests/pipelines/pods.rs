//! The pods of the Job, of Tekton and of Argo: their command lines build, sign and publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::extension_image::example;
use crate::judges::Judges;
use crate::pod::Pod;
use crate::registry_real::{LOGIN, RealRegistry, Setup};
use crate::support::skip;
use crate::workplace::{Workplace, run, sysgraft, text};

/// A cluster's node, with a registry in reach that has an image.
struct Cluster {
    judges: Judges,
    pod: Pod,
    registry: RealRegistry,
    /// What stands in manifests, and what it is here.
    substitutes: BTreeMap<String, String>,
}

impl Cluster {
    fn new(test: &str) -> Option<Cluster> {
        let judges = Judges::of(test)?;
        let pod = Pod::new(test, &["images", "keys", "login"])?;
        let setup = Setup {
            login: true,
            ..Setup::default()
        };
        let registry = match RealRegistry::start(setup) {
            Ok(registry) => registry,
            Err(problem) => {
                skip(test, &problem);
                return None;
            }
        };
        let place = Workplace::new();
        let layout = place.path("layout");
        fs::create_dir(&layout).unwrap();
        run(Command::new("tar")
            .arg("-xf")
            .arg(place.example("service"))
            .arg("-C")
            .arg(&layout));
        if let Err(problem) = registry.push_layout(&layout, "k3s", "1.30.4") {
            skip(test, &problem);
            return None;
        }
        pod.secret("keys/tls.key", fs::read(example("db", "key")).unwrap());
        pod.secret("keys/tls.crt", fs::read(example("db", "pem")).unwrap());
        let login = json!({"auths": {registry.host(): {"auth": openssl::base64::encode_block(LOGIN.as_bytes())}}});
        pod.secret("login/.dockerconfigjson", login.to_string());
        let mut substitutes = BTreeMap::new();
        substitutes.insert("registry.example.org".to_owned(), registry.host());
        Some(Cluster {
            judges,
            pod,
            registry,
            substitutes,
        })
    }

    fn manifests(&self, file: &str) -> Vec<Value> {
        self.judges.documents(&Path::new("pipelines").join(file))
    }

    /// Runs the three containers, and looks at what became of it.
    fn publishes(&self, build: &Value, sign: &Value, publish: &Value) {
        let mounts = |container: &Value| {
            let mounts = container["volumeMounts"].as_array().unwrap().iter();
            let names: Vec<String> = mounts
                .map(|it| it["name"].as_str().unwrap().to_owned())
                .collect();
            names.join(" ")
        };
        assert_eq!(
            [build, sign, publish].map(mounts),
            ["images login", "images keys", "images login"]
        );
        self.pod.runs(build, &self.substitutes);
        let image = self.pod.volume("images/k3s_1.30.4.sysext.raw");
        let verify = || {
            sysgraft(["verify", "--certificate"])
                .args([&example("db", "pem"), &image])
                .output()
                .unwrap()
        };
        assert!(!verify().status.success());
        self.pod.runs(sign, &self.substitutes);
        let verified = verify();
        assert!(verified.status.success(), "{}", text(&verified.stderr));
        // Without this an upgrade would leave the old program running.
        let shown = sysgraft(["inspect", "--json"])
            .arg(&image)
            .output()
            .unwrap();
        let shown = text(&shown.stdout);
        assert!(shown.contains("EXTENSION_RESTART_UNITS"), "{shown}");
        self.pod.runs(publish, &self.substitutes);
        let tags = Command::new("skopeo")
            .args(["list-tags", "--tls-verify=false", "--creds", LOGIN])
            .arg(format!("docker://{}/extensions/k3s", self.registry.host()))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let tags: Value = serde_json::from_slice(&tags.stdout).unwrap();
        let tags = tags["Tags"].as_array().unwrap();
        for tag in ["1.30.4", "1.30.4-amd64", "latest"] {
            assert!(tags.contains(&tag.into()), "{tags:?}");
        }
    }
}

#[test]
fn the_job_builds_signs_and_publishes() {
    let Some(cluster) = Cluster::new("the_job_builds_signs_and_publishes") else {
        return;
    };
    let job = cluster.manifests("kubernetes/build-job.yaml").remove(0);
    let pod = &job["spec"]["template"]["spec"];
    let (first, last) = (&pod["initContainers"], &pod["containers"]);
    cluster.publishes(&first[0], &first[1], &last[0]);
}

#[test]
fn the_workflow_of_argo_does_too() {
    let Some(mut cluster) = Cluster::new("the_workflow_of_argo_does_too") else {
        return;
    };
    let workflow = cluster.manifests("argo.yaml").remove(0);
    let given = [
        ("name", "k3s"),
        ("image", "docker://registry.example.org/k3s:1.30.4"),
        ("version", "1.30.4"),
        ("unit", "k3s.service"),
        ("repository", "registry.example.org/extensions/k3s"),
    ];
    let defaults = workflow["spec"]["arguments"]["parameters"]
        .as_array()
        .unwrap()
        .iter();
    let defaults = defaults.filter_map(|it| Some((it["name"].as_str()?, it["value"].as_str()?)));
    for (name, value) in defaults.chain(given) {
        let value = value.replace("registry.example.org", &cluster.registry.host());
        let name = format!("{{{{workflow.parameters.{name}}}}}");
        cluster.substitutes.insert(name, value);
    }
    let container = |template: &str| {
        let templates = workflow["spec"]["templates"].as_array().unwrap();
        &templates.iter().find(|it| it["name"] == template).unwrap()["container"]
    };
    let steps = workflow["spec"]["templates"][0]["steps"]
        .as_array()
        .unwrap();
    let [build, sign, publish] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    let of = |step: &Value| container(step[0]["template"].as_str().unwrap());
    cluster.publishes(of(build), of(sign), of(publish));
}

#[test]
fn the_pipeline_of_tekton_does_too() {
    let Some(mut cluster) = Cluster::new("the_pipeline_of_tekton_does_too") else {
        return;
    };
    let [task, pipeline] = cluster.manifests("tekton.yaml").try_into().unwrap();
    let run = cluster.manifests("tekton-run.yaml").remove(0);
    assert!(cluster.judges.fits("tekton-run.json", &run), "{run}");
    let defaults = pipeline["spec"]["params"].as_array().unwrap().iter();
    let defaults = defaults.filter_map(|it| Some((it["name"].as_str()?, it["default"].as_str()?)));
    let given = run["spec"]["params"].as_array().unwrap().iter();
    let given = given.map(|it| (it["name"].as_str().unwrap(), it["value"].as_str().unwrap()));
    for (name, value) in defaults.chain(given) {
        let value = value.replace("registry.example.org", &cluster.registry.host());
        cluster
            .substitutes
            .insert(format!("$(params.{name})"), value);
    }
    let containers: Vec<Value> = pipeline["spec"]["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| container(&task, it))
        .collect();
    let [build, sign, publish] = containers.as_slice() else {
        panic!("{containers:?}");
    };
    cluster.publishes(build, sign, publish);
}

/// The container of a task with the arguments and the workspaces that a pipeline gives it.
fn container(task: &Value, given: &Value) -> Value {
    assert_eq!(given["taskRef"]["name"], task["metadata"]["name"]);
    let mut container = task["spec"]["steps"][0].clone();
    assert_eq!(container["args"], json!(["$(params.arguments[*])"]));
    assert_eq!(given["params"][0]["name"], "arguments");
    container["args"] = given["params"][0]["value"].clone();
    let declared = task["spec"]["workspaces"].as_array().unwrap();
    let bound = given["workspaces"].as_array().unwrap();
    let mounts = bound.iter().map(|workspace| {
        let it = declared
            .iter()
            .find(|it| it["name"] == workspace["name"])
            .unwrap();
        json!({"name": it["name"], "mountPath": it["mountPath"]})
    });
    container["volumeMounts"] = mounts.collect();
    container
}
