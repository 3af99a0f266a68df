//! A change of a store together with what is merged of it.

use std::fmt;
use std::fs;

use serde::Serialize;

use super::Node;
use super::activation::{self, Activated, ActivationError, LiveLink};
use super::judgement::{Judge, JudgementError};
use super::profile::Profile;
use super::select::SelectError;
use super::store::{
    Artefact, Change, LinkChange, LinkContent, LockedStore, Store, StoreError, View,
};
use super::upgrade::undo_unfinished;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::printable::printable;

/// How a verb is to work.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whether systemd merges the outcome now.
    pub now: bool,
    /// Whether only to say what would be done. Nothing is touched then, and no lock taken.
    pub dry_run: bool,
    /// Is told what systemd is asked to do.
    pub notify: &'a dyn Fn(&str),
}

/// One thing that a change does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Action {
    /// An artefact is brought in.
    Fetch {
        /// From where.
        source: String,
    },
    /// A proved file gets its name in the store.
    Store {
        /// The name.
        file: String,
    },
    /// A profile links an artefact.
    Link {
        /// The profile.
        profile: Profile,
        /// The name of the link.
        link: String,
        /// The artefact.
        target: String,
    },
    /// A profile links something no longer.
    Unlink {
        /// The profile.
        profile: Profile,
        /// The name of the link.
        link: String,
    },
    /// An artefact goes away.
    Remove {
        /// Its name in the store.
        file: String,
    },
    /// systemd is to merge an extension.
    Merge {
        /// The extension.
        name: String,
    },
    /// systemd is to merge an extension no longer.
    Unmerge {
        /// The extension.
        name: String,
    },
}

/// What became of a change, or would become of it.
#[derive(Debug, Default)]
pub struct Done {
    /// Every step, in order.
    pub actions: Vec<Action>,
    /// What systemd did, if it was asked.
    pub activated: Option<Activated>,
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user's text.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// What was asked for lies there, but is of no use.
    #[error("{file} cannot be used: {reason}")]
    Unusable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// What was asked for is not to be merged.
    #[error(transparent)]
    Judgement(#[from] Box<JudgementError>),
    /// systemd did not do what it should; nothing was changed.
    #[error("nothing was changed")]
    Activation(#[source] Box<ActivationError>),
    /// The same, but what was installed stays.
    #[error("{file} is installed, but not enabled")]
    OnlyStored {
        /// The artefact.
        file: String,
        /// What systemd said.
        source: Box<ActivationError>,
    },
    /// systemd did not do what it should, and what was changed before could not be taken back.
    #[error("{activation}; taking the change back failed too")]
    NotTakenBack {
        /// What systemd said.
        activation: Box<ActivationError>,
        /// Why it stays.
        source: StoreError,
    },
}

/// A change in the making.
pub(super) struct Transaction<'a> {
    node: &'a Node,
    kind: ExtensionKind,
    options: Options<'a>,
    /// Not there where nothing may be touched.
    locked: Option<LockedStore>,
    view: View,
    /// What will be there in addition, or in another state.
    expected: Option<Artefact>,
}

impl<'a> Transaction<'a> {
    /// Waits for the right to change the store, and looks at it.
    pub(super) fn begin(
        node: &'a Node,
        kind: ExtensionKind,
        options: Options<'a>,
    ) -> Result<Transaction<'a>, VerbError> {
        let store = Store::new(node.layout.clone(), kind);
        let locked = if options.dry_run {
            None
        } else {
            store.may_change()?;
            let mut locked = store.lock()?;
            undo_unfinished(node, &mut locked, options.notify)?;
            Some(locked)
        };
        Ok(Transaction {
            node,
            kind,
            options,
            locked,
            view: store.view()?,
            expected: None,
        })
    }

