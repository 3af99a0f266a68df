//! Bringing an artefact into the store: fetched, proved, and only then given a name.

use std::io;
use std::path::{Path, PathBuf};

use super::Node;
use super::artefact::{ArtefactName, InvalidArtefactName};
use super::enable::{self, is_booted};
use super::fetch::{self, FetchError, Fetched, Location, catalog};
use super::placing::{self, Place, PlaceError};
use super::policy::{Allowed, Policy, PolicyError, Proved, Refusal};
use super::profile::Profile;
use super::store::{Artefact, FileIdentity, Placement, Proof, Record, Store, StoreError, View};
use super::transaction::{Action, Done, Options, Transaction, VerbError};
use super::upgrade::Sources;
use super::version::Version;
use crate::digest::Digest;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::printable::printable;
use crate::verification;

/// What is to be installed, and how much is demanded of it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where it comes from: a location, or a name in a catalog.
    pub uri: &'a str,
    /// The digest that it must have.
    pub sha256: Option<Digest>,
    /// Its version; in a catalog also a constraint.
    pub version: Option<&'a str>,
    /// Catalogs that are asked for a name before those of the configuration.
    pub catalogs: &'a [String],
    /// Certificates that are trusted beside those of the node.
    pub certificates: &'a [PathBuf],
    /// Authorities (PEM) that are trusted beside the system's.
    pub ca_file: Option<&'a Path>,
    /// What is let in although nobody vouches for it.
    pub allowed: Allowed,
    /// The profile that links it at once.
    pub profile: Option<Profile>,
    /// The declared set that brings it; `None` if somebody installs it by hand.
    pub declared_by: Option<&'a str>,
}

/// Is told how the work goes on.
pub trait Progress: fetch::Progress + verification::Progress {}

impl<T: fetch::Progress + verification::Progress> Progress for T {}

/// An extension that is in the store.
#[derive(Debug)]
pub struct Installed {
    /// The file in the store; unknown before it was fetched.
    pub file: String,
    /// The extension.
    pub name: ExtensionName,
    /// Its version.
    pub version: Option<Version>,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub digest: Digest,
    /// What vouches for it.
    pub proof: Proof,
    /// Where it came from, without secrets.
    pub source: String,
    /// Whether the very same artefact was there before.
    pub already: bool,
    /// The file name that it should have had, if an artefact that is enabled has that.
    pub taken: Option<String>,
    /// The profile that links it now.
    pub profile: Option<Profile>,
    /// Whether the extensions of that profile are merged now.
    pub is_booted: bool,
    /// What was done.
    pub done: Done,
}

