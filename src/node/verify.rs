//! Proving stored artefacts once more.

use std::path::PathBuf;

use super::Node;
use super::policy::{Allowed, Policy, PolicyError, Proved, Refusal};
use super::select::{SelectError, Several, select};
use super::store::{Artefact, Failure, Moment, Record, Store, StoreError};
use super::transaction::{Options, Transaction, VerbError};
use crate::extension::ExtensionKind;
use crate::verification::Progress;

/// What was found out about one artefact.
#[derive(Debug)]
pub struct Verified {
    /// As it was before.
    pub artefact: Artefact,
    /// What vouches for it, or why nothing does.
    pub outcome: Result<Proved, Refusal>,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not known what the node lets in.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There is no such artefact.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The store could not be read, or the outcome not be noted.
    #[error(transparent)]
    Verb(#[from] VerbError),
}

impl From<StoreError> for VerifyError {
    fn from(error: StoreError) -> VerifyError {
        VerifyError::Verb(error.into())
    }
}

/// Proves artefacts, all of them if none is named, and notes the outcome where the user may do so. What
/// was let in unsigned needs no signature, unless the node demands one by now.
///
/// # Errors
/// [`VerifyError`]. An artefact that is not proved is no error.
pub fn verify(
    node: &Node,
    kind: ExtensionKind,
    names: &[String],
    certificates: &[PathBuf],
    options: Options<'_>,
    progress: &dyn Fn(&Artefact) -> Box<dyn Progress>,
) -> Result<Vec<Verified>, VerifyError> {
    let policy = Policy::load(node, certificates)?;
    let store = Store::new(node.layout.clone(), kind);
    let view = store.view()?;
    let all: Vec<&Artefact> = view.artefacts.iter().collect();
    let mut wanted = Vec::new();
    for name in names {
        wanted.extend(select(name, kind, &all, Several::All)?);
    }
    if names.is_empty() {
        wanted = all;
    }
    wanted.sort_by_key(|artefact| &artefact.file);
    wanted.dedup_by_key(|artefact| &artefact.file);
    let prove = |artefact: &Artefact| {
        let path = store.path().join(artefact.file.file());
        let allowed = allowed(&policy, artefact);
        let progress = progress(artefact);
        policy.prove(&path, &artefact.file, kind, allowed, &*progress)
    };
    let verified: Vec<Verified> = wanted
        .into_iter()
        .map(|artefact| Verified {
            artefact: artefact.clone(),
            outcome: prove(artefact),
        })
        .collect();
    if !options.dry_run && store.may_change().is_ok() && !verified.is_empty() {
        note(node, kind, &verified, options)?;
    }
    Ok(verified)
}

fn allowed(policy: &Policy, artefact: &Artefact) -> Allowed {
    let was_let_in = artefact
        .record
        .as_ref()
        .is_some_and(Record::allows_unsigned);
    Allowed {
        unsigned: was_let_in && !policy.requires_signatures(),
        skip: false,
    }
}

/// Notes what was found out about every file that is still the same.
fn note(
    node: &Node,
    kind: ExtensionKind,
    verified: &[Verified],
    options: Options<'_>,
) -> Result<(), VerbError> {
    let transaction = Transaction::begin(node, kind, options)?;
    let mut change = transaction.no_change();
    for Verified { artefact, outcome } in verified {
        let file = artefact.file.file();
        let now = transaction.view().artefact(file);
        if now.is_none_or(|now| now.identity != artefact.identity) {
            continue;
        }
        let record = match (outcome, &artefact.record) {
            (Ok(proved), known) => Some(record(artefact, proved, known.as_ref())),
            // Nothing was found out.
            (Err(Refusal::Read { .. }), _) => None,
            (Err(refusal), Some(known)) => Some(Record {
                failed: Some(Failure {
                    found: Moment::now(),
                    reason: refusal.to_string(),
                }),
                ..known.clone()
            }),
            (Err(_), None) => None,
        };
        if let Some(record) = record {
            change.records.artefacts.insert(file.to_owned(), record);
        }
    }
    transaction.finish(&change, &[])?;
    Ok(())
}

fn record(artefact: &Artefact, proved: &Proved, known: Option<&Record>) -> Record {
    let version = known.and_then(|record| record.version.clone());
    Record {
        name: proved.name.clone(),
        version: version.or_else(|| proved.version.clone()),
        file: artefact.identity,
        digest: proved.digest,
        root_hash: proved.root_hash,
        source: known.map_or_else(String::new, |record| record.source.clone()),
        installed: known.map_or_else(Moment::now, |record| record.installed),
        proof: proved.proof.clone(),
        restart_units: proved.restart_units.clone(),
        reload_or_restart_units: proved.reload_or_restart_units.clone(),
        declared_by: known.and_then(|record| record.declared_by.clone()),
        failed: None,
    }
}
