//! What it costs to read from mounted images, beside those of mkfs.erofs:
//! `cargo bench --bench reading`. Needs root, for mounting and for dropping caches.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use support::builder;
use support::layer::{self, Layer, Random};
use support::measure::Output;
use support::mount::{Mounted, drop_caches};
use support::peers::{self, Input, MkfsErofs, PLAIN_LZ4HC, PLAIN_ZSTD, TUNED_ZSTD};
use support::session::Session;
use support::table::{Table, megabytes};
use sysgraft::image::DATA_OFFSET;

/// The layer, its tree and 20 images of it.
const ROOM: u64 = 6_000_000_000;

const CHUNK_SIZES: [&str; 5] = ["64K", "128K", "256K", "512K", "1M"];
const MKFS_OPTIONS: [&str; 4] = ["", PLAIN_LZ4HC, PLAIN_ZSTD, TUNED_ZSTD];

/// A page, as a page fault reads it.
const READ_SIZE: usize = 4096;
const READS: u64 = 2000;
/// Files kept open while reading at random; the largest ones.
const OPEN_FILES: usize = 500;

fn main() {
    if let Err(error) = drop_caches() {
        println!("## Reading\n\nNot measured: mounting and dropping caches need root ({error}).\n");
        return;
    }
    let session = Session::start("Reading", ROOM);
    let mkfs = peers::mkfs_erofs();
    println!(
        "\nThrough a loop device, without dm-verity, one reader; all caches are dropped before. On \
         a file system in memory these are the costs of the CPU alone. Sequential: every file from \
         its beginning to its end. Random: mean time of a read of {READ_SIZE} bytes at a random \
         place of the {OPEN_FILES} largest files, without readahead.\n"
    );
    for (name, make) in [
        (
            "few large binaries",
            layer::few_large_binaries as fn(&Session) -> Layer,
        ),
        ("many small files", layer::many_small_files),
    ] {
        if session.wants(name) {
            measure(&session, mkfs.as_ref(), make(&session));
        }
    }
}

fn measure(session: &Session, mkfs: Option<&MkfsErofs>, layer: Layer) {
    let tree = layer.unpack(session);
    let files = Files::below(&tree);
    fs::remove_dir_all(tree).unwrap();
    let mut images = our_images(session, &layer.tar);
    if let Some(mkfs) = mkfs {
        images.extend(mkfs_images(session, mkfs, &layer.tar));
    }
    for run in 1..=session.runs {
        for image in &mut images {
            eprintln!("  {run}/{} {}", session.runs, image.name);
            image.measure(session, &files);
        }
    }
    layer.print_head();
    println!("{}", table(&images, files.bytes()));
    for image in images {
        let _ = fs::remove_file(image.path);
    }
    layer.remove();
}

/// An image and what reading from it took.
struct Image {
    name: String,
    path: PathBuf,
    /// Of the file system in it.
    offset: u64,
    sequential: Vec<Duration>,
    random: Vec<Duration>,
    failure: Option<String>,
}

impl Image {
    /// What `command` makes; a peer may fail.
    fn make(name: String, path: PathBuf, offset: u64, mut command: Command) -> Image {
        eprintln!("  making {name}");
        let made = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let failure = match made {
            Ok(status) if status.success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        };
        Image {
            name,
            path,
            offset,
            sequential: Vec::new(),
            random: Vec::new(),
            failure,
        }
    }

    fn size(&self) -> u64 {
        let path = self.path.clone();
        match self.offset {
            0 => Output::File(path).size(),
            _ => Output::FileSystemIn(path).size(),
        }
    }

    fn measure(&mut self, session: &Session, files: &Files) {
        if self.failure.is_some() {
            return;
        }
        match Mounted::new(session, &self.path, self.offset) {
            Ok(mounted) => {
                drop_caches().unwrap();
                self.sequential.push(files.read_all(mounted.path()));
                let reads = session.scaled(READS);
                self.random
                    .push(files.read_at_random(mounted.path(), reads));
            }
            Err(failure) => self.failure = Some(failure),
        }
    }
}

