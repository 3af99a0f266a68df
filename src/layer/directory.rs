//! The entries of a root tree on the local file system.
//!
//! Names are walked in byte order, parents first. No symbolic link is ever followed: everything is
//! looked up by one name in a directory that is held open. Other file systems that are mounted in
//! the tree belong to it, as they do for tar.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{
    Device, Entry, EntryKind, EntryPath, EntryProblem, EntryStream, LayerError, MAX_ENTRIES,
    MAX_XATTR_BYTES, Xattr,
};
use crate::timestamp::Timestamp;

/// Reads the entries of a root tree.
pub struct DirectoryStream {
    root: PathBuf,
    /// The directories from the root down to the one that is being read.
    open: Vec<OpenDirectory>,
    /// Whether the root itself is still to come as an entry.
    at_start: bool,
    /// The first name of every file that has several.
    linked: HashMap<(u64, u64), EntryPath>,
    /// The file last returned.
    content: Option<Content>,
    entries: u64,
}

struct OpenDirectory {
    directory: OwnedFd,
    path: EntryPath,
    /// The names not yet read, last one first.
    names: Vec<CString>,
}

/// A file whose content may be asked for; it is opened only then.
struct Content {
    path: EntryPath,
    name: CString,
    /// As it was when it became an entry.
    stat: Stat,
    file: Option<File>,
    /// Bytes.
    left: u64,
}

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl DirectoryStream {
    /// Opens the tree below `root`, which may itself be a symbolic link.
    pub fn open(root: PathBuf) -> Result<DirectoryStream, LayerError> {
        let at_root = |errno: Errno| LayerError::Path {
            path: root.clone(),
            source: errno.into(),
        };
        let directory =
            rustix::fs::openat(CWD, &root, DIRECTORY_FLAGS, Mode::empty()).map_err(at_root)?;
        let names = names_in(&directory).map_err(at_root)?;
        Ok(DirectoryStream {
            open: vec![OpenDirectory {
                directory,
                path: EntryPath::root(),
                names,
            }],
            root,
            at_start: true,
            linked: HashMap::new(),
            content: None,
            entries: 0,
        })
    }

    fn host_path(&self, path: &EntryPath) -> PathBuf {
        on_host(&self.root, path)
    }

    fn failed(&self, path: &EntryPath, errno: Errno) -> LayerError {
        LayerError::Path {
            path: self.host_path(path),
            source: errno.into(),
        }
    }

    fn root_entry(&self) -> Result<Option<Entry>, LayerError> {
        let Some(root) = self.open.first() else {
            return Ok(None);
        };
        let path = EntryPath::root();
        let stat = rustix::fs::fstat(&root.directory).map_err(|errno| self.failed(&path, errno))?;
        let xattrs = self.xattrs(&root.directory, c".", &path)?;
        Ok(Some(entry(path, EntryKind::Directory, &stat, xattrs)))
    }

    /// The entry `name` of the directory that is being read.
    fn read_entry(&mut self, name: CString) -> Result<Option<Entry>, LayerError> {
        let Some(parent) = self.open.last() else {
            return Ok(None);
        };
        let path = parent
            .path
            .join(name.as_bytes())
            .map_err(|problem| LayerError::entry(name.as_bytes(), EntryProblem::Path(problem)))?;
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            let problem = EntryProblem::TooLarge {
                what: "entries of a layer",
                limit: MAX_ENTRIES,
            };
            return Err(LayerError::entry(path.as_bytes(), problem));
        }
        let stat = rustix::fs::statat(&parent.directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed(&path, errno))?;
        let xattrs = self.xattrs(&parent.directory, &name, &path)?;
        let kind = match self.first_name(&path, &stat) {
            Some(target) => EntryKind::Hardlink { target },
            None => self.kind(name, &path, &stat)?,
        };
        Ok(Some(entry(path, kind, &stat, xattrs)))
    }

    /// The name under which this file was an entry before; else `path` becomes that name.
    fn first_name(&mut self, path: &EntryPath, stat: &Stat) -> Option<EntryPath> {
        if stat.st_nlink < 2 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return None;
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.linked.get(&identity) {
            return Some(first.clone());
        }
        self.linked.insert(identity, path.clone());
        None
    }

    /// What `name` is; a directory is entered, and a file made ready to be read.
    fn kind(
        &mut self,
        name: CString,
        path: &EntryPath,
        stat: &Stat,
    ) -> Result<EntryKind, LayerError> {
        let Some(parent) = self.open.last() else {
            return Err(self.changed(path));
        };
        let device = Device {
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size =
                    u64::try_from(stat.st_size).map_err(|_| self.failed(path, Errno::INVAL))?;
                self.content = Some(Content {
                    path: path.clone(),
                    name,
                    stat: *stat,
                    file: None,
                    left: size,
                });
                EntryKind::File { size }
            }
            FileType::Directory => {
                let flags = DIRECTORY_FLAGS | OFlags::NOFOLLOW;
                let directory = rustix::fs::openat(&parent.directory, &name, flags, Mode::empty())
                    .map_err(|errno| self.failed(path, errno))?;
                let opened =
                    rustix::fs::fstat(&directory).map_err(|errno| self.failed(path, errno))?;
                if !is_same_file(&opened, stat) {
                    return Err(self.changed(path));
                }
                let names = names_in(&directory).map_err(|errno| self.failed(path, errno))?;
                self.open.push(OpenDirectory {
                    directory,
                    path: path.clone(),
                    names,
                });
                EntryKind::Directory
            }
            FileType::Symlink => EntryKind::Symlink {
                target: rustix::fs::readlinkat(&parent.directory, &name, Vec::new())
                    .map_err(|errno| self.failed(path, errno))?
                    .into_bytes(),
            },
            FileType::CharacterDevice => EntryKind::CharDevice(device),
            FileType::BlockDevice => EntryKind::BlockDevice(device),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::Unknown => return Err(self.failed(path, Errno::INVAL)),
        })
    }

    fn changed(&self, path: &EntryPath) -> LayerError {
        LayerError::Changed {
            path: self.host_path(path),
        }
    }

    /// The extended attributes of `name`, which is not followed where it is a link.
    fn xattrs(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        path: &EntryPath,
    ) -> Result<Vec<Xattr>, LayerError> {
        let failed = |source| LayerError::Path {
            path: self.host_path(path),
            source,
        };
        // The system calls that take a directory and a name are newer (Linux 6.13) than the
        // kernels this has to run on.
        let in_proc = Path::new("/proc/self/fd")
            .join(directory.as_raw_fd().to_string())
            .join(OsStr::from_bytes(name.to_bytes()));
        let names = match xattr::list(&in_proc) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
            names => names.map_err(failed)?,
        };
        let mut xattrs = Vec::new();
        for name in names {
            xattrs.push(Xattr {
                value: xattr::get(&in_proc, &name)
                    .map_err(failed)?
                    .ok_or_else(|| self.changed(path))?,
                name: name.into_vec(),
            });
        }
        let size = |xattr: &Xattr| xattr.name.len() + xattr.value.len();
        if xattrs.iter().map(size).sum::<usize>() > MAX_XATTR_BYTES {
            let problem = EntryProblem::TooLarge {
                what: "bytes of extended attributes",
                limit: MAX_XATTR_BYTES as u64,
            };
            return Err(LayerError::entry(path.as_bytes(), problem));
        }
        xattrs.sort();
        Ok(xattrs)
    }
}

