//! Hard links whose target comes later, in the same layer or in a lower one.

use super::TreeError;
use super::merge::{Layer, MergedTree, Name};
use crate::layer::EntryPath;

struct Link {
    path: EntryPath,
    target: EntryPath,
    layer: Layer,
}

/// Links by the numbers that [`Name::Link`] holds.
#[derive(Default)]
pub struct WaitingLinks {
    links: Vec<Link>,
}

impl WaitingLinks {
    /// Makes a link wait, and gives the name to put into the tree.
    pub fn add(&mut self, path: EntryPath, target: EntryPath, layer: Layer) -> Name {
        // There are fewer entries than numbers.
        let number = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        self.links.push(Link {
            path,
            target,
            layer,
        });
        Name::Link(number, layer)
    }

    /// Gives every link its leaf whose target is in the tree by now.
    pub fn resolve(&self, tree: &mut MergedTree) -> Result<(), TreeError> {
        let mut seen = vec![false; self.links.len()];
        for start in 0..self.links.len() {
            // A target may be a link that waits itself: follow them to the end.
            let mut chain = Vec::new();
            let mut next = Some(start);
            let mut found = None;
            while let Some(number) = next.take() {
                let (Some(link), Some(seen)) = (self.links.get(number), seen.get_mut(number))
                else {
                    break;
                };
                // One that was seen and still waits will not be found now.
                if std::mem::replace(seen, true) || !is_in(tree, link, number) {
                    break;
                }
                chain.push(link);
                match tree.look_up(&link.target) {
                    Some(Name::Leaf(leaf, kind, layer)) if layer >= link.layer => {
                        found = Some((leaf, kind));
                    }
                    Some(Name::Link(number, layer)) if layer >= link.layer => {
                        next = usize::try_from(number).ok();
                    }
                    Some(Name::Directory(_)) => {
                        return Err(TreeError::LinkToDirectory {
                            path: link.path.clone(),
                            target: link.target.clone(),
                        });
                    }
                    _ => {}
                }
            }
            if let Some((leaf, kind)) = found {
                for link in chain {
                    tree.replace(&link.path, Name::Leaf(leaf, kind, link.layer));
                }
            }
        }
        Ok(())
    }

    /// Fails if any link still waits.
    pub fn check(&self, tree: &MergedTree) -> Result<(), TreeError> {
        let waits = |(number, link): &(usize, &Link)| is_in(tree, link, *number);
        match self.links.iter().enumerate().find(waits) {
            None => Ok(()),
            Some((_, link)) => Err(TreeError::LinkTargetMissing {
                path: link.path.clone(),
                target: link.target.clone(),
            }),
        }
    }
}

/// Whether the link still waits in the tree, and was not replaced meanwhile.
fn is_in(tree: &MergedTree, link: &Link, number: usize) -> bool {
    match tree.look_up(&link.path) {
        Some(Name::Link(waiting, _)) => usize::try_from(waiting) == Ok(number),
        _ => false,
    }
}
