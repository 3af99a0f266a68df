//! What is published: one extension, in one version, for one architecture.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use crate::architecture::Architecture;
use crate::digest::{Digest, Hasher};
use crate::extension::{ExtensionKind, ExtensionName, InvalidName};
use crate::image::{Ddi, DdiError, Role};
use crate::image_file::{ExtensionVersion, ImageFileStem, InvalidStem, InvalidVersion};
use crate::printable::{printable, sentence};
use crate::release::ReleaseFile;
use crate::signature::Certificate;
use crate::verification::{self, Blocks, Fault, FoundRelease, Outcome, Progress, Trust};
use crate::verity::RootHash;
use crate::version::Version;

const BUFFER_BYTES: usize = 1 << 20;

/// An image that was proved, and what it says it is.
#[derive(Clone, Debug)]
pub struct Edition {
    /// The image.
    pub path: PathBuf,
    /// What it extends.
    pub kind: ExtensionKind,
    /// The extension.
    pub name: ExtensionName,
    /// Its version.
    pub version: Version,
    /// The machines that it is for.
    pub architecture: Architecture,
    /// What its file is called where it is published, without suffixes.
    file: ImageFileStem,
    /// Bytes of the image.
    pub size: u64,
    /// Digest of the image as a whole.
    pub digest: Digest,
    /// The hash that stands for its data.
    pub root_hash: RootHash,
    /// What it says of itself.
    pub release: ReleaseFile,
    /// Whose certificate lies beside the signature, if it is signed. Nobody asked whether it is
    /// trusted.
    pub signer: Option<Certificate>,
}

/// Why an image cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum EditionError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no image.
    #[error(transparent)]
    Image(#[from] DdiError),
    /// A check of the image failed.
    #[error("{path} is not published, because a node would refuse it: {reason}")]
    NotProved {
        /// Which file.
        path: PathBuf,
        /// Which check, and why.
        reason: String,
    },
    /// It has no name.
    #[error("{path} has no name to publish it under: {source}")]
    Name {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the name.
        source: InvalidName,
    },
    /// No file can be called after name, version and architecture.
    #[error("{path} cannot be published: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the name.
        source: InvalidStem,
    },
    /// Nothing says which version it is.
    #[error("{path} does not say its version ({key} in its release file); say it with --version")]
    NoVersion {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        key: &'static str,
    },
    /// Two things are said of the version.
    #[error("{path} says that its version is {own}, but --version says {wanted}")]
    OtherVersion {
        /// Which file.
        path: PathBuf,
        /// What the release file says.
        own: String,
        /// What the caller says.
        wanted: String,
    },
    /// The version cannot be part of a file name.
    #[error("{path} cannot be published: {source}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the version.
        source: InvalidVersion,
    },
    /// The machine is unknown.
    #[error("{path} does not say which architecture it is for")]
    NoArchitecture {
        /// Which file.
        path: PathBuf,
    },
    /// The same thing twice.
    #[error("{first} and {second} are both {file_name}; publish one of them")]
    Twice {
        /// One of the files.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
        /// The name that both would have.
        file_name: String,
    },
}

