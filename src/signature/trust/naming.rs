//! Which certificate a signature, or another certificate, names.

use openssl::x509::{X509Ref, X509VerifyResult};

use crate::signature::Certificate;
use crate::signature::signed_data::{SignedData, SignerId, SignerInfo};

/// Whether a signature names this certificate: as both verifiers do it, by issuer and serial number,
/// or by the key identifier that is in the certificate.
pub fn is_named(signer: &SignerId<'_>, certificate: &Certificate) -> bool {
    match signer {
        SignerId::Key(identifier) => key_identifier(certificate.x509()) == Some(*identifier),
        SignerId::IssuerAndSerial { issuer, serial } => certificate
            .serial_and_issuer()
            .is_ok_and(|own| own == (*serial, *issuer)),
    }
}

/// Whether two certificates have the same issuer and serial number.
pub fn have_same_name(one: &Certificate, other: &Certificate) -> bool {
    match (one.serial_and_issuer(), other.serial_and_issuer()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// `subjectKeyIdentifier` of a certificate.
pub fn key_identifier(certificate: &X509Ref) -> Option<&[u8]> {
    certificate.subject_key_id().map(|id| id.as_slice())
}

/// Whether `certificate` says, by its extension `authorityKeyIdentifier`, that `issuer` issued it.
/// The kernel goes by that extension alone.
pub fn names_as_authority(certificate: &Certificate, issuer: &Certificate) -> bool {
    let own = certificate.x509();
    let by_key = own
        .authority_key_id()
        .map(|id| key_identifier(issuer.x509()) == Some(id.as_slice()));
    let by_name = own
        .authority_issuer()
        .and_then(|names| names.iter().find_map(|name| name.directory_name()))
        .zip(own.authority_serial())
        .map(|(name, serial)| {
            let other = issuer.x509();
            let same_serial = matches!(
                (serial.to_bn(), other.serial_number().to_bn()),
                (Ok(own), Ok(other)) if own == other
            );
            let same_name = name
                .try_cmp(other.issuer_name())
                .is_ok_and(|order| order.is_eq());
            same_serial && same_name
        });
    match (by_name, by_key) {
        (None, None) => false,
        (by_name, by_key) => by_name.unwrap_or(true) && by_key.unwrap_or(true),
    }
}

/// Whether `issuer` really issued `certificate`.
pub fn is_issued_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let named = issuer.x509().issued(certificate.x509()) == X509VerifyResult::OK;
    named && is_signed_by(certificate, issuer)
}

/// Whether the signature in `certificate` is by the key of `issuer`.
pub fn is_signed_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let key = issuer.x509().public_key();
    key.is_ok_and(|key| certificate.x509().verify(&key).unwrap_or(false))
}

/// Whether a certificate is the root of a chain.
pub fn is_self_signed(certificate: &Certificate) -> bool {
    let own = certificate.x509();
    let same = own.issuer_name().try_cmp(own.subject_name());
    same.is_ok_and(|order| order.is_eq()) && is_signed_by(certificate, certificate)
}

/// The certificate that a message brings along for one of its signatures.
pub fn embedded_signer(message: &SignedData<'_>, signer: &SignerInfo<'_>) -> Option<Certificate> {
    let certificates = message.certificates.iter();
    certificates
        .filter_map(|der| Certificate::from_der(der))
        .find(|certificate| is_named(&signer.signer, certificate))
}

/// The signer for people: by its certificate, or where there is none as the signature names it.
pub fn describe(message: &SignedData<'_>, signer: &SignerInfo<'_>) -> String {
    match embedded_signer(message, signer) {
        Some(certificate) => certificate.subject(),
        None => signer
            .signer
            .describe()
            .unwrap_or_else(|_| "somebody".to_owned()),
    }
}
