//! Hashing a file system that is there already, beside `veritysetup format`:
//! `cargo bench --bench verity`.

mod support;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use support::layer::Random;
use support::measure::{Output, Way, in_turn};
use support::session::Session;
use support::{children, machine, peers};
use sysgraft::verity::HashedData;

const SIZE: u64 = 1 << 30;
const SALT: [u8; 32] = [0x5a; 32];
/// Both put the tree behind one block of superblock.
const TREE_OFFSET: u64 = 4096;

const OURS: &str = "sysgraft, one core";
const THEIRS: &str = "veritysetup format, one core";

fn main() {
    if let Some(arguments) = children::task() {
        return hash(Path::new(&arguments[0]), Path::new(&arguments[1]));
    }
    let session = Session::start("Verity", SIZE + SIZE / 8);
    let data = session.path("data");
    make_data(&data, session.scaled(SIZE) & !0xfffff);
    let (our_hashes, their_hashes) = (session.path("ours"), session.path("theirs"));

    let mut ours = children::itself();
    ours.arg(&data).arg(&our_hashes);
    let all_cores = format!("sysgraft, {} cores", machine::cores());
    let mut ways = vec![
        Way::ours(OURS, on_one_core(&ours), Output::File(our_hashes.clone())),
        Way::ours(&all_cores, ours, Output::File(our_hashes.clone())),
    ];
    if let Some(veritysetup) = peers::veritysetup() {
        let mut format = veritysetup.command();
        format
            .arg("format")
            .arg(format!("--salt={}", "5a".repeat(SALT.len())))
            .arg(&data)
            .arg(&their_hashes);
        let output = Output::File(their_hashes.clone());
        ways.push(Way::peer(THEIRS, vec![on_one_core(&format).into()], output));
    }
    let size = std::fs::metadata(&data).unwrap().len();
    println!(
        "\n{} MB, cached; MB are those of the tree.\n",
        size / 1_000_000
    );
    let results = in_turn(&session, ways);
    results.print(&[("MB/s", &|figures| {
        format!("{:.0}", size as f64 / 1e6 / figures.wall.as_secs_f64())
    })]);
    results.compare(&[(OURS, THEIRS, "4"), (&all_cores, THEIRS, "")]);
    if results.figures(THEIRS).is_some() {
        assert!(
            tree(&our_hashes) == tree(&their_hashes),
            "veritysetup's tree is another one"
        );
        println!("Both trees are equal.\n");
    }
}

fn on_one_core(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", "0"])
        .arg(command.get_program())
        .args(command.get_args());
    pinned
}

fn make_data(path: &Path, size: u64) {
    let mut file = File::create(path).unwrap();
    io::copy(&mut Random::new().take(size), &mut file).unwrap();
}

/// What `veritysetup format` does, but for the superblock.
fn hash(data: &Path, hashes: &Path) {
    let file = File::open(data).unwrap();
    let size = file.metadata().unwrap().len();
    let data = HashedData::of_existing(file, 0, size, SALT.into()).unwrap();
    let (_, tree) = data.into_tree().unwrap();
    let mut hashes = File::create(hashes).unwrap();
    hashes.write_all(&[0; TREE_OFFSET as usize]).unwrap();
    for level in tree.levels_on_disk() {
        hashes.write_all(level).unwrap();
    }
}

/// The hash blocks; a 128th of the data.
fn tree(hashes: &Path) -> Vec<u8> {
    let file = File::open(hashes).unwrap();
    let size = file.metadata().unwrap().len() - TREE_OFFSET;
    let mut tree = vec![0; usize::try_from(size).unwrap()];
    file.read_exact_at(&mut tree, TREE_OFFSET).unwrap();
    tree
}
