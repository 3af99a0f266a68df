//! `verify_pkcs7_signature()` of Linux 6.12, as dm-verity calls it: `pkcs7_parser.c`,
//! `pkcs7_verify.c` and `pkcs7_trust.c` in `crypto/asymmetric_keys`.
//!
//! The kernel verifies each signature with the certificate that the message brings along, follows
//! authority key identifiers from that certificate through others of the message until it meets one
//! that it trusts, and verifies with the trusted one again. Where the message has no certificate, a
//! trusted one that the signature names will do. Dates and purposes are not looked at; only a
//! signing time that the signature claims must lie within its certificate's validity. Revoked
//! certificates (`dbx`) are unknown here.

use std::cmp::Ordering;

use der::Tagged;
use der::asn1::{AnyRef, ObjectIdentifier};
use openssl::asn1::Asn1Time;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};

use super::TrustedCertificate;
use super::naming::{
    describe, have_same_name, is_named, is_self_signed, is_signed_by, key_identifier,
    names_as_authority,
};
use super::verdict::{Acceptance, Distrust, Verifier};
use crate::signature::Certificate;
use crate::signature::pkcs7::{DATA, RSA_ENCRYPTION};
use crate::signature::signed_data::{Attributes, SignedData, SignerId, SignerInfo};
use crate::verity::RootHash;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// Digests of 6.12 that OpenSSL has too: SHA-1 (RFC 3279), SHA-2 (RFC 5754), SHA-3 (NIST).
const DIGESTS: [(ObjectIdentifier, fn() -> MessageDigest); 8] = [
    (oid("1.3.14.3.2.26"), MessageDigest::sha1),
    (oid("2.16.840.1.101.3.4.2.4"), MessageDigest::sha224),
    (oid("2.16.840.1.101.3.4.2.1"), MessageDigest::sha256),
    (oid("2.16.840.1.101.3.4.2.2"), MessageDigest::sha384),
    (oid("2.16.840.1.101.3.4.2.3"), MessageDigest::sha512),
    (oid("2.16.840.1.101.3.4.2.8"), MessageDigest::sha3_256),
    (oid("2.16.840.1.101.3.4.2.9"), MessageDigest::sha3_384),
    (oid("2.16.840.1.101.3.4.2.10"), MessageDigest::sha3_512),
];
/// `ecdsa-with-…`: SHA-1 (RFC 3279), SHA-2 (RFC 5758), SHA-3 (NIST). Which one is said does not
/// matter, the digest algorithm decides.
const ECDSA: [ObjectIdentifier; 8] = [
    oid("1.2.840.10045.4.1"),
    oid("1.2.840.10045.4.3.1"),
    oid("1.2.840.10045.4.3.2"),
    oid("1.2.840.10045.4.3.3"),
    oid("1.2.840.10045.4.3.4"),
    oid("2.16.840.1.101.3.4.3.10"),
    oid("2.16.840.1.101.3.4.3.11"),
    oid("2.16.840.1.101.3.4.3.12"),
];
/// `rsa_check_key_length()` in `crypto/rsa.c`.
const RSA_BITS: [u32; 6] = [512, 1024, 1536, 2048, 3072, 4096];
/// The curves of `crypto/ecdsa.c`.
const CURVES: [Nid; 4] = [
    Nid::X9_62_PRIME192V1,
    Nid::X9_62_PRIME256V1,
    Nid::SECP384R1,
    Nid::SECP521R1,
];
/// Signatures of certificates that `x509_note_sig_algo()` does not know. The last two, for which there
/// are no names, are Ed25519 and Ed448.
const UNKNOWN_CERTIFICATES: [Nid; 5] = [
    Nid::MD5WITHRSA,
    Nid::MD5WITHRSAENCRYPTION,
    Nid::RSASSAPSS,
    Nid::from_raw(1087),
    Nid::from_raw(1088),
];

/// Attributes of PKCS#9 (RFC 2985).
const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
const SIGNING_TIME: ObjectIdentifier = oid("1.2.840.113549.1.9.5");
const SMIME_CAPABILITIES: ObjectIdentifier = oid("1.2.840.113549.1.9.15");

