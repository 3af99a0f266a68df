//! Arguments of lint that building and `sysgraft lint` share, and what is said of findings in a build.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use sysgraft::build::{BuildError, Problem};
use sysgraft::lint::{Code, FilesError, Finding, Findings, Folder, Policy, Severity};
use sysgraft::terminal::text::{self, log};

/// What lint lets pass, and the host that it compares with.
#[derive(Args)]
pub struct LintArguments {
    /// Make warnings of lint errors, which stop a build
    #[arg(long)]
    strict: bool,
    /// Pass over findings of this code; can be given several times, or with commas (`sysgraft lint
    /// --explain all` lists the codes)
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    allow: Vec<Code>,
    /// Compare with the system in this folder, / for this one: what the extension would hide, and
    /// which libraries it would miss
    #[arg(long, value_name = "DIR")]
    host_root: Option<PathBuf>,
}

impl LintArguments {
    /// What may be found.
    pub fn policy(&self) -> Policy {
        Policy {
            strict: self.strict,
            allowed: self.allow.iter().copied().collect(),
        }
    }

    /// The host to compare with.
    pub fn open_host_root(&self) -> Result<Option<Folder>, FilesError> {
        let root = self.host_root.as_deref();
        root.map(Folder::open).transpose()
    }
}

/// Findings of a code that are named without being asked for.
pub const NAMED: usize = 5;

/// Findings that have one code, and how many there are altogether.
pub fn by_code(findings: &Findings) -> Vec<(Code, Vec<&Finding>, u64)> {
    let kept = findings.kept();
    let groups = kept.chunk_by(|a, b| a.code == b.code);
    groups
        .filter_map(|group| {
            let code = group.first()?.code;
            let total = findings.counts().get(&code).copied();
            Some((code, group.iter().collect(), total.unwrap_or_default()))
        })
        .collect()
}

/// Says on stderr what lint found and the policy let pass; notes only if they are wanted.
pub fn show(findings: &Findings, with_notes: bool) {
    for (code, found, total) in by_code(findings) {
        match code.severity() {
            Severity::Note if with_notes => log(&format!("   note: {}", line(code, &found, total))),
            Severity::Note => {}
            Severity::Warning => text::warning(&line(code, &found, total)),
            Severity::Error => text::error(&anyhow!(line(code, &found, total))),
        }
    }
}

/// Says on stderr what lint found, where that is why there is no image.
pub fn show_refused(error: &BuildError) {
    if let Problem::Refused { findings, .. } = &error.source {
        show(findings, false);
    }
}

fn line(code: Code, found: &[&Finding], total: u64) -> String {
    let named: Vec<String> = found
        .iter()
        .take(NAMED)
        .map(|finding| format!("{} {}", finding.path, finding.message))
        .collect();
    let rest = total.saturating_sub(named.len() as u64);
    let more = match rest {
        0 => String::new(),
        _ => format!("; and {rest} more"),
    };
    format!("{code}: {}{more}", named.join("; "))
}
