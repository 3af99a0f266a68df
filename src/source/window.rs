//! A part of a file that holds one blob.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::SourceError;

/// Bytes that a manifest, index or configuration may have. Registries accept 4 MiB.
pub(super) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// A contiguous part of a file. Several readers of one file do not disturb each other.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub file: Arc<File>,
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// What it is part of and called, for messages.
    pub name: String,
}

impl Window {
    /// Reads the window from its start.
    pub fn reader(&self) -> Box<dyn Read + Send> {
        Box::new(ExactReader::new(
            FileReader {
                file: Arc::clone(&self.file),
                offset: self.offset,
            },
            self.size,
            self.name.clone(),
        ))
    }

    /// All of a document.
    pub fn document(&self) -> Result<Vec<u8>, SourceError> {
        read_document(self.reader(), &self.name)
    }
}

/// All of a document from `source`, which must end within [`DOCUMENT_LIMIT`] bytes.
pub(super) fn read_document(source: impl Read, name: &str) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    source
        .take(DOCUMENT_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| SourceError::from_read(error, |source| file_error(name, source)))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(SourceError::TooLarge {
            object: name.to_owned(),
            limit: DOCUMENT_LIMIT,
        });
    }
    Ok(bytes)
}

/// The error for a failed read from the file called `name`.
pub(super) fn file_error(name: &str, source: io::Error) -> SourceError {
    SourceError::File {
        path: name.into(),
        source,
    }
}

/// Reads a shared file from an offset on.
pub(super) struct FileReader {
    pub file: Arc<File>,
    /// Bytes from the file's start.
    pub offset: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Reads so many bytes and no more; less is an error.
pub(super) struct ExactReader<R> {
    inner: R,
    missing: u64,
    /// For the message.
    name: String,
}

impl<R> ExactReader<R> {
    pub fn new(inner: R, size: u64, name: String) -> ExactReader<R> {
        ExactReader {
            inner,
            missing: size,
            name,
        }
    }
}

impl<R: Read> Read for ExactReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.inner).take(self.missing).read(buffer)?;
        if count == 0 && self.missing > 0 && !buffer.is_empty() {
            return Err(SourceError::Truncated {
                object: self.name.clone(),
                missing: self.missing,
            }
            .into());
        }
        self.missing -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_reaches_behind_the_file_ends_with_an_error() {
        let file = super::super::spool::temporary_file().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let mut window = Window {
            file: Arc::new(file),
            offset: 2,
            size: 8,
            name: "x".to_owned(),
        };
        assert_eq!(window.document().unwrap(), b"23456789");
        window.size = 9;
        assert!(matches!(
            window.document(),
            Err(SourceError::Truncated { missing: 1, .. })
        ));
    }

    #[test]
    fn endless_documents_are_refused() {
        assert!(matches!(
            read_document(io::repeat(b' '), "x"),
            Err(SourceError::TooLarge { .. })
        ));
    }
}
