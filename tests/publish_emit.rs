//! What machines are provisioned with, judged by the programs that read it, or else by their schemas.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/published.rs"]
mod published;
mod support;
#[path = "support/units.rs"]
mod units;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use extension_image::example;
use published::{edition, publish, refused};
use serde_json::{Value, json};
use sysgraft::digest::Digest;
use units::systemd_takes;
use workplace::{Workplace, text};

const FEED: &str = "https://example.org/my%20feed";
const STORED: &str = "/var/lib/extensions.store/hello_1.2+k3s1_x86-64.sysext.raw";

/// An image and the fragments about it.
struct Emitted {
    workplace: Workplace,
    image: PathBuf,
}

impl Emitted {
    fn new() -> Emitted {
        let workplace = Workplace::new();
        let image = edition(&workplace.path(""), "hello", "1.2+k3s1", "x86-64");
        Emitted { workplace, image }
    }

    fn emit(&self, format: &str, flags: &[&str]) -> String {
        let certificate = example("db", "pem");
        let certificate = certificate.to_str().unwrap();
        let words = ["--emit", format, "--certificate", certificate];
        publish(&[&words, flags].concat(), &[&self.image])
    }

    fn digest(&self) -> String {
        Digest::of(&fs::read(&self.image).unwrap()).hex()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.workplace.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A YAML text as PyYAML reads it: every document of it.
    fn yaml(&self, judges: &Path, content: &str) -> Vec<Value> {
        let script = "import sys, json, yaml\n\
                      print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
        let path = self.put("emitted.yaml", content);
        let output = python(judges, script, &[&path]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Whether a document is what the schema says.
    fn judge(&self, judges: &Path, schema: &str, document: &Value) -> bool {
        let script = "import sys, json, jsonschema\n\
                      documents = [json.load(open(path)) for path in sys.argv[1:]]\n\
                      jsonschema.Draft202012Validator.check_schema(documents[1])\n\
                      jsonschema.validate(*documents)";
        let document = self.put("document.json", document.to_string());
        let schema = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/schemas")
            .join(schema);
        python(judges, script, &[&document, &schema])
            .status
            .success()
    }
}

fn python(judges: &Path, script: &str, files: &[&Path]) -> Output {
    let mut command = Command::new(judges.join("python3"));
    command.args(["-c", script]).args(files).output().unwrap()
}

/// The folder of Python and its packages that `.ci/publish-judges` makes, or the word that the test
/// cannot run.
macro_rules! judges {
    ($test:literal) => {{
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/publish-judges/bin");
        if !folder.join("jsonschema").exists() {
            return support::skip($test, "no jsonschema (.ci/publish-judges)");
        }
        folder
    }};
}

/// Whether Ignition takes it; `None` where there is none.
fn ignition_takes(path: &Path) -> Option<bool> {
    let output = Command::new("ignition-validate").arg(path).output().ok()?;
    Some(output.status.success())
}

fn file<'a>(config: &'a Value, path: &str) -> &'a Value {
    let files = config["storage"]["files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).unwrap()
}

#[test]
fn ignition_takes_its_configuration() {
    let test = "ignition_takes_its_configuration";
    let emitted = Emitted::new();
    let config = emitted.emit("ignition", &["--base-url", FEED]);
    let path = emitted.put("config.ign", &config);
    match ignition_takes(&path) {
        Some(taken) => assert!(taken, "{config}"),
        None => return support::skip(test, "ignition-validate is not installed"),
    }
    // It does look.
    let broken = config.replace("sha256-", "sha257-");
    assert_eq!(
        ignition_takes(&emitted.put("broken.ign", broken)),
        Some(false)
    );
    let config: Value = serde_json::from_str(&config).unwrap();
    let image = &file(&config, STORED)["contents"];
    assert_eq!(
        image["verification"]["hash"],
        format!("sha256-{}", emitted.digest())
    );
    let url = format!("{FEED}/hello_1.2%2Bk3s1_x86-64.sysext.raw");
    assert_eq!(image["source"], url);
    let link = json!({"path": "/var/lib/extensions/hello.raw", "target": STORED, "hard": false});
    assert_eq!(config["storage"]["links"], json!([link]));
}

/// Butane itself cannot be had here. Where only its sugar for texts is used, it says the same as
/// Ignition, which takes the rest.
#[test]
fn butane_says_the_same_as_ignition() {
    let test = "butane_says_the_same_as_ignition";
    let judges = judges!("butane_says_the_same_as_ignition");
    let emitted = Emitted::new();
    let flags = ["--base-url", FEED];
    let mut documents = emitted.yaml(&judges, &emitted.emit("butane", &flags));
    let config = &mut documents[0];
    let fields = config.as_object_mut().unwrap();
    assert_eq!(fields.remove("variant"), Some("flatcar".into()));
    assert_eq!(fields.remove("version"), Some("1.0.0".into()));
    fields.insert("ignition".to_owned(), json!({"version": "3.3.0"}));
    for file in config["storage"]["files"].as_array_mut().unwrap() {
        if let Some(text) = file["contents"]["inline"].as_str() {
            let encoded = openssl::base64::encode_block(text.as_bytes());
            file["contents"] = json!({"source": format!("data:;base64,{encoded}")});
        }
    }
    let expected: Value = serde_json::from_str(&emitted.emit("ignition", &flags)).unwrap();
    assert_eq!(*config, expected);
    match ignition_takes(&emitted.put("translated.ign", config.to_string())) {
        Some(taken) => assert!(taken, "{config}"),
        None => support::skip(test, "ignition-validate is not installed"),
    }
}

#[test]
fn systemd_takes_the_units() {
    let emitted = Emitted::new();
    let config = emitted.emit("ignition", &["--base-url", FEED]);
    let config: Value = serde_json::from_str(&config).unwrap();
    let mut paths = Vec::new();
    for unit in config["systemd"]["units"].as_array().unwrap() {
        if let Some(content) = unit["contents"].as_str() {
            // The program is not on this host.
            let content = content.replace("/usr/lib/systemd/systemd-sysupdate", "/bin/true");
            paths.push(emitted.put(unit["name"].as_str().unwrap(), content));
        }
    }
    assert_eq!(paths.len(), 2);
    systemd_takes("systemd_takes_the_units", &paths);
}

#[test]
fn prism_takes_its_fragment() {
    let judges = judges!("prism_takes_its_fragment");
    let emitted = Emitted::new();
    let documents = emitted.yaml(&judges, &emitted.emit("prism", &[]));
    let mut config = documents[0].clone();
    assert!(emitted.judge(&judges, "prism.json", &config), "{config}");
    let files = config["os"]["additionalFiles"].as_array().unwrap();
    assert_eq!(files[0]["destination"], "/var/lib/extensions/hello.raw");
    let certificate = fs::read_to_string(example("db", "pem")).unwrap();
    let written = files[1]["content"].as_str().unwrap();
    assert!(certificate.contains(written.trim()), "{written}");
    assert!(files[1]["destination"].as_str().unwrap().ends_with(".crt"));
    assert_eq!(
        config["os"]["services"]["enable"],
        json!(["systemd-sysext"])
    );
    config["os"]["additionalFiles"][0]["mode"] = 420.into();
    assert!(!emitted.judge(&judges, "prism.json", &config));
}

#[test]
fn mkosi_reads_its_fragment() {
    let mkosi = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/newer-mkosi/bin/mkosi");
    if !mkosi.exists() {
        return support::skip("mkosi_reads_its_fragment", "no mkosi (.ci/newer-mkosi)");
    }
    let emitted = Emitted::new();
    let fragment = emitted.emit("mkosi", &[]);
    let folder = emitted.workplace.out();
    fs::write(folder.join("mkosi.conf"), fragment).unwrap();
    let output = Command::new(mkosi)
        .args(["--distribution", "debian", "--json", "summary"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let trees = &summary["Images"][0]["ExtraTrees"];
    assert_eq!(trees[0]["Source"], emitted.image.to_str().unwrap());
    assert_eq!(trees[0]["Target"], "/var/lib/extensions/hello.raw");
    assert_eq!(trees[1]["Source"], example("db", "pem").to_str().unwrap());
}

#[test]
fn a_plan_is_one_and_pins_the_image() {
    let judges = judges!("a_plan_is_one_and_pins_the_image");
    let emitted = Emitted::new();
    let flags = ["--from-registry", "ghcr.io/me/hello"];
    let documents = emitted.yaml(&judges, &emitted.emit("k8s-plan", &flags));
    let mut plan = documents[0].clone();
    assert!(emitted.judge(&judges, "plan.json", &plan), "{plan}");
    assert_eq!(plan["spec"]["version"], "1.2_k3s1");
    let nodes = &plan["spec"]["nodeSelector"]["matchExpressions"];
    let labelled = json!({"key": "extensions/hello", "operator": "Exists"});
    assert!(nodes.as_array().unwrap().contains(&labelled), "{nodes}");
    let words = plan["spec"]["upgrade"]["args"].as_array().unwrap();
    let image = words[3].as_str().unwrap();
    assert!(image.starts_with("oci:ghcr.io/me/hello@sha256:"), "{image}");
    plan["spec"]["upgrade"]
        .as_object_mut()
        .unwrap()
        .remove("image");
    assert!(!emitted.judge(&judges, "plan.json", &plan));
    let documents = emitted.yaml(&judges, &emitted.emit("k8s-plan", &["--base-url", FEED]));
    let words = documents[0]["spec"]["upgrade"]["args"].as_array().unwrap();
    assert!(words.contains(&emitted.digest().into()));
}

/// Kairos publishes no schema of these fields: what is compared is what its documentation shows.
#[test]
fn a_cloud_config_names_extensions_and_trusts_their_signer() {
    let judges = judges!("a_cloud_config_names_extensions_and_trusts_their_signer");
    let emitted = Emitted::new();
    let config = emitted.emit("cloud-config", &["--from-registry", "ghcr.io/me/hello"]);
    assert!(config.starts_with("#cloud-config\n"));
    let documents = emitted.yaml(&judges, &config);
    let image = documents[0]["install"]["extensions"][0].as_str().unwrap();
    assert!(
        image.starts_with("oci://ghcr.io/me/hello@sha256:"),
        "{image}"
    );
    let file = &documents[0]["stages"]["initramfs"][0]["files"][0];
    assert_eq!(file["permissions"], 0o644);
    let certificate = fs::read_to_string(example("db", "pem")).unwrap();
    assert!(certificate.contains(file["content"].as_str().unwrap().trim()));
    let config = emitted.emit("cloud-config", &["--base-url", FEED]);
    let documents = emitted.yaml(&judges, &config);
    let url = format!("{FEED}/hello_1.2%2Bk3s1_x86-64.sysext.raw");
    assert_eq!(documents[0]["install"]["extensions"], json!([url]));
}

#[test]
fn what_would_not_work_is_not_emitted() {
    let emitted = Emitted::new();
    let image = emitted.image.as_path();
    let other = example("ec", "pem");
    let words = ["--emit", "prism", "--certificate", other.to_str().unwrap()];
    let said = refused(1, &words, &[image]);
    assert!(said.contains("not by the certificate"), "{said}");
    let said = refused(1, &["--emit", "butane"], &[image]);
    assert!(said.contains("--base-url"), "{said}");
    let said = refused(1, &["--emit", "k8s-plan"], &[image]);
    assert!(said.contains("--registry or --base-url"), "{said}");
    let arm = edition(&emitted.workplace.path("arm"), "hello", "1.2", "arm64");
    let said = refused(1, &["--emit", "prism"], &[image, &arm]);
    assert!(
        said.contains("the same extension, of which a machine has one"),
        "{said}"
    );
    for address in ["ftp://example.org", "https://me:secret@example.org/"] {
        refused(2, &["--emit", "butane", "--base-url", address], &[image]);
    }
    // The fragment alone goes to standard output.
    let feed = emitted.workplace.out();
    let words = ["--sysupdate", feed.to_str().unwrap(), "--base-url", FEED];
    let printed = emitted.emit("ignition", &words);
    assert!(serde_json::from_str::<Value>(&printed).is_ok(), "{printed}");
    assert_eq!(emitted.workplace.outputs().len(), 3);
}
