//! Layers as other programs write them, through the public interface.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sysgraft::digest::Digest;
use sysgraft::layer::{self, Entry, EntryKind, EntryPath, Expected, LayerError, TarStream, Xattr};
use sysgraft::layer::{DigestOf, EntryStream};
use sysgraft::source::LayerBytes;
use sysgraft::timestamp::Timestamp;

type Entries = Vec<(Entry, Vec<u8>)>;

fn read_all(stream: &mut dyn EntryStream) -> Result<Entries, LayerError> {
    let mut entries = Vec::new();
    let mut buffer = vec![0; 10_000];
    while let Some(entry) = stream.next_entry()? {
        let mut content = Vec::new();
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

fn read(stored: &[u8], expected: Expected) -> Result<Entries, LayerError> {
    read_from(io::Cursor::new(stored.to_vec()), expected)
}

fn read_from(
    stored: impl Read + Send + 'static,
    expected: Expected,
) -> Result<Entries, LayerError> {
    let mut stream = layer::open(LayerBytes::Archive(Box::new(stored)), expected)?;
    read_all(&mut *stream)
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_archive(text.as_bytes()).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An archive of some MB whose bytes hardly compress.
fn archive() -> Vec<u8> {
    let mut random = 1_u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 56) as u8
    })
    .take(3_000_000)
    .collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    builder
        .append_data(&mut header, "usr/bin/x", &content[..])
        .unwrap();
    builder.into_inner().unwrap()
}

fn expecting(stored: &[u8], archive: &[u8]) -> Expected {
    Expected {
        blob: Some(Digest::of(stored)),
        diff_id: Some(Digest::of(archive)),
        size: Some(stored.len() as u64),
    }
}

/// Every compression that is understood, in one piece and in several.
fn forms(archive: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (a, b) = archive.split_at(archive.len() / 3);
    let skippable = [&b"\x52\x2a\x4d\x18"[..], &5_u32.to_le_bytes(), b"hello"].concat();
    vec![
        ("plain", archive.to_vec()),
        ("gzip", gzip(archive)),
        ("gzip, members", [gzip(a), gzip(b""), gzip(b)].concat()),
        ("zstd", zstd(archive)),
        (
            "zstd, frames",
            [zstd(a), skippable.clone(), zstd(b)].concat(),
        ),
        ("zstd, skippable first", [skippable, zstd(archive)].concat()),
    ]
}

#[test]
fn every_compression_gives_the_same_entries_and_the_digests_hold() {
    let archive = archive();
    let plain = read(&archive, Expected::default()).unwrap();
    assert_eq!(plain.len(), 1);
    for (form, stored) in forms(&archive) {
        assert_eq!(read(&stored, Expected::default()).unwrap(), plain, "{form}");
        let expected = expecting(&stored, &archive);
        assert_eq!(read(&stored, expected).unwrap(), plain, "{form}");
    }
}

#[test]
fn bytes_that_make_no_sense_are_other_bytes_than_were_announced() {
    let archive = archive();
    for (form, stored) in forms(&archive) {
        let expected = expecting(&stored, &archive);
        let half = stored.len() / 2;
        for place in [3, 20, 150, half] {
            let mut damaged = stored.clone();
            damaged[place] ^= 0xff;
            match read(&damaged, expected) {
                Err(LayerError::Digest { of, .. }) => assert_eq!(of, DigestOf::Blob, "{form}"),
                other => panic!("{form}, {place}: {other:?}"),
            }
        }
    }
    // With the right digest, what is wrong is said.
    let nonsense = vec![b'x'; 4096];
    let found = read(&nonsense, expecting(&nonsense, &nonsense));
    assert!(matches!(found, Err(LayerError::NoHeader { .. })));
}

