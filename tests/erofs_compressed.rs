//! Compressed content: what the writer writes and what mkfs.erofs writes, read back by the library,
//! by fsck.erofs and by the kernel.

// clippy knows the tests by their attribute, but not the functions that they call
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation
)]

mod erofs_model;
mod support;

use std::num::NonZeroUsize;

use erofs_model::fsck::fsck;
use erofs_model::random::{models, runner};
use erofs_model::{
    Kind, Model, Mounted, assert_seen, attributes, content, mixed, read, text, why_no_mount,
};
use sysgraft::erofs::{
    Algorithm, ChunkSize, Compression, FileSystem, Layout, Options, TailPacking,
};

/// How a file system is to be written.
#[derive(Clone, Copy, Debug)]
struct Setting {
    compression: Compression,
    chunk_size: ChunkSize,
    tail_packing: TailPacking,
}

/// A setting by the names of its parts.
fn setting(compression: &str, chunk_size: &str, tail_packing: &str) -> Setting {
    Setting {
        compression: compression.parse().unwrap(),
        chunk_size: chunk_size.parse().unwrap(),
        tail_packing: tail_packing.parse().unwrap(),
    }
}

/// Every algorithm with small, middling and the largest chunks, and every packing of tails.
fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for compression in ["lz4", "lz4hc", "zstd:3"] {
        for chunk_size in ["8K", "64K", "1M"] {
            for tail_packing in ["none", "inline", "fragments"] {
                settings.push(setting(compression, chunk_size, tail_packing));
            }
        }
    }
    settings
}

fn options(setting: Setting, jobs: usize) -> Options {
    Options {
        compression: setting.compression,
        chunk_size: setting.chunk_size,
        tail_packing: setting.tail_packing,
        jobs: NonZeroUsize::new(jobs).unwrap(),
        ..Model::options()
    }
}

fn write(model: &Model, setting: Setting) -> Vec<u8> {
    model.write_with(options(setting, 2)).unwrap().0
}

/// Files around every limit of blocks and chunks, of all kinds of content.
fn boundaries(chunk: usize) -> Model {
    let mut model = Model::new(attributes(0o755));
    let sizes = [
        0,
        1,
        4095,
        4096,
        4097,
        4600,
        8191,
        8192,
        8193,
        chunk - 1,
        chunk,
        chunk + 1,
        chunk + 4095,
        chunk + 4096,
        chunk + 4097,
        2 * chunk - 4096,
        2 * chunk,
        3 * chunk + 5000,
    ];
    for (number, size) in sizes.into_iter().enumerate() {
        let seed = number as u64;
        let kinds = [
            ("zeros", vec![0; size]),
            ("text", text(seed, size)),
            ("random", content(seed, size)),
            ("mixed", mixed(seed, size)),
        ];
        for (kind, bytes) in kinds {
            let mut attributes = attributes(0o644);
            // inodes of both sizes, and indexes that start anywhere behind them
            attributes.uid = if number % 2 == 0 { 0 } else { 70_000 };
            if number % 3 == 0 {
                let value = vec![b'v'; number];
                let name = b"user.name".to_vec();
                attributes
                    .xattrs
                    .push(sysgraft::layer::Xattr { name, value });
            }
            model.add_at(
                &format!("{kind}-{size}-{number}"),
                Kind::File(bytes),
                attributes,
            );
        }
        model.add_at(
            &format!("link-{number}"),
            Kind::Symlink(b"target".to_vec()),
            attributes(0o777),
        );
    }
    model
}

fn boundaries_of(setting: Setting) -> Model {
    boundaries(setting.chunk_size.bytes())
}

