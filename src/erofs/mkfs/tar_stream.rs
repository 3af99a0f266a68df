//! Writing the tar archive that mkfs.erofs reads: ustar headers, with PAX records for what does not
//! fit (pax(1) of POSIX.1-2024, "pax Interchange Format").
//!
//! Nobody but mkfs.erofs reads it, so its habits count (`lib/tar.c` of erofs-utils): some versions
//! read the fraction of a time as a number of nanoseconds, so that all nine digits must be there, and
//! do not agree with others on what it means before 1970. The name of an extended attribute ends at
//! its first `=`.

use std::io::{self, Write};

use crate::layer::{Device, Xattr};
use crate::timestamp::Timestamp;

/// Headers and content fill whole blocks of so many bytes.
const BLOCK: usize = 512;
/// Bytes of the header's fields for names and for link targets.
const NAME_BYTES: usize = 100;
/// What stands in the name field of extended headers; nobody uses it.
const RECORDS_NAME: &[u8] = b"pax";

/// What a member is; the type flags of ustar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Hardlink,
    Symlink,
    CharDevice(Device),
    BlockDevice(Device),
    Directory,
    Fifo,
}

impl MemberKind {
    fn type_flag(self) -> u8 {
        match self {
            MemberKind::File => b'0',
            MemberKind::Hardlink => b'1',
            MemberKind::Symlink => b'2',
            MemberKind::CharDevice(_) => b'3',
            MemberKind::BlockDevice(_) => b'4',
            MemberKind::Directory => b'5',
            MemberKind::Fifo => b'6',
        }
    }
}

/// What the header of a member says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub kind: MemberKind,
    /// Empty for the root directory.
    pub path: &'a [u8],
    /// Where a link leads; empty for all else.
    pub target: &'a [u8],
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Before 1970 a whole second.
    pub mtime: Timestamp,
    /// Bytes of content that follow.
    pub size: u64,
    /// The extended attributes, from [`xattr_records`].
    pub xattrs: &'a [u8],
}

/// The PAX records of extended attributes, none of whose names has a `=`.
pub(super) fn xattr_records(xattrs: &[Xattr]) -> Vec<u8> {
    let mut records = Vec::new();
    for xattr in xattrs {
        let keyword = [b"SCHILY.xattr.", &xattr.name[..]].concat();
        push_record(&mut records, &keyword, &xattr.value);
    }
    records
}

/// Writes the headers of a member; its content and [`padding`] must follow.
pub(super) fn write_member(out: &mut impl Write, member: &Member<'_>) -> io::Result<()> {
    let mut records = Vec::new();
    let header = encode(member, &mut records);
    records.extend_from_slice(member.xattrs);
    if !records.is_empty() {
        let mut extended = Header::new(b'x');
        extended.put(0, RECORDS_NAME);
        // Paths and attributes are bounded: far below the 8 GiB that the field holds.
        extended.put_octal(124, 12, records.len() as u64);
        out.write_all(&extended.finish())?;
        out.write_all(&records)?;
        out.write_all(padding(records.len() as u64))?;
    }
    out.write_all(&header)
}

/// Writes the mark of the end.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// What must follow `size` bytes of content.
pub(super) fn padding(size: u64) -> &'static [u8] {
    #[allow(clippy::cast_possible_truncation)] // less than a block
    let excess = (size % BLOCK as u64) as usize;
    match excess {
        0 => &[],
        excess => &[0; BLOCK][excess..],
    }
}

/// The ustar header of a member; what does not fit goes into `records`.
fn encode(member: &Member<'_>, records: &mut Vec<u8>) -> [u8; BLOCK] {
    let mut header = Header::new(member.kind.type_flag());
    match member.path {
        b"" => header.put(0, b"./"),
        path if path.len() <= NAME_BYTES => header.put(0, path),
        path => {
            // mkfs.erofs takes a header without a name for the end
            header.put(0, RECORDS_NAME);
            push_record(records, b"path", path);
        }
    }
    match member.target {
        target if target.len() <= NAME_BYTES => header.put(157, target),
        target => push_record(records, b"linkpath", target),
    }
    header.put_octal(100, 8, member.mode.into());
    for (offset, width, keyword, value) in [
        (108, 8, &b"uid"[..], u64::from(member.uid)),
        (116, 8, b"gid", u64::from(member.gid)),
        (124, 12, b"size", member.size),
    ] {
        if !header.put_octal(offset, width, value) {
            push_record(records, keyword, value.to_string().as_bytes());
        }
    }
    let Timestamp {
        seconds,
        nanoseconds,
    } = member.mtime;
    let fits = u64::try_from(seconds).is_ok_and(|seconds| header.put_octal(136, 12, seconds));
    let time = match nanoseconds {
        0 => seconds.to_string(),
        _ => format!("{seconds}.{nanoseconds:09}"),
    };
    if !fits || nanoseconds != 0 {
        push_record(records, b"mtime", time.as_bytes());
    }
    if let MemberKind::CharDevice(device) | MemberKind::BlockDevice(device) = member.kind {
        header.put_octal(329, 8, device.major.into());
        header.put_octal(337, 8, device.minor.into());
    }
    header.finish()
}

/// A ustar header whose numbers are 0 until they are put.
struct Header([u8; BLOCK]);

