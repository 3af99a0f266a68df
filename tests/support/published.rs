//! Images to publish, and what publishes them.

#![allow(dead_code)] // each test program uses a part of it

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::extension_image::{By, Extension};
use crate::workplace::{sysgraft, text};

/// A signed image in `folder` that says its version.
pub fn edition(folder: &Path, name: &str, version: &str, architecture: &str) -> PathBuf {
    let release = format!(
        "ID=_any\nARCHITECTURE={architecture}\nSYSEXT_VERSION_ID=\"{version}\"\n\
         SYSGRAFT_VERSION=0.1.0\nSYSGRAFT_IMAGE=docker.io/example/{name}:{version}\n\
         SYSGRAFT_IMAGE_DIGEST=sha256:{}\nSYSGRAFT_LAYERS=\"sha256:{} sha256:{}\"\n",
        "1".repeat(64),
        "2".repeat(64),
        "3".repeat(64),
    );
    let path = folder.join(format!("{name}-{version}-{architecture}"));
    std::fs::create_dir_all(&path).unwrap();
    Extension::sysext(name, &release)
        .with("usr/share/version", version)
        .image_for(
            architecture.parse().unwrap(),
            &path.join(format!("{name}.sysext.raw")),
            By::Example("db"),
        )
}

/// `sysgraft publish ARGUMENTS IMAGES`.
pub fn attempt(arguments: &[&str], images: &[&Path]) -> Output {
    let mut command = sysgraft(["publish"]);
    command.args(arguments).args(images).output().unwrap()
}

/// The same, which must succeed; what it prints.
pub fn publish<P: AsRef<Path>>(arguments: &[&str], images: &[P]) -> String {
    let images: Vec<&Path> = images.iter().map(AsRef::as_ref).collect();
    let output = attempt(arguments, &images);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The same, which must fail with this exit code; what it says.
pub fn refused(code: i32, arguments: &[&str], images: &[&Path]) -> String {
    let output = attempt(arguments, images);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// GnuPG with a key of its own.
pub struct Gpg(tempfile::TempDir);

impl Gpg {
    pub const USER: &str = "release@example.org";

    pub fn new() -> Result<Gpg, String> {
        let gpg = Gpg(tempfile::tempdir().unwrap());
        let output = gpg
            .command()
            .args(["--batch", "--passphrase", "", "--quick-generate-key"])
            .args([Gpg::USER, "ed25519", "sign", "never"])
            .output()
            .map_err(|error| format!("gpg cannot be run: {error}"))?;
        assert!(output.status.success(), "{}", text(&output.stderr));
        Ok(gpg)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn public_key(&self) -> Vec<u8> {
        self.command().arg("--export").output().unwrap().stdout
    }

    /// Whether the signature is over the content, by this key.
    pub fn verifies(&self, signature: &Path, content: &Path) -> bool {
        let mut command = self.command();
        let command = command.arg("--verify").args([signature, content]);
        command.stderr(Stdio::null()).status().unwrap().success()
    }

    pub fn publish(&self, arguments: &[&str], image: &Path) {
        let output = sysgraft(["publish", "--gpg-key", Gpg::USER])
            .args(arguments)
            .arg(image)
            .env("GNUPGHOME", self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // Its agent would outlive the test.
        let mut command = Command::new("gpgconf");
        command.env("GNUPGHOME", self.0.path());
        let _ = command.args(["--kill", "all"]).status();
    }
}
