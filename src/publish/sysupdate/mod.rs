//! Feeds of systemd-sysupdate: a folder of images with versions in their names and a list of their
//! digests, which any web server serves.

mod checksums;
mod openpgp;
mod retention;
mod transfer;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

pub use checksums::{Checksums, InvalidChecksums};
pub use openpgp::{OpenPgpError, OpenPgpKey};
pub use transfer::Transfer;

use super::base_url::BaseUrl;
use super::edition::{Edition, digest_of, digest_of_file};
use super::folder_lock::lock_folder;
use crate::image::{OnBytes, Output, OutputError, copy_content};
use crate::sha256sums::FILE_NAME as CHECKSUMS;

/// The list's detached signature.
const SIGNATURE: &str = "SHA256SUMS.gpg";
/// A longer list is none.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// A feed, and what is to become of it.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Where it is served: with it, nodes get files that tell systemd to follow it.
    pub base_url: Option<&'a BaseUrl>,
    /// Who signs the list.
    pub key: Option<&'a OpenPgpKey>,
    /// How many versions of each extension stay, for each architecture; `None` for all.
    pub keep: Option<NonZero<usize>>,
    /// Whether nodes get an extension only after they have switched it on.
    pub optional: bool,
    /// Whether a version may get another content.
    pub replace: bool,
}

/// What became of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new in the feed.
    Added,
    /// It took the place of another content.
    Replaced,
    /// It was there.
    Unchanged,
}

/// What is, or would be, different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// File names of the images, in the order in which they were given.
    pub images: Vec<(String, Action)>,
    /// Images that are gone, because there are enough newer ones.
    pub removed: Vec<String>,
    /// Files for nodes.
    pub node_files: Vec<String>,
    /// Whether the list is signed, now or since before.
    pub signed: bool,
}

/// Why nothing, or not everything, was published.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The folder is missing or not accessible.
    #[error("cannot use {path} as a feed; it must be an existing folder")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read or removed.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list is larger than any sensible one.
    #[error("{path} has more than {MAX_LIST_BYTES} bytes, so it is no list of digests; remove it")]
    LongList {
        /// The list.
        path: PathBuf,
    },
    /// The list is none.
    #[error("{path} is no list of digests: {source}; mend or remove it")]
    Checksums {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidChecksums,
    },
    /// Nodes that have the version would never get the other content.
    #[error(
        "{path} is published already, with another content; publish under a new version (or say --replace)"
    )]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// The signature would not fit the list any more.
    #[error("{path} signs the list, which is about to change; say with --gpg-key who signs it")]
    Stale {
        /// The signature.
        path: PathBuf,
    },
    /// An image was changed by somebody else.
    #[error("{path} changed while it was published")]
    Changed {
        /// The image.
        path: PathBuf,
    },
    /// A file could not be put into its place.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The list could not be signed.
    #[error(transparent)]
    Signature(#[from] OpenPgpError),
}

