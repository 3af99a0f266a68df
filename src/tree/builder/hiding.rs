//! What does not come into the tree still counts for the layers below.

use super::TreeBuilder;
use crate::layer::EntryPath;
use crate::tree::whiteout::Whiteout;
use crate::tree::{Cause, InodeSink, TreeError};

impl<S: InodeSink> TreeBuilder<S> {
    /// Hides what the layers below have, where that could come into the extension.
    pub(super) fn add_whiteout(
        &mut self,
        entry: &EntryPath,
        whiteout: Whiteout,
    ) -> Result<(), TreeError> {
        let path = whiteout.path();
        let is_kept = self.selection.keeps(path) || path.is_root();
        if !is_kept {
            self.report.dropped.add(path, Cause::Outside);
            if !self.selection.moves_from_below(path) {
                return Ok(());
            }
        }
        self.take_memory(entry, 0)?;
        match is_kept {
            true => self.whiteouts.add(whiteout),
            false => self.whiteouts.add_outside(whiteout),
        }
        Ok(())
    }

    /// Takes away what the layer had at `path`, and hides what those below have there: something
    /// that does not come into the tree is there now.
    pub(super) fn supersede(&mut self, path: &EntryPath) -> Result<(), TreeError> {
        self.take_memory(path, 0)?;
        self.tree.forget(path, self.layer);
        self.whiteouts.replace(path);
        Ok(())
    }

    /// Makes the directory `above` an entry that stays out: the layer has it, entry or not.
    pub(super) fn imply(&mut self, path: &EntryPath, above: &[u8]) -> Result<(), TreeError> {
        match self.parent(path, above) {
            // What is not seen itself does no harm in an odd place.
            Ok(_) | Err(TreeError::ParentIsNotADirectory { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
