//! Brings the bytes of an artefact into the staging folder of the store.
//!
//! ```text
//!   file ─────────┐
//!   http(s) ──────┤                                  ┌─ plain ──────────────┐
//!   oci: artefact ┼─► partial file ─► what is it? ───┤                      ├─► Fetched
//!   oci: image ───┘   (resumable)                    └─ xz, gzip, zstd ─────┘
//! ```
//!
//! What comes out is complete and has the digests that were demanded; whether it is an extension at
//! all, and whose, is for others to prove. What is refused leaves nothing behind; what broke off
//! stays for the next attempt, until [`sweep`] takes it. Secrets in addresses (credentials, query
//! strings) are in no message and no record.

pub mod catalog;
mod checksums;
mod compression;
mod download;
mod error;
mod file_name;
mod http;
mod image_file;
mod intake;
mod local;
mod location;
mod oci;
mod resume;
mod staging;
mod web;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use error::FetchError;
pub use location::{Location, WebAddress};
pub use staging::{Leftover, is_of_download, leftovers, sweep};

use crate::architecture::Architecture;
use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::image::sync_folder;
use intake::Received;

/// How to bring an artefact in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The staging folder, on the file system of the store; created if it is missing.
    pub staging: &'a Path,
    /// What is wanted.
    pub kind: ExtensionKind,
    /// Which of an index's images, and which of a catalog's entries.
    pub architecture: Architecture,
    /// The digest that the artefact must have: as downloaded or, of a compressed one, as unpacked.
    pub sha256: Option<Digest>,
    /// Whether a `SHA256SUMS` beside the artefact counts.
    pub checksums: Checksums,
    /// Authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<&'a Path>,
    /// Logins for registries, as `docker login` writes them. `None` means: the usual files.
    pub auth_file: Option<&'a Path>,
    /// Bytes that the artefact may have, downloaded and unpacked.
    pub max_size: u64,
    /// For how long to wait, and how often to try.
    pub patience: Patience,
}

/// More than any extension has.
const DEFAULT_MAX_SIZE: u64 = 64 << 30;

impl<'a> Request<'a> {
    /// A request with nothing unusual about it.
    pub fn new(staging: &'a Path, kind: ExtensionKind, architecture: Architecture) -> Request<'a> {
        Request {
            staging,
            kind,
            architecture,
            sha256: None,
            checksums: Checksums::default(),
            ca_file: None,
            auth_file: None,
            max_size: DEFAULT_MAX_SIZE,
            patience: Patience::default(),
        }
    }
}

/// Whether the list `SHA256SUMS` in the folder of an artefact counts. Where it counts, it must list
/// the artefact, and the digest must be the one of the file as downloaded or as unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// It counts where there is one beside an `http:` or `https:` URL, unless the request names a
    /// digest itself. (Folders of this host have lists that are about other things.)
    #[default]
    IfPresent,
    /// There must be one, beside files of this host too.
    Required,
    /// It does not count.
    Ignored,
}

/// For how long to wait for servers, and how often to try. There is no limit to the time that a
/// download takes as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the next byte comes.
    pub silence: Duration,
    /// How many attempts may fail one after another, without a new byte.
    pub retries: u32,
    /// Before the second attempt; it doubles with each one.
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            retries: 4,
            first_wait: Duration::from_millis(500),
        }
    }
}

/// Is told how a download goes on.
pub trait Progress {
    /// So many bytes are here, of so many where that is known. It may be fewer than before, when
    /// the content has to be fetched anew.
    fn received(&self, bytes: u64, total: Option<u64>);

    /// An attempt failed, and the next one begins after `wait`.
    fn interrupted(&self, error: &FetchError, wait: Duration);

    /// What should be known although the work goes on.
    fn warn(&self, message: &str);
}

/// Nobody wants to know.
impl Progress for () {
    fn received(&self, _: u64, _: Option<u64>) {}

    fn interrupted(&self, _: &FetchError, _: Duration) {}

    fn warn(&self, _: &str) {}
}

/// An artefact in the staging folder; it is removed with this value, unless it gets its place.
#[derive(Debug)]
pub struct Fetched {
    /// Under which name it should enter the store: one path component that ends in `.raw`.
    pub file_name: String,
    /// Where it comes from, for the record, without secrets.
    pub source: String,
    /// The version that its source gives it, where it does.
    pub version: Option<String>,
    received: Received,
}

impl Fetched {
    /// Where it lies, for those who prove it.
    pub fn path(&self) -> &Path {
        &self.received.path
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.received.size
    }

    /// Its digest.
    pub fn sha256(&self) -> Digest {
        self.received.sha256
    }

    /// The digest of what was downloaded; another one where that was compressed.
    pub fn download_sha256(&self) -> Digest {
        self.received.download_sha256
    }

    /// Stores it durably under the name `target` on the same file system, by renaming: a file that
    /// had the name before is replaced, not written to, so that who uses it keeps it.
    ///
    /// # Errors
    /// [`FetchError::Staging`]; the target is then as it was before, unless it was only the folder
    /// that could not be stored.
    pub fn place(self, target: &Path) -> Result<(), FetchError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        self.received
            .sync()
            .and_then(|()| self.received.place(target))
            .and_then(|()| sync_folder(folder))
            .map_err(|source: io::Error| FetchError::Staging {
                path: target.to_path_buf(),
                source,
            })
    }
}

/// The file name that an artefact would have in the store, as far as that is known before it is
/// fetched. A file of this host has to be there.
///
/// # Errors
/// [`FetchError`] for a file that cannot be read, and for a name that no artefact can have.
pub fn expected_name(
    location: &Location,
    kind: ExtensionKind,
) -> Result<Option<String>, FetchError> {
    match location {
        Location::File(path) => local::file_name(path, kind).map(Some),
        Location::Http(address) => {
            let name = address.file_name();
            file_name::stored_name(&name, kind, &address.to_string()).map(Some)
        }
        Location::Oci(_) => Ok(None),
    }
}

/// Brings the artefact at `location` into the staging folder.
///
/// It runs on the calling thread, and may take as long as bytes come.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    location: &Location,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    match location {
        Location::File(path) => local::fetch(path, request, progress),
        Location::Http(address) => web::fetch(address, request, progress),
        Location::Oci(name) => oci::fetch(name, request, progress),
    }
}

/// Compares what came with the digests that the user and the list beside it name.
fn check(
    received: &Received,
    url: &str,
    demanded: Option<Digest>,
    listed: Option<Digest>,
) -> Result<(), FetchError> {
    let demanded = demanded.map(|digest| (digest, "demanded"));
    let listed = listed.map(|digest| (digest, "listed in SHA256SUMS"));
    for (expected, origin) in demanded.into_iter().chain(listed) {
        if ![received.download_sha256, received.sha256].contains(&expected) {
            return Err(FetchError::WrongDigest {
                url: url.to_owned(),
                expected,
                actual: received.download_sha256,
                origin: origin.to_owned(),
            });
        }
    }
    Ok(())
}
