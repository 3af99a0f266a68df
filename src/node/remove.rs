//! Removing an artefact, and with it every link to it.

use super::Node;
use super::activation::{self, Live};
use super::profile::Profile;
use super::select::{SelectError, Several, select_one};
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
    let live =
        activation::live(node, kind).map_err(|error| VerbError::Activation(Box::new(error)))?;
    let selected = select_one(text, kind, &all, Several::Refuse);
    let left = live
        .iter()
        .find(|live| live.artefact.is_none() && live.name.as_str() == text);
    let artefact = match (selected, left) {
        (Ok(artefact), _) => artefact,
        // Removed before, and only still merged.
        (Err(SelectError::NotFound(_)), Some(live)) if options.now => {
            return let_go(transaction, live);
        }
        (Err(error), _) => return Err(transaction.explain(text, error)),
    };
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
    // Another version may be the one that is merged.
    let leads_elsewhere = live
        .iter()
        .any(|live| live.name == name && !live.leads_to(&file));
    let live = if options.now && !leads_elsewhere {
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

/// Lets systemd no longer merge an extension of which nothing is stored.
fn let_go(transaction: Transaction<'_>, live: &Live) -> Result<Removed, VerbError> {
    let change = transaction.no_change();
    Ok(Removed {
        file: live.link.clone(),
        name: live.name.clone(),
        profiles: Vec::new(),
        done: transaction.finish(&change, std::slice::from_ref(&live.name))?,
    })
}
