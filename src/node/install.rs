//! Bringing an artefact into the store: fetched, proved, and only then given a name.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Node;
use super::artefact::{ArtefactName, InvalidArtefactName};
use super::enable::{self, is_booted};
use super::fetch::{self, FetchError, Fetched, Location, catalog};
use super::policy::{Allowed, Policy, PolicyError, Proved, Refusal};
use super::profile::Profile;
use super::store::{
    Artefact, FileIdentity, Moment, Placement, Proof, Record, Store, StoreError, View,
};
use super::transaction::{Action, Done, Options, Transaction, VerbError};
use super::version::Version;
use crate::digest::{Digest, Hasher};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::verification;

/// Hexadecimal digits that tell two artefacts of one name apart.
const SHORT_HASH: usize = 12;

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
    /// Whether a declared set brings it.
    pub declared: bool,
}

/// Is told how the work goes on.
pub trait Progress: fetch::Progress + verification::Progress {
    /// What should be known although the work goes on.
    fn warn(&self, message: &str);
}

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
    for note in policy.notes() {
        progress.warn(note);
    }
    let staging = store.staging();
    let ca_file = node.configuration.fetch.ca_file.as_ref();
    let ca_file = ca_file.map(|path| node.layout.open_path(path));
    let mut fetching = fetch::Request::new(&staging, kind, policy.host().architecture);
    fetching.sha256 = request.sha256;
    fetching.ca_file = request.ca_file.or(ca_file.as_deref());
    let source = find(node, request, &fetching, progress)?;
    if options.dry_run {
        return Ok(Outcome::Planned(planned(&source.location)));
    }
    store.create_folders()?;
    let fetched = fetch::fetch(&source.location, &fetching, progress)?;
    let file = ArtefactName::parse(&fetched.file_name, kind)?;
    let mut proved = policy.prove(fetched.path(), &file, kind, request.allowed, progress)?;
    proved.version = source
        .version
        .or(proved.version)
        .or(fetched.version.as_deref().map(Version::from));
    for warning in &proved.warnings {
        progress.warn(warning);
    }
    let transaction = Transaction::begin(node, kind, options)?;
    let installation = Installation {
        node,
        kind,
        request,
        proved,
        source: fetched.source.clone(),
    };
    let installed = installation.finish(transaction, fetched, &file)?;
    Ok(Outcome::Installed(Box::new(installed)))
}

/// Where an artefact is, and the version that it is known to have there.
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
    let configured = &node.configuration.fetch.catalogs;
    let catalogs: Vec<Location> = request
        .catalogs
        .iter()
        .chain(configured)
        .map(|catalog| catalog.parse())
        .collect::<Result<_, _>>()?;
    if catalogs.is_empty() || request.uri.parse::<ExtensionName>().is_err() {
        return Err(unknown);
    }
    let resolved = catalog::resolve(request.uri, request.version, &catalogs, fetching, progress)?;
    Ok(Found {
        location: resolved.location,
        version: Some(Version::from(resolved.version.as_str())),
    })
}

fn planned(location: &Location) -> Done {
    Done {
        actions: vec![Action::Fetch {
            source: location.to_string(),
        }],
        activated: None,
    }
}

/// A proved artefact on its way into the store.
struct Installation<'a> {
    node: &'a Node,
    kind: ExtensionKind,
    request: &'a Request<'a>,
    proved: Proved,
    source: String,
}

/// Which name an artefact gets.
enum Place {
    /// That of the same artefact, which is there.
    Same(Box<Artefact>),
    /// One that is free, or whose owner nobody uses.
    New(ArtefactName),
}

impl Installation<'_> {
    fn finish(
        self,
        mut transaction: Transaction<'_>,
        fetched: Fetched,
        wanted: &ArtefactName,
    ) -> Result<Installed, InstallError> {
        let mut change = transaction.no_change();
        let (artefact, already) = match self.place(transaction.view(), wanted)? {
            Place::Same(artefact) => (self.recorded(artefact.file, artefact.identity), true),
            Place::New(file) => {
                let (placement, identity) = stage(&transaction.store().staging(), fetched, &file)?;
                change.placed.push(placement);
                (self.recorded(file, identity), false)
            }
        };
        let file = artefact.file.to_string();
        if let Some(record) = artefact.record.clone() {
            change.records.artefacts.insert(file.clone(), record);
        }
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
    fn place(&self, view: &View, wanted: &ArtefactName) -> Result<Place, InstallError> {
        let stem = wanted.file().trim_end_matches(".raw");
        let infix = format!(".{}", self.kind);
        let (stem, infix) = match stem.strip_suffix(&infix) {
            Some(stem) => (stem, infix.as_str()),
            None => (stem, ""),
        };
        let hash = self.proved.root_hash.map(|hash| hash.to_string());
        let hash = hash.unwrap_or_else(|| self.proved.digest.hex());
        let version = self.proved.version.as_ref().map(Version::as_str);
        let version = version.filter(|_| wanted.version_of(&self.proved.name).is_none());
        let ends = [version, hash.get(..SHORT_HASH), Some(&hash)];
        let others = ends.into_iter().flatten().filter_map(|end| {
            // A version may have what no file name can.
            ArtefactName::parse(&format!("{stem}_{end}{infix}.raw"), self.kind).ok()
        });
        for file in [wanted.clone()].into_iter().chain(others) {
            match view.artefact(file.file()) {
                Some(there) if self.is_same(there)? => {
                    return Ok(Place::Same(Box::new(there.clone())));
                }
                Some(_) if is_used(view, file.file()) => {}
                _ => return Ok(Place::New(file)),
            }
        }
        Err(InstallError::Verb(VerbError::Unusable {
            file: wanted.to_string(),
            reason: "its name and every other one are taken".to_owned(),
        }))
    }

    /// Whether an artefact in the store is the one that is to be installed.
    fn is_same(&self, there: &Artefact) -> Result<bool, InstallError> {
        if there.identity.size != self.proved.size {
            return Ok(false);
        }
        let store = self.node.layout.store(self.kind);
        let path = store.join(there.file.file());
        let digest = digest_of(&path);
        let digest = digest.map_err(|source| InstallError::Compare { path, source })?;
        Ok(digest == self.proved.digest)
    }

    fn recorded(&self, file: ArtefactName, identity: FileIdentity) -> Artefact {
        let proved = &self.proved;
        Artefact {
            file,
            identity,
            record: Some(Record {
                name: proved.name.clone(),
                version: proved.version.clone(),
                file: identity,
                digest: proved.digest,
                root_hash: proved.root_hash,
                source: self.source.clone(),
                installed: Moment::now(),
                proof: proved.proof.clone(),
                restart_units: proved.restart_units.clone(),
                reload_or_restart_units: proved.reload_or_restart_units.clone(),
                declared: self.request.declared,
                failed: None,
            }),
            named: None,
            was_changed: false,
        }
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

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(bytes) => hasher.update(buffer.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
