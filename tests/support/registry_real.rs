//! Debian's `docker-registry`, with what registries on the Internet have: TLS, logins, clients'
//! certificates. Skopeo fills it.

#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sysgraft::digest::Digest;
use tempfile::TempDir;

use crate::node_nginx::{free_port, wait_for, write_certificate};
use crate::registry_image::{Blobs, index};

/// The login of every registry that wants one.
pub const LOGIN: &str = "alice:secret";

/// "secret", as bcrypt has it.
const SECRET: &str = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

/// What a registry is to be like.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    pub tls: bool,
    /// Whether it wants [`LOGIN`].
    pub login: bool,
    /// Whether it wants clients to show a certificate; its own one does.
    pub clients: bool,
}

/// A registry, until the value is dropped.
pub struct RealRegistry {
    process: Child,
    pub port: u16,
    folder: TempDir,
    setup: Setup,
}

impl RealRegistry {
    pub fn start(setup: Setup) -> Result<RealRegistry, String> {
        let folder = tempfile::tempdir().unwrap();
        let (port, at) = (free_port(), folder.path().display());
        let mut configuration = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {at}/storage}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n"
        );
        if setup.tls {
            write_certificate(folder.path());
            configuration +=
                &format!("  tls:\n    certificate: {at}/certificate.pem\n    key: {at}/key.pem\n");
        }
        if setup.clients {
            configuration += &format!("    clientcas: [{at}/certificate.pem]\n");
        }
        if setup.login {
            fs::write(folder.path().join("htpasswd"), format!("alice:{SECRET}\n")).unwrap();
            configuration += &format!("auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\n");
        }
        let file = folder.path().join("config.yml");
        fs::write(&file, configuration).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("docker-registry cannot be started: {error}"))?;
        let registry = RealRegistry {
            process,
            port,
            folder,
            setup,
        };
        wait_for(port, "docker-registry");
        Ok(registry)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its certificate, which is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The key of its certificate.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Where it keeps a blob.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self
            .folder
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Has skopeo copy a layout with these manifests to `REPOSITORY:TAG`.
    pub fn push(
        &self,
        blobs: &Blobs,
        manifests: &[Value],
        repository: &str,
        tag: &str,
    ) -> Result<(), String> {
        let layout = self.folder.path().join(format!("layout-{tag}"));
        write_layout(&layout, blobs, manifests);
        self.push_layout(&layout, repository, tag)
    }

    pub fn push_layout(&self, layout: &Path, repository: &str, tag: &str) -> Result<(), String> {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--all"]);
        skopeo.arg("--dest-tls-verify=false");
        if self.setup.login {
            skopeo.args(["--dest-creds", LOGIN]);
        }
        if self.setup.clients {
            let folder = self.folder.path().join("for-skopeo");
            fs::create_dir_all(&folder).unwrap();
            fs::copy(self.certificate(), folder.join("client.cert")).unwrap();
            fs::copy(self.key(), folder.join("client.key")).unwrap();
            skopeo.arg("--dest-cert-dir").arg(folder);
        }
        let output = skopeo
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{}/{repository}:{tag}", self.host()))
            .output()
            .map_err(|error| format!("skopeo cannot be started: {error}"))?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skopeo: {message}");
        Ok(())
    }
}

/// Writes an OCI layout.
pub fn write_layout(layout: &Path, blobs: &Blobs, manifests: &[Value]) {
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let version = r#"{"imageLayoutVersion": "1.0.0"}"#;
    fs::write(layout.join("oci-layout"), version).unwrap();
    fs::write(layout.join("index.json"), index(manifests)).unwrap();
    for (digest, content) in &blobs.0 {
        fs::write(layout.join("blobs/sha256").join(digest.hex()), content).unwrap();
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
