//! The release file that an image's name demands: `open_extension_release_at()` in systemd's
//! `src/basic/os-util.c`, and the names of `src/shared/discover-image.c` and `vpick.c`.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use crate::erofs::{DirEntry, FileSystem, FileType, Inode, ReadError};
use crate::extension::ExtensionKind;
use crate::image::Designator;
use crate::layer::Xattr;
use crate::printable::printable;
use crate::read_at::ReadAt;
use crate::release::{InvalidRelease, ReleaseFile};

/// A larger release file is not read.
const MAX_RELEASE_BYTES: u64 = 1 << 20;
/// How many release files of other names are told.
const NAMED: usize = 3;
/// More release files than anybody puts into an image.
const MAX_FILES: usize = 1000;
/// With what the name of every release file begins.
const PREFIX: &[u8] = b"extension-release.";
/// With a false value a release file does for an image of any name.
const STRICT: &[u8] = b"user.extension-release.strict";
/// What is false to systemd (`parse_boolean()`).
const FALSE: [&str; 6] = ["0", "no", "n", "false", "f", "off"];
/// An image with this file is passed over (`extension_has_forbidden_content()`).
const OS_RELEASE: &str = "usr/lib/os-release";

/// The release file by which systemd judges an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRelease {
    /// What it makes of the image.
    pub kind: ExtensionKind,
    /// The name of the image, by which the file was found.
    pub image_name: String,
    /// What stands behind `extension-release.` in the file's name.
    pub name: String,
    /// Whether it does for an image of any name (`user.extension-release.strict`).
    pub for_any_name: bool,
    /// What it says.
    pub release: ReleaseFile,
}

/// Why systemd would not take an image for the extension that its name says.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseFault {
    /// systemd looks for `*.raw`.
    #[error(
        "{0:?} is no name of an extension image; NAME.raw is, and NAME.sysext.raw or NAME.confext.raw"
    )]
    FileName(String),
    /// The file system could not be read.
    #[error("cannot read the file system: {0}")]
    FileSystem(#[from] ReadError),
    /// The content of a release file could not be read.
    #[error("cannot read {path} in the image: {source}")]
    Read {
        /// Which file.
        path: String,
        /// What reading gave.
        source: io::Error,
    },
    /// Not a release file.
    #[error("{path} in the image is unusable: {source}")]
    Invalid {
        /// Which file.
        path: String,
        /// Why.
        source: InvalidRelease,
    },
    /// Neither for `/usr` nor for `/etc`.
    #[error("it has no release file, so systemd takes it for no extension")]
    None,
    /// There are some, but not for this name.
    #[error(
        "its name demands {wanted}, which is not in the image; there is {found}. Rename the image"
    )]
    Mismatch {
        /// The path of the file that is missing.
        wanted: String,
        /// The names of those that there are.
        found: String,
    },
    /// systemd does not choose.
    #[error(
        "several release files in {0} could be meant by its name, and systemd refuses to choose"
    )]
    Ambiguous(String),
    /// Judging each of them would take long.
    #[error("there are more than {MAX_FILES} release files in {0}")]
    TooMany(String),
    /// It says that it is an operating system.
    #[error(
        "it holds {OS_RELEASE}, so systemd takes it for an operating system and passes it over"
    )]
    OperatingSystem,
}

/// How systemd understands the name of an image file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    /// By which systemd looks for the release file.
    pub(crate) name: String,
    /// What the file's name says that it is.
    kind: Option<ExtensionKind>,
}

impl ImageName {
    /// The name that the file at `path` has: without `.raw` and the kind before it, or that of the
    /// folder `NAME.raw.v` in which it lies as one version of several.
    pub(crate) fn of(path: &Path) -> Option<ImageName> {
        let own = path.file_name().and_then(ImageName::of_file)?;
        let folder = path.parent().and_then(Path::file_name);
        let versioned = folder
            .and_then(|folder| folder.to_str()?.strip_suffix(".v"))
            .and_then(|folder| ImageName::of_file(OsStr::new(folder)))
            .filter(|versioned| {
                let version = own.name.strip_prefix(&versioned.name);
                version.is_some_and(|version| version.starts_with('_'))
            });
        Some(ImageName {
            kind: own.kind.or(versioned.as_ref().and_then(|name| name.kind)),
            name: versioned.map_or(own.name, |versioned| versioned.name),
        })
    }

    fn of_file(name: &OsStr) -> Option<ImageName> {
        let name = name.to_str()?.strip_suffix(".raw")?;
        let (name, kind) = [ExtensionKind::Sysext, ExtensionKind::Confext]
            .into_iter()
            .find_map(|kind| {
                let stem = name.strip_suffix(kind.as_str())?.strip_suffix('.')?;
                Some((stem, Some(kind)))
            })
            .unwrap_or((name, None));
        let valid = !name.is_empty() && !name.starts_with('.') && !name.contains(char::is_control);
        valid.then(|| ImageName {
            name: name.to_owned(),
            kind,
        })
    }

    /// What is before the version.
    pub(crate) fn base(&self) -> &str {
        self.name.split(['_', '+']).next().unwrap_or(&self.name)
    }
}

