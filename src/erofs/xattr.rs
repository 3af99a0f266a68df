//! Extended attributes: `struct erofs_xattr_ibody_header` and `struct erofs_xattr_entry`.
//!
//! They lie behind their inode, or, if several inodes have the same, in an area of their own, and
//! the inode only has their numbers.

use std::collections::HashMap;

use super::WriteError;
use super::format::field;
use crate::layer::Xattr;
use crate::printable::printable;

/// Bytes of `struct erofs_xattr_ibody_header`.
pub(super) const HEADER_SIZE: usize = 12;
/// Bytes of `struct erofs_xattr_entry`; entries are aligned to it, shared ones are numbered by it.
pub(super) const ENTRY_SIZE: usize = 4;
/// Bytes of the number of a shared attribute.
pub(super) const SHARED_ID_SIZE: usize = 4;
/// Where the header has the count of shared attributes; `h_shared_count`, a byte.
const SHARED_COUNT_OFFSET: usize = 4;
/// Longest name including the prefix; `XATTR_NAME_MAX` of `include/uapi/linux/limits.h`.
const MAX_NAME_BYTES: usize = 255;

/// What `e_name_index` stands for; `EROFS_XATTR_INDEX_*`.
const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (5, b"lustre."),
    (6, b"security."),
];
/// The bit of `e_name_index` that tells a prefix of the image's own;
/// `EROFS_XATTR_LONG_PREFIX`.
const LONG_PREFIX: u8 = 0x80;

/// The largest size of all that lies behind one inode: 65534 units of 4 bytes and the header.
pub(super) const MAX_BODY_BYTES: usize = HEADER_SIZE + (u16::MAX as usize - 1) * ENTRY_SIZE;

/// Bytes of all attributes behind an inode whose `i_xattr_icount` is `count`
/// (`erofs_xattr_ibody_size()`).
pub(super) fn body_size(count: u16) -> usize {
    match usize::from(count) {
        0 => 0,
        count => HEADER_SIZE + (count - 1) * ENTRY_SIZE,
    }
}

/// The `i_xattr_icount` of an inode with `size` bytes of attributes, at most [`MAX_BODY_BYTES`].
fn count_of(size: usize) -> Option<u16> {
    match size {
        0 => Some(0),
        size => u16::try_from((size - HEADER_SIZE) / ENTRY_SIZE + 1).ok(),
    }
}

/// The most that all attributes of an inode may take, those that it shares included. The format sets
/// no such limit; this one keeps small images from taking much memory.
pub(super) const MAX_TOTAL_BYTES: usize = 1 << 20;

/// Attributes as they are stored behind an inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// `i_xattr_icount`.
    pub count: u16,
    /// What follows the inode.
    pub bytes: Vec<u8>,
}

/// Which attributes were seen, and those that are shared.
///
/// An attribute's first occurrence is stored behind its inode, further ones share one entry: so it
/// takes no second look at the tree, and at most one copy more than needed.
#[derive(Debug, Default)]
pub(super) struct SharedXattrs {
    /// The number of each attribute that was seen, once it has one.
    seen: HashMap<Xattr, Option<u32>>,
    /// Bytes of names and values in `seen`.
    seen_bytes: usize,
    /// The area of shared attributes.
    area: Vec<u8>,
}

/// How many different attributes are remembered; later ones are never shared.
const MAX_SEEN: usize = 1 << 16;
/// How many bytes of names and values are remembered.
const MAX_SEEN_BYTES: usize = 4 << 20;
/// Each inode can have this many shared attributes; `h_shared_count` is a byte.
const MAX_SHARED_PER_INODE: usize = u8::MAX as usize;

impl SharedXattrs {
    /// Encodes the attributes of one inode.
    pub fn encode(&mut self, xattrs: &[Xattr]) -> Result<Body, WriteError> {
        self.sort_out(xattrs)?.into_body(MAX_BODY_BYTES)
    }

    /// Encodes the attributes of one inode so that they take `limit` bytes at most, sharing those
    /// that would not fit even if nobody has the same. All that is shared stays in memory, hence
    /// this is for the root directory only.
    pub fn encode_within(&mut self, xattrs: &[Xattr], limit: usize) -> Result<Body, WriteError> {
        let mut sorted = self.sort_out(xattrs)?;
        while sorted.size() > limit && sorted.shared.len() < MAX_SHARED_PER_INODE {
            let Some(entry) = sorted.own.pop() else { break };
            sorted.shared.push(self.share(&entry));
        }
        sorted.into_body(limit)
    }

