//! How two images differ.

mod content;
mod fields;
mod folders;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::erofs::{FileType, ReadError};

use super::Inspected;
use super::facts::{FileFacts, PartitionFacts};
use content::Contents;

pub use fields::{FieldDifference, PartitionDifference};
pub use folders::FolderDifference;

/// Everything in which two images, a and b, differ. What is in here is not equal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// What the images say of themselves.
    pub image: Vec<FieldDifference>,
    /// Fields of the release files, in the order of their keys.
    pub release: Vec<FieldDifference>,
    /// Partitions, in the order of the tables.
    pub partitions: Vec<PartitionDifference>,
    /// What they hold.
    pub files: FileDifferences,
    /// Folders near the root whose content is not as large as it was.
    pub folders: Vec<FolderDifference>,
}

/// The files in which two images differ, each list in byte order of the paths.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileDifferences {
    /// Only in b.
    pub added: Vec<FileFacts>,
    /// Only in a.
    pub removed: Vec<FileFacts>,
    /// In both.
    pub changed: Vec<ChangedFile>,
}

/// What has one path in both images and is not the same.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFile {
    /// Absolute and printable.
    pub path: String,
    /// In what it differs; never empty.
    pub changes: Vec<Aspect>,
    /// As it was.
    pub a: FileFacts,
    /// As it is.
    pub b: FileFacts,
}

/// In what two files differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// A file became a directory, or the like. What the content of other types is, is not compared.
    Type,
    /// What a regular file holds.
    Content,
    /// Where a symbolic link points to.
    Target,
    /// Which device it is.
    Device,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes, capabilities among them.
    Attributes,
    /// Time of last modification.
    Time,
}

/// Why two images could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Something in one of them cannot be read.
    #[error("cannot compare {path}")]
    File {
        /// Of which file; printable.
        path: String,
        /// Why.
        source: ReadError,
    },
    /// Reading that much would hardly end.
    #[error("{path} says that it holds {bytes} bytes, more than the 16 TiB that a file can have")]
    TooLarge {
        /// Which file; printable.
        path: String,
        /// Bytes.
        bytes: u64,
    },
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        let FileDifferences {
            added,
            removed,
            changed,
        } = &self.files;
        self.image.is_empty()
            && self.release.is_empty()
            && self.partitions.is_empty()
            && added.is_empty()
            && removed.is_empty()
            && changed.is_empty()
    }
}

impl ChangedFile {
    /// Whether the time of last modification is all.
    pub fn is_only_time(&self) -> bool {
        self.changes == [Aspect::Time]
    }
}

impl Aspect {
    /// What changed between two files, sizes excepted: "mode 0644 → 0755", or one word.
    pub fn words(self, a: &FileFacts, b: &FileFacts) -> String {
        let target = |file: &FileFacts| file.target.clone().unwrap_or_default();
        match self {
            Aspect::Type => format!("{} → {}", a.kind, b.kind),
            Aspect::Content => "content".to_owned(),
            Aspect::Target => format!("target {} → {}", target(a), target(b)),
            Aspect::Device => "device".to_owned(),
            Aspect::Mode => format!("mode {} → {}", a.mode, b.mode),
            Aspect::Owner => format!("owner {}:{} → {}:{}", a.uid, a.gid, b.uid, b.gid),
            Aspect::Attributes => "attributes".to_owned(),
            Aspect::Time => "time".to_owned(),
        }
    }
}

/// Compares image `a` with image `b`, content by reading it in both. `progress` is told of the bytes
/// of content of `b` as they are dealt with, [`Facts::content_bytes`](super::Facts::content_bytes) at
/// most.
///
/// # Errors
/// [`CompareError`].
pub fn compare(
    a: &Inspected,
    b: &Inspected,
    mut progress: impl FnMut(u64),
) -> Result<Difference, CompareError> {
    let mut contents = Contents::new(&a.file_system, &b.file_system);
    let mut files = FileDifferences::default();
    for pair in pairs(&a.facts.files, &b.facts.files).into_values() {
        match pair {
            (Some(a), Some(b)) => {
                let changes = aspects(&mut contents, a, b)?;
                if !changes.is_empty() {
                    files.changed.push(ChangedFile {
                        path: b.path.clone(),
                        changes,
                        a: a.clone(),
                        b: b.clone(),
                    });
                }
                progress(b.content_bytes);
            }
            (Some(a), None) => files.removed.push(a.clone()),
            (None, Some(b)) => {
                files.added.push(b.clone());
                progress(b.content_bytes);
            }
            (None, None) => {}
        }
    }
    Ok(Difference {
        image: fields::of_images(&a.facts, &b.facts),
        release: fields::of_releases(&a.facts.release, &b.facts.release),
        partitions: fields::of_partitions(&a.facts.partitions, &b.facts.partitions),
        files,
        folders: folders::of_trees(&a.facts.files, &b.facts.files),
    })
}

type Pair<'a> = (Option<&'a FileFacts>, Option<&'a FileFacts>);

/// Both sides of each path.
fn pairs<'a>(a: &'a [FileFacts], b: &'a [FileFacts]) -> BTreeMap<&'a [u8], Pair<'a>> {
    let mut pairs: BTreeMap<&[u8], Pair<'a>> = BTreeMap::new();
    for file in a {
        pairs.entry(&file.raw_path).or_default().0 = Some(file);
    }
    for file in b {
        pairs.entry(&file.raw_path).or_default().1 = Some(file);
    }
    pairs
}

fn aspects(
    contents: &mut Contents<'_>,
    a: &FileFacts,
    b: &FileFacts,
) -> Result<Vec<Aspect>, CompareError> {
    let (was, is) = (&a.inode, &b.inode);
    let same_type = was.file_type == is.file_type;
    let is_file = same_type && is.file_type == FileType::File;
    let differing = [
        (Aspect::Type, !same_type),
        (Aspect::Content, is_file && contents.differ(a, b)?),
        (Aspect::Target, same_type && a.target != b.target),
        (Aspect::Device, same_type && was.device != is.device),
        (Aspect::Mode, was.mode != is.mode),
        (Aspect::Owner, (was.uid, was.gid) != (is.uid, is.gid)),
        (Aspect::Attributes, contents.attributes_differ(a, b)?),
        (Aspect::Time, was.mtime != is.mtime),
    ];
    let found = differing.into_iter().filter(|(_, differs)| *differs);
    Ok(found.map(|(aspect, _)| aspect).collect())
}
