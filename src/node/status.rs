//! What is stored, enabled and merged.

use super::Node;
use super::activation::{self, Live};
use super::profile::Profile;
use super::store::{Artefact, PassedOver, ProfileLink, Store, StoreError, Trial, View};
use crate::extension::{ExtensionKind, ExtensionName};

/// The state of a store.
#[derive(Debug)]
pub struct Status {
    /// Every artefact, ordered by name, the newest version first.
    pub artefacts: Vec<ArtefactStatus>,
    /// Links that lead to no artefact.
    pub dangling: Vec<ProfileLink>,
    /// Files that cannot be used, and why.
    pub passed_over: Vec<PassedOver>,
    /// An upgrade that has not been found good yet.
    pub trial: Option<Trial>,
}

/// The state of one artefact.
#[derive(Debug)]
pub struct ArtefactStatus {
    /// What is stored and noted.
    pub artefact: Artefact,
    /// The profiles that link it.
    pub profiles: Vec<Profile>,
    /// Whether systemd has merged it.
    pub is_merged: bool,
}

impl ArtefactStatus {
    /// The extension.
    pub fn name(&self) -> &ExtensionName {
        self.artefact.name()
    }
}

/// Looks at everything, as far as reading rights reach. Nothing is created and no lock taken.
///
/// # Errors
/// [`StoreError`].
pub fn status(node: &Node, kind: ExtensionKind) -> Result<Status, StoreError> {
    let view = Store::new(node.layout.clone(), kind).view()?;
    let merged = activation::merged(node, kind);
    // Without rights to look there, the name has to do.
    let live = activation::live(node, kind).unwrap_or_default();
    let mut artefacts: Vec<ArtefactStatus> = view
        .artefacts
        .iter()
        .map(|artefact| ArtefactStatus {
            profiles: view.profiles_of(artefact.file.file()).collect(),
            is_merged: merged.contains(artefact.name().as_str()) && is_live(&live, artefact),
            artefact: artefact.clone(),
        })
        .collect();
    artefacts.sort_by(|a, b| {
        let by_name = a.name().cmp(b.name());
        by_name.then_with(|| b.artefact.version().cmp(&a.artefact.version()))
    });
    Ok(Status {
        artefacts,
        dangling: dangling(&view),
        passed_over: view.passed_over,
        trial: view.records.trial,
    })
}

/// Whether what systemd finds under the name of an extension is this version of it, if that is known.
fn is_live(live: &[Live], artefact: &Artefact) -> bool {
    let mut live = live.iter().filter(|live| live.name == *artefact.name());
    let file = artefact.file.file();
    live.next().is_none_or(|live| live.leads_to(file))
}

fn dangling(view: &View) -> Vec<ProfileLink> {
    let leads_nowhere = |link: &&ProfileLink| {
        let target = link.target.as_deref();
        target.and_then(|file| view.artefact(file)).is_none()
    };
    view.links.iter().filter(leads_nowhere).cloned().collect()
}