impl Header {
    fn new(type_flag: u8) -> Header {
        let mut header = Header([0; BLOCK]);
        for (offset, width) in [
            (100, 8),
            (108, 8),
            (116, 8),
            (124, 12),
            (136, 12),
            (329, 8),
            (337, 8),
        ] {
            header.put_octal(offset, width, 0);
        }
        header.put(156, &[type_flag]);
        header.put(257, b"ustar\x0000");
        header
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts a number into a field, with a NUL behind it; `false` if it has too many digits.
    fn put_octal(&mut self, offset: usize, width: usize, value: u64) -> bool {
        let digits = width - 1;
        let text = format!("{value:0digits$o}");
        let fits = text.len() == digits;
        if fits {
            self.put(offset, text.as_bytes());
        }
        fits
    }

    /// The header with its checksum: the sum of all bytes, those of the checksum taken as spaces.
    fn finish(mut self) -> [u8; BLOCK] {
        self.put(148, b"        ");
        let sum: u64 = self.0.iter().copied().map(u64::from).sum();
        self.put(148, format!("{sum:06o}\0").as_bytes());
        self.0
    }
}

/// Appends `LENGTH KEYWORD=VALUE\n`, whose length counts its own digits.
fn push_record(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(keyword);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::{Entry, EntryKind, EntryPath, EntryStream, TarStream};

    fn kinds() -> impl Strategy<Value = MemberKind> {
        let device = (0_u32..4096, 0_u32..1 << 20);
        let device = device.prop_map(|(major, minor)| Device { major, minor });
        prop_oneof![
            Just(MemberKind::File),
            Just(MemberKind::Hardlink),
            Just(MemberKind::Symlink),
            Just(MemberKind::Directory),
            Just(MemberKind::Fifo),
            device.clone().prop_map(MemberKind::CharDevice),
            device.prop_map(MemberKind::BlockDevice),
        ]
    }

    fn kind_in_layer(member: &Member<'_>) -> EntryKind {
        let size = member.size;
        let target = member.target;
        match member.kind {
            MemberKind::File => EntryKind::File { size },
            MemberKind::Hardlink => EntryKind::Hardlink {
                target: EntryPath::from_archive(target).unwrap(),
            },
            MemberKind::Symlink => EntryKind::Symlink {
                target: target.to_vec(),
            },
            MemberKind::CharDevice(device) => EntryKind::CharDevice(device),
            MemberKind::BlockDevice(device) => EntryKind::BlockDevice(device),
            MemberKind::Directory => EntryKind::Directory,
            MemberKind::Fifo => EntryKind::Fifo,
        }
    }

    /// Any bytes but NUL and `/`, mostly letters.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![b'0'..=255, 1_u8..=b'.', b'a'..=b'z'];
        prop::collection::vec(byte, 1..200).prop_map(|name| [b"n", &name[..]].concat())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            kind in kinds(),
            (path, target) in (name(), name()),
            mode in 0_u16..0o10_000,
            (uid, gid) in any::<(u32, u32)>(),
            (seconds, nanoseconds) in (0_i64..1 << 40, 0_u32..1_000_000_000),
            content in prop::collection::vec(any::<u8>(), 0..2000),
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..3),
        ) {
            let is_link = matches!(kind, MemberKind::Symlink | MemberKind::Hardlink);
            let content = if kind == MemberKind::File { &content[..] } else { &[] };
            let xattrs: Vec<_> = values
                .into_iter()
                .enumerate()
                .map(|(number, value)| Xattr { name: format!("user.{number}").into(), value })
                .collect();
            let records = xattr_records(&xattrs);
            let member = Member {
                kind,
                path: &path,
                target: if is_link { &target } else { b"" },
                mode,
                uid,
                gid,
                mtime: Timestamp { seconds, nanoseconds },
                size: content.len() as u64,
                xattrs: &records,
            };
            let mut archive = Vec::new();
            write_member(&mut archive, &member).unwrap();
            archive.extend_from_slice(content);
            archive.extend_from_slice(padding(content.len() as u64));
            write_end(&mut archive).unwrap();

            let mut stream = TarStream::new(&archive[..]).with_end_mark();
            let expected = Entry {
                path: EntryPath::from_archive(&path).unwrap(),
                kind: kind_in_layer(&member),
                mode,
                uid,
                gid,
                mtime: member.mtime,
                xattrs,
            };
            let entry = stream.next_entry().unwrap().unwrap();
            prop_assert_eq!(entry, expected);
            let mut read = vec![0; content.len() + 1];
            let mut filled = 0;
            loop {
                match stream.read_content(&mut read[filled..]).unwrap() {
                    0 => break,
                    length => filled += length,
                }
            }
            prop_assert!(&read[..filled] == content);
            prop_assert!(stream.next_entry().unwrap().is_none());
            stream.finish().unwrap();
        }
    }

    #[test]
    fn records_count_their_own_length() {
        for value in [0, 1, 5, 6, 7, 90, 91, 92, 93, 985, 986, 987, 9980, 65_536] {
            let mut records = Vec::new();
            push_record(&mut records, b"path", &vec![b'x'; value]);
            let digits = records.iter().position(|&byte| byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&records[..digits])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(length, records.len(), "{value}");
        }
    }

    #[test]
    fn large_sizes_and_early_times_become_records() {
        let mut out = Vec::new();
        let member = Member {
            kind: MemberKind::File,
            path: b"x",
            target: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp {
                seconds: -2,
                nanoseconds: 0,
            },
            size: 8 << 30,
            xattrs: b"",
        };
        write_member(&mut out, &member).unwrap();
        let records = String::from_utf8_lossy(&out[512..1024]);
        assert!(records.starts_with("19 size=8589934592\n12 mtime=-2\n\0"));
    }
}