    /// Decides which attributes an inode shares.
    fn sort_out(&mut self, xattrs: &[Xattr]) -> Result<Sorted, WriteError> {
        let mut sorted = Sorted::default();
        let mut total = 0;
        for xattr in xattrs {
            let entry = encode_entry(xattr)?;
            total += entry.len();
            if total > MAX_TOTAL_BYTES {
                return Err(WriteError::XattrsTooLarge {
                    bytes: total,
                    limit: MAX_TOTAL_BYTES,
                });
            }
            match self.id_of(xattr, &entry) {
                Some(id) if sorted.shared.len() < MAX_SHARED_PER_INODE => sorted.shared.push(id),
                _ => sorted.own.push(entry),
            }
        }
        Ok(sorted)
    }

    /// The area of shared attributes.
    pub fn area(&self) -> &[u8] {
        &self.area
    }

    /// The number of `xattr` if it was seen before.
    fn id_of(&mut self, xattr: &Xattr, entry: &[u8]) -> Option<u32> {
        match self.seen.get(xattr) {
            Some(&Some(id)) => Some(id),
            Some(None) => {
                let id = self.share(entry);
                self.seen.insert(xattr.clone(), Some(id));
                Some(id)
            }
            None => {
                let bytes = xattr.name.len() + xattr.value.len();
                if self.seen.len() < MAX_SEEN && self.seen_bytes + bytes <= MAX_SEEN_BYTES {
                    self.seen_bytes += bytes;
                    self.seen.insert(xattr.clone(), None);
                }
                None
            }
        }
    }

    /// Adds an entry to the area and returns its number.
    fn share(&mut self, entry: &[u8]) -> u32 {
        // 64 KiB of an entry for each of 255 per directory: gigabytes are never reached
        #[allow(clippy::cast_possible_truncation)]
        let id = (self.area.len() / ENTRY_SIZE) as u32;
        self.area.extend_from_slice(entry);
        id
    }
}

/// The attributes of one inode: the numbers of those that it shares, and its own entries.
#[derive(Default)]
struct Sorted {
    shared: Vec<u32>,
    own: Vec<Vec<u8>>,
}

impl Sorted {
    /// Bytes behind the inode.
    fn size(&self) -> usize {
        if self.shared.is_empty() && self.own.is_empty() {
            return 0;
        }
        let own: usize = self.own.iter().map(Vec::len).sum();
        HEADER_SIZE + self.shared.len() * SHARED_ID_SIZE + own
    }

    fn into_body(self, limit: usize) -> Result<Body, WriteError> {
        let size = self.size();
        let too_large = WriteError::XattrsTooLarge { bytes: size, limit };
        let (Some(count), Ok(shared)) = (count_of(size), u8::try_from(self.shared.len())) else {
            return Err(too_large);
        };
        if size > limit {
            return Err(too_large);
        }
        let mut bytes = vec![0; HEADER_SIZE.min(size)];
        if let Some(shared_count) = bytes.get_mut(SHARED_COUNT_OFFSET) {
            *shared_count = shared;
        }
        bytes.extend(self.shared.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(self.own.into_iter().flatten());
        Ok(Body { count, bytes })
    }
}

/// One attribute as `struct erofs_xattr_entry` with its name and value, padded.
fn encode_entry(xattr: &Xattr) -> Result<Vec<u8>, WriteError> {
    let refuse = |reason| WriteError::Xattr {
        name: printable(&xattr.name),
        reason,
    };
    let (index, suffix) =
        split_prefix(&xattr.name).ok_or_else(|| refuse("is of a kind that EROFS cannot store"))?;
    if xattr.name.len() > MAX_NAME_BYTES || xattr.name.contains(&0) {
        return Err(refuse(
            "has a name that is longer than 255 bytes or has a NUL",
        ));
    }
    let name_length =
        u8::try_from(suffix.len()).map_err(|_| refuse("has a name longer than 255 bytes"))?;
    let value_size = u16::try_from(xattr.value.len())
        .map_err(|_| refuse("has a value of more than 65535 bytes, the most that EROFS stores"))?;
    let mut entry = vec![name_length, index];
    entry.extend(value_size.to_le_bytes());
    entry.extend_from_slice(suffix);
    entry.extend_from_slice(&xattr.value);
    entry.resize(entry.len().next_multiple_of(ENTRY_SIZE), 0);
    Ok(entry)
}

/// The number of the prefix of `name`, and what follows it. The names of access control lists are
/// all prefix; all others need a rest.
fn split_prefix(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(index, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() != prefix.ends_with(b".")).then_some((index, rest))
    })
}

