//! OCI image layouts: a directory with `index.json` and `blobs/sha256/…`, or a tar archive of one.
//!
//! Source: OCI image specification 1.1, `image-layout.md`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};

use super::archive_file::ArchiveFile;
use super::content_store::{self, Candidate, ContentStore};
use super::error::SourceError;
use super::manifest::{Descriptor, Document};
use super::platform::{Offer, Platform};
use super::window::Window;
use super::{Image, LayerBytes, OpenLayer};
use crate::digest::Digest;

/// The image with `tag`, or the only one for `platform`, in the layout directory `path`.
pub(super) fn find_in_directory(
    path: &Path,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Image, SourceError> {
    let layout = Layout(Arc::new(Directory::open(path)?));
    find(&layout, format!("oci:{}", path.display()), tag, platform)
}

/// The image with `tag`, or the only one for `platform`, in the archived layout `path`.
pub(super) fn find_in_archive(
    path: &Path,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Image, SourceError> {
    let layout = Layout(Arc::new(ArchiveFile::open(path)?));
    let location = format!("oci-archive:{}", path.display());
    find(&layout, location, tag, platform)
}

/// What the images with `tag`, or all, in the layout directory `path` are for.
pub(super) fn offers_in_directory(
    path: &Path,
    tag: Option<&str>,
) -> Result<Vec<Offer>, SourceError> {
    let layout = Layout(Arc::new(Directory::open(path)?));
    offers(&layout, &format!("oci:{}", path.display()), tag)
}

/// What the images with `tag`, or all, in the archived layout `path` are for.
pub(super) fn offers_in_archive(path: &Path, tag: Option<&str>) -> Result<Vec<Offer>, SourceError> {
    let layout = Layout(Arc::new(ArchiveFile::open(path)?));
    offers(&layout, &format!("oci-archive:{}", path.display()), tag)
}

fn offers(layout: &Layout, container: &str, tag: Option<&str>) -> Result<Vec<Offer>, SourceError> {
    let candidates = candidates(layout, container, tag)?;
    Ok(candidates.into_iter().map(|found| found.offer).collect())
}

/// The images with `tag`, or all.
fn candidates(
    layout: &Layout,
    container: &str,
    tag: Option<&str>,
) -> Result<Vec<Candidate>, SourceError> {
    let index = layout.0.index()?;
    let Document::Index(entries) = Document::parse(&index.document()?, &index.name)? else {
        return Err(SourceError::Malformed {
            object: index.name,
            problem: "it is an image manifest where an index has to be".to_owned(),
        });
    };
    let named: Vec<Descriptor> = entries
        .iter()
        .filter(|entry| {
            tag.is_none_or(|tag| entry.annotation(content_store::REF_NAME) == Some(tag))
        })
        .cloned()
        .collect();
    if let (Some(tag), true) = (tag, named.is_empty()) {
        let names = entries.iter().map(|entry| {
            let name = entry.annotation(content_store::REF_NAME);
            display_name(name, &entry.digest)
        });
        return Err(SourceError::NoSuchImage {
            container: container.to_owned(),
            wanted: tag.to_owned(),
            available: names.collect(),
        });
    }
    content_store::candidates(layout, &named)
}

fn find(
    layout: &Layout,
    container: String,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Image, SourceError> {
    let candidates = candidates(layout, &container, tag)?;
    let chosen = choose(&candidates, &container, platform)?;
    let location = match &chosen.name {
        Some(name) => format!("{container}:{}", name.escape_default()),
        None => container,
    };
    match content_store::document(layout, chosen.digest)? {
        Document::Manifest(manifest) => {
            content_store::image(layout, location, chosen.digest, &manifest, platform)
        }
        Document::Index(_) => Err(SourceError::Malformed {
            object: format!("manifest {}", chosen.digest),
            problem: "it is an index where a manifest has to be".to_owned(),
        }),
    }
}

fn choose<'a>(
    candidates: &'a [Candidate],
    container: &str,
    platform: &Platform,
) -> Result<&'a Candidate, SourceError> {
    let fitting = content_store::best(candidates, platform);
    match *fitting.as_slice() {
        [only] => Ok(only),
        [] => {
            let offers = candidates.iter().map(|candidate| &candidate.offer);
            Err(content_store::no_such_platform(container, platform, offers))
        }
        _ => Err(SourceError::Ambiguous {
            container: container.to_owned(),
            platform: platform.clone(),
            available: fitting
                .iter()
                .map(|candidate| {
                    display_name(candidate.name.as_deref(), &candidate.digest.to_string())
                })
                .collect(),
        }),
    }
}

/// What messages call an image of a layout: its name, or else its digest.
fn display_name(name: Option<&str>, digest: &str) -> String {
    name.unwrap_or(digest).escape_default().to_string()
}

/// Where the files of a layout lie.
trait LayoutFiles: Send + Sync {
    fn index(&self) -> Result<Window, SourceError>;
    fn blob(&self, digest: Digest) -> Result<Window, SourceError>;
}

struct Layout(Arc<dyn LayoutFiles>);

impl ContentStore for Layout {
    fn manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.0.blob(digest)?.document()
    }

    fn configuration(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.0.blob(digest)?.document()
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<Box<dyn OpenLayer>, SourceError> {
        Ok(Box::new(LayoutLayer {
            files: Arc::clone(&self.0),
            digest: descriptor.digest()?,
            descriptor: descriptor.clone(),
        }))
    }
}

struct LayoutLayer {
    files: Arc<dyn LayoutFiles>,
    digest: Digest,
    descriptor: Descriptor,
}

impl OpenLayer for LayoutLayer {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        self.descriptor.check_layer_type()?;
        let blob = self.files.blob(self.digest)?;
        if blob.size != self.descriptor.size {
            return Err(SourceError::Malformed {
                problem: format!(
                    "it has {} bytes where the manifest says {}",
                    blob.size, self.descriptor.size
                ),
                object: blob.name,
            });
        }
        Ok(LayerBytes::Archive(blob.reader()))
    }
}

