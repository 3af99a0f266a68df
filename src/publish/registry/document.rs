//! The manifests of published images, as bytes: equal input gives equal bytes, so that a manifest that is
//! published again has the digest that it had.
//!
//! Format: OCI image specification 1.1. Artefact and media types: Kairos' convention, by which its agents
//! know an image that is one blob.

use serde_json::{Map, Value, json};

use crate::architecture::Architecture;
use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::publish::edition::Edition;
use crate::publish::registry::repository::Known;

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of [`EMPTY`].
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The configuration of an artefact that needs none.
pub const EMPTY: &[u8] = b"{}";

/// Annotations. Source: OCI image specification, `annotations.md`.
const TITLE: &str = "org.opencontainers.image.title";
pub const VERSION: &str = "org.opencontainers.image.version";

/// A manifest or index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
    pub digest: Digest,
    artifact_type: String,
}

impl Document {
    fn new(media_type: &'static str, artifact_type: &str, mut content: Value) -> Document {
        content["schemaVersion"] = 2.into();
        content["mediaType"] = media_type.into();
        content["artifactType"] = artifact_type.into();
        let bytes = content.to_string().into_bytes();
        Document {
            media_type,
            digest: Digest::of(&bytes),
            bytes,
            artifact_type: artifact_type.to_owned(),
        }
    }

    /// What names it in an index.
    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest.to_string(),
            "size": self.bytes.len(),
            "artifactType": self.artifact_type,
        })
    }
}

/// What an artefact with an image of this kind is.
pub fn artifact_type(kind: ExtensionKind) -> String {
    format!("application/vnd.kairos.{kind}.raw")
}

/// The manifest of one image.
pub fn image(edition: &Edition) -> Document {
    let artifact_type = artifact_type(edition.kind);
    let layer = json!({
        "mediaType": artifact_type,
        "digest": edition.digest.to_string(),
        "size": edition.size,
        // Without a version: up to 255, systemd finds no release file for a name that has one.
        "annotations": {TITLE: edition.kind.file_name(&edition.name)},
    });
    let content = json!({
        "config": empty(),
        "layers": [layer],
        "annotations": {
            TITLE: edition.name.as_str(),
            VERSION: edition.version.as_str(),
        },
    });
    Document::new(MANIFEST, &artifact_type, content)
}

/// What names an image of `architecture` in an index.
pub fn entry(architecture: Architecture, image: &Document) -> Value {
    let mut entry = image.descriptor();
    entry["platform"] = platform(architecture);
    entry
}

/// The entry of an image that is in the registry already, if it is one.
pub fn entry_of_known(architecture: Architecture, image: &Known) -> Option<Value> {
    (image.content["mediaType"] == MANIFEST).then(|| {
        json!({
            "mediaType": MANIFEST,
            "digest": image.digest.to_string(),
            "size": image.size,
            "artifactType": image.content["artifactType"],
            "platform": platform(architecture),
        })
    })
}

/// Whether it is an artefact, or an index over artefacts, of the extension that `edition` is one of.
pub fn is_of(edition: &Edition, document: &Value) -> bool {
    document["artifactType"] == artifact_type(edition.kind)
        && document["annotations"][TITLE] == edition.name.as_str()
}

/// Whether it is an index, and no manifest of an image.
pub fn is_index(document: &Value) -> bool {
    document["manifests"].is_array()
}

/// Whether `index` has an image for `architecture`.
pub fn has(index: &Value, architecture: Architecture) -> bool {
    let platform = platform(architecture);
    let entries = index["manifests"].as_array();
    entries.is_some_and(|entries| entries.iter().any(|entry| entry["platform"] == platform))
}

/// The index over one version of the extension of `edition` for all architectures: what `known` has, and
/// `entries` in the place of what was there for their architectures.
pub fn index(edition: &Edition, known: Option<&Value>, entries: &[Value]) -> Document {
    let known = known.and_then(|index| index["manifests"].as_array());
    let mut manifests = known.cloned().unwrap_or_default();
    for entry in entries {
        manifests.retain(|manifest| manifest["platform"] != entry["platform"]);
        manifests.push(entry.clone());
    }
    manifests.sort_by_key(|manifest| manifest["platform"].to_string());
    let content = json!({
        "manifests": manifests,
        "annotations": {
            TITLE: edition.name.as_str(),
            VERSION: edition.version.as_str(),
        },
    });
    Document::new(INDEX, &artifact_type(edition.kind), content)
}

