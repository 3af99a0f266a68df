//! What has to be done so that a store is as declared.

use std::fmt;

use serde::Serialize;

use super::desired::{Desired, Entry};
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
    /// Let systemd merge what is enabled already.
    Merge {
        /// Of which kind.
        kind: ExtensionKind,
        /// The artefact.
        file: String,
        /// The profile that links it.
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

/// The steps for one kind, in the order in which they are to be made. What is enabled and in one of the
/// profiles `merging`, but not in `merged`, is merged too.
pub(super) fn plan(
    kind: ExtensionKind,
    desired: &Desired,
    view: &View,
    architecture: Architecture,
    merging: &[Profile],
    merged: &[String],
) -> Vec<Step> {
    let entries = desired.of(kind);
    let mut steps = Vec::new();
    let mut links = Vec::new();
    for entry in entries {
        let file = match wanted(desired, entry, view, architecture) {
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
            let file = file.clone();
            if !is_linked {
                links.push(Step::Enable {
                    kind,
                    file,
                    profile,
                });
            } else if merging.contains(&profile) && !merged.contains(&file) {
                links.push(Step::Merge {
                    kind,
                    file,
                    profile,
                });
            }
        }
        links.extend(elsewhere(kind, desired, entry, view));
    }
    steps.append(&mut links);
    if desired.prunes() {
        let is_undeclared = |artefact: &&Artefact| {
            is_of(desired, artefact) && entries.iter().all(|entry| entry.name != *artefact.name())
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
fn wanted<'v>(
    desired: &Desired,
    entry: &Entry,
    view: &'v View,
    architecture: Architecture,
) -> Option<&'v Artefact> {
    let source = entry.source(architecture);
    let is_it = |artefact: &&&Artefact| {
        let digest = artefact.record.as_ref().map(|record| record.digest);
        if entry.sha256.is_some() && entry.sha256 != digest {
            return false;
        }
        if let Some(declared) = &entry.version {
            let declared = Version::from(declared.as_str());
            return artefact
                .version()
                .is_some_and(|version| version.is_same(&declared));
        }
        // What a catalog has today is not known here.
        let is_in_catalog = source.parse::<Location>().is_err() && is_of(desired, artefact);
        let is_from_there = |record: &Record| record.source == shown(&source);
        let noted = artefact.record.as_ref();
        entry.sha256.is_some() || is_in_catalog || noted.is_some_and(is_from_there)
    };
    let versions = view.versions_of(&entry.name);
    versions
        .iter()
        .filter(|artefact| {
            let record = artefact.record.as_ref();
            !artefact.was_changed && record.is_none_or(|record| record.failed.is_none())
        })
        .find(is_it)
        .copied()
}

/// Takes artefacts of the set out of the profiles that their entry does not name.
fn elsewhere(kind: ExtensionKind, desired: &Desired, entry: &Entry, view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    for profile in Profile::ALL {
        if entry.profiles.contains(&profile) {
            continue;
        }
        let linked = view.linked(profile);
        let of_entry = linked.filter(|it| *it.name() == entry.name && is_of(desired, it));
        steps.extend(of_entry.map(|artefact| Step::Disable {
            kind,
            file: artefact.file.to_string(),
            profile,
        }));
    }
    steps
}

/// Whether the set brought an artefact.
fn is_of(desired: &Desired, artefact: &Artefact) -> bool {
    let record = artefact.record.as_ref();
    record.and_then(|record| record.declared_by.as_deref()) == Some(desired.set())
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
            Step::Merge { kind, file, .. } => write!(f, "merge {kind} {file}"),
            Step::Remove { kind, file } => write!(f, "remove {kind} {file}"),
        }
    }
}
