//! What lies in a store at one moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::journal::Change;
use super::records::{FileIdentity, Record, Records, Rejection};
use super::{Store, StoreError};
use crate::extension::ExtensionName;
use crate::node::artefact::ArtefactName;
use crate::node::profile::Profile;
use crate::node::released_name::released_name;
use crate::node::version::Version;

/// How often a store is read anew because it changed meanwhile.
const ATTEMPTS: u32 = 100;

/// The artefacts of a store, the links of its profiles, and what is noted of them.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By file name.
    pub artefacts: Vec<Artefact>,
    /// By profile and name.
    pub links: Vec<ProfileLink>,
    /// What is noted.
    pub records: Records,
    /// Files that cannot be used, and why.
    pub passed_over: Vec<PassedOver>,
}

/// A stored image.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// Its file name.
    pub file: ArtefactName,
    /// Which file it is.
    pub identity: FileIdentity,
    /// What is noted of it, if that is about this very file.
    pub record: Option<Record>,
    /// What it says itself, where nothing is noted and it can be read.
    pub named: Option<Named>,
    /// Whether something is noted of another file that had the name.
    pub was_changed: bool,
}

/// What an image is by its release file and its file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The extension.
    pub name: ExtensionName,
    /// Its version, by the file name.
    pub version: Option<Version>,
}

/// An artefact that is enabled for a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileLink {
    /// The profile.
    pub profile: Profile,
    /// The name of the link.
    pub link: String,
    /// The file in the store that it leads to; `None` where it leads elsewhere.
    pub target: Option<String>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl Artefact {
    /// The extension that it is. Where nobody knows it is called like the file.
    pub fn name(&self) -> &ExtensionName {
        let noted = self.record.as_ref().map(|record| &record.name);
        let named = self.named.as_ref().map(|named| &named.name);
        noted.or(named).unwrap_or(self.file.stem())
    }

    /// Its version. What stands in the file name counts only where nothing is noted, for it may be
    /// there to tell two artefacts apart.
    pub fn version(&self) -> Option<&Version> {
        match &self.record {
            Some(record) => record.version.as_ref(),
            None => self.named.as_ref()?.version.as_ref(),
        }
    }
}

impl View {
    /// The artefact with a file name.
    pub fn artefact(&self, file: &str) -> Option<&Artefact> {
        self.artefacts
            .iter()
            .find(|artefact| artefact.file.file() == file)
    }

    /// The artefacts that a profile links.
    pub fn linked(&self, profile: Profile) -> impl Iterator<Item = &Artefact> {
        self.links_of(profile)
            .filter_map(|link| self.artefact(link.target.as_deref()?))
    }

    /// The links of a profile.
    pub fn links_of(&self, profile: Profile) -> impl Iterator<Item = &ProfileLink> {
        self.links
            .iter()
            .filter(move |link| link.profile == profile)
    }

    /// The profiles that link an artefact.
    pub fn profiles_of(&self, file: &str) -> impl Iterator<Item = Profile> {
        self.links
            .iter()
            .filter(move |link| link.target.as_deref() == Some(file))
            .map(|link| link.profile)
    }

    /// That an upgrade to this very artefact was not kept.
    pub fn rejection(&self, artefact: &Artefact) -> Option<&Rejection> {
        let rejection = self.records.rejected.get(artefact.file.file());
        rejection.filter(|rejection| rejection.file == artefact.identity)
    }

    /// The artefacts of one extension, the newest first.
    pub fn versions_of(&self, name: &ExtensionName) -> Vec<&Artefact> {
        let mut versions: Vec<&Artefact> = self
            .artefacts
            .iter()
            .filter(|artefact| artefact.name() == name)
            .collect();
        versions.sort_by(|a, b| (b.version(), &b.file).cmp(&(a.version(), &a.file)));
        versions
    }

    /// The store as it will be when a change is finished, but for what that places.
    pub fn after(mut self, change: &Change) -> View {
        for link in &change.links {
            self.links
                .retain(|old| (old.profile, &old.link) != (link.profile, &link.link));
            if link.target.is_some() {
                self.links.push(ProfileLink {
                    profile: link.profile,
                    link: link.link.clone(),
                    target: link.target.clone(),
                });
            }
        }
        for restored in &change.restored {
            let is_it = |old: &&mut ProfileLink| {
                (old.profile, &old.link) == (restored.profile, &restored.link)
            };
            if let Some(link) = self.links.iter_mut().find(is_it) {
                link.target = None;
            }
        }
        self.links
            .sort_by(|a, b| (a.profile, &a.link).cmp(&(b.profile, &b.link)));
        self.artefacts.retain(|artefact| {
            !change
                .removed
                .iter()
                .any(|file| file == artefact.file.file())
        });
        self.records = change.records.clone();
        self
    }
}

