//! What a program that died left to be done.

use std::path::Path;

use crate::node::profile::Profile;
use crate::node::store::{Change, LinkChange, Store, StoreError, Trial, View};

/// Finishes a decided change, and goes back where an upgrade was not found good in time. Says what
/// was taken back.
///
/// # Errors
/// [`StoreError`].
pub fn settle(store: &Store) -> Result<Option<String>, StoreError> {
    if !store.path().is_dir() {
        return Ok(None);
    }
    let mut locked = store.lock()?;
    let view = locked.view()?;
    let Some(trial) = &view.records.trial else {
        return Ok(None);
    };
    let change = undo(&view, trial, &store.path());
    locked.commit(&change)?;
    Ok(Some(format!(
        "the upgrade of {} was not finished, and what was enabled before is so again",
        trial.name
    )))
}

/// The change back to what was linked before an upgrade.
fn undo(view: &View, trial: &Trial, store: &Path) -> Change {
    let mut records = view.records.clone();
    records.trial = None;
    if let Some(steps) = records.history.get_mut(trial.name.as_str())
        && steps.last() == Some(&trial.before)
    {
        steps.pop();
    }
    let mut links = Vec::new();
    for profile in Profile::ALL {
        let before = trial.before.linked.get(&profile);
        let there = before.filter(|file| store.join(file).is_file());
        if before.is_some() && there.is_none() {
            // Nothing is there to go back to; the new version is better than none.
            continue;
        }
        let of_extension = |file: &str| {
            let artefact = view.artefact(file);
            artefact.is_some_and(|artefact| *artefact.name() == trial.name)
        };
        let current = view.links_of(profile).filter(|link| {
            let target = link.target.as_deref();
            target.is_some_and(of_extension) && target != there.map(String::as_str)
        });
        links.extend(current.map(|link| LinkChange {
            profile,
            link: link.link.clone(),
            target: None,
        }));
        links.extend(there.map(|file| LinkChange {
            profile,
            link: file.clone(),
            target: Some(file.clone()),
        }));
    }
    Change {
        links,
        records,
        ..Change::default()
    }
}
