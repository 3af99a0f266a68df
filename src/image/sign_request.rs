//! What is to be signed, for whoever holds the key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::copy::OnBytes;
use super::ddi::{Ddi, DdiError};
use super::identity::{Identity, IdentityError};
use super::output::Output;
use super::partition_type::Role;
use crate::architecture::Architecture;
use crate::digest::{Digest, Hasher, unhex32};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::read_at::{FileWindow, ReadAt};
use crate::signature::SigningCertificate;
use crate::verity::RootHash;

/// An image whose root hash is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignRequest {
    /// sysext or confext.
    pub kind: ExtensionKind,
    /// Name of the extension.
    pub name: ExtensionName,
    /// For which CPU.
    pub architecture: Architecture,
    /// What is to be signed: its 64 digits, without a line break.
    pub root_hash: RootHash,
    /// With which digest: `sha256`, or `sha384` where the intended key is of P-384.
    pub digest_algorithm: String,
    /// Name of the image file.
    pub file_name: String,
    /// Bytes of the image.
    pub image_size: u64,
    /// SHA-256 of the image as it was when the request was made.
    pub image_digest: Digest,
    /// UUID of the data partition.
    pub data_uuid: Uuid,
    /// UUID of the hash partition.
    pub hash_uuid: Uuid,
    /// UUID of the signature partition, where there is one.
    pub signature_uuid: Option<Uuid>,
    /// The certificate whose key is to sign, if the image is meant for a certain one.
    pub certificate_fingerprint: Option<Digest>,
    /// Fields of the release file.
    pub release: BTreeMap<String, String>,
}

/// Why no request could be made of an image.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is no image, or was not read.
    #[error(transparent)]
    Ddi(#[from] DdiError),
    /// It does not say which extension it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is nothing to sign.
    #[error("{0} has no hash tree, so there is nothing to sign")]
    NoHashTree(PathBuf),
}

/// Why a file is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Larger than any request.
    #[error("the sign request is larger than 1 MiB")]
    TooLarge,
    /// Not the JSON that is expected.
    #[error("the sign request is unusable: {0}")]
    Json(String),
    /// Of a later version of sysgraft.
    #[error("the sign request has version {0}; this sysgraft reads {SCHEMA_VERSION}")]
    Version(u32),
    /// A field with an impossible value.
    #[error("the sign request is unusable: {0} has an impossible value")]
    Field(&'static str),
}

const SCHEMA_VERSION: u32 = 1;
/// Larger files are no requests: the release file in one has at most that size.
const MAX_BYTES: usize = 1 << 20;
/// How much of an image is hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// The names and forms of the JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: u32,
    kind: String,
    name: String,
    architecture: String,
    root_hash: String,
    digest_algorithm: String,
    image: ImageFields,
    partitions: PartitionFields,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_fingerprint: Option<String>,
    release: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageFields {
    file_name: String,
    size: u64,
    digest: String,
}

/// UUIDs.
#[derive(Serialize, Deserialize)]
struct PartitionFields {
    data: String,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    schema_version: u32,
}

