//! Under which name an artefact comes into the store, so that it replaces none that somebody needs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::artefact::ArtefactName;
use super::policy::Proved;
use super::store::{Artefact, FileIdentity, Moment, Record, Store, View};
use super::version::Version;
use crate::digest::{Digest, Hasher};

/// Hexadecimal digits that tell two artefacts of one name apart.
const SHORT_HASH: usize = 12;

/// Which name an artefact gets.
pub(super) enum Place {
    /// That of the same artefact, which is there.
    Same(Box<Artefact>),
    /// One that is free, or whose owner may go.
    New(ArtefactName),
}

/// Why an artefact gets no name.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// An artefact that is there cannot be compared with it.
    #[error("cannot read {path}: {source}")]
    Compare {
        /// The artefact.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are others under all names.
    #[error("its name and every other one are taken")]
    Taken,
}

/// The name that is wanted; one with version or hash where that belongs to another artefact, unless
/// `may_go` says that this one may be replaced.
pub(super) fn place(
    store: &Store,
    view: &View,
    proved: &Proved,
    wanted: &ArtefactName,
    may_go: &dyn Fn(&str) -> bool,
) -> Result<Place, PlaceError> {
    let stem = wanted.file().trim_end_matches(".raw");
    let infix = format!(".{}", store.kind());
    let (stem, infix) = match stem.strip_suffix(&infix) {
        Some(stem) => (stem, infix.as_str()),
        None => (stem, ""),
    };
    let hash = proved.root_hash.map(|hash| hash.to_string());
    let hash = hash.unwrap_or_else(|| proved.digest.hex());
    let version = proved.version.as_ref().map(Version::as_str);
    let version = version.filter(|_| wanted.version_of(&proved.name).is_none());
    let ends = [version, hash.get(..SHORT_HASH), Some(&hash)];
    let others = ends.into_iter().flatten().filter_map(|end| {
        // A version may have what no file name can.
        ArtefactName::parse(&format!("{stem}_{end}{infix}.raw"), store.kind()).ok()
    });
    for file in [wanted.clone()].into_iter().chain(others) {
        match view.artefact(file.file()) {
            Some(there) if is_same(store, there, proved)? => {
                return Ok(Place::Same(Box::new(there.clone())));
            }
            Some(_) if !may_go(file.file()) => {}
            _ => return Ok(Place::New(file)),
        }
    }
    Err(PlaceError::Taken)
}

/// Whether an artefact in the store is the one that was proved.
fn is_same(store: &Store, there: &Artefact, proved: &Proved) -> Result<bool, PlaceError> {
    if there.identity.size != proved.size {
        return Ok(false);
    }
    let path = store.path().join(there.file.file());
    let digest = digest_of(&path);
    let digest = digest.map_err(|source| PlaceError::Compare { path, source })?;
    Ok(digest == proved.digest)
}

/// What is noted of a file that was proved.
pub(super) fn record(proved: &Proved, file: FileIdentity, source: String) -> Record {
    Record {
        name: proved.name.clone(),
        version: proved.version.clone(),
        file,
        digest: proved.digest,
        root_hash: proved.root_hash,
        source,
        installed: Moment::now(),
        proof: proved.proof.clone(),
        restart_units: proved.restart_units.clone(),
        reload_or_restart_units: proved.reload_or_restart_units.clone(),
        declared_by: None,
        failed: None,
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(bytes) => hasher.update(buffer.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
