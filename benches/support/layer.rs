//! Layers made of what this machine has installed. All are tar archives of `usr/…`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::session::Session;

/// A tar archive of files below `usr`.
pub struct Layer {
    pub name: &'static str,
    pub tar: PathBuf,
    /// Regular files, and the bytes in them.
    pub files: u64,
    pub bytes: u64,
}

/// Headers, manual pages, documentation, Python and Perl modules: 400 MB at most.
pub fn many_small_files(session: &Session) -> Layer {
    let mut layer = LayerBuilder::new(session, "many small files");
    layer.add_small_files(session.scaled(400_000_000));
    layer.finish()
}

/// The Rust toolchain's programs and libraries: 400 MB at most.
pub fn few_large_binaries(session: &Session) -> Layer {
    let mut layer = LayerBuilder::new(session, "few large binaries");
    layer.add_toolchain(session.scaled(400_000_000));
    layer.finish()
}

/// 256 MB in 64 files that nothing compresses.
pub fn incompressible(session: &Session) -> Layer {
    let mut layer = LayerBuilder::new(session, "already compressed");
    layer.add_random(session.scaled(256_000_000));
    layer.finish()
}

/// 1 GB of all of these and of the system's programs and libraries.
pub fn mixed(session: &Session) -> Layer {
    let mut layer = LayerBuilder::new(session, "1 GB mixed");
    layer.add_toolchain(session.scaled(350_000_000));
    layer.add_random(session.scaled(150_000_000));
    layer.add_small_files(session.scaled(250_000_000));
    let rest = session.scaled(1_000_000_000) - layer.layer.bytes;
    let roots = ["/usr/bin".into(), "/usr/sbin".into()]
        .into_iter()
        .chain(children("/usr/lib", "-linux-gnu"));
    layer.add_trees(roots, "usr/system", rest);
    layer.finish()
}

impl Layer {
    /// `count` files of `size` bytes each, cut from this layer's archive, a hundred in each folder.
    pub fn cut_into(
        &self,
        session: &Session,
        name: &'static str,
        count: u64,
        size: impl Fn(u64) -> u64,
    ) -> Layer {
        let mut layer = LayerBuilder::new(session, name);
        let mut stock = Cycle(File::open(&self.tar).unwrap());
        for number in 0..count {
            let folder = format!("usr/share/cut/{:05}", number / 100);
            let path = format!("{folder}/{number:07}");
            layer.add_generated(&path, size(number), &mut stock);
        }
        layer.finish()
    }

    /// Unpacks the archive into a folder.
    pub fn unpack(&self, session: &Session) -> PathBuf {
        let tree = session.path(&format!("{}.tree", self.name.replace(' ', "-")));
        fs::create_dir(&tree).unwrap();
        let mut tar = Layer::unpack_command(&self.tar, &tree);
        assert!(tar.status().unwrap().success(), "{tar:?}");
        tree
    }

    /// Unpacks an archive, compressed or not, into an existing folder.
    pub fn unpack_command(archive: &Path, tree: &Path) -> Command {
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(archive).arg("-C").arg(tree);
        tar
    }

    /// `gzip -6`.
    pub fn gzip(&self) -> PathBuf {
        let compressed = self.tar.with_extension("tar.gz");
        let mut gzip = Command::new("gzip");
        gzip.arg("-6c")
            .arg(&self.tar)
            .stdout(File::create(&compressed).unwrap());
        assert!(gzip.status().unwrap().success(), "{gzip:?}");
        compressed
    }

    /// Headline of the tables about it.
    pub fn print_head(&self) {
        println!(
            "### {}: {} files, {} MB\n",
            self.name,
            self.files,
            self.bytes / 1_000_000
        );
    }

    pub fn remove(self) {
        let _ = fs::remove_file(&self.tar);
    }
}

struct LayerBuilder {
    archive: tar::Builder<BufWriter<File>>,
    folders: BTreeSet<PathBuf>,
    layer: Layer,
}

