//! EFI_VARIABLE_AUTHENTICATION_2: a variable's new content with the signature that lets firmware
//! take it (UEFI 2.10, section 8.2.2).

use std::fmt;

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use openssl::error::ErrorStack;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::X509;

use super::efi_time::EfiTime;
use super::{KeyPair, SecureBootError};
use crate::efi::Guid;

/// EFI_CERT_TYPE_PKCS7_GUID.
const PKCS7: Guid = Guid::from_u128(0x4aafd29d_68df_49ee_8aa9_347d375665a7);
/// EFI_GLOBAL_VARIABLE.
const GLOBAL: Guid = Guid::from_u128(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
const IMAGE_SECURITY: Guid = Guid::from_u128(0xd719b2cb_3d3a_4596_a3bc_dad00e67656f);

/// NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS, TIME_BASED_AUTHENTICATED_WRITE_ACCESS.
const ATTRIBUTES: u32 = 0x01 | 0x02 | 0x04 | 0x20;
/// `wRevision` of WIN_CERTIFICATE.
const REVISION: u16 = 0x0200;
/// WIN_CERT_TYPE_EFI_GUID.
const EFI_GUID: u16 = 0x0ef1;
/// WIN_CERTIFICATE_UEFI_GUID up to its data: length, revision, type, GUID.
const CERTIFICATE_HEADER: usize = 4 + 2 + 2 + Guid::BYTES;

/// The variables whose keys `genkey` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The platform key: who owns the machine.
    Pk,
    /// Key exchange keys: who may change db and dbx.
    Kek,
    /// Who may sign what firmware starts.
    Db,
}

impl Variable {
    /// All of them, from the root of trust on.
    pub const ALL: [Variable; 3] = [Variable::Pk, Variable::Kek, Variable::Db];

    /// Its name, which is that of the files too.
    pub fn name(self) -> &'static str {
        match self {
            Variable::Pk => "PK",
            Variable::Kek => "KEK",
            Variable::Db => "db",
        }
    }

    /// Whose key firmware wants to see under a new value once Secure Boot is on.
    pub fn signer(self) -> Variable {
        match self {
            Variable::Pk | Variable::Kek => Variable::Pk,
            Variable::Db => Variable::Kek,
        }
    }

    /// Whose names its name is one of; firmware tells variables apart by both.
    pub fn vendor(self) -> Guid {
        match self {
            Variable::Pk | Variable::Kek => GLOBAL,
            Variable::Db => IMAGE_SECURITY,
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A signed new value of a variable: an `.auth` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatedVariable {
    time: [u8; EfiTime::BYTES],
    signature: Vec<u8>,
    content: Vec<u8>,
}

/// Why bytes are no authenticated variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthenticatedVariable {
    /// The file ends within its header or signature.
    #[error("the file ends before its signature does")]
    Truncated,
    /// The header names another kind of signature.
    #[error("it is not signed with PKCS#7")]
    NotPkcs7,
}

impl AuthenticatedVariable {
    /// Signs `content` as the new value of `variable`. Firmware that has one takes only values with
    /// a later `time`.
    ///
    /// # Errors
    /// Where OpenSSL cannot sign.
    pub fn sign(
        variable: Variable,
        content: Vec<u8>,
        time: EfiTime,
        signer: &KeyPair,
    ) -> Result<AuthenticatedVariable, SecureBootError> {
        let time = time.to_bytes();
        let message = signed_bytes(variable, &time, &content);
        let structure =
            pkcs7(signer, &message).map_err(SecureBootError::openssl("sign an EFI variable"))?;
        let signature = signed_data(&structure)?.to_vec();
        Ok(AuthenticatedVariable {
            time,
            signature,
            content,
        })
    }

    /// Reads an `.auth` file. Nothing is verified.
    ///
    /// # Errors
    /// [`InvalidAuthenticatedVariable`].
    pub fn parse(bytes: &[u8]) -> Result<AuthenticatedVariable, InvalidAuthenticatedVariable> {
        use InvalidAuthenticatedVariable::{NotPkcs7, Truncated};
        let (time, rest) = bytes.split_first_chunk().ok_or(Truncated)?;
        let (length, _) = rest.split_first_chunk().ok_or(Truncated)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Truncated)?;
        let (certificate, content) = rest.split_at_checked(length).ok_or(Truncated)?;
        let (header, signature) = certificate
            .split_at_checked(CERTIFICATE_HEADER)
            .ok_or(Truncated)?;
        if header != certificate_header(length) {
            return Err(NotPkcs7);
        }
        Ok(AuthenticatedVariable {
            time: *time,
            signature: signature.to_vec(),
            content: content.to_vec(),
        })
    }

    /// The form that firmware and its tools read.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.time.to_vec();
        bytes.extend(certificate_header(
            CERTIFICATE_HEADER + self.signature.len(),
        ));
        bytes.extend_from_slice(&self.signature);
        bytes.extend_from_slice(&self.content);
        bytes
    }

    /// The time of the signature, as it is stored.
    pub fn time(&self) -> &[u8; EfiTime::BYTES] {
        &self.time
    }

    /// The signature: PKCS#7 `SignedData` in DER form, without the `ContentInfo` around it.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The variable's value: signature lists.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// What the signature is over, if this is a value of `variable`.
    pub fn signed_bytes(&self, variable: Variable) -> Vec<u8> {
        signed_bytes(variable, &self.time, &self.content)
    }
}

