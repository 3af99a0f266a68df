//! Signatures that cosign left beside an image.
//!
//! Up to version 2 it stores them as layers of the image `sha256-HEX.sig` in the same repository, each
//! with a JSON document as content and the signature over it in an annotation ("simple signing"; source:
//! cosign, `specs/SIGNATURE_SPEC.md`). Version 3 stores bundles that refer to the image: see
//! [`bundle`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::error::SourceError;
use super::super::manifest::{Descriptor, Document, Manifest, verified};
use super::verify_key::VerifyKey;
use super::{Registry, bundle};
use crate::digest::Digest;

/// Annotation with the signature, in Base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What is signed is of this type.
const TYPE: &str = "cosign container image signature";

/// Type of a configuration that has nothing to say (OCI image specification 1.1).
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// Bytes that what is signed may have, and a bundle; both have some hundred.
const DOCUMENT_LIMIT: u64 = 1 << 20;

/// So many signatures are looked at.
const SIGNATURE_LIMIT: usize = 64;

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Passes if `key` has signed what the image's name stands for, be it an index or a manifest.
pub(super) fn verify(registry: &Registry, key: &VerifyKey) -> Result<(), SourceError> {
    let (digest, _) = registry.root;
    let mut refusals = Refusals::default();
    if let Some(document) = registry.neighbour(&format!("sha256-{}.sig", digest.hex()))? {
        let name = format!("the list of signatures of {digest}");
        let Document::Manifest(manifest) = Document::parse(&document, &name)? else {
            return Err(malformed(name, "it is an index"));
        };
        for layer in manifest.layers.iter().take(SIGNATURE_LIMIT) {
            match simple_signing(registry, layer, key, digest)? {
                Ok(()) => return Ok(()),
                Err(refusal) => refusals.0.push(refusal),
            }
        }
    }
    for manifest in bundles(registry, digest)? {
        for layer in manifest.layers.iter().take(1) {
            let name = format!("bundle {}", layer.digest);
            match bundle::verify(&content(registry, layer, &name)?, key, digest) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusals.0.push(refusal),
            }
        }
    }
    Err(SourceError::Untrusted {
        image: format!("{}@{digest}", registry.location()),
        problem: refusals.problem(key),
    })
}

/// Why signatures do not count.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    fn problem(mut self, key: &VerifyKey) -> String {
        let path = key.path().display();
        self.0.sort();
        self.0.dedup();
        match self.0.as_slice() {
            [] => format!("it has no cosign signature; sign it with the key of {path}"),
            reasons => format!(
                "none of its cosign signatures counts for the key {path}: {}",
                reasons.join("; ")
            ),
        }
    }
}

/// The inner error says why the signature does not count.
fn simple_signing(
    registry: &Registry,
    layer: &Descriptor,
    key: &VerifyKey,
    digest: Digest,
) -> Result<Result<(), String>, SourceError> {
    let Some(signature) = layer.annotation(SIGNATURE) else {
        return Ok(Err(format!(
            "{} has no signature",
            layer.digest.escape_debug()
        )));
    };
    let Ok(signature) = STANDARD.decode(signature) else {
        return Ok(Err("one is not in Base64".to_owned()));
    };
    let name = format!("what is signed, {}", layer.digest);
    let payload = content(registry, layer, &name)?;
    if !key.has_signed(&payload, &signature) {
        return Ok(Err("another key has made one".to_owned()));
    }
    Ok(says(&payload, digest))
}

/// Whether a signed document speaks of the image with this digest.
fn says(payload: &[u8], digest: Digest) -> Result<(), String> {
    let Ok(Payload { critical }) = serde_json::from_slice(payload) else {
        return Err("what the key has signed is no simple signing document".to_owned());
    };
    if critical.kind != TYPE {
        let kind = critical.kind.escape_debug();
        return Err(format!("the key has signed a {kind:?}, which is no {TYPE}"));
    }
    if critical.image.digest != digest.to_string() {
        let other = critical.image.digest.escape_debug();
        return Err(format!("the key has signed another image, {other}"));
    }
    Ok(())
}

/// The manifests with bundles that refer to the image: those of the referrers API, or of the index
/// with the tag that stands in for it.
fn bundles(registry: &Registry, digest: Digest) -> Result<Vec<Manifest>, SourceError> {
    let index = match registry.referrers()? {
        Some(index) => Some(index),
        None => registry.neighbour(&format!("sha256-{}", digest.hex()))?,
    };
    let Some(index) = index else {
        return Ok(Vec::new());
    };
    let name = format!("the list of referrers of {digest}");
    let Document::Index(entries) = Document::parse(&index, &name)? else {
        return Err(malformed(name, "it is no index"));
    };
    let may_be_bundle = |entry: &&Descriptor| match entry.artifact_type.as_deref() {
        // In the index under the tag cosign 3 lists its bundles by the type of their configuration.
        Some(kind) => kind.starts_with(bundle::MEDIA_TYPE) || kind == EMPTY_TYPE,
        None => true,
    };
    let mut manifests = Vec::new();
    for entry in entries.iter().filter(may_be_bundle).take(SIGNATURE_LIMIT) {
        let name = format!("manifest {}", entry.digest);
        let Some(document) = registry.neighbour(&entry.digest()?.to_string())? else {
            continue;
        };
        let document = verified(document, entry.digest()?, &name)?;
        if let Document::Manifest(manifest) = Document::parse(&document, &name)?
            && is_bundle(&manifest)
        {
            manifests.push(*manifest);
        }
    }
    Ok(manifests)
}

/// Whether a manifest has a bundle, whatever it is listed as.
fn is_bundle(manifest: &Manifest) -> bool {
    let layer = manifest.layers.first();
    layer.is_some_and(|layer| layer.media_type.starts_with(bundle::MEDIA_TYPE))
}

/// A small blob, verified.
fn content(registry: &Registry, layer: &Descriptor, name: &str) -> Result<Vec<u8>, SourceError> {
    let digest = layer.digest()?;
    if layer.size > DOCUMENT_LIMIT {
        return Err(SourceError::TooLarge {
            object: name.to_owned(),
            limit: DOCUMENT_LIMIT,
        });
    }
    let bytes = registry.document(format!("blobs/{digest}"), name.to_owned())?;
    verified(bytes, digest, name)
}

fn malformed(object: String, problem: &str) -> SourceError {
    SourceError::Malformed {
        object,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cosign 2 signs.
    fn payload(digest: &str, kind: &str) -> Vec<u8> {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"example.org/app"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":null}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_signed_document_counts_for_its_image_and_type_only() {
        let digest = Digest::of(b"image");
        let name = digest.to_string();
        assert_eq!(says(&payload(&name, TYPE), digest), Ok(()));
        for (document, words) in [
            (
                payload(&Digest::of(b"other").to_string(), TYPE),
                "another image",
            ),
            (payload(&name, "atomic container signature"), "no cosign"),
            (b"{}".to_vec(), "no simple signing"),
            (b"".to_vec(), "no simple signing"),
        ] {
            let refusal = says(&document, digest).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