#[test]
fn wrong_digests_and_sizes_are_found_at_the_end_at_the_latest() {
    let archive = archive();
    let wrong = Digest::of(b"something else");
    for (form, stored) in forms(&archive) {
        let right = expecting(&stored, &archive);
        let check = |expected: Expected, of| match read(&stored, expected) {
            Err(LayerError::Digest { of: found, .. }) => assert_eq!(found, of, "{form}"),
            other => panic!("{form}: {:?}", other.map(|entries| entries.len())),
        };
        let blob = Some(wrong);
        check(Expected { blob, ..right }, DigestOf::Blob);
        let diff_id = Some(wrong);
        check(Expected { diff_id, ..right }, DigestOf::DiffId);
        for (size, too_long) in [(stored.len() - 1, true), (stored.len() + 1, false)] {
            let size = Some(size as u64);
            match read(&stored, Expected { size, ..right }) {
                Err(LayerError::TooLong { .. }) => assert!(too_long, "{form}"),
                Err(LayerError::TooShort { .. }) => assert!(!too_long, "{form}"),
                other => panic!("{form}: {:?}", other.map(|entries| entries.len())),
            }
        }
    }
}

#[test]
fn digests_cover_what_stands_behind_the_end_of_the_archive() {
    let mut archive = archive();
    let digest = Digest::of(&archive);
    archive.extend_from_slice(&[0; 5000]);
    let expecting = |diff_id| Expected {
        diff_id: Some(diff_id),
        ..Expected::default()
    };
    for stored in [archive.clone(), gzip(&archive)] {
        assert!(read(&stored, expecting(Digest::of(&archive))).is_ok());
        assert!(read(&stored, expecting(digest)).is_err());
    }
}

#[test]
fn compressed_layers_that_are_cut_or_changed_are_refused() {
    let archive = archive();
    for (form, stored) in forms(&archive).into_iter().skip(1) {
        let whole = stored.len();
        for cut in [5, 20, whole / 2, whole - 5, whole - 1] {
            let result = read(&stored[..cut], Expected::default());
            assert!(result.is_err(), "{form} cut at {cut}");
        }
        let garbage = [&stored[..], b"garbage"].concat();
        assert!(
            matches!(
                read(&garbage, Expected::default()),
                Err(LayerError::Decompress { .. })
            ),
            "{form} with garbage behind"
        );
    }
    let mut stored = gzip(&archive);
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    assert!(matches!(
        read(&stored, Expected::default()),
        Err(LayerError::Decompress { format: "gzip", .. })
    ));
}

#[test]
fn other_compressions_are_named() {
    for (magic, name) in [
        (&b"\xfd7zXZ\0......"[..], "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x04\x22\x4d\x18....", "lz4"),
    ] {
        match read(magic, Expected::default()) {
            Err(LayerError::UnknownCompression(found)) => assert_eq!(found, name),
            other => panic!("{:?}", other.map(|entries| entries.len())),
        }
    }
}

#[test]
fn a_window_that_needs_too_much_memory_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(&archive()).unwrap();
    let stored = encoder.finish().unwrap();
    assert!(matches!(
        read(&stored, Expected::default()),
        Err(LayerError::Decompress { format: "zstd", .. })
    ));
}

/// Gives some bytes, then fails.
struct Failing(io::Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the cable was cut")),
            count => Ok(count),
        }
    }
}

#[test]
fn errors_of_the_source_arrive_as_they_are() {
    let archive = archive();
    for (form, stored) in forms(&archive) {
        for cut in [0, 5, stored.len() / 2, stored.len()] {
            let source = Failing(io::Cursor::new(stored[..cut].to_vec()));
            match read_from(source, expecting(&stored, &archive)) {
                Err(LayerError::Read(error)) => {
                    assert_eq!(error.to_string(), "the cable was cut");
                }
                other => panic!("{form}: {:?}", other.map(|entries| entries.len())),
            }
        }
    }
}

#[test]
fn a_layer_that_failed_never_finishes_well() {
    let stored = gzip(&archive());
    let cut = stored[..stored.len() / 2].to_vec();
    let bytes = LayerBytes::Archive(Box::new(io::Cursor::new(cut)));
    let mut stream = layer::open(bytes, Expected::default()).unwrap();
    stream.next_entry().unwrap();
    assert!(stream.next_entry().is_err());
    assert!(matches!(stream.finish(), Err(LayerError::GivenUp)));
}

