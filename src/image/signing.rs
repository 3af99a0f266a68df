//! Signing an image that is complete but for its signature, or signing it anew.
//!
//! The image is copied beside its place, the copy gets the signature, and takes the place of the
//! old one. The result is, byte for byte, the image that a build with the same signature makes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::assemble::{partition_table, signed_partition};
use super::copy::{OnBytes, copy_content, take_over_owner};
use super::ddi::{Ddi, DdiError};
use super::gpt::{Copies, Entry, SECTOR_SIZE, Table};
use super::identity::Identity;
use super::layout::{DATA_OFFSET, Extent, Layout};
use super::output::{Output, OutputError};
use super::partition_type::{Designator, Role};
use super::sign_request::{InvalidRequest, SignRequest};
use crate::digest::Digest;
use crate::read_at::{FileWindow, ReadAt};
use crate::seed::Seed;
use crate::signature::{Certificate, PARTITION_BYTES, SignatureError, SignaturePartition, Signer};
use crate::verity::{self, Damage, RootHash};

/// Where the last sector of the partition table's first copy ends.
const TABLE_END: u64 = 34 * SECTOR_SIZE;
/// A larger file is no sign request.
const MAX_REQUEST_BYTES: u64 = (1 << 20) + 1;

/// An image with a hash tree and a place for a signature.
pub struct SignableImage {
    ddi: Ddi,
    root_hash: RootHash,
    place: Place,
}

/// Where the signature goes.
enum Place {
    /// Into a partition that is there.
    Partition(Extent),
    /// Into one that is still to be made, at the end of an image that sysgraft built unsigned.
    New {
        table: Table,
        layout: Layout,
        extent: Extent,
    },
}

