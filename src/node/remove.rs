//! Removing an artefact, and with it every link to it.

use super::Node;
use super::profile::Profile;
use super::select::{Several, select_one};
use super::store::{Artefact, LinkChange};
use super::transaction::{Done, Options, Transaction, VerbError};
use crate::extension::{ExtensionKind, ExtensionName};

/// An artefact that is gone.
#[derive(Debug)]
pub struct Removed {
    /// The file that was in the store.
    pub file: String,
    /// The extension.
    pub name: ExtensionName,
    /// The profiles that linked it.
    pub profiles: Vec<Profile>,
    /// What was done.
    pub done: Done,
}

/// Removes one artefact and the links of exactly this one.
///
/// # Errors
/// [`VerbError`]; nothing is changed then.
pub fn remove(
    node: &Node,
    kind: ExtensionKind,
    text: &str,
    options: Options<'_>,
) -> Result<Removed, VerbError> {
    let transaction = Transaction::begin(node, kind, options)?;
    let view = transaction.view();
    let all: Vec<&Artefact> = view.artefacts.iter().collect();
    let selected = select_one(text, kind, &all, Several::Refuse);
    let artefact = selected.map_err(|error| transaction.explain(text, error))?;
    let (file, name) = (artefact.file.to_string(), artefact.name().clone());
    let mut change = transaction.no_change();
    let to_it = view
        .links
        .iter()
        .filter(|link| link.target.as_deref() == Some(&file));
    change.links = to_it
        .map(|link| LinkChange {
            profile: link.profile,
            link: link.link.clone(),
            target: None,
        })
        .collect();
    change.removed.push(file.clone());
    change.records.artefacts.remove(&file);
    let mut profiles: Vec<Profile> = change.links.iter().map(|link| link.profile).collect();
    profiles.dedup();
    let live = if options.now {
        vec![name.clone()]
    } else {
        Vec::new()
    };
    Ok(Removed {
        file,
        name,
        profiles,
        done: transaction.finish(&change, &live)?,
    })
}