impl SignRequest {
    /// The request for an image, all of which is read, to be signed by the key of `certificate`.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn of(
        ddi: &Ddi,
        certificate: Option<&SigningCertificate>,
        on_bytes: OnBytes<'_>,
    ) -> Result<SignRequest, RequestError> {
        let path = || ddi.path.clone();
        let identity = Identity::read(ddi)?;
        let root_hash = ddi
            .root_hash()
            .ok_or_else(|| RequestError::NoHashTree(path()))?;
        let architecture = ddi
            .partition(Role::Data)
            .and_then(|data| data.kind)
            .map(|kind| kind.architecture)
            .ok_or_else(|| DdiError::NoData(path()))?;
        let (data_uuid, hash_uuid) = root_hash.partition_uuids();
        let file_name = ddi.path.file_name().unwrap_or_default();
        let fields = identity.release.fields();
        Ok(SignRequest {
            kind: identity.kind,
            name: identity.name,
            architecture,
            root_hash,
            digest_algorithm: certificate
                .map_or("sha256", |certificate| {
                    certificate.algorithm().digest_name()
                })
                .to_owned(),
            file_name: file_name.to_string_lossy().into_owned(),
            image_size: ddi.size,
            image_digest: digest(ddi, on_bytes)?,
            data_uuid,
            hash_uuid,
            signature_uuid: ddi.partition(Role::Signature).map(|found| found.uuid),
            certificate_fingerprint: certificate
                .map(|certificate| certificate.certificate().fingerprint()),
            release: fields
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    /// The request for an image that is complete but for its name.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn of_output(
        image: &Output,
        certificate: Option<&SigningCertificate>,
    ) -> Result<SignRequest, RequestError> {
        let path = image.target();
        let file = image.file().try_clone().map_err(DdiError::reading(path))?;
        SignRequest::of(&Ddi::read(file, path)?, certificate, &|_| {})
    }

    /// Where the request for the image of the extension `name` at `image` lies: beside it, as
    /// `NAME[_VERSION][_ARCHITECTURE].sign-request.json`.
    pub fn path_beside(image: &Path, name: &ExtensionName) -> PathBuf {
        let file = image.file_name().unwrap_or_default().to_string_lossy();
        let stem = file.strip_suffix(".raw").unwrap_or(&file);
        let stem = ExtensionKind::ALL.iter().fold(stem, |stem, kind| {
            let suffix = format!(".{kind}");
            stem.strip_suffix(&suffix).unwrap_or(stem)
        });
        let of_version = stem
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.starts_with('_'));
        // An image that was renamed altogether is still found by its name.
        image.with_file_name(match of_version {
            true => SignRequest::file_name_of(stem),
            false => SignRequest::file_name_of(name),
        })
    }

    /// `STEM.sign-request.json`.
    pub fn file_name_of(stem: impl fmt::Display) -> String {
        format!("{stem}.sign-request.json")
    }

    /// The request as JSON, with a line break at its end.
    pub fn render(&self) -> String {
        let fields = Fields {
            schema_version: SCHEMA_VERSION,
            kind: self.kind.to_string(),
            name: self.name.to_string(),
            architecture: self.architecture.to_string(),
            root_hash: self.root_hash.to_string(),
            digest_algorithm: self.digest_algorithm.clone(),
            image: ImageFields {
                file_name: self.file_name.clone(),
                size: self.image_size,
                digest: self.image_digest.to_string(),
            },
            partitions: PartitionFields {
                data: self.data_uuid.to_string(),
                hash: self.hash_uuid.to_string(),
                signature: self.signature_uuid.map(|uuid| uuid.to_string()),
            },
            certificate_fingerprint: self.certificate_fingerprint.map(|digest| digest.hex()),
            release: self.release.clone(),
        };
        // Nothing but text and numbers, which cannot fail to be written.
        let json = serde_json::to_string_pretty(&fields).unwrap_or_default();
        json + "\n"
    }

    /// Reads a request; fields that later versions may add do not matter.
    ///
    /// # Errors
    /// See [`InvalidRequest`].
    pub fn parse(json: &[u8]) -> Result<SignRequest, InvalidRequest> {
        if json.len() > MAX_BYTES {
            return Err(InvalidRequest::TooLarge);
        }
        let unusable = |error: serde_json::Error| InvalidRequest::Json(error.to_string());
        let version: Version = serde_json::from_slice(json).map_err(unusable)?;
        if version.schema_version != SCHEMA_VERSION {
            return Err(InvalidRequest::Version(version.schema_version));
        }
        let fields: Fields = serde_json::from_slice(json).map_err(unusable)?;
        fields.check()
    }
}

impl Fields {
    fn check(self) -> Result<SignRequest, InvalidRequest> {
        fn parse<T: std::str::FromStr>(
            field: &'static str,
            text: &str,
        ) -> Result<T, InvalidRequest> {
            text.parse().map_err(|_| InvalidRequest::Field(field))
        }
        let signature_uuid = self.partitions.signature.as_deref();
        let fingerprint = self.certificate_fingerprint.as_deref();
        if !["sha256", "sha384", "sha512"].contains(&self.digest_algorithm.as_str()) {
            return Err(InvalidRequest::Field("digestAlgorithm"));
        }
        Ok(SignRequest {
            kind: match self.kind.as_str() {
                "sysext" => ExtensionKind::Sysext,
                "confext" => ExtensionKind::Confext,
                _ => return Err(InvalidRequest::Field("kind")),
            },
            name: parse("name", &self.name)?,
            architecture: parse("architecture", &self.architecture)?,
            root_hash: parse("rootHash", &self.root_hash)?,
            digest_algorithm: self.digest_algorithm,
            file_name: self.image.file_name,
            image_size: self.image.size,
            image_digest: parse("image.digest", &self.image.digest)?,
            data_uuid: parse("partitions.data", &self.partitions.data)?,
            hash_uuid: parse("partitions.hash", &self.partitions.hash)?,
            signature_uuid: signature_uuid
                .map(|text| parse("partitions.signature", text))
                .transpose()?,
            certificate_fingerprint: fingerprint
                .map(|text| {
                    let bytes = unhex32(text);
                    bytes
                        .map(Digest::from_bytes)
                        .ok_or(InvalidRequest::Field("certificateFingerprint"))
                })
                .transpose()?,
            release: self.release,
        })
    }
}