pub(super) fn judge(
    message: &SignedData<'_>,
    root_hash: &RootHash,
    trusted: &[TrustedCertificate],
) -> Result<Acceptance, Distrust> {
    check_format(message)?;
    let embedded = message
        .certificates
        .iter()
        .map(|der| Certificate::from_der(der).filter(is_loaded))
        .collect::<Option<Vec<_>>>()
        .ok_or(Distrust::Certificate)?;
    let trusted: Vec<&TrustedCertificate> = trusted
        .iter()
        .filter(|trusted| is_loaded(&trusted.certificate))
        .collect();
    let content = root_hash.to_string();
    let mut accepted = None;
    let mut unknown = None;
    for info in &message.signers {
        let signature = Signature::check(message, info, content.as_bytes())?;
        let chain = signature.chain(&embedded)?;
        match signature.trusted_by(&chain, &trusted)? {
            Some(acceptance) => accepted = accepted.or(Some(acceptance)),
            None => unknown = Some(describe(message, info)),
        }
    }
    accepted.ok_or(match unknown {
        Some(signer) => Distrust::Untrusted { signer },
        None => Distrust::NoSigner,
    })
}

/// What the parser refuses, and `pkcs7_supply_detached_data()`.
fn check_format(message: &SignedData<'_>) -> Result<(), Distrust> {
    if message.content_type != DATA {
        return Err(Distrust::ContentType(message.content_type));
    }
    for info in &message.signers {
        let by_key = matches!(info.signer, SignerId::Key(_));
        match (message.version, info.version, by_key) {
            (1, 1, false) | (3, 3, true) => {}
            (signed_data, signer_info, _) => {
                return Err(Distrust::Versions {
                    signed_data,
                    signer_info,
                });
            }
        }
        if info.algorithm != RSA_ENCRYPTION && !ECDSA.contains(&info.algorithm) {
            return Err(Distrust::Algorithm {
                verifier: Verifier::Kernel,
                algorithm: info.algorithm,
            });
        }
    }
    if message.embeds_content {
        return Err(Distrust::EmbeddedContent);
    }
    Ok(())
}

/// Whether the kernel can parse a certificate at all.
fn is_loaded(certificate: &Certificate) -> bool {
    let algorithm = certificate.x509().signature_algorithm().object().nid();
    !UNKNOWN_CERTIFICATES.contains(&algorithm)
}

/// A signature whose format is right.
struct Signature<'a> {
    info: &'a SignerInfo<'a>,
    digest: MessageDigest,
    /// What the signature is over, if it is one of this image.
    signed: Vec<u8>,
    /// The same, had somebody signed the root hash with a newline behind it.
    signed_with_newline: Option<Vec<u8>>,
    claimed_time: Option<Asn1Time>,
    signer: String,
}

