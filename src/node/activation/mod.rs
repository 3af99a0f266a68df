//! What is merged on a running node: the live links in `/run/extensions` and `/run/confexts`, and
//! systemd, which merges what they lead to.
//!
//! A change of the links is made together with the merge: if systemd does not merge what was asked
//! for, the old links are put back and merged again, so that a node never has fewer extensions after
//! a change that failed than before. Links and files that lead elsewhere than into the store are
//! not ours, and are never touched.
//!
//! Where extensions of both kinds change, confexts come first ([`ORDER`]): a service that a sysext
//! brings or restarts then finds its configuration.
//!
//! systemd-tmpfiles and systemd-sysusers are not run: at boot they come after the merge by
//! themselves, and an extension that needs them at once names `systemd-sysusers.service` and
//! `systemd-tmpfiles-setup.service` among the units to restart.

mod change;
mod command;
mod identity;
mod links;
mod merged;
mod refresh;
mod search;
mod units;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use change::change;
pub(in crate::node) use change::change_back;
pub(in crate::node) use command::run;
pub(in crate::node) use links::link_name;
pub use links::{Live, live};
pub use merged::merged;
pub(in crate::node) use search::{folders, image_name};
pub(in crate::node) use units::{Named, running, states};

use super::store::{StoreError, View};
use super::transaction::booted;
use super::{Node, layout::Layout};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::unit_name::UnitName;

/// The order in which both kinds are changed.
pub const ORDER: [ExtensionKind; 2] = [ExtensionKind::Confext, ExtensionKind::Sysext];

/// An extension that is to be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLink {
    /// The extension that the release file in the image names.
    pub name: ExtensionName,
    /// The link of a profile that leads to the image, of the node.
    pub target: PathBuf,
}

/// What became of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activated {
    /// Whether systemd had anything to do.
    pub refreshed: bool,
    /// What is merged now, by the names that systemd tells.
    pub merged: BTreeSet<String>,
    /// Units that were restarted or reloaded if they ran.
    pub units: Vec<UnitName>,
    /// What went wrong with those units, one sentence each. The extensions are merged all the same.
    pub problems: Vec<String>,
}

/// Why extensions could not be merged or taken out.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// systemd did not do it.
    #[error("systemd-{kind} did not merge the change: {said}; {afterwards}")]
    Refused {
        /// Which extensions.
        kind: ExtensionKind,
        /// What systemd said, in one sentence.
        said: String,
        /// What is merged now.
        afterwards: Afterwards,
    },
    /// The image is not there.
    #[error("{name} cannot be merged: there is no file at {target}")]
    Missing {
        /// The extension.
        name: ExtensionName,
        /// Where its link would lead, of the node.
        target: PathBuf,
    },
    /// Somebody else's file or link has the name.
    #[error(
        "{name} cannot be merged: {path}, which is not of this program, has its name and systemd would take that one; remove it first"
    )]
    InTheWay {
        /// The extension.
        name: ExtensionName,
        /// What is in the way.
        path: PathBuf,
    },
    /// A folder, link or lock could not be used, or the store not be read.
    #[error(transparent)]
    Files(#[from] StoreError),
}

/// What a node has after a change that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Everything that was merged before.
    AsBefore,
    /// Some of it could not be merged again.
    Without(Vec<String>),
}

impl std::fmt::Display for Afterwards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Afterwards::AsBefore => f.write_str("what is merged is as before"),
            Afterwards::Without(missing) => write!(
                f,
                "of what was merged before, {} could not be merged again",
                missing.join(", ")
            ),
        }
    }
}

/// What the profiles of the running system enable of an extension: the newest version that its own
/// profile links, else the newest that all systems share.
pub fn enabled_link(
    node: &Node,
    kind: ExtensionKind,
    view: &View,
    name: &ExtensionName,
) -> Option<LiveLink> {
    booted(node).iter().find_map(|&profile| {
        let link = view
            .links_of(profile)
            .filter_map(|link| Some((view.artefact(link.target.as_deref()?)?, link)))
            .filter(|(artefact, _)| artefact.name() == name)
            .max_by(|(a, _), (b, _)| (a.version(), &a.file).cmp(&(b.version(), &b.file)));
        let folder = node.layout.profile_of_node(kind, profile);
        link.map(|(_, link)| LiveLink {
            name: name.clone(),
            target: folder.join(&link.link),
        })
    })
}

/// Whether the systemd of a tree can be asked to do something: it is this host's, and it runs.
pub(in crate::node) fn manager_runs(layout: &Layout) -> bool {
    // sd_booted(3).
    layout.is_this_host() && layout.open_path("/run/systemd/system").is_dir()
}
