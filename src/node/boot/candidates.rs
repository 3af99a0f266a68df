//! Which of the enabled images systemd is to merge.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::counting::Member;
use super::report::Report;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::Node;
use crate::node::artefact::ArtefactName;
use crate::node::host::SystemdVersion;
use crate::node::judgement::recognise;
use crate::node::policy::{Policy, Recognised, Refusal};
use crate::node::profile::Profile;
use crate::node::store::{FileIdentity, ProfileLink, Proof, Record, Records, Store};
use crate::printable::{printable, sentence};

/// The first systemd that has systemd-confext.
const FIRST_WITH_CONFEXTS: SystemdVersion = SystemdVersion(254);

/// An image that is good to be merged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it extends.
    pub kind: ExtensionKind,
    /// The file in the store.
    pub file: ArtefactName,
    /// Which file that is.
    pub identity: FileIdentity,
    /// Who asks for it; nobody where it stands in for a set that failed.
    pub profile: Option<Profile>,
    /// Where the live link is to lead, as a path of the node.
    pub target: PathBuf,
    /// What is known of it.
    pub recognised: Recognised,
}

impl Candidate {
    /// What it is in a set.
    pub fn member(&self) -> Member {
        let content = match &self.recognised.root_hash {
            Some(root_hash) => root_hash.to_string(),
            None => {
                let FileIdentity {
                    size,
                    inode,
                    modified,
                } = self.identity;
                format!("{size} {inode} {modified}")
            }
        };
        Member {
            kind: self.kind,
            name: self.recognised.name.to_string(),
            content,
            file: self.file.file().to_owned(),
        }
    }

    /// The subject of the certificate of whoever vouches for it.
    pub fn signer(&self) -> Option<&str> {
        match &self.recognised.proof {
            Proof::Signed { signer, .. } => Some(signer),
            Proof::Unsigned { .. } | Proof::Skipped => None,
        }
    }
}

/// The good ones of what the profiles of this boot link, each name once: that of the boot state's
/// profile if it is there and in `common`, and the newest version.
pub fn enabled(
    node: &Node,
    kind: ExtensionKind,
    policy: &Policy,
    report: &mut Report,
) -> Vec<Candidate> {
    let store = Store::new(node.layout.clone(), kind);
    if !store.path().is_dir() {
        report.note(format!(
            "there is no store {}, so no {kind} is enabled",
            store.path().display()
        ));
        return Vec::new();
    }
    let (records, links) = links(node, &store, report);
    let mut chosen: BTreeMap<ExtensionName, Candidate> = BTreeMap::new();
    for link in links {
        let found = candidate(node, kind, policy, &link, &records);
        let candidate = match found {
            Ok(candidate) => candidate,
            Err(reason) => {
                let name = ArtefactName::parse(&link.link, kind);
                let name = name.ok().map(|file| file.stem().to_string());
                report.leave_out(kind, printable(link.link.as_bytes()), name, reason);
                continue;
            }
        };
        report.notes.extend(candidate.recognised.warnings.clone());
        let name = candidate.recognised.name.clone();
        let Some(other) = chosen.remove(&name) else {
            chosen.insert(name, candidate);
            continue;
        };
        let (winner, loser) = prefer(other, candidate);
        if loser.file != winner.file {
            report.leave_out(
                kind,
                loser.file.file(),
                Some(name.to_string()),
                outdone(&winner, &loser),
            );
        }
        chosen.insert(name, winner);
    }
    chosen.into_values().collect()
}

/// What the profiles of this boot link, those of the boot state first, and what is noted of it. One
/// thing that cannot be read does not cost the others.
fn links(node: &Node, store: &Store, report: &mut Report) -> (Records, Vec<ProfileLink>) {
    let profiles = node.boot_state.profiles();
    match store.view() {
        Ok(view) => {
            let of = |profile| view.links_of(profile).cloned().collect::<Vec<_>>();
            let links = profiles.iter().flat_map(|&profile| of(profile)).collect();
            (view.records, links)
        }
        Err(error) => {
            report.note(sentence(&error));
            let mut links = Vec::new();
            for &profile in profiles {
                match store.links_of(profile) {
                    Ok(found) => links.extend(found),
                    Err(error) => report.note(sentence(&error)),
                }
            }
            (Records::default(), links)
        }
    }
}

