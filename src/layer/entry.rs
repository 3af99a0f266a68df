//! One entry of a layer, with every path proven to stay inside the layer.

use std::fmt;

use crate::printable::printable;
use crate::timestamp::Timestamp;

/// A file, directory or whatever else a layer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies in the layer.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name, each name once.
    pub xattrs: Vec<Xattr>,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of `size` bytes; its content follows from the stream.
    File {
        /// Bytes, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link to `target`, which may be any bytes but NUL, at most 4095 of them.
    Symlink {
        /// The text of the link.
        target: Vec<u8>,
    },
    /// Another name of the file at `target`.
    Hardlink {
        /// A path in the same layer.
        target: EntryPath,
    },
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket; only directories have them, tar archives cannot.
    Socket,
}

/// Number of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// At most 12 bits, as the kernel has it.
    pub major: u32,
    /// At most 20 bits, as the kernel has it.
    pub minor: u32,
}

/// An extended attribute with its full name, for example `security.capability`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xattr {
    /// Prefix and name, at most 255 bytes.
    pub name: Vec<u8>,
    /// At most 64 KiB.
    pub value: Vec<u8>,
}

/// A path inside a layer: components joined by single slashes, none of them empty, `.` or `..`,
/// without a leading slash, at most 4095 bytes, no component over 255. The root is the empty path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPath(Box<[u8]>);

/// Why a path in a layer is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("path \"{path}\" {reason}")]
pub struct InvalidPath {
    /// The path, made printable.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// `PATH_MAX` less the NUL (`include/uapi/linux/limits.h`).
const MAX_PATH_BYTES: usize = 4095;
/// `NAME_MAX` (`include/uapi/linux/limits.h`), which is EROFS's limit as well.
const MAX_COMPONENT_BYTES: usize = 255;

impl EntryPath {
    /// The root of the layer.
    pub fn root() -> EntryPath {
        EntryPath(Box::default())
    }

    /// Normalises a path as archives write it: doubled and trailing slashes and `.` components go
    /// away; `/` alone is the root, but any other absolute path is refused, and so is `..` wherever
    /// it stands.
    ///
    /// # Errors
    /// [`InvalidPath`] for an absolute path, `..`, a NUL byte, or more bytes than a kernel would
    /// take.
    pub fn from_archive(raw: &[u8]) -> Result<EntryPath, InvalidPath> {
        let refuse = |reason| InvalidPath {
            path: printable(&raw[..raw.len().min(MAX_PATH_BYTES)]),
            reason,
        };
        let mut path = Vec::with_capacity(raw.len().min(MAX_PATH_BYTES));
        for component in raw.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("climbs out of the layer with '..'")),
                _ if component.contains(&0) => return Err(refuse("has a NUL byte")),
                _ if component.len() > MAX_COMPONENT_BYTES => {
                    return Err(refuse("has a component of more than 255 bytes"));
                }
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
            if path.len() > MAX_PATH_BYTES {
                return Err(refuse("is longer than 4095 bytes"));
            }
        }
        if raw.first() == Some(&b'/') && !path.is_empty() {
            return Err(refuse("is absolute"));
        }
        Ok(EntryPath(path.into()))
    }

    /// The path of `name` in the directory at this path, if kernels would take it.
    pub(crate) fn join(&self, name: &[u8]) -> Result<EntryPath, InvalidPath> {
        let mut raw = self.0.to_vec();
        raw.push(b'/');
        raw.extend_from_slice(name);
        let start = usize::from(self.is_root());
        EntryPath::from_archive(raw.get(start..).unwrap_or_default())
    }

    /// The path as bytes, without a leading slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root of the layer.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the top down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// The last component, and the path of the directory that holds it; `None` for the root.
    pub fn split_last(&self) -> Option<(EntryPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some((EntryPath(self.0[..slash].into()), &self.0[slash + 1..])),
            None => Some((EntryPath::root(), &self.0)),
        }
    }

    /// Whether this is `ancestor` itself or lies below it, compared by components.
    pub fn is_within(&self, ancestor: &EntryPath) -> bool {
        match self.0.strip_prefix(ancestor.as_bytes()) {
            Some(rest) => ancestor.is_root() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

impl fmt::Display for EntryPath {
    /// With a leading slash, and anything unprintable escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", printable(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &[u8]) -> EntryPath {
        EntryPath::from_archive(raw).unwrap()
    }

    #[test]
    fn the_spellings_of_archives_mean_one_path() {
        for raw in [
            &b"usr/bin/x"[..],
            b"./usr/bin/x",
            b"usr//bin/./x",
            b"usr/bin/x/",
        ] {
            assert_eq!(path(raw), path(b"usr/bin/x"));
        }
        for raw in [&b""[..], b".", b"./", b"/"] {
            assert!(path(raw).is_root());
        }
    }

    #[test]
    fn paths_that_lead_out_of_the_layer_or_break_kernels_are_refused() {
        let long_component = vec![b'a'; 256];
        let long_path = b"abc/".repeat(1100);
        for raw in [
            &b".."[..],
            b"usr/../../etc",
            b"/usr/bin/x",
            b"//x",
            b"a\0b",
            &long_component,
            &long_path,
        ] {
            assert!(EntryPath::from_archive(raw).is_err());
        }
        assert!(EntryPath::from_archive(b"..a/b..").is_ok());
    }

    #[test]
    fn being_within_is_a_matter_of_components() {
        let usr = path(b"usr");
        assert!(path(b"usr").is_within(&usr));
        assert!(path(b"usr/x").is_within(&usr));
        assert!(!path(b"usrlocal").is_within(&usr));
        assert!(usr.is_within(&EntryPath::root()));
        assert!(!EntryPath::root().is_within(&usr));
    }

    #[test]
    fn splitting_gives_parent_and_name() {
        assert_eq!(
            path(b"usr/bin/x").split_last(),
            Some((path(b"usr/bin"), &b"x"[..]))
        );
        assert_eq!(
            path(b"usr").split_last(),
            Some((EntryPath::root(), &b"usr"[..]))
        );
        assert_eq!(EntryPath::root().split_last(), None);
    }

    #[test]
    fn terminals_are_safe_from_names() {
        assert_eq!(
            path(b"a\x1b[31m\xff\xc3\xa4").to_string(),
            "/a\\u{1b}[31m\\xff\u{e4}"
        );
    }
}