    /// How the verb is to work.
    pub(super) fn options(&self) -> Options<'a> {
        self.options
    }

    /// The store.
    pub(super) fn store(&self) -> Store {
        Store::new(self.node.layout.clone(), self.kind)
    }

    /// Tells of an artefact that the change brings, or of which it notes something new.
    pub(super) fn expect(&mut self, artefact: Artefact) {
        self.expected = Some(artefact);
    }

    /// The store before the change.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// A change of nothing, which keeps what is noted of the artefacts that are there.
    pub(super) fn no_change(&self) -> Change {
        let mut records = self.view.records.clone();
        let artefacts = &mut records.artefacts;
        artefacts.retain(|file, _| self.view.artefact(file).is_some());
        Change {
            records,
            ..Change::default()
        }
    }

    /// Says why a text selects nothing, if what it names is there but cannot be used.
    pub(super) fn explain(&self, text: &str, error: SelectError) -> VerbError {
        let is_it = |path: &std::path::Path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name == text.as_bytes() || name.strip_suffix(b".raw") == Some(text.as_bytes())
        };
        let mut passed_over = self.view.passed_over.iter();
        match passed_over.find(|entry| is_it(&entry.path)) {
            Some(entry) if matches!(error, SelectError::NotFound(_)) => VerbError::Unusable {
                file: printable(entry.path.as_os_str().as_encoded_bytes()),
                reason: entry.reason.clone(),
            },
            _ => error.into(),
        }
    }

    /// Passes if a profile may link an artefact that was not proved just now.
    pub(super) fn judge(&self, artefact: &Artefact) -> Result<(), VerbError> {
        Ok(Judge::load(self.node, self.kind)?.judge(artefact)?)
    }

    /// Makes the change. Where `live` names extensions, systemd then merges what is enabled of
    /// them, or no longer merges them; if that fails, the change is taken back.
    pub(super) fn finish(
        mut self,
        change: &Change,
        live: &[ExtensionName],
    ) -> Result<Done, VerbError> {
        let (add, remove) = self.live_change(change, live);
        let actions = actions(change, &add, &remove);
        let Some(mut locked) = self.locked.take().filter(|_| !self.options.dry_run) else {
            return Ok(Done {
                actions,
                activated: None,
            });
        };
        let is_live = !live.is_empty();
        // A file that was removed cannot be brought back, so that systemd lets go of it first.
        let first = is_live && !change.removed.is_empty();
        let mut activated = None;
        if first {
            let outcome = self.activate(&add, &remove);
            activated = Some(outcome.map_err(|error| VerbError::Activation(Box::new(error)))?);
        }
        let reverse = self.reverse(change);
        if !self.is_empty(change)
            && let Err(error) = locked.commit(change)
        {
            self.merge_again(first, live);
            return Err(error.into());
        }
        if is_live && !first {
            match self.activate(&add, &remove) {
                Ok(outcome) => activated = Some(outcome),
                Err(error) => return Err(take_back(locked, change, &reverse, error)),
            }
        }
        Ok(Done { actions, activated })
    }

    fn activate(
        &self,
        add: &[LiveLink],
        remove: &[ExtensionName],
    ) -> Result<Activated, ActivationError> {
        activation::change(self.node, self.kind, add, remove, self.options.notify)
    }

    /// What systemd has to find for each extension when the change is made: the first artefact that
    /// the profiles of this boot link and that holds, as at boot.
    fn live_change(
        &self,
        change: &Change,
        names: &[ExtensionName],
    ) -> (Vec<LiveLink>, Vec<ExtensionName>) {
        let mut after = self.view.clone().after(change);
        if let Some(expected) = &self.expected {
            after
                .artefacts
                .retain(|artefact| artefact.file != expected.file);
            after.artefacts.push(expected.clone());
        }
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for name in names {
            let link = booted(self.node).iter().find_map(|&profile| {
                let mut links = after.links_of(profile);
                let leads_to_it =
                    |artefact: &Artefact| artefact.name() == name && self.holds(artefact);
                let link = links.find(|link| {
                    let target = link.target.as_deref();
                    target
                        .and_then(|file| after.artefact(file))
                        .is_some_and(leads_to_it)
                })?;
                let folder = self.node.layout.profile_of_node(self.kind, profile);
                Some(folder.join(&link.link))
            });
            match link {
                Some(target) => add.push(LiveLink {
                    name: name.clone(),
                    target,
                }),
                None => remove.push(name.clone()),
            }
        }
        (add, remove)
    }

    /// Whether an artefact may be merged. One that is not keeps nobody from disabling another.
    fn holds(&self, artefact: &Artefact) -> bool {
        let is_just_proved = |expected: &Artefact| expected.file == artefact.file;
        if self.expected.as_ref().is_some_and(is_just_proved) {
            return true;
        }
        let judged = self.judge(artefact);
        if let Err(error) = &judged {
            (self.options.notify)(&format!("{} is passed over: {error}", artefact.file));
        }
        judged.is_ok()
    }

    /// After something was taken out that could not be removed then: as it was before. The error that
    /// is told is the first one.
    fn merge_again(&self, was_taken_out: bool, live: &[ExtensionName]) {
        if was_taken_out {
            let (add, remove) = self.live_change(&self.no_change(), live);
            let _ = self.activate(&add, &remove);
        }
    }

    /// Whether a change would leave everything as it is.
    fn is_empty(&self, change: &Change) -> bool {
        change.placed.is_empty()
            && change.links.is_empty()
            && change.removed.is_empty()
            && change.records == self.view.records
    }

    /// The change that leads back from `change` to what is there now. What was placed stays.
    fn reverse(&self, change: &Change) -> Change {
        let mut reverse = Change {
            records: change.records.clone(),
            ..Change::default()
        };
        for link in change.links.iter().rev() {
            let mut links = self.view.links_of(link.profile);
            let target = links
                .find(|old| old.link == link.link)
                .and_then(|old| old.target.clone());
            match self.leads_elsewhere(link).filter(|_| target.is_none()) {
                Some(content) => reverse.restored.push(content),
                None => reverse.links.push(LinkChange {
                    target,
                    ..link.clone()
                }),
            }
        }
        reverse
    }

    /// The link of a profile that a change replaces or removes, as it is.
    fn leads_elsewhere(&self, change: &LinkChange) -> Option<LinkContent> {
        let folder = self.node.layout.profile(self.kind, change.profile);
        let content = fs::read_link(folder.join(&change.link)).ok()?;
        Some(LinkContent {
            profile: change.profile,
            link: change.link.clone(),
            content: content.to_str()?.to_owned(),
        })
    }
}

