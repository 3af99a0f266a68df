//! Signatures that another program made.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::pkcs7::{encode, signer_of};
use super::signed_data::SignedData;
use super::trust::{Distrust, Form, Origin, TrustStore, Verifier};
use super::{
    Objection, Refusal, SignatureError, SignaturePartition, SignatureShape, SigningCertificate,
};
use crate::verity::RootHash;

/// Why a signature that was made elsewhere cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignSignatureError {
    /// An S/MIME message.
    #[error("it is an S/MIME message; make it with -outform DER")]
    Mime,
    /// None of the known forms.
    #[error("it is no PKCS#7 signature in DER, PEM or base64 form")]
    Malformed,
    /// Not in the shape that both verifiers take.
    #[error(transparent)]
    Shape(#[from] Objection),
    /// It names another signer.
    #[error("it is by {found}, not by certificate {certificate}")]
    OtherSigner {
        /// Issuer and serial number.
        found: String,
        /// File of the certificate.
        certificate: String,
    },
    /// Something else was signed.
    #[error(
        "it is not over root hash {root_hash} by certificate {certificate}; it may have been made for another image"
    )]
    OtherContent {
        /// The image's.
        root_hash: RootHash,
        /// File of the certificate.
        certificate: String,
    },
    /// One of the verifiers would not take it.
    #[error("{verifier} would refuse it: {distrust}")]
    Distrusted {
        /// Which.
        verifier: Verifier,
        /// Why.
        distrust: Distrust,
    },
    /// A frequent mistake.
    #[error("it is over the root hash and a line break; sign the 64 digits alone")]
    LineBreak,
    /// The signature could not be encoded anew.
    #[error(transparent)]
    Encode(#[from] SignatureError),
}

/// Takes over a PKCS#7 signature in DER, PEM or base64 form, if it is over `root_hash`, by
/// `certificate`, and in the shape that the kernel and systemd both accept.
///
/// The result holds that certificate and no other, so that it equals what
/// [`sign_root_hash`](super::sign_root_hash) makes with the same signature value.
///
/// # Errors
/// See [`ForeignSignatureError`].
pub fn accept_signature(
    file: &[u8],
    root_hash: &RootHash,
    certificate: &SigningCertificate,
) -> Result<Vec<u8>, ForeignSignatureError> {
    let pkcs7 = to_der(file)?;
    let malformed = |_| ForeignSignatureError::Malformed;
    let shape = SignatureShape::read(&pkcs7).map_err(malformed)?;
    if let Some(objection) = shape.objections.into_iter().next() {
        return Err(objection.into());
    }
    let name = || certificate.origin().to_owned();
    let value = signature_value(&pkcs7).ok_or(ForeignSignatureError::Malformed)?;
    let message = root_hash.to_string();
    match signer_of(
        &pkcs7,
        root_hash,
        std::slice::from_ref(certificate.certificate()),
    ) {
        Ok(_) => {}
        Err(Refusal::Malformed) => return Err(ForeignSignatureError::Malformed),
        Err(Refusal::SignerUnknown) => {
            return Err(ForeignSignatureError::OtherSigner {
                found: shape.signer,
                certificate: name(),
            });
        }
        Err(Refusal::Invalid) if certificate.verifies(format!("{message}\n").as_bytes(), value) => {
            return Err(ForeignSignatureError::LineBreak);
        }
        Err(Refusal::Invalid) => {
            return Err(ForeignSignatureError::OtherContent {
                root_hash: *root_hash,
                certificate: name(),
            });
        }
    }
    if certificate.verifies(message.as_bytes(), value) {
        let algorithm = certificate.algorithm();
        let encoded = encode(certificate.certificate(), algorithm, value)?;
        return Ok(encoded);
    }
    // With a digest that sysgraft does not use itself; perhaps both verifiers know it.
    judge_whole(&pkcs7, root_hash, certificate)?;
    Ok(pkcs7)
}

/// Passes if systemd and the kernel take the message as it is, other certificates in it included.
fn judge_whole(
    pkcs7: &[u8],
    root_hash: &RootHash,
    certificate: &SigningCertificate,
) -> Result<(), ForeignSignatureError> {
    let mut trusted = TrustStore::new();
    let origin = Origin {
        path: certificate.origin().into(),
        form: Form::Der,
    };
    trusted.add(certificate.certificate().clone(), origin);
    let signature = SignaturePartition {
        root_hash: *root_hash,
        certificate_fingerprint: None,
        pkcs7: pkcs7.to_vec(),
    };
    let verdict = trusted.judge(&signature, root_hash);
    for verifier in [Verifier::Systemd, Verifier::Kernel] {
        if let Err(distrust) = verdict.of(verifier) {
            let distrust = distrust.clone();
            return Err(ForeignSignatureError::Distrusted { verifier, distrust });
        }
    }
    Ok(())
}

fn to_der(file: &[u8]) -> Result<Vec<u8>, ForeignSignatureError> {
    const DER_SEQUENCE: u8 = 0x30;
    if file.first() == Some(&DER_SEQUENCE) && SignatureShape::read(file).is_ok() {
        return Ok(file.to_vec());
    }
    let text = std::str::from_utf8(file).map_err(|_| ForeignSignatureError::Malformed)?;
    let text = text.trim();
    if text.starts_with("MIME-Version:") || text.starts_with("Content-Type:") {
        return Err(ForeignSignatureError::Mime);
    }
    // OpenSSL writes PKCS7 or CMS into the frame of one and the same structure.
    let framed = text.strip_prefix("-----BEGIN ").and_then(|rest| {
        let (_, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        Some(body)
    });
    let body: String = framed.unwrap_or(text).split_ascii_whitespace().collect();
    STANDARD
        .decode(body)
        .map_err(|_| ForeignSignatureError::Malformed)
}

/// The bytes of the only signature in a PKCS#7 structure.
fn signature_value(pkcs7: &[u8]) -> Option<&[u8]> {
    let message = SignedData::read(pkcs7).ok()?;
    match &message.signers[..] {
        [signer] => Some(signer.signature),
        _ => None,
    }
}
