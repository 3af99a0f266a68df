//! Artefacts on this host: copied, never moved, never onto themselves.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::file_name::stored_name;
use super::intake::Intake;
use super::staging::Slot;
use super::{Checksums, FetchError, Fetched, Location, Progress, Request, check, checksums};
use crate::digest::Digest;
use crate::extension::ExtensionKind;

/// Brings in the file at `path`.
pub(super) fn fetch(
    path: &Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let location = Location::File(path.to_path_buf()).to_string();
    let raw_name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let file_name = stored_name(raw_name, request.kind, &location)?;
    let (mut file, size) = open(path)?;
    let listed = match request.checksums {
        Checksums::Required => Some(listed_digest(path, raw_name)?),
        Checksums::IfPresent | Checksums::Ignored => None,
    };
    let slot = Slot::claim(request.staging, Digest::of(location.as_bytes()))?;
    let mut intake = Intake::new(slot, location.clone(), request.max_size)?;
    intake.restart(None)?;
    // Where the file system can share blocks, the copy costs nothing.
    if rustix::fs::ioctl_ficlone(intake.partial(), &file).is_ok() {
        intake.replay()?;
        progress.received(intake.received(), Some(size));
    } else {
        intake.expect(size)?;
        copy(&mut file, path, size, &mut intake, progress)?;
    }
    let received = intake.finish()?;
    check(&received, &location, request.sha256, listed)?;
    Ok(Fetched {
        file_name,
        source: location,
        version: None,
        received,
    })
}

/// The name that the file at `path` would have in the store.
pub(super) fn file_name(path: &Path, kind: ExtensionKind) -> Result<String, FetchError> {
    open(path)?;
    let location = Location::File(path.to_path_buf()).to_string();
    let raw_name = path.file_name().unwrap_or_default().as_encoded_bytes();
    stored_name(raw_name, kind, &location)
}

/// Opens a regular file; of anything else nothing is read, and nobody waits for a pipe.
fn open(path: &Path) -> Result<(File, u64), FetchError> {
    let failed = |source| FetchError::File {
        path: path.to_path_buf(),
        source,
    };
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok((file, metadata.len()));
    }
    Err(FetchError::NotRegular {
        path: path.to_path_buf(),
        what: if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a pipe"
        } else {
            "a device"
        },
    })
}

fn copy(
    file: &mut File,
    path: &Path,
    size: u64,
    intake: &mut Intake,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.map_err(|source| FetchError::File {
                path: path.to_path_buf(),
                source,
            })?,
        };
        if count == 0 {
            return Ok(());
        }
        intake.write(buffer.get(..count).unwrap_or_default())?;
        progress.received(intake.received(), Some(size));
    }
}

fn listed_digest(path: &Path, name: &[u8]) -> Result<Digest, FetchError> {
    let sums = path.with_file_name(checksums::FILE_NAME);
    let url = Location::File(sums.clone()).to_string();
    let list = match document(&sums, checksums::LIMIT) {
        Err(FetchError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(FetchError::NoChecksums { url });
        }
        list => list?,
    };
    checksums::expected(&list, name, &url)
}

/// All of a small file.
pub(super) fn document(path: &Path, limit: u64) -> Result<Vec<u8>, FetchError> {
    let (file, _) = open(path)?;
    let mut document = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut document)
        .map_err(|source| FetchError::File {
            path: PathBuf::from(path),
            source,
        })?;
    if document.len() as u64 > limit {
        return Err(FetchError::TooLarge {
            url: Location::File(path.to_path_buf()).to_string(),
            limit,
        });
    }
    Ok(document)
}
