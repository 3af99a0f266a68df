//! Archives made byte by byte, mostly hostile ones.

use super::*;
use crate::layer::MAX_XATTR_BYTES;

/// A ustar header that [`Block::done`] completes with its checksum.
struct Block([u8; BLOCK_BYTES]);

fn block(name: &[u8], entry_type: u8, size: u64) -> Block {
    let mut block = Block([0; BLOCK_BYTES])
        .at(0, name)
        .at(100, b"0000644\0")
        .at(108, b"0000001\0")
        .at(116, b"0000002\0")
        .at(124, format!("{size:011o}\0").as_bytes())
        .at(136, b"00000000010\0")
        .at(257, b"ustar\x0000");
    block.0[156] = entry_type;
    block
}

impl Block {
    fn at(mut self, offset: usize, bytes: &[u8]) -> Block {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn gnu(self) -> Block {
        self.at(257, b"ustar  \0")
    }

    fn done(self) -> Vec<u8> {
        let block = self.at(148, b"        ");
        let sum: u32 = block.0.iter().map(|&byte| u32::from(byte)).sum();
        block.at(148, format!("{sum:06o}\0 ").as_bytes()).0.to_vec()
    }
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
    content
}

fn extended(entry_type: u8, content: &[u8]) -> Vec<u8> {
    let header = block(b"extended", entry_type, content.len() as u64).done();
    [header, padded(content)].concat()
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length = (rest.len() + 1..)
        .find(|length| length.to_string().len() + rest.len() == *length)
        .unwrap();
    [length.to_string().as_bytes(), &rest].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let records: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
    extended(b'x', &records)
}

type Entries = Vec<(Entry, Vec<u8>)>;

fn read(archive: &[u8]) -> Result<Entries, LayerError> {
    let mut stream = TarStream::new(archive);
    let mut entries = Vec::new();
    while let Some(entry) = stream.next_entry()? {
        let mut content = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match stream.read_content(&mut buffer)? {
                0 => break,
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
        entries.push((entry, content));
    }
    stream.finish()?;
    Ok(entries)
}

fn read_one(archive: &[u8]) -> (Entry, Vec<u8>) {
    let mut entries = read(archive).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// The problem of the one entry, whose name must be in the message.
fn problem(archive: &[u8], name: &str) -> EntryProblem {
    let error = read(archive).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    match error {
        LayerError::Entry { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn a_plain_file_keeps_everything_that_its_header_says() {
    let archive = [block(b"./usr/x", b'0', 5).done(), padded(b"hello")].concat();
    let (entry, content) = read_one(&archive);
    assert_eq!(entry.path.as_bytes(), b"usr/x");
    assert_eq!(entry.kind, EntryKind::File { size: 5 });
    assert_eq!((entry.mode, entry.uid, entry.gid), (0o644, 1, 2));
    assert_eq!(entry.mtime, Timestamp::from_seconds(8));
    assert_eq!(content, b"hello");
}

#[test]
fn an_archive_ends_at_two_zero_blocks_or_with_its_bytes() {
    let file = [block(b"x", b'0', 5).done(), padded(b"hello")].concat();
    let zeros = |blocks| vec![0; blocks * BLOCK_BYTES];
    for end in [zeros(0), zeros(1), zeros(2), zeros(20)] {
        assert_eq!(read(&[&file[..], &end].concat()).unwrap().len(), 1);
    }
    assert_eq!(read(&[]).unwrap(), []);
    // Behind the end, nothing counts.
    let behind = [&file[..], &zeros(2), &file].concat();
    assert_eq!(read(&behind).unwrap().len(), 1);
    let lone = [&file[..], &zeros(1), &file].concat();
    assert!(matches!(
        read(&lone),
        Err(LayerError::LoneZeroBlock { offset: 1024 })
    ));
}

#[test]
fn an_archive_that_is_cut_anywhere_else_is_refused() {
    let archive = [
        block(b"first", b'0', 600).done(),
        padded(&[1; 600]),
        pax(&[("path", b"second")]),
        block(b"x", b'0', 0).done(),
    ]
    .concat();
    for cut in 0..archive.len() {
        let result = read(&archive[..cut]);
        // The last padding may be missing.
        let is_boundary = cut == 0 || (512 + 600..=512 + 1024).contains(&cut);
        assert_eq!(result.is_ok(), is_boundary, "{cut}");
        if let Err(error) = result {
            assert!(matches!(error, LayerError::Truncated { .. }), "{error}");
        }
    }
}

#[test]
fn a_refused_extended_header_is_named_by_its_entry() {
    let archive = [
        pax(&[("uid", b"8589934592")]),
        block(b"usr/x", b'0', 0).done(),
    ]
    .concat();
    assert!(matches!(
        problem(&archive, "usr/x"),
        EntryProblem::Number { field: "uid" }
    ));
}

#[test]
fn an_archive_that_needs_its_end_mark_is_cut_off_without_it() {
    let file = block(b"x", b'0', 0).done();
    for (zeros, complete) in [(0, false), (1, true), (2, true)] {
        let archive = [&file[..], &vec![0; zeros * BLOCK_BYTES]].concat();
        let mut stream = TarStream::new(&archive[..]).with_end_mark();
        assert!(stream.next_entry().unwrap().is_some());
        match stream.next_entry() {
            Ok(end) => assert!(complete && end.is_none(), "{zeros}"),
            Err(error) => {
                assert!(!complete, "{zeros}");
                assert!(matches!(error, LayerError::Truncated { .. }), "{error}");
            }
        }
    }
}

#[test]
fn wrong_checksums_are_found() {
    let mut archive = block(b"x", b'0', 0).done();
    archive[0] = b'y';
    assert!(matches!(
        read(&archive),
        Err(LayerError::NoHeader { offset: 0 })
    ));
}

#[test]
fn names_come_from_prefix_long_name_or_pax() {
    let prefixed = block(b"name", b'0', 0).at(345, b"some/prefix").done();
    assert_eq!(read_one(&prefixed).0.path.as_bytes(), b"some/prefix/name");
    // In GNU archives, times stand where ustar has its prefix.
    let gnu = block(b"name", b'0', 0).gnu().at(345, b"00000000000").done();
    assert_eq!(read_one(&gnu).0.path.as_bytes(), b"name");
    let long = "l/".repeat(200);
    let long_name = [
        extended(b'L', format!("{long}\0").as_bytes()),
        extended(b'K', b"target\0"),
        block(b"short", b'2', 0).done(),
    ]
    .concat();
    let (entry, _) = read_one(&long_name);
    assert_eq!(entry.path.as_bytes(), long.trim_end_matches('/').as_bytes());
    let target = b"target".to_vec();
    assert_eq!(entry.kind, EntryKind::Symlink { target });
    let pax = [
        pax(&[("path", b"p\xff"), ("linkpath", b"t\xff")]),
        block(b"short", b'1', 0).done(),
    ]
    .concat();
    let (entry, _) = read_one(&pax);
    assert_eq!(entry.path.as_bytes(), b"p\xff");
    let target = EntryPath::from_archive(b"t\xff").unwrap();
    assert_eq!(entry.kind, EntryKind::Hardlink { target });
}

#[test]
fn pax_overrules_the_header_and_its_unusable_fields() {
    let records: [(&str, &[u8]); 6] = [
        ("size", b"5"),
        ("uid", b"4000000000"),
        ("gid", b"3000000000"),
        ("mtime", b"-1.5"),
        ("SCHILY.xattr.user.b", b"2\0"),
        ("SCHILY.xattr.user.a", b"1"),
    ];
    let header = block(b"x", b'0', 0)
        .at(108, b"xxxxxxxx")
        .at(116, b"\xff\xff\xff\xff\xff\xff\xff\xff")
        .at(136, b"yyyyyyyyyyyy");
    let archive = [pax(&records), header.done(), padded(b"hello")].concat();
    let (entry, content) = read_one(&archive);
    assert_eq!(content, b"hello");
    assert_eq!((entry.uid, entry.gid), (4_000_000_000, 3_000_000_000));
    assert_eq!(
        entry.mtime,
        Timestamp {
            seconds: -2,
            nanoseconds: 500_000_000
        }
    );
    let names: Vec<&[u8]> = entry.xattrs.iter().map(|xattr| &xattr.name[..]).collect();
    assert_eq!(names, [&b"user.a"[..], b"user.b"]);
}

#[test]
fn global_headers_set_defaults_and_nothing_else() {
    let archive = [
        extended(
            b'g',
            &[record("mtime", b"7"), record("comment", b"hash")].concat(),
        ),
        block(b"a", b'0', 0).done(),
        extended(b'g', &record("uid", b"9")),
        pax(&[("mtime", b"3")]),
        block(b"b", b'0', 0).done(),
    ]
    .concat();
    let entries = read(&archive).unwrap();
    let facts = |(entry, _): &(Entry, Vec<u8>)| (entry.uid, entry.mtime.seconds);
    let facts: Vec<(u32, i64)> = entries.iter().map(facts).collect();
    assert_eq!(facts, [(1, 7), (9, 3)]);
    for key in [
        "path",
        "linkpath",
        "size",
        "SCHILY.xattr.user.x",
        "GNU.sparse.major",
    ] {
        let archive = extended(b'g', &record(key, b"1"));
        assert!(matches!(
            problem(&archive, "extended"),
            EntryProblem::GlobalHeader(_)
        ));
    }
}

#[test]
fn binary_numbers_may_be_large_or_negative() {
    let header = block(b"x", b'0', 0)
        .gnu()
        .at(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe])
        .at(136, &[0xff; 12]);
    let (entry, _) = read_one(&header.done());
    assert_eq!(entry.uid, 0xffff_fffe);
    assert_eq!(entry.mtime, Timestamp::from_seconds(-1));
}

#[test]
fn paths_that_lead_out_are_refused_by_name() {
    for name in [&b"../x"[..], b"usr/../../x", b"/etc/passwd", b"usr/.."] {
        for entry_type in [b'0', b'2', b'5'] {
            let archive = block(name, entry_type, 0).at(157, b"target").done();
            let shown = str::from_utf8(name).unwrap();
            assert!(matches!(problem(&archive, shown), EntryProblem::Path(_)));
        }
        let archive = block(b"usr/link", b'1', 0).at(157, name).done();
        assert!(matches!(
            problem(&archive, "usr/link"),
            EntryProblem::LinkTarget(_)
        ));
        let in_pax = [pax(&[("path", name)]), block(b"x", b'0', 0).done()].concat();
        assert!(matches!(
            problem(&in_pax, str::from_utf8(name).unwrap()),
            EntryProblem::Path(_)
        ));
    }
    let nul = [pax(&[("path", b"a\0b")]), block(b"x", b'0', 0).done()].concat();
    assert!(matches!(problem(&nul, "a\\u{0}b"), EntryProblem::Path(_)));
}

#[test]
fn only_a_directory_can_be_the_root() {
    let (entry, _) = read_one(&block(b"./", b'5', 0).done());
    assert!(entry.path.is_root());
    let problem = problem(&block(b"./", b'0', 0).done(), "./");
    assert_eq!(problem, EntryProblem::RootNoDirectory);
}

#[test]
fn symbolic_links_may_lead_anywhere_but_not_nowhere() {
    let (entry, _) = read_one(&block(b"x", b'2', 0).at(157, b"/../../etc").done());
    let target = b"/../../etc".to_vec();
    assert_eq!(entry.kind, EntryKind::Symlink { target });
    let long = vec![b'a'; MAX_SYMLINK_BYTES + 1];
    for target in [&b""[..], b"a\0b", &long] {
        let archive = [pax(&[("linkpath", target)]), block(b"link", b'2', 0).done()].concat();
        assert_eq!(problem(&archive, "link"), EntryProblem::SymlinkTarget);
    }
}

#[test]
fn directories_of_the_oldest_format_end_in_a_slash() {
    let v7 = |size, entry_type| block(b"usr/", entry_type, size).at(257, &[0; 8]).done();
    assert_eq!(read_one(&v7(0, 0)).0.kind, EntryKind::Directory);
    assert_eq!(read_one(&v7(0, b'0')).0.kind, EntryKind::Directory);
    assert_eq!(problem(&v7(1, 0), "usr/"), EntryProblem::DirectoryContent);
    let (entry, _) = read_one(&block(b"usr/", b'0', 0).done());
    assert_eq!(entry.kind, EntryKind::File { size: 0 });
}

#[test]
fn what_is_no_file_has_no_content_whatever_its_size_says() {
    for entry_type in b'1'..=b'6' {
        let archive = [
            block(b"a", entry_type, 1000).at(157, b"t").done(),
            block(b"b", b'0', 3).done(),
            padded(b"abc"),
        ]
        .concat();
        let entries = read(&archive).unwrap();
        assert_eq!(entries[0].1, b"");
        assert_eq!(entries[1].1, b"abc");
    }
}

#[test]
fn devices_have_the_numbers_of_the_kernel() {
    let device = |major: &[u8], minor: &[u8]| {
        let header = block(b"dev", b'3', 0).at(329, major).at(337, minor);
        header.done()
    };
    let (entry, _) = read_one(&device(b"0007777\0", b"3777777\0"));
    let expected = Device {
        major: 0xfff,
        minor: 0xf_ffff,
    };
    assert_eq!(entry.kind, EntryKind::CharDevice(expected));
    for (major, minor) in [
        (&b"0010000\0"[..], &b"0000000\0"[..]),
        (b"0000000\0", b"4000000\0"),
        (b"000000x\0", b"0000000\0"),
    ] {
        assert!(matches!(
            problem(&device(major, minor), "dev"),
            EntryProblem::Number { .. }
        ));
    }
}

#[test]
fn unknown_types_are_refused_by_name() {
    for entry_type in [b'S', b'M', b'V', b'N', b'D', b'X', b'8', 0xff] {
        assert_eq!(
            problem(&block(b"odd", entry_type, 0).done(), "odd"),
            EntryProblem::UnknownType(entry_type)
        );
    }
    let (entry, _) = read_one(&block(b"contiguous", b'7', 0).done());
    assert_eq!(entry.kind, EntryKind::File { size: 0 });
}

#[test]
fn sizes_beyond_the_limits_are_refused_before_anything_is_allocated() {
    let huge = block(b"huge", b'0', 0).at(124, &[0x80, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]);
    let too_large = |problem| matches!(problem, EntryProblem::TooLarge { .. });
    assert!(too_large(problem(&huge.done(), "huge")));
    let negative = block(b"negative", b'0', 0).at(124, &[0xff; 12]).done();
    assert!(matches!(
        problem(&negative, "negative"),
        EntryProblem::Number { .. }
    ));
    for entry_type in [b'x', b'g', b'L', b'K'] {
        let header = block(b"header", entry_type, MAX_EXTENDED_BYTES + 1).done();
        assert!(too_large(problem(&header, "header")));
    }
    let value = vec![0; MAX_XATTR_BYTES + 1];
    let xattr = [
        pax(&[("SCHILY.xattr.user.x", &value)]),
        block(b"x", b'0', 0).done(),
    ]
    .concat();
    assert!(too_large(problem(&xattr, "extended")));
}

#[test]
fn headers_that_come_twice_are_refused() {
    let file = block(b"x", b'0', 0).done();
    for twice in [
        [extended(b'L', b"a"), extended(b'L', b"b")],
        [extended(b'K', b"a"), extended(b'K', b"b")],
        [pax(&[]), pax(&[])],
        [pax(&[("path", b"a")]), extended(b'L', b"b")],
        [extended(b'K', b"b"), pax(&[("linkpath", b"a")])],
    ] {
        let archive = [twice.concat(), file.clone()].concat();
        assert!(matches!(problem(&archive, ""), EntryProblem::Twice(_)));
    }
    // A long name beside other records is what some writers do.
    let both = [pax(&[("uid", b"7")]), extended(b'L', b"name"), file].concat();
    let (entry, _) = read_one(&both);
    assert_eq!((entry.path.as_bytes(), entry.uid), (&b"name"[..], 7));
}

fn sparse_row(offset: u64, length: u64) -> Vec<u8> {
    format!("{offset:011o}\0{length:011o}\0").into_bytes()
}

#[test]
fn gnu_sparse_files_read_as_if_they_had_no_holes() {
    // Six pieces: four in the header, two in an extension block.
    let rows: Vec<Vec<u8>> = (0..6).map(|n| sparse_row(1000 * n + 500, 10)).collect();
    let header = block(b"sparse", b'S', 60)
        .gnu()
        .at(386, &rows[..4].concat())
        .at(482, &[1])
        .at(483, b"00000014000\0");
    let mut extension = rows[4..].concat();
    extension.resize(BLOCK_BYTES, 0);
    let archive = [
        header.done(),
        extension,
        padded(&[7; 60]),
        block(b"next", b'0', 0).done(),
    ]
    .concat();
    let entries = read(&archive).unwrap();
    assert_eq!(entries.len(), 2);
    let (entry, content) = &entries[0];
    assert_eq!(entry.kind, EntryKind::File { size: 0o14000 });
    let expected: Vec<u8> = (0..0o14000)
        .map(|at| {
            if at % 1000 >= 500 && at % 1000 < 510 && at < 5600 {
                7
            } else {
                0
            }
        })
        .collect();
    assert_eq!(content, &expected);
}

#[test]
fn the_map_before_the_data_may_span_blocks() {
    // 100 pieces of one byte each: the map is longer than one block.
    let mut map = String::from("100\n");
    for piece in 0..100 {
        map.push_str(&format!("{}\n1\n", piece * 1_000_000));
    }
    let stored = [padded(map.as_bytes()), padded(&[9; 100])].concat();
    let size = padded(map.as_bytes()).len() + 100;
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"true/name"),
        ("GNU.sparse.realsize", b"100000000"),
    ];
    let archive = [
        pax(&records),
        block(b"GNUSparseFile.1/name", b'0', size as u64).done(),
        stored,
        block(b"next", b'0', 0).done(),
    ]
    .concat();
    let mut stream = TarStream::new(&archive[..]);
    let entry = stream.next_entry().unwrap().unwrap();
    assert_eq!(entry.path.as_bytes(), b"true/name");
    let size = 100_000_000;
    assert_eq!(entry.kind, EntryKind::File { size });
    let mut buffer = vec![1; 1_000_000];
    let mut position = 0;
    loop {
        let count = stream.read_content(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        for (at, byte) in (position..).zip(&buffer[..count]) {
            assert_eq!(*byte, if at % 1_000_000 == 0 { 9 } else { 0 }, "{at}");
        }
        position += count as u64;
    }
    assert_eq!(position, size);
    assert_eq!(
        stream.next_entry().unwrap().unwrap().path.as_bytes(),
        b"next"
    );
}

#[test]
fn a_file_may_be_one_great_hole() {
    for records in [
        &[
            ("GNU.sparse.size", &b"700"[..]),
            ("GNU.sparse.numblocks", b"0"),
        ][..],
        &[("GNU.sparse.size", b"700"), ("GNU.sparse.map", b"")],
        &[("GNU.sparse.size", b"700"), ("GNU.sparse.map", b"700,0")],
    ] {
        let archive = [pax(records), block(b"hole", b'0', 0).done()].concat();
        let (entry, content) = read_one(&archive);
        assert_eq!(entry.kind, EntryKind::File { size: 700 });
        assert_eq!(content, [0; 700]);
    }
}

#[test]
fn content_that_is_not_read_is_skipped() {
    let map = padded(b"2\n10\n300\n1000\n300\n");
    let archive = [
        pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"1300"),
        ]),
        block(b"sparse", b'0', map.len() as u64 + 600).done(),
        map,
        padded(&[9; 600]),
        block(b"plain", b'0', 600).done(),
        padded(&[9; 600]),
        block(b"last", b'0', 0).done(),
    ]
    .concat();
    let mut stream = TarStream::new(&archive[..]);
    let mut names = Vec::new();
    while let Some(entry) = stream.next_entry().unwrap() {
        names.push(entry.path.to_string());
        let _ = stream.read_content(&mut [0; 7]).unwrap();
    }
    assert_eq!(names, ["/sparse", "/plain", "/last"]);
}

#[test]
fn maps_that_contradict_themselves_are_refused() {
    let with_records = |records: &[(&str, &[u8])], stored: &[u8]| {
        let header = block(b"holes", b'0', stored.len() as u64);
        [pax(records), header.done(), padded(stored)].concat()
    };
    let format_1 = |realsize: &'static [u8], map: &[u8], data: &[u8]| {
        let records: [(&str, &[u8]); 3] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", realsize),
        ];
        with_records(&records, &[&padded(map)[..], data].concat())
    };
    assert!(read(&format_1(b"20", b"1\n10\n3\n", b"abc")).is_ok());
    for archive in [
        format_1(b"20", b"1\n10\n4\n", b"abc"),
        format_1(b"20", b"1\n10\n2\n", b"abc"),
        format_1(b"12", b"1\n10\n3\n", b"abc"),
        format_1(b"20", b"2\n10\n2\n11\n1\n", b"abc"),
        format_1(b"20", b"1\n18446744073709551615\n3\n", b"abc"),
        format_1(b"20", b"1\n18446744073709551616\n3\n", b"abc"),
        format_1(b"20", b"x\n", b"abc"),
        format_1(b"20", b"\n", b"abc"),
        format_1(b"20", b"18446744073709551615\n", b""),
        format_1(b"9999999999999", b"0\n", b""),
        format_1(b"99999999999", b"0\n", b""),
        with_records(
            &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")],
            b"",
        ),
        with_records(&[("GNU.sparse.map", b"0,3")], b"abc"),
        with_records(
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")],
            b"",
        ),
    ] {
        problem(&archive, "holes");
    }
    // An endless chain of extension blocks without a single piece.
    let chain = block(b"chain", b'S', 0).gnu().at(482, &[1]).done();
    problem(&[chain, vec![0; BLOCK_BYTES]].concat(), "chain");
}

#[test]
fn all_holes_together_are_limited() {
    let hole = |name: &[u8]| {
        let header = block(name, b'S', 0).gnu();
        header.at(483, b"400000000000").done()
    };
    assert!(read_headers(&[hole(b"a"), hole(b"b")].concat()).is_ok());
    let error = read_headers(&[hole(b"a"), hole(b"b"), hole(b"c")].concat());
    assert!(error.unwrap_err().to_string().contains("\"c\""));
}

fn read_headers(archive: &[u8]) -> Result<(), LayerError> {
    let mut stream = TarStream::new(archive);
    while stream.next_entry()?.is_some() {}
    Ok(())
}

#[test]
fn an_archive_that_was_refused_never_finishes_well() {
    let archive = [block(b"../x", b'0', 0).done(), block(b"y", b'0', 0).done()].concat();
    let mut stream = TarStream::new(&archive[..]);
    assert!(stream.next_entry().is_err());
    assert!(matches!(stream.next_entry(), Err(LayerError::GivenUp)));
    assert!(matches!(stream.finish(), Err(LayerError::GivenUp)));
}
