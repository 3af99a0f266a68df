//! What was found, and what is made of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Code, Severity};
use crate::layer::EntryPath;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Where, with a leading slash; what is unprintable is escaped.
    pub path: String,
    /// What is so there.
    pub message: String,
    /// How to mend it.
    pub advice: &'static str,
}

/// So many findings of a code are kept; the rest is counted.
const MAX_OF_A_CODE: u64 = 1000;

/// All that was found.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: BTreeMap<Code, u64>,
}

impl Findings {
    /// The findings, the worst first, then by code and path; at most 1000 of a code.
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many there are of each code that was found.
    pub fn counts(&self) -> &BTreeMap<Code, u64> {
        &self.counts
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> u64 {
        let of_it = self
            .counts
            .iter()
            .filter(|(code, _)| code.severity() == severity);
        of_it.map(|(_, count)| count).sum()
    }

    pub(super) fn add(&mut self, code: Code, path: &EntryPath, message: impl Into<String>) {
        let count = self.counts.entry(code).or_default();
        *count += 1;
        if *count <= MAX_OF_A_CODE {
            self.kept.push(Finding {
                code,
                severity: code.severity(),
                path: path.to_string(),
                message: message.into(),
                advice: code.rule().mend,
            });
        }
    }

    /// Takes out what is allowed, and brings the rest into order.
    pub(super) fn settle(mut self, policy: &Policy) -> Findings {
        self.counts.retain(|code, _| !policy.allowed.contains(code));
        self.kept
            .retain(|finding| !policy.allowed.contains(&finding.code));
        let key = |finding: &Finding| (std::cmp::Reverse(finding.severity), finding.code);
        self.kept
            .sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path)));
        self
    }
}

/// What may be found without harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Warnings count as errors.
    pub strict: bool,
    /// Codes that are passed over.
    pub allowed: BTreeSet<Code>,
}

impl Policy {
    /// How many of the findings must not be.
    pub fn objections(&self, findings: &Findings) -> u64 {
        let warnings = match self.strict {
            true => findings.count(Severity::Warning),
            false => 0,
        };
        findings.count(Severity::Error) + warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(codes: &[(Code, u32)]) -> Findings {
        let mut findings = Findings::default();
        for &(code, count) in codes {
            for number in 0..count {
                let path = EntryPath::from_archive(format!("usr/{number}").as_bytes()).unwrap();
                findings.add(code, &path, "is so");
            }
        }
        findings
    }

    #[test]
    fn warnings_are_objections_to_the_strict_only_and_notes_to_nobody() {
        let findings = found(&[
            (Code::Setuid, 1),
            (Code::UsrLocal, 2),
            (Code::LinkConflict, 3),
        ]);
        let strict = Policy {
            strict: true,
            allowed: BTreeSet::new(),
        };
        assert_eq!(Policy::default().objections(&findings), 3);
        assert_eq!(strict.objections(&findings), 5);
    }

    #[test]
    fn what_is_allowed_is_gone_and_the_worst_comes_first() {
        let policy = Policy {
            strict: true,
            allowed: BTreeSet::from([Code::LinkConflict]),
        };
        let findings = found(&[
            (Code::Setuid, 1),
            (Code::LinkConflict, 3),
            (Code::UsrLocal, 2),
        ]);
        let findings = findings.settle(&policy);
        assert_eq!(policy.objections(&findings), 2);
        let codes: Vec<Code> = findings.kept().iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [Code::UsrLocal, Code::UsrLocal, Code::Setuid]);
    }

    #[test]
    fn memory_for_findings_is_bounded_but_all_are_counted() {
        let findings = found(&[(Code::ForeignOwner, 2500)]);
        assert_eq!(findings.kept().len(), 1000);
        assert_eq!(findings.count(Severity::Warning), 2500);
    }
}
