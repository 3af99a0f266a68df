//! Reading what mkfs.erofs made, and what somebody made to break the reader.

// clippy knows the tests by their attribute, but not the functions that they call
mod erofs_model;
mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path as FsPath, PathBuf};
use std::process::Command;

use erofs_model::{
    Kind, Model, Mounted, Path, assert_seen, attributes, content, mixed, read, text,
};
use proptest::prelude::*;
use proptest::sample::Index;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use sysgraft::erofs::{ChunkSize, FileSystem, Nid, Options, ReadError};
use sysgraft::layer::{Device, Xattr};
use sysgraft::timestamp::Timestamp;
use sysgraft::tree::Attributes;

fn file(seed: u64, size: usize) -> Kind {
    Kind::File(content(seed, size))
}

fn link_to(target: &str) -> Kind {
    Kind::Symlink(target.into())
}

/// A tree that a folder on any file system can hold.
fn example() -> Model {
    let with = |uid: u32, xattrs: &[(&str, &[u8])]| Attributes {
        uid,
        gid: uid / 2,
        mtime: Timestamp {
            seconds: 1_600_000_000 + i64::from(uid),
            nanoseconds: 123_456_789,
        },
        xattrs: xattrs
            .iter()
            .map(|(name, value)| Xattr {
                name: name.as_bytes().to_vec(),
                value: value.to_vec(),
            })
            .collect(),
        ..attributes(0o755)
    };
    let label: (&str, &[u8]) = ("security.selinux", b"system_u:object_r:usr_t:s0\0");
    let mut model = Model::new(with(0, &[label]));
    for (number, size) in [
        0, 1, 100, 4000, 4095, 4096, 4097, 8191, 8192, 50_000, 300_000,
    ]
    .into_iter()
    .enumerate()
    {
        let owned = with(
            number as u32 * 10_000,
            &[label, ("user.size", size.to_string().as_bytes())],
        );
        model.add_at(&format!("file{size}"), file(number as u64, size), owned);
    }
    let zeros = [
        vec![0; 40_960],
        content(9, 100),
        vec![0; 81_920],
        content(9, 5000),
    ];
    model.add_at("sparse", Kind::File(zeros.concat()), with(0, &[]));
    for (number, size) in [5000, 100_000, 1_500_000].into_iter().enumerate() {
        let bytes = mixed(number as u64, size);
        model.add_at(
            &format!("large-mixed{size}"),
            Kind::File(bytes),
            with(0, &[]),
        );
        let bytes = text(number as u64, size + 77);
        model.add_at(
            &format!("large-text{size}"),
            Kind::File(bytes),
            with(0, &[]),
        );
    }
    model.add_at(
        "hard",
        Kind::Hardlink(vec![b"file100".to_vec()]),
        with(0, &[]),
    );
    model.add_at("a", Kind::Directory, with(3, &[label]));
    model.add_at("a/b", Kind::Directory, with(4, &[]));
    model.add_at("a/b/c", link_to("../../file1"), attributes(0o777));
    model.add_at("long-link", link_to(&"t/".repeat(2000)), attributes(0o777));
    model.add_at(
        "null",
        Kind::CharDevice(Device { major: 1, minor: 3 }),
        with(0, &[]),
    );
    model.add_at(
        "disk",
        Kind::BlockDevice(Device {
            major: 259,
            minor: 70_000,
        }),
        with(0, &[]),
    );
    model.add_at("fifo", Kind::Fifo, with(0, &[]));
    model.add_at("socket", Kind::Socket, with(0, &[]));
    model.add(vec![b"\xff\xfe!".to_vec()], file(1, 1), with(0, &[]));
    model.add_at("large", Kind::Directory, with(0, &[]));
    for number in 0..500 {
        model.add_at(
            &format!("large/{number:060}"),
            file(number, 20),
            with(0, &[label]),
        );
    }
    model
}

fn on_disk(root: &FsPath, path: &Path) -> PathBuf {
    let names = path.iter().map(|name| OsStr::from_bytes(name));
    root.join(names.collect::<PathBuf>())
}

