//! What an image holds, as an SPDX document: every file with its digests.
//!
//! Format: SPDX 2.3 in JSON (<https://spdx.github.io/spdx-spec/v2.3/>). It wants SHA-1 of every file, and
//! of those of all files together.

use std::collections::HashMap;
use std::io::{self, Read};

use serde_json::{Value, json};

use crate::digest::{Digest, Hasher, hex};
use crate::erofs::{FileSystem, FileType, Inode, Nid, ReadError};
use crate::image::{Ddi, DdiError, Role};
use crate::printable::printable;
use crate::publish::edition::Edition;
use crate::read_at::{FileWindow, ReadAt};

const BUFFER_BYTES: usize = 256 << 10;
const NOT_SAID: &str = "NOASSERTION";

/// Why an image's content cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SpdxError {
    /// The image cannot be opened.
    #[error(transparent)]
    Image(#[from] DdiError),
    /// Its file system cannot be read, for example because its compression is one that only kernels
    /// read.
    #[error("cannot list the files of {path}: {reason}")]
    Content {
        /// The image.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The SPDX document of `edition`, made at `created` (RFC 3339).
///
/// # Errors
/// [`SpdxError`].
pub fn spdx(edition: &Edition, created: &str) -> Result<Value, SpdxError> {
    let failed = |reason: String| SpdxError::Content {
        path: edition.path.display().to_string(),
        reason,
    };
    let ddi = Ddi::open(&edition.path)?;
    let data = ddi.open_partition(Role::Data)?;
    let data = data.ok_or_else(|| failed("it has no data partition".to_owned()))?;
    let files = files(data).map_err(|error| failed(error.to_string()))?;
    Ok(document(edition, created, &files))
}

struct ListedFile {
    path: String,
    sums: Sums,
}

#[derive(Clone, Copy)]
struct Sums {
    sha1: [u8; 20],
    sha256: Digest,
}

/// What keeps content from being read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    FileSystem(#[from] ReadError),
    #[error(transparent)]
    Content(#[from] io::Error),
}

/// All regular files.
fn files(data: FileWindow) -> Result<Vec<ListedFile>, Unreadable> {
    let file_system = FileSystem::open(data)?;
    let mut files = Vec::new();
    // Content that has several names is read once.
    let mut known: HashMap<Nid, Sums> = HashMap::new();
    file_system.walk(|path, inode| {
        if inode.file_type == FileType::File {
            let sums = match known.get(&inode.nid) {
                Some(sums) => *sums,
                None => sums_of(&file_system, inode)?,
            };
            if inode.nlink > 1 {
                known.insert(inode.nid, sums);
            }
            let path = format!("./{}", printable(path));
            files.push(ListedFile { path, sums });
        }
        Ok::<(), Unreadable>(())
    })?;
    Ok(files)
}

fn sums_of<R: ReadAt>(file_system: &FileSystem<R>, inode: &Inode) -> Result<Sums, Unreadable> {
    let mut content = file_system.content(inode)?;
    let (mut sha1, mut sha256) = (openssl::sha::Sha1::new(), Hasher::new());
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = content.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        sha1.update(bytes);
        sha256.update(bytes);
    }
    Ok(Sums {
        sha1: sha1.finish(),
        sha256: sha256.finish(),
    })
}

fn document(edition: &Edition, created: &str, files: &[ListedFile]) -> Value {
    const PACKAGE: &str = "SPDXRef-Package";
    let id = |index: usize| format!("SPDXRef-File-{index}");
    let relationship = |one: &str, kind: &str, other: &str| json!({"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other});
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", PACKAGE)];
    relationships
        .extend((0..files.len()).map(|index| relationship(PACKAGE, "CONTAINS", &id(index))));
    let listed = files.iter().enumerate().map(|(index, file)| {
        json!({
            "SPDXID": id(index),
            "fileName": file.path,
            "checksums": [
                {"algorithm": "SHA1", "checksumValue": hex(&file.sums.sha1)},
                {"algorithm": "SHA256", "checksumValue": file.sums.sha256.hex()},
            ],
            "licenseConcluded": NOT_SAID,
            "licenseInfoInFiles": [NOT_SAID],
            "copyrightText": NOT_SAID,
        })
    });
    let file_name = edition.file_name();
    json!({
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "dataLicense": "CC0-1.0",
        "name": file_name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{file_name}-{}", edition.digest.hex()),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: sysgraft-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": [{
            "SPDXID": PACKAGE,
            "name": edition.name.as_str(),
            "versionInfo": edition.version.as_str(),
            "packageFileName": file_name,
            "downloadLocation": NOT_SAID,
            "filesAnalyzed": !files.is_empty(),
            "packageVerificationCode": {"packageVerificationCodeValue": verification_code(files)},
            "checksums": [{"algorithm": "SHA256", "checksumValue": edition.digest.hex()}],
            "licenseConcluded": NOT_SAID,
            "licenseDeclared": NOT_SAID,
            "licenseInfoFromFiles": [NOT_SAID],
            "copyrightText": NOT_SAID,
        }],
        "files": listed.collect::<Vec<_>>(),
        "relationships": relationships,
    })
}

/// SHA-1 over the sorted SHA-1 digits of all files (SPDX 2.3, 7.9).
fn verification_code(files: &[ListedFile]) -> String {
    let mut digits: Vec<String> = files.iter().map(|file| hex(&file.sums.sha1)).collect();
    digits.sort();
    hex(&openssl::sha::sha1(digits.concat().as_bytes()))
}
