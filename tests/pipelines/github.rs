//! The GitHub Action, whose steps are run as a runner runs them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sysgraft::digest::Digest;

use crate::extension_image::example;
use crate::judges::Judges;
use crate::workplace::{Workplace, run, sysgraft, text};

/// A program in the place of sysgraft that notes what it is told and what it sees, and then is sysgraft.
const WITNESS: &str = r#"#!/bin/sh
for word; do
    echo "word $word"
    case $word in --private-key=*) stat -c 'key mode %a' "${word#*=}" "$(dirname "${word#*=}")" ;; esac
done >>"$WITNESS"
env >>"$WITNESS"
exec "$SYSGRAFT" "$@"
"#;

/// The action on a runner of its own.
struct Action {
    document: Value,
    place: Workplace,
}

/// What became of a run.
#[derive(Default)]
struct Outcome {
    failed: bool,
    outputs: BTreeMap<String, String>,
    log: String,
}

impl Action {
    fn new(test: &str) -> Option<Action> {
        let document = Judges::of(test)?
            .documents(Path::new("action.yml"))
            .remove(0);
        let place = Workplace::new();
        for folder in ["temp", "work/feed", "work/rootfs/usr/share/hello"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        fs::write(
            place.path("work/rootfs/usr/share/hello/greeting"),
            "hello\n",
        )
        .unwrap();
        fs::write(place.path("witness"), WITNESS).unwrap();
        fs::set_permissions(place.path("witness"), PermissionsExt::from_mode(0o755)).unwrap();
        Some(Action { document, place })
    }

    /// Runs the steps with these inputs; those with a default may be left out.
    fn run(&self, inputs: &[(&str, &str)]) -> Outcome {
        let mut context = BTreeMap::new();
        for (name, input) in self.document["inputs"].as_object().unwrap() {
            let default = input["default"].as_str().unwrap();
            context.insert(format!("inputs.{name}"), default.to_owned());
        }
        for (name, value) in inputs {
            let known = context.insert(format!("inputs.{name}"), (*value).to_owned());
            assert!(known.is_some(), "{name} is no input");
        }
        let mut outcome = Outcome::default();
        for (index, step) in self.document["runs"]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let condition = step["if"].as_str().unwrap_or("success()");
            if condition == "always()" || (!outcome.failed && holds(condition, &context)) {
                self.step(index, step, &mut context, &mut outcome);
            }
        }
        for (name, output) in self.document["outputs"].as_object().unwrap() {
            let value = expanded(output["value"].as_str().unwrap(), &context);
            outcome.outputs.insert(name.clone(), value);
        }
        outcome
    }

    fn step(
        &self,
        index: usize,
        step: &Value,
        context: &mut BTreeMap<String, String>,
        outcome: &mut Outcome,
    ) {
        assert_eq!(step["shell"], "bash");
        let script = self.place.path(&format!("step-{index}"));
        fs::write(&script, step["run"].as_str().unwrap()).unwrap();
        let told = self.place.path(&format!("output-{index}"));
        fs::write(&told, "").unwrap();
        // The command line of GitHub's documentation of `shell: bash`.
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-eo", "pipefail"])
            .arg(&script);
        command
            .current_dir(self.place.path("work"))
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.place.path("work"))
            .env("RUNNER_TEMP", self.place.path("temp"))
            .env("RUNNER_OS", "Linux")
            .env("RUNNER_ARCH", "X64")
            .env("GITHUB_OUTPUT", &told)
            .env("SYSGRAFT", env!("CARGO_BIN_EXE_sysgraft"))
            .env("WITNESS", self.place.path("witnessed"));
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, expanded(value.as_str().unwrap(), context));
        }
        let output = command.output().unwrap();
        outcome.failed |= !output.status.success();
        outcome.log += &(text(&output.stdout) + &text(&output.stderr));
        let id = step["id"].as_str().unwrap_or_default();
        for line in fs::read_to_string(told).unwrap().lines() {
            let (name, value) = line.split_once('=').unwrap();
            context.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
        }
    }

    /// The same, with the program under test, which must succeed.
    fn builds(&self, inputs: &[(&str, &str)]) -> Outcome {
        let witness = self.place.path("witness");
        let program = [
            ("program", witness.to_str().unwrap()),
            ("image", "dir:rootfs"),
        ];
        let outcome = self.run(&[&program, inputs].concat());
        assert!(!outcome.failed, "{}", outcome.log);
        self.left_nothing_behind();
        outcome
    }

    /// The same, which must fail; the log.
    fn fails(&self, inputs: &[(&str, &str)]) -> String {
        let witness = self.place.path("witness");
        let program = [
            ("program", witness.to_str().unwrap()),
            ("image", "dir:rootfs"),
        ];
        let outcome = self.run(&[&program, inputs].concat());
        assert!(outcome.failed, "{}", outcome.log);
        self.left_nothing_behind();
        outcome.log
    }

    fn left_nothing_behind(&self) {
        let left: Vec<PathBuf> = fs::read_dir(self.place.path("temp"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.to_str().unwrap().contains("/sysgraft."))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Outcome {
    fn json(&self, output: &str) -> Value {
        serde_json::from_str(&self.outputs[output]).unwrap()
    }
}

/// A text with the values of its `${{ … }}`; what has no value is empty.
fn expanded(text: &str, context: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${{");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap();
        result += context.get(name.trim()).map_or("", String::as_str);
        result += rest;
    }
    result
}

/// Whether a condition holds that asks for inputs that are not empty.
fn holds(condition: &str, context: &BTreeMap<String, String>) -> bool {
    condition
        .split(" && ")
        .all(|term| match term.split_once(" != ''") {
            Some((name, "")) => !context[name].is_empty(),
            _ => term == "success()",
        })
}

fn pem(name: &str, kind: &str) -> String {
    fs::read_to_string(example(name, kind)).unwrap()
}

#[test]
fn the_action_builds_signs_and_publishes() {
    let Some(action) = Action::new("the_action_builds_signs_and_publishes") else {
        return;
    };
    let (key, certificate) = (pem("db", "key"), pem("db", "pem"));
    let outcome = action.builds(&[
        ("name", "hello"),
        ("private-key", &key),
        ("certificate", &certificate),
        ("extension-version", "1.2"),
        ("output", "a folder/build"),
        (
            "arguments",
            "--set\nSYSEXT_PRETTY_NAME=Hello you\n\n--reload-manager",
        ),
        (
            "publish",
            "--sysupdate\nfeed\n--base-url=https://example.org/feed\n",
        ),
    ]);
    let file = "a folder/build/hello_1.2.sysext.raw";
    assert_eq!(outcome.json("files"), json!([file]));
    assert_eq!(outcome.json("sign-requests"), json!([]));
    let image = action.place.path("work").join(file);
    let verified = sysgraft(["verify", "--json", "--certificate"])
        .args([&example("db", "pem"), &image])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let facts = text(&verified.stdout);
    let root_hash = outcome.json("root-hash")[0].as_str().unwrap().to_owned();
    assert!(facts.contains(&root_hash), "{facts}");
    assert!(
        action
            .place
            .path("work/feed/hello_1.2_x86-64.sysext.raw")
            .exists()
    );
    assert!(
        outcome.outputs["published"].contains("hello"),
        "{:?}",
        outcome.outputs
    );

    // The key was in a file that nobody else could read, and nowhere else.
    let witnessed = fs::read_to_string(action.place.path("witnessed")).unwrap();
    assert!(
        witnessed.contains("key mode 600\nkey mode 700\n"),
        "{witnessed}"
    );
    assert!(witnessed.contains("word SYSEXT_PRETTY_NAME=Hello you\n"));
    let secret = key.lines().nth(1).unwrap();
    assert!(!witnessed.contains(secret) && !outcome.log.contains(secret));
}

#[test]
fn inputs_are_no_commands() {
    let Some(action) = Action::new("inputs_are_no_commands") else {
        return;
    };
    let evil = "$(touch pwned); `touch pwned` '; touch pwned; \" && touch pwned";
    let names = [
        "kind",
        "name",
        "sign",
        "platform",
        "extension-version",
        "arguments",
        "publish",
    ];
    for name in names {
        let mut inputs = vec![("name", "hello"), ("sign", "no")];
        inputs.push((name, evil));
        action.fails(&inputs);
    }
    action.fails(&[("image", evil), ("name", "hello"), ("sign", "no")]);
    action.builds(&[("output", evil), ("name", "hello"), ("sign", "no")]);
    // What looks like an option is a name.
    action.builds(&[("name", "--help"), ("sign", "no")]);
    assert!(!action.place.path("work/pwned").exists());
}

#[test]
fn no_key_does_not_mean_no_signature() {
    let Some(action) = Action::new("no_key_does_not_mean_no_signature") else {
        return;
    };
    let certificate = pem("db", "pem");
    let said = action.fails(&[("name", "hello"), ("certificate", &certificate)]);
    assert!(said.contains("private-key is empty"), "{said}");
    let said = action.fails(&[
        ("name", "hello"),
        ("private-key", "nonsense"),
        ("certificate", &certificate),
    ]);
    assert!(!said.contains("nonsense"), "{said}");
    let unsigned = action.builds(&[("name", "hello"), ("sign", "no")]);
    let later = action.builds(&[
        ("name", "later"),
        ("sign", "later"),
        ("certificate", &certificate),
    ]);
    assert_eq!(unsigned.json("files"), json!(["build/hello.sysext.raw"]));
    assert_eq!(
        later.json("sign-requests"),
        json!(["build/later.sign-request.json"])
    );
    let command = format!(
        "--sign-command=openssl dgst -sha256 -sign {}",
        example("db", "key").display()
    );
    action.builds(&[
        ("name", "hello"),
        ("sign", "by-arguments"),
        ("arguments", &command),
        ("certificate", &certificate),
    ]);
    let encrypted = action.place.path("encrypted.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs8", "-topk8", "-passout", "pass:open sesame", "-in"]);
    run(openssl
        .arg(example("db", "key"))
        .arg("-out")
        .arg(&encrypted));
    let encrypted = fs::read_to_string(encrypted).unwrap();
    let mut inputs = vec![
        ("name", "hello"),
        ("private-key", &encrypted),
        ("certificate", &certificate),
    ];
    let said = action.fails(&inputs);
    assert!(said.contains("is encrypted"), "{said}");
    inputs.push(("passphrase", "open sesame"));
    action.builds(&inputs);
}

#[test]
fn a_release_is_fetched_and_checked() {
    let Some(action) = Action::new("a_release_is_fetched_and_checked") else {
        return;
    };
    let folder = action.place.path("sysgraft-0.1.0/bin");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(action.place.path("witness"), folder.join("sysgraft")).unwrap();
    let release = action.place.path("release-x86_64-unknown-linux-gnu.tar.gz");
    run(Command::new("tar")
        .arg("-C")
        .arg(action.place.path(""))
        .arg("-czf")
        .args([&release])
        .arg("sysgraft-0.1.0"));
    let url = format!(
        "file://{}/release-{{target}}.tar.gz",
        action.place.path("").display()
    );
    let digest = Digest::of(&fs::read(&release).unwrap()).hex();
    let outcome = action.run(&[("release-url", &url), ("release-sha256", &digest)]);
    assert!(!outcome.failed, "{}", outcome.log);
    assert!(outcome.outputs["program"].ends_with("/sysgraft"));
    assert_eq!(outcome.outputs["files"], "");
    for wrong in ["", &"0".repeat(64)] {
        let outcome = action.run(&[("release-url", &url), ("release-sha256", wrong)]);
        assert!(outcome.failed, "{}", outcome.log);
        assert_eq!(outcome.outputs["program"], "");
    }
    let outcome = action.run(&[
        ("release-url", "http://127.0.0.1:9/"),
        ("release-sha256", &digest),
    ]);
    assert!(
        outcome.failed && outcome.log.contains("rotocol"),
        "{}",
        outcome.log
    );
}