/// What became of an installation.
#[derive(Debug)]
pub enum Outcome {
    /// It was done.
    Installed(Box<Installed>),
    /// It would be done: this would be fetched.
    Planned(Done),
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is not known what the node lets in.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No extension can have its name.
    #[error(transparent)]
    Name(#[from] InvalidArtefactName),
    /// It is not let in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is not the version that was asked for, or that the catalog says it is.
    #[error(
        "{file} is version {}, as its release file says, and not {}; ask for the one that it is, or tell whoever made the catalog",
        printable(version.as_str().as_bytes()),
        printable(wanted.as_str().as_bytes())
    )]
    OtherVersion {
        /// The artefact.
        file: String,
        /// Its version.
        version: Version,
        /// The other one.
        wanted: Version,
    },
    /// An artefact that is there cannot be compared with it.
    #[error("cannot read {path}")]
    Compare {
        /// The artefact.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be stored, enabled or merged.
    #[error(transparent)]
    Verb(#[from] VerbError),
}

impl From<StoreError> for InstallError {
    fn from(error: StoreError) -> InstallError {
        InstallError::Verb(error.into())
    }
}

/// Fetches an artefact, proves it, and stores it under its name. An artefact that is enabled is never
/// replaced: another one of the same name is stored beside it.
///
/// # Errors
/// [`InstallError`]; the store is as it was then, and what was refused is gone.
pub fn install(
    node: &Node,
    kind: ExtensionKind,
    request: &Request<'_>,
    options: Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome, InstallError> {
    let store = Store::new(node.layout.clone(), kind);
    if !options.dry_run {
        store.may_change()?;
    }
    let policy = Policy::load(node, request.certificates)?;
    policy.may_allow(request.allowed)?;
    if request.allowed.skip {
        progress.warn(
            "nobody looks whether the extension is intact and whose it is (--insecure-skip-verify)",
        );
    }
    for note in policy.notes() {
        progress.warn(note);
    }
    let staging = store.staging();
    let ca_file = configured_ca_file(node);
    let mut fetching = fetch::Request::new(&staging, kind, policy.host().architecture);
    fetching.sha256 = request.sha256;
    fetching.ca_file = request.ca_file.or(ca_file.as_deref());
    let source = find(node, request, &fetching, progress)?;
    if options.dry_run {
        let done = planned(node, kind, request, options, &policy, &source.location)?;
        return Ok(Outcome::Planned(done));
    }
    store.create_folders()?;
    let fetched = fetch::fetch(&source.location, &fetching, progress)?;
    let file = ArtefactName::parse(&fetched.file_name, kind)?;
    let mut proved = policy.prove(fetched.path(), &file, kind, request.allowed, progress)?;
    let other = fetched.version.as_deref().map(Version::from);
    settle_version(&mut proved, &file, source.version, other)?;
    for warning in &proved.warnings {
        progress.warn(warning);
    }
    let transaction = Transaction::begin(node, kind, options)?;
    let installation = Installation {
        node,
        request,
        proved,
        source: fetched.source.clone(),
    };
    let installed = installation.finish(transaction, fetched, &file)?;
    Ok(Outcome::Installed(Box::new(installed)))
}

/// Decides which version an image is: what its release file says, which is as well proved as the image,
/// and only of an image that does not say it what others do. `wanted` is the one that the user or a
/// catalog spoke of, `other` that of where it comes from.
fn settle_version(
    proved: &mut Proved,
    file: &ArtefactName,
    wanted: Option<Version>,
    other: Option<Version>,
) -> Result<(), InstallError> {
    let Some(version) = proved.version.as_ref().filter(|_| proved.says_version) else {
        proved.version = wanted.or(proved.version.take()).or(other);
        return Ok(());
    };
    let named = file.version_of(&proved.name);
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_same(version)) {
        return Err(InstallError::OtherVersion {
            file: file.to_string(),
            version: version.clone(),
            wanted,
        });
    }
    if let Some(named) = named.filter(|named| !named.is_same(version)) {
        proved.warnings.push(format!(
            "{file} is version {}, as its release file says, though its name says {}",
            printable(version.as_str().as_bytes()),
            printable(named.as_str().as_bytes())
        ));
    }
    Ok(())
}

/// Where an artefact is, and the version that it is said to have there.
struct Found {
    location: Location,
    version: Option<Version>,
}

/// Takes what the user wrote for a location, or else looks it up in the catalogs.
fn find(
    node: &Node,
    request: &Request<'_>,
    fetching: &fetch::Request<'_>,
    progress: &dyn Progress,
) -> Result<Found, FetchError> {
    let unknown = match request.uri.parse() {
        Ok(location) => {
            return Ok(Found {
                location,
                version: request.version.map(Version::from),
            });
        }
        Err(error @ FetchError::UnknownSource { .. }) => error,
        Err(error) => return Err(error),
    };
    let catalogs = catalogs(node, request.catalogs)?;
    if catalogs.is_empty() || request.uri.parse::<ExtensionName>().is_err() {
        return Err(unknown);
    }
    let resolved = catalog::resolve(request.uri, request.version, &catalogs, fetching, progress)?;
    Ok(Found {
        location: resolved.location,
        version: Some(Version::from(resolved.version.as_str())),
    })
}

/// Looks an extension up in catalogs.
pub(super) fn look_up(
    node: &Node,
    kind: ExtensionKind,
    name: &ExtensionName,
    sources: Sources<'_>,
    progress: &dyn fetch::Progress,
) -> Result<catalog::Resolved, InstallError> {
    let policy = Policy::load(node, &[])?;
    let staging = Store::new(node.layout.clone(), kind).staging();
    let ca_file = configured_ca_file(node);
    let mut fetching = fetch::Request::new(&staging, kind, policy.host().architecture);
    fetching.ca_file = sources.ca_file.or(ca_file.as_deref());
    let catalogs = catalogs(node, sources.catalogs)?;
    let (name, version) = (name.as_str(), sources.version);
    Ok(catalog::resolve(
        name, version, &catalogs, &fetching, progress,
    )?)
}

/// Those that a request names, and then those of the configuration.
fn catalogs(node: &Node, named: &[String]) -> Result<Vec<Location>, FetchError> {
    let configured = &node.configuration.fetch.catalogs;
    let all = named.iter().chain(configured);
    all.map(|catalog| catalog.parse()).collect()
}

fn configured_ca_file(node: &Node) -> Option<PathBuf> {
    let ca_file = node.configuration.fetch.ca_file.as_ref()?;
    Some(node.layout.open_path(ca_file))
}

/// What would be done, as far as that is known of what was not fetched yet.
fn planned(
    node: &Node,
    kind: ExtensionKind,
    request: &Request<'_>,
    options: Options<'_>,
    policy: &Policy,
    location: &Location,
) -> Result<Done, InstallError> {
    let source = location.to_string();
    let file = fetch::expected_name(location, kind)?;
    let artefact = file
        .map(|file| ArtefactName::parse(&file, kind))
        .transpose()?;
    let mut actions = vec![Action::Fetch {
        source: source.clone(),
    }];
    if let Some(profile) = request.profile {
        let file = artefact.as_ref().map_or(source, ArtefactName::to_string);
        actions.push(Action::Link {
            profile,
            link: file.clone(),
            target: file.clone(),
        });
        if options.now && is_booted(node, profile) {
            // What is packed or would not be let in shows no name yet.
            let name = match (&artefact, location) {
                (Some(artefact), Location::File(path)) => {
                    let found = policy.prove_quickly(path, artefact, kind, request.allowed);
                    found.ok().map(|found| found.name.to_string())
                }
                _ => None,
            };
            actions.push(Action::Merge {
                name: name.unwrap_or(file),
            });
        }
    }
    Ok(Done {
        actions,
        activated: None,
    })
}

/// A proved artefact on its way into the store.
struct Installation<'a> {
    node: &'a Node,
    request: &'a Request<'a>,
    proved: Proved,
    source: String,
}

