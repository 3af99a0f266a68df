//! Debian's `docker-registry`, filled through its own API.

#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sysgraft::digest::Digest;
use tempfile::TempDir;

use crate::node_nginx::{free_port, wait_for};
use crate::registry_image::Blobs;

/// A registry, until the value is dropped.
pub struct NodeRegistry {
    process: Child,
    pub port: u16,
    folder: TempDir,
}

impl NodeRegistry {
    pub fn start() -> Result<NodeRegistry, String> {
        NodeRegistry::start_with("", tempfile::tempdir().unwrap())
    }

    /// One that lets in nobody but alice, whose password is `secret`.
    pub fn start_private() -> Result<NodeRegistry, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logins");
        let hash = "$2b$04$T4MAUVVufsC1KE6Zy26ZJ.mvlv3.LkRUYNYYAYnFde/nWs8u4ZOSO";
        fs::write(&file, format!("alice:{hash}\n")).unwrap();
        let logins = format!(
            "auth: {{htpasswd: {{realm: x, path: {}}}}}\n",
            file.display()
        );
        NodeRegistry::start_with(&logins, folder)
    }

    fn start_with(more: &str, folder: TempDir) -> Result<NodeRegistry, String> {
        let port = free_port();
        let configuration = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n{more}",
            folder.path().join("storage").display()
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, configuration).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("docker-registry cannot be started: {error}"))?;
        let registry = NodeRegistry {
            process,
            port,
            folder,
        };
        wait_for(port, "docker-registry");
        Ok(registry)
    }

    /// Stores all blobs, then the document as `app:TAG`. Documents that an index names have to be
    /// among `manifests`.
    pub fn push(&self, blobs: &Blobs, manifests: &[&Value], tag: &str, document: &[u8]) {
        for (digest, content) in &blobs.0 {
            let answer = self.ask("POST", "/v2/app/blobs/uploads/", "", b"");
            let location = answer
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .unwrap_or_else(|| panic!("{answer}"));
            let path = location.split_once(&format!(":{}", self.port)).unwrap().1;
            let path = format!("{path}&digest={digest}");
            let answer = self.ask("PUT", &path, "application/octet-stream", content);
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        }
        for manifest in manifests {
            let digest = manifest["digest"].as_str().unwrap();
            self.put_manifest(digest, &blobs.0[&digest.parse().unwrap()]);
        }
        self.put_manifest(tag, document);
    }

    fn put_manifest(&self, name: &str, document: &[u8]) {
        let json: Value = serde_json::from_slice(document).unwrap();
        let media_type = json["mediaType"].as_str().unwrap();
        let path = format!("/v2/app/manifests/{name}");
        let answer = self.ask("PUT", &path, media_type, document);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    fn ask(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
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
}

impl Drop for NodeRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
