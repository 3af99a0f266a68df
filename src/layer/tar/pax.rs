//! Extended headers: records of key and value that replace or extend the fields of a header.
//!
//! Sources: POSIX.1-2024 `pax`; star(5) for `SCHILY.xattr`; libarchive tar(5) for
//! `LIBARCHIVE.xattr`; the GNU tar manual, "Storing Sparse Files", for `GNU.sparse`.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::{EntryProblem, MAX_XATTR_BYTES, Xattr};
use super::sparse::SegmentList;
use crate::timestamp::Timestamp;

/// `XATTR_NAME_MAX` (`include/uapi/linux/limits.h`).
const MAX_XATTR_NAME_BYTES: usize = 255;

/// What the records of one extended header say. Keys without meaning for an image (access times,
/// user names, comments) are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    /// Bytes in the archive.
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Timestamp>,
    pub sparse: PaxSparse,
    xattrs: XattrList,
    /// The same attributes once more, as libarchive writes them besides.
    libarchive_xattrs: XattrList,
}

/// The `GNU.sparse` records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    /// The true name in formats 0.1 and 1.0.
    pub name: Option<Vec<u8>>,
    /// Bytes with holes.
    pub size: Option<u64>,
    /// The map in formats 0.0 and 0.1.
    pub map: Option<SegmentList>,
    /// The first half of a pair in format 0.0.
    offset: Option<u64>,
}

impl Pax {
    /// The records of one header: `LENGTH KEY=VALUE\n` each, where the length counts all of it.
    pub fn parse(mut records: &[u8]) -> Result<Pax, EntryProblem> {
        let mut pax = Pax::default();
        while !records.is_empty() {
            let (record, rest) = split_record(records).ok_or(EntryProblem::ExtendedHeader(
                "a record has not the length that it says",
            ))?;
            let equals = record
                .iter()
                .position(|&byte| byte == b'=')
                .ok_or(EntryProblem::ExtendedHeader("a record has no '='"))?;
            let (key, value) = record.split_at(equals);
            pax.set(key, value.get(1..).unwrap_or_default())?;
            records = rest;
        }
        if pax.sparse.offset.is_some() {
            return Err(EntryProblem::SparseMap("a piece has no length"));
        }
        Ok(pax)
    }

