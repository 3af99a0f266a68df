//! mkfs.erofs of erofs-utils as another packer, for what [`Writer`](super::Writer) cannot do:
//! deduplication, LZMA, DEFLATE.
//!
//! mkfs.erofs reads a tar archive from a pipe, in which names stand in front of content. An
//! [`InodeSink`] gets content first, and learns only at the end which names it has, if any: a later
//! entry may replace it, hard links may come, the entry of a directory may follow those in it. So
//! content waits in a temporary file, and the archive is made of the finished tree, each directory
//! in front of what lies in it, each file once with all that is known of it. That takes room on disk
//! for a while; what it saves is all that could go wrong with names.
//!
//! mkfs.erofs writes to a second temporary file, which is copied into the image. It could write to
//! its place there (`--offset`), but version 1.8.6 then stores wrong content of files that are not
//! compressed.

mod archive;
mod error;
mod made;
mod options;
mod process;
mod program;
mod spool;
mod tar_stream;
mod version;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;

use super::{BlockSink, Options};
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
pub struct MkfsErofs<'p, S> {
    program: &'p MkfsProgram,
    sink: S,
    spool: Spool,
    made: File,
    options: Options,
}

impl<'p, S: BlockSink> MkfsErofs<'p, S> {
    /// Starts a file system in an empty sink. Of the empty files in `scratch`, which need no names,
    /// one is for content and one for the file system that mkfs.erofs makes.
    ///
    /// The epoch of `options` becomes mkfs.erofs' build time, the chunk size the size of its
    /// physical clusters (`-C`), and inline tails are its `-Eztailpacking`. It starts threads as it
    /// sees fit.
    pub fn new(
        program: &'p MkfsProgram,
        sink: S,
        scratch: [File; 2],
        options: Options,
    ) -> MkfsErofs<'p, S> {
        let [spool, made] = scratch;
        MkfsErofs {
            program,
            sink,
            spool: Spool::new(spool),
            made,
            options,
        }
    }

    /// Has mkfs.erofs make the file system of `tree`, whose leaves were all added here, and puts it
    /// into the sink. Leaves without a name in the tree are left out.
    ///
    /// # Errors
    /// See [`MkfsError`].
    pub fn finish(mut self, tree: &Tree) -> Result<S, MkfsError> {
        let build_time = self.build_time(tree);
        let inodes = self.run(tree, build_time)?;
        let superblock = made::check(self.program, &self.made, inodes)?;
        made::set_packed_time(&self.made, &superblock, build_time)
            .and_then(|()| made::copy(&self.made, &superblock, &mut self.sink))
            .map_err(MkfsError::Image)?;
        Ok(self.sink)
    }

    /// A time that mkfs.erofs can take for its own: not before 1970, and no second in which a file was
    /// modified later than at its start, as 1.9.4 would take both for the same.
    fn build_time(&self, tree: &Tree) -> Timestamp {
        let root = tree.directory(Tree::ROOT).attributes.mtime;
        let directories = tree.directories().map(|(_, d)| d.attributes.mtime);
        let times = directories.chain(self.spool.mtimes());
        let mut seconds = self.options.epoch.unwrap_or(root).seconds.max(0);
        let (mut latest, mut is_taken) = (seconds, false);
        for time in times {
            latest = latest.max(time.seconds);
            is_taken |= time.seconds == seconds && time.nanoseconds != 0;
        }
        if is_taken {
            seconds = latest.saturating_add(1);
        }
        Timestamp::from_seconds(seconds)
    }

    /// Runs mkfs.erofs; returns how many inodes it was given.
    fn run(&mut self, tree: &Tree, build_time: Timestamp) -> Result<u64, MkfsError> {
        let mut arguments = self.program.arguments(&self.options, build_time)?;
        // The file has no name of its own.
        let (process, descriptor) = (std::process::id(), self.made.as_raw_fd());
        arguments.push(format!("/proc/{process}/fd/{descriptor}"));

        self.spool.flush()?;
        let (running, input) = Running::start(self.program.path(), &arguments)?;
        let mut input = BufWriter::with_capacity(PIPE_BYTES, input);
        let written = write_archive(tree, &self.spool, &mut input)
            .and_then(|inodes| input.flush().map(|()| inodes).map_err(ArchiveError::Pipe));
        // Closes the pipe. What an error left in the buffer is of no use to anybody.
        drop(input.into_parts());
        match written {
            Ok(inodes) => {
                self.spool.clear()?;
                running.finish()?;
                Ok(inodes)
            }
            Err(ArchiveError::Pipe(error)) => Err(running.stopped_reading(error)),
            Err(ArchiveError::Refused(error)) => Err(error),
        }
    }
}

impl<S> InodeSink for MkfsErofs<'_, S> {
    type Error = MkfsError;

    fn add(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, MkfsError> {
        self.spool.add(attributes, leaf)
    }
}
