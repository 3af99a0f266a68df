//! Hash tree, signature and kernel.

use super::image::Form;
use super::policy_terms::term;
use super::{Condition, Question};
use crate::image::{Designator, Role};
use crate::node::host::SystemdVersion;
use crate::signature::trust::{Acceptance, Distrust};
use crate::verification::{Check, Fault, Outcome, Report};

/// The first that uses the hash tree alone, if the policy allows that, where nobody trusts the
/// signature.
const FALLS_BACK: SystemdVersion = SystemdVersion(259);
/// The first that uses a hash tree that nobody signed.
const USES_UNSIGNED: SystemdVersion = SystemdVersion(258);

impl Question<'_> {
    pub(super) fn look_at_protection(&self, conditions: &mut Vec<Condition>) {
        let Form::Image { ddi, report } = &self.image.form else {
            return;
        };
        let signed = ddi.partition(Role::Signature).is_some();
        conditions.push(self.hash_tree(report, signed));
        conditions.push(self.signature(report, signed));
    }

    fn hash_tree(&self, report: &Report, signed: bool) -> Condition {
        let condition = Condition::new("hash tree");
        let used = signed || self.systemd >= USES_UNSIGNED;
        let condition = match report.root_hash {
            Some(hash) => condition.has(format!("root hash {hash}")),
            None => {
                return condition.skipped("there is none, so nothing shows whether it is intact");
            }
        };
        let fault = [Check::RootHash, Check::Blocks, Check::Release]
            .into_iter()
            .find_map(|check| match report.outcome(check) {
                Outcome::Failed(fault) if check != Check::Release || is_damage(fault) => {
                    Some(fault)
                }
                _ => None,
            });
        match fault {
            Some(fault) if used => condition.blocks(self.named(fault)),
            Some(fault) => condition.doubtful(self.named(fault)),
            None => condition.remarked(
                "what systemd looks at first is intact; `sysgraft-agent verify` reads everything",
            ),
        }
    }

    fn signature(&self, report: &Report, signed: bool) -> Condition {
        let condition = Condition::new("signature");
        if !signed {
            return condition.skipped("it is not signed, so nobody vouches for it");
        }
        let certificates = self.policy.trust().certificates().len();
        let condition = condition.demands(match certificates {
            1 => "1 trusted certificate".to_owned(),
            number => format!("{number} trusted certificates"),
        });
        let condition = match &report.claimed_signer {
            Some(signer) => condition.has(format!("by {}", signer.subject())),
            None => condition,
        };
        if let Outcome::Failed(fault @ (Fault::AwaitsSignature | Fault::Image(_))) =
            report.outcome(Check::Signature)
        {
            return condition.blocks(self.named(fault));
        }
        let problem = match self.accepted(report) {
            Ok(acceptance) => {
                return condition.remarked(format!("trusted by {}", acceptance.anchor));
            }
            Err(problem) => problem,
        };
        let policy = self.settings.policy.as_ref();
        let falls_back = policy.is_none_or(|policy| !term(&policy.value, "root").wants_signature());
        let usr = self.image.designator() == Some(Designator::Usr);
        if usr && self.systemd < USES_UNSIGNED {
            condition.doubtful(format!("{problem}; {} does not look", self.systemd))
        } else if falls_back && self.systemd >= FALLS_BACK {
            condition.doubtful(format!(
                "{problem}; the policy lets {} do without a signature",
                self.systemd
            ))
        } else {
            condition.blocks(problem)
        }
    }

    /// Why the signature counts, for whom it has to, or why it does not.
    fn accepted<'r>(&self, report: &'r Report) -> Result<&'r Acceptance, String> {
        let nobody = || Distrust::NothingTrusted.to_string();
        let verdict = report.verdict.as_ref().ok_or_else(nobody)?;
        let mut problem = None;
        for verifier in self.policy.verifiers() {
            match verdict.of(*verifier) {
                Ok(acceptance) => return Ok(acceptance),
                Err(distrust) => problem = Some(distrust.to_string()),
            }
        }
        Err(problem.unwrap_or_else(nobody))
    }

    /// Whether the kernel can mount it.
    pub(super) fn look_at_file_system(&self, conditions: &mut Vec<Condition>) {
        let kernel = self.policy.kernel();
        let condition = Condition::new("file system").demands(kernel);
        let file_system = match &self.image.file_system {
            Ok(file_system) => file_system,
            Err(problem) if self.image.designator().is_some() => {
                // systemd takes others than EROFS too, which this program does not read.
                return conditions.push(condition.doubtful(problem));
            }
            Err(_) => return,
        };
        let superblock = file_system.superblock();
        let algorithms: Vec<String> = superblock
            .algorithms
            .iter()
            .map(ToString::to_string)
            .collect();
        let packed = match algorithms.as_slice() {
            [] => "not compressed".to_owned(),
            algorithms => algorithms.join(", "),
        };
        let condition = condition.has(format!(
            "EROFS, {packed}, for Linux {}",
            superblock.minimum_kernel()
        ));
        conditions.push(match kernel.obstacle(superblock) {
            Some(obstacle) => condition.blocks(obstacle.to_string()),
            None if kernel.version().is_none() && kernel.features.is_none() => {
                condition.doubtful("it is not known which kernel the node has")
            }
            None => condition,
        });
    }
}

/// Whether a release file could not be read because of damage.
fn is_damage(fault: &Fault) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(fault);
    while let Some(error) = cause {
        if error.to_string().contains("damaged") {
            return true;
        }
        cause = error.source();
    }
    false
}
