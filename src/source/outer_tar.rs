//! The tar archive around an image: which members it has, and where their content lies.
//!
//! Engines and archives wrap the layers, themselves tar archives, into another one. Its headers are
//! all that matters here; the content of its members is streamed or skipped. Format:
//! POSIX.1-2017 `pax`, "ustar Interchange Format", with GNU's long names and large numbers.

use std::io::{self, Read};

use super::window::{ExactReader, FileReader};

const BLOCK: u64 = 512;

/// Bytes that an extended header may have; real ones have a few hundred.
const EXTENSION_LIMIT: u64 = 64 << 10;

/// Bytes that a name may have: Linux's `PATH_MAX`.
const NAME_LIMIT: usize = 4096;

/// A member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name, without a leading `./`.
    pub name: String,
    pub kind: MemberKind,
    /// Bytes of content.
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    /// With its target.
    Symlink(String),
    /// Hard links, directories, devices: nothing that holds a part of an image.
    Other,
}

/// Something that can be read forward, and skipped.
pub(super) trait Forward: Read {
    /// Goes `count` bytes ahead; going past the end is an error, at once or at the next read.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

impl Forward for FileReader {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        self.offset = self
            .offset
            .checked_add(count)
            .ok_or_else(|| malformed("a member reaches behind the largest possible file"))?;
        Ok(())
    }
}

/// A stream, which is skipped by reading it.
pub(super) struct Sequential<R>(pub R);

impl<R: Read> Read for Sequential<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Forward for Sequential<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.0).take(count), &mut io::sink())?;
        if skipped < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Goes through the members of an archive.
pub(super) struct Members<R> {
    source: R,
    /// Bytes up to the next header.
    ahead: u64,
}

impl<R: Forward> Members<R> {
    pub fn new(source: R) -> Members<R> {
        Members { source, ahead: 0 }
    }

    /// The next member, or `None` at the archive's end. The source stands at its content then.
    ///
    /// What is malformed comes as [`io::ErrorKind::InvalidData`].
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            let ahead = std::mem::take(&mut self.ahead);
            self.source.skip(ahead)?;
            let Some(header) = read_header(&mut self.source)? else {
                return Ok(None);
            };
            let header = Header(&header);
            header.check()?;
            let size = header.number(124..136)?;
            match header.kind() {
                kind @ (b'x' | b'L' | b'K') => {
                    let content = self.read_extension(size)?;
                    match kind {
                        b'x' => extensions.read_pax(&content)?,
                        b'L' => extensions.name = Some(until_nul(&content)?),
                        _ => extensions.target = Some(until_nul(&content)?),
                    }
                }
                b'g' => self.ahead = padded(size)?,
                b'S' => return Err(malformed("it has GNU sparse members")),
                kind => {
                    let member = member(&header, kind, size, extensions)?;
                    self.ahead = padded(member.size)?;
                    return Ok(Some(member));
                }
            }
        }
    }

    fn read_extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION_LIMIT {
            return Err(malformed("an extended header is too large"));
        }
        let mut content = Vec::new();
        let source = ExactReader::new(&mut self.source, size, "an extended header".to_owned());
        source.take(size).read_to_end(&mut content)?;
        self.ahead = padded(size)? - size;
        Ok(content)
    }

    /// The source; it stands at the content of the last member.
    pub fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// Says that `count` bytes of the last member's content were read from the source.
    pub fn advance(&mut self, count: u64) {
        self.ahead = self.ahead.saturating_sub(count);
    }
}

fn malformed(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn padded(size: u64) -> io::Result<u64> {
    size.checked_next_multiple_of(BLOCK)
        .ok_or_else(|| malformed("a member has an impossible size"))
}

/// The next header block; `None` at the end, which is a block of zeros or nothing at all.
fn read_header(source: &mut impl Read) -> io::Result<Option<[u8; 512]>> {
    let mut block = [0; 512];
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = block.get_mut(filled..) {
        match source.read(rest) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(block).filter(|block| block.iter().any(|byte| *byte != 0)))
}

struct Header<'a>(&'a [u8; 512]);

