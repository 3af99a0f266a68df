//! What has to be done so that a store is as declared.

use std::fmt;

use serde::Serialize;

use super::desired::Entry;
use crate::architecture::Architecture;
use crate::extension::ExtensionKind;
use crate::node::fetch::Location;
use crate::node::profile::Profile;
use crate::node::store::{Artefact, Record, View};
use crate::node::version::Version;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Step {
    /// Bring an artefact into the store.
    Install {
        /// Of which kind.
        kind: ExtensionKind,
        /// The extension.
        name: String,
        /// The version that is wanted.
        version: Option<String>,
        /// Where it comes from, without secrets.
        source: String,
    },
    /// Let a profile link an artefact, in the place of any other version of it.
    Enable {
        /// Of which kind.
        kind: ExtensionKind,
        /// The artefact; an extension's name where that is still to be installed.
        file: String,
        /// The profile.
        profile: Profile,
    },
    /// Let a profile link an artefact no longer.
    Disable {
        /// Of which kind.
        kind: ExtensionKind,
        /// The artefact.
        file: String,
        /// The profile.
        profile: Profile,
    },
    /// Remove an artefact that was declared once.
    Remove {
        /// Of which kind.
        kind: ExtensionKind,
        /// The artefact.
        file: String,
    },
}

/// The steps for one kind, in the order in which they are to be made.
pub(super) fn plan(
    kind: ExtensionKind,
    entries: &[Entry],
    view: &View,
    architecture: Architecture,
    prune: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut links = Vec::new();
    for entry in entries {
        let file = match wanted(entry, view, architecture) {
            Some(artefact) => artefact.file.to_string(),
            None => {
                steps.push(Step::Install {
                    kind,
                    name: entry.name.to_string(),
                    version: entry.version.clone(),
                    source: shown(&entry.source(architecture)),
                });
                entry.name.to_string()
            }
        };
        for &profile in &entry.profiles {
            let is_linked = view.profiles_of(&file).any(|linking| linking == profile);
            if !is_linked {
                let file = file.clone();
                links.push(Step::Enable {
                    kind,
                    file,
                    profile,
                });
            }
        }
        links.extend(elsewhere(kind, entry, view));
    }
    steps.append(&mut links);
    if prune {
        let is_undeclared = |artefact: &&Artefact| {
            is_declared(artefact) && entries.iter().all(|entry| entry.name != *artefact.name())
        };
        let old = view.artefacts.iter().filter(is_undeclared);
        steps.extend(old.map(|artefact| Step::Remove {
            kind,
            file: artefact.file.to_string(),
        }));
    }
    steps
}

/// The artefact in the store that an entry means.
fn wanted<'v>(entry: &Entry, view: &'v View, architecture: Architecture) -> Option<&'v Artefact> {
    let source = entry.source(architecture);
    let is_it = |artefact: &&&Artefact| {
        let digest = artefact.record.as_ref().map(|record| record.digest);
        let version = artefact.version().map(Version::as_str);
        if entry.sha256.is_some() && entry.sha256 != digest {
            return false;
        }
        if entry.version.is_some() {
            return entry.version.as_deref() == version;
        }
        // What a catalog has today is not known here.
        let is_in_catalog = source.parse::<Location>().is_err() && is_declared(artefact);
        let is_from_there = |record: &Record| record.source == shown(&source);
        let noted = artefact.record.as_ref();
        entry.sha256.is_some() || is_in_catalog || noted.is_some_and(is_from_there)
    };
    let versions = view.versions_of(&entry.name);
    versions
        .iter()
        .filter(|artefact| !artefact.was_changed)
        .find(is_it)
        .copied()
}

/// Takes declared artefacts of an entry out of the profiles that it does not name.
fn elsewhere(kind: ExtensionKind, entry: &Entry, view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    for profile in Profile::ALL {
        if entry.profiles.contains(&profile) {
            continue;
        }
        let linked = view.linked(profile);
        let of_entry = linked.filter(|it| *it.name() == entry.name && is_declared(it));
        steps.extend(of_entry.map(|artefact| Step::Disable {
            kind,
            file: artefact.file.to_string(),
            profile,
        }));
    }
    steps
}

fn is_declared(artefact: &Artefact) -> bool {
    artefact
        .record
        .as_ref()
        .is_some_and(|record| record.declared)
}

/// A source without its secrets, as it stands in records.
fn shown(source: &str) -> String {
    let location = source.parse::<Location>();
    location.map_or_else(|_| source.to_owned(), |location| location.to_string())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Install {
                kind,
                name,
                version,
                source,
            } => match version {
                Some(version) => write!(f, "install {kind} {name} {version} from {source}"),
                None => write!(f, "install {kind} {name} from {source}"),
            },
            Step::Enable {
                kind,
                file,
                profile,
            } => write!(f, "enable {kind} {file} in {profile}"),
            Step::Disable {
                kind,
                file,
                profile,
            } => write!(f, "disable {kind} {file} in {profile}"),
            Step::Remove { kind, file } => write!(f, "remove {kind} {file}"),
        }
    }
}
