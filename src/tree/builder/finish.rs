//! All layers are there: what is to be moved is moved, and what became of everything is told.

use super::{TreeBuilder, sink_error};
use crate::layer::EntryPath;
use crate::tree::merge::{Name, NoDirectory};
use crate::tree::{
    Attributes, Cause, InodeSink, Leaf, LeafKind, Node, Report, Tree, TreeError, UnusedRule, moving,
};

impl<S: InodeSink> TreeBuilder<S> {
    /// Adds a file of root's when all layers are there, in the place of whatever they have at
    /// `path`.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn add_file(
        &mut self,
        path: &EntryPath,
        mode: u16,
        content: &[u8],
    ) -> Result<(), TreeError> {
        self.complete()?;
        let Some((parent, name)) = path.split_last() else {
            return Err(TreeError::Contradiction { path: path.clone() });
        };
        // Only directories may be in the way, whichever layer they are of.
        let parent = self
            .tree
            .make_directories(parent.as_bytes(), self.layer)
            .map_err(|problem| TreeError::ParentIsNotADirectory {
                path: path.clone(),
                parent: match problem {
                    NoDirectory::Taken(taken) => taken,
                    NoDirectory::Shadowed => parent,
                },
            })?;
        self.tree.remove(parent, name);
        let attributes = Attributes {
            mode,
            uid: 0,
            gid: 0,
            ..self.implied_attributes()
        };
        let leaf = Leaf::File {
            size: content.len() as u64,
            content: &mut &*content,
        };
        let added = self.sink.add(&attributes, leaf);
        let id = added.map_err(|error| sink_error(path, error))?;
        self.remember_size(id, content.len() as u64);
        let leaf = Name::Leaf(id, LeafKind::File, self.layer);
        self.tree.insert(parent, name, leaf);
        Ok(())
    }

    /// The tree, what became of the entries, and the sink with all leaves.
    ///
    /// # Errors
    /// [`TreeError::Empty`] if the layers have nothing to keep, [`TreeError::LinkTargetMissing`],
    /// [`TreeError::RemapConflict`].
    pub fn finish(mut self) -> Result<(Tree, Report, S), TreeError> {
        self.complete()?;
        if !self.has_content {
            return Err(TreeError::Empty {
                kept: self.selection.hierarchies(),
                dropped: Box::new(self.report.dropped),
            });
        }
        let implied = self.implied_attributes();
        let mut report = self.report;
        let mut sizes = self.sizes;
        let privileges = self.privileges;
        let broken_links = self.broken_links;
        let tree = self.tree.into_tree(&implied, |directory, name, node| {
            let Node::Leaf(leaf, kind) = node else {
                report.kept.directories += 1;
                return;
            };
            // Taken out, so that the next name of the same file adds nothing.
            let size = sizes.get_mut(leaf.0 as usize).map(std::mem::take);
            count(&mut report, kind, size.unwrap_or_default());
            let privileges = privileges.get(&leaf);
            let is_device = matches!(kind, LeafKind::CharDevice | LeafKind::BlockDevice);
            let is_broken = broken_links.contains(&leaf);
            if (is_device || is_broken || privileges.is_some())
                && let Ok(path) = directory.join(name)
            {
                if is_device {
                    report.devices.add(&path);
                }
                if is_broken {
                    report.broken_links.add(&path);
                }
                if privileges.is_some_and(|privileges| privileges.setuid) {
                    report.setuid.add(&path);
                }
                if privileges.is_some_and(|privileges| privileges.capabilities) {
                    report.capabilities.add(&path);
                }
            }
        });
        Ok((tree, report, self.sink))
    }

    /// Gives everything its final place, once.
    fn complete(&mut self) -> Result<(), TreeError> {
        if std::mem::replace(&mut self.is_complete, true) {
            return Ok(());
        }
        self.links.check(&self.tree)?;
        for whiteout in std::mem::take(&mut self.whiteouts).reaching_the_host() {
            let dropped = &mut self.report.dropped;
            dropped.add(whiteout.path(), whiteout.cause());
        }
        let [include, exclude] = self.filter.unused();
        let unused = &mut self.report.unused;
        unused.extend(include.into_iter().map(UnusedRule::Include));
        unused.extend(exclude.into_iter().map(UnusedRule::Exclude));
        let rules = &self.selection.rules;
        if !rules.include.is_empty() {
            let dropped = &mut self.report.dropped;
            let is_hierarchy = |path: &EntryPath| path.components().count() < 2;
            self.tree.prune(|path| {
                if !is_hierarchy(path) {
                    dropped.add(path, Cause::NotIncluded);
                }
            });
        }
        if !rules.remaps.is_empty() {
            let unused = moving::apply(&mut self.tree, &rules.remaps, self.layer)?;
            self.report.unused.extend(unused);
            self.tree.keep_tops(self.selection.hierarchies());
        }
        self.has_content = self.tree.has_depth();
        Ok(())
    }
}

fn count(report: &mut Report, kind: LeafKind, size: u64) {
    let kept = &mut report.kept;
    match kind {
        LeafKind::File => {
            kept.files += 1;
            kept.bytes += size;
        }
        LeafKind::Symlink => kept.symlinks += 1,
        _ => kept.others += 1,
    }
}
