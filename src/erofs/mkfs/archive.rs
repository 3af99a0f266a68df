//! A finished tree as the archive that mkfs.erofs reads.

use std::collections::HashMap;
use std::io::{self, Write};

use super::MkfsError;
use super::spool::{Spool, check_attributes};
use super::tar_stream::{Member, MemberKind, padding, write_end, write_member, xattr_records};
use crate::erofs::WriteError;
use crate::printable::printable;
use crate::tree::{Attributes, DirectoryId, LeafId, Node, Tree};

/// Longest name in a directory; `EROFS_NAME_LEN`.
const MAX_NAME_BYTES: usize = 255;

/// Why an archive could not be written.
#[derive(Debug)]
pub(super) enum ArchiveError {
    /// What is to be packed is at fault.
    Refused(MkfsError),
    /// The reader of the archive is.
    Pipe(io::Error),
}

impl<E: Into<MkfsError>> From<E> for ArchiveError {
    fn from(error: E) -> ArchiveError {
        ArchiveError::Refused(error.into())
    }
}

/// Writes the archive of a tree: each directory, then the leaves in it, then its subdirectories.
/// Returns how many inodes there are.
pub(super) fn write_archive(
    tree: &Tree,
    spool: &Spool,
    out: &mut impl Write,
) -> Result<u64, ArchiveError> {
    let mut archive = Archive {
        spool,
        out,
        first_names: several_names(tree, spool)?,
        inodes: 0,
    };
    let mut seen = vec![false; tree.directory_count()];
    let mut waiting: Vec<(DirectoryId, Vec<u8>)> = vec![(Tree::ROOT, Vec::new())];
    while let Some((id, path)) = waiting.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            let name = printable(&path);
            return Err(WriteError::DirectoryTwice { name }.into());
        }
        let directory = tree.directory(id);
        archive.write_directory(&path, &directory.attributes)?;
        for (name, node) in &directory.children {
            let path = join(&path, name)?;
            match *node {
                Node::Leaf(leaf, _) => archive.write_leaf(&path, leaf)?,
                Node::Directory(child) => waiting.push((child, path)),
            }
        }
    }
    write_end(archive.out).map_err(ArchiveError::Pipe)?;
    Ok(archive.inodes)
}

/// The leaves with several names, which are not known yet.
fn several_names(tree: &Tree, spool: &Spool) -> Result<HashMap<LeafId, Vec<u8>>, WriteError> {
    let mut named = vec![false; spool.count()];
    let mut several = HashMap::new();
    for node in tree.directories().flat_map(|(_, d)| d.children.values()) {
        if let Node::Leaf(leaf @ LeafId(id), _) = *node {
            let named = named.get_mut(id as usize);
            let named = named.ok_or(WriteError::UnknownLeaf { id })?;
            if std::mem::replace(named, true) {
                several.insert(leaf, Vec::new());
            }
        }
    }
    Ok(several)
}

struct Archive<'a, W> {
    spool: &'a Spool,
    out: &'a mut W,
    /// The first name of each leaf that has several, empty until it is written.
    first_names: HashMap<LeafId, Vec<u8>>,
    inodes: u64,
}

impl<W: Write> Archive<'_, W> {
    fn write_directory(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), ArchiveError> {
        check_attributes(attributes)?;
        self.inodes += 1;
        let member = Member {
            kind: MemberKind::Directory,
            path,
            target: b"",
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            size: 0,
            xattrs: &xattr_records(&attributes.xattrs),
        };
        write_member(self.out, &member).map_err(ArchiveError::Pipe)
    }

    fn write_leaf(&mut self, path: &[u8], id: LeafId) -> Result<(), ArchiveError> {
        let leaf = self.spool.leaf(id)?;
        let mut member = Member {
            kind: leaf.kind,
            path,
            target: b"",
            mode: leaf.mode,
            uid: leaf.uid,
            gid: leaf.gid,
            mtime: leaf.mtime,
            size: leaf.size,
            xattrs: b"",
        };
        if let Some(first) = self.first_names.get_mut(&id) {
            if !first.is_empty() {
                member.kind = MemberKind::Hardlink;
                member.size = 0;
                member.target = first;
                return write_member(self.out, &member).map_err(ArchiveError::Pipe);
            }
            *first = path.to_vec();
        }
        self.inodes += 1;
        let (records, target) = self.spool.records_and_target(leaf)?;
        member.xattrs = &records;
        member.target = &target;
        write_member(self.out, &member).map_err(ArchiveError::Pipe)?;
        let out = &mut *self.out;
        self.spool.content(leaf, |piece| {
            out.write_all(piece).map_err(ArchiveError::Pipe)
        })?;
        out.write_all(padding(leaf.size))
            .map_err(ArchiveError::Pipe)
    }
}

/// The path of a name in a directory, if files can have the name.
fn join(directory: &[u8], name: &[u8]) -> Result<Vec<u8>, WriteError> {
    let length = 1..=MAX_NAME_BYTES;
    let special = name == b"." || name == b"..";
    if !length.contains(&name.len()) || name.contains(&b'/') || name.contains(&0) || special {
        return Err(WriteError::Name {
            name: printable(name),
        });
    }
    let mut path = directory.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    Ok(path)
}
