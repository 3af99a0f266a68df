//! What the library and the kernel read of a file system.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path as FsPath;
use std::process::Command;

use sysgraft::erofs::{FileSystem, FileType, Inode, ReadError};
use sysgraft::layer::{Device, Xattr};
use sysgraft::timestamp::Timestamp;
use sysgraft::tree::Attributes;

use super::unmount::unmount;
use super::{Entry, Kind, Model, Path, Seen};

/// All of a file system as the library reads it.
pub fn read(image: &[u8]) -> Result<BTreeMap<Path, Seen>, ReadError> {
    let file_system = FileSystem::open(image)?;
    let mut seen = BTreeMap::new();
    file_system.walk(|path, inode| {
        let path = match path {
            b"" => Vec::new(),
            path => path
                .split(|&byte| byte == b'/')
                .map(<[u8]>::to_vec)
                .collect(),
        };
        seen.insert(path, see(&file_system, inode)?);
        Ok::<_, ReadError>(())
    })?;
    Ok(seen)
}

fn see(file_system: &FileSystem<&[u8]>, inode: &Inode) -> Result<Seen, ReadError> {
    let device = inode.device.unwrap_or(Device { major: 0, minor: 0 });
    let kind = match inode.file_type {
        FileType::Directory => Kind::Directory,
        FileType::File => {
            let mut bytes = Vec::new();
            let mut content = file_system.content(inode)?;
            content.read_to_end(&mut bytes).map_err(|error| {
                error
                    .downcast::<ReadError>()
                    .expect("an error of the reader")
            })?;
            assert_eq!(bytes.len() as u64, inode.size);
            Kind::File(bytes)
        }
        FileType::Symlink => Kind::Symlink(file_system.read_link(inode)?),
        FileType::CharDevice => Kind::CharDevice(device),
        FileType::BlockDevice => Kind::BlockDevice(device),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
    };
    let attributes = Attributes {
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        xattrs: file_system.xattrs(inode)?,
    };
    Ok(Seen {
        entry: Entry { kind, attributes },
        nlink: inode.nlink.into(),
    })
}

/// All below `directory` as the kernel shows it.
fn look_into(directory: &FsPath, path: &Path, seen: &mut BTreeMap<Path, Seen>) {
    seen.insert(path.clone(), look_at(directory));
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let mut path = path.clone();
        path.push(entry.file_name().into_vec());
        let file_type = entry.file_type().unwrap();
        if file_type.is_dir() {
            look_into(&entry.path(), &path, seen);
        } else {
            let found = look_at(&entry.path());
            assert_eq!(
                file_type,
                fs::symlink_metadata(entry.path()).unwrap().file_type()
            );
            seen.insert(path, found);
        }
    }
}

fn look_at(path: &FsPath) -> Seen {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let device = Device {
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    };
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        Kind::File(fs::read(path).unwrap())
    } else if kind.is_symlink() {
        Kind::Symlink(fs::read_link(path).unwrap().into_os_string().into_vec())
    } else if kind.is_char_device() {
        Kind::CharDevice(device)
    } else if kind.is_block_device() {
        Kind::BlockDevice(device)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else {
        assert!(kind.is_socket());
        Kind::Socket
    };
    let mut xattrs: Vec<_> = xattr::list(path)
        .unwrap()
        .map(|name| Xattr {
            value: xattr::get(path, &name).unwrap().unwrap(),
            name: name.into_vec(),
        })
        .collect();
    xattrs.sort();
    let attributes = Attributes {
        mode: u16::try_from(metadata.mode() & 0o7777).unwrap(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: Timestamp {
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec().try_into().unwrap(),
        },
        xattrs,
    };
    Seen {
        entry: Entry { kind, attributes },
        nlink: metadata.nlink(),
    }
}

/// A file system that the kernel has mounted, unmounted in the end.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    pub fn new(image: &[u8]) -> Mounted {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(image).unwrap();
        Mounted::of(file.path())
    }

    /// Mounts an image file, which may be removed then.
    pub fn of(image: &FsPath) -> Mounted {
        let point = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "erofs", "-o", "loop,ro"]);
        let output = mount.args([image, point.path()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Mounted(point)
    }

    pub fn point(&self) -> &FsPath {
        self.0.path()
    }

    pub fn see(&self) -> BTreeMap<Path, Seen> {
        let mut seen = BTreeMap::new();
        look_into(self.point(), &Vec::new(), &mut seen);
        seen
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.point());
    }
}

/// Why this process cannot mount an EROFS image, if so.
pub fn why_no_mount() -> Option<&'static str> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !rustix::process::geteuid().is_root() {
        Some("only root mounts file systems")
    } else if !known.lines().any(|line| line.trim() == "erofs") {
        Some("the kernel has no EROFS")
    } else {
        None
    }
}

/// Fails unless what was `seen` is what a model holds.
pub fn assert_seen(seen: &BTreeMap<Path, Seen>, model: &Model, case: &str) {
    assert!(
        *seen == model.expected(),
        "{case}: {}",
        first_difference(seen, model)
    );
}

/// The first path on which `seen` and the model do not agree.
fn first_difference(seen: &BTreeMap<Path, Seen>, model: &Model) -> String {
    let expected = model.expected();
    let paths = seen.keys().chain(expected.keys());
    match paths
        .into_iter()
        .find(|path| seen.get(*path) != expected.get(*path))
    {
        Some(path) => {
            let name = String::from_utf8_lossy(&path.join(&b'/')).into_owned();
            let short = |seen: Option<&Seen>| {
                let text = format!("{seen:?}");
                text.chars().take(600).collect::<String>()
            };
            format!(
                "{name:?}: {} instead of {}",
                short(seen.get(path)),
                short(expected.get(path))
            )
        }
        None => "equal".to_owned(),
    }
}
