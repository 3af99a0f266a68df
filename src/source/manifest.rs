//! The JSON documents of an image: index, manifest and configuration.
//!
//! Sources: OCI image specification 1.1 (`image-index.md`, `manifest.md`, `config.md`) and Docker's
//! "Image Manifest Version 2, Schema 2", which differ in their media types only.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::SourceError;
use super::history::{self, History};
use super::platform::Offer;
use crate::digest::Digest;

/// Media types of an index, OCI's and Docker's.
pub(super) const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Media types of a manifest, OCI's and Docker's.
pub(super) const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Names one blob or document.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    /// As it stands there, which may be of an unknown kind.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Offer>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What the manifest that it names is, where that is no image.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Its digest, which must be a SHA-256 one.
    pub fn digest(&self) -> Result<Digest, SourceError> {
        self.digest.parse().map_err(
            |error: crate::digest::InvalidDigest| SourceError::Malformed {
                object: "a descriptor".to_owned(),
                problem: error.to_string(),
            },
        )
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether it is a layer that can be read: an error that says why not, otherwise.
    pub fn check_layer_type(&self) -> Result<(), SourceError> {
        let refused = |reason| {
            Err(SourceError::LayerMediaType {
                digest: self.digest.escape_default().to_string(),
                media_type: self.media_type.clone(),
                reason,
            })
        };
        match self.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(()),
            other if other.ends_with("+encrypted") => {
                refused("so it is encrypted; decrypt the image first, for example with skopeo copy")
            }
            other if other.contains(".nondistributable.") || other.contains(".foreign.") => {
                refused("so its bytes are not kept with the image; choose other layers")
            }
            _ => refused("which is no file system layer; choose other layers"),
        }
    }
}

/// An index or a manifest, told apart by what it contains.
#[derive(Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Box<Manifest>),
}

/// What an image consists of.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// What it is, where it is no image.
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Document {
    pub fn parse(bytes: &[u8], name: &str) -> Result<Document, SourceError> {
        let malformed = |problem: &str| SourceError::Malformed {
            object: name.to_owned(),
            problem: problem.to_owned(),
        };
        let raw: RawDocument = parse_json(bytes, name)?;
        if raw.schema_version == Some(1) {
            return Err(malformed(
                "it uses Docker's obsolete schema 1; push the image again with a current tool",
            ));
        }
        let media_type = raw.media_type.unwrap_or_default();
        let is = |types: [&str; 2]| media_type.is_empty() || types.contains(&media_type.as_str());
        // One document that is an index to some and a manifest to others could show each of them
        // another image (CVE-2021-41190).
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if is(INDEX_TYPES) => Ok(Document::Index(manifests)),
            (None, Some(config), Some(layers)) if is(MANIFEST_TYPES) => {
                Ok(Document::Manifest(Box::new(Manifest {
                    config,
                    layers,
                    artifact_type: raw.artifact_type,
                    annotations: raw.annotations.unwrap_or_default(),
                })))
            }
            _ => Err(malformed(
                "it is neither an image index nor an image manifest",
            )),
        }
    }
}

/// What is used of an image's configuration.
#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    #[serde(flatten)]
    pub platform: Offer,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(default)]
    history: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

impl Configuration {
    pub fn parse(bytes: &[u8], name: &str) -> Result<Configuration, SourceError> {
        parse_json(bytes, name)
    }

    /// How each of `layers` layers came about.
    pub fn history(&self, layers: usize) -> Vec<History> {
        history::of_layers(&self.history, layers)
    }

    /// The diff id of each of `layers` layers. Configurations that are no Docker ones may have
    /// none at all.
    pub fn diff_ids(&self, layers: usize, name: &str) -> Result<Vec<Option<Digest>>, SourceError> {
        let ids = &self.rootfs.diff_ids;
        if ids.is_empty() {
            return Ok(vec![None; layers]);
        }
        let malformed = |problem| SourceError::Malformed {
            object: name.to_owned(),
            problem,
        };
        if ids.len() != layers {
            let problem = format!("it has {} diff ids for {layers} layers", ids.len());
            return Err(malformed(problem));
        }
        ids.iter()
            .map(|id| match id.parse() {
                Ok(id) => Ok(Some(id)),
                Err(error) => Err(malformed(format!("diff id {error}"))),
            })
            .collect()
    }
}

/// Reads a JSON document called `name`.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|error| SourceError::Malformed {
        object: name.to_owned(),
        problem: error.to_string(),
    })
}

/// `bytes`, if they have the digest by which they were named.
pub(super) fn verified(
    bytes: Vec<u8>,
    expected: Digest,
    name: &str,
) -> Result<Vec<u8>, SourceError> {
    let actual = Digest::of(&bytes);
    if actual != expected {
        return Err(SourceError::WrongDigest {
            object: name.to_owned(),
            expected,
            actual,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = r#"{"mediaType":"x","digest":"sha256:00","size":1}"#;

    fn parse(json: &str) -> Result<Document, SourceError> {
        Document::parse(json.as_bytes(), "x")
    }

    #[test]
    fn indexes_and_manifests_are_told_apart_by_content() {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{BLOB}]}}"#);
        assert!(matches!(parse(&index), Ok(Document::Index(entries)) if entries.len() == 1));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{BLOB},"layers":[{BLOB}]}}"#);
        assert!(matches!(parse(&manifest), Ok(Document::Manifest(_))));
    }

    #[test]
    fn documents_that_could_be_both_or_lie_about_their_type_are_refused() {
        for json in [
            format!(r#"{{"manifests":[],"config":{BLOB},"layers":[]}}"#),
            format!(r#"{{"manifests":[],"layers":[{BLOB}]}}"#),
            format!(r#"{{"mediaType":"{}","manifests":[]}}"#, MANIFEST_TYPES[0]),
            format!(
                r#"{{"mediaType":"{}","config":{BLOB},"layers":[]}}"#,
                INDEX_TYPES[1]
            ),
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            "[".repeat(100_000),
        ] {
            let result = parse(&json);
            assert!(
                matches!(result, Err(SourceError::Malformed { .. })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn layers_that_are_no_tar_archives_here_are_refused() {
        let layer = |media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            digest: "sha256:00".to_owned(),
            size: 1,
            platform: None,
            annotations: None,
            artifact_type: None,
        };
        assert!(
            layer("application/vnd.oci.image.layer.v1.tar+zstd")
                .check_layer_type()
                .is_ok()
        );
        for media_type in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.in-toto+json",
            "",
        ] {
            let result = layer(media_type).check_layer_type();
            assert!(matches!(result, Err(SourceError::LayerMediaType { .. })));
        }
    }

    #[test]
    fn every_layer_needs_its_diff_id() {
        let id = Digest::of(b"x");
        let json = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{id}"]}}}}"#
        );
        let configuration = Configuration::parse(json.as_bytes(), "x").unwrap();
        assert_eq!(configuration.platform.to_string(), "linux/amd64");
        assert_eq!(configuration.diff_ids(1, "x").unwrap(), [Some(id)]);
        assert!(configuration.diff_ids(2, "x").is_err());
        let empty = Configuration::parse(b"{}", "x").unwrap();
        assert_eq!(empty.diff_ids(2, "x").unwrap(), [None, None]);
    }
}
