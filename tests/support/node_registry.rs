//! Debian's `docker-registry`, filled through its own API.

#![allow(dead_code)] // each test program uses a part of it

#[path = "registry_real.rs"]
mod registry_real;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::Value;
use sysgraft::digest::Digest;

use crate::registry_image::Blobs;
use registry_real::{RealRegistry, Setup};

/// A registry, until the value is dropped.
pub struct NodeRegistry {
    registry: RealRegistry,
    pub port: u16,
}

impl NodeRegistry {
    pub fn start() -> Result<NodeRegistry, String> {
        NodeRegistry::start_as(Setup::default())
    }

    /// One that lets in nobody but alice, whose password is `secret`.
    pub fn start_private() -> Result<NodeRegistry, String> {
        NodeRegistry::start_as(Setup {
            login: true,
            ..Setup::default()
        })
    }

    fn start_as(setup: Setup) -> Result<NodeRegistry, String> {
        let registry = RealRegistry::start(setup)?;
        let port = registry.port;
        Ok(NodeRegistry { registry, port })
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
        self.registry.blob_path(digest)
    }
}
