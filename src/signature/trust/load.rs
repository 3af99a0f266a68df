//! Loading trusted certificates from files and folders.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use openssl::x509::X509;

use super::{Form, Origin, PassedOver, TrustStore};
use crate::efi::{InvalidSignatureList, SignatureDatabase};
use crate::printable::printable;
use crate::signature::pem_signer::read_bounded;
use crate::signature::{Certificate, SignatureError};

/// Larger files hold no certificates.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// With what every certificate in PEM form begins.
const PEM_START: &[u8] = b"-----BEGIN ";
/// The first byte of a certificate in DER form: a SEQUENCE.
const DER_START: u8 = 0x30;
/// The suffix that a file in a `verity.d` folder needs.
const SUFFIX: &str = "crt";

/// Why trusted certificates could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] SignatureError),
    /// A folder could not be read.
    #[error("cannot read the folder of trusted certificates {path}")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no certificate.
    #[error(
        "{0} holds no certificate; PEM, DER, signature lists (.esl) and firmware variables are known"
    )]
    NoCertificate(PathBuf),
    /// A signature list is broken.
    #[error("{path} holds no certificate in PEM or DER form, and is no signature list either")]
    SignatureList {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidSignatureList,
    },
}

impl TrustStore {
    /// Trusts what a file holds: a certificate in PEM form (the first one, as systemd reads it) or in
    /// DER form, or all certificates of a signature list (`.esl`) or of a variable in efivarfs
    /// (`/sys/firmware/efi/efivars/db-…`).
    ///
    /// # Errors
    /// Where the file cannot be read or holds no certificate.
    pub fn load_file(&mut self, path: &Path) -> Result<(), TrustError> {
        let bytes = read_bounded("certificate", path, MAX_FILE_BYTES)?;
        self.load_bytes(&bytes, path)
    }

    /// What [`TrustStore::load_file`] does with the content of the file `path`.
    ///
    /// # Errors
    /// Where it holds no certificate.
    pub fn load_bytes(&mut self, bytes: &[u8], path: &Path) -> Result<(), TrustError> {
        let origin = |form| Origin {
            path: path.to_path_buf(),
            form,
        };
        let nothing = || TrustError::NoCertificate(path.to_path_buf());
        if is_pem(bytes) {
            let certificate = first_in_pem(bytes).ok_or_else(nothing)?;
            if pem_certificates(bytes) > 1 {
                self.pass_over(
                    path,
                    "has several certificates, of which systemd reads the first only",
                );
            }
            self.add(certificate, origin(Form::Pem));
            return Ok(());
        }
        if bytes.first() == Some(&DER_START) {
            let certificate = Certificate::from_der(bytes).ok_or_else(nothing)?;
            self.add(certificate, origin(Form::Der));
            return Ok(());
        }
        self.load_signature_lists(bytes, path)
    }

    fn load_signature_lists(&mut self, bytes: &[u8], path: &Path) -> Result<(), TrustError> {
        let lists = SignatureDatabase::parse_file(bytes).map_err(|source| {
            let path = path.to_path_buf();
            TrustError::SignatureList { path, source }
        })?;
        let mut found = false;
        for (number, listed) in (1..).zip(lists.certificates()) {
            let Some(certificate) = Certificate::from_der(listed.data) else {
                self.pass_over(path, "lists something that is no certificate in DER form");
                continue;
            };
            let form = Form::SignatureList {
                number,
                owner: listed.owner,
            };
            let path = path.to_path_buf();
            self.add(certificate, Origin { path, form });
            found = true;
        }
        if found {
            Ok(())
        } else {
            Err(TrustError::NoCertificate(path.to_path_buf()))
        }
    }

    /// Trusts what lies in folders, as systemd reads its `verity.d` folders: of every `*.crt` the
    /// first certificate, in PEM form. Of files with the same name that in the first folder counts;
    /// if it is empty or a link to `/dev/null`, none does.
    ///
    /// # Errors
    /// Where a folder or a file in it cannot be read.
    pub fn load_folders<P: AsRef<Path>>(&mut self, folders: &[P]) -> Result<(), TrustError> {
        let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
        for folder in folders {
            let folder = folder.as_ref();
            let unreadable = |source| TrustError::Folder {
                path: folder.to_path_buf(),
                source,
            };
            for entry in fs::read_dir(folder).map_err(unreadable)? {
                let name = entry.map_err(unreadable)?.file_name();
                let path = folder.join(&name);
                let hidden = name.as_encoded_bytes().starts_with(b".");
                if !hidden && path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                    files.entry(name).or_insert(path);
                }
            }
        }
        for path in files.values() {
            self.load_verity_file(path)?;
        }
        Ok(())
    }

    fn load_verity_file(&mut self, path: &Path) -> Result<(), TrustError> {
        let Ok(metadata) = fs::metadata(path) else {
            self.pass_over(path, "is a link to nothing");
            return Ok(());
        };
        // `/dev/null` masks, and so does an empty file.
        if metadata.file_type().is_char_device() || (metadata.is_file() && metadata.len() == 0) {
            return Ok(());
        }
        if !metadata.is_file() {
            self.pass_over(path, "is no file");
            return Ok(());
        }
        let bytes = read_bounded("certificate", path, MAX_FILE_BYTES)?;
        match first_in_pem(&bytes) {
            Some(_) => self.load_bytes(&bytes, path),
            None => {
                self.pass_over(
                    path,
                    "does not begin with a certificate in PEM form, the only one that systemd reads",
                );
                Ok(())
            }
        }
    }

    fn pass_over(&mut self, path: &Path, reason: &'static str) {
        let path = printable(path.as_os_str().as_encoded_bytes());
        self.passed_over.push(PassedOver { path, reason });
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM_START.len()).any(|text| text == PEM_START)
}

fn pem_certificates(bytes: &[u8]) -> usize {
    const START: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let starts = bytes.windows(START.len()).filter(|text| *text == START);
    starts.count()
}

fn first_in_pem(bytes: &[u8]) -> Option<Certificate> {
    is_pem(bytes)
        .then(|| X509::from_pem(bytes).ok())
        .flatten()
        .and_then(Certificate::from_x509)
}
