//! Gathering the facts of one image.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::erofs::{BLOCK_SIZE, FileSystem, FileType, ReadError};
use crate::extension::ExtensionKind;
use crate::image::{Copies, Ddi, Role};
use crate::printable::{printable, sentence};
use crate::read_at::FileWindow;
use crate::release::ReleaseFile;
use crate::signature::{SignatureShape, signer_of};
use crate::verification::{ReleaseFault, read_release};

use super::facts::{
    Facts, FileFacts, FileSystemFacts, PartitionFacts, SignatureFacts, VerityFacts,
};
use super::{InspectError, Inspected};

/// Looks into the image at `path`.
///
/// # Errors
/// [`InspectError`]. A release file that cannot be read and a signature that is not valid are facts.
pub fn inspect(path: &Path) -> Result<Inspected, InspectError> {
    let ddi = Ddi::open(path)?;
    let data = ddi
        .open_partition(Role::Data)?
        .ok_or_else(|| InspectError::NoData(path.to_path_buf()))?;
    let broken = |source| InspectError::FileSystem {
        path: path.to_path_buf(),
        source,
    };
    let file_system = FileSystem::open(data).map_err(broken)?;
    let files = list_files(&file_system).map_err(broken)?;
    let found = find_release(&file_system, &files);
    let (release, release_problem) = match found.as_ref().map(|found| &found.release) {
        Some(Ok(release)) => (fields(release), None),
        Some(Err(error)) => (BTreeMap::new(), Some(sentence(error))),
        None => (BTreeMap::new(), None),
    };
    let mut facts = Facts {
        path: path.display().to_string(),
        size: ddi.size,
        disk_guid: ddi.disk_guid.to_string(),
        partition_tables: match ddi.copies {
            Copies::Both => "both intact",
            Copies::PrimaryOnly => "only the primary one is intact",
            Copies::BackupOnly => "only the backup is intact",
        },
        partitions: partitions(&ddi),
        root_hash: ddi.root_hash().map(|root| root.to_string()),
        verity: ddi.verity.as_ref().map(|verity| VerityFacts {
            uuid: verity.uuid.to_string(),
            salt: verity.salt.to_string(),
            data_blocks: verity.geometry.data_blocks(),
        }),
        signature: signature(&ddi),
        awaits_signature: ddi.awaits_signature(),
        kind: found.as_ref().map(|found| found.kind.as_str()),
        name: found.map(|found| found.name),
        release,
        release_problem,
        file_system: file_system_facts(&file_system),
        files,
    };
    facts.file_system.ratio = ratio(facts.content_bytes(), facts.file_system.blocks);
    Ok(Inspected { facts, file_system })
}

/// The ratio is left to whoever knows how much content there is.
fn file_system_facts(file_system: &FileSystem<FileWindow>) -> FileSystemFacts {
    let superblock = file_system.superblock();
    let algorithms = superblock.algorithms.iter();
    FileSystemFacts {
        kind: "erofs",
        uuid: superblock.uuid.to_string(),
        blocks: superblock.blocks.into(),
        inodes: superblock.inodes,
        ratio: 0.0,
        compression: algorithms.map(ToString::to_string).collect(),
        minimum_kernel: superblock.minimum_kernel().to_string(),
    }
}

fn ratio(content_bytes: u64, blocks: u64) -> f64 {
    let stored = blocks * BLOCK_SIZE as u64;
    content_bytes as f64 / stored.max(1) as f64
}

fn fields(release: &ReleaseFile) -> BTreeMap<String, String> {
    let fields = release.fields();
    fields
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn partitions(ddi: &Ddi) -> Vec<PartitionFacts> {
    ddi.partitions
        .iter()
        .map(|partition| PartitionFacts {
            label: partition.label.clone(),
            kind: match partition.kind {
                Some(kind) => kind.to_string(),
                None => partition.type_uuid.to_string(),
            },
            partition_type: partition.kind,
            uuid: partition.uuid.to_string(),
            read_only: partition.is_read_only(),
            offset: partition.offset,
            size: partition.size,
        })
        .collect()
}

fn signature(ddi: &Ddi) -> Option<SignatureFacts> {
    let partition = ddi.signature.as_ref()?;
    // Opening refused images whose partition names another hash than their UUIDs.
    let root_hash = ddi.root_hash().unwrap_or(partition.root_hash);
    let verified = signer_of(&partition.pkcs7, &root_hash, &[]);
    let signer = verified.as_ref().ok().map(|by| &by.certificate);
    let problem = verified.as_ref().err().map(ToString::to_string);
    let shape = SignatureShape::read(&partition.pkcs7);
    Some(SignatureFacts {
        root_hash: partition.root_hash.to_string(),
        certificate_fingerprint: partition.certificate_fingerprint.map(|digest| digest.hex()),
        valid: problem.is_none(),
        signer: signer.map(|certificate| certificate.subject()),
        not_after: signer.map(|certificate| certificate.not_after()),
        problem,
        objections: shape
            .map(|shape| shape.objections.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
    })
}

fn list_files(file_system: &FileSystem<FileWindow>) -> Result<Vec<FileFacts>, ReadError> {
    let mut files = Vec::new();
    let mut linked = HashSet::new();
    file_system.walk(|path, inode| {
        if path.is_empty() {
            return Ok(());
        }
        let is_first_name = inode.nlink == 1 || linked.insert(inode.nid);
        let target = match inode.file_type {
            FileType::Symlink => Some(printable(&file_system.read_link(inode)?)),
            _ => None,
        };
        files.push(FileFacts {
            path: format!("/{}", printable(path)),
            raw_path: path.to_vec(),
            kind: inode.file_type.to_string(),
            mode: format!("{:04o}", inode.mode),
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            target,
            content_bytes: match inode.file_type {
                FileType::File if is_first_name => inode.size,
                _ => 0,
            },
            inode: inode.clone(),
        });
        Ok::<(), ReadError>(())
    })?;
    Ok(files)
}

struct FoundRelease {
    kind: ExtensionKind,
    name: String,
    /// Its content, if it is not stored in a way that only kernels read.
    release: Result<ReleaseFile, ReleaseFault>,
}

fn find_release(file_system: &FileSystem<FileWindow>, files: &[FileFacts]) -> Option<FoundRelease> {
    [ExtensionKind::Sysext, ExtensionKind::Confext]
        .into_iter()
        .find_map(|kind| {
            let prefix = format!("/{}/extension-release.", kind.release_directory());
            files.iter().find_map(|file| {
                Some(FoundRelease {
                    kind,
                    name: file.path.strip_prefix(&prefix)?.to_owned(),
                    release: read_release(file_system, &file.inode, file.path.clone()),
                })
            })
        })
}