/// The same byte for ever, until dropped.
struct Endless(Arc<AtomicBool>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn dropping_a_stream_ends_its_threads() {
    let mut header = tar::Header::new_gnu();
    header.set_path("endless").unwrap();
    header.set_size(1 << 39);
    header.set_cksum();
    let start = header.as_bytes().to_vec();
    for head in [start, gzip(b"")[..10].to_vec()] {
        let dropped = Arc::new(AtomicBool::new(false));
        let source = io::Cursor::new(head).chain(Endless(dropped.clone()));
        let expected = Expected {
            blob: Some(Digest::of(b"")),
            diff_id: Some(Digest::of(b"")),
            size: None,
        };
        let mut stream = layer::open(LayerBytes::Archive(Box::new(source)), expected).unwrap();
        let _ = stream.next_entry();
        drop(stream);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !dropped.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "the thread still reads");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

// What other programs write.

/// A tree with one of everything that any user can make.
fn make_tree(root: &Path) {
    let long = "d".repeat(120);
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("usr/lib").join(&long).join(&long)).unwrap();
    fs::write(root.join("usr/bin/tool"), vec![7; 70_000]).unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool2")).unwrap();
    fs::write(
        root.join("usr/lib").join(&long).join(&long).join("deep"),
        "deep",
    )
    .unwrap();
    fs::write(root.join("usr/empty"), "").unwrap();
    fs::write(
        root.join("usr")
            .join(OsStr::from_bytes(b"na\xefve \xc3\xa4\nx")),
        "odd",
    )
    .unwrap();
    symlink("../bin/tool", root.join("usr/lib/link")).unwrap();
    symlink("t".repeat(150), root.join("usr/lib/longlink")).unwrap();
    let sparse = fs::File::create(root.join("usr/sparse")).unwrap();
    for piece in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(
            &sparse,
            &[9; 4096],
            piece * 5_000_000 / 4096 * 4096,
        )
        .unwrap();
    }
    sparse.set_len(210_000_000).unwrap();
    let times =
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH - Duration::from_millis(1_500));
    fs::File::options()
        .write(true)
        .open(root.join("usr/empty"))
        .unwrap()
        .set_times(times)
        .unwrap();
    let _ = Command::new("mkfifo").arg(root.join("usr/fifo")).status();
}

/// What the file system itself says of an entry.
fn check_against_disk(root: &Path, entry: &Entry, content_digest: Digest, subsecond: bool) {
    let file = root.join(OsStr::from_bytes(entry.path.as_bytes()));
    let metadata = fs::symlink_metadata(&file).unwrap();
    let shown = &entry.path;
    match &entry.kind {
        EntryKind::File { size } => {
            assert_eq!(*size, metadata.len(), "{shown}");
            assert_eq!(
                digest_of(fs::File::open(&file).unwrap()),
                content_digest,
                "{shown}"
            );
        }
        EntryKind::Directory => assert!(metadata.is_dir(), "{shown}"),
        EntryKind::Symlink { target } => {
            let on_disk = fs::read_link(&file).unwrap();
            assert_eq!(on_disk.as_os_str().as_bytes(), target, "{shown}");
        }
        EntryKind::Hardlink { target } => {
            let target = root.join(OsStr::from_bytes(target.as_bytes()));
            assert_eq!(
                fs::metadata(target).unwrap().ino(),
                metadata.ino(),
                "{shown}"
            );
        }
        EntryKind::Fifo => assert_eq!(metadata.mode() & 0o170_000, 0o010_000, "{shown}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(u32::from(entry.mode), metadata.mode() & 0o7777, "{shown}");
    assert_eq!(
        (entry.uid, entry.gid),
        (metadata.uid(), metadata.gid()),
        "{shown}"
    );
    let mtime = Timestamp {
        seconds: metadata.mtime(),
        nanoseconds: if subsecond {
            metadata.mtime_nsec() as u32
        } else {
            0
        },
    };
    assert_eq!(entry.mtime, mtime, "{shown}");
}

fn digest_of(mut reader: impl Read) -> Digest {
    let mut hasher = sysgraft::digest::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => return hasher.finish(),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Reads every entry, compares it with the disk, and gives the paths.
fn check_stream(stream: &mut dyn EntryStream, root: &Path, subsecond: bool) -> Vec<String> {
    struct Content<'a>(&'a mut dyn EntryStream);
    impl Read for Content<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read_content(buffer).map_err(io::Error::other)
        }
    }
    let mut paths = Vec::new();
    while let Some(entry) = stream.next_entry().unwrap() {
        let digest = digest_of(Content(stream));
        check_against_disk(root, &entry, digest, subsecond);
        paths.push(entry.path.to_string());
    }
    stream.finish().unwrap();
    paths.sort();
    paths
}

