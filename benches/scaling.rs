//! How time and memory grow with workers, bytes and files:
//! `cargo bench --bench scaling [-- LAYER…]`.

mod support;

use support::layer::{self, Layer};
use support::measure::{Output, Way, in_turn};
use support::peers::{self, Input, MkfsErofs, TUNED_ZSTD};
use support::results::Figures;
use support::session::Session;
use support::table::mebibytes;
use support::{builder, machine};

/// 4 GB as archive and as image.
const ROOM: u64 = 10_000_000_000;

/// What a build may need: so much, and so much more for each file.
const MEMORY: u64 = 128 << 20;
const MEMORY_PER_FILE: u64 = 400;

const FILE_SIZE: u64 = 5_000_000;
const SIZES: [(&str, u64); 4] = [
    ("10 MB", 10_000_000),
    ("100 MB", 100_000_000),
    ("1 GB", 1_000_000_000),
    ("4 GB", 4_000_000_000),
];
const COUNTS: [(&str, u64); 3] = [
    ("100 files", 100),
    ("10 000 files", 10_000),
    ("200 000 files", 200_000),
];

const MKFS_NONE: &str = "mkfs.erofs none, tar";
const MKFS_ZSTD: &str = "mkfs.erofs tuned zstd, tar";

fn main() {
    let session = Session::start("Scaling", ROOM);
    let mkfs = peers::mkfs_erofs();
    println!(
        "\nLayers are cut from the Rust toolchain. \"Bound\" is {} MiB and {MEMORY_PER_FILE} bytes \
         for each file. {MKFS_ZSTD}: `{}`.\n",
        MEMORY >> 20,
        TUNED_ZSTD
    );
    let stock = layer::few_large_binaries(&session);
    for (name, size) in SIZES {
        if session.wants(name) {
            let files = (session.scaled(size) / FILE_SIZE).max(1);
            let layer = stock.cut_into(&session, name, files, |_| FILE_SIZE);
            measure_bytes(&session, mkfs.as_ref(), layer);
        }
    }
    for (name, count) in COUNTS {
        if session.wants(name) {
            let files = session.scaled(count).max(100);
            let layer = stock.cut_into(&session, name, files, small_size);
            measure_files(&session, mkfs.as_ref(), layer);
        }
    }
}

/// 200 bytes to 4 kB, 2 kB on average, as documentation and scripts are.
fn small_size(number: u64) -> u64 {
    200 + (number * 2_654_435_761) % 3_800
}

/// 1, 2, and all cores where there are more.
fn worker_counts() -> Vec<usize> {
    let mut counts = vec![1, 2];
    counts.extend(Some(machine::cores()).filter(|cores| *cores > 2));
    counts
}

fn measure_bytes(session: &Session, mkfs: Option<&MkfsErofs>, layer: Layer) {
    // High compression of gigabytes says nothing that it did not say before.
    let compressions: &[&str] = if layer.bytes > 1_000_000_000 {
        &["none", "zstd"]
    } else {
        &["none", "lz4hc", "zstd"]
    };
    let rate = |figures: &Figures| layer.bytes as f64 / 1e6 / figures.wall.as_secs_f64();
    measure(session, mkfs, &layer, (compressions, ""), ("MB/s", rate));
    layer.remove();
}

fn measure_files(session: &Session, mkfs: Option<&MkfsErofs>, layer: Layer) {
    let rate = |figures: &Figures| figures.wall.as_secs_f64() * 1e6 / layer.files as f64;
    let ours = (&["none", "zstd"][..], "1");
    measure(session, mkfs, &layer, ours, ("µs per file", rate));
    layer.remove();
}

/// `goal` is how many times as fast as mkfs.erofs is wanted without compression.
fn measure(
    session: &Session,
    mkfs: Option<&MkfsErofs>,
    layer: &Layer,
    (compressions, goal): (&[&str], &str),
    (unit, rate): (&str, impl Fn(&Figures) -> f64),
) {
    layer.print_head();
    let mut ways = ours(session, layer, compressions);
    ways.extend(theirs(session, mkfs, layer));
    let bound = mebibytes(MEMORY + MEMORY_PER_FILE * layer.files);
    let results = in_turn(session, ways);
    results.print(&[
        (unit, &|figures| format!("{:.1}", rate(figures))),
        ("bound MiB", &|_| bound.clone()),
    ]);
    let most = *worker_counts().last().unwrap();
    let [none, zstd, lz4hc] = ["none", "zstd", "lz4hc"].map(|name| our_name(name, most));
    results.compare(&[
        (&none, MKFS_NONE, goal),
        (&none, &our_name("none", 1), ""),
        (&zstd, MKFS_ZSTD, ""),
        (&zstd, &our_name("zstd", 1), ""),
        (&lz4hc, &our_name("lz4hc", 1), ""),
    ]);
}

fn our_name(compression: &str, jobs: usize) -> String {
    format!("sysgraft {compression}, --jobs {jobs}")
}

fn ours(session: &Session, layer: &Layer, compressions: &[&str]) -> Vec<Way> {
    let mut ways = Vec::new();
    for compression in compressions {
        for jobs in worker_counts() {
            let mut command = builder::sysext(session, compression, &layer.tar);
            command.arg(format!("--jobs={jobs}"));
            let name = our_name(compression, jobs);
            ways.push(builder::way(session, name, command));
        }
    }
    ways
}

fn theirs(session: &Session, mkfs: Option<&MkfsErofs>, layer: &Layer) -> Vec<Way> {
    let Some(mkfs) = mkfs else {
        return Vec::new();
    };
    [(MKFS_NONE, ""), (MKFS_ZSTD, TUNED_ZSTD)]
        .into_iter()
        .map(|(name, options)| {
            let image = session.output("erofs");
            let command = mkfs.make(options, &Input::Tar(&layer.tar), &image);
            Way::peer(name, vec![command.into()], Output::File(image))
        })
        .collect()
}
