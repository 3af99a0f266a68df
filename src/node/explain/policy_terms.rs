//! What an image policy says of an image, term by term (systemd.image-policy(7)).

use super::image::Form;
use super::{Condition, Question};
use crate::image::Designator;
use crate::node::host::SystemdVersion;

/// Flags that let a partition be used.
const USES: [&str; 5] = [
    "verity",
    "signed",
    "encrypted",
    "encryptedwithintegrity",
    "unprotected",
];
/// The last that goes by which partitions there are, and then does without a hash tree that nobody
/// signed.
const BY_PRESENCE: SystemdVersion = SystemdVersion(257);

/// What is said of one kind of partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term<'a> {
    /// `root=verity+signed`.
    pub text: &'a str,
    flags: Vec<&'a str>,
}

impl Term<'_> {
    /// Whether a partition that is protected so may be used.
    pub fn allows(&self, protection: &str) -> bool {
        self.flags.iter().any(|&flag| {
            flag == protection
                || matches!(flag, "*" | "open")
                // A signed image has a hash tree, and may be used as if it had none.
                || (protection == "signed" && matches!(flag, "verity" | "unprotected"))
                || (protection == "verity" && flag == "unprotected")
        })
    }

    fn allows_absence(&self) -> bool {
        self.flags
            .iter()
            .any(|flag| matches!(*flag, "absent" | "*" | "open" | "-" | "ignore"))
    }

    /// Whether a partition is not looked at, and as if it were absent.
    fn ignores(&self) -> bool {
        let used = |flag: &&str| USES.contains(flag) || matches!(*flag, "*" | "open");
        !self.flags.iter().any(used)
            && self
                .flags
                .iter()
                .any(|flag| matches!(*flag, "unused" | "-" | "ignore"))
    }

    /// Whether its partition must be signed.
    pub fn wants_signature(&self) -> bool {
        !self.allows("verity")
    }
}

/// The terms of a policy. What it does not name it ignores, unless it has a default.
pub fn term<'a>(policy: &'a str, designator: &str) -> Term<'a> {
    let parts = || {
        policy
            .split(':')
            .filter_map(|part| Some((part, part.split_once('=')?)))
    };
    let named = parts().find(|(_, (name, _))| *name == designator);
    let default = parts().find(|(_, (name, _))| name.is_empty());
    match named.or(default) {
        Some((text, (_, flags))) => Term {
            text,
            flags: flags.split('+').collect(),
        },
        None if matches!(policy, "*" | "-" | "~") => Term {
            text: policy,
            flags: vec![policy],
        },
        None => Term {
            text: "=ignore",
            flags: vec!["ignore"],
        },
    }
}

impl Question<'_> {
    pub(super) fn look_at_policy(&self, conditions: &mut Vec<Condition>) {
        let Some(policy) = &self.settings.policy else {
            let remark = format!("{} takes none, and lets in anything", self.systemd);
            return conditions.push(Condition::new("image policy").doubtful(remark));
        };
        let origin = match &policy.origin {
            Some(path) => format!("by {}", path.display()),
            None => "systemd's default".to_owned(),
        };
        let condition = Condition::new("image policy").demands(&policy.value);
        conditions.push(condition.remarked(origin));
        let Some(used) = self.image.designator() else {
            return;
        };
        let protection = self.image.protection();
        for (designator, subject) in [
            (Designator::Root, "policy for root"),
            (Designator::Usr, "policy for usr"),
        ] {
            let name = if designator == Designator::Root {
                "root"
            } else {
                "usr"
            };
            let term = term(&policy.value, name);
            let condition = Condition::new(subject).demands(term.text);
            conditions.push(if designator != used {
                let condition = condition.has("absent");
                if term.allows_absence() || term.ignores() {
                    condition
                } else {
                    condition.blocks("the policy wants such a partition")
                }
            } else {
                self.judge_partition(condition.has(protection), &term, protection)
            });
        }
    }

    /// What the policy says of the partition that there is.
    fn judge_partition(
        &self,
        condition: Condition,
        term: &Term<'_>,
        protection: &str,
    ) -> Condition {
        if !term.allows(protection) {
            return condition.blocks(format!(
                "the policy does not allow a partition that is {protection}"
            ));
        }
        let by_presence = self.systemd <= BY_PRESENCE;
        if self.image.designator() == Some(Designator::Usr)
            && by_presence
            && protection != "unprotected"
        {
            return condition.doubtful(format!(
                "{} merges usr partitions without looking at hash tree and signature",
                self.systemd
            ));
        }
        let used = term.allows(protection) && protection == "verity";
        if used && by_presence && matches!(self.image.form, Form::Image { .. }) {
            return condition.doubtful(format!(
                "{} lets it in but does not use its hash tree, as nobody signed it",
                self.systemd
            ));
        }
        condition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_allow_what_they_say() {
        for (policy, designator, allowed, refused) in [
            (
                "root=signed+absent:usr=absent",
                "root",
                vec!["signed"],
                vec!["verity", "unprotected"],
            ),
            (
                "root=signed+absent:usr=absent",
                "usr",
                vec![],
                vec!["signed", "verity", "unprotected"],
            ),
            (
                "root=verity+absent",
                "root",
                vec!["signed", "verity"],
                vec!["unprotected"],
            ),
            (
                "root=unprotected",
                "root",
                vec!["signed", "verity", "unprotected"],
                vec![],
            ),
            (
                "root=encrypted",
                "root",
                vec![],
                vec!["signed", "verity", "unprotected"],
            ),
            ("*", "root", vec!["signed", "verity", "unprotected"], vec![]),
            ("~", "root", vec![], vec!["signed", "verity", "unprotected"]),
            (
                "usr=signed:=open",
                "root",
                vec!["signed", "verity", "unprotected"],
                vec![],
            ),
            (
                "usr=signed",
                "root",
                vec![],
                vec!["signed", "verity", "unprotected"],
            ),
        ] {
            let term = term(policy, designator);
            assert!(allowed.iter().all(|it| term.allows(it)), "{policy}");
            assert!(!refused.iter().any(|it| term.allows(it)), "{policy}");
        }
        assert!(term("root=signed+absent:usr=absent", "usr").allows_absence());
        assert!(!term("root=signed", "root").allows_absence());
        assert!(term("root=signed", "usr").ignores());
    }
}