/// The manifest of a statement about `subject`: one blob.
pub fn referrer(subject: &Document, media_type: &str, title: &str, statement: &[u8]) -> Document {
    let mut subject = subject.descriptor();
    if let Some(subject) = subject.as_object_mut() {
        subject.remove("artifactType");
    }
    let layer = json!({
        "mediaType": media_type,
        "digest": Digest::of(statement).to_string(),
        "size": statement.len(),
        "annotations": {TITLE: title},
    });
    let content = json!({"config": empty(), "layers": [layer], "subject": subject});
    Document::new(MANIFEST, media_type, content)
}

/// The index that registries without a referrers API keep under a tag (OCI distribution specification,
/// "Referrers Tag Schema"): what `known` has, and `referrer`.
pub fn referrers(known: Option<&Value>, referrer: &Document) -> Document {
    let known = known.and_then(|index| index["manifests"].as_array());
    let mut manifests = known.cloned().unwrap_or_default();
    let descriptor = referrer.descriptor();
    manifests.retain(|manifest| manifest["digest"] != descriptor["digest"]);
    manifests.push(descriptor);
    let mut content = Map::new();
    content.insert("schemaVersion".to_owned(), 2.into());
    content.insert("mediaType".to_owned(), INDEX.into());
    content.insert("manifests".to_owned(), manifests.into());
    let bytes = Value::from(content).to_string().into_bytes();
    Document {
        media_type: INDEX,
        digest: Digest::of(&bytes),
        bytes,
        artifact_type: String::new(),
    }
}

fn empty() -> Value {
    json!({
        "mediaType": EMPTY_TYPE,
        "digest": Digest::of(EMPTY).to_string(),
        "size": EMPTY.len(),
    })
}

fn platform(architecture: Architecture) -> Value {
    let name = architecture
        .oci_name()
        .unwrap_or(architecture.systemd_name());
    match architecture {
        // Where none is named, containerd takes an arm image to be for v7.
        Architecture::Arm => json!({"os": "linux", "architecture": name, "variant": "v7"}),
        _ => json!({"os": "linux", "architecture": name}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::edition::example;

    #[test]
    fn an_index_gathers_architectures_and_replaces_its_own() {
        let amd = example("hello", "1");
        let mut arm = example("hello", "1");
        arm.architecture = Architecture::Arm64;
        arm.digest = Digest::of(b"arm");
        let entry = |edition: &Edition| entry(edition.architecture, &image(edition));
        let first = index(&amd, None, &[entry(&amd)]);
        let known: Value = serde_json::from_slice(&first.bytes).unwrap();
        assert!(has(&known, Architecture::X86_64) && !has(&known, Architecture::Arm64));
        let both = index(&arm, Some(&known), &[entry(&arm)]);
        let known: Value = serde_json::from_slice(&both.bytes).unwrap();
        let architectures: Vec<&Value> = known["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| &manifest["platform"]["architecture"])
            .collect();
        assert_eq!(architectures, ["amd64", "arm64"]);
        // In whatever order they come, and however often.
        let again = index(&amd, Some(&known), &[entry(&arm), entry(&amd)]);
        assert_eq!(again, both);
        let stored = Known {
            digest: image(&arm).digest,
            size: image(&arm).bytes.len(),
            content: serde_json::from_slice(&image(&arm).bytes).unwrap(),
        };
        assert_eq!(
            entry_of_known(Architecture::Arm64, &stored),
            Some(entry(&arm))
        );
    }

    #[test]
    fn statements_gather_once_each() {
        let subject = image(&example("hello", "1"));
        let one = referrer(&subject, "a/b", "t", b"1");
        let known: Value = serde_json::from_slice(&referrers(None, &one).bytes).unwrap();
        assert_eq!(referrers(Some(&known), &one), referrers(None, &one));
        let other = referrer(&subject, "c/d", "t", b"2");
        let both: Value = serde_json::from_slice(&referrers(Some(&known), &other).bytes).unwrap();
        assert_eq!(both["manifests"].as_array().unwrap().len(), 2);
        assert_eq!(both["manifests"][1]["artifactType"], "c/d");
    }
}
