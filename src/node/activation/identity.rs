//! What was activated last, so that systemd is only bothered when something is different.

use std::collections::BTreeMap;
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::links::{Links, artefact_at, create};
use crate::extension::ExtensionKind;
use crate::image::Output;
use crate::node::Node;
use crate::node::layout::Layout;
use crate::node::store::{FileIdentity, StoreError, View};
use crate::read_at::read_file;

/// A hundred extensions take a few thousand bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Which image a live link leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Identity {
    /// The one whose blocks have this root hash.
    RootHash(String),
    /// This file, of which no root hash is known.
    File(FileIdentity),
}

/// The images of links, by the links' file names.
pub(super) type Identities = BTreeMap<String, Identity>;

/// Which images these links lead to. A link that leads to nothing has none.
pub(super) fn of_links(node: &Node, kind: ExtensionKind, links: &Links, view: &View) -> Identities {
    links
        .iter()
        .filter_map(|(link, target)| {
            let artefact = artefact_at(node, kind, target, view)?;
            let root_hash = artefact.record.as_ref().and_then(|record| record.root_hash);
            let identity = match root_hash {
                Some(hash) => Identity::RootHash(hash.to_string()),
                None => Identity::File(artefact.identity),
            };
            Some((link.clone(), identity))
        })
        .collect()
}

fn file_name(kind: ExtensionKind) -> String {
    format!("active-{kind}.json")
}

/// What was noted last; nothing where nothing can be read.
pub(super) fn noted(layout: &Layout, kind: ExtensionKind) -> Identities {
    read_file(&layout.run().join(file_name(kind)), MAX_BYTES)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Notes what is merged now.
pub(super) fn note(
    layout: &Layout,
    kind: ExtensionKind,
    identities: &Identities,
) -> Result<(), StoreError> {
    let folder = layout.run();
    create(&folder)?;
    let name = file_name(kind);
    let path = folder.join(&name);
    let bytes = serde_json::to_vec_pretty(identities)
        .map_err(|error| StoreError::io("write", &path)(error.into()))?;
    let output = Output::create(&folder, name)?;
    output
        .file()
        .write_all(&bytes)
        .map_err(StoreError::io("write", &path))?;
    output.commit()?;
    Ok(())
}
