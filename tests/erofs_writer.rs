//! What the writer writes, read back by the library, by fsck.erofs and by the kernel.

// clippy knows the tests by their attribute, but not the functions that they call
mod erofs_model;
mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use erofs_model::fsck::fsck;
use erofs_model::random::{models, runner};
use erofs_model::{
    Kind, Model, Mounted, Path, assert_seen, attributes, content, read, why_no_mount,
};
use proptest::prelude::*;
use sysgraft::erofs::{Block, BlockSink, FileSystem, WriteError, Writer};
use sysgraft::layer::{Device, Xattr};
use sysgraft::read_at::FileWindow;
use sysgraft::timestamp::Timestamp;
use sysgraft::tree::{Attributes, InodeSink, Leaf, LeafKind, Node, Tree};

fn file(seed: u64, size: usize) -> Kind {
    Kind::File(content(seed, size))
}

/// A tree whose files, links, names and attributes lie on and around every limit of the format.
fn boundaries() -> Model {
    let mut model = Model::new(attributes(0o755));
    for (number, size) in [0, 1, 31, 32, 33, 4031, 4032, 4033, 4063, 4064, 4065, 4095]
        .into_iter()
        .flat_map(|end| [end, 4096 + end, 3 * 4096 + end])
        .enumerate()
    {
        let seed = number as u64;
        let compact = attributes(0o644);
        let mut extended = compact.clone();
        extended.uid = 65_536;
        let mut labelled = extended.clone();
        labelled.xattrs.push(Xattr {
            name: b"security.selinux".to_vec(),
            value: b"system_u:object_r:bin_t:s0\0".to_vec(),
        });
        for (kind, attributes) in [("c", compact), ("e", extended), ("l", labelled)] {
            model.add_at(&format!("{kind}{size}"), file(seed, size), attributes);
        }
    }
    for size in [1, 4031, 4032, 4033, 4063, 4064, 4065, 4095] {
        let target = Kind::Symlink(vec![b't'; size]);
        model.add_at(&format!("link{size}"), target, attributes(0o777));
    }
    for (name, id, mtime) in [
        ("at-limit", 65_535, (1_700_000_000, 0)),
        ("over-limit", 65_536, (1_700_000_000, 0)),
        ("other-time", 0, (1_700_000_000, 1)),
        ("before-1970", 0, (-1, 999_999_999)),
        ("after-2106", u32::MAX - 1, (5_000_000_000, 0)),
    ] {
        let (seconds, nanoseconds) = mtime;
        let attributes = Attributes {
            mode: 0o7777,
            uid: id,
            gid: id,
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            xattrs: Vec::new(),
        };
        model.add_at(name, file(1, 10), attributes.clone());
        model.add_at(&format!("{name}.d"), Kind::Directory, attributes);
    }
    for (major, minor) in [(0, 0), (4095, 1_048_575), (1, 256), (256, 255)] {
        let device = Device { major, minor };
        model.add_at(
            &format!("char-{major}-{minor}"),
            Kind::CharDevice(device),
            attributes(0o600),
        );
        model.add_at(
            &format!("block-{major}-{minor}"),
            Kind::BlockDevice(device),
            attributes(0o600),
        );
    }
    let root: Path = Vec::new();
    for name in [
        &[0xff; 255][..],
        b"\xff\xfe",
        b"!",
        b"-",
        b".-",
        b"..a",
        b"...",
        b"\n",
    ] {
        let path = [&root[..], &[name.to_vec()]].concat();
        model.add(path, file(2, 5), attributes(0o600));
    }
    model
}

/// A directory for each way in which the last block of its entries can end.
fn directories() -> Model {
    let mut model = Model::new(attributes(0o755));
    // 27 bytes are . and ..; each name of 88 bytes takes 100
    for last in [0, 40, 41, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70] {
        let directory = format!("d{last}");
        model.add_at(&directory, Kind::Directory, attributes(0o755));
        for number in 0..40 {
            let name = format!("{directory}/{number:088}");
            model.add_at(&name, Kind::Fifo, attributes(0o600));
        }
        if last > 0 {
            let name = format!("{directory}/{}", "z".repeat(last));
            model.add_at(&name, Kind::Fifo, attributes(0o600));
        }
    }
    model.add_at("deep", Kind::Directory, attributes(0o755));
    let mut path = "deep".to_owned();
    for _ in 0..300 {
        path.push_str("/x");
        model.add_at(&path, Kind::Directory, attributes(0o755));
    }
    model.add_at("large", Kind::Directory, attributes(0o755));
    for number in 0..3000 {
        model.add_at(
            &format!("large/{number:050}"),
            file(number, 3),
            attributes(0o644),
        );
    }
    model
}