impl Store {
    /// What lies in the store. A change that is decided counts as finished. Needs no lock, and no
    /// rights but to read.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    pub fn view(&self) -> Result<View, StoreError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let before = self.pending()?;
            let records = self.read_records()?;
            // First, for what is placed meanwhile is found in its place then.
            let staged = before.as_ref().map(|change| self.staged(change));
            let mut view = View {
                links: self.read_links()?,
                records,
                ..View::default()
            };
            self.read_artefacts(&mut view)?;
            let unchanged = self.pending()? == before && self.read_records()? == view.records;
            if !unchanged && attempts.next().is_some() {
                continue;
            }
            if let (Some(change), Some(staged)) = (before, staged) {
                for artefact in staged {
                    view.artefacts.retain(|there| there.file != artefact.file);
                    view.artefacts.push(artefact);
                }
                view.artefacts.sort_by(|a, b| a.file.cmp(&b.file));
                view = view.after(&change);
            }
            view.attach_records();
            self.name_unknown(&mut view);
            return Ok(view);
        }
    }

    /// Looks into the images of which nothing is noted.
    fn name_unknown(&self, view: &mut View) {
        for artefact in view.artefacts.iter_mut().filter(|it| it.record.is_none()) {
            let path = self.path().join(artefact.file.file());
            artefact.named = released_name(&path, &artefact.file).map(|name| Named {
                version: artefact.file.version_of(&name),
                name,
            });
        }
    }

    fn read_artefacts(&self, view: &mut View) -> Result<(), StoreError> {
        for profile in Profile::ALL {
            let path = self.layout().profile(self.kind(), profile);
            if path.symlink_metadata().is_ok() && !path.is_dir() {
                let reason =
                    format!("it stands where the folder of the profile {profile} has to be");
                view.passed_over.push(PassedOver { path, reason });
            }
        }
        for name in names_in(&self.path())? {
            let path = self.path().join(&name);
            if !name.ends_with(".raw") || name.starts_with(".#") {
                continue;
            }
            let mut pass_over = |reason: String| {
                view.passed_over.push(PassedOver {
                    path: path.clone(),
                    reason,
                });
            };
            match (
                fs::symlink_metadata(&path),
                ArtefactName::parse(&name, self.kind()),
            ) {
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {}
                (Err(error), _) => pass_over(error.to_string()),
                (Ok(metadata), _) if !metadata.is_file() => {
                    pass_over("it is not a regular file".to_owned());
                }
                (Ok(_), Err(error)) => pass_over(error.to_string()),
                (Ok(metadata), Ok(file)) => view.artefacts.push(Artefact {
                    file,
                    identity: FileIdentity::of(&metadata),
                    record: None,
                    named: None,
                    was_changed: false,
                }),
            }
        }
        Ok(())
    }

    /// The artefacts that a decided change has not placed yet.
    fn staged(&self, change: &Change) -> Vec<Artefact> {
        let placed = change.placed.iter();
        let artefacts = placed.filter_map(|placement| {
            let staged = self.staging().join(&placement.staged);
            Some(Artefact {
                file: ArtefactName::parse(&placement.file, self.kind()).ok()?,
                identity: FileIdentity::of(&fs::symlink_metadata(staged).ok()?),
                record: None,
                named: None,
                was_changed: false,
            })
        });
        artefacts.collect()
    }

    fn read_links(&self) -> Result<Vec<ProfileLink>, StoreError> {
        let mut links = Vec::new();
        for profile in Profile::ALL {
            match self.links_of(profile) {
                Ok(of_profile) => links.extend(of_profile),
                // It is told of among the files that cannot be used.
                Err(StoreError::Io { source, .. }) if is_no_folder(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(links)
    }

    /// The links in the folder of one profile as they are, whatever is decided or noted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn links_of(&self, profile: Profile) -> Result<Vec<ProfileLink>, StoreError> {
        let mut links = Vec::new();
        let folder = self.layout().profile(self.kind(), profile);
        let is_inside = !folder.is_symlink();
        for link in names_in(&folder)? {
            if !link.ends_with(".raw") {
                continue;
            }
            // Who removed it meanwhile changed the store, and it is read anew.
            let Ok(target) = fs::read_link(folder.join(&link)) else {
                continue;
            };
            links.push(ProfileLink {
                profile,
                link,
                target: self.file_at(&target, is_inside),
            });
        }
        Ok(links)
    }

    /// The file in the store that a link in a profile's folder leads to, whether it was made by this
    /// program (relative) or by kairos-agent (absolute). `is_inside` says whether the folder lies
    /// in the store; one that is a link to another place does not.
    fn file_at(&self, target: &Path, is_inside: bool) -> Option<String> {
        let of_node = self.layout().store_of_node(self.kind());
        let file = match target.strip_prefix("..") {
            Ok(file) if is_inside => file,
            _ => target.strip_prefix(of_node).ok()?,
        };
        let name = file.to_str()?;
        is_file_name(name).then(|| name.to_owned())
    }
}

impl View {
    fn attach_records(&mut self) {
        for artefact in &mut self.artefacts {
            let record = self.records.artefacts.get(artefact.file.file());
            let about_it = record.filter(|record| record.file == artefact.identity);
            artefact.was_changed = record.is_some() && about_it.is_none();
            artefact.record = about_it.cloned();
        }
    }
}

/// Whether `name` is one component of a path.
pub(super) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn is_no_folder(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory
}

/// The names in a folder, sorted; none where there is no folder.
fn names_in(folder: &Path) -> Result<Vec<String>, StoreError> {
    let io = StoreError::io("read", folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        outcome => outcome.map_err(&io)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not text cannot be that of an artefact.
        names.extend(entry.map_err(&io)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
