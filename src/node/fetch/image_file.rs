//! The image file in the file system of a container image.
//!
//! Nothing is unpacked: the layers are read from the top one down, and the content of the one file
//! that counts goes from the tar stream straight into the staging folder.

use std::collections::BTreeSet;

use super::intake::{Intake, Received};
use super::oci::PatientReader;
use super::staging::Slot;
use super::{FetchError, Progress, Request};
use crate::digest::Digest;
use crate::layer::{self, Entry, EntryKind, EntryPath, EntryStream, Expected, LayerError};
use crate::source::{Blob, LayerBytes, Stored};
use crate::tree::{Meaning, Whiteout, Whiteouts, meaning};

/// Bytes that the paths of all upper layers may have together: such an image holds little besides
/// the extension.
const MAX_PATH_BYTES: usize = 16 << 20;

/// Files that are noted; whoever has more has too many whatever still comes.
const MAX_FOUND: usize = 1000;

/// Files that an error names.
const MAX_NAMED: usize = 5;

const BUFFER_BYTES: usize = 128 << 10;

/// Brings in the only `*.raw` file of an image; the result has the name that it has there.
pub(super) fn extract(
    image: &Stored,
    location: &str,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<(Received, Vec<u8>), FetchError> {
    let key = Digest::of(format!("image {}", image.digest).as_bytes());
    let slot = Slot::claim(request.staging, key)?;
    let mut intake = Intake::new(slot, location.to_owned(), request.max_size)?;
    intake.restart(None)?;
    let mut search = Search {
        location,
        progress,
        intake,
        whiteouts: Whiteouts::default(),
        path_bytes: 0,
        found: BTreeSet::new(),
        taken: None,
    };
    let mut blobs = image.blobs.iter().rev().peekable();
    while let Some(blob) = blobs.next() {
        let mut entries = open(blob, request).map_err(|error| search.layer_error(error))?;
        search.layer(entries.as_mut(), blobs.peek().is_some())?;
        search.whiteouts.end_layer();
    }
    search.finish()
}

fn open(blob: &Blob, request: &Request<'_>) -> Result<Box<dyn EntryStream>, LayerError> {
    blob.check_layer_type()
        .map_err(|error| LayerError::Read(error.into()))?;
    let reader = PatientReader::new(blob.clone(), request.patience.clone());
    let expected = Expected {
        blob: Some(blob.digest),
        diff_id: blob.diff_id,
        size: Some(blob.size),
    };
    layer::open(LayerBytes::Archive(Box::new(reader)), expected)
}

/// The search through the layers of one image.
struct Search<'a> {
    location: &'a str,
    progress: &'a dyn Progress,
    intake: Intake,
    /// What upper layers delete or replace.
    whiteouts: Whiteouts,
    path_bytes: usize,
    /// The files that were found.
    found: BTreeSet<EntryPath>,
    /// The one whose content is in the intake.
    taken: Option<EntryPath>,
}

impl Search<'_> {
    /// Looks through one layer; `has_lower` says whether others come below it.
    fn layer(&mut self, entries: &mut dyn EntryStream, has_lower: bool) -> Result<(), FetchError> {
        let next = |entries: &mut dyn EntryStream| entries.next_entry();
        while let Some(entry) = next(entries).map_err(|error| self.layer_error(error))? {
            match meaning(&entry.path) {
                Meaning::Entry => {}
                Meaning::Hides(whiteout) => {
                    self.hide(whiteout)?;
                    continue;
                }
                Meaning::Metadata | Meaning::Invalid => continue,
            }
            if self.whiteouts.hide(&entry.path) {
                continue;
            }
            let is_raw = entry.path.as_bytes().ends_with(b".raw");
            if is_raw {
                self.candidate(&entry, entries)?;
            }
            if has_lower && (is_raw || entry.kind != EntryKind::Directory) {
                self.hide(Whiteout::Path(entry.path))?;
            }
        }
        entries.finish().map_err(|error| self.layer_error(error))
    }

    fn hide(&mut self, whiteout: Whiteout) -> Result<(), FetchError> {
        self.path_bytes += whiteout.path().as_bytes().len();
        if self.path_bytes > MAX_PATH_BYTES {
            return Err(self.shape(
                "has too many files for an image that carries an extension; name one that holds the .raw file only"
                    .to_owned(),
            ));
        }
        self.whiteouts.add(whiteout);
        Ok(())
    }

    fn candidate(
        &mut self,
        entry: &Entry,
        entries: &mut dyn EntryStream,
    ) -> Result<(), FetchError> {
        // The last entry of a path counts, whatever it is.
        self.found.remove(&entry.path);
        match &entry.kind {
            EntryKind::File { size } => {
                let is_taken = self.taken.as_ref() == Some(&entry.path);
                let is_only = self.found.is_empty();
                self.found.insert(entry.path.clone());
                if self.found.len() > MAX_FOUND {
                    return Err(self.several());
                }
                if is_only || is_taken {
                    self.taken = Some(entry.path.clone());
                    self.take(*size, entries)?;
                }
                Ok(())
            }
            EntryKind::Hardlink { .. } => Err(self.shape(format!(
                "has {} as a hard link; write the image with a copy of the file instead",
                entry.path
            ))),
            _ => Ok(()),
        }
    }

    fn take(&mut self, size: u64, entries: &mut dyn EntryStream) -> Result<(), FetchError> {
        self.intake.restart(None)?;
        self.intake.expect(size)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = entries
                .read_content(&mut buffer)
                .map_err(|error| self.layer_error(error))?;
            if count == 0 {
                return Ok(());
            }
            self.intake.write(buffer.get(..count).unwrap_or_default())?;
            self.progress.received(self.intake.received(), Some(size));
        }
    }

    fn finish(self) -> Result<(Received, Vec<u8>), FetchError> {
        let mut found = self.found.iter();
        match (found.next(), found.next()) {
            (Some(only), None) if self.taken.as_ref() == Some(only) => {
                let name = only.split_last().map(|(_, name)| name.to_vec());
                Ok((self.intake.finish()?, name.unwrap_or_default()))
            }
            (Some(only), None) => Err(self.shape(format!(
                "had another file *.raw before {only} in the same layer; write the image with that file alone"
            ))),
            (None, _) => Err(self.shape(
                "has no file *.raw; name an image or an artefact that carries an extension's image file"
                    .to_owned(),
            )),
            _ => Err(self.several()),
        }
    }

    fn several(&self) -> FetchError {
        let names = self.found.iter().take(MAX_NAMED).map(EntryPath::to_string);
        let names: Vec<String> = names.collect();
        let count = match self.found.len() {
            count if count > MAX_FOUND => format!("more than {MAX_FOUND}"),
            count => count.to_string(),
        };
        self.shape(format!(
            "has {count} files *.raw ({}); publish each extension by itself",
            names.join(", ")
        ))
    }

    fn shape(&self, problem: String) -> FetchError {
        FetchError::Shape {
            image: self.location.to_owned(),
            problem,
        }
    }

    fn layer_error(&self, error: LayerError) -> FetchError {
        let source = match error {
            LayerError::Read(error) => match error.downcast::<FetchError>() {
                Ok(error) => return error,
                Err(error) => LayerError::Read(error),
            },
            other => other,
        };
        FetchError::Layer {
            image: self.location.to_owned(),
            source,
        }
    }
}
