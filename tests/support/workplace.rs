//! A folder to work in, and the program under test.

#![allow(dead_code)] // each test uses a part of it

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A temporary folder with an empty `out` in it.
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    pub fn new() -> Workplace {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        Workplace { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where builds put their image.
    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// Every name in `out`, hidden ones too.
    pub fn outputs(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.out())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A tar archive that GNU tar makes of the folder `root`, as `layer.tar`.
    pub fn tar(&self, root: &Path) -> PathBuf {
        let archive = self.path("layer.tar");
        run(Command::new("tar")
            .args([
                "--format=pax",
                "--xattrs",
                "--xattrs-include=*",
                "--sort=name",
                "-C",
            ])
            .arg(root)
            .arg("-cf")
            .arg(&archive)
            .arg("."));
        archive
    }

    /// A root tree with one file, as folder `root`.
    pub fn small_tree(&self) -> PathBuf {
        let root = self.path("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/hello"), "hello\n").unwrap();
        root
    }

    /// An OCI archive of one of the examples.
    pub fn example(&self, name: &str) -> PathBuf {
        let archive = self.path(&format!("{name}.oci.tar"));
        run(Command::new("examples/make-image")
            .arg(format!("examples/{name}"))
            .arg(&archive)
            .stderr(Stdio::null()));
        archive
    }
}

/// `sysgraft` with these arguments, with an environment that no developer's shell can disturb.
pub fn sysgraft<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft"));
    command
        .args(arguments)
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("SYSGRAFT_PASSPHRASE")
        .env_remove("PKCS11_MODULE_PATH")
        .stdin(Stdio::null());
    command
}

/// `sysgraft sysext --output OUT …`, which must succeed.
pub fn build(workplace: &Workplace, arguments: &[&str]) -> Output {
    let output = sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// The arguments that sign with the RSA example key.
pub const RSA: [&str; 4] = [
    "--private-key",
    "keys-example/db.key",
    "--certificate",
    "keys-example/db.pem",
];

/// The arguments that sign with the P-256 example key.
pub const EC: [&str; 4] = [
    "--private-key",
    "keys-example/ec.key",
    "--certificate",
    "keys-example/ec.pem",
];

pub fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
