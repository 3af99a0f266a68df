//! A layer is read again for the targets of hard links that are not in the tree themselves.

use super::TreeBuilder;
use crate::layer::{Entry, EntryKind, EntryStream};
use crate::tree::links::{MissingTarget, SecondPass};
use crate::tree::merge::Name;
use crate::tree::selection::refuses_kind;
use crate::tree::{Attributes, InodeSink, TreeError};

impl<S: InodeSink> TreeBuilder<S> {
    /// A hard link that waits for something which the layer added last has, or may have, but which
    /// is left out of the tree or hidden by an upper layer. Its content is in
    /// [`add_targets`](TreeBuilder::add_targets)'s reach only.
    pub fn missing_target(&self) -> Option<MissingTarget> {
        self.links.missing(&self.tree, self.layer.saturating_sub(1))
    }

    /// Reads the layer that was added last once more, for the content of missing targets alone.
    /// Each becomes what the links to it are: one file with several names, if there are several.
    ///
    /// # Errors
    /// See [`TreeError`]; the builder is of no use afterwards.
    pub fn add_targets(&mut self, entries: &mut dyn EntryStream) -> Result<(), TreeError> {
        let mut pass = self.links.second_pass(&self.tree);
        while let Some(entry) = entries.next_entry()? {
            self.add_target(entry, entries, &mut pass)?;
        }
        pass.end(&mut self.tree);
        Ok(())
    }

    fn add_target(
        &mut self,
        entry: Entry,
        entries: &mut dyn EntryStream,
        pass: &mut SecondPass,
    ) -> Result<(), TreeError> {
        if let EntryKind::Hardlink { target } = &entry.kind {
            pass.meet(&entry.path, target, &mut self.tree);
            return Ok(());
        }
        if !pass.wants(&entry.path) {
            return Ok(());
        }
        if entry.kind == EntryKind::Directory || refuses_kind(&entry).is_some() {
            pass.gone(&entry.path);
            return Ok(());
        }
        let attributes = Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
        };
        let leaf = self.add_leaf(&entry.path, &entry.kind, attributes, entries)?;
        if let Name::Leaf(id, kind, _) = leaf {
            pass.found(entry.path, id, kind);
        }
        Ok(())
    }
}
