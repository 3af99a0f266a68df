//! A report, for people and for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use sysgraft::image::{DdiError, GptError};
use sysgraft::printable::{printable, sentence};
use sysgraft::signature::trust::{Acceptance, Distrust};
use sysgraft::terminal::text;
use sysgraft::verification::{Check, Fault, Outcome, Report};

/// Everything that is shown, under the names that `--json` promises.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    path: String,
    /// Bytes.
    size: Option<u64>,
    proved: bool,
    root_hash: Option<String>,
    checks: Vec<CheckFacts>,
    /// Whoever made the signature by its own account; nothing but the check of the signature says
    /// whether that can be believed.
    claimed_signer: Option<String>,
    systemd: Option<VerdictFacts>,
    kernel: Option<VerdictFacts>,
    kind: Option<&'static str>,
    name: Option<String>,
    release: BTreeMap<String, String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckFacts {
    check: &'static str,
    /// `passed`, `failed`, `notAsked`, or `impossible` because another one failed.
    outcome: &'static str,
    problem: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerdictFacts {
    accepted: bool,
    /// Subject of the signer's certificate.
    signer: Option<String>,
    /// SHA-256 of the signer's certificate.
    fingerprint: Option<String>,
    /// Where the trusted certificate is from.
    trusted_by: Option<String>,
    problem: Option<String>,
}

impl Facts {
    /// What `report` says.
    pub fn of(report: &Report) -> Facts {
        let verdict = report.verdict.as_ref();
        let release = report.release.as_ref();
        Facts {
            path: report.path.display().to_string(),
            size: report.size,
            proved: report.is_proved(),
            root_hash: report.root_hash.map(|hash| hash.to_string()),
            checks: report
                .outcomes()
                .iter()
                .map(|(check, outcome)| CheckFacts::of(*check, outcome))
                .collect(),
            claimed_signer: report
                .claimed_signer
                .as_ref()
                .map(|signer| signer.subject()),
            systemd: verdict.map(|verdict| VerdictFacts::of(&verdict.systemd)),
            kernel: verdict.map(|verdict| VerdictFacts::of(&verdict.kernel)),
            kind: release.map(|found| found.kind.as_str()),
            name: release.map(|found| found.image_name.clone()),
            release: release
                .map(|found| {
                    let fields = found.release.fields();
                    fields
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .collect()
                })
                .unwrap_or_default(),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl CheckFacts {
    fn of(check: Check, outcome: &Outcome) -> CheckFacts {
        let (outcome, problem) = match outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(fault) => ("failed", Some(printable(sentence(fault).as_bytes()))),
            Outcome::NotAsked => ("notAsked", None),
            Outcome::Impossible => ("impossible", None),
        };
        CheckFacts {
            check: match check {
                Check::PartitionTable => "partitionTable",
                Check::Partitions => "partitions",
                Check::RootHash => "rootHash",
                Check::Signature => "signature",
                Check::Blocks => "blocks",
                Check::Release => "release",
                Check::Host => "host",
            },
            outcome,
            problem,
        }
    }
}

impl VerdictFacts {
    fn of(verdict: &Result<Acceptance, Distrust>) -> VerdictFacts {
        let accepted = verdict.as_ref().ok();
        VerdictFacts {
            accepted: accepted.is_some(),
            signer: accepted.map(|acceptance| acceptance.signer.subject()),
            fingerprint: accepted.map(|acceptance| acceptance.signer.fingerprint().hex()),
            trusted_by: accepted.map(|acceptance| acceptance.anchor.origin.to_string()),
            problem: verdict.as_ref().err().map(ToString::to_string),
        }
    }
}

/// A line for each check, warnings, and what follows from it.
pub fn table(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let path = printable(report.path.as_os_str().as_encoded_bytes());
    match report.size {
        Some(size) => writeln!(out, "{path}  {}", text::size(size))?,
        None => writeln!(out, "{path}")?,
    }
    for (check, outcome) in report.outcomes() {
        let (mark, words) = match outcome {
            Outcome::Passed => ('✓', finding(*check, report)),
            Outcome::Failed(fault) => ('✗', printable(sentence(fault).as_bytes())),
            Outcome::NotAsked => ('–', not_asked(*check).to_owned()),
            Outcome::Impossible => ('–', "not checked, because of what failed".to_owned()),
        };
        writeln!(out, "  {mark} {:<17}{words}", check.to_string())?;
    }
    for warning in &report.warnings {
        writeln!(out, "  ! {warning}")?;
    }
    writeln!(out, "{}", conclusion(report))
}

/// What was found where a check holds.
fn finding(check: Check, report: &Report) -> String {
    match check {
        Check::PartitionTable => "both copies are intact and equal".to_owned(),
        Check::Partitions => "one data partition, and what belongs to it".to_owned(),
        Check::RootHash => report
            .root_hash
            .map_or_else(String::new, |hash| hash.to_string()),
        Check::Signature => signed_by(report),
        Check::Blocks => {
            let bytes = report.data_bytes.unwrap_or_default();
            format!("all {} of data are intact", text::size(bytes))
        }
        Check::Release => report.release.as_ref().map_or_else(String::new, |found| {
            format!(
                "{} {}, by extension-release.{}",
                found.kind, found.image_name, found.name
            )
        }),
        Check::Host => "systemd would merge it there".to_owned(),
    }
}

fn signed_by(report: &Report) -> String {
    let Some(verdict) = &report.verdict else {
        return String::new();
    };
    let (acceptance, takers) = match (&verdict.systemd, &verdict.kernel) {
        (Ok(acceptance), Ok(_)) => (acceptance, "systemd and the kernel take it"),
        (Ok(acceptance), Err(_)) => (acceptance, "systemd takes it"),
        (Err(_), Ok(acceptance)) => (acceptance, "the kernel takes it"),
        (Err(_), Err(_)) => return String::new(),
    };
    let Acceptance { signer, anchor } = acceptance;
    let signer = if signer.der() == anchor.certificate.der() {
        anchor.to_string()
    } else {
        format!("{}, issued under {anchor}", signer.subject())
    };
    format!("by {signer}; {takers}")
}

fn not_asked(check: Check) -> &'static str {
    match check {
        Check::Signature => "not judged (--ignore-signature)",
        Check::Host => "not asked for (--os-release)",
        _ => "not asked for",
    }
}

/// What follows from all checks, in one sentence.
fn conclusion(report: &Report) -> String {
    let failed = |check| matches!(report.outcome(check), Outcome::Failed(_));
    let damaged = [
        Check::PartitionTable,
        Check::Partitions,
        Check::RootHash,
        Check::Blocks,
    ];
    if report.is_proved() {
        let verdict = report.verdict.as_ref();
        return match verdict.and_then(|verdict| verdict.signer()) {
            Some(signer) => format!("proved: every block is as {} signed it", signer.subject()),
            None => "intact; its signature was not judged".to_owned(),
        };
    }
    let unreadable = matches!(
        report.outcome(Check::PartitionTable),
        Outcome::Failed(Fault::Image(
            DdiError::Read { .. }
                | DdiError::Gpt {
                    source: GptError::Read(_),
                    ..
                }
        ))
    );
    let why = if unreadable {
        "it could not be read"
    } else if damaged.into_iter().any(failed) {
        "it is damaged"
    } else {
        match report.outcome(Check::Signature) {
            Outcome::Failed(Fault::NotJudged) => {
                "it is intact, but its signature was not judged; say whom to trust with --certificate or \
                 --trust, or ask for no judgement with --ignore-signature"
            }
            Outcome::Failed(Fault::AwaitsSignature) => "it is intact, but not signed yet",
            Outcome::Failed(_) => "it is intact, but nobody who is trusted vouches for it",
            _ => "it is intact, but not fit for use",
        }
    };
    format!("NOT PROVED: {why}")
}