impl FeedError {
    fn file(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> FeedError {
        move |source| FeedError::File {
            verb,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// What is about to happen to a feed, which is locked as long as this lives.
pub struct Plan<'a> {
    feed: Feed<'a>,
    editions: &'a [Edition],
    /// The list as it will be.
    checksums: Checksums,
    /// Whether the list differs from the one that is there.
    list_changes: bool,
    change: Change,
    _lock: File,
}

/// Whether the list of the feed in `folder` is signed.
pub fn is_signed(folder: &Path) -> bool {
    folder.join(SIGNATURE).exists()
}

impl<'a> Plan<'a> {
    /// Finds out what publishing `editions` means. Waits for others that publish there.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn make(feed: Feed<'a>, editions: &'a [Edition]) -> Result<Plan<'a>, FeedError> {
        let lock = lock_folder(feed.folder).map_err(|source| FeedError::Folder {
            path: feed.folder.to_path_buf(),
            source,
        })?;
        let before = read_list(feed.folder)?;
        let mut checksums = before.clone();
        let signature = feed.folder.join(SIGNATURE);
        let is_signed = is_signed(feed.folder);
        let mut change = Change {
            // Nodes that demand a signature never cease to.
            signed: feed.key.is_some() || is_signed,
            ..Change::default()
        };
        for edition in editions {
            let name = edition.file_name();
            let action = action(&feed, &before, edition, &name)?;
            checksums.set(&name, edition.digest);
            change.images.push((name, action));
        }
        if let Some(keep) = feed.keep {
            change.removed = retention::surplus(&checksums, editions, keep);
        }
        for name in &change.removed {
            checksums.remove(name);
        }
        for transfer in transfers(&feed, editions, change.signed) {
            change.node_files.push(transfer.file_name());
            if transfer.optional {
                change.node_files.push(transfer.feature_file_name());
            }
        }
        let list_changes = before != checksums;
        if list_changes && feed.key.is_none() && is_signed {
            return Err(FeedError::Stale { path: signature });
        }
        Ok(Plan {
            feed,
            editions,
            checksums,
            list_changes,
            change,
            _lock: lock,
        })
    }

    /// What will be different.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// Does it. At every moment the list names only images that are there. `on_bytes` is told what
    /// was copied.
    ///
    /// # Errors
    /// [`FeedError`]. Whatever was done until then does no harm, and need not be undone.
    pub fn carry_out(self, on_bytes: OnBytes<'_>) -> Result<Change, FeedError> {
        let folder = self.feed.folder;
        for (edition, (name, action)) in self.editions.iter().zip(&self.change.images) {
            if *action != Action::Unchanged {
                place_image(folder, edition, name, on_bytes)?;
            }
        }
        for transfer in transfers(&self.feed, self.editions, self.change.signed) {
            place_text(folder, &transfer.file_name(), transfer.render().as_bytes())?;
            if transfer.optional {
                let text = transfer.render_feature();
                place_text(folder, &transfer.feature_file_name(), text.as_bytes())?;
            }
        }
        let list = self.checksums.render();
        let signature = self.feed.key.map(|key| key.sign(list.as_bytes()));
        let signature = signature.transpose()?;
        if self.list_changes {
            place_text(folder, CHECKSUMS, list.as_bytes())?;
        }
        // Nothing can replace two files at once; a node that comes in between tries again.
        if let Some(signature) = signature {
            place_text(folder, SIGNATURE, &signature)?;
        }
        for name in &self.change.removed {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FeedError::file("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(self.change)
    }
}

fn read_list(folder: &Path) -> Result<Checksums, FeedError> {
    let path = folder.join(CHECKSUMS);
    let mut bytes = Vec::new();
    let limit = MAX_LIST_BYTES + 1;
    let read = File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 == limit => return Err(FeedError::LongList { path }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FeedError::file("read", &path)(error)),
    }
    Checksums::parse(&bytes).map_err(|source| FeedError::Checksums { path, source })
}

fn action(
    feed: &Feed<'_>,
    before: &Checksums,
    edition: &Edition,
    name: &str,
) -> Result<Action, FeedError> {
    let path = feed.folder.join(name);
    let stored = match digest_of(&path) {
        Ok((_, digest)) => Some(digest),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(FeedError::file("read", &path)(error)),
    };
    let is_other = |digest| digest != edition.digest;
    if stored == Some(edition.digest) {
        Ok(Action::Unchanged)
    } else if !stored.is_some_and(is_other) && !before.get(name).is_some_and(is_other) {
        Ok(Action::Added)
    } else if feed.replace {
        Ok(Action::Replaced)
    } else {
        Err(FeedError::Occupied { path })
    }
}

/// One for each extension.
fn transfers<'a>(feed: &Feed<'a>, editions: &'a [Edition], signed: bool) -> Vec<Transfer<'a>> {
    let Some(base_url) = feed.base_url else {
        return Vec::new();
    };
    let mut transfers: Vec<Transfer<'_>> = Vec::new();
    for edition in editions {
        let is_it =
            |known: &Transfer<'_>| (known.name, known.kind) == (&edition.name, edition.kind);
        if !transfers.iter().any(is_it) {
            transfers.push(Transfer {
                name: &edition.name,
                kind: edition.kind,
                base_url,
                signed,
                optional: feed.optional,
            });
        }
    }
    transfers
}

fn place_image(
    folder: &Path,
    edition: &Edition,
    name: &str,
    on_bytes: OnBytes<'_>,
) -> Result<(), FeedError> {
    let original = File::open(&edition.path).map_err(FeedError::file("read", &edition.path))?;
    let output = Output::create(folder, name)?;
    copy_content(&original, output.file(), edition.size, on_bytes)
        .map_err(FeedError::file("write", output.target()))?;
    let copied = digest_of_file(output.file()).map_err(FeedError::file("read", output.target()))?;
    if copied != (edition.size, edition.digest) {
        return Err(FeedError::Changed {
            path: edition.path.clone(),
        });
    }
    output.commit()?;
    Ok(())
}

fn place_text(folder: &Path, name: &str, text: &[u8]) -> Result<(), FeedError> {
    let output = Output::create(folder, name)?;
    output
        .file()
        .write_all(text)
        .map_err(FeedError::file("write", output.target()))?;
    output.commit()?;
    Ok(())
}
