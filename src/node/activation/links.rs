//! The links in the folders that systemd searches until the next boot.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::ActivationError;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::Node;
use crate::node::artefact::ArtefactName;
use crate::node::host::SystemdVersion;
use crate::node::layout::Layout;
use crate::node::profile::Profile;
use crate::node::store::{Artefact, Store, StoreError, View};

/// The name under which a link is made before it takes the place of another one. systemd passes
/// over such names.
const NEW_LINK: &str = ".#sysgraft";

/// A link into the store that systemd finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The extension.
    pub name: ExtensionName,
    /// The file name of the link.
    pub link: String,
    /// Where it leads, of the node.
    pub target: PathBuf,
    /// The artefact in the store that it leads to; `None` where it leads to nothing.
    pub artefact: Option<String>,
}

impl Live {
    /// Whether it leads to an artefact, or did until that was disabled: the links of profiles have the
    /// names of their artefacts.
    pub fn leads_to(&self, file: &str) -> bool {
        match &self.artefact {
            Some(artefact) => artefact == file,
            None => self.target.file_name().is_some_and(|name| name == file),
        }
    }
}

/// File names of links and where they lead, of the node.
pub(super) type Links = BTreeMap<String, PathBuf>;

/// The links into the store that systemd finds now. Needs no rights.
///
/// # Errors
/// [`ActivationError::Files`].
pub fn live(node: &Node, kind: ExtensionKind) -> Result<Vec<Live>, ActivationError> {
    let view = Store::new(node.layout.clone(), kind).view()?;
    Ok(of_view(node, kind, &view)?)
}

pub(super) fn of_view(
    node: &Node,
    kind: ExtensionKind,
    view: &View,
) -> Result<Vec<Live>, StoreError> {
    let folder = node.layout.live(kind);
    let mut found = Vec::new();
    for (link, target) in read(&folder)? {
        let Some(place) = Place::of(&target, &node.layout, kind) else {
            continue;
        };
        let known = place.artefact(view);
        // The link of a profile, which may be gone, has the name of its artefact.
        let name = match known.or_else(|| view.artefact(&place.file)) {
            Some(artefact) => Some(artefact.name().clone()),
            None => ArtefactName::parse(&link, kind)
                .ok()
                .map(|file| file.stem().clone()),
        };
        found.extend(name.map(|name| Live {
            name,
            link,
            target,
            artefact: known.map(|artefact| artefact.file.file().to_owned()),
        }));
    }
    Ok(found)
}

/// Where in the store a live link leads.
struct Place {
    profile: Option<Profile>,
    file: String,
}

impl Place {
    /// `STORE/PROFILE/FILE`, as links are made by this program and by kairos-agent, or `STORE/FILE`.
    fn of(target: &Path, layout: &Layout, kind: ExtensionKind) -> Option<Place> {
        let inside = target.strip_prefix(layout.store_of_node(kind)).ok()?;
        let mut parts = inside.components().map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        let place = match (parts.next()??, parts.next()) {
            (file, None) => Place {
                profile: None,
                file: file.to_owned(),
            },
            (profile, Some(file)) => Place {
                profile: Some(profile.parse().ok()?),
                file: file?.to_owned(),
            },
        };
        parts.next().is_none().then_some(place)
    }

    /// The artefact that it stands for.
    fn artefact<'v>(&self, view: &'v View) -> Option<&'v Artefact> {
        let Some(profile) = self.profile else {
            return view.artefact(&self.file);
        };
        let link = view.links_of(profile).find(|link| link.link == self.file)?;
        view.artefact(link.target.as_deref()?)
    }
}

/// The artefact that a live link with this target leads to.
pub(super) fn artefact_at<'v>(
    node: &Node,
    kind: ExtensionKind,
    target: &Path,
    view: &'v View,
) -> Option<&'v Artefact> {
    Place::of(target, &node.layout, kind)?.artefact(view)
}

/// The links as they keep every extension where it is, whatever was disabled meanwhile: one whose
/// profile's link is gone leads to the artefact itself, and only one without an artefact goes.
pub(super) fn mended(node: &Node, kind: ExtensionKind, live: &[Live], view: &View) -> Links {
    let lasting = |live: &Live| {
        if live.artefact.is_some() {
            return Some(live.target.clone());
        }
        // The link of a profile has the name of its artefact.
        let file = live.target.file_name()?.to_str()?;
        let artefact = view.artefact(file)?;
        Some(node.layout.store_of_node(kind).join(artefact.file.file()))
    };
    live.iter()
        .filter_map(|live| Some((live.link.clone(), lasting(live)?)))
        .collect()
}

/// The name of the link under which systemd finds an extension. systemd up to 254 does not take
/// `.sysext` and `.confext` off.
pub(in crate::node) fn link_name(
    systemd: Option<SystemdVersion>,
    kind: ExtensionKind,
    name: &ExtensionName,
) -> String {
    match systemd {
        Some(version) if version < SystemdVersion::STRIPS_INFIX => format!("{name}.raw"),
        _ => kind.file_name(name),
    }
}

/// Makes `now` out of `before`; every other file stays.
pub(super) fn put(folder: &Path, before: &Links, now: &Links) -> Result<(), StoreError> {
    create(folder)?;
    for (link, target) in now {
        if before.get(link) == Some(target) {
            continue;
        }
        let new = folder.join(NEW_LINK);
        let path = folder.join(link);
        remove(&new)?;
        symlink(target, &new)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(StoreError::io("link", &path))?;
    }
    for link in before.keys().filter(|&link| !now.contains_key(link)) {
        remove(&folder.join(link))?;
    }
    Ok(())
}

/// Creates a folder that every program may read, whatever the umask.
pub(super) fn create(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
        .map_err(StoreError::io("create", folder))
}

/// Every symbolic link of a folder.
fn read(folder: &Path) -> Result<Links, StoreError> {
    let io = StoreError::io("read", folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Links::new()),
        outcome => outcome.map_err(&io)?,
    };
    let mut links = Links::new();
    for entry in entries {
        let entry = entry.map_err(&io)?;
        if let (Ok(target), Ok(name)) =
            (fs::read_link(entry.path()), entry.file_name().into_string())
        {
            links.insert(name, target);
        }
    }
    Ok(links)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
