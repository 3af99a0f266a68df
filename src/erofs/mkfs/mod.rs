//! mkfs.erofs of erofs-utils as another packer, for what [`Writer`](super::Writer) cannot do:
//! deduplication, LZMA, DEFLATE.
//!
//! mkfs.erofs reads a tar archive from a pipe, in which names stand in front of content. An
//! [`InodeSink`] gets content first, and learns only at the end which names it has, if any: a later
//! entry may replace it, hard links may come, the entry of a directory may follow those in it. So
//! content waits in a temporary file without a name, and the archive is made of the finished tree,
//! each directory in front of what lies in it, each file once with all else about it. That takes the
//! room of the content on disk for a while; what it saves is all that could go wrong with names.
//!
//! The file system is written straight to its place in the image.

mod archive;
mod error;
mod options;
mod process;
mod program;
mod spool;
mod tar_stream;
mod version;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;

use super::{BLOCK_SIZE, FileSystem, Options};
use crate::read_at::FileWindow;
use crate::timestamp::Timestamp;
use crate::tree::{Attributes, InodeSink, Leaf, LeafId, Tree};

use archive::{ArchiveError, write_archive};
use process::Running;
use spool::Spool;

pub use error::MkfsError;
pub use program::MkfsProgram;
pub use version::Version;

/// Bytes that are given to mkfs.erofs at once: what a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// Has mkfs.erofs pack a tree: leaves as they come, then, by [`MkfsErofs::finish`], all else.
///
/// Memory stays below 100 bytes for each leaf.
#[derive(Debug)]
pub struct MkfsErofs<'p> {
    program: &'p MkfsProgram,
    spool: Spool,
    options: Options,
}

impl<'p> MkfsErofs<'p> {
    /// Starts a file system; `spool` is an empty file for the content of its files.
    ///
    /// The epoch of `options` becomes mkfs.erofs' build time, the chunk size the size of its
    /// physical clusters (`-C`). It has threads as it sees fit.
    pub fn new(program: &'p MkfsProgram, spool: File, options: Options) -> MkfsErofs<'p> {
        MkfsErofs {
            program,
            spool: Spool::new(spool),
            options,
        }
    }

    /// Has mkfs.erofs write the file system of `tree`, whose leaves were all added here, at `offset`
    /// of `image`, and cuts the image off behind it. Returns the bytes of the file system. Whatever
    /// the image holds is lost. Leaves without a name in the tree are left out.
    ///
    /// # Errors
    /// See [`MkfsError`].
    pub fn finish(mut self, tree: &Tree, image: &File, offset: u64) -> Result<u64, MkfsError> {
        self.spool.flush()?;
        let inodes = self.run(tree, image, offset)?;
        let size = self.check(image, offset, inodes)?;
        image.set_len(offset + size).map_err(MkfsError::Image)?;
        Ok(size)
    }

    /// Runs mkfs.erofs; returns how many inodes it was given.
    fn run(&self, tree: &Tree, image: &File, offset: u64) -> Result<u64, MkfsError> {
        let root_time = tree.directory(Tree::ROOT).attributes.mtime;
        let epoch = self.options.epoch.unwrap_or(root_time);
        let mut arguments = self.program.arguments(&self.options, epoch);
        arguments.push(format!("--offset={offset}"));
        // The image may have no name. mkfs.erofs opens it in the way that it opens any file.
        let (process, descriptor) = (std::process::id(), image.as_raw_fd());
        arguments.push(format!("/proc/{process}/fd/{descriptor}"));

        let (running, input) = Running::start(self.program.path(), &arguments)?;
        let mut input = BufWriter::with_capacity(PIPE_BYTES, input);
        let written = write_archive(tree, &self.spool, &mut input)
            .and_then(|inodes| input.flush().map(|()| inodes).map_err(ArchiveError::Pipe));
        // What an error left in the buffer is of no use to anybody.
        drop(input.into_parts());
        match written {
            Ok(inodes) => running.finish().map(|()| inodes),
            Err(ArchiveError::Pipe(error)) => Err(running.stopped_reading(error)),
            Err(ArchiveError::Refused(error)) => Err(error),
        }
    }

    /// The bytes of the file system at `offset`, if it can be what was asked for.
    fn check(&self, image: &File, offset: u64, inodes: u64) -> Result<u64, MkfsError> {
        let program = || self.program.path().to_path_buf();
        let image_size = image.metadata().map_err(MkfsError::Image)?.len();
        let image = image.try_clone().map_err(MkfsError::Image)?;
        let window = FileWindow::new(image, offset, image_size.saturating_sub(offset));
        let file_system = FileSystem::open(window).map_err(|source| MkfsError::NoFileSystem {
            program: program(),
            source,
        })?;
        let superblock = file_system.superblock();
        let differs = |what, expected, actual| MkfsError::WrongFileSystem {
            program: program(),
            what,
            expected,
            actual,
        };
        if superblock.block_size() != BLOCK_SIZE as u64 {
            let actual = superblock.block_size();
            return Err(differs("other blocks", BLOCK_SIZE as u64, actual));
        }
        // One more holds fragments, and hard links may be made files of their own.
        if superblock.inodes < inodes {
            return Err(differs("too few inodes", inodes, superblock.inodes));
        }
        let size = u64::from(superblock.blocks) * BLOCK_SIZE as u64;
        self.program.check_size(size)?;
        Ok(size)
    }
}

impl InodeSink for MkfsErofs<'_> {
    type Error = MkfsError;

    fn add(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, MkfsError> {
        self.spool.add(attributes, leaf)
    }
}

/// mkfs.erofs' build time, which cannot lie before 1970.
fn build_time(epoch: Timestamp) -> i64 {
    epoch.seconds.max(0)
}