/// SHA-256 of the whole image.
fn digest(ddi: &Ddi, on_bytes: OnBytes<'_>) -> Result<Digest, DdiError> {
    let read = DdiError::reading(&ddi.path);
    let whole = FileWindow::whole(ddi.file.try_clone().map_err(&read)?).map_err(&read)?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while offset < whole.size() {
        let rest = whole.size() - offset;
        let length = usize::try_from(rest).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        let piece = &mut piece[..length];
        whole.read_exact_at(piece, offset).map_err(&read)?;
        hasher.update(piece);
        offset += length as u64;
        on_bytes(length as u64);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> SignRequest {
        let root_hash = RootHash([0xab; 32]);
        let (data_uuid, hash_uuid) = root_hash.partition_uuids();
        SignRequest {
            kind: ExtensionKind::Confext,
            name: "hello".parse().unwrap(),
            architecture: Architecture::Arm64,
            root_hash,
            digest_algorithm: "sha256".to_owned(),
            file_name: "hello.confext.raw".to_owned(),
            image_size: 4711,
            image_digest: Digest::of(b"image"),
            data_uuid,
            hash_uuid,
            signature_uuid: Some(Uuid::from_u128(7)),
            certificate_fingerprint: Some(Digest::of(b"certificate")),
            release: BTreeMap::from([("ID".to_owned(), "_any".to_owned())]),
        }
    }

    #[test]
    fn a_request_reads_back_what_it_wrote() {
        let mut request = example();
        assert_eq!(
            SignRequest::parse(request.render().as_bytes()),
            Ok(request.clone())
        );
        request.signature_uuid = None;
        request.certificate_fingerprint = None;
        let json = request.render();
        assert!(!json.contains("null"), "{json}");
        assert_eq!(SignRequest::parse(json.as_bytes()), Ok(request));
    }

    #[test]
    fn versions_and_architectures_have_requests_of_their_own() {
        let name = "k3s".parse().unwrap();
        for (image, request) in [
            ("k3s.sysext.raw", "k3s"),
            ("k3s_1.2_arm64.sysext.raw", "k3s_1.2_arm64"),
            ("k3s_1.2.confext.raw", "k3s_1.2"),
            ("renamed.raw", "k3s"),
            ("k3s-agent.sysext.raw", "k3s"),
        ] {
            let expected = Path::new("/b").join(format!("{request}.sign-request.json"));
            let found = SignRequest::path_beside(&Path::new("/b").join(image), &name);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_named() {
        let json = example().render();
        let changed = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            SignRequest::parse(json.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        let later = changed("\"schemaVersion\": 1", "\"schemaVersion\": 2");
        assert_eq!(later, InvalidRequest::Version(2));
        for (from, to, field) in [
            ("\"confext\"", "\"portable\"", "kind"),
            ("\"hello\"", "\"../hello\"", "name"),
            ("\"arm64\"", "\"z80\"", "architecture"),
            ("\"ababab", "\"xyabab", "rootHash"),
            ("\"sha256\"", "\"md5\"", "digestAlgorithm"),
            ("\"sha256:", "\"sha1:", "image.digest"),
            ("\"abababab-", "\"abababab+", "partitions.data"),
            ("\"00000000-", "\"0000000-", "partitions.signature"),
            (
                "\"certificateFingerprint\": \"",
                "\"certificateFingerprint\": \"0",
                "certificateFingerprint",
            ),
        ] {
            assert_eq!(changed(from, to), InvalidRequest::Field(field));
        }
        let missing = changed("\"rootHash\"", "\"roothash\"");
        assert!(missing.to_string().contains("rootHash"), "{missing}");
        let large = vec![b' '; MAX_BYTES + 1];
        assert_eq!(SignRequest::parse(&large), Err(InvalidRequest::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = SignRequest::parse(&bytes);
        }

        #[test]
        fn damaged_requests_are_read_without_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut json = example().render().into_bytes();
            for (index, byte) in changes {
                let index = index.index(json.len());
                json[index] = byte;
            }
            let _ = SignRequest::parse(&json);
        }

        #[test]
        fn every_request_reads_back(
            file_name in "\\PC{0,20}",
            image_size: u64,
            root: [u8; 32],
            release in prop::collection::btree_map("\\PC{1,8}", "\\PC{0,8}", 0..4),
        ) {
            let request = SignRequest {
                file_name,
                image_size,
                root_hash: RootHash(root),
                release,
                ..example()
            };
            prop_assert_eq!(SignRequest::parse(request.render().as_bytes()), Ok(request));
        }
    }
}
