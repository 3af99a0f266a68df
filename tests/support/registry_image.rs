//! Container images made by hand: the blobs of OCI layouts and registries.

#![allow(dead_code)] // each test program uses a part of it

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde_json::{Value, json};
use sysgraft::digest::Digest;
use sysgraft::source::{Image, LayerBytes, SourceError};

pub const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";

/// Content by digest.
#[derive(Clone, Default)]
pub struct Blobs(pub BTreeMap<Digest, Vec<u8>>);

/// A tar archive with these files.
pub fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Blobs {
    /// Stores a blob; the result is its descriptor.
    pub fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let digest = Digest::of(&content);
        let size = content.len();
        self.0.insert(digest, content);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    }

    /// Stores an image with these layers, given uncompressed and stored compressed; the result is
    /// the descriptor of its manifest, with the platform.
    pub fn add_image(&mut self, platform: &str, layers: &[&[u8]]) -> Value {
        let diff_ids = layers.iter().map(|layer| Digest::of(layer));
        let configuration = configuration(platform, diff_ids);
        let configuration = self.add(CONFIGURATION, configuration.to_string().into_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.add(GZIP_LAYER, gzip(layer)))
            .collect();
        let mut descriptor = self.add_manifest(configuration, layers);
        descriptor["platform"] = platform_json(platform);
        descriptor
    }

    /// Stores a manifest; the result is its descriptor.
    pub fn add_manifest(&mut self, configuration: Value, layers: Vec<Value>) -> Value {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": configuration,
            "layers": layers,
        });
        self.add(MANIFEST, manifest.to_string().into_bytes())
    }
}

/// An image configuration.
pub fn configuration(platform: &str, diff_ids: impl Iterator<Item = Digest>) -> Value {
    let mut configuration = platform_json(platform);
    configuration["rootfs"] = json!({
        "type": "layers",
        "diff_ids": diff_ids.map(|id| id.to_string()).collect::<Vec<_>>(),
    });
    configuration
}

/// An index of these manifests.
pub fn index(manifests: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        .to_string()
        .into_bytes()
}

/// The digest in a descriptor.
pub fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn platform_json(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut json = json!({"os": parts.next(), "architecture": parts.next()});
    if let Some(variant) = parts.next() {
        json["variant"] = variant.into();
    }
    json
}

/// A layer as it is stored.
pub fn content(image: &Image, layer: usize) -> Result<Vec<u8>, SourceError> {
    let LayerBytes::Archive(mut bytes) = image.layers[layer].open()? else {
        panic!("no archive");
    };
    let mut content = Vec::new();
    bytes
        .read_to_end(&mut content)
        .map_err(|error| SourceError::from_read(error, |error| panic!("{error}")))?;
    Ok(content)
}
