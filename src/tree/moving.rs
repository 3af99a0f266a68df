//! Parts of a merged tree go to other places: what `--remap` asks for, when all layers are there.

use super::merge::{Layer, MergedTree, Name, NoDirectory};
use super::remap::{Remap, rebased};
use super::{TreeError, UnusedRule};
use crate::layer::EntryPath;

/// Moves what `remaps` name, all at once, and tells which of them found nothing. Directories that
/// meet are joined; the one that was there before keeps its attributes.
pub fn apply(
    tree: &mut MergedTree,
    remaps: &[Remap],
    layer: Layer,
) -> Result<Vec<UnusedRule>, TreeError> {
    // What has a longer path lies inside of what has a shorter one.
    let mut order: Vec<usize> = (0..remaps.len()).collect();
    order.sort_by_key(|&number| {
        let length = remaps.get(number).map(|remap| remap.from.as_bytes().len());
        std::cmp::Reverse(length)
    });
    let mut taken = Vec::new();
    let mut unused = Vec::new();
    for number in order {
        let Some(remap) = remaps.get(number) else {
            continue;
        };
        match tree.take_out(&remap.from) {
            Some(meaning) => taken.push((number, remap, meaning)),
            None => unused.push(UnusedRule::Remap(remap.from.clone())),
        }
    }
    taken.sort_by_key(|(number, ..)| *number);
    let mut places = Places::default();
    for (_, remap, meaning) in taken {
        places.put(tree, remap, meaning, layer)?;
    }
    Ok(unused)
}

/// Where moved things came from.
#[derive(Default)]
struct Places {
    /// Where something was put, and the path that it had.
    origins: std::collections::HashMap<EntryPath, EntryPath>,
}

impl Places {
    fn put(
        &mut self,
        tree: &mut MergedTree,
        remap: &Remap,
        meaning: Name,
        layer: Layer,
    ) -> Result<(), TreeError> {
        let Some((parent, name)) = remap.to.split_last() else {
            return Ok(());
        };
        let conflict =
            |places: &Places, path: &EntryPath, from: &EntryPath| TreeError::RemapConflict {
                to: path.clone(),
                first: places.origin(path),
                second: from.clone(),
            };
        let parent = match tree.make_directories(parent.as_bytes(), layer) {
            Ok(parent) => parent,
            Err(NoDirectory::Taken(taken)) => return Err(conflict(self, &taken, &remap.from)),
            Err(NoDirectory::Shadowed) => return Err(conflict(self, &parent, &remap.from)),
        };
        let mut waiting = vec![(parent, name.to_vec(), meaning, remap.from.clone())];
        while let Some((parent, name, meaning, from)) = waiting.pop() {
            let Some(to) = rebased(&from, &remap.from, &remap.to) else {
                return Err(TreeError::RemapTooLong { from });
            };
            match (tree.child(parent, &name), meaning) {
                (None, meaning) => {
                    tree.insert(parent, &name, meaning);
                    self.origins.insert(to, from);
                }
                (Some(Name::Directory(there)), Name::Directory(moved)) => {
                    for (name, meaning) in tree.take_children(moved) {
                        let from = from.join(&name);
                        let from =
                            from.map_err(|_| TreeError::RemapTooLong { from: to.clone() })?;
                        waiting.push((there, name.into(), meaning, from));
                    }
                }
                _ => return Err(conflict(self, &to, &from)),
            }
        }
        Ok(())
    }

    /// Where what now lies at `path` was in the image.
    fn origin(&self, path: &EntryPath) -> EntryPath {
        let mut place = Some(path.clone());
        while let Some(at) = place {
            if let Some(from) = self.origins.get(&at) {
                return rebased(path, &at, from).unwrap_or_else(|| path.clone());
            }
            place = at.split_last().map(|(parent, _)| parent);
        }
        path.clone()
    }
}