impl Content {
    fn read(&mut self, parent: &OwnedFd, buffer: &mut [u8]) -> Result<usize, ContentError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                // A file that has become a pipe must not make this wait.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, &self.name, flags, Mode::empty())?;
                if !is_unchanged(&rustix::fs::fstat(&file)?, &self.stat) {
                    return Err(ContentError::Changed);
                }
                self.file.insert(file.into())
            }
        };
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| buffer.len().min(left));
        let buffer = &mut buffer[..most];
        let count = file.read(buffer).map_err(ContentError::Read)?;
        if count == 0 && !buffer.is_empty() {
            return Err(ContentError::Changed);
        }
        self.left -= count as u64;
        if self.left == 0 && !is_unchanged(&rustix::fs::fstat(&*file)?, &self.stat) {
            return Err(ContentError::Changed);
        }
        Ok(count)
    }
}

/// Why content cannot be read on.
enum ContentError {
    Changed,
    Read(io::Error),
}

impl From<Errno> for ContentError {
    fn from(errno: Errno) -> ContentError {
        ContentError::Read(errno.into())
    }
}

/// The names in a directory, last one first.
fn names_in(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_by(|a, b| b.cmp(a));
    Ok(names)
}

fn is_same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn is_unchanged(now: &Stat, before: &Stat) -> bool {
    let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    is_same_file(now, before) && now.st_size == before.st_size && times(now) == times(before)
}

fn entry(path: EntryPath, kind: EntryKind, stat: &Stat, xattrs: Vec<Xattr>) -> Entry {
    Entry {
        path,
        kind,
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        },
        xattrs,
    }
}

impl EntryStream for DirectoryStream {
    fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.content = None;
        if std::mem::take(&mut self.at_start) {
            return self.root_entry();
        }
        while let Some(directory) = self.open.last_mut() {
            if let Some(name) = directory.names.pop() {
                return self.read_entry(name);
            }
            self.open.pop();
        }
        Ok(None)
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let (Some(content), Some(parent)) = (&mut self.content, self.open.last()) else {
            return Ok(0);
        };
        content.read(&parent.directory, buffer).map_err(|error| {
            let path = on_host(&self.root, &content.path);
            match error {
                ContentError::Changed => LayerError::Changed { path },
                ContentError::Read(source) => LayerError::Path { path, source },
            }
        })
    }

    /// Nothing is known of a directory that could be compared.
    fn finish(&mut self) -> Result<(), LayerError> {
        self.content = None;
        Ok(())
    }
}

fn on_host(root: &Path, path: &EntryPath) -> PathBuf {
    root.join(OsStr::from_bytes(path.as_bytes()))
}
