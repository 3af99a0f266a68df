//! Reading an image back: what it says of itself.

mod check;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::gpt::{self, Copies, GptError, READ_ONLY};
use super::partition_type::{PartitionType, Role};
use crate::printable::printable;
use crate::read_at::{FileWindow, ReadAt};
use crate::signature::{InvalidSignaturePartition, SignaturePartition};
use crate::verity::{BLOCK_SIZE, InvalidSuperblock, RootHash, Superblock};

/// A larger signature partition is not read: systemd would refuse it too.
const MAX_SIGNATURE_BYTES: u64 = 4 << 20;

/// An opened image, taken apart. Nothing in it is proved: see [`crate::verity::verify`] and
/// [`crate::signature::signer_of`].
#[derive(Debug)]
pub struct Ddi {
    /// What errors call it.
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Bytes of the whole file.
    pub size: u64,
    /// Identity of the disk.
    pub disk_guid: Uuid,
    /// Which copies of the partition table are intact.
    pub copies: Copies,
    /// Bytes of a sector.
    pub sector_size: u64,
    /// All partitions, in the order of the table.
    pub partitions: Vec<Partition>,
    /// Superblock of the hash partition, where there is one.
    pub verity: Option<Superblock>,
    /// Content of the signature partition, where there is one and it is not empty.
    pub signature: Option<SignaturePartition>,
}

/// A partition of an image.
#[derive(Clone, Debug)]
pub struct Partition {
    /// What its type UUID means, if it is one of an extension's.
    pub kind: Option<PartitionType>,
    /// Its type UUID.
    pub type_uuid: Uuid,
    /// Its identity.
    pub uuid: Uuid,
    /// Its name.
    pub label: String,
    /// Attribute bits.
    pub attributes: u64,
    /// Bytes from the image's start.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Partition {
    /// Whether its read-only bit is set.
    pub fn is_read_only(&self) -> bool {
        self.attributes & READ_ONLY != 0
    }
}

/// Why a file is not an extension image.
#[derive(Debug, thiserror::Error)]
pub enum DdiError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no partition table.
    #[error("{path} is no extension image")]
    Gpt {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: GptError,
    },
    /// There is no data partition.
    #[error("{0} is no extension image: it has no root or usr partition")]
    NoData(PathBuf),
    /// systemd picks one of several, or refuses them all.
    #[error("{path} has more than one {role} partition; an extension has one")]
    Several {
        /// Which file.
        path: PathBuf,
        /// `data`, `hash` or `signature`.
        role: Role,
    },
    /// A partition that protects another data partition than the one there is.
    #[error(
        "the partition {found} of {path} does not belong to its data partition {data}, so systemd refuses the image"
    )]
    Stray {
        /// Which file.
        path: PathBuf,
        /// What it is.
        found: PartitionType,
        /// What it should belong to.
        data: PartitionType,
    },
    /// A flag or a label that tells systemd to pass a partition over.
    #[error(
        "the partition {} of {path} is marked as not to be used, by its flag 63 or its label, so systemd refuses the image",
        printable(label.as_bytes())
    )]
    Hidden {
        /// Which file.
        path: PathBuf,
        /// The partition's label.
        label: String,
    },
    /// A signature without a hash tree.
    #[error("{0} has a signature partition but no hash partition, so systemd refuses the image")]
    SignatureAlone(PathBuf),
    /// systemd 257 trusts the signed one, later versions may take the other.
    #[error(
        "{path} contradicts itself: root hash {spelled} by its partition UUIDs, {signed} in its signature partition"
    )]
    RootHashes {
        /// Which file.
        path: PathBuf,
        /// What the UUIDs of data and hash partition spell.
        spelled: RootHash,
        /// What the signature partition says.
        signed: RootHash,
    },
    /// The hash partition is unusable.
    #[error("the hash partition of {path} is unusable")]
    Verity {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: InvalidSuperblock,
    },
    /// The signature partition is unusable.
    #[error("the signature partition of {path} is unusable")]
    Signature {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: InvalidSignaturePartition,
    },
}

