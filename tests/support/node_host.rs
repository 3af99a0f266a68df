//! A host of its own for sysgraft-agent: in a private mount namespace, with a systemd that is played
//! by a script.

#![allow(dead_code)] // each test uses a part of it

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sysgraft::digest::Digest;
use sysgraft::node::store::{FileIdentity, Moment, Proof, Record, Records};
use sysgraft::node::version::Version;
use tempfile::TempDir;

use crate::extension_image::{example, put_image};
use crate::support::skip;

const AGENT: &str = env!("CARGO_BIN_EXE_sysgraft-agent");
const FAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake-systemd");
/// In the namespace: the folders of this host in the place of the machine's, and only its programs.
const ENTER: &str = "\
mount --bind \"$HOST/run\" /run && mount --bind \"$HOST/lib\" /var/lib && \
export FAKE=\"$HOST/fake\" PATH=\"$HOST/bin\" && exec \"$@\"";

/// A host, which goes with the value.
pub struct Host {
    folder: TempDir,
}

impl Host {
    /// A host with this version of systemd, whose manager runs; a skipped test if this machine does
    /// not let us have one.
    pub fn new(test: &str, systemd: u32) -> Option<Host> {
        let mut probe = Command::new("unshare");
        probe
            .args(namespace())
            .args(["mount", "--bind", "/tmp", "/run"]);
        if !probe.output().is_ok_and(|output| output.status.success()) {
            skip(test, "no mount namespace can be made here");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let host = Host { folder };
        for name in [
            "run/systemd/system",
            "run/verity.d",
            "lib/kairos/extensions",
            "lib/kairos/confexts",
            "fake",
            "bin",
        ] {
            fs::create_dir_all(host.path(name)).unwrap();
        }
        for program in [
            "systemctl",
            "systemd-sysext",
            "systemd-confext",
            "journalctl",
        ] {
            symlink(FAKE, host.path("bin").join(program)).unwrap();
        }
        fs::copy(example("db", "pem"), host.path("run/verity.d/db.crt")).unwrap();
        symlink("/bin/sh", host.path("bin/sh")).unwrap();
        symlink("/bin/sleep", host.path("bin/sleep")).unwrap();
        host.fake("version", &systemd.to_string());
        host.fake(
            "says",
            "Failed to read metadata for image hello: No medium found\n",
        );
        Some(host)
    }

    /// The same without a manager.
    pub fn unmanaged(test: &str, systemd: u32) -> Option<Host> {
        let host = Host::new(test, systemd)?;
        fs::remove_dir_all(host.path("run/systemd")).unwrap();
        Some(host)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tells the systemd of this host how to behave.
    pub fn fake(&self, name: &str, content: &str) {
        fs::write(self.path("fake").join(name), content).unwrap();
    }

    /// No longer so.
    pub fn unfake(&self, name: &str) {
        fs::remove_file(self.path("fake").join(name)).unwrap();
    }

    pub fn store(&self) -> PathBuf {
        self.path("lib/kairos/extensions")
    }

    /// Puts artefacts into the store of system extensions, as kairos-agent does.
    pub fn stored(self, files: &[&str]) -> Host {
        for file in files {
            put_image("sysext", file, &self.store().join(file));
        }
        self
    }

    /// Notes of artefacts what an installation would note.
    pub fn recorded(self, units: &[(&str, &[&str], &[&str])]) -> Host {
        let mut artefacts = BTreeMap::new();
        for (file, restart, reload) in units {
            let metadata = fs::metadata(self.store().join(file)).unwrap();
            let stem = file.trim_end_matches(".sysext.raw");
            let (name, version) = stem.split_once('_').unwrap();
            let owned = |units: &[&str]| units.iter().map(|&unit| unit.to_owned()).collect();
            let record = Record {
                name: name.parse().unwrap(),
                version: Some(Version::from(version)),
                file: FileIdentity::of(&metadata),
                digest: Digest::from_bytes([7; 32]),
                root_hash: None,
                source: "test".to_owned(),
                installed: Moment(0),
                proof: Proof::Skipped,
                restart_units: owned(restart),
                reload_or_restart_units: owned(reload),
                declared_by: None,
                failed: None,
            };
            artefacts.insert((*file).to_owned(), record);
        }
        let records = Records {
            artefacts,
            ..Records::default()
        };
        fs::create_dir_all(self.store().join(".sysgraft")).unwrap();
        let json = serde_json::to_vec(&records).unwrap();
        fs::write(self.store().join(".sysgraft/records.json"), json).unwrap();
        self
    }

    pub fn records(&self) -> Records {
        let json = fs::read(self.store().join(".sysgraft/records.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// Runs `sysgraft-agent` in it.
    pub fn agent(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        command
            .args(namespace())
            .args(["sh", "-c", ENTER, "sh", AGENT]);
        command.args(arguments).env("HOST", self.folder.path());
        command.output().unwrap()
    }

    /// Runs `sysgraft-agent sysext`, which has to succeed; what it says on stderr.
    pub fn sysext(&self, arguments: &[&str]) -> String {
        let output = self.agent(&[&["sysext"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Runs `sysgraft-agent sysext`, which has to fail; what it says on stderr.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.agent(&[&["sysext"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said
    }

    /// What systemd was asked to change since the last time.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("fake/calls")).unwrap_or_default();
        self.fake("calls", "");
        calls.lines().map(str::to_owned).collect()
    }

    /// What systemd has merged.
    pub fn merged(&self) -> Vec<String> {
        let list = fs::read_to_string(self.path("fake/merged-sysext")).unwrap_or_default();
        list.lines().map(str::to_owned).collect()
    }

    /// The live links, and the files that they lead to.
    pub fn live(&self) -> Vec<String> {
        links(&self.path("run/extensions"))
    }

    /// The links of a profile.
    pub fn enabled(&self, profile: &str) -> Vec<String> {
        links(&self.store().join(profile))
    }
}

/// `NAME -> TARGET` for each link in a folder.
fn links(folder: &Path) -> Vec<String> {
    let mut links: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let target = fs::read_link(&path).ok()?;
            let name = path.file_name().unwrap().to_str().unwrap();
            Some(format!("{name} -> {}", target.display()))
        })
        .collect();
    links.sort();
    links
}

fn namespace() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["--mount", "--propagation", "private"]
    } else {
        &["--map-root-user", "--mount", "--propagation", "private"]
    }
}