fn candidate(
    node: &Node,
    kind: ExtensionKind,
    policy: &Policy,
    link: &ProfileLink,
    records: &Records,
) -> Result<Candidate, String> {
    let target = link
        .target
        .as_deref()
        .ok_or("its link leads out of the store")?;
    let profile = node.layout.profile_of_node(kind, link.profile);
    let mut candidate = stored(node, kind, policy, target, records.artefacts.get(target))?;
    candidate.profile = Some(link.profile);
    candidate.target = profile.join(&link.link);
    Ok(candidate)
}

/// The image with a file name in the store, if it is good.
pub fn stored(
    node: &Node,
    kind: ExtensionKind,
    policy: &Policy,
    file: &str,
    record: Option<&Record>,
) -> Result<Candidate, String> {
    let name = ArtefactName::parse(file, kind).map_err(|error| error.to_string())?;
    if let Some(systemd) = node.systemd
        && kind == ExtensionKind::Confext
        && systemd < FIRST_WITH_CONFEXTS
    {
        return Err(format!(
            "{systemd} merges no confexts; {FIRST_WITH_CONFEXTS} is the first that does"
        ));
    }
    let path = node.layout.store(kind).join(file);
    let identity = identity(&path)?;
    // Only a signature speaks for a file that nobody let in.
    let about_it = record.filter(|record| record.file == identity);
    if let Some(failure) = about_it.and_then(|record| record.failed.as_ref()) {
        return Err(format!(
            "it was not proved when it was verified last ({}); mend that, and run `sysgraft-agent {kind} verify {file}`",
            failure.reason
        ));
    }
    let recognised = recognise(policy, &path, &name, kind, about_it).map_err(|error| {
        let changed = record.is_some_and(|record| record.file != identity);
        match error {
            Refusal::Unsigned { .. } if changed => {
                format!("{error}; it is not the file that was let in before")
            }
            error => sentence(&error),
        }
    })?;
    if let Proof::Signed {
        signer,
        fingerprint,
        ..
    } = &recognised.proof
        && !policy.is_seen_by_systemd(fingerprint)
    {
        return Err(format!(
            "systemd could not be given the certificate {signer}, and would merge nothing at all"
        ));
    }
    Ok(Candidate {
        kind,
        file: name,
        identity,
        profile: None,
        target: node.layout.store_of_node(kind).join(file),
        recognised,
    })
}

fn identity(path: &Path) -> Result<FileIdentity, String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the file that is enabled is not there".to_owned(),
        _ => format!("it cannot be read: {error}"),
    })?;
    if metadata.is_file() {
        Ok(FileIdentity::of(&metadata))
    } else {
        Err("it is not a regular file".to_owned())
    }
}

/// Which of two images of one name is merged, and the other one.
fn prefer(a: Candidate, b: Candidate) -> (Candidate, Candidate) {
    let common = |candidate: &Candidate| candidate.profile == Some(Profile::Common);
    let rank = |candidate: &Candidate| {
        (
            !common(candidate),
            candidate.file.version_of(&candidate.recognised.name),
            candidate.file.file().to_owned(),
        )
    };
    if rank(&a) >= rank(&b) { (a, b) } else { (b, a) }
}

fn outdone(winner: &Candidate, loser: &Candidate) -> String {
    match winner.profile {
        Some(profile) if winner.profile != loser.profile => {
            format!("{} of the profile {profile} goes before it", winner.file)
        }
        _ => format!("{} is a newer version of the same extension", winner.file),
    }
}
