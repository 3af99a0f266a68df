//! The detached PKCS#7 signature over a root hash (RFC 2315, RFC 5652).
//!
//! The kernel (`crypto/asymmetric_keys/pkcs7_parser.c`) and systemd (`PKCS7_verify()`) accept
//! different sets of signatures. The one shape that both accept, and the one that systemd-repart
//! writes: SignedData version 1, content absent, no signed attributes, signer named by issuer and
//! serial number, and for RSA the algorithm `rsaEncryption`, not one that names the digest too.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, SetOfVec};
use der::{Decode, Encode, Sequence, ValueOrd};
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::{Algorithm, Certificate, SignatureError, SignatureShape, Signer};
use crate::verity::RootHash;

/// pkcs7-data (RFC 2315, section 14).
pub(super) const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// pkcs7-signedData (RFC 2315, section 14).
pub(super) const SIGNED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// id-sha256 (RFC 5754, section 2.2).
pub(super) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// id-sha384 (RFC 5754, section 2.3).
pub(super) const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
/// rsaEncryption (RFC 8017, appendix C).
pub(super) const RSA_ENCRYPTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// ecdsa-with-SHA256 (RFC 5758, section 3.2).
pub(super) const ECDSA_SHA_256: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// ecdsa-with-SHA384 (RFC 5758, section 3.2).
pub(super) const ECDSA_SHA_384: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

#[derive(Sequence)]
struct ContentInfo<'a> {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: SignedData<'a>,
}

#[derive(Sequence)]
struct SignedData<'a> {
    version: u8,
    digest_algorithms: SetOfVec<AlgorithmIdentifier<'a>>,
    content: EncapsulatedContent,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    certificates: SetOfVec<AnyRef<'a>>,
    signer_infos: SetOfVec<SignerInfo<'a>>,
}

/// The content's type alone: the content itself is what the verifier has.
#[derive(Sequence)]
struct EncapsulatedContent {
    content_type: ObjectIdentifier,
}

#[derive(Clone, Sequence, ValueOrd)]
struct SignerInfo<'a> {
    version: u8,
    signer: IssuerAndSerial<'a>,
    digest_algorithm: AlgorithmIdentifier<'a>,
    signature_algorithm: AlgorithmIdentifier<'a>,
    signature: OctetStringRef<'a>,
}

#[derive(Clone, Sequence, ValueOrd)]
struct IssuerAndSerial<'a> {
    issuer: AnyRef<'a>,
    serial: AnyRef<'a>,
}

#[derive(Clone, Copy, Sequence, ValueOrd)]
struct AlgorithmIdentifier<'a> {
    algorithm: ObjectIdentifier,
    #[asn1(optional = "true")]
    parameters: Option<AnyRef<'a>>,
}

impl AlgorithmIdentifier<'_> {
    fn with_null(algorithm: ObjectIdentifier) -> Self {
        AlgorithmIdentifier {
            algorithm,
            parameters: Some(AnyRef::NULL),
        }
    }

    fn digest(algorithm: Algorithm) -> Self {
        Self::with_null(match algorithm {
            Algorithm::RsaSha256 | Algorithm::EcdsaSha256 => SHA_256,
            Algorithm::EcdsaSha384 => SHA_384,
        })
    }

    fn signature(algorithm: Algorithm) -> Self {
        let without_parameters = |algorithm| AlgorithmIdentifier {
            algorithm,
            parameters: None,
        };
        match algorithm {
            Algorithm::RsaSha256 => Self::with_null(RSA_ENCRYPTION),
            Algorithm::EcdsaSha256 => without_parameters(ECDSA_SHA_256),
            Algorithm::EcdsaSha384 => without_parameters(ECDSA_SHA_384),
        }
    }
}

/// Signs the 64 digits of a root hash. The result, in DER form, holds the signer's certificate.
///
/// # Errors
/// What the signer or encoding gives.
pub fn sign_root_hash(
    signer: &dyn Signer,
    root_hash: &RootHash,
) -> Result<Vec<u8>, SignatureError> {
    let signature = signer.sign(root_hash.to_string().as_bytes())?;
    encode(signer.certificate(), signer.algorithm(), &signature)
}

/// The one shape that both verifiers accept, around the bytes of a signature.
pub(super) fn encode(
    certificate: &Certificate,
    algorithm: Algorithm,
    signature: &[u8],
) -> Result<Vec<u8>, SignatureError> {
    let (serial, issuer) = certificate.serial_and_issuer()?;
    let signer_info = SignerInfo {
        version: 1,
        signer: IssuerAndSerial { issuer, serial },
        digest_algorithm: AlgorithmIdentifier::digest(algorithm),
        signature_algorithm: AlgorithmIdentifier::signature(algorithm),
        signature: OctetStringRef::new(signature)?,
    };
    let signed = ContentInfo {
        content_type: SIGNED_DATA,
        content: SignedData {
            version: 1,
            digest_algorithms: SetOfVec::try_from([AlgorithmIdentifier::digest(algorithm)])?,
            content: EncapsulatedContent { content_type: DATA },
            certificates: SetOfVec::try_from([AnyRef::from_der(certificate.der())?])?,
            signer_infos: SetOfVec::try_from([signer_info])?,
        },
    };
    Ok(signed.to_der()?)
}

/// Who made a valid signature.
#[derive(Clone, Debug)]
pub struct SignedBy {
    /// The signer's certificate.
    pub certificate: Certificate,
}

/// Why a signature proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a PKCS#7 signature at all.
    #[error("the signature is no PKCS#7 structure")]
    Malformed,
    /// Neither the structure nor the caller has the signer's certificate.
    #[error("the signer's certificate is not at hand")]
    SignerUnknown,
    /// The signature does not verify.
    #[error("the signature is not over this root hash, or not by the certificate it names")]
    Invalid,
}

/// Verifies a signature over `root_hash` as systemd does, with the certificates at hand: those of
/// `certificates`, or where there is none the one that the signature brings along, which then proves
/// integrity but not trust. What the kernel thinks of the signature is another question: see
/// [`SignatureShape`].
///
/// # Errors
/// See [`Refusal`].
pub fn signer_of(
    pkcs7: &[u8],
    root_hash: &RootHash,
    certificates: &[Certificate],
) -> Result<SignedBy, Refusal> {
    // Strict DER, before OpenSSL's lenient reader sees it.
    SignatureShape::read(pkcs7)?;
    let parsed = Pkcs7::from_der(pkcs7).map_err(|_| Refusal::Malformed)?;
    let mut stack = Stack::new().map_err(|_| Refusal::Malformed)?;
    for certificate in certificates {
        let pushed = stack.push(certificate.x509().clone());
        pushed.map_err(|_| Refusal::Malformed)?;
    }
    let mut flags = Pkcs7Flags::NOVERIFY | Pkcs7Flags::BINARY;
    if !certificates.is_empty() {
        flags |= Pkcs7Flags::NOINTERN;
    }
    let signers = parsed
        .signers(&stack, flags)
        .map_err(|_| Refusal::SignerUnknown)?;
    let signer: Option<X509> = signers.iter().next().map(|signer| signer.to_owned());
    let certificate = signer
        .and_then(Certificate::from_x509)
        .ok_or(Refusal::SignerUnknown)?;
    let store = X509StoreBuilder::new()
        .map_err(|_| Refusal::Malformed)?
        .build();
    parsed
        .verify(
            &stack,
            &store,
            Some(root_hash.to_string().as_bytes()),
            None,
            flags,
        )
        .map_err(|_| Refusal::Invalid)?;
    Ok(SignedBy { certificate })
}
