//! EFI_SIGNATURE_LIST: what PK, KEK, db and dbx consist of (UEFI 2.10, section 32.4.1).

use super::Guid;

/// EFI_CERT_X509_GUID: entries are X.509 certificates in DER form.
pub const X509: Guid = Guid::from_u128(0xa5c059a1_94e4_4aa7_87b5_ab155c2bf072);
/// EFI_CERT_SHA256_GUID: entries are SHA-256 digests of images.
pub const SHA_256: Guid = Guid::from_u128(0xc1c41626_504c_4092_aca9_41f936934328);
/// EFI_CERT_X509_SHA256_GUID and its kin: entries are digests of what was signed of a revoked
/// certificate, and the time of revocation.
pub const X509_SHA_256: Guid = Guid::from_u128(0x3bd2a492_96c0_4079_b420_fcf98ef103ed);
/// EFI_CERT_X509_SHA384_GUID.
pub const X509_SHA_384: Guid = Guid::from_u128(0x7076876e_80c2_4ee6_aad2_28b349a6865b);
/// EFI_CERT_X509_SHA512_GUID.
pub const X509_SHA_512: Guid = Guid::from_u128(0x446dbf63_2502_4cda_bcfa_2465d2b0fe9d);

/// Type, list size, header size and signature size.
const LIST_HEADER: usize = Guid::BYTES + 3 * 4;
/// All attributes that a variable can have (section 8.2).
const ATTRIBUTES: u32 = 0xff;

/// What a variable or an ESL file holds: signature lists, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureDatabase {
    lists: Vec<SignatureList>,
}

/// Entries of one type and one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureList {
    kind: Guid,
    header: Vec<u8>,
    /// Bytes of an entry, its owner's GUID included; at least that.
    entry_bytes: usize,
    /// The entries, each of `entry_bytes`.
    entries: Vec<u8>,
}

/// An entry of a signature list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Who put it there.
    pub owner: Guid,
    /// The certificate or digest.
    pub data: &'a [u8],
}

/// Why bytes are no signature lists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {reason}")]
pub struct InvalidSignatureList {
    /// Where the list starts that is wrong.
    pub offset: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl SignatureDatabase {
    /// Reads an ESL file, or a variable's content.
    ///
    /// # Errors
    /// [`InvalidSignatureList`] at the first list whose sizes contradict each other or the input.
    pub fn parse(bytes: &[u8]) -> Result<SignatureDatabase, InvalidSignatureList> {
        let mut lists = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let (list, behind) = SignatureList::parse(rest)
                .map_err(|reason| InvalidSignatureList { offset, reason })?;
            lists.push(list);
            rest = behind;
        }
        Ok(SignatureDatabase { lists })
    }

    /// Reads an ESL file, or a file of efivarfs, in which four bytes of attributes come before the
    /// variable's content. The first bytes of a list, which belong to a GUID, are no attributes.
    ///
    /// # Errors
    /// As [`SignatureDatabase::parse`]; offsets count from the content's start.
    pub fn parse_file(bytes: &[u8]) -> Result<SignatureDatabase, InvalidSignatureList> {
        let content = match bytes.split_first_chunk() {
            Some((attributes, content)) if u32::from_le_bytes(*attributes) <= ATTRIBUTES => content,
            _ => bytes,
        };
        Self::parse(content)
    }

    /// The form that files and variables have.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for list in &self.lists {
            list.encode_into(&mut bytes);
        }
        bytes
    }

    /// The lists.
    pub fn lists(&self) -> &[SignatureList] {
        &self.lists
    }

    /// The certificates of all lists, in DER form as far as their owners keep their word.
    pub fn certificates(&self) -> impl Iterator<Item = Entry<'_>> {
        let lists = self.lists.iter().filter(|list| list.kind == X509);
        lists.flat_map(SignatureList::entries)
    }

    /// Adds an entry of type `kind` unless one with the same data is there, whoever owns it.
    /// `false` where it is too long to be one.
    pub fn add(&mut self, kind: Guid, entry: Entry<'_>) -> bool {
        let mut present = self.lists.iter().filter(|list| list.kind == kind);
        if present.any(|list| list.entries().any(|other| other.data == entry.data)) {
            return true;
        }
        let Some(list) = SignatureList::of(kind, entry) else {
            return false;
        };
        match self.lists.last_mut() {
            Some(last) if last.takes(&list) => last.entries.extend(list.entries),
            _ => self.lists.push(list),
        }
        true
    }
}

impl SignatureList {
    /// A list of one entry, if it fits into 32 bits.
    fn of(kind: Guid, entry: Entry<'_>) -> Option<SignatureList> {
        let mut entries = entry.owner.to_bytes().to_vec();
        entries.extend_from_slice(entry.data);
        u32::try_from(LIST_HEADER + entries.len()).ok()?;
        Some(SignatureList {
            kind,
            header: Vec::new(),
            entry_bytes: entries.len(),
            entries,
        })
    }

    /// Whether the entries of `other` can be appended. Certificates have a list each, as efitools
    /// and firmware menus write them.
    fn takes(&self, other: &SignatureList) -> bool {
        self.kind == other.kind
            && self.kind != X509
            && self.header.is_empty()
            && self.entry_bytes == other.entry_bytes
            && u32::try_from(self.bytes() + other.entries.len()).is_ok()
    }

    /// Bytes of the whole list; every list was read with a 32-bit size or is held to one.
    fn bytes(&self) -> usize {
        LIST_HEADER + self.header.len() + self.entries.len()
    }

