//! Bringing a node to a declared set of extensions.
//!
//! Everything that is missing is brought into the store first; what is linked and merged changes only
//! when all of it is there and proved. Extensions that were installed by hand stay as they are,
//! unless the file names them, and are never removed.

mod desired;
mod plan;

pub use desired::{Desired, DesiredError, Entry};
pub use plan::Step;

use super::Node;
use super::activation;
use super::enable::{disable, enable};
use super::host::{self, HostError};
use super::install::{self, InstallError, install};
use super::policy::Allowed;
use super::remove::remove;
use super::status::status;
use super::store::{Store, StoreError};
use super::transaction::{Options, VerbError, booted};
use crate::architecture::Architecture;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::printable::sentence;

/// Why a node is not as declared.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the node is could not be found out.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Extensions could not be installed.
    #[error("{}; nothing was enabled, disabled or removed", list(.0))]
    Install(Vec<(ExtensionName, InstallError)>),
    /// A source has something else than the file says.
    #[error(
        "what {location} has is not {name} as the file declares it; correct name, version or source. Nothing was enabled, disabled or removed"
    )]
    SomethingElse {
        /// The source.
        location: String,
        /// The extension.
        name: String,
    },
    /// A step failed; those before it were made.
    #[error("cannot {step}")]
    Step {
        /// The step.
        step: Step,
        /// Why.
        source: Box<VerbError>,
    },
}

/// What has to be done so that the node is as declared, in that order; with `now`, and what is enabled for
/// the system that runs is merged.
fn plan(node: &Node, desired: &Desired, now: bool) -> Result<Vec<Step>, ApplyError> {
    let architecture = architecture(node)?;
    let mut installs = Vec::new();
    let mut rest = Vec::new();
    // As systemd merges them: configuration first.
    for kind in activation::ORDER {
        let view = Store::new(node.layout.clone(), kind).view()?;
        let (merging, merged) = if now {
            (booted(node), merged(node, kind)?)
        } else {
            (&[][..], Vec::new())
        };
        let steps = plan::plan(kind, desired, &view, architecture, merging, &merged);
        let (install, other): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|step| matches!(step, Step::Install { .. }));
        installs.extend(install);
        rest.extend(other);
    }
    installs.append(&mut rest);
    Ok(installs)
}

/// Makes the node as declared, and tells every step before it is made.
///
/// # Errors
/// [`ApplyError`].
pub fn apply(
    node: &Node,
    desired: &Desired,
    options: Options<'_>,
    progress: &dyn install::Progress,
    begin: &dyn Fn(&Step),
) -> Result<Vec<Step>, ApplyError> {
    let planned = plan(node, desired, options.now)?;
    if options.dry_run {
        return Ok(planned);
    }
    let architecture = architecture(node)?;
    let mut failures = Vec::new();
    for step in &planned {
        if let Step::Install { kind, name, .. } = step
            && let Some(entry) = desired.of(*kind).iter().find(|it| it.name.as_str() == name)
        {
            begin(step);
            let source = entry.source(architecture);
            let set = desired.set();
            if let Err(error) = bring(node, *kind, entry, (set, &source), options, progress) {
                failures.push((entry.name.clone(), error));
            }
        }
    }
    if !failures.is_empty() {
        return Err(ApplyError::Install(failures));
    }
    let mut made: Vec<Step> = planned;
    made.retain(|step| matches!(step, Step::Install { .. }));
    // Now the files have names.
    for step in plan(node, desired, options.now)? {
        if let Step::Install { name, source, .. } = step {
            let location = source;
            return Err(ApplyError::SomethingElse { location, name });
        }
        begin(&step);
        make(node, &step, options).map_err(|source| ApplyError::Step {
            step: step.clone(),
            source: Box::new(source),
        })?;
        made.push(step);
    }
    Ok(made)
}

/// The artefacts that systemd has merged.
fn merged(node: &Node, kind: ExtensionKind) -> Result<Vec<String>, StoreError> {
    let status = status(node, kind)?;
    let merged = status.artefacts.into_iter().filter(|it| it.is_merged);
    Ok(merged.map(|it| it.artefact.file.to_string()).collect())
}

fn architecture(node: &Node) -> Result<Architecture, HostError> {
    host::architecture(&host::os_release(&node.layout)?)
}

/// Brings what an entry means into the store.
fn bring(
    node: &Node,
    kind: ExtensionKind,
    entry: &Entry,
    (set, source): (&str, &str),
    options: Options<'_>,
    progress: &dyn install::Progress,
) -> Result<(), InstallError> {
    let request = install::Request {
        uri: source,
        sha256: entry.sha256,
        version: entry.version.as_deref(),
        catalogs: &[],
        certificates: &[],
        ca_file: None,
        allowed: Allowed {
            unsigned: entry.allow_unsigned,
            skip: false,
        },
        profile: None,
        declared_by: Some(set),
    };
    let options = Options {
        now: false,
        ..options
    };
    install(node, kind, &request, options, progress).map(drop)
}

fn make(node: &Node, step: &Step, options: Options<'_>) -> Result<(), VerbError> {
    match step {
        // Each was made before, and is not planned again.
        Step::Install { .. } => {}
        Step::Enable {
            kind,
            file,
            profile,
        }
        | Step::Merge {
            kind,
            file,
            profile,
        } => drop(enable(node, *kind, file, *profile, options)?),
        Step::Disable {
            kind,
            file,
            profile,
        } => drop(disable(node, *kind, file, *profile, options)?),
        Step::Remove { kind, file } => drop(remove(node, *kind, file, options)?),
    }
    Ok(())
}

fn list(failures: &[(ExtensionName, InstallError)]) -> String {
    let each: Vec<String> = failures
        .iter()
        .map(|(name, error)| format!("{name} cannot be installed: {}", sentence(error)))
        .collect();
    each.join("; ")
}
