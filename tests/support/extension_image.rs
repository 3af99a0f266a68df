//! Extensions with whatever release file a test wants, and nodes that they are for.

#![allow(dead_code)] // each test uses a part of it

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use sysgraft::architecture::Architecture;
use sysgraft::image::{DATA_OFFSET, assemble};
use sysgraft::node::Node;
use sysgraft::node::boot_state::BootState;
use sysgraft::node::configuration::Configuration;
use sysgraft::node::host::SystemdVersion;
use sysgraft::node::layout::Layout;
use sysgraft::seed::Seed;
use sysgraft::signature::{PemSigner, Signing};
use sysgraft::verity::HashedData;

/// What the node of these tests says of itself.
pub const OS_RELEASE: &str = "ID=debian\nVERSION_ID=13\n";

/// The tree of an extension, from which images are made.
pub struct Extension {
    folder: tempfile::TempDir,
    options: Vec<String>,
}

/// Who signs an image.
#[derive(Clone, Copy)]
pub enum By<'a> {
    Nobody,
    Later,
    /// One of the public examples: `db` or `ec`.
    Example(&'a str),
}

impl Extension {
    /// A sysext with one file, and a release file of this name and content.
    pub fn sysext(name: &str, release: &str) -> Extension {
        Extension::empty()
            .with("usr/share/payload", format!("of {name}\n"))
            .with(
                &format!("usr/lib/extension-release.d/extension-release.{name}"),
                release,
            )
    }

    pub fn confext(name: &str, release: &str) -> Extension {
        Extension::empty()
            .with("etc/payload", format!("of {name}\n"))
            .with(
                &format!("etc/extension-release.d/extension-release.{name}"),
                release,
            )
    }

    pub fn empty() -> Extension {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Extension {
            folder,
            options: Vec::new(),
        }
    }

    pub fn with(self, path: &str, content: impl AsRef<[u8]>) -> Extension {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// With an option of mkfs.erofs.
    pub fn packed(mut self, option: &str) -> Extension {
        self.options.push(option.to_owned());
        self
    }

    /// The folder that it is made from.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A naked file system.
    pub fn file_system(&self, path: &Path) {
        let status = Command::new("mkfs.erofs")
            .args(&self.options)
            .args([path, &self.tree()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("mkfs.erofs of erofs-utils");
        assert!(status.success());
    }

    /// An image for x86-64.
    pub fn image(&self, path: &Path, by: By<'_>) -> PathBuf {
        self.image_for(Architecture::X86_64, path, by)
    }

    pub fn image_for(&self, architecture: Architecture, path: &Path, by: By<'_>) -> PathBuf {
        let file_system = self.folder.path().join("erofs");
        self.file_system(&file_system);
        let bytes = fs::read(&file_system).unwrap();
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(path).unwrap();
        file.write_all_at(&bytes, DATA_OFFSET).unwrap();
        let seed: Seed = "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f".parse().unwrap();
        let salt = seed.verity_salt().into();
        let data = HashedData::of_existing(file, DATA_OFFSET, bytes.len() as u64, salt).unwrap();
        let signer;
        let signing = match by {
            By::Nobody => Signing::Never,
            By::Later => Signing::Later { certificate: None },
            By::Example(name) => {
                signer = example_signer(name);
                Signing::Now(&signer)
            }
        };
        assemble(data, seed, architecture, signing).unwrap();
        path.to_path_buf()
    }
}

/// Puts an image at `path` that is for any host, of the extension that a file name names before its
/// version, signed by the example `db`. Each is made once.
pub fn put_image(kind: &str, file: &str, path: &Path) {
    static MADE: Mutex<BTreeMap<(String, String), Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(|poison| poison.into_inner());
    let key = (kind.to_owned(), file.to_owned());
    let image = made.entry(key).or_insert_with(|| make_image(kind, file));
    let placed = File::create(path).unwrap();
    placed.set_len(image.len() as u64).unwrap();
    for (index, block) in image.chunks(4096).enumerate() {
        // Most of it is empty.
        if block.iter().any(|&byte| byte != 0) {
            placed.write_all_at(block, index as u64 * 4096).unwrap();
        }
    }
}

fn make_image(kind: &str, file: &str) -> Vec<u8> {
    let stem = file.trim_end_matches(".raw");
    let stem = stem
        .trim_end_matches(".sysext")
        .trim_end_matches(".confext");
    let name = stem.split('_').next().unwrap();
    let extension = match kind {
        "sysext" => Extension::sysext(name, "ID=_any\n").with("usr/share/file", file),
        _ => Extension::confext(name, "ID=_any\n").with("etc/file", file),
    };
    let folder = tempfile::tempdir().unwrap();
    fs::read(extension.image(&folder.path().join("image"), By::Example("db"))).unwrap()
}

fn example_signer(name: &str) -> PemSigner {
    PemSigner::load(&example(name, "key"), &example(name, "pem"), None).unwrap()
}

/// A file of the public examples.
pub fn example(name: &str, suffix: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("keys-example/{name}.{suffix}"))
}

/// A tree of files that is a node.
pub struct NodeTree(pub tempfile::TempDir);

impl NodeTree {
    /// A Debian 13 that trusts nobody.
    pub fn new() -> NodeTree {
        // What a killed process has written outlives it in memory as well as on a disk, and faster.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        NodeTree(folder.unwrap()).with("etc/os-release", OS_RELEASE)
    }

    /// One that trusts the example `db`.
    pub fn trusting() -> NodeTree {
        let certificate = fs::read(example("db", "pem")).unwrap();
        NodeTree::new().with("etc/verity.d/db.crt", certificate)
    }

    pub fn with(self, path: &str, content: impl AsRef<[u8]>) -> NodeTree {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn node(&self, systemd: u32) -> Node {
        self.configured(systemd, Configuration::default())
    }

    pub fn configured(&self, systemd: u32, configuration: Configuration) -> Node {
        Node {
            layout: Layout::new(self.0.path(), &configuration.state_dir),
            configuration,
            systemd: Some(SystemdVersion(systemd)),
            boot_state: BootState::Plain,
        }
    }
}
