//! Artefacts in registries, in the two shapes that are in use: an artefact whose blob is the image
//! file, and a container image whose file system holds the image file.

use std::io::{self, Read};
use std::sync::mpsc;
use std::thread;

use super::download::{Answer, Body, Origin, Tries, Wanted, download};
use super::file_name::stored_name;
use super::intake::{Intake, Received};
use super::resume::{Identity, Validator};
use super::staging::Slot;
use super::{FetchError, Fetched, Patience, Progress, Request, check, image_file};
use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::source::{
    self, Blob, ImageName, OnWarning, Platform, RegistryOptions, SourceError, Stored, find_stored,
};

/// `artifactType` of an artefact whose blob is a system extension, as Kairos has it.
const SYSEXT_TYPE: &str = "application/vnd.kairos.sysext.raw";

/// Likewise a configuration extension.
const CONFEXT_TYPE: &str = "application/vnd.kairos.confext.raw";

/// Annotation with the version of what is packed. Source: OCI image specification,
/// `annotations.md`.
const VERSION: &str = "org.opencontainers.image.version";

const BUFFER_BYTES: usize = 128 << 10;

/// Brings in the artefact that `name` stands for.
pub(super) fn fetch(
    name: &ImageName,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let (warn, warnings) = mpsc::channel();
    let on_warning = OnWarning::new(move |warning| {
        // The receiver is read below.
        let _ = warn.send(warning.to_owned());
    });
    let fetched = fetch_from(name, request, on_warning, progress);
    for warning in warnings.try_iter() {
        progress.warn(&warning);
    }
    fetched
}

fn fetch_from(
    name: &ImageName,
    request: &Request<'_>,
    on_warning: OnWarning,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let location = format!("oci:{}", name.canonical());
    let options = RegistryOptions {
        auth_file: request.auth_file.map(Into::into),
        ca_file: request.ca_file.map(Into::into),
        patience: source::Patience {
            silence: request.patience.silence,
            ..source::Patience::default()
        },
        on_warning,
        ..RegistryOptions::default()
    };
    let stored = find_stored(name, &Platform::of(request.architecture), &options)
        .map_err(|error| registry_error(error, &location))?;
    let (received, raw_name) = if stored.is_image {
        image_file::extract(&stored, &location, request, progress)?
    } else {
        let blob = carrier(&stored, &location, request.kind)?;
        let raw_name = blob.title.clone().unwrap_or_else(|| file_name_of(name));
        stored_name(raw_name.as_bytes(), request.kind, &location)?;
        (
            download_blob(blob, &location, request, progress)?,
            raw_name.into_bytes(),
        )
    };
    check(&received, &location, request.sha256, None)?;
    let version = stored.annotations.get(VERSION).cloned();
    Ok(Fetched {
        file_name: stored_name(&raw_name, request.kind, &location)?,
        source: match name.digest() {
            Some(_) => location,
            None => format!("{location}@{}", stored.digest),
        },
        version: version.or_else(|| version_in_tag(name)),
        received,
    })
}

/// The one blob of an artefact that is an image file of the wanted kind.
fn carrier<'a>(
    stored: &'a Stored,
    location: &str,
    wanted: ExtensionKind,
) -> Result<&'a Blob, FetchError> {
    let actual = match stored.artifact_type.as_deref() {
        Some(SYSEXT_TYPE) => Some(ExtensionKind::Sysext),
        Some(CONFEXT_TYPE) => Some(ExtensionKind::Confext),
        _ => None,
    };
    if let Some(actual) = actual
        && actual != wanted
    {
        return Err(FetchError::WrongKind {
            image: location.to_owned(),
            actual,
            wanted,
        });
    }
    if let [only] = stored.blobs.as_slice() {
        return Ok(only);
    }
    let named: Vec<&Blob> = stored
        .blobs
        .iter()
        .filter(|blob| is_named_raw(blob))
        .collect();
    match named.as_slice() {
        [only] => Ok(only),
        _ => Err(FetchError::Shape {
            image: location.to_owned(),
            problem: format!(
                "is an artefact of {} blobs, of which {} have a title that ends in .raw; publish each extension as an artefact of its own",
                stored.blobs.len(),
                named.len()
            ),
        }),
    }
}

