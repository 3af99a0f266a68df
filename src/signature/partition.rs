//! The JSON in the signature partition (Discoverable Partitions Specification, UAPI.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::SignatureError;
use crate::digest::{Digest, unhex32};
use crate::verity::RootHash;

/// Bytes of the signature partition (`VERITY_SIG_SIZE` in systemd's `repart.c`).
pub const PARTITION_BYTES: usize = 16 * 1024;
/// The largest one that systemd reads (`dissected_image_load_verity_sig_partition()`).
const MAX_PARTITION_BYTES: usize = 4 << 20;

/// What the signature partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePartition {
    /// The hash that was signed.
    pub root_hash: RootHash,
    /// SHA-256 of the signer's certificate; systemd does not read it.
    pub certificate_fingerprint: Option<Digest>,
    /// The detached PKCS#7, DER.
    pub pkcs7: Vec<u8>,
}

/// Why systemd would not read a signature partition.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSignaturePartition {
    /// Larger than systemd takes.
    #[error("the signature partition is larger than 4 MiB")]
    TooLarge,
    /// Something follows the first NUL.
    #[error("the signature partition has more than NUL bytes behind its JSON")]
    EmbeddedNul,
    /// Not JSON, or not the fields that are needed.
    #[error("the signature partition's JSON is unusable: {0}")]
    Json(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    root_hash: String,
    #[serde(default)]
    certificate_fingerprint: Option<String>,
    signature: String,
}

impl SignaturePartition {
    /// The whole partition: compact JSON in systemd-repart's order, then NUL bytes.
    ///
    /// # Errors
    /// [`SignatureError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, SignatureError> {
        let fingerprint = self
            .certificate_fingerprint
            .map(|digest| format!("\"certificateFingerprint\":\"{}\",", digest.hex()))
            .unwrap_or_default();
        let mut bytes = format!(
            "{{\"rootHash\":\"{}\",{fingerprint}\"signature\":\"{}\"}}",
            self.root_hash,
            STANDARD.encode(&self.pkcs7)
        )
        .into_bytes();
        // systemd wants at least one NUL.
        if bytes.len() >= PARTITION_BYTES {
            return Err(SignatureError::TooLong(bytes.len()));
        }
        bytes.resize(PARTITION_BYTES, 0);
        Ok(bytes)
    }

    /// Reads a partition as leniently as systemd does: any order, unknown fields, white space.
    ///
    /// # Errors
    /// See [`InvalidSignaturePartition`].
    pub fn parse(bytes: &[u8]) -> Result<SignaturePartition, InvalidSignaturePartition> {
        if bytes.len() > MAX_PARTITION_BYTES {
            return Err(InvalidSignaturePartition::TooLarge);
        }
        let end = bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(bytes.len());
        let (json, padding) = bytes.split_at(end);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(InvalidSignaturePartition::EmbeddedNul);
        }
        let invalid = |reason: &str| InvalidSignaturePartition::Json(reason.to_owned());
        let fields: Fields =
            serde_json::from_slice(json).map_err(|error| invalid(&error.to_string()))?;
        let base64: String = fields.signature.split_ascii_whitespace().collect();
        Ok(SignaturePartition {
            root_hash: fields
                .root_hash
                .parse()
                .map_err(|_| invalid("rootHash is not 64 hexadecimal digits"))?,
            certificate_fingerprint: fields
                .certificate_fingerprint
                .and_then(|text| unhex32(&text))
                .map(Digest::from_bytes),
            pkcs7: STANDARD
                .decode(base64)
                .map_err(|_| invalid("signature is not base64"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> SignaturePartition {
        SignaturePartition {
            root_hash: RootHash([0xab; 32]),
            certificate_fingerprint: Some(Digest::of(b"certificate")),
            pkcs7: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_partition_reads_back_what_it_wrote() {
        let bytes = example().encode().unwrap();
        assert_eq!(bytes.len(), PARTITION_BYTES);
        assert!(bytes.starts_with(b"{\"rootHash\":\"abab"));
        assert_eq!(SignaturePartition::parse(&bytes), Ok(example()));
    }

    #[test]
    fn a_signature_that_does_not_fit_is_refused() {
        let mut large = example();
        large.pkcs7 = vec![0; 12_200];
        assert!(matches!(large.encode(), Err(SignatureError::TooLong(_))));
    }

    /// The variants that systemd 257 was seen to take and to refuse.
    #[test]
    fn variants_are_judged_as_systemd_judges_them() {
        let root = "AB".repeat(32);
        let accepted =
            format!("\n{{ \"signature\":\"AQ\\nID\", \"x\":[1], \"rootHash\" : \"{root}\"}}  ");
        let parsed = SignaturePartition::parse(accepted.as_bytes()).unwrap();
        assert_eq!(
            (parsed.root_hash, parsed.pkcs7),
            (example().root_hash, vec![1, 2, 3])
        );

        let mut garbage = example().encode().unwrap();
        garbage[PARTITION_BYTES - 1] = 1;
        assert_eq!(
            SignaturePartition::parse(&garbage),
            Err(InvalidSignaturePartition::EmbeddedNul)
        );
        for refused in [
            "",
            "\0\0",
            "{}",
            "[]",
            &format!("{{\"rootHash\":\"{root}\"}}"),
        ] {
            assert!(
                SignaturePartition::parse(refused.as_bytes()).is_err(),
                "{refused:?}"
            );
        }
        assert_eq!(
            SignaturePartition::parse(&vec![b' '; MAX_PARTITION_BYTES + 1]),
            Err(InvalidSignaturePartition::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = SignaturePartition::parse(&bytes);
        }
    }
}
