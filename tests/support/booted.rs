//! A node as a tree of files, which boots.

#![allow(dead_code)] // each test uses a part of it

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::workplace::{EC, RSA, Workplace, build, text};

pub const STORE: &str = "var/lib/kairos/extensions";
pub const CONFEXTS: &str = "var/lib/kairos/confexts";

/// Images that are made once: `NAME.sysext.raw`, signed with the RSA example key; `stranger` with
/// the other one; `plain` without a signature.
pub fn image(name: &str) -> PathBuf {
    static MADE: OnceLock<Workplace> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let workplace = Workplace::new();
        let source = format!("dir:{}", workplace.small_tree().display());
        for name in ["a", "b", "k3s-v1.29.2+k3s1"] {
            build(&workplace, &[&RSA[..], &[name, &source]].concat());
        }
        build(&workplace, &[&EC[..], &["stranger", &source]].concat());
        build(&workplace, &["plain", &source]);
        // Another extension of the same name.
        let other = Workplace::new();
        let changed = other.small_tree();
        fs::write(changed.join("usr/second"), "second\n").unwrap();
        let changed = format!("dir:{}", changed.display());
        build(&other, &[&RSA[..], &["a", &changed]].concat());
        fs::create_dir(workplace.path("out/a2")).unwrap();
        fs::copy(
            other.out().join("a.sysext.raw"),
            workplace.path("out/a2/a.sysext.raw"),
        )
        .unwrap();
        fs::create_dir_all(workplace.path("root/etc/c")).unwrap();
        fs::write(workplace.path("root/etc/c/c.conf"), "c\n").unwrap();
        let output = crate::workplace::sysgraft(["confext", "--output"])
            .arg(workplace.out())
            .args(RSA)
            .args(["c", &source])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        workplace
    });
    made.out().join(name)
}

/// A node without boot states, with systemd 257, that trusts the RSA example key.
pub struct Booted {
    tree: TempDir,
    fakes: TempDir,
}

impl Booted {
    /// Notes of a stored image that somebody let it in unsigned, and perhaps what a later look found
    /// wrong with it.
    pub fn note_let_in(&self, name: &str, file: &str, failure: Option<&str>) {
        let metadata = fs::metadata(self.path(STORE).join(file)).unwrap();
        let failed = failure.map(|reason| json!({"found": 2, "reason": reason}));
        let record = json!({"artefacts": {file: {
            "name": name, "file": {
                "size": metadata.size(), "inode": metadata.ino(),
                "modified": metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            },
            "digest": format!("sha256:{}", "0".repeat(64)), "source": "x", "installed": 1,
            "proof": {"is": "unsigned", "verified": 1}, "failed": failed,
        }}});
        let records = format!("{STORE}/.sysgraft/records.json");
        self.write(&records, record.to_string());
    }

