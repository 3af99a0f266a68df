//! The certificates in the firmware of a node, and which of them may vouch for extensions.
//!
//! Firmware trusts many: whoever built the board, Microsoft, whoever signs option ROMs. Of those
//! only what the owner of the platform key put there himself counts for extensions, unless the
//! configuration says otherwise, and never what dbx revokes.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::configuration::{Owner, Trust};
use super::layout::Layout;
use crate::efi::signature_list::{SHA_256, X509, X509_SHA_256, X509_SHA_384, X509_SHA_512};
use crate::efi::{Guid, SignatureDatabase};
use crate::read_at::read_file;
use crate::secureboot::{Variable, microsoft};
use crate::signature::Certificate;
use crate::signature::trust::{Form, Origin, TrustStore};

/// Where Linux shows the variables of the firmware, as `NAME-VENDOR`.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Larger variables fit into no firmware.
const MAX_BYTES: u64 = 4 << 20;
/// Who some of Microsoft's certificates say they belong to.
const MICROSOFT: &str = "Microsoft Corporation";

/// The certificates of PK, KEK and db.
#[derive(Clone, Debug, Default)]
pub struct Firmware {
    /// All of them, in the order of the variables.
    pub certificates: Vec<FirmwareCertificate>,
    /// What could not be read, a sentence each.
    pub notes: Vec<String>,
}

/// A certificate that the firmware has.
#[derive(Clone, Debug)]
pub struct FirmwareCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// Where it is.
    pub variable: Variable,
    /// Who put it there.
    pub owner: Guid,
    /// Where it is, for the trust store.
    pub origin: Origin,
    /// Whether it may vouch for extensions.
    pub standing: Standing,
}

/// Whether a certificate of the firmware may vouch for extensions, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Signer,
    /// dbx revokes it.
    Revoked,
    /// Its variable is not asked for (`trust.firmware`).
    OtherVariable,
    /// It is Microsoft's.
    Microsoft,
    /// Its owner is none of those that count (`trust.firmware_owners`).
    OtherOwner,
}

/// What dbx says of certificates.
#[derive(Default)]
struct Revocations(SignatureDatabase);

impl Firmware {
    /// Reads the firmware's variables. One that is missing or broken never costs the others.
    pub fn read(layout: &Layout, trust: &Trust) -> Firmware {
        let mut notes = Vec::new();
        let mut read = |name: &str, vendor: Guid| {
            let path = variable_path(layout, name, vendor);
            read_variable(&path).unwrap_or_else(|problem| {
                notes.push(format!("{} {problem}", path.display()));
                SignatureDatabase::default()
            })
        };
        let revoked = Revocations(read("dbx", Variable::Db.vendor()));
        let databases = Variable::ALL.map(|it| (it, read(it.name(), it.vendor())));
        let platform: Vec<Guid> = databases
            .iter()
            .filter(|(variable, _)| *variable == Variable::Pk)
            .flat_map(|(_, database)| database.certificates().map(|entry| entry.owner))
            .collect();
        let mut certificates = Vec::new();
        for (variable, database) in &databases {
            let path = variable_path(layout, variable.name(), variable.vendor());
            for (number, entry) in (1..).zip(database.certificates()) {
                let owner = entry.owner;
                let Some(certificate) = Certificate::from_der(entry.data) else {
                    notes.push(format!("entry {number} of {variable} is no certificate"));
                    continue;
                };
                let standing = if revoked.cover(&certificate) {
                    Standing::Revoked
                } else if !trust.firmware.contains(variable) {
                    Standing::OtherVariable
                } else {
                    standing_of_owner(&certificate, owner, &trust.firmware_owners, &platform)
                };
                certificates.push(FirmwareCertificate {
                    certificate,
                    variable: *variable,
                    owner,
                    origin: Origin {
                        path: path.clone(),
                        form: Form::SignatureList { number, owner },
                    },
                    standing,
                });
            }
        }
        Firmware {
            certificates,
            notes,
        }
    }