impl LayoutFiles for ArchiveFile {
    fn index(&self) -> Result<Window, SourceError> {
        self.member("index.json")
    }

    fn blob(&self, digest: Digest) -> Result<Window, SourceError> {
        self.member(&format!("blobs/sha256/{}", digest.hex()))
    }
}

/// A layout in a directory. Whoever made it may have put symbolic links there, which are never
/// followed: they could lead to any file of this host.
struct Directory {
    path: PathBuf,
    root: OwnedFd,
}

impl Directory {
    fn open(path: &Path) -> Result<Directory, SourceError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(root) => Ok(Directory {
                path: path.to_owned(),
                root,
            }),
            Err(rustix::io::Errno::NOTDIR) => Err(SourceError::NotDirectory { path: path.into() }),
            Err(error) => Err(SourceError::File {
                path: path.into(),
                source: error.into(),
            }),
        }
    }

    fn file(&self, directories: &[&str], name: &str) -> Result<Window, SourceError> {
        let mut path = self.path.clone();
        path.extend(directories);
        path.push(name);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SourceError::Missing {
                container: self.path.display().to_string(),
                member: name.to_owned(),
            },
            _ => SourceError::File {
                path: path.clone(),
                source,
            },
        };
        let file = self.open_file(directories, name).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(SourceError::Malformed {
                object: path.display().to_string(),
                problem: "it is no regular file".to_owned(),
            });
        }
        Ok(Window {
            file: Arc::new(file),
            offset: 0,
            size: metadata.len(),
            name: path.display().to_string(),
        })
    }

    fn open_file(&self, directories: &[&str], name: &str) -> io::Result<File> {
        let directory_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A FIFO in place of the file must not block.
        let file_flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut inner: Option<OwnedFd> = None;
        for directory in directories {
            let parent = inner.as_ref().unwrap_or(&self.root);
            inner = Some(rustix::fs::openat(
                parent,
                *directory,
                directory_flags,
                Mode::empty(),
            )?);
        }
        let parent = inner.as_ref().unwrap_or(&self.root);
        let file = rustix::fs::openat(parent, name, file_flags, Mode::empty())?;
        Ok(File::from(file))
    }
}

impl LayoutFiles for Directory {
    fn index(&self) -> Result<Window, SourceError> {
        self.file(&[], "index.json")
    }

    fn blob(&self, digest: Digest) -> Result<Window, SourceError> {
        self.file(&["blobs", "sha256"], &digest.hex())
    }
}