fn is_named_raw(blob: &Blob) -> bool {
    let title = blob.title.as_deref().unwrap_or_default();
    [".raw", ".raw.xz", ".raw.gz", ".raw.zst"]
        .iter()
        .any(|suffix| title.ends_with(suffix))
}

/// A name for an artefact without a title: `NAME_TAG`.
fn file_name_of(name: &ImageName) -> String {
    match name.tag() {
        Some(tag) if tag != "latest" => format!("{}_{tag}", name.last_component()),
        _ => name.last_component().to_owned(),
    }
}

/// The tag, if it looks like a version.
fn version_in_tag(name: &ImageName) -> Option<String> {
    let tag = name.tag()?;
    tag.strip_prefix('v')
        .unwrap_or(tag)
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| tag.to_owned())
}

fn download_blob(
    blob: &Blob,
    location: &str,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Received, FetchError> {
    let key = Digest::of(format!("blob {}", blob.digest).as_bytes());
    let slot = Slot::claim(request.staging, key)?;
    let intake = Intake::new(slot, location.to_owned(), request.max_size)?;
    let source = BlobSource { blob, location };
    let received = download(&source, intake, &request.patience, progress)?;
    if received.download_sha256 != blob.digest {
        return Err(FetchError::WrongDigest {
            url: location.to_owned(),
            expected: blob.digest,
            actual: received.download_sha256,
            origin: "its manifest".to_owned(),
        });
    }
    Ok(received)
}

/// What an error of the registry means for `location`.
pub(super) fn registry_error(error: SourceError, location: &str) -> FetchError {
    match error {
        SourceError::UntrustedRegistry { cause, .. } => FetchError::Untrusted {
            url: location.to_owned(),
            cause,
        },
        error => FetchError::Registry(error),
    }
}

struct BlobSource<'a> {
    blob: &'a Blob,
    location: &'a str,
}

impl Origin for BlobSource<'_> {
    type Body = BlobBody;

    fn open(&self, wanted: Option<&Wanted>) -> Result<Answer<BlobBody>, FetchError> {
        let identity = Identity {
            validator: Validator(self.blob.digest.to_string()),
            length: Some(self.blob.size),
        };
        let start = wanted
            .filter(|wanted| wanted.identity == identity)
            .map_or(0, |wanted| wanted.offset);
        let content = self.blob.read_from(start);
        Ok(Answer {
            start,
            remaining: Some(self.blob.size.saturating_sub(start)),
            identity: Some(identity),
            body: BlobBody {
                content: content.map_err(|error| registry_error(error, self.location))?,
                buffer: vec![0; BUFFER_BYTES],
            },
        })
    }
}

struct BlobBody {
    content: Box<dyn Read + Send>,
    buffer: Vec<u8>,
}

impl Body for BlobBody {
    fn next(&mut self) -> Result<Option<impl AsRef<[u8]>>, FetchError> {
        let count = self.content.read(&mut self.buffer).map_err(read_error)?;
        Ok((count > 0).then(|| self.buffer.get(..count).unwrap_or_default()))
    }
}

fn read_error(error: io::Error) -> FetchError {
    SourceError::from_read(error, |source| SourceError::NetworkThread { source }).into()
}

/// Reads a blob, and asks for the rest of it when the connection breaks.
pub(super) struct PatientReader {
    blob: Blob,
    patience: Patience,
    content: Option<Box<dyn Read + Send>>,
    received: u64,
}

impl PatientReader {
    pub fn new(blob: Blob, patience: Patience) -> PatientReader {
        PatientReader {
            blob,
            patience,
            content: None,
            received: 0,
        }
    }

    fn attempt(&mut self, buffer: &mut [u8]) -> Result<usize, FetchError> {
        let mut content = match self.content.take() {
            Some(content) => content,
            None => self.blob.read_from(self.received)?,
        };
        let count = content.read(buffer).map_err(read_error)?;
        self.received += count as u64;
        self.content = Some(content);
        Ok(count)
    }
}

impl Read for PatientReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = self.patience.clone();
        let mut tries = Tries::new(&patience);
        loop {
            match self.attempt(buffer) {
                Ok(count) => return Ok(count),
                Err(error) => match tries.wait_after(&error, 0) {
                    Some(wait) => thread::sleep(wait),
                    None => return Err(io::Error::other(error)),
                },
            }
        }
    }
}
