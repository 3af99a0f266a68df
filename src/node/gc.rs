//! Removing what is of no use any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Node;
use super::activation::{self, ActivationError};
use super::boot;
use super::fetch::{self, FetchError, Leftover};
use super::profile::Profile;
use super::store::{Artefact, Change, Store, View};
use super::upgrade::undo_unfinished;
use crate::extension::{ExtensionKind, ExtensionName};

/// How old something in the staging folder has to be before nobody goes on with it.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many versions of each extension beside those that are enabled or merged.
    pub keep: usize,
    /// Whether files may go of which nothing is noted, as kairos-agent and people put them there.
    pub all: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
}

/// A file that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Its name, in the store or its staging folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Artefacts.
    pub artefacts: Vec<Freed>,
    /// What downloads had left.
    pub staged: Vec<Freed>,
}

impl Collected {
    /// All bytes of them.
    pub fn size(&self) -> u64 {
        let all = self.artefacts.iter().chain(&self.staged);
        all.fold(0, |sum, freed| sum.saturating_add(freed.size))
    }

    /// What downloads left; nothing, where the folder cannot be looked at.
    fn add_downloads(&mut self, left: Result<Vec<Leftover>, FetchError>) {
        let left = left.unwrap_or_default().into_iter();
        self.staged.extend(left.map(|left| Freed {
            file: left.file,
            size: left.size,
        }));
        self.staged.sort_by(|a, b| a.file.cmp(&b.file));
    }
}

/// Removes the artefacts that no profile links, that are not merged, and that are beyond the newest
/// ones of their extension; and what downloads left that nobody went on with for a day.
///
/// The version that a rollback would go back to stays too, unless nothing is to be kept at all.
///
/// # Errors
/// [`ActivationError::Files`].
pub fn collect(
    node: &Node,
    kind: ExtensionKind,
    request: Request,
    notify: &dyn Fn(&str),
) -> Result<Collected, ActivationError> {
    let store = Store::new(node.layout.clone(), kind);
    let mut locked = if request.dry_run {
        None
    } else {
        store.may_change()?;
        Some(store.lock()?)
    };
    if let Some(locked) = &mut locked {
        undo_unfinished(node, locked, notify)?;
    }
    let view = store.view()?;
    let unused = unused(node, kind, &view, request)?;
    let staged = stale(&store.staging(), SystemTime::now());
    let mut collected = Collected {
        artefacts: unused.iter().map(|artefact| freed(artefact)).collect(),
        staged,
    };
    let Some(locked) = &mut locked else {
        collected.add_downloads(fetch::leftovers(&store.staging(), STALE));
        return Ok(collected);
    };
    collected
        .staged
        .retain(|file| fs::remove_file(store.staging().join(&file.file)).is_ok());
    collected.add_downloads(fetch::sweep(&store.staging(), STALE));
    if !unused.is_empty() {
        let mut change = Change {
            removed: unused.iter().map(|it| it.file.to_string()).collect(),
            records: view.records.clone(),
            ..Change::default()
        };
        let records = &mut change.records.artefacts;
        records.retain(|file, _| !change.removed.contains(file));
        locked.commit(&change)?;
    }
    Ok(collected)
}

fn freed(artefact: &Artefact) -> Freed {
    Freed {
        file: artefact.file.to_string(),
        size: artefact.identity.size,
    }
}

fn unused<'v>(
    node: &Node,
    kind: ExtensionKind,
    view: &'v View,
    request: Request,
) -> Result<Vec<&'v Artefact>, ActivationError> {
    let live = activation::live(node, kind)?;
    let merged = activation::merged(node, kind);
    // What a boot falls back to when what is enabled keeps the node from coming up.
    let came_up = boot::came_up_with(&node.layout);
    let is_live = |name: &ExtensionName| live.iter().any(|live| live.name == *name);
    let is_used = |artefact: &Artefact| {
        let file = artefact.file.file();
        let name = artefact.name();
        view.profiles_of(file).next().is_some()
            // What was disabled for the next boot is still merged, by a link that leads nowhere.
            || live.iter().any(|live| live.leads_to(file))
            || came_up.contains(&(kind, file.to_owned()))
            // Which version is merged is only known as long as there is a link to it.
            || (merged.contains(name.as_str()) && !is_live(name))
    };
    let mut candidates: BTreeMap<&ExtensionName, Vec<&Artefact>> = BTreeMap::new();
    for artefact in &view.artefacts {
        let is_known = artefact.record.is_some() || request.all;
        if is_known && !is_used(artefact) {
            candidates
                .entry(artefact.name())
                .or_default()
                .push(artefact);
        }
    }
    let mut unused = Vec::new();
    for (name, mut versions) in candidates {
        versions.sort_by(|a, b| (b.version(), &b.file).cmp(&(a.version(), &a.file)));
        let before = if request.keep == 0 {
            BTreeSet::new()
        } else {
            before_last_upgrade(view, name)
        };
        let beyond = versions.into_iter().skip(request.keep);
        unused.extend(beyond.filter(|artefact| !before.contains(artefact.file.file())));
    }
    Ok(unused)
}

/// The files that a rollback would go back to.
fn before_last_upgrade<'v>(view: &'v View, name: &ExtensionName) -> BTreeSet<&'v str> {
    let steps = view.records.history.get(name.as_str());
    let linked = steps
        .and_then(|steps| steps.last())
        .map(|step| &step.linked);
    let files = linked.into_iter().flat_map(BTreeMap::<Profile, _>::values);
    files.map(String::as_str).collect()
}

/// The files in the staging folder, beside those of downloads, that nobody has touched for a day.
fn stale(staging: &Path, now: SystemTime) -> Vec<Freed> {
    let age = |entry: &fs::DirEntry| -> io::Result<Option<Freed>> {
        let metadata = entry.metadata()?;
        let is_stale = now
            .duration_since(metadata.modified()?)
            .is_ok_and(|age| age > STALE);
        let name = entry.file_name().into_string().ok();
        Ok(name
            .filter(|_| is_stale && metadata.is_file() && !fetch::is_of_download(&entry.path()))
            .map(|file| Freed {
                file,
                size: metadata.len(),
            }))
    };
    // What cannot be looked at stays; there may be no folder at all.
    let entries = fs::read_dir(staging).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| age(&entry).ok().flatten())
        .collect()
}
