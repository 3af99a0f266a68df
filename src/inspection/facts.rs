//! The facts of one image, under the names that `sysgraft inspect --json` promises.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::erofs::Inode;
use crate::image::PartitionType;

/// Keys of a release file in which sysgraft records where the content came from begin so.
const PROVENANCE_PREFIX: &str = "SYSGRAFT_";

/// Whether a key of a release file tells where the content came from.
pub fn is_provenance(key: &str) -> bool {
    key.starts_with(PROVENANCE_PREFIX)
}

/// Everything that an image says of itself. Text comes from the image as it is, paths excepted, which
/// are [`printable`](crate::printable::printable).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Where the image is.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Identity of the disk.
    pub disk_guid: String,
    /// Which copies of the partition table are intact.
    pub partition_tables: &'static str,
    /// All partitions, in the order of the table.
    pub partitions: Vec<PartitionFacts>,
    /// What the UUIDs of data and hash partition spell, if there is a hash tree.
    pub root_hash: Option<String>,
    /// The hash tree, if there is one.
    pub verity: Option<VerityFacts>,
    /// The signature, if there is one.
    pub signature: Option<SignatureFacts>,
    /// Whether the signature partition is empty, so that systemd refuses the image.
    pub awaits_signature: bool,
    /// `sysext` or `confext`.
    pub kind: Option<&'static str>,
    /// What stands behind `extension-release.`.
    pub name: Option<String>,
    /// Fields of the release file.
    pub release: BTreeMap<String, String>,
    /// Why the fields of the release file are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_problem: Option<String>,
    /// The file system.
    pub file_system: FileSystemFacts,
    /// All that it holds, in the order of a walk: a directory before its content.
    pub files: Vec<FileFacts>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionFacts {
    /// Its name.
    pub label: String,
    /// The name of its type, else the type's UUID.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its type, if it is one of an extension's.
    #[serde(skip)]
    pub partition_type: Option<PartitionType>,
    /// Its identity.
    pub uuid: String,
    /// Whether its read-only bit is set.
    pub read_only: bool,
    /// Bytes from the image's start.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// The hash tree.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerityFacts {
    /// Its identity.
    pub uuid: String,
    /// In hexadecimal digits.
    pub salt: String,
    /// How many blocks it protects.
    pub data_blocks: u64,
}

/// The signature.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureFacts {
    /// The root hash that the signature partition names.
    pub root_hash: String,
    /// SHA-256 that the signature partition names.
    pub certificate_fingerprint: Option<String>,
    /// Whether it is over the image's root hash, by the certificate that it brings along.
    pub valid: bool,
    /// Subject of that certificate.
    pub signer: Option<String>,
    /// When that certificate ends.
    pub not_after: Option<String>,
    /// Why it is not valid.
    pub problem: Option<String>,
    /// Why systemd or the kernel refuses it although it is valid.
    pub objections: Vec<String>,
}

/// The file system.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSystemFacts {
    /// `erofs`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its identity.
    pub uuid: String,
    /// Blocks of 4 KiB.
    pub blocks: u64,
    /// Files, directories and all else.
    pub inodes: u64,
    /// Bytes of content for each byte of the file system; hard links count once.
    pub ratio: f64,
    /// Algorithms; none if content is stored as it is.
    pub compression: Vec<String>,
    /// The oldest kernel that mounts it.
    pub minimum_kernel: String,
}

/// A file, directory, link or device.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFacts {
    /// Absolute and printable.
    pub path: String,
    /// Its path as it is, without a leading slash.
    #[serde(skip)]
    pub raw_path: Vec<u8>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Octal.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Where a symbolic link points to, printable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Bytes of content that it adds to the image: none if it is no regular file, or a further name
    /// of one.
    #[serde(skip)]
    pub content_bytes: u64,
    /// All that is known of it.
    #[serde(skip)]
    pub inode: Inode,
}

impl Facts {
    /// Bytes of content of all files; hard links count once.
    pub fn content_bytes(&self) -> u64 {
        let bytes = self.files.iter().map(|file| file.content_bytes);
        bytes.fold(0, u64::saturating_add)
    }
}
