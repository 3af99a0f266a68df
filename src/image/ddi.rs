//! Reading an image back: what it says of itself.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::gpt::{Copies, GptError, READ_ONLY, Table};
use super::partition_type::{PartitionType, Role};
use crate::read_at::{FileWindow, ReadAt};
use crate::signature::{InvalidSignaturePartition, SignaturePartition};
use crate::verity::{BLOCK_SIZE, InvalidSuperblock, RootHash, Superblock};

/// A larger signature partition is not read: systemd would refuse it too.
const MAX_SIGNATURE_BYTES: u64 = 4 << 20;

/// An opened image, taken apart. Nothing in it is proved: see [`crate::verity::verify`] and
/// [`crate::signature::signer_of`].
#[derive(Debug)]
pub struct Ddi {
    path: PathBuf,
    file: File,
    /// Bytes of the whole file.
    pub size: u64,
    /// Identity of the disk.
    pub disk_guid: Uuid,
    /// Which copies of the partition table are intact.
    pub copies: Copies,
    /// All partitions, in the order of the table.
    pub partitions: Vec<Partition>,
    /// Superblock of the hash partition, where there is one.
    pub verity: Option<Superblock>,
    /// Content of the signature partition, where there is one.
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

impl Ddi {
    /// Opens an image.
    ///
    /// # Errors
    /// See [`DdiError`]. An image without hash tree or signature is no error.
    pub fn open(path: &Path) -> Result<Ddi, DdiError> {
        let read = |source| DdiError::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let whole = FileWindow::whole(file.try_clone().map_err(read)?).map_err(read)?;
        let (table, copies) = Table::read(&whole).map_err(|source| DdiError::Gpt {
            path: path.to_path_buf(),
            source,
        })?;
        let partitions = table
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
            disk_guid: table.disk_guid,
            copies,
            partitions,
            verity: None,
            signature: None,
        };
        if ddi.partition(Role::Data).is_none() {
            return Err(DdiError::NoData(path.to_path_buf()));
        }
        ddi.verity = ddi.read_verity()?;
        ddi.signature = ddi.read_signature()?;
        Ok(ddi)
    }

    /// The first partition with this role.
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
        let file = self
            .file
            .try_clone()
            .map_err(|error| self.read_error(error))?;
        Ok(Some(FileWindow::new(file, offset, size)))
    }

    /// The root hash that the UUIDs of data and hash partition spell, where there is a hash tree.
    pub fn root_hash(&self) -> Option<RootHash> {
        let data = self.partition(Role::Data)?;
        let hash = self.partition(Role::Hash)?;
        Some(RootHash::from_partition_uuids(data.uuid, hash.uuid))
    }

    fn read_verity(&self) -> Result<Option<Superblock>, DdiError> {
        let Some(partition) = self.open_partition(Role::Hash)? else {
            return Ok(None);
        };
        let mut block = [0; BLOCK_SIZE];
        partition
            .read_exact_at(&mut block, 0)
            .map_err(|error| self.read_error(error))?;
        let parsed = Superblock::parse(&block).map_err(|source| DdiError::Verity {
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
        partition
            .read_exact_at(&mut bytes, 0)
            .map_err(|error| self.read_error(error))?;
        Ok(Some(SignaturePartition::parse(&bytes).map_err(unusable)?))
    }

    fn read_error(&self, source: io::Error) -> DdiError {
        DdiError::Read {
            path: self.path.clone(),
            source,
        }
    }
}
