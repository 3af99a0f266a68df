//! Files in a folder of the local file system.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Content, Files, FilesError};
use crate::layer::{Device, Entry, EntryKind, EntryPath, Xattr};
use crate::timestamp::Timestamp;

/// The tree below a folder. Every path is walked name by name from the folder, which is held open, and
/// no symbolic link is followed on the way.
pub struct Folder {
    path: PathBuf,
    root: OwnedFd,
}

/// For folders on the way it is enough that one may pass through them.
const DIRECTORY_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// The tree below `path`, which may itself be a symbolic link.
    ///
    /// # Errors
    /// [`FilesError::Folder`] if it is no folder that can be read.
    pub fn open(path: &Path) -> Result<Folder, FilesError> {
        let root = rustix::fs::openat(CWD, path, DIRECTORY_FLAGS, Mode::empty());
        let root = root.map_err(|errno| FilesError::Folder {
            folder: path.display().to_string(),
            path: EntryPath::root(),
            source: errno.into(),
        })?;
        Ok(Folder {
            path: path.to_path_buf(),
            root,
        })
    }

    /// The directory at `path`; `None` if something on the way is missing or no directory.
    fn directory(&self, path: &EntryPath) -> Result<Option<OwnedFd>, Errno> {
        let mut directory = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        for name in path.components() {
            let flags = DIRECTORY_FLAGS | OFlags::NOFOLLOW;
            directory = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(errno),
            };
        }
        Ok(Some(directory))
    }

    /// The directory that holds `path`, and its name there; the root is `.` in itself.
    fn parent(&self, path: &EntryPath) -> Result<Option<(OwnedFd, CString)>, Errno> {
        let (parent, name) = match path.split_last() {
            Some((parent, name)) => (parent, name.to_vec()),
            None => (EntryPath::root(), b".".to_vec()),
        };
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        Ok(self.directory(&parent)?.map(|parent| (parent, name)))
    }

    fn failing_at(&self, path: &EntryPath) -> impl Fn(io::Error) -> FilesError + use<'_> {
        let path = path.clone();
        move |source| FilesError::Folder {
            folder: self.path.display().to_string(),
            path: path.clone(),
            source,
        }
    }

    fn read_entry(&self, path: &EntryPath) -> io::Result<Option<Entry>> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(None);
        };
        let stat = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        Ok(Some(Entry {
            path: path.clone(),
            kind: kind(&parent, &name, &stat)?,
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timestamp {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            },
            xattrs: xattrs(&parent, &name)?,
        }))
    }

    fn read_names(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, Errno> {
        let Some(directory) = self.directory(path)? else {
            return Ok(Vec::new());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&directory, c".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_bytes().to_vec());
            }
        }
        names.sort();
        Ok(names)
    }

    fn open_file(&self, path: &EntryPath) -> io::Result<(File, u64)> {
        let Some((parent, name)) = self.parent(path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // A file that has become a pipe must not make this wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok((file, metadata.len()))
    }
}

impl Files for Folder {
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>, FilesError> {
        self.read_entry(path).map_err(self.failing_at(path))
    }

    fn names(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError> {
        let names = self.read_names(path);
        names.map_err(|errno| self.failing_at(path)(errno.into()))
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content + '_>, FilesError> {
        let (file, size) = self.open_file(path).map_err(self.failing_at(path))?;
        Ok(Box::new(OpenFile {
            folder: self,
            path: path.clone(),
            file,
            size,
        }))
    }
}

struct OpenFile<'f> {
    folder: &'f Folder,
    path: EntryPath,
    file: File,
    size: u64,
}

impl Content for OpenFile<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, FilesError> {
        // Linux refuses places that no file can have.
        if offset >= self.size {
            return Ok(0);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let position = offset.saturating_add(filled as u64);
            match self.file.read_at(&mut buffer[filled..], position) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.folder.failing_at(&self.path)(error)),
            }
        }
        Ok(filled)
    }
}

fn kind(parent: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<EntryKind> {
    let device = Device {
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
        },
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink {
            target: rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes(),
        },
        FileType::CharacterDevice => EntryKind::CharDevice(device),
        FileType::BlockDevice => EntryKind::BlockDevice(device),
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::Unknown => return Err(Errno::INVAL.into()),
    })
}

/// The extended attributes of `name`, which is not followed where it is a link; none where the file
/// system has none.
fn xattrs(parent: &OwnedFd, name: &CStr) -> io::Result<Vec<Xattr>> {
    // The system calls that take a directory and a name are newer (Linux 6.13) than the kernels this
    // has to run on.
    let in_proc = Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(OsStr::from_bytes(name.to_bytes()));
    let names = match xattr::list(&in_proc) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        names => names?,
    };
    let mut xattrs = Vec::new();
    for name in names {
        let value = match xattr::get(&in_proc, &name) {
            // Whoever may not read a file may not read attributes of users either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Vec::new()),
            value => value?,
        };
        if let Some(value) = value {
            xattrs.push(Xattr {
                value,
                name: name.into_vec(),
            });
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::lint::files::{Found, resolve};

    fn path(text: &str) -> EntryPath {
        EntryPath::from_archive(text.as_bytes()).unwrap()
    }

    #[test]
    fn no_link_leads_out_of_a_folder() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = tempfile::tempdir().unwrap();
        let target = outside.path().join("secret");
        symlink(outside.path(), root.path().join("usr")).unwrap();
        symlink(&target, root.path().join("file")).unwrap();
        symlink("../../../../../../..", root.path().join("up")).unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.entry(&path("usr/secret")).unwrap(), None);
        assert!(folder.names(&path("usr")).unwrap().is_empty());
        assert!(folder.open(&path("usr/secret")).is_err());
        assert!(folder.open(&path("file")).is_err());
        let resolved = |text: &[u8]| resolve(&folder, text).unwrap();
        assert!(matches!(resolved(b"/usr/secret"), Found::Missing(_)));
        assert!(matches!(resolved(b"file"), Found::Missing(_)));
        // `..` ends at the root of the tree.
        assert!(matches!(resolved(b"up"), Found::Entry(entry) if entry.path.is_root()));
    }

    #[test]
    fn links_that_never_end_are_not_followed_forever() {
        let root = tempfile::tempdir().unwrap();
        symlink("b/x", root.path().join("a")).unwrap();
        symlink("a/x", root.path().join("b")).unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(resolve(&folder, b"a").unwrap(), Found::Endless);
    }

    #[test]
    fn content_is_read_at_any_place() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x"), "0123456789").unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let mut content = folder.open(&path("x")).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(
            (content.size(), content.read_at(&mut buffer, 8).unwrap()),
            (10, 2)
        );
        assert_eq!(&buffer[..2], b"89");
        for beyond in [10, 1 << 63, u64::MAX] {
            assert_eq!(content.read_at(&mut buffer, beyond).unwrap(), 0);
        }
    }
}