impl Edition {
    /// Proves the image at `path` in every respect but whom its signature is by, and reads what it is.
    /// `version` is for images that do not say theirs.
    ///
    /// # Errors
    /// [`EditionError`].
    pub fn open(
        path: &Path,
        version: Option<&Version>,
        jobs: NonZero<usize>,
        progress: &dyn Progress,
    ) -> Result<Edition, EditionError> {
        let request = verification::Request {
            path,
            known_as: None,
            trust: Trust::Ignored,
            host: None,
            blocks: Blocks::All,
            jobs,
        };
        let report = verification::verify(&request, progress);
        refuse_unproved(&report)?;
        let (Some(found), Some(root_hash)) = (&report.release, report.root_hash) else {
            return Err(not_proved(path, "it has no release file".to_owned()));
        };
        let (kind, release) = (found.kind, found.release.clone());
        let (size, digest) = digest_of(path).map_err(|source| EditionError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let name = name_of(path, found)?;
        let version = version_of(path, kind, &release, version)?;
        let architecture = architecture_of(path, &release)?;
        let file = ImageFileStem::new(&name, Some(&version), Some(architecture));
        Ok(Edition {
            file: file.map_err(|source| EditionError::File {
                path: path.to_path_buf(),
                source,
            })?,
            version: Version::from(version.as_str()),
            name,
            architecture,
            path: path.to_path_buf(),
            kind,
            size,
            digest,
            root_hash,
            release,
            signer: report.claimed_signer,
        })
    }

    /// `NAME_VERSION_ARCH.KIND.raw`, as systemd.v(7) has it.
    pub fn file_name(&self) -> String {
        self.file.file_name(self.kind)
    }
}

/// Whether no two of `editions` are the same extension in the same version for the same machines.
///
/// # Errors
/// [`EditionError::Twice`].
pub fn refuse_twins(editions: &[Edition]) -> Result<(), EditionError> {
    for (index, one) in editions.iter().enumerate() {
        let file_name = one.file_name();
        let twin = editions[..index]
            .iter()
            .find(|other| other.file_name() == file_name);
        if let Some(twin) = twin {
            return Err(EditionError::Twice {
                first: twin.path.clone(),
                second: one.path.clone(),
                file_name,
            });
        }
    }
    Ok(())
}

fn not_proved(path: &Path, reason: String) -> EditionError {
    EditionError::NotProved {
        path: path.to_path_buf(),
        reason,
    }
}

/// An unsigned image may be published, one that awaits its signature may not.
fn refuse_unproved(report: &verification::Report) -> Result<(), EditionError> {
    for (check, outcome) in report.outcomes() {
        match outcome {
            Outcome::Failed(Fault::Unsigned) | Outcome::Passed | Outcome::NotAsked => {}
            Outcome::Failed(fault) => {
                let reason = format!("{check}: {}", sentence(fault));
                return Err(not_proved(&report.path, reason));
            }
            // Another one failed, which is told.
            Outcome::Impossible => {}
        }
    }
    Ok(())
}

fn name_of(path: &Path, found: &FoundRelease) -> Result<ExtensionName, EditionError> {
    // A release file for images of any name says nothing of this one's.
    let name = match found.for_any_name {
        true => found
            .image_name
            .split(['_', '+'])
            .next()
            .unwrap_or_default(),
        false => &found.name,
    };
    name.parse().map_err(|source| EditionError::Name {
        path: path.to_path_buf(),
        source,
    })
}

fn version_of(
    path: &Path,
    kind: ExtensionKind,
    release: &ReleaseFile,
    wanted: Option<&Version>,
) -> Result<ExtensionVersion, EditionError> {
    let key = match kind {
        ExtensionKind::Sysext => "SYSEXT_VERSION_ID",
        ExtensionKind::Confext => "CONFEXT_VERSION_ID",
    };
    let own = release.get(key).filter(|version| !version.is_empty());
    let version = match (own, wanted) {
        (Some(own), Some(wanted)) if own != wanted.as_str() => {
            return Err(EditionError::OtherVersion {
                path: path.to_path_buf(),
                own: printable(own.as_bytes()),
                wanted: wanted.to_string(),
            });
        }
        (Some(own), _) => own,
        (None, Some(wanted)) => wanted.as_str(),
        (None, None) => {
            return Err(EditionError::NoVersion {
                path: path.to_path_buf(),
                key,
            });
        }
    };
    version.parse().map_err(|source| EditionError::Version {
        path: path.to_path_buf(),
        source,
    })
}

/// What the release file says; where it says nothing or `_any`, what the partitions are for.
fn architecture_of(path: &Path, release: &ReleaseFile) -> Result<Architecture, EditionError> {
    if let Some(Ok(architecture)) = release.get("ARCHITECTURE").map(str::parse) {
        return Ok(architecture);
    }
    let ddi = Ddi::open(path)?;
    let kind = ddi.partition(Role::Data).and_then(|data| data.kind);
    kind.map(|kind| kind.architecture)
        .ok_or_else(|| EditionError::NoArchitecture {
            path: path.to_path_buf(),
        })
}

/// Bytes and digest of the file at `path`.
pub(super) fn digest_of(path: &Path) -> io::Result<(u64, Digest)> {
    digest_of_file(&File::open(path)?)
}

/// Bytes and digest of an open file, from its start.
pub(super) fn digest_of_file(mut file: &File) -> io::Result<(u64, Digest)> {
    file.rewind()?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok((size, hasher.finish()));
        };
        hasher.update(bytes);
        size += bytes.len() as u64;
    }
}

/// An edition of a system extension for x86-64, of which there is no image.
#[cfg(test)]
pub(super) fn example(name: &str, version: &str) -> Edition {
    let digest = Digest::of(format!("{name} {version}").as_bytes());
    let name: ExtensionName = name.parse().unwrap();
    let architecture = Architecture::X86_64;
    let version: ExtensionVersion = version.parse().unwrap();
    Edition {
        path: PathBuf::from(format!("{name}.raw")),
        kind: ExtensionKind::Sysext,
        file: ImageFileStem::new(&name, Some(&version), Some(architecture)).unwrap(),
        name,
        version: Version::from(version.as_str()),
        architecture,
        size: 4096,
        digest,
        root_hash: digest.hex().parse().unwrap(),
        release: ReleaseFile::default(),
        signer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(release: &str, wanted: Option<&str>) -> Result<String, EditionError> {
        let release = ReleaseFile::parse(release.as_bytes()).unwrap();
        let wanted = wanted.map(Version::from);
        let path = Path::new("x.raw");
        let version = version_of(path, ExtensionKind::Sysext, &release, wanted.as_ref())?;
        Ok(version.to_string())
    }

    #[test]
    fn the_image_says_its_version_or_else_the_caller() {
        let own = "SYSEXT_VERSION_ID=1.2+k3s1\n";
        assert_eq!(version(own, None).unwrap(), "1.2+k3s1");
        assert_eq!(version(own, Some("1.2+k3s1")).unwrap(), "1.2+k3s1");
        assert_eq!(version("", Some("v3")).unwrap(), "v3");
        let error = version(own, Some("2")).unwrap_err();
        assert!(matches!(error, EditionError::OtherVersion { .. }));
        let error = version("CONFEXT_VERSION_ID=1\n", None).unwrap_err();
        assert!(error.to_string().contains("SYSEXT_VERSION_ID"), "{error}");
    }

    #[test]
    fn versions_that_would_leave_the_folder_or_the_name_are_refused() {
        let long = "1".repeat(65);
        for bad in [
            "../1", ".1", "1/2", "1 2", "-1", "1\n", "ä", "%v", "1_2", "1~2", "1+3-0", &long,
        ] {
            let error = version("", Some(bad)).unwrap_err();
            assert!(matches!(error, EditionError::Version { .. }), "{bad}");
        }
    }

    #[test]
    fn twins_are_refused() {
        let editions = [example("a", "1"), example("a", "2"), example("b", "1")];
        assert!(refuse_twins(&editions).is_ok());
        let twins = [example("a", "1"), example("a", "1")];
        let error = refuse_twins(&twins).unwrap_err().to_string();
        assert!(error.contains("a_1_x86-64.sysext.raw"), "{error}");
    }
}