#[test]
fn the_library_reads_back_what_it_wrote() {
    for settings in settings() {
        let model = boundaries_of(settings);
        let image = write(&model, settings);
        assert_seen(&read(&image).unwrap(), &model, &format!("{settings:?}"));
    }
    for tail_packing in ["none", "inline", "fragments"] {
        runner(40)
            .run(&models(60), |model| {
                let image = write(&model, setting("zstd:3", "64K", tail_packing));
                assert_seen(&read(&image).unwrap(), &model, tail_packing);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn the_kernel_shows_what_was_written() {
    const TEST: &str = "the_kernel_shows_what_was_written";
    if let Some(reason) = why_no_mount() {
        return support::skip(TEST, reason);
    }
    for settings in settings() {
        let model = boundaries_of(settings);
        let seen = Mounted::new(&write(&model, settings)).see();
        assert_seen(&seen, &model, &format!("{settings:?}"));
    }
}

#[test]
fn fsck_finds_nothing_wrong() {
    const TEST: &str = "fsck_finds_nothing_wrong";
    for settings in settings() {
        let image = write(&boundaries_of(settings), settings);
        match fsck(&image) {
            None => return support::skip(TEST, "there is no fsck.erofs"),
            Some(Err(error)) if error.contains("unknown compression format 3") => {
                support::skip(TEST, "this fsck.erofs does not know zstd");
            }
            Some(result) => assert_eq!(result, Ok(()), "{settings:?}"),
        }
    }
}

#[test]
fn the_number_of_workers_changes_nothing() {
    for setting in settings() {
        let model = boundaries_of(setting);
        let [one, two, eight] =
            [1, 2, 8].map(|jobs| model.write_with(options(setting, jobs)).unwrap());
        assert!(one == two && two == eight, "{setting:?}");
    }
}

#[test]
fn what_does_not_gain_is_not_compressed() {
    let setting = setting("lz4", "8K", "none");
    let mut model = Model::new(attributes(0o755));
    for (name, bytes) in [
        ("short", vec![0; 4096]),
        ("random", content(1, 300_001)),
        ("zeros", vec![0; 300_001]),
    ] {
        model.add_at(name, Kind::File(bytes), attributes(0o644));
    }
    let image = write(&model, setting);
    let file_system = FileSystem::open(&image[..]).unwrap();
    let layout = |name: &str| {
        let inode = file_system.lookup(name.as_bytes()).unwrap().unwrap();
        inode.layout
    };
    assert_eq!(layout("short"), Layout::FlatPlain);
    assert_eq!(layout("random"), Layout::FlatInline);
    assert_eq!(layout("zeros"), Layout::CompressedCompact);
    assert_eq!(file_system.superblock().algorithms, [Algorithm::Lz4]);
    assert_eq!(
        file_system.superblock().minimum_kernel().to_string(),
        "5.13"
    );
}

#[test]
fn a_tree_in_which_nothing_gains_is_as_if_it_were_not_to_be_compressed() {
    let mut model = Model::new(attributes(0o755));
    for number in 0..50 {
        let bytes = content(number, 3001 * number as usize);
        model.add_at(&format!("{number}"), Kind::File(bytes), attributes(0o644));
    }
    let plain = model.write().unwrap();
    for setting in settings() {
        if setting.tail_packing == TailPacking::None {
            let written = model.write_with(options(setting, 2)).unwrap();
            assert!(written == plain, "{setting:?}");
        }
    }
}

#[test]
fn totals_tell_what_compression_saves() {
    let mut model = Model::new(attributes(0o755));
    model.add_at("zeros", Kind::File(vec![0; 80_000]), attributes(0o644));
    model.add_at("short", Kind::File(vec![0; 10]), attributes(0o644));
    let stored = |tail_packing| {
        let options = options(setting("zstd:3", "8K", tail_packing), 1);
        let (_, summary) = model.write_with(options).unwrap();
        assert_eq!(summary.content_bytes, 80_010);
        summary.stored_bytes
    };
    assert_eq!(stored("none"), 10 * 4096 + 10);
    let inline = stored("inline");
    assert!((9 * 4096 + 11..10 * 4096).contains(&inline), "{inline}");
    // a block for all that is not a full chunk
    assert_eq!(stored("fragments"), 10 * 4096);
}

#[test]
fn equal_ends_of_files_are_stored_once() {
    let setting = setting("zstd:3", "64K", "fragments");
    let end = content(1, 30_000);
    let mut model = Model::new(attributes(0o755));
    for number in 0..20_u64 {
        let mut bytes = content(100 + number, 65_536);
        bytes.extend(&end);
        model.add_at(
            &format!("long-{number}"),
            Kind::File(bytes),
            attributes(0o644),
        );
        let all = Kind::File(end.clone());
        model.add_at(&format!("short-{number}"), all, attributes(0o644));
    }
    let (image, summary) = model.write_with(options(setting, 2)).unwrap();
    assert_eq!(summary.content_bytes, 20 * (65_536 + 2 * 30_000));
    assert_eq!(summary.stored_bytes, 20 * 65_536 + 8 * 4096);
    assert_seen(&read(&image).unwrap(), &model, "equal ends");
    match why_no_mount() {
        Some(reason) => support::skip("equal_ends_of_files_are_stored_once", reason),
        None => assert_seen(&Mounted::new(&image).see(), &model, "equal ends"),
    }
}

/// Kernels before 6.15 and others look behind the head of a compressed extent, where such a file ends.
#[test]
fn short_ends_that_find_no_room_behind_their_inodes_are_not_compressed() {
    let setting = setting("zstd:3", "8K", "inline");
    let mut model = Model::new(attributes(0o755));
    for (number, end) in [1000, 3000, 4095, 4096].into_iter().enumerate() {
        let mut attributes = attributes(0o644);
        attributes.xattrs.push(sysgraft::layer::Xattr {
            name: b"user.large".to_vec(),
            value: vec![b'v'; 3300],
        });
        // half of it can be compressed
        let mut bytes = text(number as u64, 40 * 8192);
        bytes.extend(content(number as u64, end / 2));
        bytes.resize(40 * 8192 + end, b'x');
        model.add_at(&format!("{end}"), Kind::File(bytes), attributes);
    }
    let image = write(&model, setting);
    assert_seen(&read(&image).unwrap(), &model, "no room");
    match fsck(&image) {
        Some(result) => assert_eq!(result, Ok(())),
        None => support::skip("short_ends_that_find_no_room", "there is no fsck.erofs"),
    }
}

#[test]
fn tails_lie_where_they_were_wanted_and_the_superblock_says_so() {
    let mut model = Model::new(attributes(0o755));
    for (name, size) in [("small", 3000), ("middle", 20_000), ("large", 200_000)] {
        model.add_at(name, Kind::File(text(7, size)), attributes(0o644));
    }
    let sizes = ["none", "inline", "fragments"].map(|tail_packing| {
        let image = write(&model, setting("lz4hc", "64K", tail_packing));
        let file_system = FileSystem::open(&image[..]).unwrap();
        let superblock = file_system.superblock();
        let needs = superblock.minimum_kernel().to_string();
        let packed = superblock.packed.is_some();
        match tail_packing {
            "none" => assert_eq!((&*needs, packed), ("5.13", false)),
            "inline" => assert_eq!((&*needs, packed), ("5.17", false)),
            _ => assert_eq!((&*needs, packed), ("6.1", true)),
        }
        image.len()
    });
    assert!(sizes[2] < sizes[0] && sizes[1] <= sizes[0], "{sizes:?}");
}

#[test]
fn many_small_files_between_large_ones_keep_their_order() {
    const TEST: &str = "many_small_files_between_large_ones_keep_their_order";
    let mut model = Model::new(attributes(0o755));
    for number in 0..3000_u64 {
        let size = if number % 100 == 0 {
            400_000
        } else {
            number as usize % 5000
        };
        model.add_at(
            &format!("{number}"),
            Kind::File(text(number, size)),
            attributes(0o644),
        );
    }
    for tail_packing in ["none", "inline", "fragments"] {
        let image = write(&model, setting("lz4hc", "64K", tail_packing));
        assert_seen(&read(&image).unwrap(), &model, tail_packing);
        match why_no_mount() {
            Some(reason) => support::skip(TEST, reason),
            None => assert_seen(&Mounted::new(&image).see(), &model, tail_packing),
        }
    }
}

#[test]
fn content_can_be_read_from_anywhere() {
    for settings in settings() {
        let bytes = mixed(5, 5_000_000);
        let mut model = Model::new(attributes(0o755));
        model.add_at("file", Kind::File(bytes.clone()), attributes(0o644));
        let image = write(&model, settings);
        let file_system = FileSystem::open(&image[..]).unwrap();
        let inode = file_system.lookup(b"file").unwrap().unwrap();
        let mut file = file_system.content(&inode).unwrap();
        for number in 0..500_usize {
            let offset = number.wrapping_mul(2_654_435_761) % bytes.len();
            let mut buffer = vec![1; number * 7];
            let read = file.read_at(&mut buffer, offset as u64).unwrap();
            let end = (offset + buffer.len()).min(bytes.len());
            assert!(buffer[..read] == bytes[offset..end], "{offset}");
        }
    }
}
