//! Which extension an image holds, by the release file in it.

use std::io::{self, Read};
use std::path::PathBuf;

use super::ddi::{Ddi, DdiError};
use super::partition_type::Role;
use crate::erofs::{FileSystem, ReadError};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::read_at::FileWindow;
use crate::release::{InvalidRelease, ReleaseFile};

/// What an extension says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// sysext or confext.
    pub kind: ExtensionKind,
    /// The end of the release file's name.
    pub name: ExtensionName,
    /// What the release file says.
    pub release: ReleaseFile,
}

/// Why it cannot be told which extension an image holds.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The image has no data partition, or it cannot be opened.
    #[error(transparent)]
    Ddi(#[from] DdiError),
    /// Not EROFS, or damaged.
    #[error("cannot read the file system in {path}")]
    FileSystem {
        /// Which image.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// There is no release file, or more than one, or one with an impossible name.
    #[error(
        "{0} does not say which extension it is: it must hold exactly one file extension-release.NAME"
    )]
    ReleaseFiles(PathBuf),
    /// The release file could not be read.
    #[error("cannot read the release file in {path}")]
    Read {
        /// Which image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The release file is none.
    #[error("the release file in {path} is unusable")]
    Release {
        /// Which image.
        path: PathBuf,
        /// Why.
        source: InvalidRelease,
    },
}

/// A larger release file is not read.
const MAX_RELEASE_BYTES: u64 = 1 << 20;
const PREFIX: &[u8] = b"extension-release.";

impl Identity {
    /// Looks for the one release file in an image.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn read(ddi: &Ddi) -> Result<Identity, IdentityError> {
        let path = || ddi.path.clone();
        let damaged = |source| IdentityError::FileSystem {
            path: path(),
            source,
        };
        let data = ddi
            .open_partition(Role::Data)?
            .ok_or_else(|| DdiError::NoData(path()))?;
        let file_system = FileSystem::open(data).map_err(damaged)?;
        let mut found = Vec::new();
        for kind in [ExtensionKind::Sysext, ExtensionKind::Confext] {
            let names = release_names(&file_system, kind).map_err(damaged)?;
            found.extend(names.into_iter().map(|name| (kind, name)));
        }
        let &[(kind, ref name)] = found.as_slice() else {
            return Err(IdentityError::ReleaseFiles(path()));
        };
        let name: ExtensionName = std::str::from_utf8(name)
            .ok()
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| IdentityError::ReleaseFiles(path()))?;
        let inode = file_system
            .lookup(kind.release_path(&name).as_bytes())
            .map_err(damaged)?
            .ok_or_else(|| IdentityError::ReleaseFiles(path()))?;
        let mut content = Vec::new();
        file_system
            .content(&inode)
            .map_err(damaged)?
            .take(MAX_RELEASE_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(|source| IdentityError::Read {
                path: path(),
                source,
            })?;
        let release = ReleaseFile::parse(&content).map_err(|source| IdentityError::Release {
            path: path(),
            source,
        })?;
        Ok(Identity {
            kind,
            name,
            release,
        })
    }
}

/// What follows `extension-release.` in the names of a kind's release files.
fn release_names(
    file_system: &FileSystem<FileWindow>,
    kind: ExtensionKind,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let Some(directory) = file_system.lookup(kind.release_directory().as_bytes())? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in file_system.read_dir(&directory)? {
        if let Some(name) = entry?.name.strip_prefix(PREFIX) {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