impl DdiError {
    /// Wraps what the system says of reading `path`.
    pub(super) fn reading(path: &Path) -> impl Fn(io::Error) -> DdiError {
        move |source| DdiError::Read {
            path: path.to_path_buf(),
            source,
        }
    }
}

/// `SD_GPT_FLAG_NO_AUTO` (`src/systemd/sd-gpt.h` of systemd).
const NO_AUTO: u64 = 1 << 63;

impl Partition {
    /// Whether systemd passes the partition over although it knows its type: marked so, empty by its
    /// label (from 258 on), or on its way to another version (from 260 on).
    fn is_hidden(&self) -> bool {
        let label = &self.label;
        let labelled = label == "_empty" || label.starts_with("PRT#") || label.starts_with("PND#");
        self.kind.is_some() && (self.attributes & NO_AUTO != 0 || labelled)
    }
}

impl Ddi {
    /// Opens an image.
    ///
    /// # Errors
    /// See [`DdiError`]. An image without hash tree or signature is no error.
    pub fn open(path: &Path) -> Result<Ddi, DdiError> {
        let file = File::open(path).map_err(DdiError::reading(path))?;
        Ddi::read(file, path)
    }

    /// Reads an image in an open file, which errors call `path`.
    pub(super) fn read(file: File, path: &Path) -> Result<Ddi, DdiError> {
        let (ddi, faults) = Ddi::examine_file(file, path)?;
        match faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(ddi),
        }
    }

    /// Opens an image that may be damaged, and says everything that is wrong with it. What could not
    /// be read is as if it were not there.
    ///
    /// # Errors
    /// [`DdiError::Read`] and [`DdiError::Gpt`], with which there is nothing to be opened.
    pub fn examine(path: &Path) -> Result<(Ddi, Vec<DdiError>), DdiError> {
        let file = File::open(path).map_err(DdiError::reading(path))?;
        Ddi::examine_file(file, path)
    }

    fn examine_file(file: File, path: &Path) -> Result<(Ddi, Vec<DdiError>), DdiError> {
        let read = DdiError::reading(path);
        let whole = FileWindow::whole(file.try_clone().map_err(&read)?).map_err(&read)?;
        let found = gpt::read(&whole).map_err(|source| DdiError::Gpt {
            path: path.to_path_buf(),
            source,
        })?;
        let partitions = found
            .table
            .entries
            .into_iter()
            .map(|entry| Partition {
                kind: PartitionType::from_uuid(entry.type_uuid),
                type_uuid: entry.type_uuid,
                uuid: entry.uuid,
                label: entry.label,
                attributes: entry.attributes,
                offset: entry.extent.offset,
                size: entry.extent.size,
            })
            .collect();
        let mut ddi = Ddi {
            path: path.to_path_buf(),
            file,
            size: whole.size(),
            disk_guid: found.table.disk_guid,
            copies: found.copies,
            sector_size: found.sector_size,
            partitions,
            verity: None,
            signature: None,
        };
        let faults = ddi.fill();
        Ok((ddi, faults))
    }

    /// The partition with this role; there is one at most.
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.kind.is_some_and(|kind| kind.role == role))
    }

    /// The content of the partition with this role.
    ///
    /// # Errors
    /// [`DdiError::Read`].
    pub fn open_partition(&self, role: Role) -> Result<Option<FileWindow>, DdiError> {
        let Some(partition) = self.partition(role) else {
            return Ok(None);
        };
        let Partition { offset, size, .. } = *partition;
        let file = self.file.try_clone();
        let file = file.map_err(DdiError::reading(&self.path))?;
        Ok(Some(FileWindow::new(file, offset, size)))
    }

    /// The root hash that the UUIDs of data and hash partition spell, where there is a hash tree.
    /// That of the signature partition is the same one.
    pub fn root_hash(&self) -> Option<RootHash> {
        let data = self.partition(Role::Data)?;
        let hash = self.partition(Role::Hash)?;
        Some(RootHash::from_partition_uuids(data.uuid, hash.uuid))
    }

    /// Whether the signature partition is empty: systemd refuses the image until it is signed.
    pub fn awaits_signature(&self) -> bool {
        self.signature.is_none() && self.partition(Role::Signature).is_some()
    }

    fn read_verity(&self) -> Result<Option<Superblock>, DdiError> {
        let Some(partition) = self.open_partition(Role::Hash)? else {
            return Ok(None);
        };
        let mut block = [0; BLOCK_SIZE];
        let length =
            usize::try_from(partition.size()).map_or(BLOCK_SIZE, |size| size.min(BLOCK_SIZE));
        let block = &mut block[..length];
        let read = partition.read_exact_at(block, 0);
        read.map_err(DdiError::reading(&self.path))?;
        let parsed = Superblock::parse(block).map_err(|source| DdiError::Verity {
            path: self.path.clone(),
            source,
        })?;
        Ok(Some(parsed))
    }

    fn read_signature(&self) -> Result<Option<SignaturePartition>, DdiError> {
        let Some(partition) = self.open_partition(Role::Signature)? else {
            return Ok(None);
        };
        let unusable = |source| DdiError::Signature {
            path: self.path.clone(),
            source,
        };
        if partition.size() > MAX_SIGNATURE_BYTES {
            return Err(unusable(InvalidSignaturePartition::TooLarge));
        }
        #[allow(clippy::cast_possible_truncation)] // at most 4 MiB
        let mut bytes = vec![0; partition.size() as usize];
        let read = partition.read_exact_at(&mut bytes, 0);
        read.map_err(DdiError::reading(&self.path))?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        Ok(Some(SignaturePartition::parse(&bytes).map_err(unusable)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::architecture::Architecture;
    use crate::image::gpt::{Entry, Table};
    use crate::image::layout::{DATA_OFFSET, Extent};
    use crate::image::partition_type::Designator;
    use crate::verity::{Geometry, Salt};

    const UNIT: u64 = 16 * 1024;
    const ROOT: RootHash = RootHash([0xab; 32]);

    fn root(role: Role) -> PartitionType {
        PartitionType::root(Architecture::X86_64, role)
    }

    /// An image of these partitions, each with a content that fits its role.
    fn image(kinds: &[PartitionType], signed: RootHash) -> tempfile::NamedTempFile {
        let image = tempfile::NamedTempFile::new().unwrap();
        let (data, hash) = ROOT.partition_uuids();
        let mut entries = Vec::new();
        for (number, kind) in (0..).zip(kinds) {
            let extent = Extent {
                offset: DATA_OFFSET + number * UNIT,
                size: UNIT,
            };
            let (uuid, content) = match kind.role {
                Role::Data => (data, Vec::new()),
                Role::Hash => (hash, superblock().encode().to_vec()),
                Role::Signature => (Uuid::max(), signature(signed).encode().unwrap()),
            };
            image
                .as_file()
                .write_all_at(&content, extent.offset)
                .unwrap();
            entries.push(Entry {
                type_uuid: kind.uuid(),
                uuid,
                extent,
                attributes: 0,
                label: kind.to_string(),
            });
        }
        let table = Table {
            disk_guid: Uuid::from_u128(5),
            entries,
        };
        table.write(image.as_file(), 2 << 20).unwrap();
        image
    }

    fn superblock() -> Superblock {
        Superblock {
            uuid: Uuid::nil(),
            salt: Salt::from([1; 32]),
            geometry: Geometry::new(4).unwrap(),
        }
    }

    fn signature(root_hash: RootHash) -> SignaturePartition {
        SignaturePartition {
            root_hash,
            certificate_fingerprint: None,
            pkcs7: vec![1],
        }
    }

    fn refusal(kinds: &[PartitionType]) -> DdiError {
        Ddi::open(image(kinds, ROOT).path()).unwrap_err()
    }

    #[test]
    fn an_image_says_what_it_is_made_of() {
        let kinds = [Role::Data, Role::Hash, Role::Signature].map(root);
        let ddi = Ddi::open(image(&kinds, ROOT).path()).unwrap();
        assert_eq!(ddi.root_hash(), Some(ROOT));
        assert_eq!(ddi.verity, Some(superblock()));
        assert_eq!(ddi.signature, Some(signature(ROOT)));
        assert_eq!((ddi.size, ddi.sector_size), (2 << 20, 512));
        let found: Vec<_> = ddi
            .partitions
            .iter()
            .map(|partition| partition.kind)
            .collect();
        assert_eq!(found, kinds.map(Some));
        let data = ddi.open_partition(Role::Data).unwrap().unwrap();
        assert_eq!(data.size(), UNIT);
    }

    #[test]
    fn an_image_without_signature_or_hash_tree_is_no_error() {
        let ddi = Ddi::open(image(&[root(Role::Data)], ROOT).path()).unwrap();
        assert_eq!(
            (ddi.root_hash(), &ddi.verity, &ddi.signature),
            (None, &None, &None)
        );
        let kinds = [Role::Data, Role::Hash].map(root);
        let ddi = Ddi::open(image(&kinds, ROOT).path()).unwrap();
        assert_eq!(ddi.root_hash(), Some(ROOT));
    }

    #[test]
    fn partitions_that_do_not_belong_together_are_refused() {
        let usr = |role| PartitionType {
            designator: Designator::Usr,
            ..root(role)
        };
        let arm = |role| PartitionType::root(Architecture::Arm64, role);
        let (data, hash) = (root(Role::Data), root(Role::Hash));
        assert!(matches!(refusal(&[]), DdiError::NoData(_)));
        assert!(matches!(refusal(&[hash]), DdiError::NoData(_)));
        for second in [data, usr(Role::Data), arm(Role::Data)] {
            let error = refusal(&[data, second]);
            assert!(
                matches!(
                    error,
                    DdiError::Several {
                        role: Role::Data,
                        ..
                    }
                ),
                "{error}"
            );
        }
        for kinds in [[data, hash, hash], [data, hash, usr(Role::Hash)]] {
            let error = refusal(&kinds);
            assert!(
                matches!(
                    error,
                    DdiError::Several {
                        role: Role::Hash,
                        ..
                    }
                ),
                "{error}"
            );
        }
        for kinds in [
            [data, usr(Role::Hash)],
            [usr(Role::Data), hash],
            [data, arm(Role::Signature)],
        ] {
            let error = refusal(&kinds);
            assert!(matches!(error, DdiError::Stray { .. }), "{error}");
        }
        let error = refusal(&[data, root(Role::Signature)]);
        assert!(matches!(error, DdiError::SignatureAlone(_)), "{error}");
    }

    #[test]
    fn an_image_that_names_two_root_hashes_is_refused() {
        let kinds = [Role::Data, Role::Hash, Role::Signature].map(root);
        let other = RootHash([0xcd; 32]);
        let error = Ddi::open(image(&kinds, other).path()).unwrap_err();
        let DdiError::RootHashes {
            spelled, signed, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((spelled, signed), (ROOT, other));
    }

    #[test]
    fn unusable_hash_and_signature_partitions_are_told_apart() {
        let kinds = [Role::Data, Role::Hash, Role::Signature].map(root);
        for (number, expected) in [(1, "hash"), (2, "signature")] {
            let image = image(&kinds, ROOT);
            let garbage = vec![b'x'; 16 * 1024];
            let offset = DATA_OFFSET + number * UNIT;
            image.as_file().write_all_at(&garbage, offset).unwrap();
            let said = Ddi::open(image.path()).unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("the {expected} partition")),
                "{said}"
            );
        }
    }
}