/// Attributes that are shared, that are not, and that cross blocks.
fn labels() -> Model {
    let xattr = |name: &str, value: Vec<u8>| Xattr {
        name: name.into(),
        value,
    };
    let with = |xattrs: Vec<Xattr>| Attributes {
        xattrs,
        ..attributes(0o755)
    };
    // a list with the entries of the mode 0755 and one user more; version 2
    let acl = |tag: &[(u16, u16, u32)]| {
        let mut value = vec![2, 0, 0, 0];
        for (tag, permissions, id) in tag {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let list = acl(&[
        (1, 7, u32::MAX),
        (2, 5, 1000),
        (4, 5, u32::MAX),
        (16, 5, u32::MAX),
        (32, 5, u32::MAX),
    ]);
    let capability = [&[1, 0, 0, 2, 0, 4][..], &[0; 14]].concat();
    let large = |byte| xattr("user.large", vec![byte; 65_535]);
    // more than block 0 has room for
    let mut model = Model::new(with(vec![
        xattr("trusted.a", vec![1; 3000]),
        large(2),
        xattr("user.small", vec![3; 20]),
    ]));
    model.add_at(
        "acl",
        Kind::Directory,
        with(vec![
            xattr("system.posix_acl_access", list.clone()),
            xattr("system.posix_acl_default", list),
        ]),
    );
    for number in 0..5 {
        let label = || xattr("security.selinux", b"system_u:object_r:usr_t:s0\0".to_vec());
        let ping = vec![xattr("security.capability", capability.clone()), label()];
        model.add_at(&format!("ping{number}"), file(number, 5000), with(ping));
        model.add_at(
            &format!("dir{number}"),
            Kind::Directory,
            with(vec![label()]),
        );
        model.add_at(
            &format!("large{number}"),
            file(number, 100),
            with(vec![label(), large(4)]),
        );
        let mut most: Vec<_> = (0..4)
            .map(|n| xattr(&format!("user.{n}"), vec![n; 65_000]))
            .collect();
        most.push(xattr("user.number", vec![number as u8]));
        model.add_at(&format!("most{number}"), file(number, 4090), with(most));
    }
    model.add_at("empty", file(0, 0), with(vec![xattr("user.empty", vec![])]));
    model
}

/// Files with several names, in several directories and batches.
fn hard_links() -> Model {
    let mut model = Model::new(attributes(0o755));
    model.add_at("a", Kind::Directory, attributes(0o755));
    for number in 0..20 {
        let original = format!("a/{number}");
        model.add_at(
            &original,
            file(number, 100 * number as usize),
            attributes(0o644),
        );
        let target: Path = original.split('/').map(|name| name.into()).collect();
        for link in 0..number {
            let name = format!("{number}-{link}");
            model.add_at(&name, Kind::Hardlink(target.clone()), attributes(0));
        }
    }
    model.add_at("fifo", Kind::Fifo, attributes(0o644));
    model.add_at(
        "fifo2",
        Kind::Hardlink(vec![b"fifo".to_vec()]),
        attributes(0),
    );
    model
}

fn special_models() -> [(&'static str, Model); 5] {
    [
        ("nothing but a root", Model::new(attributes(0o755))),
        ("boundaries", boundaries()),
        ("directories", directories()),
        ("labels", labels()),
        ("hard links", hard_links()),
    ]
}

#[test]
fn the_library_reads_back_what_it_wrote() {
    for (name, model) in special_models() {
        let (image, summary) = model.write().unwrap();
        let seen = read(&image).unwrap();
        assert_seen(&seen, &model, name);
        let links = model
            .entries
            .values()
            .filter(|e| matches!(e.kind, Kind::Hardlink(_)));
        assert_eq!(summary.inodes as usize, model.entries.len() - links.count());
    }
    let strategy = models(60);
    runner(100)
        .run(&strategy, |model| {
            let (image, _) = model.write().unwrap();
            let seen = read(&image).unwrap();
            assert_seen(&seen, &model, "random tree");
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_kernel_shows_what_was_written() {
    const TEST: &str = "the_kernel_shows_what_was_written";
    if let Some(reason) = why_no_mount() {
        return support::skip(TEST, reason);
    }
    for (name, model) in special_models() {
        let (image, _) = model.write().unwrap();
        let seen = Mounted::new(&image).see();
        assert_seen(&seen, &model, name);
    }
    runner(40)
        .run(&models(60), |model| {
            let (image, _) = model.write().unwrap();
            let seen = Mounted::new(&image).see();
            assert_seen(&seen, &model, "random tree");
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_kernel_finds_every_name() {
    const TEST: &str = "the_kernel_finds_every_name";
    if let Some(reason) = why_no_mount() {
        return support::skip(TEST, reason);
    }
    let model = directories();
    let mounted = Mounted::new(&model.write().unwrap().0);
    let point = mounted.point();
    // a fresh lookup of each, before any directory was listed
    for path in model.entries.keys() {
        let components = path.iter().map(|name| OsStr::from_bytes(name));
        let path = point.join(components.collect::<PathBuf>());
        assert!(fs::symlink_metadata(&path).is_ok(), "{path:?}");
    }
    assert!(!point.join("large/zzz").exists());
}

#[test]
fn fsck_finds_nothing_wrong() {
    for (name, model) in special_models() {
        let (image, _) = model.write().unwrap();
        match fsck(&image) {
            None => return support::skip("fsck_finds_nothing_wrong", "there is no fsck.erofs"),
            Some(result) => assert_eq!(result, Ok(()), "{name}"),
        }
    }
    runner(50)
        .run(&models(60), |model| {
            let (image, _) = model.write().unwrap();
            prop_assert_eq!(fsck(&image), Some(Ok(())));
            Ok(())
        })
        .unwrap();
}

/// A sink into a file that leaves out what is zero.
struct SparseSink {
    file: fs::File,
    buffer: Vec<u8>,
    position: u64,
}

impl BlockSink for SparseSink {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        Ok(&mut self.buffer)
    }

    fn advance(&mut self, bytes: usize) {
        if self.buffer[..bytes].iter().any(|&byte| byte != 0) {
            let written = &self.buffer[..bytes];
            self.file.write_all_at(written, self.position).unwrap();
        }
        self.position += bytes as u64;
        self.file.set_len(self.position).unwrap();
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn patch(&mut self, block: u64, change: &mut dyn FnMut(&mut Block)) -> io::Result<()> {
        let mut bytes = [0; 4096];
        self.file.read_exact_at(&mut bytes, block * 4096)?;
        change(&mut bytes);
        self.file.write_all_at(&bytes, block * 4096)
    }
}

#[test]
fn a_file_can_be_larger_than_4_gib() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let sink = SparseSink {
        file: image.reopen().unwrap(),
        buffer: vec![0; 1 << 20],
        position: 0,
    };
    let end = content(1, 5000);
    let zeros = 1_u64 << 32;
    let size = zeros + 5000;
    let mut writer = Writer::new(sink, Model::options()).unwrap();
    let content = &mut io::repeat(0).take(zeros).chain(&end[..]);
    let file = writer.add(&attributes(0o644), Leaf::File { size, content });
    let file = Node::Leaf(file.unwrap(), LeafKind::File);
    let mut tree = Tree::new(attributes(0o755));
    let children = &mut tree.directory_mut(Tree::ROOT).children;
    children.insert((*b"file").into(), file);
    let fifo = writer.add(&attributes(0o644), Leaf::Fifo).unwrap();
    children.insert((*b"fifo").into(), Node::Leaf(fifo, LeafKind::Fifo));
    writer.finish(&tree).unwrap();

    let file_system = FileSystem::open(FileWindow::whole(image.reopen().unwrap()).unwrap());
    let file_system = file_system.unwrap();
    let inode = file_system.lookup(b"file").unwrap().unwrap();
    assert_eq!(inode.size, size);
    let mut read = vec![1; 6000];
    let mut file = file_system.content(&inode).unwrap();
    assert_eq!(file.read_at(&mut read, zeros - 1000).unwrap(), 6000);
    assert_eq!(read, [&[0; 1000], &end[..]].concat());
    assert!(file_system.lookup(b"fifo").unwrap().is_some());

    if let Some(reason) = why_no_mount() {
        return support::skip("a_file_can_be_larger_than_4_gib", reason);
    }
    let mounted = Mounted::of(image.path());
    let file = fs::File::open(mounted.point().join("file")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
    let mut shown = vec![1; 6000];
    file.read_exact_at(&mut shown, zeros - 1000).unwrap();
    assert_eq!(shown, read);
}

#[test]
fn equal_trees_give_equal_images() {
    for (name, model) in special_models() {
        assert!(model.write().unwrap() == model.write().unwrap(), "{name}");
    }
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let refused = |kind: Kind| {
        let mut model = Model::new(attributes(0o755));
        model.add_at("a", kind, attributes(0o755));
        model.write().unwrap_err()
    };
    for target in [vec![], vec![b'a'; 4096], b"a\0b".to_vec()] {
        assert!(matches!(
            refused(Kind::Symlink(target)),
            WriteError::Target { .. }
        ));
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let kind = Kind::BlockDevice(Device { major, minor });
        assert!(matches!(refused(kind), WriteError::Device { .. }));
    }
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'a'; 256]] {
        let mut model = Model::new(attributes(0o755));
        model.add(vec![name.to_vec()], Kind::Fifo, attributes(0o755));
        let error = model.write().unwrap_err();
        assert!(
            matches!(error, WriteError::Name { .. }),
            "{name:?}: {error}"
        );
    }
}