#[test]
fn gnu_tar_and_the_disk_agree_with_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    make_tree(&root);
    let whole = usize::from(root.join("usr/fifo").exists()) + 14;
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
    ] {
        let sparse = options.contains(&"--sparse");
        let file = folder.path().join("layer.tar");
        let status = Command::new("tar")
            .args(options)
            .args(if sparse {
                &[][..]
            } else {
                &["--exclude=./usr/sparse"]
            })
            .arg("--sort=name")
            .arg("-cf")
            .arg(&file)
            .arg("-C")
            .arg(&root)
            .arg(".")
            .status()
            .expect("GNU tar runs; it is part of every Debian");
        assert!(status.success(), "{options:?}");
        let bytes = LayerBytes::Archive(Box::new(fs::File::open(&file).unwrap()));
        let mut stream = layer::open(bytes, Expected::default()).unwrap();
        let paths = check_stream(&mut *stream, &root, options.contains(&"--format=posix"));
        assert_eq!(
            paths.len(),
            whole - usize::from(!sparse),
            "{options:?} {paths:?}"
        );
    }
}

#[test]
fn ustar_and_v7_archives_of_gnu_tar_agree_with_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let deep = root.join("usr").join("d".repeat(60)).join("e".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "content").unwrap();
    fs::hard_link(deep.join("file"), root.join("usr/a-hard")).unwrap();
    symlink("a-hard", root.join("usr/soft")).unwrap();
    for format in ["ustar", "v7"] {
        let file = folder.path().join("layer.tar");
        let status = Command::new("tar")
            .arg(format!("--format={format}"))
            .args(if format == "v7" {
                &["--exclude=./usr/d*"][..]
            } else {
                &[]
            })
            .args(["--sort=name", "-cf"])
            .arg(&file)
            .arg("-C")
            .arg(&root)
            .arg(".")
            .status()
            .expect("GNU tar runs; it is part of every Debian");
        assert!(status.success());
        let bytes = LayerBytes::Archive(Box::new(fs::File::open(&file).unwrap()));
        let mut stream = layer::open(bytes, Expected::default()).unwrap();
        let paths = check_stream(&mut *stream, &root, false);
        assert_eq!(paths.len(), if format == "v7" { 4 } else { 7 }, "{paths:?}");
    }
}

#[test]
fn a_root_tree_gives_the_entries_that_lie_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    make_tree(folder.path());
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("usr/socket")).unwrap();
    let bytes = LayerBytes::Directory(folder.path().to_owned());
    let mut stream = layer::open(bytes, Expected::default()).unwrap();
    let entries = {
        let mut entries = Vec::new();
        while let Some(entry) = stream.next_entry().unwrap() {
            entries.push(entry);
        }
        entries
    };
    let paths: Vec<&EntryPath> = entries.iter().map(|entry| &entry.path).collect();
    for (before, path) in paths.iter().enumerate() {
        if let Some((parent, _)) = path.split_last() {
            assert!(
                paths[..before].contains(&&parent),
                "{path} before its parent"
            );
        }
    }
    let kind_of = |text: &str| &entries.iter().find(|e| e.path == path(text)).unwrap().kind;
    assert_eq!(*kind_of("usr/socket"), EntryKind::Socket);
    assert_eq!(*kind_of("usr/bin/tool"), EntryKind::File { size: 70_000 });
    let target = path("usr/bin/tool");
    assert_eq!(*kind_of("usr/bin/tool2"), EntryKind::Hardlink { target });

    fs::remove_file(folder.path().join("usr/socket")).unwrap();
    let bytes = LayerBytes::Directory(folder.path().to_owned());
    let mut stream = layer::open(bytes, Expected::default()).unwrap();
    let paths = check_stream(&mut *stream, folder.path(), true);
    assert_eq!(paths.len(), entries.len() - 1);
}

