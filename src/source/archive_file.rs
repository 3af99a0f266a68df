//! An archive of an image as a file: its members, found once, and windows to their content.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::compression::{Compression, MAGIC_SIZE};
use super::error::SourceError;
use super::outer_tar::{MemberKind, Members};
use super::spool;
use super::window::{FileReader, Window};

/// Members that an archive may have: far more than images have layers.
const MEMBER_LIMIT: usize = 1 << 14;

/// How many symbolic links may lead from one to the next.
const LINK_LIMIT: usize = 8;

/// An archive whose members can be read in any order.
pub(super) struct ArchiveFile {
    /// For messages.
    name: String,
    file: Arc<File>,
    members: HashMap<String, Place>,
}

enum Place {
    Content { offset: u64, size: u64 },
    Link(String),
}

impl ArchiveFile {
    /// Opens an archive, plain or compressed, and finds its members.
    ///
    /// Offsets only exist in a plain file: what is compressed or comes through a pipe is first
    /// unpacked into a temporary file without a name.
    pub fn open(path: &Path) -> Result<ArchiveFile, SourceError> {
        let name = path.display().to_string();
        let failed =
            |error: io::Error| SourceError::from_read(error, |source| read_error(path, source));
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            return Err(SourceError::IsDirectory { path: path.into() });
        }
        let file = seekable_and_plain(file, kind.is_file()).map_err(failed)?;
        let (file, members) = index(file).map_err(failed)?;
        Ok(ArchiveFile {
            name,
            file,
            members,
        })
    }

    /// What messages call the archive.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content of a member, through symbolic links that stay within the archive.
    pub fn member(&self, name: &str) -> Result<Window, SourceError> {
        let missing = || SourceError::Missing {
            container: self.name.clone(),
            member: format!("{name:?}"),
        };
        let mut path = resolve("", name).ok_or_else(missing)?;
        for _ in 0..LINK_LIMIT {
            match self.members.get(&path).ok_or_else(missing)? {
                Place::Link(target) => path = resolve(&path, target).ok_or_else(missing)?,
                Place::Content { offset, size } => {
                    return Ok(Window {
                        file: Arc::clone(&self.file),
                        offset: *offset,
                        size: *size,
                        name: format!("{}: {}", self.name, path.escape_default()),
                    });
                }
            }
        }
        Err(missing())
    }
}

/// The error for a failed read of the archive at `path`.
fn read_error(path: &Path, source: io::Error) -> SourceError {
    let object = path.display().to_string();
    match source.kind() {
        io::ErrorKind::InvalidData => SourceError::Malformed {
            object,
            problem: source.to_string(),
        },
        io::ErrorKind::UnexpectedEof => SourceError::Malformed {
            object,
            problem: "it ends within a member".to_owned(),
        },
        _ => SourceError::File {
            path: path.into(),
            source,
        },
    }
}

fn seekable_and_plain(mut file: File, seekable: bool) -> io::Result<File> {
    if seekable {
        let mut magic = [0; MAGIC_SIZE];
        let count = file.read_at(&mut magic, 0)?;
        if Compression::of(magic.get(..count).unwrap_or_default()) == Compression::None {
            return Ok(file);
        }
        file.rewind()?;
    }
    let mut source = BufReader::with_capacity(1 << 20, file);
    let compression = Compression::of(source.fill_buf()?);
    let mut plain = spool::temporary_file()?;
    copy(&mut compression.reader(source)?, &mut plain)?;
    Ok(plain)
}

/// Copies, telling errors of the temporary file from errors of the archive.
fn copy(source: &mut dyn io::Read, target: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => io::Write::write_all(target, buffer.get(..count).unwrap_or_default())
                .map_err(spool::write_failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn index(file: File) -> io::Result<(Arc<File>, HashMap<String, Place>)> {
    let end = file.metadata()?.len();
    let file = Arc::new(file);
    let mut found = HashMap::new();
    let mut members = Members::new(FileReader {
        file: Arc::clone(&file),
        offset: 0,
    });
    while let Some(member) = members.next_member()? {
        let offset = members.source().offset;
        let place = match member.kind {
            MemberKind::File => Place::Content {
                offset,
                size: member.size,
            },
            MemberKind::Symlink(target) => Place::Link(target),
            MemberKind::Other => continue,
        };
        if end
            .checked_sub(offset)
            .is_none_or(|rest| rest < member.size)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if found.len() == MEMBER_LIMIT {
            let problem = "it has too many members for an image";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        // As unpacking would have it, a later member of the same name replaces an earlier one.
        found.insert(member.name, place);
    }
    Ok((file, found))
}

/// `target` as seen from the directory of the member `from`; `None` where it leaves the archive.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(5);
        builder
            .append_data(&mut header, "a/layer.tar", &b"hello"[..])
            .unwrap();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        for (name, target) in [
            ("b/layer.tar", "../a/layer.tar"),
            ("loop", "loop"),
            ("outside", "../../etc/passwd"),
            ("absolute", "/etc/passwd"),
        ] {
            builder
                .append_link(&mut header.clone(), name, target)
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<ArchiveFile, SourceError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        ArchiveFile::open(file.path())
    }

    #[test]
    fn members_are_found_directly_and_through_links() {
        let plain = sample();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for bytes in [&plain, &gzip.finish().unwrap(), &zstd] {
            let archive = open(bytes).unwrap();
            for name in ["a/layer.tar", "./a/layer.tar", "b/layer.tar"] {
                assert_eq!(archive.member(name).unwrap().document().unwrap(), b"hello");
            }
        }
    }

    #[test]
    fn links_never_lead_out_of_the_archive() {
        let archive = open(&sample()).unwrap();
        for name in [
            "loop",
            "outside",
            "absolute",
            "/a/layer.tar",
            "../x",
            "absent",
        ] {
            let result = archive.member(name);
            assert!(matches!(result, Err(SourceError::Missing { .. })), "{name}");
        }
    }

    #[test]
    fn truncated_archives_and_other_files_are_refused() {
        let plain = sample();
        for bytes in [&plain[..514], b"PK\x03\x04 and so on", &[0xff; 4096]] {
            assert!(matches!(open(bytes), Err(SourceError::Malformed { .. })));
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        assert!(open(&gzip[..gzip.len() - 20]).is_err());
    }

    #[test]
    fn directories_and_missing_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            ArchiveFile::open(directory.path()),
            Err(SourceError::IsDirectory { .. })
        ));
        assert!(matches!(
            ArchiveFile::open(&directory.path().join("absent")),
            Err(SourceError::File { .. })
        ));
    }
}
