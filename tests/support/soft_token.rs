//! A token of SoftHSM's in a folder of its own.

#![allow(dead_code)] // each test uses a part of it

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::workplace::{run, sysgraft};

pub const PIN: &str = "471108";
pub const LABEL: &str = "release keys";

pub struct SoftToken {
    folder: TempDir,
    pub module: PathBuf,
}

/// Where Debian puts the library, by package version and architecture.
fn find_module() -> Option<PathBuf> {
    let mut candidates = vec![PathBuf::from("/usr/lib/softhsm/libsofthsm2.so")];
    for entry in fs::read_dir("/usr/lib").ok()? {
        candidates.push(entry.ok()?.path().join("softhsm/libsofthsm2.so"));
    }
    candidates.into_iter().find(|path| path.is_file())
}

impl SoftToken {
    /// A token with the label [`LABEL`] and the PIN [`PIN`]; `None` without SoftHSM and OpenSC.
    pub fn new() -> Option<SoftToken> {
        let module = find_module()?;
        for program in ["softhsm2-util", "pkcs11-tool"] {
            let found = Command::new(program)
                .arg("--help")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            found.ok()?;
        }
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        fs::write(folder.path().join("softhsm2.conf"), configuration).unwrap();
        let token = SoftToken { folder, module };
        token.add_token(LABEL);
        Some(token)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configuration(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    pub fn add_token(&self, label: &str) {
        run(self
            .command("softhsm2-util")
            .args(["--init-token", "--free", "--so-pin", "0000", "--label"])
            .args([label, "--pin", PIN])
            .stdout(Stdio::null()));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.configuration());
        command
    }

    /// Puts a private key, given as any PEM file, into the token.
    pub fn import_key(&self, key: &Path, label: &str, id: &str) {
        let pkcs8 = self.path("pkcs8.pem");
        run(Command::new("openssl")
            .args(["pkcs8", "-topk8", "-nocrypt", "-in"])
            .arg(key)
            .arg("-out")
            .arg(&pkcs8));
        run(self
            .command("softhsm2-util")
            .args(["--token", LABEL, "--pin", PIN, "--label", label])
            .args(["--id", id, "--import"])
            .arg(&pkcs8)
            .stdout(Stdio::null()));
    }

    /// `pkcs11-tool --write-object`, with more arguments.
    pub fn write_object(&self, file: &Path, arguments: &[&str]) {
        run(self
            .command("pkcs11-tool")
            .arg("--module")
            .arg(&self.module)
            .args(["--login", "--pin", PIN, "--token-label", LABEL])
            .arg("--write-object")
            .arg(file)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null()));
    }

    /// The URI of an object, without PIN.
    pub fn uri(&self, object: &str) -> String {
        format!("pkcs11:token=release%20keys;object={object}")
    }

    pub fn uri_with_pin(&self, object: &str) -> String {
        format!("{}?pin-value={PIN}", self.uri(object))
    }

    /// `sysgraft` with these arguments, with the token in reach.
    pub fn sysgraft(&self, arguments: &[&str]) -> Command {
        let mut command = sysgraft(arguments);
        command
            .env("SOFTHSM2_CONF", self.configuration())
            .env("PKCS11_MODULE_PATH", &self.module);
        command
    }
}