/// Makes a folder of a model.
fn unpack(model: &Model, root: &FsPath) {
    for path in &model.order {
        let at = on_disk(root, path);
        let node = |kind, device: Device| {
            let device = makedev(device.major, device.minor);
            mknodat(CWD, &at, kind, Mode::RUSR, device).unwrap();
        };
        let none = Device { major: 0, minor: 0 };
        match &model.entries[path].kind {
            Kind::Directory => fs::create_dir(&at).unwrap(),
            Kind::File(content) => fs::write(&at, content).unwrap(),
            Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &at).unwrap(),
            Kind::CharDevice(device) => node(FileType::CharacterDevice, *device),
            Kind::BlockDevice(device) => node(FileType::BlockDevice, *device),
            Kind::Fifo => node(FileType::Fifo, none),
            Kind::Socket => node(FileType::Socket, none),
            Kind::Hardlink(target) => fs::hard_link(on_disk(root, target), &at).unwrap(),
        }
    }
    // from the last to the first, as entries change the times of their directories
    for (path, entry) in model.entries.iter().rev() {
        let at = on_disk(root, path);
        let Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        } = &entry.attributes;
        if matches!(entry.kind, Kind::Hardlink(_)) {
            continue;
        }
        lchown(&at, Some(*uid), Some(*gid)).unwrap();
        if !matches!(entry.kind, Kind::Symlink(_)) {
            fs::set_permissions(&at, fs::Permissions::from_mode((*mode).into())).unwrap();
        }
        for Xattr { name, value } in xattrs {
            xattr::set(&at, OsStr::from_bytes(name), value).unwrap();
        }
        let time = Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanoseconds.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// What mkfs.erofs makes of the example with each set of options, or why there is nothing.
fn made_by_mkfs<'a>(options: &[&'a [&'a str]]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can make device nodes");
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    unpack(&example(), &root);
    let mut images = Vec::new();
    for options in options {
        let image = folder.path().join("image");
        let mut mkfs = Command::new("mkfs.erofs");
        match mkfs.args(*options).args([&image, &root]).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err("there is no mkfs.erofs");
            }
            result => {
                let output = result.unwrap();
                assert!(output.status.success(), "{output:?}");
                images.push((options.join(" "), fs::read(&image).unwrap()));
            }
        }
    }
    Ok(images)
}

#[test]
fn images_of_mkfs_erofs_are_read() {
    let options: [&[&str]; 6] = [
        &[],
        &["-x1"],
        &["-Eforce-inode-extended"],
        &["-Enoinline_data"],
        &["--chunksize=4096"],
        &["--chunksize=65536", "-Eforce-chunk-indexes"],
    ];
    images_are_read("images_of_mkfs_erofs_are_read", &options);
}

#[test]
fn compressed_images_of_mkfs_erofs_are_read() {
    const TEST: &str = "compressed_images_of_mkfs_erofs_are_read";
    images_are_read(
        TEST,
        &[
            &["-zlz4"],
            &["-zlz4hc"],
            &["-zlz4hc", "-C65536"],
            &["-zlz4hc", "-C65536", "-Eforce-inode-extended"],
            &["-zlz4", "-C1048576"],
            &["-zlz4", "-C16384", "-Eztailpacking"],
            &["-zlz4hc", "-C65536", "--max-extent-bytes=100000"],
        ],
    );
    if !mkfs_knows_zstd() {
        return support::skip(TEST, "this mkfs.erofs does not know zstd");
    }
    images_are_read(
        TEST,
        &[
            &["-zzstd", "-C65536"],
            &[
                "-zzstd,3",
                "-C131072",
                "--max-extent-bytes=131073",
                "-Efragments",
            ],
            &["-zzstd,3", "-C131072", "-Eall-fragments"],
            &["-zlz4hc", "-C65536", "-Efragments"],
            &["-zzstd", "-C65536", "-Elegacy-compress"],
            &["-zzstd", "-C65536", "-Elegacy-compress,fragments"],
        ],
    );
}

fn mkfs_knows_zstd() -> bool {
    let output = Command::new("mkfs.erofs").arg("--help").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("zstd"))
}