fn our_images(session: &Session, layer: &Path) -> Vec<Image> {
    let compressed = ["lz4", "lz4hc", "zstd"]
        .into_iter()
        .flat_map(|compression| CHUNK_SIZES.map(|size| (compression, size)));
    [("none", CHUNK_SIZES[0])]
        .into_iter()
        .chain(compressed)
        .map(|(compression, chunk_size)| {
            let mut command = builder::sysext(session, compression, layer);
            command.arg(format!("--chunk-size={chunk_size}"));
            fs::create_dir_all(session.path("out")).unwrap();
            let name = match compression {
                "none" => "sysgraft none".to_owned(),
                _ => format!("sysgraft {compression} {chunk_size}"),
            };
            let image = session.path(&name.replace(' ', "-"));
            let made = Image::make(name, image.clone(), DATA_OFFSET, command);
            assert!(made.failure.is_none(), "{}: {:?}", made.name, made.failure);
            fs::rename(session.output("bench.sysext.raw"), image).unwrap();
            made
        })
        .collect()
}

fn mkfs_images(session: &Session, mkfs: &MkfsErofs, layer: &Path) -> Vec<Image> {
    let images = MKFS_OPTIONS.into_iter().enumerate();
    images
        .map(|(number, options)| {
            let image = session.path(&format!("mkfs-{number}"));
            let command = mkfs.make(options, &Input::Tar(layer), &image);
            let name = if options.is_empty() { "none" } else { options };
            Image::make(format!("mkfs.erofs {name}"), image, 0, command)
        })
        .collect()
}

/// Paths and sizes of the files in a tree.
struct Files {
    all: Vec<(PathBuf, u64)>,
    largest: Vec<(PathBuf, u64)>,
}

impl Files {
    fn below(tree: &Path) -> Files {
        let mut all = Vec::new();
        collect(tree, tree, &mut all);
        let mut largest = all.clone();
        largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        largest.truncate(OPEN_FILES);
        largest.retain(|(_, size)| *size >= READ_SIZE as u64);
        Files { all, largest }
    }

    fn bytes(&self) -> u64 {
        self.all.iter().map(|(_, size)| size).sum()
    }

    fn read_all(&self, root: &Path) -> Duration {
        let mut buffer = vec![0; 1 << 20];
        let start = Instant::now();
        for (path, size) in &self.all {
            let mut file = File::open(root.join(path)).unwrap();
            let mut read = 0;
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    length => read += length as u64,
                }
            }
            assert_eq!(read, *size, "{}", path.display());
        }
        start.elapsed()
    }

    /// Mean time of one read; every page of the files is as likely as any other.
    fn read_at_random(&self, root: &Path, reads: u64) -> Duration {
        let files: Vec<(File, u64)> = self
            .largest
            .iter()
            .map(|(path, size)| {
                let file = File::open(root.join(path)).unwrap();
                rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
                (file, size / READ_SIZE as u64)
            })
            .collect();
        let pages: u64 = files.iter().map(|(_, pages)| pages).sum();
        let mut random = Random::new();
        let mut buffer = [0; READ_SIZE];
        drop_caches().unwrap();
        let start = Instant::now();
        for _ in 0..reads {
            let (file, page) = locate(&files, random.next() % pages);
            file.read_exact_at(&mut buffer, page * READ_SIZE as u64)
                .unwrap();
        }
        start.elapsed() / u32::try_from(reads).unwrap()
    }
}

/// The file in which a page lies when all files lie one behind the other, and the page in it.
fn locate(files: &[(File, u64)], mut page: u64) -> (&File, u64) {
    for (file, pages) in files {
        if page < *pages {
            return (file, page);
        }
        page -= pages;
    }
    unreachable!("a page behind all files")
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let metadata = entry.metadata().unwrap();
        let path = entry.path();
        if metadata.is_dir() {
            collect(root, &path, found);
        } else if metadata.is_file() {
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            found.push((name, metadata.len()));
        }
    }
}

fn table(images: &[Image], bytes: u64) -> Table {
    let heads = ["", "MB", "sequential MB/s", "random 4 KiB µs"];
    let mut table = Table::new(heads);
    for image in images {
        let cells = match &image.failure {
            None => {
                let sequential = bytes as f64 / 1e6 / median(&image.sequential).as_secs_f64();
                [
                    megabytes(image.size()),
                    format!("{sequential:.0}"),
                    format!("{:.0}", median(&image.random).as_secs_f64() * 1e6),
                ]
            }
            Some(failure) => [failure.clone(), String::new(), String::new()],
        };
        table.row([image.name.clone()].into_iter().chain(cells));
    }
    table
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}
