//! A container of a manifest, run on this machine: in a root folder of its own with nothing in it but the
//! programs under test, their libraries, and folders in the place of volumes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::skip;
use crate::workplace::{is_root, text};

/// What the manifests have the containers run as, and as whose group volumes are mounted.
const USER: u32 = 65532;

/// In a private mount namespace: the machine's libraries, our program, and each volume; the rest cannot be
/// written. Then the command, in the new root.
const ENTER: &str = r#"
set -eu
mount --bind "$ROOT" "$ROOT"
for folder in usr/lib usr/lib64 dev proc; do
    [ ! -d "/$folder" ] || mount --rbind "/$folder" "$ROOT/$folder"
done
mount --bind "$SYSGRAFT" "$ROOT/usr/bin/sysgraft"
for name in $MOUNTED; do mount --bind "$VOLUMES/$name" "$ROOT/$name"; done
mount -o remount,bind,ro "$ROOT"
exec chroot $AS "$ROOT" /usr/bin/env -i "$@""#;

/// The volumes of a pod, by the folder that containers see them as.
pub struct Pod(TempDir);

impl Pod {
    /// A pod with these volumes, or the word that the test cannot run.
    pub fn new(test: &str, volumes: &[&str]) -> Option<Pod> {
        let mut probe = Command::new("unshare");
        probe
            .args(namespace())
            .args(["mount", "--bind", "/tmp", "/mnt"]);
        if !probe.output().is_ok_and(|output| output.status.success()) {
            skip(test, "no mount namespace can be made here");
            return None;
        }
        let pod = Pod(tempfile::tempdir().unwrap());
        fs::set_permissions(pod.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for folder in ["usr/lib", "usr/lib64", "usr/bin", "dev", "proc", "etc"] {
            fs::create_dir_all(pod.path("root").join(folder)).unwrap();
        }
        symlink("usr/lib", pod.path("root/lib")).unwrap();
        symlink("usr/lib64", pod.path("root/lib64")).unwrap();
        fs::write(pod.path("root/usr/bin/sysgraft"), "").unwrap();
        // Sets the variables of the container, and is all that it has beside our program.
        fs::copy("/usr/bin/env", pod.path("root/usr/bin/env")).unwrap();
        for volume in volumes {
            fs::create_dir_all(pod.path("root").join(volume)).unwrap();
            let folder = pod.volume(volume);
            fs::create_dir_all(&folder).unwrap();
            pod.belongs_to_group(&folder, 0o2770);
        }
        Some(pod)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.path("volumes").join(name)
    }

    /// A file of a secret, as `defaultMode: 0400` and `fsGroup` make it.
    pub fn secret(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path("volumes").join(name);
        fs::write(&path, content).unwrap();
        self.belongs_to_group(&path, 0o440);
    }

    fn belongs_to_group(&self, path: &Path, mode: u32) {
        if is_root() {
            chown(path, None, Some(USER)).unwrap();
        }
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Runs a container with the volumes that it mounts and none else.
    pub fn run(&self, container: &Value, substitutes: &BTreeMap<String, String>) -> Output {
        let substituted = |value: &Value| {
            let mut text = value.as_str().unwrap().to_owned();
            for (name, substitute) in substitutes {
                text = text.replace(name, substitute);
            }
            text
        };
        let list = |value: &Value| {
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(substituted)
                .collect()
        };
        let mut words: Vec<String> = list(&container["command"]);
        if words.is_empty() {
            // The entry point of the image.
            words.push("/usr/bin/sysgraft".to_owned());
        }
        words.extend(list(&container["args"]) as Vec<String>);
        let variables = container["env"].as_array().into_iter().flatten();
        let variables = variables.map(|it| {
            format!(
                "{}={}",
                it["name"].as_str().unwrap(),
                substituted(&it["value"])
            )
        });
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let names =
            mounts.map(|mount| mount["mountPath"].as_str().unwrap().trim_start_matches('/'));
        let names: Vec<&str> = names.collect();
        let working = container["workingDir"]
            .as_str()
            .map(|it| format!("--chdir={it}"));
        let user = if is_root() {
            format!("--userspec={USER}:{USER} --groups={USER}")
        } else {
            String::new()
        };
        let mut command = Command::new("unshare");
        command
            .args(namespace())
            .args(["sh", "-c", ENTER, "sh"])
            .args(working)
            .args(variables)
            .args(&words)
            .env("AS", user)
            .env("ROOT", self.path("root"))
            .env("MOUNTED", names.join(" "))
            .env("VOLUMES", self.path("volumes"))
            .env("SYSGRAFT", env!("CARGO_BIN_EXE_sysgraft"));
        command.output().unwrap()
    }

    /// The same, which must succeed; what it says.
    pub fn runs(&self, container: &Value, substitutes: &BTreeMap<String, String>) -> String {
        let output = self.run(container, substitutes);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{container}: {said}");
        said
    }
}

/// What gives a command mounts of its own.
pub fn namespace() -> &'static [&'static str] {
    match is_root() {
        true => &["--mount", "--propagation", "private"],
        false => &["--map-root-user", "--mount", "--propagation", "private"],
    }
}
