//! Judges any bytes as a program, a script or a unit of an extension, and as a library of its host.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::extension::ExtensionKind;
use sysgraft::layer::{Entry, EntryKind, EntryPath};
use sysgraft::lint::{Content, Files, FilesError, Policy, Subject, lint};
use sysgraft::timestamp::Timestamp;

/// Directories, and files that all have the same content.
struct Tree<'a> {
    files: &'static [&'static str],
    content: &'a [u8],
}

impl Tree<'_> {
    fn within<'t>(&'t self, path: &'t EntryPath) -> impl Iterator<Item = &'static str> + 't {
        let prefix = String::from_utf8_lossy(path.as_bytes()).into_owned();
        let below = self
            .files
            .iter()
            .filter_map(move |file| match prefix.as_str() {
                "" => Some(*file),
                prefix => file.strip_prefix(prefix)?.strip_prefix('/'),
            });
        below.filter_map(|rest| rest.split('/').next())
    }
}

impl Files for Tree<'_> {
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>, FilesError> {
        let is_file = self
            .files
            .iter()
            .any(|file| file.as_bytes() == path.as_bytes());
        let kind = match (is_file, self.within(path).next()) {
            (true, _) => EntryKind::File {
                size: self.content.len() as u64,
            },
            (false, Some(_)) => EntryKind::Directory,
            (false, None) => return Ok(None),
        };
        Ok(Some(Entry {
            path: path.clone(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(0),
            xattrs: Vec::new(),
        }))
    }

    fn names(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError> {
        Ok(self
            .within(path)
            .map(|name| name.as_bytes().to_vec())
            .collect())
    }

    fn open(&self, _: &EntryPath) -> Result<Box<dyn Content + '_>, FilesError> {
        Ok(Box::new(Bytes(self.content)))
    }
}

struct Bytes<'a>(&'a [u8]);

impl Content for Bytes<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, FilesError> {
        let start = usize::try_from(offset).map_or(self.0.len(), |start| start.min(self.0.len()));
        let length = buffer.len().min(self.0.len() - start);
        buffer[..length].copy_from_slice(&self.0[start..start + length]);
        Ok(length)
    }
}

fuzz_target!(|content: &[u8]| {
    let files = &[
        "usr/bin/x",
        "usr/lib/libc.so.6",
        "usr/lib/systemd/system/x.service",
    ];
    let extension = Tree { files, content };
    let files = &[
        "etc/ld.so.conf",
        "usr/lib64/libc.so.6",
        "usr/lib64/libm.so.6",
    ];
    let base = Tree { files, content };
    for base in [None, Some(&base as &dyn Files)] {
        let subject = Subject {
            kind: ExtensionKind::Sysext,
            architecture: None,
            files: &extension,
            image: None,
            complete: true,
            base,
        };
        let _ = lint(subject, &Policy::default());
    }
});