#[test]
fn symbolic_links_in_a_root_tree_are_never_followed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("usr")).unwrap();
    fs::create_dir(folder.path().join("secret")).unwrap();
    fs::write(folder.path().join("secret/file"), "secret").unwrap();
    symlink("../../secret", root.join("usr/link")).unwrap();
    let bytes = LayerBytes::Directory(root);
    let mut stream = layer::open(bytes, Expected::default()).unwrap();
    let entries = read_all(&mut *stream).unwrap();
    let paths: Vec<String> = entries.iter().map(|(e, _)| e.path.to_string()).collect();
    assert_eq!(paths, ["/", "/usr", "/usr/link"]);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    for change in ["grow", "shrink", "replace"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, vec![1; 1000]).unwrap();
        let bytes = LayerBytes::Directory(folder.path().to_owned());
        let mut stream = layer::open(bytes, Expected::default()).unwrap();
        stream.next_entry().unwrap();
        stream.next_entry().unwrap();
        match change {
            "grow" => fs::write(&file, vec![1; 1001]).unwrap(),
            "shrink" => fs::write(&file, vec![1; 999]).unwrap(),
            _ => {
                fs::write(folder.path().join("new"), vec![1; 1000]).unwrap();
                fs::rename(folder.path().join("new"), &file).unwrap();
            }
        }
        let mut buffer = [0; 2000];
        let result = stream.read_content(&mut buffer);
        assert!(
            matches!(result, Err(LayerError::Changed { .. })),
            "{change}: {result:?}"
        );
    }
}

#[test]
fn extended_attributes_come_along_from_tar_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let file = root.join("file");
    fs::write(&file, "content").unwrap();
    // The capability needs root, and only tells more if we are.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let is_root = xattr::set(&file, "security.capability", capability).is_ok();
    for (name, value) in [
        ("user.a", &b"1"[..]),
        ("user.empty", b""),
        ("user.binary", b"\0\n=\xff"),
    ] {
        if let Err(error) = xattr::set(&file, name, value) {
            println!("skipped: no extended attributes in the temporary directory: {error}");
            return;
        }
    }
    let mut expected = vec![
        ("user.a", b"1".to_vec()),
        ("user.binary", b"\0\n=\xff".to_vec()),
        ("user.empty", b"".to_vec()),
    ];
    if is_root {
        expected.insert(0, ("security.capability", capability.to_vec()));
    }
    let expected: Vec<Xattr> = expected
        .into_iter()
        .map(|(name, value)| Xattr {
            name: name.into(),
            value,
        })
        .collect();
    let archive = folder.path().join("layer.tar");
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--format=posix", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(&root)
        .arg("file")
        .status()
        .expect("GNU tar runs; it is part of every Debian");
    assert!(status.success());
    let from_tar = read(&fs::read(&archive).unwrap(), Expected::default()).unwrap();
    assert_eq!(from_tar[0].0.xattrs, expected);
    let mut stream = layer::open(LayerBytes::Directory(root), Expected::default()).unwrap();
    assert_eq!(read_all(&mut *stream).unwrap()[1].0.xattrs, expected);
}

// Random archives of another program.

#[derive(Clone, Debug)]
struct Made {
    path: Vec<String>,
    kind: MadeKind,
    mode: u32,
    uid: u64,
    mtime: u64,
    xattr: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum MadeKind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    Hardlink(Vec<String>),
    Fifo,
    Device(u32, u32),
}

fn made() -> impl Strategy<Value = Made> {
    let name = prop_oneof!["[a-c]", "[a-zäß .]{1,40}[a-z]", "[a-z]{120,200}"];
    let names = proptest::collection::vec(name, 1..5);
    let kind = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(MadeKind::File),
        1 => Just(MadeKind::Directory),
        1 => "(\\.\\./){0,2}[a-z]{1,90}(/[a-z]{1,90}){0,3}".prop_map(MadeKind::Symlink),
        1 => proptest::collection::vec("[a-z]{1,100}", 1..4).prop_map(MadeKind::Hardlink),
        1 => Just(MadeKind::Fifo),
        1 => (0..4096_u32, 0..0x10_0000_u32).prop_map(|(a, b)| MadeKind::Device(a, b)),
    ];
    let xattr = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50));
    (
        names,
        kind,
        0..0o10000_u32,
        0..u64::from(u32::MAX),
        0..1_u64 << 34,
        xattr,
    )
        .prop_map(|(path, kind, mode, uid, mtime, xattr)| Made {
            path,
            kind,
            mode,
            uid,
            mtime,
            xattr,
        })
}

