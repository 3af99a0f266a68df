//! Reading lists of certificates as firmware keeps them: `EFI_SIGNATURE_LIST` (UEFI specification
//! 2.10, section 32.4.1), in a file of its own (`.esl`) or as the value of a variable.

use uuid::{Uuid, uuid};

/// `EFI_CERT_X509_GUID`.
const X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// Bytes of type, list size, header size and signature size.
const HEADER_BYTES: usize = 28;
/// Bytes of the owner's GUID in front of every signature.
const OWNER_BYTES: usize = 16;
/// Bytes that efivarfs puts in front of a variable's value: its attributes.
const ATTRIBUTE_BYTES: usize = 4;
/// All attributes that there are (section 8.2). The first four bytes of a list, which belong to a
/// GUID, are none.
const ATTRIBUTES: u32 = 0xff;

/// A certificate in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedCertificate<'a> {
    /// Who put it there.
    pub owner: Uuid,
    /// The certificate, which should be in DER form.
    pub der: &'a [u8],
}

/// Why bytes are no signature lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignatureList {
    /// Less than a header is left.
    #[error("the signature list at byte {0} is cut off in its header")]
    Header(usize),
    /// Smaller than its own header, or larger than what there is.
    #[error("the signature list at byte {offset} claims {size} bytes, which cannot be")]
    ListSize {
        /// Where it begins.
        offset: usize,
        /// What it claims.
        size: u32,
    },
    /// The signatures do not fill the list.
    #[error("the signature list at byte {offset} has signatures of {size} bytes, which cannot be")]
    SignatureSize {
        /// Where it begins.
        offset: usize,
        /// What it claims.
        size: u32,
    },
}

/// The signature lists in the file of an EFI variable, if these bytes can be such a file.
pub fn value_of_variable(bytes: &[u8]) -> Option<&[u8]> {
    let (attributes, value) = bytes.split_first_chunk::<ATTRIBUTE_BYTES>()?;
    (u32::from_le_bytes(*attributes) <= ATTRIBUTES).then_some(value)
}

/// Every certificate in `lists`, in order. Entries of other types, for example digests, are passed
/// over.
///
/// # Errors
/// See [`InvalidSignatureList`].
pub fn certificates(lists: &[u8]) -> Result<Vec<ListedCertificate<'_>>, InvalidSignatureList> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < lists.len() {
        let rest = &lists[offset..];
        let (header, _) = rest
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(InvalidSignatureList::Header(offset))?;
        let size = number(header, 16);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let body = usize::try_from(number(header, 20))
            .ok()
            .and_then(|header| header.checked_add(HEADER_BYTES))
            .and_then(|start| rest.get(start..length))
            .ok_or(InvalidSignatureList::ListSize { offset, size })?;
        let size = number(header, 24);
        let each = usize::try_from(size).unwrap_or(usize::MAX);
        if each <= OWNER_BYTES || body.len() % each != 0 {
            return Err(InvalidSignatureList::SignatureSize { offset, size });
        }
        if guid(header) == X509 {
            found.extend(body.chunks_exact(each).map(|signature| ListedCertificate {
                owner: guid(signature),
                der: &signature[OWNER_BYTES..],
            }));
        }
        offset += length;
    }
    Ok(found)
}

fn number(header: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

/// The GUID with which `bytes` begin; there are 16 at least.
fn guid(bytes: &[u8]) -> Uuid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[..16]);
    Uuid::from_bytes_le(guid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA256: Uuid = uuid!("c1c41626-504c-4092-aca9-41f936934328");
    const OWNER: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");

    fn list(kind: Uuid, header: &[u8], signatures: &[&[u8]]) -> Vec<u8> {
        let each = OWNER_BYTES + signatures.first().map_or(32, |signature| signature.len());
        let size = HEADER_BYTES + header.len() + each * signatures.len();
        let mut bytes = kind.to_bytes_le().to_vec();
        for number in [size, header.len(), each] {
            bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        bytes.extend(header);
        for signature in signatures {
            bytes.extend(OWNER.to_bytes_le());
            bytes.extend(*signature);
        }
        bytes
    }

    fn found(lists: &[u8]) -> Vec<&[u8]> {
        let certificates = certificates(lists).unwrap();
        assert!(certificates.iter().all(|listed| listed.owner == OWNER));
        certificates.iter().map(|listed| listed.der).collect()
    }

    #[test]
    fn certificates_of_all_lists_are_found_and_nothing_else() {
        let lists = [
            list(X509, &[], &[b"one"]),
            list(SHA256, &[], &[&[7; 32], &[8; 32]]),
            list(X509, b"header", &[b"two", b"six"]),
            list(X509, &[], &[]),
        ]
        .concat();
        assert_eq!(found(&lists), [b"one", b"two", b"six"]);
        assert_eq!(found(&[]), [b""; 0]);
    }

    #[test]
    fn a_variable_is_told_from_a_list_by_its_attributes() {
        let value = list(X509, &[], &[b"one"]);
        let variable = [&[0x27, 0, 0, 0], &value[..]].concat();
        assert_eq!(value_of_variable(&variable), Some(&value[..]));
        assert_eq!(value_of_variable(&value), None);
        assert_eq!(value_of_variable(&[1, 0, 0]), None);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let good = list(X509, &[], &[b"one"]);
        let with = |offset: usize, number: u32| {
            let mut bytes = good.clone();
            bytes[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
            certificates(&bytes).unwrap_err()
        };
        for size in [0, 27, 46, 48, u32::MAX] {
            let error = with(16, size);
            assert!(!error.to_string().is_empty());
            assert!(
                matches!(
                    error,
                    InvalidSignatureList::ListSize { .. }
                        | InvalidSignatureList::SignatureSize { .. }
                ),
                "{size}: {error}"
            );
        }
        for size in [20, u32::MAX] {
            let error = with(20, size);
            assert!(matches!(error, InvalidSignatureList::ListSize { .. }));
        }
        for size in [0, 16, 18, 20, u32::MAX] {
            let error = with(24, size);
            assert!(
                matches!(error, InvalidSignatureList::SignatureSize { .. }),
                "{size}"
            );
        }
        let error = certificates(&good[..27]).unwrap_err();
        assert_eq!(error, InvalidSignatureList::Header(0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes);
        }

        #[test]
        fn changed_lists_yield_only_what_is_in_them(
            changes in prop::collection::vec((0usize..75, any::<u8>()), 0..4),
        ) {
            let mut lists = [list(X509, &[], &[b"one"]), list(SHA256, &[], &[])].concat();
            for (offset, byte) in changes {
                lists[offset] = byte;
            }
            if let Ok(certificates) = certificates(&lists) {
                let bytes: usize = certificates.iter().map(|listed| listed.der.len()).sum();
                prop_assert!(bytes < lists.len());
            }
        }
    }
}
