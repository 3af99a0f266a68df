//! What catalogs have of an extension, so that only what is newer is fetched.

use std::path::Path;

use super::{linked, profiles};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::Node;
use crate::node::fetch::Progress;
use crate::node::install::{self, InstallError};
use crate::node::profile::Profile;
use crate::node::store::{Artefact, Store};
use crate::node::version::Version;

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Catalogs that are asked before those of the configuration.
    pub catalogs: &'a [String],
    /// Authorities (PEM) that are trusted beside the system's.
    pub ca_file: Option<&'a Path>,
    /// The version that is wanted: a tag or a constraint.
    pub version: Option<&'a str>,
}

/// What catalogs have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// An image that is not in the store.
    Image {
        /// Where it is, pinned by digest.
        location: String,
        /// Its version.
        version: Version,
    },
    /// An image that is in the store, with this file name.
    Stored(String),
    /// Nothing that is newer than what is enabled; this is the newest.
    NothingNewer(Version),
    /// Nobody looked, because no profile enables any version.
    NotEnabled,
}

/// Looks an extension up that profiles enable, those of the running system unless one is named.
/// Nothing is fetched but catalogs.
///
/// # Errors
/// [`InstallError`].
pub fn offer(
    node: &Node,
    kind: ExtensionKind,
    name: &ExtensionName,
    profile: Option<Profile>,
    sources: Sources<'_>,
    progress: &dyn Progress,
) -> Result<Offer, InstallError> {
    let view = Store::new(node.layout.clone(), kind).view()?;
    let enabled = linked(&view, name, &profiles(node, profile));
    if enabled.is_empty() {
        return Ok(Offer::NotEnabled);
    }
    let found = install::look_up(node, kind, name, sources, progress)?;
    let version = Version::from(found.version.as_str());
    let is_it = |artefact: &&&Artefact| {
        artefact
            .version()
            .is_some_and(|known| known.is_same(&version))
    };
    if let Some(artefact) = view.versions_of(name).iter().find(is_it) {
        return Ok(Offer::Stored(artefact.file.to_string()));
    }
    let is_newer = |artefact: &&Artefact| artefact.version().is_none_or(|old| *old < version);
    if sources.version.is_none() && !enabled.values().any(is_newer) {
        return Ok(Offer::NothingNewer(version));
    }
    Ok(Offer::Image {
        location: found.location.to_string(),
        version,
    })
}
