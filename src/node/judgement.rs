//! Whether what is stored may be merged. Whoever lets a profile link an image asks first, and a boot
//! asks anew.

use std::path::{Path, PathBuf};

use super::Node;
use super::artefact::ArtefactName;
use super::policy::{Allowed, Policy, PolicyError, Recognised, Refusal};
use super::store::{Artefact, Proof, Record};
use crate::extension::ExtensionKind;

/// Why an artefact is not to be linked.
#[derive(Debug, thiserror::Error)]
pub enum JudgementError {
    /// It is not known what the node lets in.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It is not let in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody vouches for it, and nobody let it in.
    #[error(
        "{file} is not signed, and {}; sign it with `sysgraft sign`, or let it in with `sysgraft-agent {kind} install --allow-unsigned {}`",
        if *was_changed { "it is not the file that was installed" } else { "nobody let it in" },
        path.display()
    )]
    NotLetIn {
        /// The artefact.
        file: String,
        /// What it extends.
        kind: ExtensionKind,
        /// Where it lies.
        path: PathBuf,
        /// Whether another file of that name was let in.
        was_changed: bool,
    },
    /// Somebody looked, and something was wrong.
    #[error(
        "{file} was not proved when it was verified last ({reason}); mend that, and run `sysgraft-agent {kind} verify {file}`"
    )]
    Failed {
        /// The artefact.
        file: String,
        /// What it extends.
        kind: ExtensionKind,
        /// What was wrong, in one sentence.
        reason: String,
    },
}

/// Judges the artefacts of one kind.
pub(super) struct Judge<'a> {
    node: &'a Node,
    kind: ExtensionKind,
    policy: Policy,
}

impl<'a> Judge<'a> {
    /// Reads what the node lets in.
    pub(super) fn load(
        node: &'a Node,
        kind: ExtensionKind,
    ) -> Result<Judge<'a>, Box<JudgementError>> {
        let policy = Policy::load(node, &[]).map_err(JudgementError::Policy)?;
        Ok(Judge { node, kind, policy })
    }

    /// Passes if an artefact was proved and what vouches for it counts still, or else if it would be
    /// linked at boot.
    pub(super) fn judge(&self, artefact: &Artefact) -> Result<(), Box<JudgementError>> {
        self.check(artefact).map_err(Box::new)
    }

    fn check(&self, artefact: &Artefact) -> Result<(), JudgementError> {
        let Judge { node, kind, policy } = self;
        let record = artefact.record.as_ref();
        if let Some(failure) = record.and_then(|record| record.failed.as_ref()) {
            return Err(JudgementError::Failed {
                file: artefact.file.to_string(),
                kind: *kind,
                reason: failure.reason.clone(),
            });
        }
        if record.is_some_and(|record| satisfies(record, policy)) {
            return Ok(());
        }
        let path = node.layout.store(*kind).join(artefact.file.file());
        match recognise(policy, &path, &artefact.file, *kind, record) {
            Ok(_) => Ok(()),
            Err(Refusal::Unsigned { file }) => Err(JudgementError::NotLetIn {
                file,
                kind: *kind,
                path,
                was_changed: artefact.was_changed,
            }),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// Whether what vouches for an artefact does so still.
fn satisfies(record: &Record, policy: &Policy) -> bool {
    match &record.proof {
        Proof::Signed { fingerprint, .. } => {
            let trusted = policy.trust().certificates();
            trusted
                .iter()
                .any(|trusted| trusted.certificate.fingerprint() == *fingerprint)
        }
        Proof::Unsigned { .. } | Proof::Skipped => !policy.requires_signatures(),
    }
}

/// Looks at an image as systemd will. What `record` notes of this very file says whether it may be
/// unsigned, where the node does not require signatures.
///
/// # Errors
/// Why it is not to be merged.
pub(super) fn recognise(
    policy: &Policy,
    path: &Path,
    file: &ArtefactName,
    kind: ExtensionKind,
    record: Option<&Record>,
) -> Result<Recognised, Refusal> {
    let let_in = record.is_some_and(Record::allows_unsigned);
    let allowed = Allowed {
        unsigned: let_in && !policy.requires_signatures(),
        skip: false,
    };
    policy.prove_quickly(path, file, kind, allowed)
}