/// Why an image cannot be signed. It is untouched.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// It is no image, or was not read.
    #[error(transparent)]
    Ddi(#[from] DdiError),
    /// A device, or a folder.
    #[error("{0} is not a regular file, so it cannot be replaced by a signed one")]
    NotAFile(PathBuf),
    /// There is nothing to sign.
    #[error("{0} has no hash tree, so there is nothing to sign")]
    NoHashTree(PathBuf),
    /// It is damaged already.
    #[error("one copy of the partition table of {0} is damaged; build the image anew")]
    Table(PathBuf),
    /// The signature partition is too small.
    #[error("the signature partition of {path} has {size} bytes, fewer than {PARTITION_BYTES}")]
    Small {
        /// Which image.
        path: PathBuf,
        /// Bytes of the partition.
        size: u64,
    },
    /// There is no signature partition, and none can be added.
    #[error("{path} has no signature partition, and {reason}; build it with --sign-later instead")]
    NoPlace {
        /// Which image.
        path: PathBuf,
        /// Why none can be added.
        reason: &'static str,
    },
    /// Data and hash tree do not fit together.
    #[error("{path} is damaged, so it is not signed")]
    Damaged {
        /// Which image.
        path: PathBuf,
        /// Where.
        source: Damage,
    },
    /// The request beside the image could not be read.
    #[error("cannot read {path}")]
    ReadRequest {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request beside the image is none.
    #[error("{path} is no sign request; remove it if it is not needed")]
    Request {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: InvalidRequest,
    },
    /// The request beside the image speaks of another one.
    #[error(
        "{path} is for another image of that name, with root hash {requested}; this one has {found}. Get the right image, or remove the request"
    )]
    OtherImage {
        /// Which request.
        path: PathBuf,
        /// What it asks to sign.
        requested: RootHash,
        /// What the image has.
        found: RootHash,
    },
    /// The request beside the image asks for another certificate.
    #[error(
        "{path} asks for the certificate with fingerprint {requested}, but the one given has {found}; give the other one, or remove the request"
    )]
    OtherCertificate {
        /// Which request.
        path: PathBuf,
        /// SHA-256 of the certificate that it asks for.
        requested: String,
        /// SHA-256 of the certificate that was given.
        found: String,
    },
    /// The root hash could not be signed.
    #[error("cannot sign {path}")]
    Signature {
        /// Which image.
        path: PathBuf,
        /// Why.
        source: SignatureError,
    },
    /// The signed image could not be written.
    #[error("cannot write the signed copy of {path}")]
    Write {
        /// Which image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The signed image could not be made or put into its place.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl SignableImage {
    /// Opens the image at `path`, following symbolic links. `seed` is needed only for one that was
    /// built unsigned and with a seed of its own.
    ///
    /// # Errors
    /// See [`SigningError`].
    pub fn open(path: &Path, seed: Option<Seed>) -> Result<SignableImage, SigningError> {
        let read = DdiError::reading(path);
        // The file itself is replaced, not a link to it.
        let path = &fs::canonicalize(path).map_err(&read)?;
        if !fs::metadata(path).map_err(&read)?.is_file() {
            return Err(SigningError::NotAFile(path.clone()));
        }
        let ddi = Ddi::open(path)?;
        if ddi.copies != Copies::Both {
            return Err(SigningError::Table(path.clone()));
        }
        let root_hash = ddi
            .root_hash()
            .ok_or_else(|| SigningError::NoHashTree(path.clone()))?;
        let place = match ddi.partition(Role::Signature) {
            Some(partition) if partition.size < PARTITION_BYTES as u64 => {
                return Err(SigningError::Small {
                    path: path.clone(),
                    size: partition.size,
                });
            }
            Some(partition) => Place::Partition(Extent {
                offset: partition.offset,
                size: partition.size,
            }),
            None => {
                new_partition(&ddi, root_hash, seed).map_err(|reason| SigningError::NoPlace {
                    path: path.clone(),
                    reason,
                })?
            }
        };
        Ok(SignableImage {
            ddi,
            root_hash,
            place,
        })
    }

    /// What is to be signed.
    pub fn root_hash(&self) -> RootHash {
        self.root_hash
    }

    /// The file that will be replaced.
    pub fn path(&self) -> &Path {
        &self.ddi.path
    }

    /// Bytes of the image as it is.
    pub fn size(&self) -> u64 {
        self.ddi.size
    }

    /// Compares an image that was never signed with the request beside it, if there is one for an
    /// extension of that kind and name: it must be for this image, and for this certificate if it
    /// asks for a certain one.
    ///
    /// # Errors
    /// See [`SigningError`].
    pub fn heed_request(&self, certificate: &Certificate) -> Result<(), SigningError> {
        // Who signs anew does so with another key than was asked for once.
        if self.ddi.signature.is_some() {
            return Ok(());
        }
        // Requests are made only of images whose identity can be read.
        let Ok(identity) = Identity::read(&self.ddi) else {
            return Ok(());
        };
        let path = SignRequest::path_beside(self.path(), &identity.name);
        let Some(request) = read_request(&path)? else {
            return Ok(());
        };
        if (request.kind, &request.name) != (identity.kind, &identity.name) {
            return Ok(());
        }
        if request.root_hash != self.root_hash {
            return Err(SigningError::OtherImage {
                path,
                requested: request.root_hash,
                found: self.root_hash,
            });
        }
        let fingerprint = certificate.fingerprint();
        let other = |wanted: &Digest| *wanted != fingerprint;
        match request.certificate_fingerprint.filter(other) {
            Some(requested) => Err(SigningError::OtherCertificate {
                path,
                requested: requested.hex(),
                found: fingerprint.hex(),
            }),
            None => Ok(()),
        }
    }

    /// Checks every block against the hash tree and that against the root hash, so that nobody
    /// signs what is damaged.
    ///
    /// # Errors
    /// [`SigningError::Damaged`].
    pub fn prove(&self, on_bytes: OnBytes<'_>) -> Result<(), SigningError> {
        let open = |role| -> Result<Counted<'_>, SigningError> {
            let window = self.ddi.open_partition(role)?;
            let window = window.ok_or_else(|| SigningError::NoHashTree(self.path().into()))?;
            Ok(Counted { window, on_bytes })
        };
        let (data, hash) = (open(Role::Data)?, open(Role::Hash)?);
        verity::verify(&data, &hash, Some(&self.root_hash)).map_err(|source| {
            SigningError::Damaged {
                path: self.path().to_path_buf(),
                source,
            }
        })?;
        Ok(())
    }

    /// Signs the root hash, and replaces the image by one with the signature.
    ///
    /// # Errors
    /// See [`SigningError`]; the image is then as it was.
    pub fn sign(self, signer: &dyn Signer, on_bytes: OnBytes<'_>) -> Result<(), SigningError> {
        let partition = signed_partition(signer, self.root_hash);
        self.replace(partition, on_bytes)
    }

    /// Replaces the image by one with a signature over its root hash that was made elsewhere and
    /// accepted (see [`accept_signature`](crate::signature::accept_signature)).
    ///
    /// # Errors
    /// See [`SigningError`]; the image is then as it was.
    pub fn attach(
        self,
        pkcs7: Vec<u8>,
        certificate: &Certificate,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), SigningError> {
        let partition = SignaturePartition {
            root_hash: self.root_hash,
            certificate_fingerprint: Some(certificate.fingerprint()),
            pkcs7,
        };
        self.replace(Ok(partition), on_bytes)
    }

    fn replace(
        self,
        partition: Result<SignaturePartition, SignatureError>,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), SigningError> {
        let content = partition
            .and_then(|partition| partition.encode())
            .map_err(|source| SigningError::Signature {
                path: self.path().to_path_buf(),
                source,
            })?;
        let path = self.path();
        // A canonical path of a file has both.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default();
        let output = Output::create(folder, name)?;
        self.write(output.file(), &content, on_bytes)
            .map_err(|source| SigningError::Write {
                path: path.to_path_buf(),
                source,
            })?;
        output.commit()?;
        Ok(())
    }

    fn write(&self, copy: &File, signature: &[u8], on_bytes: OnBytes<'_>) -> io::Result<()> {
        copy_content(&self.ddi.file, copy, self.ddi.size, on_bytes)?;
        match &self.place {
            Place::Partition(extent) => {
                write_zeros(copy, *extent)?;
                copy.write_all_at(signature, extent.offset)?;
            }
            Place::New {
                table,
                layout,
                extent,
            } => {
                // What no partition covers is zero in a new image.
                write_zeros(copy, between(TABLE_END, DATA_OFFSET))?;
                write_zeros(copy, between(layout.hash.end(), layout.size))?;
                copy.write_all_at(signature, extent.offset)?;
                table.write(copy, layout.size)?;
            }
        }
        take_over_owner(&self.ddi.file, copy)
    }
}

