//! Putting an image together around a data partition that is in its place already.

use std::io;
use std::os::unix::fs::FileExt;

use super::gpt::{Entry, READ_ONLY, Table};
use super::layout::{DATA_OFFSET, Extent, Layout};
use super::partition_type::{PartitionType, Role};
use crate::architecture::Architecture;
use crate::seed::Seed;
use crate::signature::{SignatureError, SignaturePartition, Signer, Signing, sign_root_hash};
use crate::verity::{BLOCK_SIZE, HashedData, RootHash, Superblock};

/// An image that is complete but for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// What was signed.
    pub root_hash: RootHash,
    /// Bytes.
    pub size: u64,
}

/// Why an image could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// There is nothing in the data partition.
    #[error("the file system is empty")]
    Empty,
    /// The data lies where no data partition begins.
    #[error("the file system was written at byte {offset} of the image, not at {DATA_OFFSET}")]
    Misplaced {
        /// Where it lies.
        offset: u64,
    },
    /// The root hash could not be signed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The image could not be written.
    #[error("cannot write the image")]
    Write(#[from] io::Error),
}

/// Writes hash partition, signature partition (unless `signing` says never) and both partition
/// tables around a data partition that lies at [`DATA_OFFSET`].
///
/// # Errors
/// See [`AssembleError`].
pub fn assemble(
    data: HashedData,
    seed: Seed,
    architecture: Architecture,
    signing: Signing<'_>,
) -> Result<Assembled, AssembleError> {
    if data.offset != DATA_OFFSET {
        return Err(AssembleError::Misplaced {
            offset: data.offset,
        });
    }
    let salt = data.salt.clone();
    let (file, tree) = data.into_tree().ok_or(AssembleError::Empty)?;
    let layout = Layout::new(tree.geometry(), !matches!(signing, Signing::Never));
    let superblock = Superblock {
        uuid: seed.verity_uuid(),
        salt,
        geometry: tree.geometry().clone(),
    };
    file.write_all_at(&superblock.encode(), layout.hash.offset)?;
    let mut position = layout.hash.offset + BLOCK_SIZE as u64;
    for level in tree.levels_on_disk() {
        file.write_all_at(level, position)?;
        position += level.len() as u64;
    }
    let root_hash = tree.root_hash();
    if let (Signing::Now(signer), Some(extent)) = (signing, layout.signature) {
        let partition = signed_partition(signer, root_hash)?;
        file.write_all_at(&partition.encode()?, extent.offset)?;
    }
    partition_table(seed, architecture, &layout, root_hash).write(&file, layout.size)?;
    Ok(Assembled {
        root_hash,
        size: layout.size,
    })
}

/// The content of the signature partition.
pub(super) fn signed_partition(
    signer: &dyn Signer,
    root_hash: RootHash,
) -> Result<SignaturePartition, SignatureError> {
    Ok(SignaturePartition {
        root_hash,
        certificate_fingerprint: Some(signer.certificate().fingerprint()),
        pkcs7: sign_root_hash(signer, &root_hash)?,
    })
}

/// The table of an image of which everything else is known.
pub(super) fn partition_table(
    seed: Seed,
    architecture: Architecture,
    layout: &Layout,
    root_hash: RootHash,
) -> Table {
    let (data_uuid, hash_uuid) = root_hash.partition_uuids();
    let entry = |role, uuid, extent: Extent, attributes| {
        let kind = PartitionType::root(architecture, role);
        Entry {
            type_uuid: kind.uuid(),
            uuid,
            extent,
            attributes,
            label: kind.to_string(),
        }
    };
    let mut entries = vec![
        entry(Role::Data, data_uuid, layout.data, READ_ONLY),
        entry(Role::Hash, hash_uuid, layout.hash, READ_ONLY),
    ];
    if let Some(extent) = layout.signature {
        let kind = PartitionType::root(architecture, Role::Signature);
        // systemd-repart sets the read-only bit here only since 258; both are accepted.
        entries.push(entry(
            Role::Signature,
            seed.partition_uuid(kind.uuid()),
            extent,
            0,
        ));
    }
    Table {
        disk_guid: seed.disk_guid(),
        entries,
    }
}