    /// The certificates that may vouch for extensions.
    pub fn signers(&self) -> impl Iterator<Item = &FirmwareCertificate> {
        let all = self.certificates.iter();
        all.filter(|certificate| certificate.standing == Standing::Signer)
    }

    /// Why a certificate may not vouch for extensions that the firmware has, and none of its entries
    /// may. Others read the firmware too, and write all of it where systemd looks.
    pub fn objection(&self, certificate: &Certificate) -> Option<Standing> {
        let entries = || {
            let all = self.certificates.iter();
            all.filter(|entry| entry.certificate.der() == certificate.der())
        };
        if entries().any(|entry| entry.standing == Standing::Signer) {
            return None;
        }
        entries().next().map(|entry| entry.standing)
    }

    /// Trusts those that may vouch for extensions.
    pub fn add_signers(&self, store: &mut TrustStore) {
        for signer in self.signers() {
            store.add(signer.certificate.clone(), signer.origin.clone());
        }
    }
}

/// What a variable holds, nothing if it does not exist; or what is wrong with it.
fn read_variable(path: &Path) -> Result<SignatureDatabase, String> {
    match read_file(path, MAX_BYTES) {
        Ok(bytes) => SignatureDatabase::parse_file(&bytes)
            .map_err(|error| format!("holds no signature lists: {error}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SignatureDatabase::default()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn standing_of_owner(
    certificate: &Certificate,
    owner: Guid,
    counting: &[Owner],
    platform: &[Guid],
) -> Standing {
    let is_microsoft = owner == microsoft::OWNER || certificate.is_of_organisation(MICROSOFT);
    if counting.contains(&Owner::Any) || counting.contains(&Owner::Guid(owner)) {
        Standing::Signer
    } else if is_microsoft {
        Standing::Microsoft
    } else if counting.contains(&Owner::Platform) && platform.contains(&owner) {
        Standing::Signer
    } else {
        Standing::OtherOwner
    }
}

impl Revocations {
    /// Whether a certificate is revoked: itself, by its digest, or by that of what its issuer signed
    /// (UEFI 2.10, section 32.4.1).
    fn cover(&self, certificate: &Certificate) -> bool {
        let signed = certificate.to_be_signed();
        let fingerprint = certificate.fingerprint();
        self.0.lists().iter().any(|list| {
            list.entries().any(|entry| match list.kind() {
                X509 => entry.data == certificate.der(),
                SHA_256 => entry.data == fingerprint.as_bytes(),
                X509_SHA_256 => entry.data.starts_with(&openssl::sha::sha256(signed)),
                X509_SHA_384 => entry.data.starts_with(&openssl::sha::sha384(signed)),
                X509_SHA_512 => entry.data.starts_with(&openssl::sha::sha512(signed)),
                _ => false,
            })
        })
    }
}

/// The value of a variable that is a single byte, such as `SecureBoot`.
pub(super) fn is_set(layout: &Layout, name: &str, vendor: Guid) -> bool {
    let path = variable_path(layout, name, vendor);
    // Four bytes of attributes come first.
    read_file(&path, MAX_BYTES).is_ok_and(|bytes| bytes.get(4..) == Some(&[1]))
}

/// Whether there is a variable.
pub(super) fn exists(layout: &Layout, name: &str, vendor: Guid) -> bool {
    fs::metadata(variable_path(layout, name, vendor)).is_ok()
}

fn variable_path(layout: &Layout, name: &str, vendor: Guid) -> PathBuf {
    layout.open_path(VARIABLES).join(format!("{name}-{vendor}"))
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Signer => "may vouch for extensions",
            Standing::Revoked => "is revoked by dbx",
            Standing::OtherVariable => "is in a variable that trust.firmware does not name",
            Standing::Microsoft => {
                "is Microsoft's, and trust.firmware_owners does not name its owner"
            }
            Standing::OtherOwner => "is of an owner that trust.firmware_owners does not name",
        })
    }
}