impl<'a> Signature<'a> {
    /// `pkcs7_digest()`.
    fn check(
        message: &SignedData<'_>,
        info: &'a SignerInfo<'a>,
        content: &[u8],
    ) -> Result<Signature<'a>, Distrust> {
        let digest = DIGESTS
            .iter()
            .find(|(oid, _)| *oid == info.digest)
            .map(|(_, digest)| digest())
            .ok_or(Distrust::Digest(info.digest))?;
        let signer = describe(message, info);
        let mut signature = Signature {
            info,
            digest,
            signed: content.to_vec(),
            signed_with_newline: Some([content, b"\n"].concat()),
            claimed_time: None,
            signer,
        };
        if let Some(attributes) = &info.attributes {
            let found = SignedAttributes::read(attributes)?;
            let digest_of = |bytes: &[u8]| hash(digest, bytes).ok();
            if digest_of(content).as_deref() != Some(found.message_digest) {
                let other = [content, b"\n"].concat();
                let newline = digest_of(&other).as_deref() == Some(found.message_digest);
                return Err(if newline {
                    Distrust::Newline
                } else {
                    signature.invalid()
                });
            }
            signature.signed = attributes.signed_bytes().map_err(|_| Distrust::Malformed)?;
            signature.signed_with_newline = None;
            signature.claimed_time = found.signing_time;
        }
        Ok(signature)
    }

    /// `pkcs7_find_key()` and `pkcs7_verify_sig_chain()`: the certificates in the message from the
    /// signer's upwards, each verified with the next one.
    fn chain<'c>(&self, embedded: &'c [Certificate]) -> Result<Vec<&'c Certificate>, Distrust> {
        // By key identifier nothing is looked for in the message.
        let is_signer = |certificate: &&Certificate| {
            matches!(self.info.signer, SignerId::IssuerAndSerial { .. })
                && is_named(&self.info.signer, certificate)
        };
        let Some(signer) = embedded.iter().find(is_signer) else {
            return Ok(Vec::new());
        };
        if let Some(time) = &self.claimed_time {
            let x509 = signer.x509();
            let outside = x509.not_before().partial_cmp(time) == Some(Ordering::Greater)
                || x509.not_after().partial_cmp(time) == Some(Ordering::Less);
            if outside {
                let signer = signer.subject();
                return Err(Distrust::SigningTime { signer });
            }
        }
        if !self.verifies_with(signer)? {
            return Err(self.invalid());
        }
        let mut chain = vec![signer];
        let mut last = signer;
        while !is_self_signed(last) {
            let issuer = embedded
                .iter()
                .find(|issuer| names_as_authority(last, issuer));
            let Some(issuer) = issuer else { break };
            if chain.iter().any(|seen| seen.der() == issuer.der()) {
                break;
            }
            if !vouches_for(issuer, last) {
                return Err(self.invalid());
            }
            chain.push(issuer);
            last = issuer;
        }
        Ok(chain)
    }

    /// `pkcs7_validate_trust_one()`; `None` if nobody knows the signer.
    fn trusted_by(
        &self,
        chain: &[&Certificate],
        trusted: &[&TrustedCertificate],
    ) -> Result<Option<Acceptance>, Distrust> {
        let accept = |anchor: &TrustedCertificate| {
            let signer = chain.first().copied().unwrap_or(&anchor.certificate);
            Ok(Some(Acceptance {
                signer: signer.clone(),
                anchor: anchor.clone(),
            }))
        };
        for (position, certificate) in chain.iter().enumerate() {
            let known = trusted
                .iter()
                .find(|trusted| is_same(certificate, &trusted.certificate));
            if let Some(anchor) = known {
                let verified = match position.checked_sub(1) {
                    None => self.verifies_with(&anchor.certificate)?,
                    Some(below) => vouches_for(&anchor.certificate, chain[below]),
                };
                return if verified {
                    accept(anchor)
                } else {
                    Err(self.stranger(anchor))
                };
            }
        }
        if let Some(top) = chain.last() {
            // A root of its own that nobody knows.
            if is_self_signed(top) {
                return Ok(None);
            }
            let issuer = trusted
                .iter()
                .find(|trusted| names_as_authority(top, &trusted.certificate));
            if let Some(anchor) = issuer {
                return if vouches_for(&anchor.certificate, top) {
                    accept(anchor)
                } else {
                    let signer = self.signer.clone();
                    Err(Distrust::Untrusted { signer })
                };
            }
        }
        let direct = trusted
            .iter()
            .find(|trusted| is_named(&self.info.signer, &trusted.certificate));
        match direct {
            Some(anchor) if self.verifies_with(&anchor.certificate)? => accept(anchor),
            Some(anchor) if chain.is_empty() => Err(self.invalid_with(anchor)),
            Some(anchor) => Err(self.stranger(anchor)),
            None => Ok(None),
        }
    }

    fn verifies_with(&self, certificate: &Certificate) -> Result<bool, Distrust> {
        let Ok(key) = certificate.x509().public_key() else {
            return Ok(false);
        };
        let unsupported = |found| Distrust::Key {
            signer: certificate.subject(),
            found,
        };
        check_key(&key).map_err(unsupported)?;
        let is_rsa = key.id() == Id::RSA;
        if is_rsa != (self.info.algorithm == RSA_ENCRYPTION) {
            return Ok(false);
        }
        if self.verifies(&self.signed, &key) {
            return Ok(true);
        }
        match &self.signed_with_newline {
            Some(signed) if self.verifies(signed, &key) => Err(Distrust::Newline),
            _ => Ok(false),
        }
    }

    fn verifies(&self, signed: &[u8], key: &PKey<Public>) -> bool {
        // PKCS#1 v1.5 is OpenSSL's padding for RSA.
        let verified = openssl::sign::Verifier::new(self.digest, key)
            .and_then(|mut verifier| verifier.verify_oneshot(self.info.signature, signed));
        verified.unwrap_or(false)
    }

    fn invalid(&self) -> Distrust {
        Distrust::Invalid {
            certificate: self.signer.clone(),
        }
    }

    fn invalid_with(&self, anchor: &TrustedCertificate) -> Distrust {
        Distrust::Invalid {
            certificate: anchor.to_string(),
        }
    }

    fn stranger(&self, anchor: &TrustedCertificate) -> Distrust {
        Distrust::Stranger {
            trusted: anchor.to_string(),
        }
    }
}