/// What a `struct erofs_xattr_entry` says of the attribute behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryHeader {
    prefix: &'static [u8],
    name_length: usize,
    value_size: usize,
}

impl EntryHeader {
    pub fn decode(bytes: [u8; ENTRY_SIZE]) -> Result<EntryHeader, &'static str> {
        let index = bytes[1];
        if index & LONG_PREFIX != 0 {
            return Err("use a prefix of the image's own, which this program does not read");
        }
        let &(_, prefix) = PREFIXES
            .iter()
            .find(|(known, _)| *known == index)
            .ok_or("have a prefix that is not known")?;
        Ok(EntryHeader {
            prefix,
            name_length: bytes[0].into(),
            value_size: u16::from_le_bytes(field(&bytes, 2)).into(),
        })
    }

    /// Bytes of name and value, without padding.
    pub fn content_size(&self) -> usize {
        self.name_length + self.value_size
    }

    /// The attribute whose name and value are `content`, [`EntryHeader::content_size`] bytes.
    pub fn attribute(&self, content: &[u8]) -> Xattr {
        let (suffix, value) = content.split_at(self.name_length);
        Xattr {
            name: [self.prefix, suffix].concat(),
            value: value.to_vec(),
        }
    }
}

/// Splits what follows an inode into the numbers of its shared attributes and its own attributes.
pub(super) fn decode_body(body: &[u8]) -> Result<(Vec<u32>, Vec<Xattr>), &'static str> {
    const TOO_SHORT: &str = "are cut off";
    let header = body.get(..HEADER_SIZE).ok_or(TOO_SHORT)?;
    let shared = usize::from(header[SHARED_COUNT_OFFSET]) * SHARED_ID_SIZE;
    let (ids, mut entries) = body[HEADER_SIZE..]
        .split_at_checked(shared)
        .ok_or(TOO_SHORT)?;
    let ids = ids
        .chunks_exact(SHARED_ID_SIZE)
        .map(|id| u32::from_le_bytes(field(id, 0)))
        .collect();
    let mut xattrs = Vec::new();
    while !entries.is_empty() {
        let (header, rest) = entries.split_at_checked(ENTRY_SIZE).ok_or(TOO_SHORT)?;
        let header = EntryHeader::decode(field(header, 0))?;
        let content = rest.get(..header.content_size()).ok_or(TOO_SHORT)?;
        xattrs.push(header.attribute(content));
        entries = rest
            .get(content.len().next_multiple_of(ENTRY_SIZE)..)
            .ok_or(TOO_SHORT)?;
    }
    Ok((ids, xattrs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr {
            name: name.into(),
            value: value.into(),
        }
    }

    fn shared_attribute(shared: &SharedXattrs, id: u32) -> Xattr {
        let entry = &shared.area()[id as usize * ENTRY_SIZE..];
        let header = EntryHeader::decode(field(entry, 0)).unwrap();
        header.attribute(&entry[ENTRY_SIZE..][..header.content_size()])
    }

    #[test]
    fn the_second_occurrence_of_an_attribute_is_shared() {
        let mut shared = SharedXattrs::default();
        let label = xattr("security.selinux", b"system_u:object_r:bin_t:s0\0");
        let other = xattr("user.a", b"");
        let first = shared.encode(&[label.clone(), other.clone()]).unwrap();
        assert_eq!(
            decode_body(&first.bytes).unwrap(),
            (vec![], vec![label.clone(), other])
        );
        assert!(shared.area().is_empty());
        let second = shared.encode(std::slice::from_ref(&label)).unwrap();
        let third = shared.encode(std::slice::from_ref(&label)).unwrap();
        assert_eq!(second, third);
        assert_eq!(decode_body(&second.bytes).unwrap(), (vec![0], vec![]));
        assert_eq!(shared_attribute(&shared, 0), label);
    }

    #[test]
    fn attributes_that_would_not_fit_are_shared_at_once() {
        let mut shared = SharedXattrs::default();
        let large = [xattr("user.a", &[1; 3000]), xattr("user.b", &[2; 3000])];
        let body = shared.encode_within(&large, 3500).unwrap();
        assert!(body.bytes.len() <= 3500);
        let (ids, inline) = decode_body(&body.bytes).unwrap();
        assert_eq!(inline, large[..1]);
        assert_eq!(shared_attribute(&shared, ids[0]), large[1]);
    }

    #[test]
    fn names_and_values_out_of_range_are_refused() {
        let long = format!("user.{}", "n".repeat(251));
        for refused in [
            xattr("system.nfs4_acl", b""),
            xattr("system.posix_acl_access_", b""),
            xattr("user.", b""),
            xattr("user", b""),
            xattr("user.a\0b", b""),
            xattr(&long, b""),
            xattr("user.a", &[0; 65536]),
        ] {
            let mut shared = SharedXattrs::default();
            let name = refused.name.clone();
            let result = shared.encode(&[refused]);
            assert!(result.is_err(), "{}", printable(&name));
        }
    }

    #[test]
    fn more_than_an_inode_can_hold_is_refused_but_not_less() {
        let mut values: Vec<_> = (0..4)
            .map(|n| xattr(&format!("user.{n}"), &[0; 65523]))
            .collect();
        let body = SharedXattrs::default().encode(&values).unwrap();
        assert_eq!(body_size(body.count), body.bytes.len());
        assert_eq!(decode_body(&body.bytes).unwrap().1, values);
        values.push(xattr("user.4", &[0; 20]));
        let error = SharedXattrs::default().encode(&values).unwrap_err();
        assert!(matches!(error, WriteError::XattrsTooLarge { .. }));
    }

    #[test]
    fn sharing_does_not_lift_the_limit_of_all_attributes() {
        let values: Vec<_> = (0..17)
            .map(|n| xattr(&format!("user.{n}"), &[0; 65000]))
            .collect();
        let mut shared = SharedXattrs::default();
        shared.encode_within(&values[..16], 1000).unwrap();
        let error = shared.encode_within(&values, 1000).unwrap_err();
        let limit = MAX_TOTAL_BYTES;
        assert!(
            matches!(error, WriteError::XattrsTooLarge { limit: l, .. } if l == limit),
            "{error}"
        );
    }

    #[test]
    fn an_inode_shares_255_attributes_at_most() {
        let values: Vec<_> = (0..300)
            .map(|n| xattr(&format!("user.{n}"), b"value"))
            .collect();
        let mut shared = SharedXattrs::default();
        shared.encode(&values).unwrap();
        let (ids, own) = decode_body(&shared.encode(&values).unwrap().bytes).unwrap();
        assert_eq!((ids.len(), own.len()), (255, 45));
    }

    #[test]
    fn the_memory_for_attributes_that_never_come_again_is_bounded() {
        let mut shared = SharedXattrs::default();
        for n in 0..300 {
            let unique = xattr(&format!("user.{n}"), &[0; 60_000]);
            shared.encode(&[unique]).unwrap();
        }
        assert!(shared.seen_bytes <= MAX_SEEN_BYTES);
        assert!(shared.seen.len() < 80);
        assert!(shared.area().is_empty());
    }

    proptest! {
        #[test]
        fn bodies_of_any_bytes_are_read_or_refused(body: Vec<u8>) {
            let _ = decode_body(&body);
        }

        #[test]
        fn attributes_round_trip(
            names in prop::collection::btree_set("(user|trusted|security)\\.[a-z]{1,200}", 0..20),
            value: Vec<u8>,
        ) {
            let xattrs: Vec<_> = names.iter().map(|name| xattr(name, &value)).collect();
            let body = SharedXattrs::default().encode(&xattrs).unwrap();
            prop_assert_eq!(body_size(body.count), body.bytes.len());
            if !xattrs.is_empty() {
                prop_assert_eq!(decode_body(&body.bytes), Ok((vec![], xattrs)));
            }
        }
    }
}