impl Header<'_> {
    fn field(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The checksum counts its own field as blanks.
    fn check(&self) -> io::Result<()> {
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = self.field(148..156).iter().map(|b| u64::from(*b)).sum();
        if self.number(148..156)? != sum - own + 8 * u64::from(b' ') {
            return Err(malformed("a tar header has a wrong checksum"));
        }
        Ok(())
    }

    /// A number in octal digits or, with the highest bit set, in GNU's base 256.
    fn number(&self, range: std::ops::Range<usize>) -> io::Result<u64> {
        let field = self.field(range);
        let wrong = || malformed("a tar header has a wrong number");
        if let [0x80, rest @ ..] = field {
            return rest.iter().try_fold(0u64, |number, byte| {
                Ok(number.checked_mul(256).ok_or_else(wrong)? | u64::from(*byte))
            });
        }
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        text.trim_ascii().iter().try_fold(0u64, |number, byte| {
            let digit = char::from(*byte).to_digit(8).ok_or_else(wrong)?;
            let number = number.checked_mul(8).ok_or_else(wrong)?;
            Ok(number + u64::from(digit))
        })
    }

    fn name(&self) -> io::Result<String> {
        let name = until_nul(self.field(0..100))?;
        let prefix = until_nul(self.field(345..500))?;
        // GNU's own format ("ustar  ") has times where POSIX has the prefix.
        if self.field(257..263) == b"ustar\0" && !prefix.is_empty() {
            return Ok(format!("{prefix}/{name}"));
        }
        Ok(name)
    }
}

fn until_nul(field: &[u8]) -> io::Result<String> {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.len() > NAME_LIMIT {
        return Err(malformed("a member's name is too long"));
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(malformed("a member's name is not UTF-8")),
    }
}

/// What the extended headers before a member say about it.
#[derive(Default)]
struct Extensions {
    name: Option<String>,
    target: Option<String>,
    size: Option<u64>,
}