impl LayerBuilder {
    fn new(session: &Session, name: &'static str) -> LayerBuilder {
        let tar = session.path(&format!("{}.tar", name.replace(' ', "-")));
        let file = BufWriter::with_capacity(1 << 20, File::create(&tar).unwrap());
        let mut archive = tar::Builder::new(file);
        archive.follow_symlinks(false);
        LayerBuilder {
            archive,
            folders: BTreeSet::new(),
            layer: Layer {
                name,
                tar,
                files: 0,
                bytes: 0,
            },
        }
    }

    fn finish(self) -> Layer {
        let file = self.archive.into_inner().unwrap().into_inner().unwrap();
        drop(file);
        self.layer
    }

    fn add_small_files(&mut self, most: u64) {
        let roots = ["/usr/include", "/usr/share/man", "/usr/share/doc"]
            .into_iter()
            .map(PathBuf::from)
            .chain(children("/usr/lib", "python3"))
            .chain(children("/usr/share", "perl"));
        self.add_trees(roots, "usr", most);
    }

    fn add_toolchain(&mut self, most: u64) {
        let rustc = Command::new("rustc")
            .args(["--print", "sysroot"])
            .output()
            .expect("rustc");
        let sysroot = PathBuf::from(String::from_utf8(rustc.stdout).unwrap().trim());
        let roots = [sysroot.join("bin"), sysroot.join("lib")];
        self.add_trees(roots, "usr/local/rust", most);
    }

    /// Adds each root under `below` until there are `most` more bytes.
    fn add_trees(&mut self, roots: impl IntoIterator<Item = PathBuf>, below: &str, most: u64) {
        let limit = self.layer.bytes + most;
        for root in roots {
            let name = root.strip_prefix("/usr").ok();
            let name = name.or(root.file_name().map(Path::new)).unwrap();
            self.add_tree(&root, &Path::new(below).join(name), limit);
        }
    }

    /// Files that cannot be read, and what is neither file, folder nor link, are left out.
    fn add_tree(&mut self, from: &Path, to: &Path, limit: u64) {
        let Ok(entries) = fs::read_dir(from) else {
            return;
        };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            if self.layer.bytes >= limit {
                return;
            }
            let (from, to) = (from.join(&name), to.join(&name));
            let metadata = fs::symlink_metadata(&from).unwrap();
            if metadata.is_dir() {
                self.add_tree(&from, &to, limit);
            } else if metadata.is_symlink() {
                self.add_folders(&to);
                self.archive.append_path_with_name(&from, &to).unwrap();
            } else if metadata.is_file()
                && let Ok(mut file) = File::open(&from)
            {
                self.add_folders(&to);
                self.archive.append_file(&to, &mut file).unwrap();
                self.layer.files += 1;
                self.layer.bytes += metadata.len();
            }
        }
    }

    /// The folders above `path`, each once.
    fn add_folders(&mut self, path: &Path) {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev().skip(1) {
            if self.folders.insert(folder.to_path_buf()) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                self.archive
                    .append_data(&mut header, folder, io::empty())
                    .unwrap();
            }
        }
    }

    fn add_random(&mut self, bytes: u64) {
        const FILES: u64 = 64;
        let mut random = Random::new();
        for number in 0..FILES {
            let path = format!("usr/share/random/{number:02}");
            self.add_generated(&path, bytes / FILES, &mut random);
        }
    }

    fn add_generated(&mut self, path: &str, size: u64, content: &mut impl Read) {
        self.add_folders(Path::new(path));
        let mut header = header(tar::EntryType::Regular, 0o644, size);
        self.archive
            .append_data(&mut header, path, content.take(size))
            .unwrap();
        self.layer.files += 1;
        self.layer.bytes += size;
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The folders in `folder` with `part` in their names.
fn children(folder: &str, part: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.to_string_lossy().contains(part))
        .collect();
    found.sort();
    found
}

/// A file's content again and again.
struct Cycle(File);

impl Read for Cycle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => {
                io::Seek::rewind(&mut self.0)?;
                self.0.read(buffer)
            }
            length => Ok(length),
        }
    }
}

/// Bytes that nothing compresses, always the same: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Read for Random {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}
