//! The programs that sysgraft is measured beside. A missing one is named, and left out.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::builder::{CERTIFICATE, PRIVATE_KEY};
use super::machine::cores;
use super::session::Session;

/// Where `.ci/bench-peers` puts newer ones than the system has.
const UNPACKED: [&str; 3] = [
    "target/bench-peers/forky/bin",
    "target/bench-peers/trixie/bin",
    "target/erofs-utils/bin",
];

/// A program that was found and has said its version.
pub struct Peer {
    words: Vec<String>,
    version: Version,
}

/// Numbers that dots join.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version(Vec<u32>);

impl Version {
    /// The first word that begins with a digit.
    fn find(text: &str) -> Option<Version> {
        let word = text
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
        let numbers = word.split('.').map_while(|part| part.parse().ok());
        Some(Version(numbers.collect())).filter(|version| !version.0.is_empty())
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl Peer {
    fn ask(words: Vec<String>, option: &str) -> Option<Peer> {
        let mut command = Command::new(&words[0]);
        let answer = command.args(&words[1..]).arg(option).output().ok()?;
        let version = Version::find(&String::from_utf8_lossy(&answer.stdout))?;
        Some(Peer { words, version })
    }

    /// The newest of `name` that the variable names or, without it, PATH and [`UNPACKED`] hold.
    fn newest(name: &str, variable: &str, option: &str) -> Option<Peer> {
        if let Ok(words) = std::env::var(variable) {
            let words = words.split_whitespace().map(str::to_owned).collect();
            return Peer::ask(words, option);
        }
        let unpacked = UNPACKED.map(|folder| format!("{folder}/{name}"));
        let candidates = [name.to_owned()].into_iter().chain(unpacked);
        candidates
            .filter_map(|path| Peer::ask(vec![path], option))
            .max_by_key(|peer| peer.version.clone())
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }

    /// Where it lies, if it was not found by PATH.
    fn folder(&self) -> Option<PathBuf> {
        let [program] = self.words.as_slice() else {
            return None;
        };
        let folder = Path::new(program).parent()?;
        std::path::absolute(folder).ok()
    }

    fn at_least(self, numbers: &[u32]) -> Option<Peer> {
        (self.version.0.as_slice() >= numbers).then_some(self)
    }
}

/// Prints which peer is measured, or what to install.
fn report(peer: Option<Peer>, name: &str, remedy: &str) -> Option<Peer> {
    match &peer {
        Some(peer) => println!("Beside {name} {}.", peer.version),
        None => println!("Not beside {name}, which is missing: {remedy}."),
    }
    peer
}

/// mkfs.erofs 1.8 or newer: it has zstd, tar input and workers.
pub fn mkfs_erofs() -> Option<MkfsErofs> {
    let peer = Peer::newest("mkfs.erofs", "SYSGRAFT_BENCH_MKFS_EROFS", "--version")
        .and_then(|peer| peer.at_least(&[1, 8]));
    report(
        peer,
        "mkfs.erofs",
        "run .ci/bench-peers, or install erofs-utils 1.8 or newer",
    )
    .map(MkfsErofs)
}

/// What people pass to mkfs.erofs.
pub const PLAIN_LZ4: &str = "-zlz4 -C65536";
pub const PLAIN_LZ4HC: &str = "-zlz4hc -C65536";
pub const PLAIN_ZSTD: &str = "-zzstd,3 -C131072";
/// Extents hardly larger than clusters end the search for the input that fills a cluster.
pub const TUNED_ZSTD: &str = "-zzstd,3 -C131072 --max-extent-bytes=131073 -Efragments";

pub struct MkfsErofs(Peer);

/// From what mkfs.erofs makes a file system.
pub enum Input<'a> {
    Tar(&'a Path),
    Tree(&'a Path),
}

impl MkfsErofs {
    pub fn make(&self, options: &str, input: &Input<'_>, image: &Path) -> Command {
        let mut command = self.0.command();
        command
            .arg("--quiet")
            .arg(format!("--workers={}", cores()))
            .args(options.split_whitespace());
        let content = match input {
            Input::Tar(tar) => {
                command.arg("--tar=f");
                tar
            }
            Input::Tree(tree) => tree,
        };
        command.arg(image).arg(content);
        command
    }
}

pub fn mksquashfs() -> Option<Peer> {
    let peer = Peer::newest("mksquashfs", "SYSGRAFT_BENCH_MKSQUASHFS", "-version");
    report(peer, "mksquashfs", "install squashfs-tools")
}

pub fn veritysetup() -> Option<Peer> {
    let peer = Peer::newest("veritysetup", "SYSGRAFT_BENCH_VERITYSETUP", "--version")
        .or_else(|| Peer::ask(vec!["/usr/sbin/veritysetup".to_owned()], "--version"));
    report(peer, "veritysetup", "install cryptsetup-bin")
}

pub fn gunzip() -> Option<Peer> {
    let peer = Peer::newest("gunzip", "SYSGRAFT_BENCH_GUNZIP", "--version");
    report(peer, "gunzip", "install gzip")
}

pub fn igzip() -> Option<Peer> {
    let peer = Peer::newest("igzip", "SYSGRAFT_BENCH_IGZIP", "--version");
    report(peer, "igzip", "install isal")
}

/// systemd-repart 257 or newer: it knows `Compression=`.
pub fn repart() -> Option<Repart> {
    let peer = Peer::newest("systemd-repart", "SYSGRAFT_BENCH_REPART", "--version")
        .and_then(|peer| peer.at_least(&[257]));
    report(
        peer,
        "systemd-repart",
        "run .ci/bench-peers, or install systemd-repart 257 or newer",
    )
    .map(Repart)
}

/// How systemd-repart may compress, and the setting for it.
pub const REPART_COMPRESSIONS: [(&str, &str); 2] = [
    ("none", ""),
    ("zstd,3", "Compression=zstd\nCompressionLevel=3\n"),
];

pub struct Repart(Peer);

impl Repart {
    /// The image that `--make-ddi=sysext` makes of `tree`, signed; its definitions are written here
    /// so that compression can be set.
    pub fn make(
        &self,
        session: &Session,
        compression: (&str, &str),
        tree: &Path,
        image: &Path,
    ) -> Command {
        let definitions = session.path(&format!("definitions-{}", compression.0));
        write_definitions(&definitions, compression.1);
        let mut command = self.0.command();
        command
            .args(["--empty=create", "--size=auto", "--dry-run=no"])
            .args(["--offline=yes", "--private-key", PRIVATE_KEY])
            .args(["--certificate", CERTIFICATE])
            .arg(joined("--definitions=", &definitions))
            .arg(joined("--copy-source=", tree))
            .arg(image)
            // Its scratch files are where everyone's are, and its mkfs.erofs is the one of its
            // release.
            .env("TMPDIR", session.path("out"))
            .env("PATH", self.search_path());
        command
    }

    fn search_path(&self) -> OsString {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = self
            .0
            .folder()
            .into_iter()
            .chain(std::env::split_paths(&inherited));
        std::env::join_paths(folders).unwrap()
    }
}

/// What systemd ships as `repart/definitions/sysext.repart.d`, with a setting for compression.
fn write_definitions(folder: &Path, compression: &str) {
    let data = format!(
        "Type=root\nFormat=erofs\nCopyFiles=/usr/\nVerity=data\nMinimize=best\n{compression}"
    );
    fs::create_dir_all(folder).unwrap();
    for (file, settings) in [
        ("10-root.conf", data.as_str()),
        (
            "20-root-verity.conf",
            "Type=root-verity\nVerity=hash\nMinimize=best\n",
        ),
        (
            "30-root-verity-sig.conf",
            "Type=root-verity-sig\nVerity=signature\n",
        ),
    ] {
        let partition = format!("[Partition]\nVerityMatchKey=root\n{settings}");
        fs::write(folder.join(file), partition).unwrap();
    }
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(option);
    joined.push(path);
    joined
}
