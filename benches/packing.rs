//! Packing layers of several kinds, beside mkfs.erofs, mksquashfs and systemd-repart:
//! `cargo bench --bench packing [-- LAYER…]`.

mod support;

use std::path::Path;

use support::builder;
use support::layer::{self, Layer};
use support::measure::{Output, Step, Way, in_turn};
use support::peers::{
    self, Input, MkfsErofs, PLAIN_LZ4, PLAIN_LZ4HC, PLAIN_ZSTD, Peer, Repart, TUNED_ZSTD,
};
use support::session::Session;

/// The largest layer as archive and as tree, and what is made of it.
const ROOM: u64 = 7_000_000_000;

/// The last three are for those who want most of size or of speed.
const COMPRESSIONS: [&str; 8] = [
    "none",
    "lz4",
    "lz4hc",
    "zstd",
    "zstd --tail-packing none",
    LARGE_LZ4HC,
    "zstd:2 --chunk-size 512K",
    FAST_ZSTD,
];
const LARGE_LZ4HC: &str = "lz4hc --chunk-size 512K";
const FAST_ZSTD: &str = "zstd:1 --chunk-size 1M";

struct Peers {
    mkfs_erofs: Option<MkfsErofs>,
    mksquashfs: Option<Peer>,
    repart: Option<Repart>,
}

fn main() {
    let session = Session::start("Packing", ROOM);
    let peers = Peers {
        mkfs_erofs: peers::mkfs_erofs(),
        mksquashfs: peers::mksquashfs(),
        repart: peers::repart(),
    };
    println!(
        "\nMB are those of the file system. sysgraft also hashes it, makes a disk image of it and \
         syncs it; so does systemd-repart, which signs besides. mkfs.erofs and mksquashfs do none \
         of this. \"tar\": straight from the archive; \"tree\": from a folder with the unpacked \
         layer, where unpacking is not counted, but for \"tar -x\".\n"
    );
    for (name, make) in [
        (
            "many small files",
            layer::many_small_files as fn(&Session) -> Layer,
        ),
        ("few large binaries", layer::few_large_binaries),
        ("already compressed", layer::incompressible),
        ("1 GB mixed", layer::mixed),
    ] {
        if session.wants(name) {
            measure(&session, &peers, make(&session));
        }
    }
}

fn measure(session: &Session, peers: &Peers, layer: Layer) {
    layer.print_head();
    let tree = layer.unpack(session);
    let mut ways: Vec<Way> = COMPRESSIONS
        .into_iter()
        .map(|compression| {
            let command = builder::sysext(session, compression, &layer.tar);
            builder::way(session, format!("sysgraft {compression}"), command)
        })
        .collect();
    if let Some(mkfs) = &peers.mkfs_erofs {
        for options in ["", PLAIN_LZ4, PLAIN_LZ4HC, PLAIN_ZSTD, TUNED_ZSTD] {
            for input in [Input::Tar(&layer.tar), Input::Tree(&tree)] {
                ways.push(mkfs_way(session, mkfs, options, &input));
            }
        }
    }
    if let Some(peer) = &peers.mksquashfs {
        ways.push(squashfs_way(session, peer, &tree));
    }
    if let Some(repart) = &peers.repart {
        for compression in peers::REPART_COMPRESSIONS {
            ways.push(repart_way(session, repart, compression, &layer));
        }
    }
    let (fast_zstd, large_lz4hc) = (
        &format!("sysgraft {FAST_ZSTD}"),
        &format!("sysgraft {LARGE_LZ4HC}"),
    );
    let results = in_turn(session, ways);
    results.print(&[]);
    results.compare(&[
        ("sysgraft zstd", &mkfs_name(PLAIN_ZSTD, "tar"), "15"),
        ("sysgraft zstd", &mkfs_name(PLAIN_ZSTD, "tree"), "15"),
        ("sysgraft zstd", &mkfs_name(TUNED_ZSTD, "tar"), "2"),
        ("sysgraft zstd", &mkfs_name(TUNED_ZSTD, "tree"), "2"),
        (fast_zstd, &mkfs_name(TUNED_ZSTD, "tar"), "2"),
        (fast_zstd, &mkfs_name(TUNED_ZSTD, "tree"), "2"),
        (large_lz4hc, &mkfs_name(PLAIN_LZ4HC, "tar"), "1.5"),
        (large_lz4hc, &mkfs_name(PLAIN_LZ4HC, "tree"), "1.5"),
        ("sysgraft lz4hc", &mkfs_name(PLAIN_LZ4HC, "tar"), "1.5"),
        ("sysgraft lz4hc", &mkfs_name(PLAIN_LZ4HC, "tree"), "1.5"),
        ("sysgraft lz4", &mkfs_name(PLAIN_LZ4, "tar"), ""),
        ("sysgraft none", &mkfs_name("", "tar"), ""),
        ("sysgraft none", &mkfs_name("", "tree"), ""),
        ("sysgraft zstd", SQUASHFS, ""),
        ("sysgraft none", &repart_name("none"), ""),
        ("sysgraft zstd", &repart_name("zstd,3"), ""),
    ]);
    std::fs::remove_dir_all(tree).unwrap();
    layer.remove();
}

fn mkfs_name(options: &str, input: &str) -> String {
    let options = if options.is_empty() { "none" } else { options };
    format!("mkfs.erofs {options}, {input}")
}

fn mkfs_way(session: &Session, mkfs: &MkfsErofs, options: &str, input: &Input<'_>) -> Way {
    let name = mkfs_name(
        options,
        match input {
            Input::Tar(_) => "tar",
            Input::Tree(_) => "tree",
        },
    );
    let image = session.output("erofs");
    let command = mkfs.make(options, input, &image);
    Way::peer(name, vec![command.into()], Output::File(image))
}

const SQUASHFS: &str = "mksquashfs zstd,3 256K, tree";

fn squashfs_way(session: &Session, mksquashfs: &Peer, tree: &Path) -> Way {
    let image = session.output("squashfs");
    let mut command = mksquashfs.command();
    command
        .arg(tree)
        .arg(&image)
        .args(["-comp", "zstd", "-Xcompression-level", "3", "-b", "256K"])
        .args(["-no-progress", "-quiet", "-noappend"]);
    Way::peer(SQUASHFS, vec![command.into()], Output::File(image))
}

fn repart_name(compression: &str) -> String {
    format!("tar -x, systemd-repart {compression}, signed")
}

fn repart_way(session: &Session, repart: &Repart, compression: (&str, &str), layer: &Layer) -> Way {
    let (tree, image) = (session.output("tree"), session.output("bench.raw"));
    let unpack = Layer::unpack_command(&layer.tar, &tree);
    let make = repart.make(session, compression, &tree, &image);
    let steps: Vec<Step> = vec![unpack.into(), make.into()];
    Way::peer(
        repart_name(compression.0),
        steps,
        Output::FileSystemIn(image),
    )
}
