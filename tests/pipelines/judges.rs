//! The programs that judge files of pipelines, and files in YAML as they read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::skip;
use crate::workplace::text;

/// The folder with the programs that `.ci/pipeline-judges` installs.
pub struct Judges(PathBuf);

impl Judges {
    /// They, or the word that the test cannot run.
    pub fn of(test: &str) -> Option<Judges> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pipeline-judges/bin");
        if folder.join("kubernetes-validate").exists() {
            return Some(Judges(folder));
        }
        skip(test, "the judges are not installed (.ci/pipeline-judges)");
        None
    }

    /// What one of them says of files.
    pub fn ask(&self, program: &str, words: &[&str], files: &[&Path]) -> Output {
        let mut command = Command::new(self.0.join(program));
        command.args(words).args(files).output().unwrap()
    }

    /// Whether one of them takes a file with this content.
    pub fn takes(&self, (program, words): (&str, &[&str]), name: &str, content: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        self.ask(program, words, &[&path]).status.success()
    }

    /// The documents of a file.
    pub fn documents(&self, path: &Path) -> Vec<Value> {
        let script = "import sys, json, yaml\n\
                      print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
        let output = self.ask("python3", &["-c", script], &[path]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Whether a document is what a schema of `tests/schemas` says.
    pub fn fits(&self, schema: &str, document: &Value) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("document.json");
        fs::write(&path, document.to_string()).unwrap();
        let schema = Path::new("tests/schemas").join(schema);
        let output = self.ask(
            "check-jsonschema",
            &["--schemafile", schema.to_str().unwrap()],
            &[&path],
        );
        output.status.success()
    }
}

/// Whether shellcheck finds nothing; `None` where there is none.
pub fn shellcheck(shell: &str, script: &str) -> Option<Result<(), String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    fs::write(&path, script).unwrap();
    let output = Command::new("shellcheck")
        .args(["--shell", shell])
        .arg(path)
        .output()
        .ok()?;
    match output.status.success() {
        true => Some(Ok(())),
        false => Some(Err(text(&output.stdout))),
    }
}
