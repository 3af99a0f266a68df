//! From a gzip layer to a signed image, beside what the slowest stage takes alone and beside the
//! ways that people have now: `cargo bench --bench whole_job`.

mod support;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use support::layer::Layer;
use support::measure::{Output, Step, Way, in_turn};
use support::session::Session;
use support::{builder, children, layer, peers};
use sysgraft::layer::Expected;
use sysgraft::source::LayerBytes;

/// The layer plain and compressed, its tree, and an image beside scratch files.
const ROOM: u64 = 3_000_000_000;

const INFLATE: &str = "sysgraft's inflate alone";

fn main() {
    if let Some(arguments) = children::task() {
        return inflate(Path::new(&arguments[0]));
    }
    let session = Session::start("The whole job", ROOM);
    let layer = layer::few_large_binaries(&session);
    let compressed = layer.gzip();
    let mut ways: Vec<Way> = ["none", "lz4", "lz4hc", "zstd"]
        .into_iter()
        .map(|compression| {
            let command = builder::signed_sysext(&session, compression, &compressed);
            builder::way(&session, our_name(compression), command)
        })
        .collect();
    let mut inflate = children::itself();
    inflate.arg(&compressed);
    ways.push(Way::ours(INFLATE, inflate, Output::Nothing));
    ways.extend(unpackers(&session, &compressed));
    ways.extend(parts(&session, &compressed));
    ways.extend(repart(&session, &compressed));

    println!(
        "\nA gzip layer of {} MB becomes a signed image; MB are those of its file system.\n",
        std::fs::metadata(&compressed).unwrap().len() / 1_000_000
    );
    layer.print_head();
    let results = in_turn(&session, ways);
    results.print(&[]);
    results.compare(&[
        (&our_name("none"), INFLATE, "0.77 (within 1.3×)"),
        (&our_name("zstd"), INFLATE, "0.77 (within 1.3×)"),
        (&our_name("none"), PARTS, ""),
        (&our_name("none"), &repart_name("none"), "5"),
        (&our_name("zstd"), &repart_name("zstd,3"), "10"),
    ]);
}

fn our_name(compression: &str) -> String {
    format!("sysgraft {compression}")
}

/// Reads the layer as a build does, and does nothing with its content.
fn inflate(layer: &Path) {
    let stored = LayerBytes::Archive(Box::new(File::open(layer).unwrap()));
    let mut entries = sysgraft::layer::open(stored, Expected::default()).unwrap();
    while entries.next_entry().unwrap().is_some() {}
    entries.finish().unwrap();
}

/// Inflate alone, by other programs.
fn unpackers(session: &Session, compressed: &Path) -> Vec<Way> {
    [("gunzip", peers::gunzip()), ("igzip -d", peers::igzip())]
        .into_iter()
        .filter_map(|(name, peer)| {
            let mut command = peer?.command();
            command.arg("-dc").arg(compressed);
            let tar = session.output("layer.tar");
            let step = Step::printing_into(command, tar.clone());
            Some(Way::peer(name, vec![step], Output::File(tar)))
        })
        .collect()
}

const PARTS: &str = "gunzip, mkfs.erofs none, veritysetup (no image, no signature)";

/// The parts of the job, one after another.
fn parts(session: &Session, compressed: &Path) -> Option<Way> {
    let (Some(mkfs), Some(veritysetup)) = (peers::mkfs_erofs(), peers::veritysetup()) else {
        return None;
    };
    let (tar, image) = (session.output("layer.tar"), session.output("erofs"));
    let mut gunzip = Command::new("gunzip");
    gunzip.arg("-c").arg(compressed);
    let mut verity = veritysetup.command();
    verity
        .arg("format")
        .arg(&image)
        .arg(session.output("hashes"));
    let steps = vec![
        Step::printing_into(gunzip, tar.clone()),
        mkfs.make("", &peers::Input::Tar(&tar), &image).into(),
        verity.into(),
    ];
    Some(Way::peer(PARTS, steps, Output::File(image)))
}

fn repart_name(compression: &str) -> String {
    format!("tar -xz, systemd-repart {compression}, signed")
}

fn repart(session: &Session, compressed: &Path) -> Vec<Way> {
    let Some(repart) = peers::repart() else {
        return Vec::new();
    };
    let (tree, image) = (session.output("tree"), session.output("bench.raw"));
    peers::REPART_COMPRESSIONS
        .into_iter()
        .map(|compression| {
            let unpack = Layer::unpack_command(compressed, &tree);
            let make = repart.make(session, compression, &tree, &image);
            let steps = vec![unpack.into(), make.into()];
            let output = Output::FileSystemIn(image.clone());
            Way::peer(repart_name(compression.0), steps, output)
        })
        .collect()
}