    /// The first list in `bytes`, and what follows it.
    fn parse(bytes: &[u8]) -> Result<(SignatureList, &[u8]), &'static str> {
        let (head, rest) = bytes
            .split_first_chunk::<LIST_HEADER>()
            .ok_or("it ends within the header of a signature list")?;
        let (kind, sizes) = head.split_first_chunk().ok_or("it has no type")?;
        let field = |index: usize| {
            let bytes = sizes.iter().skip(index * 4).take(4);
            bytes
                .rev()
                .fold(0, |value, &byte| value << 8 | usize::from(byte))
        };
        let (list_bytes, header_bytes, entry_bytes) = (field(0), field(1), field(2));
        let body = list_bytes
            .checked_sub(LIST_HEADER)
            .ok_or("the list is said to be shorter than its header")?;
        let (body, behind) = rest
            .split_at_checked(body)
            .ok_or("the list is said to be longer than what is there")?;
        let (header, entries) = body
            .split_at_checked(header_bytes)
            .ok_or("the entries' header is longer than the list")?;
        if entry_bytes < Guid::BYTES {
            return Err("an entry has no room for its owner");
        }
        if entries.len() % entry_bytes != 0 {
            return Err("the list holds a fraction of an entry");
        }
        let list = SignatureList {
            kind: Guid::from_bytes(*kind),
            header: header.to_vec(),
            entry_bytes,
            entries: entries.to_vec(),
        };
        Ok((list, behind))
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.kind.to_bytes());
        for field in [self.bytes(), self.header.len(), self.entry_bytes] {
            bytes.extend(u32::try_from(field).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes.extend_from_slice(&self.header);
        bytes.extend_from_slice(&self.entries);
    }

    /// What the entries are: [`X509`], [`SHA_256`] or another type.
    pub fn kind(&self) -> Guid {
        self.kind
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries
            .chunks_exact(self.entry_bytes)
            .filter_map(|entry| {
                let (owner, data) = entry.split_first_chunk()?;
                Some(Entry {
                    owner: Guid::from_bytes(*owner),
                    data,
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWNER: Guid = Guid::from_u128(0x88a69775_5ad7_45d9_9f34_cec43e1f1989);

    fn entry(data: &[u8]) -> Entry<'_> {
        Entry { owner: OWNER, data }
    }

    #[test]
    fn certificates_have_a_list_each_and_digests_share_one() {
        let mut database = SignatureDatabase::default();
        for data in [b"aaa", b"bbb", b"aaa"] {
            assert!(database.add(X509, entry(data)));
        }
        for data in [[1; 32], [2; 32], [1; 32]] {
            assert!(database.add(SHA_256, entry(&data)));
        }
        let counts: Vec<usize> = database
            .lists()
            .iter()
            .map(|l| l.entries().count())
            .collect();
        assert_eq!(counts, [1, 1, 2]);
        assert_eq!(
            database.certificates().collect::<Vec<_>>(),
            [entry(b"aaa"), entry(b"bbb")]
        );
        let bytes = database.encode();
        assert_eq!(bytes.len(), 2 * (28 + 16 + 3) + 28 + 2 * (16 + 32));
        assert_eq!(SignatureDatabase::parse(&bytes), Ok(database.clone()));
        let variable = [&[0x27, 0, 0, 0], &bytes[..]].concat();
        assert_eq!(SignatureDatabase::parse_file(&variable), Ok(database));
    }

    #[test]
    fn an_empty_variable_is_an_empty_database() {
        assert_eq!(
            SignatureDatabase::parse(&[]),
            Ok(SignatureDatabase::default())
        );
        assert!(SignatureDatabase::parse_file(&[0; 3]).is_err());
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let mut database = SignatureDatabase::default();
        database.add(X509, entry(b"first"));
        database.add(X509, entry(b"second"));
        let good = database.encode();
        let second = 28 + 16 + 5;
        let refused = |at: usize, value: u32, where_: usize| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let error = SignatureDatabase::parse(&bytes).unwrap_err();
            assert_eq!(error.offset, where_, "{error}");
        };
        refused(16, 27, 0); // list shorter than its header
        refused(16, u32::MAX, 0); // longer than the file
        refused(20, u32::MAX, 0); // header longer than the list
        refused(24, 15, 0); // no room for an owner
        refused(24, 0, 0);
        refused(24, 20, 0); // a fraction of an entry
        refused(second + 16, 1000, second);
        for length in (0..good.len()).filter(|&length| length != 0 && length != second) {
            assert!(
                SignatureDatabase::parse(&good[..length]).is_err(),
                "{length}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(database) = SignatureDatabase::parse(&bytes) {
                prop_assert_eq!(database.encode(), bytes);
            }
        }

        #[test]
        fn whatever_is_written_is_read_back(
            entries in prop::collection::vec((any::<bool>(), any::<u128>(),
                prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cut in any::<prop::sample::Index>(),
            noise in any::<u8>(),
        ) {
            let mut database = SignatureDatabase::default();
            for (is_certificate, owner, data) in &entries {
                let kind = if *is_certificate { X509 } else { SHA_256 };
                let owner = Guid::from_u128(*owner);
                let added = database.add(kind, Entry { owner, data });
                prop_assert!(added);
            }
            let mut bytes = database.encode();
            prop_assert_eq!(SignatureDatabase::parse(&bytes), Ok(database));
            if !bytes.is_empty() {
                // A damaged file may be another valid one, but never breaks the reader.
                let index = cut.index(bytes.len());
                bytes[index] ^= noise;
                if let Ok(database) = SignatureDatabase::parse(&bytes) {
                    prop_assert_eq!(database.encode(), bytes);
                }
            }
        }
    }
}
