//! Certificates that keys sign for themselves.

use std::str::FromStr;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One of the firmware's keys. As with AuroraBoot it may issue other certificates, and its use
    /// is not restricted: db signs boot loaders and extensions, and some verifiers refuse even the
    /// right restriction.
    Firmware,
    /// Signs extensions and nothing else.
    Extensions,
}

/// For how many days a certificate is valid: 1 to 36500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity(u32);

/// A number of days for which no certificate is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no number of days from 1 to 36500 (a hundred years)")]
pub struct InvalidValidity(pub String);

impl FromStr for Validity {
    type Err = InvalidValidity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(days @ 1..=36_500) => Ok(Validity(days)),
            _ => Err(InvalidValidity(text.to_owned())),
        }
    }
}

/// Bits of a serial number: positive in 20 bytes, the most that RFC 5280 allows, all of them random.
const SERIAL_BITS: i32 = 159;
/// `X509v3`.
const VERSION_3: i32 = 2;

/// A certificate for `key`, signed by itself.
pub(super) fn certify(
    key: &PKeyRef<Private>,
    name: &X509Name,
    purpose: Purpose,
    Validity(days): Validity,
) -> Result<X509, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::ONE, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(VERSION_3)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_issuer_name(name)?;
    builder.set_subject_name(name)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(days)?.as_ref())?;
    builder.set_pubkey(key)?;
    add_extensions(&mut builder, purpose)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn add_extensions(builder: &mut X509Builder, purpose: Purpose) -> Result<(), ErrorStack> {
    let mut constraints = BasicConstraints::new();
    let mut usage = KeyUsage::new();
    usage.critical().digital_signature();
    match purpose {
        Purpose::Firmware => {
            constraints.ca();
            usage.key_cert_sign().crl_sign();
        }
        Purpose::Extensions => {
            builder.append_extension(ExtendedKeyUsage::new().code_signing().build()?)?;
        }
    }
    builder.append_extension(constraints.critical().build()?)?;
    builder.append_extension(usage.build()?)?;
    let context = builder.x509v3_context(None, None);
    let subject_key = SubjectKeyIdentifier::new().build(&context)?;
    builder.append_extension(subject_key)?;
    let context = builder.x509v3_context(None, None);
    let authority_key = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
    builder.append_extension(authority_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secureboot::{KeyType, PartialSubject};

    fn made(key_type: KeyType, purpose: Purpose) -> X509 {
        let key = key_type.generate().unwrap();
        let subject = PartialSubject::default().named("test".parse().unwrap());
        let name = subject.on_certificate("db").unwrap();
        certify(&key, &name, purpose, Validity(2)).unwrap()
    }

    #[test]
    fn a_certificate_says_what_it_is_for() {
        for key_type in [KeyType::Rsa2048, KeyType::P256, KeyType::P384] {
            let firmware = made(key_type, Purpose::Firmware);
            assert!(firmware.verify(&firmware.public_key().unwrap()).unwrap());
            assert_eq!(firmware.version(), VERSION_3);
            let text = String::from_utf8(firmware.to_text().unwrap()).unwrap();
            for words in ["CA:TRUE", "Digital Signature, Certificate Sign, CRL Sign"] {
                assert!(text.contains(words), "{text}");
            }
            assert!(!text.contains("Extended Key Usage"), "{text}");
            assert_eq!(
                firmware.subject_key_id().unwrap().as_slice(),
                firmware.authority_key_id().unwrap().as_slice()
            );
            let extensions = made(key_type, Purpose::Extensions);
            let text = String::from_utf8(extensions.to_text().unwrap()).unwrap();
            for words in ["CA:FALSE", "Code Signing", "Digital Signature\n"] {
                assert!(text.contains(words), "{text}");
            }
        }
    }

    #[test]
    fn serial_numbers_are_positive_random_and_not_too_long() {
        let serial = || {
            let certificate = made(KeyType::P256, Purpose::Firmware);
            certificate.serial_number().to_bn().unwrap()
        };
        let (one, other) = (serial(), serial());
        assert_ne!(one, other);
        for serial in [one, other] {
            assert!(!serial.is_negative());
            assert_eq!(serial.num_bits(), SERIAL_BITS);
        }
    }

    #[test]
    fn validity_is_held_to_what_certificates_can_say() {
        let certificate = made(KeyType::P256, Purpose::Firmware);
        let span = certificate
            .not_before()
            .diff(certificate.not_after())
            .unwrap();
        assert_eq!((span.days, span.secs), (2, 0));
        for text in ["1", "365", "36500"] {
            assert!(text.parse::<Validity>().is_ok());
        }
        for text in [
            "0",
            "-1",
            "36501",
            "99999999999999999999",
            "",
            "1.5",
            "a year",
        ] {
            assert!(text.parse::<Validity>().is_err(), "{text}");
        }
    }
}
