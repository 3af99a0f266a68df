//! Reading from anywhere in an image, whether it is a file, a part of one, or memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a known size that can be read at any offset.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the range reaches past [`ReadAt::size`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let source = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(source);
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// What opening and reading give; [`io::ErrorKind::FileTooLarge`] if there is more.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// A contiguous part of a file, for example one partition of an image.
#[derive(Debug)]
pub struct FileWindow {
    file: File,
    /// Bytes from the file's start.
    offset: u64,
    /// Bytes.
    size: u64,
}

impl FileWindow {
    /// The `size` bytes of `file` at `offset`; both are checked only by later reads.
    pub fn new(file: File, offset: u64, size: u64) -> FileWindow {
        FileWindow { file, offset, size }
    }

    /// All of `file`, at its present size.
    ///
    /// # Errors
    /// What asking for the file's size gives.
    pub fn whole(file: File) -> io::Result<FileWindow> {
        let size = file.metadata()?.len();
        Ok(FileWindow::new(file, 0, size))
    }

    /// The first `size` bytes of it, or all if there are fewer.
    pub fn cut(self, size: u64) -> FileWindow {
        FileWindow {
            size: size.min(self.size),
            ..self
        }
    }
}

impl ReadAt for FileWindow {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = self
            .offset
            .checked_add(offset)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(buffer, start)
    }
}