#[test]
fn what_is_compressed_in_other_ways_is_refused() {
    const TEST: &str = "what_is_compressed_in_other_ways_is_refused";
    // without zero padding
    let images = made_by_mkfs(&[&["-zlz4", "-Elegacy-compress"]]);
    let images = match images {
        Err(reason) => return support::skip(TEST, reason),
        Ok(images) => images,
    };
    let error = read(&images[0].1).unwrap_err();
    assert!(error.to_string().contains("zero padding"), "{error}");
    if !mkfs_knows_zstd() {
        return support::skip(
            TEST,
            "this mkfs.erofs knows neither deflate nor deduplication",
        );
    }
    for (options, reason) in [
        (["-zdeflate", "-C65536"], "DEFLATE"),
        (["-zlz4", "-Ededupe"], "shares a part"),
    ] {
        let images = made_by_mkfs(&[&options]).unwrap();
        let error = read(&images[0].1).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// Passes if the library reads of the images of mkfs.erofs what went into them.
fn images_are_read(test: &str, options: &[&[&str]]) {
    match made_by_mkfs(options) {
        Err(reason) => support::skip(test, reason),
        Ok(images) => {
            for (options, image) in images {
                assert_seen(&read(&image).unwrap(), &example(), &options);
            }
        }
    }
}

#[test]
fn the_example_is_what_the_kernel_sees_too() {
    if let Some(reason) = erofs_model::why_no_mount() {
        return support::skip("the_example_is_what_the_kernel_sees_too", reason);
    }
    let image = example().write().unwrap().0;
    assert_seen(&Mounted::new(&image).see(), &example(), "example");
}

#[test]
fn paths_are_looked_up() {
    let image = example().write().unwrap().0;
    let file_system = FileSystem::open(&image[..]).unwrap();
    for path in ["a/b", "/a/b", "a//b/"] {
        let found = file_system.lookup(path.as_bytes()).unwrap().unwrap();
        assert_eq!(found.uid, 4, "{path}");
    }
    assert_eq!(
        file_system.lookup(b"").unwrap().unwrap(),
        file_system.root().unwrap()
    );
    for path in ["x", "a/x", "file1/x", "a/b/c/x", "a/../a", "./a"] {
        assert_eq!(file_system.lookup(path.as_bytes()).unwrap(), None, "{path}");
    }
}

#[test]
fn content_can_be_read_from_anywhere() {
    let image = example().write().unwrap().0;
    let file_system = FileSystem::open(&image[..]).unwrap();
    let inode = file_system.lookup(b"file8191").unwrap().unwrap();
    let mut file = file_system.content(&inode).unwrap();
    let expected = content(7, 8191);
    for (offset, length) in [
        (0, 1),
        (4090, 10),
        (4096, 4095),
        (8190, 1),
        (5000, 9000),
        (8191, 5),
        (u64::MAX, 5),
    ] {
        let mut buffer = vec![0; length];
        let read = file.read_at(&mut buffer, offset).unwrap();
        let start = (offset.min(8191)) as usize;
        let end = (start + length).min(8191);
        assert_eq!(
            buffer[..read],
            expected[start..end],
            "{length} bytes at {offset}"
        );
    }
}

/// Changes the file system of a model by `change`, with the checksum switched off, and reads it.
fn read_changed(model: &Model, change: impl FnOnce(&FileSystem<&[u8]>, &mut Vec<u8>)) -> ReadError {
    let image = model.write().unwrap().0;
    let mut changed = image.clone();
    change(&FileSystem::open(&image[..]).unwrap(), &mut changed);
    switch_checksum_off(&mut changed);
    read(&changed).unwrap_err()
}

fn switch_checksum_off(image: &mut [u8]) {
    image[1024 + 8] &= !1;
}

/// Where an inode lies; they are numbered from block 0.
fn inode_at(file_system: &FileSystem<&[u8]>, path: &str) -> usize {
    let inode = file_system.lookup(path.as_bytes()).unwrap().unwrap();
    inode.nid.0 as usize * 32
}

fn position_of(image: &[u8], bytes: &[u8]) -> usize {
    let mut windows = image.windows(bytes.len());
    windows.position(|window| window == bytes).unwrap()
}

#[test]
fn directories_in_circles_are_refused() {
    let mut model = Model::new(attributes(0o755));
    model.add_at("outer", Kind::Directory, attributes(0o755));
    model.add_at("outer/inner", Kind::Directory, attributes(0o755));
    let error = read_changed(&model, |file_system, image| {
        let nid = |path: &[u8]| file_system.lookup(path).unwrap().unwrap().nid;
        let entry = position_of(image, &nid(b"outer/inner").0.to_le_bytes());
        image[entry..entry + 8].copy_from_slice(&nid(b"outer").0.to_le_bytes());
        let Nid(_) = nid(b"");
    });
    assert!(error.to_string().contains("several places"), "{error}");
}

#[test]
fn directories_that_claim_more_than_the_image_has_are_refused() {
    let mut model = Model::new(attributes(0o755));
    for name in ["a", "b"] {
        model.add_at(name, Kind::Directory, attributes(0o755));
    }
    for (size, reason) in [
        (4096 * 2, "shares its entries"),
        (u32::MAX, "shares its entries"),
    ] {
        let error = read_changed(&model, |file_system, image| {
            for name in ["a", "b"] {
                let size_at = inode_at(file_system, name) + 8;
                image[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
            }
        });
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn paths_that_no_kernel_takes_are_refused() {
    let mut model = Model::new(attributes(0o755));
    let mut path = Vec::new();
    for _ in 0..20 {
        path.push(vec![b'd'; 255]);
        model.add(path.clone(), Kind::Directory, attributes(0o755));
    }
    let error = read_changed(&model, |_, _| {});
    assert!(error.to_string().contains("nested too deeply"), "{error}");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let mut model = Model::new(attributes(0o755));
    let link = |model: &mut Model| model.add_at("link", link_to("target"), attributes(0o777));
    link(&mut model);
    for size in [0_u32, 4097, u32::MAX] {
        let error = read_changed(&model, |file_system, image| {
            let size_at = inode_at(file_system, "link") + 8;
            image[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
        });
        assert!(matches!(error, ReadError::Inode { .. }), "{size}: {error}");
    }
}

#[test]
fn images_that_are_cut_off_are_refused() {
    let image = example().write().unwrap().0;
    for length in [0, 1023, 1100, 1152, 4095, 4096, image.len() - 1] {
        assert!(
            FileSystem::open(&image[..length]).is_err(),
            "{length} bytes"
        );
    }
}

/// Reads all that can be read, at most 64 KiB of each file, and forgets it.
fn read_anything(image: &[u8]) {
    let Ok(file_system) = FileSystem::open(image) else {
        return;
    };
    let _ = file_system.walk(|_, inode| {
        let _ = file_system.xattrs(inode);
        let _ = file_system.read_link(inode);
        if let Ok(content) = file_system.content(inode) {
            let _ = content.take(1 << 16).read_to_end(&mut Vec::new());
        }
        Ok::<_, ReadError>(())
    });
    let _ = file_system.lookup(b"a/b/c");
}

/// A small tree with something of everything.
fn small() -> Model {
    let mut model = example();
    let large = |path: &Path| path.first().is_some_and(|name| name.starts_with(b"large"));
    let keep = |path: &Path| !large(path) && path.first().is_none_or(|name| name != b"file300000");
    model.entries.retain(|path, _| keep(path));
    model.order.retain(keep);
    model.add_at("two-blocks", Kind::Directory, attributes(0o755));
    for number in 0..40 {
        model.add_at(
            &format!("two-blocks/{number:0100}"),
            Kind::Fifo,
            attributes(0o755),
        );
    }
    model
}

/// A tree of a few compressed files.
fn compressed(compression: &str) -> Vec<u8> {
    let mut model = Model::new(attributes(0o755));
    for (number, size) in [4500, 20_000, 200_000].into_iter().enumerate() {
        let seed = number as u64;
        model.add_at(
            &format!("t{size}"),
            Kind::File(text(seed, size)),
            attributes(0),
        );
        model.add_at(
            &format!("m{size}"),
            Kind::File(mixed(seed, size)),
            attributes(0),
        );
    }
    let options = Options {
        compression: compression.parse().unwrap(),
        chunk_size: ChunkSize::new(16_384).unwrap(),
        ..Model::options()
    };
    model.write_with(options).unwrap().0
}

/// Images with a few changed bytes, among them the values at which arithmetic goes wrong.
fn damaged(image: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    // where something other than content is
    let places: Vec<_> = (1024..image.len())
        .filter(|&at| image[at] != 0 || at < 4096)
        .collect();
    let byte = prop_oneof![
        Just(0_u8),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xff),
        any::<u8>()
    ];
    let change = (any::<Index>(), prop::collection::vec(byte, 1..=8));
    prop::collection::vec(change, 1..12).prop_map(move |changes| {
        let mut image = image.clone();
        for (place, bytes) in changes {
            let at = *place.get(&places);
            for (old, new) in image[at..].iter_mut().zip(bytes) {
                *old = new;
            }
        }
        switch_checksum_off(&mut image);
        image
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn damaged_images_are_read_or_refused(image in damaged(small().write().unwrap().0)) {
        read_anything(&image);
    }

    #[test]
    fn damaged_compressed_images_are_read_or_refused(
        image in prop_oneof![damaged(compressed("lz4")), damaged(compressed("zstd"))],
    ) {
        read_anything(&image);
    }
}

#[test]
fn damaged_images_of_mkfs_erofs_are_read_or_refused() {
    let images = made_by_mkfs(&[
        &["--chunksize=4096"],
        &["-zlz4"],
        &["-zlz4", "-C65536", "-Eztailpacking"],
    ]);
    let images = match images {
        Err(reason) => {
            return support::skip("damaged_images_of_mkfs_erofs_are_read_or_refused", reason);
        }
        Ok(images) => images,
    };
    for (_, image) in images {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(300)
        });
        let read = |image: Vec<u8>| {
            read_anything(&image);
            Ok(())
        };
        runner.run(&damaged(image), read).unwrap();
    }
}
