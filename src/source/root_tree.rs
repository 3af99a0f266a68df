//! Root trees that are no container images: a directory, a tar archive, standard input.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::SourceError;
use super::{History, Image, Layer, LayerBytes, OpenLayer};

/// The root tree in the directory `path`.
pub(super) fn directory(path: &Path) -> Result<Image, SourceError> {
    if !metadata(path)?.is_dir() {
        return Err(SourceError::NotDirectory { path: path.into() });
    }
    let location = format!("dir:{}", path.display());
    Ok(image(location, None, Directory(path.to_owned())))
}

/// The root tree in the tar archive `path`.
pub(super) fn archive(path: &Path) -> Result<Image, SourceError> {
    let metadata = metadata(path)?;
    if metadata.is_dir() {
        return Err(SourceError::IsDirectory { path: path.into() });
    }
    // A pipe has no size that could be known.
    let size = metadata.is_file().then_some(metadata.len());
    let location = format!("tar:{}", path.display());
    let archive = Archive {
        path: path.to_owned(),
        is_file: metadata.is_file(),
        gone: AtomicBool::default(),
    };
    Ok(image(location, size, archive))
}

/// The root tree in the tar archive on standard input.
pub(super) fn standard_input() -> Image {
    image("-".to_owned(), None, StandardInput::default())
}

fn metadata(path: &Path) -> Result<Metadata, SourceError> {
    fs::metadata(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> SourceError {
    SourceError::File {
        path: path.into(),
        source,
    }
}

fn image(location: String, size: Option<u64>, content: impl OpenLayer + 'static) -> Image {
    Image {
        location,
        digest: None,
        architecture: None,
        layers: vec![Layer {
            blob: None,
            diff_id: None,
            size,
            history: History::default(),
            content: Box::new(content),
        }],
    }
}

struct Directory(PathBuf);

impl OpenLayer for Directory {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        Ok(LayerBytes::Directory(self.0.clone()))
    }
}

struct Archive {
    path: PathBuf,
    /// Anything else can be read once only.
    is_file: bool,
    gone: AtomicBool,
}

impl OpenLayer for Archive {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        if self.gone.swap(true, Ordering::Relaxed) && !self.is_file {
            return Err(SourceError::PipeGone {
                path: self.path.clone(),
            });
        }
        let file = File::open(&self.path).map_err(|source| unreadable(&self.path, source))?;
        Ok(LayerBytes::Archive(Box::new(file)))
    }
}

/// Can be read once only.
#[derive(Default)]
struct StandardInput {
    gone: AtomicBool,
}

impl OpenLayer for StandardInput {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        if self.gone.swap(true, Ordering::Relaxed) {
            return Err(SourceError::StandardInputGone);
        }
        Ok(LayerBytes::Archive(Box::new(io::stdin())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_directory_and_an_archive_are_not_taken_for_each_other() {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("x.tar");
        fs::write(&file, b"abc").unwrap();
        let image = directory(tree.path()).unwrap();
        assert!(matches!(
            image.layers[0].open().unwrap(),
            LayerBytes::Directory(path) if path == tree.path()
        ));
        assert!(matches!(
            directory(&file),
            Err(SourceError::NotDirectory { .. })
        ));
        let image = archive(&file).unwrap();
        assert_eq!(image.layers[0].size, Some(3));
        let LayerBytes::Archive(mut bytes) = image.layers[0].open().unwrap() else {
            panic!("no archive");
        };
        let mut content = String::new();
        bytes.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abc");
        assert!(matches!(
            archive(tree.path()),
            Err(SourceError::IsDirectory { .. })
        ));
        assert!(matches!(
            archive(&tree.path().join("no")),
            Err(SourceError::File { .. })
        ));
    }

    #[test]
    fn what_is_no_regular_file_is_read_only_once() {
        let image = archive(Path::new("/dev/null")).unwrap();
        assert!(image.layers[0].open().is_ok());
        let again = image.layers[0].open();
        assert!(matches!(again, Err(SourceError::PipeGone { .. })));
    }

    #[test]
    fn standard_input_is_read_only_once() {
        let image = standard_input();
        assert!(image.layers[0].open().is_ok());
        let again = image.layers[0].open();
        assert!(matches!(again, Err(SourceError::StandardInputGone)));
    }
}
