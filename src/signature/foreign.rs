//! Signatures that another program made.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, Tagged};

use super::pkcs7::{encode, signer_of};
use super::{Objection, Refusal, SignatureError, SignatureShape, SigningCertificate};
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
    // With a digest that sysgraft does not use itself, but both verifiers know.
    Ok(pkcs7)
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

/// The bytes of the only signature in a PKCS#7 structure that was read before. On every level what
/// leads there is the last element: the content, the set of signers, the signer.
fn signature_value(pkcs7: &[u8]) -> Option<&[u8]> {
    let content_info = AnyRef::from_der(pkcs7).ok()?;
    let explicit = elements(content_info)?.pop()?;
    let signed_data = elements(explicit)?.pop()?;
    let signers = elements(signed_data)?.pop()?;
    let signer = elements(signers)?.pop()?;
    let fields = elements(signer)?;
    let value = fields
        .iter()
        .find(|field| field.tag() == Tag::OctetString)?;
    Some(value.value())
}

fn elements(constructed: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(constructed.value()).ok()?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.decode().ok()?);
    }
    Some(elements)
}