/// The archive as the `tar` crate writes it, which uses GNU long names.
fn write(entries: &[Made]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for made in entries {
        if let Some(value) = &made.xattr {
            builder
                .append_pax_extensions([("SCHILY.xattr.user.x", &value[..])])
                .unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(made.mode);
        header.set_uid(made.uid);
        header.set_gid(7);
        header.set_mtime(made.mtime);
        header.set_size(0);
        let path = made.path.join("/");
        let link = |header: &mut tar::Header, builder: &mut tar::Builder<_>, kind, target: &str| {
            header.set_entry_type(kind);
            builder.append_link(header, &path, target).unwrap();
        };
        match &made.kind {
            MadeKind::Symlink(target) => {
                link(&mut header, &mut builder, tar::EntryType::Symlink, target);
            }
            MadeKind::Hardlink(target) => {
                let target = target.join("/");
                link(&mut header, &mut builder, tar::EntryType::Link, &target);
            }
            MadeKind::File(content) => {
                header.set_size(content.len() as u64);
                builder
                    .append_data(&mut header, &path, &content[..])
                    .unwrap();
            }
            other => {
                header.set_entry_type(match other {
                    MadeKind::Directory => tar::EntryType::Directory,
                    MadeKind::Fifo => tar::EntryType::Fifo,
                    _ => tar::EntryType::Char,
                });
                if let MadeKind::Device(major, minor) = other {
                    header.set_device_major(*major).unwrap();
                    header.set_device_minor(*minor).unwrap();
                }
                builder
                    .append_data(&mut header, &path, io::empty())
                    .unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn expected_entry(made: &Made) -> (Entry, Vec<u8>) {
    let mut content = Vec::new();
    let kind = match &made.kind {
        MadeKind::File(bytes) => {
            content = bytes.clone();
            EntryKind::File {
                size: bytes.len() as u64,
            }
        }
        MadeKind::Directory => EntryKind::Directory,
        MadeKind::Symlink(target) => EntryKind::Symlink {
            target: target.clone().into_bytes(),
        },
        MadeKind::Hardlink(target) => EntryKind::Hardlink {
            target: path(&target.join("/")),
        },
        MadeKind::Fifo => EntryKind::Fifo,
        MadeKind::Device(major, minor) => EntryKind::CharDevice(layer::Device {
            major: *major,
            minor: *minor,
        }),
    };
    let xattrs = made.xattr.iter().map(|value| Xattr {
        name: b"user.x".to_vec(),
        value: value.clone(),
    });
    let entry = Entry {
        path: path(&made.path.join("/")),
        kind,
        mode: made.mode as u16,
        uid: made.uid as u32,
        gid: 7,
        mtime: Timestamp::from_seconds(made.mtime as i64),
        xattrs: xattrs.collect(),
    };
    (entry, content)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn archives_of_the_tar_crate_read_back_as_they_were_meant(entries in proptest::collection::vec(made(), 0..12)) {
        let archive = write(&entries);
        let expected: Entries = entries.iter().map(expected_entry).collect();
        prop_assert_eq!(read_all(&mut TarStream::new(&archive[..])).unwrap(), expected);
    }

    #[test]
    fn a_cut_archive_gives_fewer_entries_or_an_error(entries in proptest::collection::vec(made(), 1..6), cut in 0.0..1.0) {
        let archive = write(&entries);
        let cut = (archive.len() as f64 * cut) as usize;
        let expected: Entries = entries.iter().map(expected_entry).collect();
        match read_all(&mut TarStream::new(&archive[..cut])) {
            Ok(read) => prop_assert!(expected.starts_with(&read)),
            Err(error) => prop_assert!(matches!(error, LayerError::Truncated { .. }), "{}", error),
        }
    }

    #[test]
    fn changed_archives_never_panic(
        entries in proptest::collection::vec(made(), 1..6),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut archive = write(&entries);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        // Checksums that are right again let the changes through.
        for block in archive.chunks_exact_mut(512) {
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let mut stream = TarStream::new(&archive[..]);
        let mut buffer = [0; 512];
        while let Ok(Some(_)) = stream.next_entry() {
            let _ = stream.read_content(&mut buffer);
        }
    }

    #[test]
    fn random_bytes_never_panic(stored in proptest::collection::vec(any::<u8>(), 0..3000), magic in 0..4_usize) {
        let magic = [&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"][magic];
        let _ = read(&[magic, &stored].concat(), Expected::default());
    }
}