/// What an image needs to become the one that a build with the same seed and a signer makes; or
/// why that cannot be.
fn new_partition(
    ddi: &Ddi,
    root_hash: RootHash,
    seed: Option<Seed>,
) -> Result<Place, &'static str> {
    const FOREIGN: &str = "it is not laid out as sysgraft lays out unsigned images";
    let kind = ddi.partition(Role::Data).and_then(|data| data.kind);
    let kind = kind
        .filter(|kind| kind.designator == Designator::Root)
        .ok_or(FOREIGN)?;
    let verity = ddi.verity.as_ref().ok_or(FOREIGN)?;
    let seed = match seed {
        Some(seed) => seed,
        None => {
            let identity = Identity::read(ddi)
                .map_err(|_| "it does not say which extension it is, or not in EROFS")?;
            Seed::of_extension(identity.kind, &identity.name, kind.architecture)
        }
    };
    let derived = verity.uuid == seed.verity_uuid()
        && verity.salt == seed.verity_salt().into()
        && ddi.disk_guid == seed.disk_guid();
    if !derived {
        return Err("its UUIDs derive from another seed, which --seed can give");
    }
    let unsigned = Layout::new(&verity.geometry, false);
    let expected = partition_table(seed, kind.architecture, &unsigned, root_hash);
    let found: Vec<Entry> = ddi
        .partitions
        .iter()
        .map(|partition| Entry {
            type_uuid: partition.type_uuid,
            uuid: partition.uuid,
            extent: Extent {
                offset: partition.offset,
                size: partition.size,
            },
            attributes: partition.attributes,
            label: partition.label.clone(),
        })
        .collect();
    if found != expected.entries || ddi.size != unsigned.size || ddi.sector_size != SECTOR_SIZE {
        return Err(FOREIGN);
    }
    let layout = Layout::new(&verity.geometry, true);
    Ok(Place::New {
        table: partition_table(seed, kind.architecture, &layout, root_hash),
        extent: layout.signature.ok_or(FOREIGN)?,
        layout,
    })
}

fn read_request(path: &Path) -> Result<Option<SignRequest>, SigningError> {
    let read = || {
        let mut json = Vec::new();
        File::open(path)?
            .take(MAX_REQUEST_BYTES)
            .read_to_end(&mut json)?;
        Ok(json)
    };
    let json = match read() {
        Ok(json) => json,
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(SigningError::ReadRequest {
                path: path.to_path_buf(),
                source,
            });
        }
    };
    let request = SignRequest::parse(&json).map_err(|source| SigningError::Request {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(Some(request))
}

fn between(start: u64, end: u64) -> Extent {
    Extent {
        offset: start,
        size: end - start,
    }
}

fn write_zeros(file: &File, extent: Extent) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut offset = extent.offset;
    while offset < extent.end() {
        let length = (extent.end() - offset).min(ZEROS.len() as u64);
        #[allow(clippy::cast_possible_truncation)] // at most 4096
        file.write_all_at(&ZEROS[..length as usize], offset)?;
        offset += length;
    }
    Ok(())
}

/// Reports every byte that is read through it.
struct Counted<'a> {
    window: FileWindow,
    on_bytes: OnBytes<'a>,
}

impl ReadAt for Counted<'_> {
    fn size(&self) -> u64 {
        self.window.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.window.read_exact_at(buffer, offset)?;
        (self.on_bytes)(buffer.len() as u64);
        Ok(())
    }
}