/// The release file for the image at `path` with this file system, as systemd finds it from 256 on.
///
/// # Errors
/// Where there is none, or systemd would refuse to choose.
pub fn find_release<R: ReadAt>(
    file_system: &FileSystem<R>,
    designator: Designator,
    path: &Path,
) -> Result<FoundRelease, ReleaseFault> {
    let absolute = std::path::absolute(path);
    let path = absolute.as_deref().unwrap_or(path);
    let image = ImageName::of(path).ok_or_else(|| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        ReleaseFault::FileName(printable(name.as_encoded_bytes()))
    })?;
    let search = Search {
        file_system,
        designator,
        image: &image,
    };
    if search.lookup(OS_RELEASE)?.is_some() {
        return Err(ReleaseFault::OperatingSystem);
    }
    let kinds = match image.kind {
        Some(kind) => vec![kind],
        None => vec![ExtensionKind::Sysext, ExtensionKind::Confext],
    };
    for kind in kinds {
        if let Some(found) = search.find(kind)? {
            return Ok(found);
        }
    }
    Err(ReleaseFault::None)
}

struct Search<'a, R> {
    file_system: &'a FileSystem<R>,
    designator: Designator,
    image: &'a ImageName,
}

impl<R: ReadAt> Search<'_, R> {
    /// The release file, or `None` without a folder for this kind of them.
    fn find(&self, kind: ExtensionKind) -> Result<Option<FoundRelease>, ReleaseFault> {
        let folder = kind.release_directory();
        let Some(directory) = self.lookup(folder)? else {
            return Ok(None);
        };
        let exact = [PREFIX, self.image.name.as_bytes()].concat();
        let (mut candidates, mut others) = (Vec::new(), Vec::new());
        let mut files = 0;
        for entry in self.file_system.read_dir(&directory)? {
            let entry = entry?;
            if !entry.name.starts_with(PREFIX) || entry.file_type != FileType::File {
                continue;
            }
            if entry.name == exact {
                return self.read(kind, &entry).map(Some);
            }
            files += 1;
            if files > MAX_FILES {
                return Err(ReleaseFault::TooMany(folder.to_owned()));
            }
            if candidates.len() < 2 && self.will_do(&entry)? {
                candidates.push(entry);
            } else if others.len() < NAMED {
                others.push(printable(&entry.name));
            }
        }
        match candidates.as_slice() {
            [] if others.is_empty() => Ok(None),
            [] => Err(ReleaseFault::Mismatch {
                wanted: format!("{folder}/{}", printable(&exact)),
                found: others.join(", "),
            }),
            [candidate] => self.read(kind, candidate).map(Some),
            _ => Err(ReleaseFault::Ambiguous(folder.to_owned())),
        }
    }

    /// Whether a release file of another name may stand in.
    fn will_do(&self, entry: &DirEntry) -> Result<bool, ReleaseFault> {
        if entry.name[PREFIX.len()..] == *self.image.base().as_bytes() {
            return Ok(true);
        }
        let inode = self.file_system.inode(entry.nid)?;
        let xattrs = self.file_system.xattrs(&inode)?;
        Ok(is_for_any_name(&xattrs))
    }

    fn read(&self, kind: ExtensionKind, entry: &DirEntry) -> Result<FoundRelease, ReleaseFault> {
        let inode = self.file_system.inode(entry.nid)?;
        let name = printable(&entry.name);
        let path = format!("{}/{name}", kind.release_directory());
        let own = &entry.name[PREFIX.len()..];
        let image = &self.image;
        Ok(FoundRelease {
            kind,
            for_any_name: own != image.name.as_bytes() && own != image.base().as_bytes(),
            image_name: image.name.clone(),
            name: printable(own),
            release: read_release(self.file_system, &inode, path)?,
        })
    }

    /// The inode of a path, where the data is mounted as its designator says.
    fn lookup(&self, path: &str) -> Result<Option<Inode>, ReadError> {
        let path = match self.designator {
            Designator::Root => path,
            Designator::Usr => match path.strip_prefix("usr/") {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        self.file_system.lookup(path.as_bytes())
    }
}

/// Whether the attributes of a release file let it do for an image of any name.
pub(crate) fn is_for_any_name(xattrs: &[Xattr]) -> bool {
    let strict = xattrs.iter().find(|xattr| xattr.name == STRICT);
    strict.is_some_and(|xattr| {
        let value = String::from_utf8_lossy(&xattr.value).to_ascii_lowercase();
        FALSE.contains(&value.as_str())
    })
}

/// The release file in an inode; `path` is for people.
///
/// # Errors
/// Where it cannot be read or is none.
pub fn read_release<R: ReadAt>(
    file_system: &FileSystem<R>,
    inode: &Inode,
    path: String,
) -> Result<ReleaseFile, ReleaseFault> {
    let mut content = Vec::new();
    let mut limited = file_system.content(inode)?.take(MAX_RELEASE_BYTES + 1);
    match limited.read_to_end(&mut content) {
        Ok(_) => {
            ReleaseFile::parse(&content).map_err(|source| ReleaseFault::Invalid { path, source })
        }
        Err(source) => Err(ReleaseFault::Read { path, source }),
    }
}
