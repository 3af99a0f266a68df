//! The certificate that goes with a signature.

use std::cmp::Ordering;
use std::path::Path;

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::x509::{X509, X509NameRef};

use super::SignatureError;
use crate::digest::{Digest, hex};
use crate::printable::printable;

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
        Ok(Certificate::load_all(path)?.swap_remove(0))
    }

    /// Reads all certificates of a file in PEM form, or the one of a file in DER form: one at least.
    pub(super) fn load_all(path: &Path) -> Result<Vec<Certificate>, SignatureError> {
        let bytes = super::pem_signer::read_bounded("certificate", path, MAX_FILE_BYTES)?;
        let found = X509::stack_from_pem(&bytes)
            .ok()
            .filter(|found| !found.is_empty())
            // Only the first one counts, whatever follows it.
            .or_else(|| X509::from_pem(&bytes).map(|first| vec![first]).ok())
            .or_else(|| X509::from_der(&bytes).map(|only| vec![only]).ok())
            .unwrap_or_default();
        let certificates: Option<Vec<Certificate>> =
            found.into_iter().map(Certificate::from_x509).collect();
        certificates
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| SignatureError::Malformed {
                what: "certificate",
                path: path.to_path_buf(),
                hint: " or DER form",
            })
    }

    /// A certificate in DER form, without anything behind it.
    pub fn from_der(der: &[u8]) -> Option<Certificate> {
        let certificate = Certificate::from_x509(X509::from_der(der).ok()?)?;
        (certificate.der == der).then_some(certificate)
    }

    /// A certificate that OpenSSL read.
    pub(super) fn from_x509(x509: X509) -> Option<Certificate> {
        let der = x509.to_der().ok()?;
        serial_and_issuer(&der).ok()?;
        Some(Certificate { x509, der })
    }

    /// The certificate in DER form.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM form.
    pub fn pem(&self) -> Option<String> {
        String::from_utf8(self.x509.to_pem().ok()?).ok()
    }

    /// The part that its issuer signed (`TBSCertificate`), by whose digest firmware revokes it.
    pub fn to_be_signed(&self) -> &[u8] {
        to_be_signed(&self.der).unwrap_or_default()
    }

    /// Whether its subject has this organisation (`O=`).
    pub fn is_of_organisation(&self, organisation: &str) -> bool {
        let mut names = self
            .x509
            .subject_name()
            .entries_by_nid(Nid::ORGANIZATIONNAME);
        names.any(|name| name.data().as_slice() == organisation.as_bytes())
    }

    /// SHA-256 over the DER form.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Who it was issued to, for people: `CN=sysgraft example`.
    pub fn subject(&self) -> String {
        name(self.x509.subject_name())
    }

    /// Who issued it, for people.
    pub fn issuer(&self) -> String {
        name(self.x509.issuer_name())
    }

    /// The serial number that its issuer gave it, in hexadecimal.
    pub fn serial(&self) -> String {
        let serial = self.serial_and_issuer();
        serial.map_or_else(|_| String::new(), |(serial, _)| hex(serial.value()))
    }

    /// When its validity begins, for people.
    pub fn not_before(&self) -> String {
        self.x509.not_before().to_string()
    }

    /// When its validity ends, for people.
    pub fn not_after(&self) -> String {
        self.x509.not_after().to_string()
    }

    /// Whether its validity has ended.
    pub fn is_expired(&self) -> bool {
        compared_with_now(self.x509.not_after()) == Some(Ordering::Less)
    }

    /// Whether its validity has not begun.
    pub fn is_not_yet_valid(&self) -> bool {
        compared_with_now(self.x509.not_before()) == Some(Ordering::Greater)
    }

    /// Serial number and issuer, by which signatures name the certificate, exactly as they are
    /// encoded in it: verifiers compare bytes.
    pub(super) fn serial_and_issuer(&self) -> der::Result<(AnyRef<'_>, AnyRef<'_>)> {
        serial_and_issuer(&self.der)
    }

    pub(super) fn public_key(&self) -> Result<PKey<Public>, SignatureError> {
        self.x509
            .public_key()
            .map_err(|source| SignatureError::OpenSsl {
                what: "read the certificate's key",
                source,
            })
    }

    pub(super) fn x509(&self) -> &X509 {
        &self.x509
    }
}

/// The first fields of `TBSCertificate` (RFC 5280, section 4.1).
fn serial_and_issuer(certificate: &[u8]) -> der::Result<(AnyRef<'_>, AnyRef<'_>)> {
    let mut outer = SliceReader::new(sequence(AnyRef::from_der(certificate)?)?)?;
    let mut fields = SliceReader::new(sequence(outer.decode()?)?)?;
    let first: AnyRef<'_> = fields.decode()?;
    let serial = match first.tag() {
        // Version 1 has no version field.
        Tag::Integer => first,
        _ => fields.decode()?,
    };
    serial.tag().assert_eq(Tag::Integer)?;
    let _signature_algorithm: AnyRef<'_> = fields.decode()?;
    let issuer: AnyRef<'_> = fields.decode()?;
    issuer.tag().assert_eq(Tag::Sequence)?;
    Ok((serial, issuer))
}

/// The first field of `Certificate` (RFC 5280, section 4.1), as it is encoded.
fn to_be_signed(certificate: &[u8]) -> der::Result<&[u8]> {
    let mut outer = SliceReader::new(sequence(AnyRef::from_der(certificate)?)?)?;
    outer.tlv_bytes()
}

/// The fields of a SEQUENCE.
pub(super) fn sequence(any: AnyRef<'_>) -> der::Result<&[u8]> {
    any.tag().assert_eq(Tag::Sequence)?;
    Ok(any.value())
}

/// How `time` stands to now; `None` for a time that OpenSSL cannot compare.
fn compared_with_now(time: &Asn1TimeRef) -> Option<Ordering> {
    let now = Asn1Time::days_from_now(0).ok()?;
    time.partial_cmp(&now)
}

pub(super) fn name(name: &X509NameRef) -> String {
    let parts: Vec<String> = name
        .entries()
        .map(|entry| {
            let key = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().as_slice();
            format!("{key}={}", printable(value))
        })
        .collect();
    parts.join(", ")
}
