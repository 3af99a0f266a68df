//! The 512 byte header before every entry.
//!
//! Sources: POSIX.1-2024 `pax` (ustar and PAX), GNU tar `src/tar.h` (GNU).

use std::ops::Range;

/// Bytes of a header, and of the units in which an archive is written.
pub const BLOCK_BYTES: usize = 512;

/// A block that may be a header.
pub struct Header([u8; BLOCK_BYTES]);

/// Which fields a header has besides the oldest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Unix Version 7: no prefix, and directories are known by a trailing slash.
    V7,
    /// POSIX ustar; PAX uses the same header.
    Ustar,
    /// GNU: sparse files instead of a prefix.
    Gnu,
}

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;
const EXTENSION_SPARSE: Range<usize> = 0..504;
const EXTENSION_IS_EXTENDED: usize = 504;

impl Header {
    pub fn new(block: [u8; BLOCK_BYTES]) -> Header {
        Header(block)
    }

    /// Whether this is one of the two blocks that end an archive.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK_BYTES]
    }

    /// Whether the checksum holds, in the standard's way or in that of old programs which summed
    /// signed bytes.
    pub fn has_valid_checksum(&self) -> bool {
        let Some(stored) = self.number(CHECKSUM) else {
            return false;
        };
        // The field itself counts as blanks, the standard says.
        let blanks = 8 * i32::from(b' ');
        let sum = |value: fn(u8) -> i32| {
            let all: i32 = self.0.iter().map(|&byte| value(byte)).sum();
            let field: i32 = self.bytes(CHECKSUM).iter().map(|&byte| value(byte)).sum();
            i128::from(all - field + blanks)
        };
        stored == sum(i32::from) || stored == sum(|byte| i32::from(byte.cast_signed()))
    }

    pub fn dialect(&self) -> Dialect {
        match self.bytes(MAGIC) {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub fn entry_type(&self) -> u8 {
        self.0[TYPE]
    }

    /// The whole name, prefix included.
    pub fn name(&self) -> Vec<u8> {
        let name = self.text(NAME);
        if self.dialect() == Dialect::Ustar {
            let prefix = self.text(PREFIX);
            if !prefix.is_empty() {
                return [prefix, b"/", name].concat();
            }
        }
        name.to_vec()
    }

    pub fn link_name(&self) -> &[u8] {
        self.text(LINK_NAME)
    }

    pub fn mode(&self) -> Option<i128> {
        self.number(MODE)
    }

    pub fn uid(&self) -> Option<i128> {
        self.number(UID)
    }

    pub fn gid(&self) -> Option<i128> {
        self.number(GID)
    }

    pub fn size(&self) -> Option<i128> {
        self.number(SIZE)
    }

    pub fn mtime(&self) -> Option<i128> {
        self.number(MTIME)
    }

    pub fn device_major(&self) -> Option<i128> {
        self.number(DEVICE_MAJOR)
    }

    pub fn device_minor(&self) -> Option<i128> {
        self.number(DEVICE_MINOR)
    }

    /// Size of a GNU sparse file with its holes.
    pub fn gnu_real_size(&self) -> Option<i128> {
        self.number(GNU_REAL_SIZE)
    }

    /// The start of a GNU sparse file's map, and whether an extension block continues it.
    pub fn gnu_sparse(&self) -> SparseTable<'_> {
        SparseTable {
            table: self.bytes(GNU_SPARSE),
            continues: self.0[GNU_IS_EXTENDED] != 0,
        }
    }

    fn bytes(&self, field: Range<usize>) -> &[u8] {
        self.0.get(field).unwrap_or_default()
    }

    /// Up to the first NUL.
    fn text(&self, field: Range<usize>) -> &[u8] {
        until_nul(self.bytes(field))
    }

    fn number(&self, field: Range<usize>) -> Option<i128> {
        number(self.bytes(field))
    }
}

/// A part of a GNU sparse file's map.
pub struct SparseTable<'a> {
    table: &'a [u8],
    /// Whether another block of the map follows.
    pub continues: bool,
}

impl SparseTable<'_> {
    /// A block that holds nothing but a part of the map.
    pub fn extension(block: &[u8; BLOCK_BYTES]) -> SparseTable<'_> {
        SparseTable {
            table: block.get(EXTENSION_SPARSE).unwrap_or_default(),
            continues: block[EXTENSION_IS_EXTENDED] != 0,
        }
    }

    /// Offset and length of each piece of data, where they are numbers.
    pub fn segments(&self) -> impl Iterator<Item = (Option<i128>, Option<i128>)> {
        self.table
            .chunks_exact(24)
            .map(|row| row.split_at(12))
            .take_while(|(offset, _)| offset.first() != Some(&0))
            .map(|(offset, length)| (number(offset), number(length)))
    }
}

pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in binary where the first bit is set (GNU and star). A blank field
/// is 0.
fn number(field: &[u8]) -> Option<i128> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement in the bits behind the mark; twelve bytes at most, so nothing is lost.
        let sign_extended = i128::from((first << 1).cast_signed() >> 1);
        return Some(
            rest.iter()
                .fold(sign_extended, |value, &byte| value << 8 | i128::from(byte)),
        );
    }
    let mut digits = field.trim_ascii_start();
    while let Some(rest) = digits.strip_prefix(b"\0") {
        digits = rest;
    }
    let digits = digits
        .split(|byte| matches!(byte, 0 | b' '))
        .next()
        .unwrap_or_default();
    digits.iter().try_fold(0, |value, &byte| match byte {
        b'0'..=b'7' => Some(value << 3 | i128::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_in_all_their_spellings() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-000001\0"), None);
    }

    #[test]
    fn numbers_are_binary_where_the_first_bit_says_so() {
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(&[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00
            ]),
            Some(-256)
        );
        assert_eq!(
            number(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Some((1 << 62) - 1)
        );
        assert_eq!(number(&[0xc0, 0, 0, 0, 0, 0, 0, 0]), Some(-(1 << 62)));
    }

    #[test]
    fn both_kinds_of_checksum_hold_and_no_other() {
        let mut block = [0; BLOCK_BYTES];
        block[..3].copy_from_slice(b"\xe4\xf6x");
        let unsigned: u32 = block.iter().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        for (sum, holds) in [
            (unsigned, true),
            (unsigned - 512, true),
            (unsigned + 1, false),
        ] {
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(Header::new(block).has_valid_checksum(), holds);
        }
        block[CHECKSUM].copy_from_slice(b"12x456\0 ");
        assert!(!Header::new(block).has_valid_checksum());
    }
}
