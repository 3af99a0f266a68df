//! `sysgraft-agent` on a tree of files, with a systemd that only pretends.

#![allow(dead_code)] // each test uses a part of it

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::extension_image::{By, Extension, NodeTree, OS_RELEASE, put_image};

/// A systemd-sysext that merges whatever the links in /run lead to, unless there is a file `refuse`.
const MERGER: &str = r#"#!/bin/sh
here=$(dirname "$0")
kind=${0##*systemd-}
case "$kind" in sysext) live=extensions; top=usr;; confext) live=confexts; top=etc;; esac
echo "systemd-$kind $*" >>"$here/log"
root=
for argument; do case "$argument" in --root=*) root=${argument#--root=};; esac; done
case "$*" in
*refresh*|*unmerge*)
    [ ! -e "$here/refuse" ] || { echo "fake: refused" >&2; exit 1; }
    mkdir -p "$root/$top/.systemd-$kind"
    for link in "$root/run/$live"/*.raw; do
        target=$(readlink "$link") || continue
        [ -e "$root$target" ] || continue
        name=$(basename "$link" .raw)
        echo "${name%.$kind}"
    done >"$root/$top/.systemd-$kind/extensions";;
esac
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
echo "systemctl $*" >>"$(dirname "$0")/log"
case "$*" in --version) echo "systemd 257 (257.13-1)";; esac
"#;

/// A node and everything around it.
pub struct Agent {
    pub tree: NodeTree,
    pub kind: &'static str,
}

impl Agent {
    /// A Debian without boot states that trusts the example `db`.
    pub fn new() -> Agent {
        let tree = NodeTree::trusting();
        for (name, script) in [
            ("systemctl", SYSTEMCTL),
            ("systemd-sysext", MERGER),
            ("systemd-confext", MERGER),
        ] {
            let path = tree.path(&format!("bin/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Agent {
            tree,
            kind: "sysext",
        }
    }

    pub fn confext() -> Agent {
        Agent {
            kind: "confext",
            ..Agent::new()
        }
    }

    /// The same on a Kairos node that booted into `state`.
    pub fn booted(state: &str) -> Agent {
        let agent = Agent::new();
        agent.write(&format!("run/cos/{state}_mode"), "1");
        agent.write("etc/kairos-release", "KAIROS_ID=kairos\n");
        agent
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.tree.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The folder of the store.
    pub fn store(&self) -> PathBuf {
        self.tree.path(match self.kind {
            "sysext" => "var/lib/kairos/extensions",
            _ => "var/lib/kairos/confexts",
        })
    }

    /// Puts a good image into the store as `cp` would; nothing is noted of it.
    pub fn put(&self, file: &str) {
        fs::create_dir_all(self.store()).unwrap();
        put_image(self.kind, file, &self.store().join(file));
    }

    /// An image for this node, outside of its store.
    pub fn image(&self, folder: &str, file: &str, release_name: &str, more: &str) -> PathBuf {
        let folder = self.tree.path(folder);
        fs::create_dir_all(&folder).unwrap();
        let release = format!("{OS_RELEASE}{more}");
        let extension = match self.kind {
            "sysext" => Extension::sysext(release_name, &release),
            _ => Extension::confext(release_name, &release),
        };
        extension.image(&folder.join(file), By::Example("db"))
    }

    /// The program with these words behind the kind.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft-agent"));
        command
            .arg("--root")
            .arg(self.tree.0.path())
            .arg(self.kind)
            .args(words);
        self.with_environment(&mut command);
        command
    }

    /// With the fakes first on PATH.
    pub fn with_environment(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        let fakes = self.tree.path("bin");
        command
            .env("PATH", format!("{}:{path}", fakes.display()))
            .env_remove("KAIROS_AGENT_DEBUG")
            .stdin(Stdio::null());
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().unwrap(), words)
    }

    /// What must succeed; stderr.
    pub fn ok(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.stderr);
        ran.stderr
    }

    /// What must fail with this code; stderr.
    pub fn fails(&self, code: i32, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(code), "{words:?}: {}", ran.stderr);
        ran.stderr
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let ran = self.run(words);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{words:?}: {}", ran.stderr))
    }

    /// `FILE PROFILE,PROFILE` for every stored artefact, with `*` if it is merged.
    pub fn state(&self) -> Vec<String> {
        let list = self.json(&["list", "--json"]);
        let mut lines: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let profiles = entry["profiles"].as_array().unwrap().iter();
                let profiles: Vec<&str> = profiles.map(|it| it.as_str().unwrap()).collect();
                let merged = if entry["merged"] == true { "*" } else { "" };
                let file = entry["file"].as_str().unwrap();
                format!("{file} {}{merged}", profiles.join(","))
                    .trim_end()
                    .to_owned()
            })
            .collect();
        lines.sort();
        lines
    }

    /// Where the live link of an extension leads.
    pub fn live(&self, link: &str) -> Option<PathBuf> {
        let folder = match self.kind {
            "sysext" => "run/extensions",
            _ => "run/confexts",
        };
        fs::read_link(self.tree.path(folder).join(link)).ok()
    }

    /// What the fakes were asked for, without questions about the version.
    pub fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.tree.path("bin/log")).unwrap_or_default();
        log.lines()
            .filter(|line| *line != "systemctl --version")
            .map(str::to_owned)
            .collect()
    }

    /// From now on the fakes merge nothing, or merge again.
    pub fn refuse(&self, refuse: bool) {
        let path = self.tree.path("bin/refuse");
        match refuse {
            true => fs::write(path, "").unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// Every path below a folder of the tree, relative to it, sorted.
    pub fn below(&self, folder: &str) -> Vec<String> {
        let top = self.tree.path(folder);
        let mut found = Vec::new();
        walk(&top, &top, &mut found);
        found.sort();
        found
    }
}

fn walk(top: &Path, folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap();
        found.push(name.to_string_lossy().into_owned());
        if path.is_dir() && !path.is_symlink() {
            walk(top, &path, found);
        }
    }
}

/// What a run gave.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output, words: &[&str]) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Ran {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        for output in [&ran.stdout, &ran.stderr] {
            let is_safe = |c: char| c == '\n' || !c.is_control();
            assert!(output.chars().all(is_safe), "{words:?}: {output:?}");
        }
        ran
    }
}