impl Installation<'_> {
    fn finish(
        self,
        mut transaction: Transaction<'_>,
        fetched: Fetched,
        wanted: &ArtefactName,
    ) -> Result<Installed, InstallError> {
        let mut change = transaction.no_change();
        let (artefact, already) =
            match self.place(&transaction.store(), transaction.view(), wanted)? {
                Place::Same(artefact) => (self.known(*artefact), true),
                Place::New(file) => {
                    let (placement, identity) =
                        stage(&transaction.store().staging(), fetched, &file)?;
                    change.placed.push(placement);
                    (self.recorded(file, identity), false)
                }
            };
        let file = artefact.file.to_string();
        if let Some(record) = artefact.record.clone() {
            change.records.artefacts.insert(file.clone(), record);
        }
        change.records.rejected.remove(&file);
        let mut live = Vec::new();
        let is_booted = self
            .request
            .profile
            .is_some_and(|profile| is_booted(self.node, profile));
        if let Some(profile) = self.request.profile {
            enable::link(transaction.view(), &artefact, profile, &mut change);
            if transaction.options().now && is_booted {
                live.push(self.proved.name.clone());
            }
        }
        transaction.expect(artefact);
        Ok(Installed {
            taken: (file != wanted.file()).then(|| wanted.to_string()),
            file,
            name: self.proved.name,
            version: self.proved.version,
            size: self.proved.size,
            digest: self.proved.digest,
            proof: self.proved.proof,
            source: self.source,
            already,
            profile: self.request.profile,
            is_booted,
            done: transaction.finish(&change, &live)?,
        })
    }

    /// The name that is wanted; one with version or hash where that belongs to an artefact in use.
    fn place(
        &self,
        store: &Store,
        view: &View,
        wanted: &ArtefactName,
    ) -> Result<Place, InstallError> {
        let may_go = |file: &str| !is_used(view, file);
        let placed = placing::place(store, view, &self.proved, wanted, &may_go);
        placed.map_err(|error| match error {
            PlaceError::Compare { path, source } => InstallError::Compare { path, source },
            PlaceError::Taken => InstallError::Verb(VerbError::Unusable {
                file: wanted.to_string(),
                reason: error.to_string(),
            }),
        })
    }

    fn recorded(&self, file: ArtefactName, identity: FileIdentity) -> Artefact {
        Artefact {
            file,
            identity,
            record: Some(Record {
                declared_by: self.request.declared_by.map(str::to_owned),
                ..placing::record(&self.proved, identity, self.source.clone())
            }),
            named: None,
            was_changed: false,
        }
    }

    /// What is noted of an artefact that is there already and was fetched once more. It stays somebody's
    /// if somebody installed it by hand, and what was proved of it is not forgotten.
    fn known(&self, there: Artefact) -> Artefact {
        let mut artefact = self.recorded(there.file, there.identity);
        let known = there.record.filter(|_| !there.was_changed);
        if let (Some(record), Some(known)) = (&mut artefact.record, known) {
            record.declared_by = record.declared_by.take().and(known.declared_by);
            record.installed = known.installed;
            record.version = record.version.take().or(known.version);
            if strength(&known.proof) > strength(&record.proof) {
                record.proof = known.proof;
            }
        }
        artefact
    }
}

/// Which of two proofs of the same bytes says more.
fn strength(proof: &Proof) -> u8 {
    match proof {
        Proof::Skipped => 0,
        Proof::Unsigned { .. } => 1,
        Proof::Signed { .. } => 2,
    }
}

/// Gives what was proved a name in the staging folder, under which a change can place it.
fn stage(
    staging: &Path,
    fetched: Fetched,
    file: &ArtefactName,
) -> Result<(Placement, FileIdentity), InstallError> {
    let placement = Placement::of(file.file());
    let path = staging.join(&placement.staged);
    fetched.place(&path)?;
    match path.symlink_metadata() {
        Ok(metadata) => Ok((placement, FileIdentity::of(&metadata))),
        Err(source) => Err(InstallError::Compare { path, source }),
    }
}

/// Whether a profile links an artefact, or may have to again.
fn is_used(view: &View, file: &str) -> bool {
    let records = &view.records;
    let trial = records.trial.iter().map(|trial| &trial.before);
    let mut steps = records.history.values().flatten().chain(trial);
    view.profiles_of(file).next().is_some()
        || steps.any(|step| step.linked.values().any(|linked| linked == file))
}
