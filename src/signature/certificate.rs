//! The certificate that goes with a signature.

use std::path::Path;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::x509::{X509, X509NameRef};

use super::SignatureError;
use crate::digest::Digest;

/// An X.509 certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    x509: X509,
    der: Vec<u8>,
}

/// Larger files hold no single certificate.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Certificate {
    /// Reads a file in PEM form (its first certificate, as systemd does) or DER form.
    ///
    /// # Errors
    /// Where it cannot be read or holds no certificate.
    pub fn load(path: &Path) -> Result<Certificate, SignatureError> {
        let bytes = super::pem_signer::read_bounded("certificate", path, MAX_FILE_BYTES)?;
        X509::from_pem(&bytes)
            .or_else(|_| X509::from_der(&bytes))
            .ok()
            .and_then(Certificate::from_x509)
            .ok_or_else(|| SignatureError::Malformed {
                what: "certificate",
                path: path.to_path_buf(),
                hint: " or DER form",
            })
    }

    /// A certificate that OpenSSL read.
    pub(super) fn from_x509(x509: X509) -> Option<Certificate> {
        let der = x509.to_der().ok()?;
        Some(Certificate { x509, der })
    }

    /// The certificate in DER form.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 over the DER form.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Who it was issued to, for people: `CN=sysgraft example`.
    pub fn subject(&self) -> String {
        name(self.x509.subject_name())
    }

    /// When its validity ends, for people.
    pub fn not_after(&self) -> String {
        self.x509.not_after().to_string()
    }

    /// Whether its validity has ended.
    pub fn is_expired(&self) -> bool {
        is_before_now(self.x509.not_after())
    }

    /// Whether its validity has not begun.
    pub fn is_not_yet_valid(&self) -> bool {
        !is_before_now(self.x509.not_before())
    }

    /// The issuer's name in DER form.
    pub(super) fn issuer_der(&self) -> Result<Vec<u8>, SignatureError> {
        let name = self.x509.issuer_name().to_der();
        name.map_err(|source| SignatureError::OpenSsl {
            what: "encode the certificate's issuer",
            source,
        })
    }

    /// The serial number as a DER INTEGER.
    pub(super) fn serial_der(&self) -> Result<Vec<u8>, SignatureError> {
        use der::Encode;
        let number = self.x509.serial_number().to_bn();
        let number = number.map_err(|source| SignatureError::OpenSsl {
            what: "read the certificate's serial number",
            source,
        })?;
        Ok(der::asn1::Uint::new(&number.to_vec())?.to_der()?)
    }

    pub(super) fn x509(&self) -> &X509 {
        &self.x509
    }
}

fn is_before_now(time: &Asn1TimeRef) -> bool {
    // A time that OpenSSL cannot compare is no reason to warn.
    Asn1Time::days_from_now(0).is_ok_and(|now| *time < now)
}

fn name(name: &X509NameRef) -> String {
    let parts: Vec<String> = name
        .entries()
        .map(|entry| {
            let key = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().as_slice();
            format!("{key}={}", crate::layer::printable(value))
        })
        .collect();
    parts.join(", ")
}