/// Name in UTF-16 without an end, vendor, attributes, time, content.
fn signed_bytes(variable: Variable, time: &[u8; EfiTime::BYTES], content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 64);
    bytes.extend(variable.name().encode_utf16().flat_map(u16::to_le_bytes));
    bytes.extend(variable.vendor().to_bytes());
    bytes.extend(ATTRIBUTES.to_le_bytes());
    bytes.extend(time);
    bytes.extend(content);
    bytes
}

/// The header of a certificate of `length` bytes, header included.
fn certificate_header(length: usize) -> [u8; CERTIFICATE_HEADER] {
    // A PKCS#7 structure with one certificate has some KiB.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut header = [0; CERTIFICATE_HEADER];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..6].copy_from_slice(&REVISION.to_le_bytes());
    header[6..8].copy_from_slice(&EFI_GUID.to_le_bytes());
    header[8..].copy_from_slice(&PKCS7.to_bytes());
    header
}

/// A detached signature without attributes, by the default digest of OpenSSL, which is SHA-256 for
/// every kind of key that we have: the only one that EDK II took until 2023, even with P-384.
fn pkcs7(signer: &KeyPair, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let flags = Pkcs7Flags::DETACHED | Pkcs7Flags::NOATTR | Pkcs7Flags::BINARY;
    let others = Stack::new()?;
    let certificate = X509::from_der(signer.certificate().der())?;
    Pkcs7::sign(&certificate, signer.key(), &others, message, flags)?.to_der()
}

/// The `SignedData` within a `ContentInfo`: what the specification asks for, and older firmware
/// takes nothing else.
fn signed_data(content_info: &[u8]) -> der::Result<&[u8]> {
    let outer = AnyRef::from_der(content_info)?;
    outer.tag().assert_eq(Tag::Sequence)?;
    let mut fields = SliceReader::new(outer.value())?;
    let _content_type: AnyRef<'_> = fields.decode()?;
    let content: AnyRef<'_> = fields.decode()?;
    Ok(content.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secureboot::{KeyType, PartialSubject, Purpose};
    use proptest::prelude::*;

    fn signer(key_type: KeyType) -> KeyPair {
        let subject = PartialSubject::default().named("test".parse().unwrap());
        let validity = "1".parse().unwrap();
        KeyPair::generate(key_type, &subject, "PK", Purpose::Firmware, validity).unwrap()
    }

    #[test]
    fn every_kind_of_key_signs_as_old_firmware_wants_it() {
        const SHA_256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
        let time = EfiTime::from_unix(1_704_164_645).unwrap();
        for key_type in [KeyType::Rsa2048, KeyType::P256, KeyType::P384] {
            let signer = signer(key_type);
            let signed =
                AuthenticatedVariable::sign(Variable::Db, b"value".to_vec(), time, &signer)
                    .unwrap();
            assert_eq!(signed.content(), b"value");
            // EDK II looks for the digest at this place, and for a length of two bytes
            // (VerifyTimeBasedPayload() in SecurityPkg or MdeModulePkg, AuthService.c).
            assert_eq!(signed.signature()[..2], [0x30, 0x82]);
            assert_eq!(signed.signature()[13..22], SHA_256);
            let bytes = signed.encode();
            assert_eq!(AuthenticatedVariable::parse(&bytes), Ok(signed));
        }
    }

    #[test]
    fn what_is_signed_is_what_the_specification_says() {
        let time = EfiTime::from_unix(0).unwrap();
        let mut expected = b"K\0E\0K\0".to_vec();
        expected.extend(GLOBAL.to_bytes());
        expected.extend([0x27, 0, 0, 0]);
        expected.extend([0xb2, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"value");
        assert_eq!(
            signed_bytes(Variable::Kek, &time.to_bytes(), b"value"),
            expected
        );
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let time = EfiTime::from_unix(0).unwrap();
        let bytes = AuthenticatedVariable::sign(Variable::Pk, vec![], time, &signer(KeyType::P256))
            .unwrap()
            .encode();
        for length in 0..bytes.len() {
            assert_eq!(
                AuthenticatedVariable::parse(&bytes[..length]),
                Err(InvalidAuthenticatedVariable::Truncated)
            );
        }
        for index in 20..40 {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1;
            assert_eq!(
                AuthenticatedVariable::parse(&bytes),
                Err(InvalidAuthenticatedVariable::NotPkcs7)
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back(
            time in any::<[u8; 16]>(),
            length in 0..60_usize,
            behind in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let bytes = [&time[..], &certificate_header(length), &behind].concat();
            if let Ok(variable) = AuthenticatedVariable::parse(&bytes) {
                prop_assert_eq!(variable.encode(), bytes);
            }
        }
    }
}
