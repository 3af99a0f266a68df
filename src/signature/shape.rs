//! What a signature says of itself, and whether both verifiers can read it.
//!
//! The reasons are those of Linux 6.12 (`crypto/asymmetric_keys/pkcs7_parser.c`, `pkcs7_verify.c`)
//! and of `PKCS7_verify()` as systemd 257 calls it, and were seen in experiments with both.

use der::asn1::ObjectIdentifier;

use super::Refusal;
use super::pkcs7::{DATA, ECDSA_SHA_256, ECDSA_SHA_384, RSA_ENCRYPTION, SHA_256, SHA_384};
use super::signed_data::{SignedData, SignerId, SignerInfo};

/// id-sha512 (RFC 5754, section 2.4).
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// ecdsa-with-SHA512 (RFC 5758, section 3.2).
const ECDSA_SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
/// Every accepted digest, with its name and ECDSA with it.
const DIGESTS: [(ObjectIdentifier, &str, ObjectIdentifier); 3] = [
    (SHA_256, "SHA-256", ECDSA_SHA_256),
    (SHA_384, "SHA-384", ECDSA_SHA_384),
    (SHA_512, "SHA-512", ECDSA_SHA_512),
];

/// The shape of a detached PKCS#7 signature. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureShape {
    /// How the signature names its signer, for people: issuer and serial number, or a key
    /// identifier.
    pub signer: String,
    /// How it is made, for people: `RSA with SHA-256`.
    pub algorithm: String,
    /// Why the kernel or systemd refuses it. Empty for those that both take.
    pub objections: Vec<Objection>,
}

/// Why the kernel or systemd refuses a signature, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Version of `SignedData` or `SignerInfo`.
    #[error("it is PKCS#7 of version {0}, which systemd does not read; 1 is")]
    Version(u8),
    /// `contentType`.
    #[error("it signs content of type {0} instead of plain data; the kernel refuses that")]
    ContentType(ObjectIdentifier),
    /// `content`.
    #[error("it embeds its content, which the kernel wants to have apart; sign detached")]
    EmbeddedContent,
    /// More than one `SignerInfo`.
    #[error("it has {0} signers; one is expected")]
    Signers(usize),
    /// `subjectKeyIdentifier`.
    #[error(
        "it names its signer by key identifier, which systemd does not read; sign without -keyid"
    )]
    KeyIdentifier,
    /// `authenticatedAttributes`.
    #[error("it has signed attributes, most of which the kernel refuses; sign with -noattr")]
    SignedAttributes,
    /// `digestAlgorithm`.
    #[error(
        "its digest algorithm is {0}; SHA-256, SHA-384 and SHA-512 are the safe ones that both verifiers know"
    )]
    Digest(ObjectIdentifier),
    /// `digestEncryptionAlgorithm`.
    #[error(
        "its signature algorithm is {0}; the kernel takes rsaEncryption, or ECDSA with the digest that is used"
    )]
    Algorithm(ObjectIdentifier),
}

impl SignatureShape {
    /// Reads a signature in DER form.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] where it is none, [`Refusal::SignerUnknown`] where nobody has signed.
    pub fn read(pkcs7: &[u8]) -> Result<SignatureShape, Refusal> {
        read(pkcs7)
            .map_err(|_| Refusal::Malformed)?
            .ok_or(Refusal::SignerUnknown)
    }
}

fn read(pkcs7: &[u8]) -> der::Result<Option<SignatureShape>> {
    let mut objections = Vec::new();
    let SignedData {
        version,
        content_type,
        embeds_content,
        signers,
        ..
    } = SignedData::read(pkcs7)?;
    let Some(signer) = signers.first() else {
        return Ok(None);
    };

    let mut object = |applies: bool, objection| {
        if applies {
            objections.push(objection);
        }
    };
    object(version != 1, Objection::Version(version));
    object(content_type != DATA, Objection::ContentType(content_type));
    object(embeds_content, Objection::EmbeddedContent);
    object(signers.len() != 1, Objection::Signers(signers.len()));
    let by_key = matches!(signer.signer, SignerId::Key(_));
    object(by_key, Objection::KeyIdentifier);
    object(
        signer.version != 1 && version == 1 && !by_key,
        Objection::Version(signer.version),
    );
    object(signer.attributes.is_some(), Objection::SignedAttributes);
    let digest = DIGESTS.iter().find(|(oid, ..)| *oid == signer.digest);
    object(digest.is_none(), Objection::Digest(signer.digest));
    let (algorithm, known) = algorithm(signer, digest);
    object(!known, Objection::Algorithm(signer.algorithm));
    Ok(Some(SignatureShape {
        signer: signer.signer.describe()?,
        algorithm,
        objections,
    }))
}

/// The algorithm for people, and whether the kernel knows it under that name.
fn algorithm(
    signer: &SignerInfo<'_>,
    digest: Option<&(ObjectIdentifier, &str, ObjectIdentifier)>,
) -> (String, bool) {
    let (digest_name, ecdsa) = match digest {
        Some(&(_, name, ecdsa)) => (name.to_owned(), Some(ecdsa)),
        None => (signer.digest.to_string(), None),
    };
    match signer.algorithm {
        RSA_ENCRYPTION => (format!("RSA with {digest_name}"), true),
        oid if Some(oid) == ecdsa => (format!("ECDSA with {digest_name}"), true),
        oid => (format!("{oid} with {digest_name}"), false),
    }
}