/// `find_asymmetric_key()`: issuer and serial number are the same, and the key identifier, where the
/// certificate has one.
fn is_same(certificate: &Certificate, trusted: &Certificate) -> bool {
    let identifier = key_identifier(certificate.x509());
    have_same_name(certificate, trusted)
        && (identifier.is_none() || identifier == key_identifier(trusted.x509()))
}

/// Whether the kernel finds that `issuer` signed `certificate`.
fn vouches_for(issuer: &Certificate, certificate: &Certificate) -> bool {
    let key = issuer.x509().public_key();
    key.is_ok_and(|key| check_key(&key).is_ok()) && is_signed_by(certificate, issuer)
}

fn check_key(key: &PKey<Public>) -> Result<(), String> {
    let known = match key.id() {
        Id::RSA => RSA_BITS.contains(&key.bits()),
        Id::EC => key.ec_key().is_ok_and(|key| {
            key.group()
                .curve_name()
                .is_some_and(|nid| CURVES.contains(&nid))
        }),
        _ => false,
    };
    match key.id() {
        _ if known => Ok(()),
        Id::RSA => Err(format!("RSA of {} bits", key.bits())),
        Id::EC => Err("ECDSA on another curve".to_owned()),
        _ => Err("of another kind".to_owned()),
    }
}

/// What the kernel reads of signed attributes.
struct SignedAttributes<'a> {
    message_digest: &'a [u8],
    signing_time: Option<Asn1Time>,
}

impl<'a> SignedAttributes<'a> {
    /// `pkcs7_sig_note_authenticated_attr()` and `pkcs7_sig_note_set_of_authattrs()`.
    fn read(attributes: &Attributes<'a>) -> Result<SignedAttributes<'a>, Distrust> {
        let list = attributes.list().map_err(|_| Distrust::Malformed)?;
        let once = |kind| {
            let mut values = list
                .iter()
                .filter(|(found, _)| *found == kind)
                .flat_map(|(_, values)| values);
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err(Distrust::Attributes("one of them is there twice")),
            }
        };
        if once(SMIME_CAPABILITIES)?.is_some() {
            return Err(Distrust::SmimeCapabilities);
        }
        let content_type = once(CONTENT_TYPE)?.and_then(|value| value.decode_as().ok());
        if content_type != Some(DATA) {
            return Err(Distrust::Attributes("contentType is not plain data"));
        }
        let message_digest = once(MESSAGE_DIGEST)?
            .filter(|value| value.tag() == der::Tag::OctetString)
            .ok_or(Distrust::Attributes("messageDigest is missing"))?
            .value();
        let signing_time = once(SIGNING_TIME)?
            .map(|value| time(value).ok_or(Distrust::Attributes("signingTime is no time")))
            .transpose()?;
        Ok(SignedAttributes {
            message_digest,
            signing_time,
        })
    }
}

fn time(value: &AnyRef<'_>) -> Option<Asn1Time> {
    let seconds = match value.tag() {
        der::Tag::UtcTime => {
            let time: der::asn1::UtcTime = value.decode_as().ok()?;
            time.to_unix_duration().as_secs()
        }
        der::Tag::GeneralizedTime => {
            let time: der::asn1::GeneralizedTime = value.decode_as().ok()?;
            time.to_unix_duration().as_secs()
        }
        _ => return None,
    };
    Asn1Time::from_unix(i64::try_from(seconds).ok()?).ok()
}
