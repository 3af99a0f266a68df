//! Sigstore bundles with the signature of an image, as cosign 3 stores them.
//!
//! Sources: protobuf-specs, `sigstore_bundle.proto`; DSSE, `protocol.md`; in-toto's "Statement" v1. The
//! entries of a transparency log that a bundle may have are not looked at: who has the key needs none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::verify_key::VerifyKey;
use crate::digest::Digest;

/// How the media types of bundles begin; the version follows.
pub(super) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// Type of a DSSE payload that is an in-toto statement.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// What a statement says that is a signature of an image, and no bill of materials or the like.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: SubjectDigest,
}

#[derive(Default, Deserialize)]
struct SubjectDigest {
    sha256: Option<String>,
}

/// Passes if `bundle` shows that `key` has signed the image with this digest; an error says why not.
pub(super) fn verify(bundle: &[u8], key: &VerifyKey, digest: Digest) -> Result<(), String> {
    let refused = |reason: &str| Err(reason.to_owned());
    let Ok(Bundle { dsse_envelope }) = serde_json::from_slice(bundle) else {
        return refused("one is no Sigstore bundle");
    };
    let Some(envelope) = dsse_envelope else {
        return refused("one is a bundle without a DSSE envelope");
    };
    let Ok(payload) = STANDARD.decode(&envelope.payload) else {
        return refused("what is signed is not in Base64");
    };
    let message = pre_authentication_encoding(&envelope.payload_type, &payload);
    let is_signed = envelope.signatures.iter().take(16).any(|signature| {
        let signature = STANDARD.decode(&signature.sig);
        signature.is_ok_and(|signature| key.has_signed(&message, &signature))
    });
    if !is_signed {
        return refused("another key has made one");
    }
    if envelope.payload_type != STATEMENT {
        return refused("what the key has signed is no in-toto statement");
    }
    let Ok(statement) = serde_json::from_slice::<Statement>(&payload) else {
        return refused("what the key has signed is no in-toto statement");
    };
    if statement.predicate_type != SIGNATURE {
        let kind = statement.predicate_type.escape_debug();
        return Err(format!(
            "the key has signed a {kind:?}, which is no signature of an image"
        ));
    }
    let hex = digest.hex();
    let names_it = |subject: &Subject| subject.digest.sha256.as_deref() == Some(hex.as_str());
    match statement.subject.iter().any(names_it) {
        true => Ok(()),
        false => refused("the key has signed another image"),
    }
}

/// DSSE's PAE: what is signed of a payload and its type.
fn pre_authentication_encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_encoded_as_in_the_protocol() {
        // The example of DSSE's protocol.md.
        let message = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            message,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