    pub fn new() -> Booted {
        let node = Booted {
            tree: tempfile::tempdir().unwrap(),
            fakes: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(node.path("run")).unwrap();
        fs::create_dir_all(node.path(STORE)).unwrap();
        fs::create_dir_all(node.path(CONFEXTS)).unwrap();
        node.write("etc/os-release", "ID=debian\nVERSION_ID=13\n");
        node.write(
            "etc/verity.d/db.crt",
            fs::read("keys-example/db.pem").unwrap(),
        );
        node.boot_id("first");
        node.systemd(257);
        node
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.tree.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Booted {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
        self
    }

    /// `systemctl --version` tells of this one.
    pub fn systemd(&self, version: u32) -> &Booted {
        let program = self.fakes.path().join("systemctl");
        fs::write(
            &program,
            format!("#!/bin/sh\necho 'systemd {version} (x)'\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// `systemctl is-active` says this of the services that merge.
    pub fn service_state(&self, state: &str) -> &Booted {
        let program = self.fakes.path().join("systemctl");
        let answer = format!(
            "#!/bin/sh\n[ \"$1\" = is-active ] && echo {state} || echo 'systemd 257 (x)'\n"
        );
        fs::write(program, answer).unwrap();
        self
    }

    /// The next boot begins: `/run` is empty.
    pub fn boot_id(&self, id: &str) -> &Booted {
        fs::remove_dir_all(self.path("run")).unwrap();
        fs::create_dir(self.path("run")).unwrap();
        self.write("proc/sys/kernel/random/boot_id", format!("{id}\n"))
    }

    /// Puts an image into the store and enables it for a profile.
    pub fn enable(&self, image: &Path, file: &str, profile: &str) -> &Booted {
        let store = if file.ends_with(".confext.raw") {
            CONFEXTS
        } else {
            STORE
        };
        fs::copy(image, self.path(store).join(file)).unwrap();
        self.enable_stored(store, file, profile)
    }

    pub fn enable_stored(&self, store: &str, file: &str, profile: &str) -> &Booted {
        let folder = self.path(store).join(profile);
        fs::create_dir_all(&folder).unwrap();
        let link = folder.join(file);
        let _ = fs::remove_file(&link);
        symlink(Path::new("..").join(file), link).unwrap();
        self
    }

    /// `sysgraft-agent boot …`.
    pub fn agent(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new(env!("CARGO_BIN_EXE_sysgraft-agent"))
            .arg("boot")
            .arg("--root")
            .arg(self.tree.path())
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.fakes.path().display()))
            .env_remove("KAIROS_AGENT_DEBUG")
            .output()
            .unwrap()
    }

    /// What a boot tells, which must succeed.
    pub fn boot(&self) -> Told {
        self.boot_with(&[])
    }

    pub fn boot_with(&self, arguments: &[&str]) -> Told {
        let output = self.agent(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json = fs::read(self.path("run/sysgraft/boot.json")).unwrap();
        Told {
            json: serde_json::from_slice(&json).unwrap(),
            journal: text(&output.stderr),
        }
    }

    /// What systemd finds in `/run/extensions`, and where it leads.
    pub fn live(&self) -> Vec<(String, String)> {
        links(&self.path("run/extensions"))
    }

    pub fn live_names(&self) -> Vec<String> {
        self.live().into_iter().map(|(name, _)| name).collect()
    }

    /// A drop-in of this program, if it is there.
    pub fn drop_in(&self, kind: &str) -> Option<String> {
        let folder = format!("run/systemd/system/systemd-{kind}.service.d");
        fs::read_to_string(self.path(folder).join("sysgraft.conf")).ok()
    }
}

/// The links of a folder and where they lead, sorted.
pub fn links(folder: &Path) -> Vec<(String, String)> {
    let mut links: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            (
                entry.file_name().into_string().unwrap(),
                target.to_str().unwrap().to_owned(),
            )
        })
        .collect();
    links.sort();
    links
}

/// What a boot tells.
pub struct Told {
    pub json: Value,
    pub journal: String,
}

impl Told {
    pub fn linked(&self) -> Vec<&str> {
        let linked = self.json["linked"].as_array().unwrap();
        linked
            .iter()
            .map(|linked| linked["file"].as_str().unwrap())
            .collect()
    }

    /// Why a file is left out; empty if it is not.
    pub fn reason(&self, file: &str) -> String {
        let left_out = self.json["leftOut"].as_array().unwrap();
        let reasons = left_out.iter().filter(|entry| entry["file"] == file);
        let reasons: Vec<&str> = reasons
            .map(|entry| entry["reason"].as_str().unwrap())
            .collect();
        reasons.join("\n")
    }

    pub fn notes(&self) -> String {
        let notes = self.json["notes"].as_array().unwrap();
        let notes: Vec<&str> = notes.iter().map(|note| note.as_str().unwrap()).collect();
        notes.join("\n")
    }

    pub fn policy(&self, kind: &str) -> (Option<&str>, &str) {
        let policy = &self.json["imagePolicy"][kind];
        (
            policy["policy"].as_str(),
            policy["reason"].as_str().unwrap(),
        )
    }
}