    /// The name of a record that only a header for one entry may have, if there is any.
    pub fn not_for_all(&self) -> Option<&'static str> {
        if self.path.is_some() {
            Some("path")
        } else if self.link_path.is_some() {
            Some("linkpath")
        } else if self.size.is_some() {
            Some("size")
        } else if !self.xattrs.list.is_empty() || !self.libarchive_xattrs.list.is_empty() {
            Some("xattr")
        } else if self.sparse != PaxSparse::default() {
            Some("GNU.sparse")
        } else {
            None
        }
    }

    /// All extended attributes, by name.
    pub fn take_xattrs(&mut self) -> Vec<Xattr> {
        let mut xattrs = std::mem::take(&mut self.libarchive_xattrs.list);
        xattrs.append(&mut self.xattrs.list);
        // The sort is stable: of those with one name, the last one counts.
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        xattrs.dedup_by(|later, earlier| {
            let same = later.name == earlier.name;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        xattrs
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryProblem> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.xattrs.push(name.to_vec(), value.to_vec());
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            return self
                .libarchive_xattrs
                .push(percent_decoded(name), base64_decoded(value)?);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(key, value);
        }
        // An empty value takes a record back, and the header's own field counts again.
        let present = !value.is_empty();
        match key {
            b"path" => self.path = present.then(|| value.to_vec()),
            b"linkpath" => self.link_path = present.then(|| value.to_vec()),
            b"size" => self.size = present.then(|| decimal(value, "size")).transpose()?,
            b"uid" => self.uid = present.then(|| owner(value, "uid")).transpose()?,
            b"gid" => self.gid = present.then(|| owner(value, "gid")).transpose()?,
            b"mtime" => {
                let mtime = || timestamp(value).ok_or(EntryProblem::Number { field: "mtime" });
                self.mtime = present.then(mtime).transpose()?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl PaxSparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryProblem> {
        let number = || decimal(value, "sparse map");
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"map" => {
                if self.map.is_some() {
                    return Err(EntryProblem::Twice("maps of its holes"));
                }
                self.set_map(value)?;
            }
            b"offset" => {
                self.offset = match self.offset {
                    None => Some(number()?),
                    Some(_) => return Err(EntryProblem::SparseMap("a piece has no length")),
                };
            }
            b"numbytes" => {
                let offset = self
                    .offset
                    .take()
                    .ok_or(EntryProblem::SparseMap("a piece has no offset"))?;
                self.map.get_or_insert_default().push(offset, number()?)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn set_map(&mut self, value: &[u8]) -> Result<(), EntryProblem> {
        let map = self.map.insert(SegmentList::default());
        let mut numbers = value
            .split(|&byte| byte == b',')
            .filter(|_| !value.is_empty());
        while let Some(offset) = numbers.next() {
            let length = numbers
                .next()
                .ok_or(EntryProblem::SparseMap("a piece has no length"))?;
            map.push(
                decimal(offset, "sparse map")?,
                decimal(length, "sparse map")?,
            )?;
        }
        Ok(())
    }
}

/// The first record without its length and newline, and what follows it.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let length = number(records.get(..space)?)?;
    let (record, rest) = records.split_at_checked(usize::try_from(length).ok()?)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

fn number(digits: &[u8]) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = all_digits.then(|| str::from_utf8(digits).ok())??;
    digits.parse().ok()
}

fn decimal(digits: &[u8], field: &'static str) -> Result<u64, EntryProblem> {
    number(digits).ok_or(EntryProblem::Number { field })
}

fn owner(digits: &[u8], field: &'static str) -> Result<u32, EntryProblem> {
    u32::try_from(decimal(digits, field)?).map_err(|_| EntryProblem::Number { field })
}

/// Seconds with an optional sign and fraction; digits behind the nanoseconds are cut off.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(point) => (value.get(..point)?, value.get(point + 1..)?),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = fraction
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    let seconds = i64::try_from(number(whole)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp::from_seconds(-seconds),
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Extended attributes in the order of the records.
#[derive(Debug, Default, PartialEq, Eq)]
struct XattrList {
    list: Vec<Xattr>,
    /// Bytes of all names and values.
    size: usize,
}

impl XattrList {
    fn push(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), EntryProblem> {
        if name.is_empty() || name.contains(&0) {
            return Err(EntryProblem::ExtendedHeader(
                "an extended attribute has no usable name",
            ));
        }
        if name.len() > MAX_XATTR_NAME_BYTES {
            return Err(EntryProblem::TooLarge {
                what: "bytes in the name of an extended attribute",
                limit: MAX_XATTR_NAME_BYTES as u64,
            });
        }
        self.size += name.len() + value.len();
        if self.size > MAX_XATTR_BYTES {
            return Err(EntryProblem::TooLarge {
                what: "bytes of extended attributes",
                limit: MAX_XATTR_BYTES as u64,
            });
        }
        self.list.push(Xattr { name, value });
        Ok(())
    }
}

fn percent_decoded(mut text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        let escaped = rest
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        text = match escaped {
            Some(_) => rest.get(2..).unwrap_or_default(),
            None => rest,
        };
    }
    decoded
}

fn base64_decoded(text: &[u8]) -> Result<Vec<u8>, EntryProblem> {
    // libarchive leaves out the padding.
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, lenient)
        .decode(text)
        .map_err(|_| EntryProblem::ExtendedHeader("an extended attribute is no base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length = (1..)
            .map(|digits| body.len() + digits)
            .find(|length| length.to_string().len() + body.len() == *length)
            .unwrap();
        [length.to_string().as_bytes(), &body].concat()
    }

    fn parse(records: &[(&str, &[u8])]) -> Result<Pax, EntryProblem> {
        let all: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        Pax::parse(&all)
    }

    #[test]
    fn records_may_hold_any_bytes() {
        let pax = parse(&[
            ("path", b"a\xff\nb=c"),
            ("SCHILY.xattr.user.b", b"\0\n="),
            ("SCHILY.xattr.user.a", b""),
            ("comment", b"\xfe"),
        ]);
        let mut pax = pax.unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\xff\nb=c"[..]));
        let xattrs = pax.take_xattrs();
        assert_eq!(xattrs.len(), 2);
        assert_eq!(xattrs[0].name, b"user.a");
        assert_eq!(xattrs[1].value, b"\0\n=");
    }

    #[test]
    fn records_that_lie_about_their_length_are_refused() {
        for records in [
            &b"7 a=bcd\n"[..],
            b"9 a=bcd\n",
            b"10 a=bcd\n",
            b"a=b\n",
            b" a=b\n",
            b"-8 a=bcd\n",
            b"+9 a=bcd\n",
            b"0 a=b\n",
            b"2 a=b\n",
            b"99999999999999999999 a=b\n",
            b"6 abc\n",
        ] {
            assert!(Pax::parse(records).is_err(), "{}", records.escape_ascii());
        }
        assert_eq!(Pax::parse(b"8 a=bcd\n"), Ok(Pax::default()));
    }

    #[test]
    fn times_have_signs_and_fractions() {
        let at = |seconds, nanoseconds| {
            Some(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(timestamp(b"12"), at(12, 0));
        assert_eq!(timestamp(b"12.5"), at(12, 500_000_000));
        assert_eq!(timestamp(b"12.0000000019"), at(12, 1));
        assert_eq!(timestamp(b"-12"), at(-12, 0));
        assert_eq!(timestamp(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(timestamp(b"-0.5"), at(-1, 500_000_000));
        for wrong in [
            &b""[..],
            b"-",
            b"1e3",
            b"1.-5",
            b"--1",
            b"9223372036854775808",
        ] {
            assert_eq!(timestamp(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn an_empty_value_takes_a_field_back() {
        let pax = parse(&[("path", b"x"), ("uid", b"1"), ("path", b""), ("uid", b"")]).unwrap();
        assert_eq!(pax, Pax::default());
    }

    #[test]
    fn numbers_that_fit_nowhere_are_refused() {
        assert!(parse(&[("uid", b"4294967296")]).is_err());
        assert!(parse(&[("uid", b"-1")]).is_err());
        assert!(parse(&[("size", b"18446744073709551616")]).is_err());
        assert!(parse(&[("size", b"+1")]).is_err());
    }

    #[test]
    fn attributes_of_libarchive_count_where_no_other_has_the_name() {
        let mut pax = parse(&[
            ("LIBARCHIVE.xattr.user.a%3Db", b"AAE"),
            ("LIBARCHIVE.xattr.user.c", b"AAE="),
            ("SCHILY.xattr.user.c", b"one"),
            ("SCHILY.xattr.user.c", b"other"),
        ])
        .unwrap();
        let xattrs = pax.take_xattrs();
        assert_eq!(xattrs.len(), 2);
        assert_eq!(
            (&xattrs[0].name[..], &xattrs[0].value[..]),
            (&b"user.a=b"[..], &[0, 1][..])
        );
        assert_eq!(xattrs[1].value, b"other");
        assert!(parse(&[("LIBARCHIVE.xattr.user.c", b"!")]).is_err());
    }

    #[test]
    fn attributes_are_limited_in_name_and_size() {
        let name = format!("SCHILY.xattr.user.{}", "a".repeat(251));
        assert!(parse(&[(&name, b"")]).is_err());
        assert!(parse(&[(&name[..name.len() - 1], b"")]).is_ok());
        assert!(parse(&[("SCHILY.xattr.", b"")]).is_err());
        let half = vec![0; MAX_XATTR_BYTES / 2];
        assert!(parse(&[("SCHILY.xattr.user.a", &half)]).is_ok());
        assert!(
            parse(&[
                ("SCHILY.xattr.user.a", &half),
                ("SCHILY.xattr.user.b", &half)
            ])
            .is_err()
        );
    }

    #[test]
    fn maps_of_sparse_files_come_as_pairs_or_as_a_list() {
        let pairs = parse(&[
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"10"),
            ("GNU.sparse.numbytes", b"5"),
            ("GNU.sparse.offset", b"50"),
            ("GNU.sparse.numbytes", b"5"),
        ])
        .unwrap();
        let list = parse(&[
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.map", b"10,5,50,5"),
        ])
        .unwrap();
        assert_eq!(pairs.sparse, list.sparse);
        for map in [&b"10"[..], b"10,5,", b"10,5,12,1", b"a,b"] {
            assert!(parse(&[("GNU.sparse.map", map)]).is_err());
        }
        assert!(parse(&[("GNU.sparse.offset", b"10")]).is_err());
        assert!(parse(&[("GNU.sparse.numbytes", b"10")]).is_err());
    }
}
