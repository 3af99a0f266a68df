//! Taking a PKCS#7 signature apart (RFC 2315, RFC 5652), in strict DER.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use openssl::x509::X509Name;

use super::certificate::{name, sequence};
use super::pkcs7::SIGNED_DATA;
use crate::digest::hex;

/// More certificates, or signers, than any signature of an image has. Following chains among them takes
/// time that grows with the square of their number.
const MAX_ELEMENTS: usize = 64;

/// `SignedData`, nothing of which is verified.
pub(super) struct SignedData<'a> {
    pub version: u8,
    /// Type of what is signed.
    pub content_type: ObjectIdentifier,
    /// Whether what is signed is part of the message.
    pub embeds_content: bool,
    /// Certificates that the message brings along, in DER form.
    pub certificates: Vec<Vec<u8>>,
    pub signers: Vec<SignerInfo<'a>>,
}

/// `SignerInfo`: one signature.
pub(super) struct SignerInfo<'a> {
    pub version: u8,
    pub signer: SignerId<'a>,
    pub digest: ObjectIdentifier,
    /// What is signed instead of the content, where there is such a thing.
    pub attributes: Option<Attributes<'a>>,
    pub algorithm: ObjectIdentifier,
    pub signature: &'a [u8],
}

/// How a signature names the certificate of its signer.
#[derive(Clone, Copy)]
pub(super) enum SignerId<'a> {
    IssuerAndSerial {
        issuer: AnyRef<'a>,
        serial: AnyRef<'a>,
    },
    /// `subjectKeyIdentifier`.
    Key(&'a [u8]),
}

/// The signed attributes.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(&'a [u8]);

/// Type and values of one attribute.
pub(super) type Attribute<'a> = (ObjectIdentifier, Vec<AnyRef<'a>>);

impl<'a> SignedData<'a> {
    /// Reads a signature in DER form.
    pub fn read(pkcs7: &'a [u8]) -> der::Result<SignedData<'a>> {
        let mut content_info = SliceReader::new(sequence(AnyRef::from_der(pkcs7)?)?)?;
        let content_type: ObjectIdentifier = content_info.decode()?;
        if content_type != SIGNED_DATA {
            return Err(Tag::ObjectIdentifier.value_error());
        }
        let signed_data = AnyRef::from_der(explicit(content_info.decode()?)?)?;
        content_info.finish(())?;

        let mut fields = SliceReader::new(sequence(signed_data)?)?;
        let version = fields.decode()?;
        let _digest_algorithms: AnyRef<'_> = fields.decode()?;
        let mut content = SliceReader::new(sequence(fields.decode()?)?)?;
        let mut read = SignedData {
            version,
            content_type: content.decode()?,
            embeds_content: !content.is_finished(),
            certificates: Vec::new(),
            signers: Vec::new(),
        };
        while !fields.is_finished() {
            let field: AnyRef<'_> = fields.decode()?;
            let mut elements = SliceReader::new(field.value())?;
            match field.tag() {
                Tag::Set => {
                    while !elements.is_finished() {
                        read.signers.push(SignerInfo::read(elements.decode()?)?);
                        bound(read.signers.len())?;
                    }
                }
                tag if tag == context_specific(TagNumber::N0) => {
                    while !elements.is_finished() {
                        let certificate: AnyRef<'_> = elements.decode()?;
                        read.certificates.push(certificate.to_der()?);
                        bound(read.certificates.len())?;
                    }
                }
                // Revocation lists.
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> SignerInfo<'a> {
    fn read(any: AnyRef<'a>) -> der::Result<SignerInfo<'a>> {
        let mut fields = SliceReader::new(sequence(any)?)?;
        let version = fields.decode()?;
        let signer = SignerId::read(fields.decode()?)?;
        let digest = algorithm_oid(fields.decode()?)?;
        let mut next: AnyRef<'_> = fields.decode()?;
        let mut attributes = None;
        if next.tag() != Tag::Sequence {
            next.tag().assert_eq(context_specific(TagNumber::N0))?;
            attributes = Some(Attributes(next.value()));
            next = fields.decode()?;
        }
        let algorithm = algorithm_oid(next)?;
        let signature: AnyRef<'_> = fields.decode()?;
        signature.tag().assert_eq(Tag::OctetString)?;
        Ok(SignerInfo {
            version,
            signer,
            digest,
            attributes,
            algorithm,
            signature: signature.value(),
        })
    }
}

impl<'a> SignerId<'a> {
    fn read(any: AnyRef<'a>) -> der::Result<SignerId<'a>> {
        if any.tag() != Tag::Sequence {
            return Ok(SignerId::Key(any.value()));
        }
        let mut fields = SliceReader::new(any.value())?;
        Ok(SignerId::IssuerAndSerial {
            issuer: fields.decode()?,
            serial: fields.decode()?,
        })
    }

    /// The name for people.
    pub fn describe(&self) -> der::Result<String> {
        match self {
            SignerId::Key(identifier) => Ok(format!("key identifier {}", hex(identifier))),
            SignerId::IssuerAndSerial { issuer, serial } => {
                let issuer = X509Name::from_der(&issuer.to_der()?)
                    .map_err(|_| Tag::Sequence.value_error())?;
                let serial = hex(serial.value());
                Ok(format!("{}, serial number {serial}", name(&issuer)))
            }
        }
    }
}

impl<'a> Attributes<'a> {
    /// Every attribute.
    pub fn list(&self) -> der::Result<Vec<Attribute<'a>>> {
        let mut attributes = SliceReader::new(self.0)?;
        let mut list = Vec::new();
        while !attributes.is_finished() {
            let mut fields = SliceReader::new(sequence(attributes.decode()?)?)?;
            let kind = fields.decode()?;
            let set: AnyRef<'_> = fields.decode()?;
            set.tag().assert_eq(Tag::Set)?;
            let mut elements = SliceReader::new(set.value())?;
            let mut values = Vec::new();
            while !elements.is_finished() {
                values.push(elements.decode()?);
            }
            list.push((kind, values));
        }
        Ok(list)
    }

    /// The bytes that are signed: the attributes as the SET OF that they are, not under the tag that
    /// they have in the message (RFC 5652, section 5.4).
    pub fn signed_bytes(&self) -> der::Result<Vec<u8>> {
        AnyRef::new(Tag::Set, self.0)?.to_der()
    }
}

fn bound(elements: usize) -> der::Result<()> {
    if elements > MAX_ELEMENTS {
        return Err(Tag::Set.value_error());
    }
    Ok(())
}

fn algorithm_oid(any: AnyRef<'_>) -> der::Result<ObjectIdentifier> {
    SliceReader::new(sequence(any)?)?.decode()
}

fn context_specific(number: TagNumber) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number,
    }
}

/// What an explicit tag [0] holds.
fn explicit(any: AnyRef<'_>) -> der::Result<&[u8]> {
    any.tag().assert_eq(context_specific(TagNumber::N0))?;
    Ok(any.value())
}
