//! Enabling and disabling extensions for a profile.

use super::Node;
use super::activation;
use super::artefact::ArtefactName;
use super::profile::Profile;
use super::select::{SelectError, Several, select, select_one};
use super::store::{Artefact, Change, FileIdentity, LinkChange, ProfileLink, View};
use super::transaction::{Done, Options, Transaction, VerbError, booted};
use super::version::Version;
use crate::extension::{ExtensionKind, ExtensionName};

/// An extension that is enabled.
#[derive(Debug)]
pub struct Enabled {
    /// The file in the store.
    pub file: String,
    /// The extension.
    pub name: ExtensionName,
    /// Its version.
    pub version: Option<Version>,
    /// For which profile.
    pub profile: Profile,
    /// Whether it was before.
    pub already: bool,
    /// Links of the profile to other versions of it, which are gone.
    pub replaced: Vec<String>,
    /// Whether the extensions of the profile are merged now.
    pub is_booted: bool,
    /// What was done.
    pub done: Done,
}

/// What was disabled.
#[derive(Debug)]
pub struct Disabled {
    /// The links that are gone; none if it was not enabled.
    pub links: Vec<String>,
    /// For which profile.
    pub profile: Profile,
    /// Whether the extensions of the profile are merged now.
    pub is_booted: bool,
    /// What was done.
    pub done: Done,
}

/// Links an artefact in a profile, in the place of any other version of it.
///
/// # Errors
/// [`VerbError`]; nothing is changed then.
pub fn enable(
    node: &Node,
    kind: ExtensionKind,
    text: &str,
    profile: Profile,
    options: Options<'_>,
) -> Result<Enabled, VerbError> {
    let transaction = Transaction::begin(node, kind, options)?;
    let view = transaction.view();
    let all: Vec<&Artefact> = view.artefacts.iter().collect();
    let selected = select_one(text, kind, &all, Several::Newest);
    let artefact = selected.map_err(|error| transaction.explain(text, error))?;
    transaction.judge(artefact)?;
    let mut change = transaction.no_change();
    let replaced = link(view, artefact, profile, &mut change);
    let is_booted = is_booted(node, profile);
    let (file, name) = (artefact.file.to_string(), artefact.name().clone());
    let version = artefact.version().cloned();
    let already = change.links.is_empty();
    let live = [name.clone()];
    let live = if options.now && is_booted {
        &live[..]
    } else {
        &[]
    };
    Ok(Enabled {
        file,
        name,
        version,
        profile,
        already,
        replaced,
        is_booted,
        done: transaction.finish(&change, live)?,
    })
}

/// Adds to a change that `profile` links `artefact` and no other version of it; the links that go.
pub(super) fn link(
    view: &View,
    artefact: &Artefact,
    profile: Profile,
    change: &mut Change,
) -> Vec<String> {
    let file = artefact.file.file();
    let is_it = |link: &ProfileLink| link.link == file && link.target.as_deref() == Some(file);
    if !view.links_of(profile).any(is_it) {
        change.links.push(LinkChange {
            profile,
            link: file.to_owned(),
            target: Some(file.to_owned()),
        });
    }
    let is_other = |link: &&ProfileLink| {
        let target = link.target.as_deref().and_then(|file| view.artefact(file));
        link.link != file && target.is_some_and(|target| target.name() == artefact.name())
    };
    let others: Vec<String> = view
        .links_of(profile)
        .filter(is_other)
        .map(|link| link.link.clone())
        .collect();
    change.links.extend(others.iter().map(|link| LinkChange {
        profile,
        link: link.clone(),
        target: None,
    }));
    others
}

/// Takes away what a profile links of an extension. That it links nothing of it is no error.
///
/// # Errors
/// [`VerbError`]; nothing is changed then.
pub fn disable(
    node: &Node,
    kind: ExtensionKind,
    text: &str,
    profile: Profile,
    options: Options<'_>,
) -> Result<Disabled, VerbError> {
    let transaction = Transaction::begin(node, kind, options)?;
    let view = transaction.view();
    let enabled: Vec<Artefact> = view
        .links_of(profile)
        .filter_map(|link| linked_artefact(view, link, kind))
        .collect();
    let mut change = transaction.no_change();
    let mut names = Vec::new();
    match select(
        text,
        kind,
        &enabled.iter().collect::<Vec<_>>(),
        Several::All,
    ) {
        Ok(selected) => {
            for artefact in selected {
                names.push(artefact.name().clone());
                change.links.push(unlink(profile, artefact.file.file()));
            }
        }
        // Its name is that of no artefact, but it can be gone all the same.
        Err(SelectError::NotFound(_)) if view.links_of(profile).any(|link| link.link == text) => {
            change.links.push(unlink(profile, text));
        }
        Err(SelectError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if names.is_empty() && options.now {
        // Disabled before, and only still merged.
        let live =
            activation::live(node, kind).map_err(|error| VerbError::Activation(Box::new(error)))?;
        names.extend(
            live.into_iter()
                .map(|live| live.name)
                .filter(|name| name.as_str() == text),
        );
    }
    names.sort();
    names.dedup();
    let is_booted = is_booted(node, profile);
    if !(options.now && is_booted) {
        names.clear();
    }
    Ok(Disabled {
        links: change.links.iter().map(|link| link.link.clone()).collect(),
        profile,
        is_booted,
        done: transaction.finish(&change, &names)?,
    })
}

/// Whether what a profile links is merged now. What all boot states have always is.
pub(super) fn is_booted(node: &Node, profile: Profile) -> bool {
    profile == Profile::Common || booted(node).contains(&profile)
}

fn unlink(profile: Profile, link: &str) -> LinkChange {
    LinkChange {
        profile,
        link: link.to_owned(),
        target: None,
    }
}

/// What a link leads to, under the name of the link, even if that is missing.
fn linked_artefact(view: &View, link: &ProfileLink, kind: ExtensionKind) -> Option<Artefact> {
    let file = ArtefactName::parse(&link.link, kind).ok()?;
    let target = link.target.as_deref().and_then(|file| view.artefact(file));
    let identity = target.map(|artefact| artefact.identity);
    Some(Artefact {
        file,
        identity: identity.unwrap_or(FileIdentity {
            size: 0,
            inode: 0,
            modified: 0,
        }),
        record: target.and_then(|artefact| artefact.record.clone()),
        named: target.and_then(|artefact| artefact.named.clone()),
        was_changed: false,
    })
}