/// Undoes a change that was made, because of an error; what to tell of it.
fn take_back(
    mut locked: LockedStore,
    change: &Change,
    reverse: &Change,
    error: ActivationError,
) -> VerbError {
    let activation = Box::new(error);
    match locked.commit(reverse) {
        Ok(()) => match change.placed.first() {
            Some(placement) => VerbError::OnlyStored {
                file: placement.file.clone(),
                source: activation,
            },
            None => VerbError::Activation(activation),
        },
        Err(source) => VerbError::NotTakenBack { activation, source },
    }
}

/// The profiles whose extensions are merged now. Those of all boot states can be merged live even
/// where a boot merges none.
pub(super) fn booted(node: &Node) -> &'static [Profile] {
    match node.boot_state.profiles() {
        [] => &[Profile::Common],
        profiles => profiles,
    }
}

fn actions(change: &Change, add: &[LiveLink], remove: &[ExtensionName]) -> Vec<Action> {
    let placed = change.placed.iter().map(|placement| Action::Store {
        file: placement.file.clone(),
    });
    let links = change.links.iter().map(|change| {
        let (profile, link) = (change.profile, change.link.clone());
        match change.target.clone() {
            Some(target) => Action::Link {
                profile,
                link,
                target,
            },
            None => Action::Unlink { profile, link },
        }
    });
    let removed = change
        .removed
        .iter()
        .map(|file| Action::Remove { file: file.clone() });
    let merged = add.iter().map(|link| Action::Merge {
        name: link.name.to_string(),
    });
    let unmerged = remove.iter().map(|name| Action::Unmerge {
        name: name.to_string(),
    });
    let all = placed.chain(links).chain(removed);
    all.chain(merged).chain(unmerged).collect()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Fetch { source } => write!(f, "fetch {source}"),
            Action::Store { file } => write!(f, "store {file}"),
            Action::Link {
                profile,
                link,
                target,
            } => write!(f, "link {profile}/{link} to {target}"),
            Action::Unlink { profile, link } => write!(f, "unlink {profile}/{link}"),
            Action::Remove { file } => write!(f, "remove {file}"),
            Action::Merge { name } => write!(f, "merge {name}"),
            Action::Unmerge { name } => write!(f, "unmerge {name}"),
        }
    }
}