impl Extensions {
    /// Records of the form `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
    fn read_pax(&mut self, mut records: &[u8]) -> io::Result<()> {
        let wrong = || malformed("a pax header is damaged");
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ');
            let (length, _) = records.split_at(blank.ok_or_else(wrong)?);
            let length: usize = std::str::from_utf8(length)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(wrong)?;
            let (record, rest) = records.split_at_checked(length).ok_or_else(wrong)?;
            let record = record
                .get(blank.map_or(0, |blank| blank + 1)..)
                .and_then(|record| record.strip_suffix(b"\n"))
                .ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let (key, value) = record.split_at(equals.ok_or_else(wrong)?);
            let value = value.get(1..).unwrap_or_default();
            match key {
                b"path" => self.name = Some(until_nul(value)?),
                b"linkpath" => self.target = Some(until_nul(value)?),
                b"size" => {
                    let digits = std::str::from_utf8(value).map_err(|_| wrong())?;
                    self.size = Some(digits.parse().map_err(|_| wrong())?);
                }
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }
}

fn member(header: &Header<'_>, kind: u8, size: u64, extensions: Extensions) -> io::Result<Member> {
    let name = match extensions.name {
        Some(name) => name,
        None => header.name()?,
    };
    let name = name.trim_start_matches("./").to_owned();
    let size = extensions.size.unwrap_or(size);
    let (kind, size) = match kind {
        b'\0' | b'0' | b'7' if !name.ends_with('/') => (MemberKind::File, size),
        b'2' => {
            let target = match extensions.target {
                Some(target) => target,
                None => until_nul(header.field(157..257))?,
            };
            (MemberKind::Symlink(target), 0)
        }
        // These have no content, whatever their size field says.
        b'1' | b'3'..=b'6' => (MemberKind::Other, 0),
        _ => (MemberKind::Other, size),
    };
    Ok(Member { name, kind, size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(bytes: &[u8]) -> io::Result<Vec<Member>> {
        let mut members = Members::new(Sequential(bytes));
        let mut all = Vec::new();
        while let Some(member) = members.next_member()? {
            all.push(member);
        }
        Ok(all)
    }

    fn header(name: &str, size: u64, kind: tar::EntryType) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_entry_type(kind);
        header.set_cksum();
        header
    }

    #[test]
    fn members_of_all_kinds_are_listed() {
        let long = format!("{}layer.tar", "d/".repeat(120));
        let mut builder = tar::Builder::new(Vec::new());
        let mut plain = header("./a/layer.tar", 700, tar::EntryType::Regular);
        builder.append(&plain, &[1; 700][..]).unwrap();
        builder
            .append_data(&mut plain, &long, &[2; 700][..])
            .unwrap();
        builder
            .append_pax_extensions([("path", b"pax.json".as_slice()), ("size", b"3")])
            .unwrap();
        builder
            .append(&header("short", 3, tar::EntryType::Regular), &b"abc"[..])
            .unwrap();
        let mut link = header("b/layer.tar", 0, tar::EntryType::Symlink);
        builder
            .append_link(&mut link, "b/layer.tar", "../a/layer.tar")
            .unwrap();
        builder
            .append(&header("a/", 0, tar::EntryType::Directory), &[][..])
            .unwrap();
        let file = |name: &str, size| Member {
            name: name.to_owned(),
            kind: MemberKind::File,
            size,
        };
        let all = members(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(
            all[..3],
            [
                file("a/layer.tar", 700),
                file(&long, 700),
                file("pax.json", 3)
            ]
        );
        assert_eq!(
            all[3].kind,
            MemberKind::Symlink("../a/layer.tar".to_owned())
        );
        assert_eq!(all[4].kind, MemberKind::Other);
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn content_can_be_read_partly() {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append(&header("a", 1000, tar::EntryType::Regular), &[1; 1000][..])
            .unwrap();
        builder
            .append(&header("b", 2, tar::EntryType::Regular), &b"xy"[..])
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut members = Members::new(Sequential(bytes.as_slice()));
        members.next_member().unwrap().unwrap();
        let mut start = [0; 300];
        members.source().read_exact(&mut start).unwrap();
        members.advance(300);
        assert_eq!(members.next_member().unwrap().unwrap().name, "b");
        let mut content = [0; 2];
        members.source().read_exact(&mut content).unwrap();
        assert_eq!(&content, b"xy");
    }

    #[test]
    fn large_sizes_in_base_256_are_understood() {
        let mut header = header("big", 0, tar::EntryType::Regular);
        header.set_size(9 << 30);
        header.set_cksum();
        let mut members = Members::new(Sequential(header.as_bytes().as_slice()));
        assert_eq!(members.next_member().unwrap().unwrap().size, 9 << 30);
        assert!(members.next_member().is_err());
    }

    #[test]
    fn damaged_and_truncated_archives_are_errors() {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append(&header("a", 1000, tar::EntryType::Regular), &[1; 1000][..])
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        assert_eq!(members(&bytes[..512 + 1024]).unwrap().len(), 1);
        for end in [1, 511, 513, 512 + 1023] {
            assert!(members(&bytes[..end]).is_err(), "{end}");
        }
        let mut wrong = bytes.clone();
        wrong[0] ^= 1;
        assert!(members(&wrong).is_err());
        assert!(members(&[b'x'; 4096]).is_err());
    }

    #[test]
    fn endless_names_and_headers_are_refused() {
        for (length, is_fine) in [(4000, true), (5000, false), (70_000, false)] {
            let mut builder = tar::Builder::new(Vec::new());
            let name = vec![b'x'; length];
            builder
                .append_pax_extensions([("path", name.as_slice())])
                .unwrap();
            builder
                .append(&header("a", 0, tar::EntryType::Regular), &[][..])
                .unwrap();
            let result = members(&builder.into_inner().unwrap());
            assert_eq!(result.is_ok(), is_fine, "{length}");
        }
    }

    #[test]
    fn huge_sizes_do_not_wrap_around() {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions([("size", b"18446744073709551615".as_slice())])
            .unwrap();
        builder
            .append(&header("a", 0, tar::EntryType::Regular), &[][..])
            .unwrap();
        assert!(members(&builder.into_inner().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            kind in prop::sample::select(b"0xLKgS21".to_vec()),
        ) {
            let _ = members(&bytes);
            if bytes.len() >= 512 {
                bytes[156] = kind;
                bytes[124..136].copy_from_slice(b"00000000777\0");
                let header = tar::Header::from_byte_slice(&bytes[..512]);
                let mut header = header.clone();
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
                let _ = members(&bytes);
            }
        }
    }
}
