//! What became of a build: the image for the next program, what was kept and dropped for people.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sysgraft::build::Built;
use sysgraft::printable::printable;
use sysgraft::signature::Signer;
use sysgraft::source::{Image, Platform};
use sysgraft::terminal::text::{self, log};
use sysgraft::tree::{PathList, Report, UnusedRule};

use crate::report_file;

/// Paths that are named without being asked for.
const NAMED: usize = 5;

/// What is said of a finished image on stdout.
pub struct Made {
    facts: Value,
    lines: String,
    /// For `--report`.
    report: Value,
}

impl Made {
    /// The image's path and what identifies it.
    pub fn of(
        built: &Built,
        image: &Image,
        platform: &Platform,
        signer: Option<&dyn Signer>,
        report: Value,
    ) -> Made {
        let signed_by = signer.map(|signer| signer.certificate().subject());
        let facts = json!({
            "path": built.path,
            "size": built.size,
            "rootHash": built.root_hash.to_string(),
            "signedBy": signed_by,
            "signRequest": built.sign_request,
            "image": image.location,
            "imageDigest": image.digest.map(|digest| digest.to_string()),
            "platform": platform.to_string(),
            "kept": kept(&built.report),
            "dropped": built.report.dropped.total(),
            "findings": built.findings.kept(),
        });
        let signature = match (signed_by, &built.sign_request) {
            (Some(subject), _) => printable(subject.as_bytes()),
            (None, Some(request)) => format!("nobody yet; request  {}", request.display()),
            (None, None) => "nobody".to_owned(),
        };
        let lines = format!(
            "{}  {}\nroot hash  {}\nsigned by  {signature}",
            built.path.display(),
            text::size(built.size),
            built.root_hash
        );
        Made {
            facts,
            lines,
            report,
        }
    }
}

/// Prints what became of each image: words at once, JSON as one document at the end.
pub struct Results<'a> {
    as_json: bool,
    /// Where the report goes.
    report: Option<&'a Path>,
    /// Whether the documents are lists.
    are_several: bool,
    facts: Vec<Value>,
    reports: Vec<Value>,
}

impl<'a> Results<'a> {
    pub fn new(as_json: bool, report: Option<&'a Path>, are_several: bool) -> Results<'a> {
        Results {
            as_json,
            report,
            are_several,
            facts: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Another image is finished.
    pub fn add(&mut self, made: Made) -> Result<()> {
        self.facts.push(made.facts);
        self.reports.push(made.report);
        match self.as_json {
            true => Ok(()),
            false => writeln!(io::stdout().lock(), "{}", made.lines).context(text::STDOUT_FAILED),
        }
    }

    /// There will be no more.
    pub fn finish(self) -> Result<()> {
        let document = |mut facts: Vec<Value>| match self.are_several {
            true => Some(Value::Array(facts)),
            false => facts.pop(),
        };
        if let Some(path) = self.report
            && let Some(report) = document(self.reports)
        {
            report_file::write(path, &report)?;
        }
        if self.as_json
            && let Some(facts) = document(self.facts)
        {
            writeln!(io::stdout().lock(), "{facts:#}").context(text::STDOUT_FAILED)?;
        }
        Ok(())
    }
}

/// How much was kept, for programs.
pub fn kept(report: &Report) -> Value {
    let kept = &report.kept;
    json!({
        "files": kept.files,
        "directories": kept.directories,
        "symlinks": kept.symlinks,
        "others": kept.others,
        "bytes": kept.bytes,
    })
}

/// The argument that had no effect.
pub fn unused(rule: &UnusedRule) -> String {
    match rule {
        UnusedRule::Include(glob) => format!("--include {}", printable(glob.as_bytes())),
        UnusedRule::Exclude(glob) => format!("--exclude {}", printable(glob.as_bytes())),
        UnusedRule::Remap(from) => format!("--remap {from}=…"),
    }
}

/// Says on stderr what was kept and what was not, and warns of what may surprise the host.
pub fn report(report: &Report, every_path: bool) {
    let kept = &report.kept;
    log(&format!(
        "   kept {} files, {} directories, {} links, {} devices and pipes; {} of content",
        kept.files,
        kept.directories,
        kept.symlinks,
        kept.others,
        text::size(kept.bytes)
    ));
    let dropped = &report.dropped;
    let tops: Vec<String> = dropped
        .by_top()
        .iter()
        .map(|(top, count)| format!("/{} ({count})", printable(top)))
        .collect();
    if !tops.is_empty() {
        log(&format!(
            "   dropped {} entries: {}",
            dropped.total(),
            tops.join(", ")
        ));
    }
    for (cause, count) in dropped.by_cause() {
        log(&format!("     {count}: {cause}"));
    }
    let causes = dropped.by_cause().keys();
    for &cause in causes.filter(|cause| !cause.is_expected()) {
        let paths = dropped.named().iter().filter(|entry| entry.cause == cause);
        let paths: Vec<String> = paths
            .map(|entry| entry.path.to_string())
            .take(NAMED)
            .collect();
        let names = enumerate(&paths, dropped.count(cause));
        text::warning(&format!("dropped {names}: {cause}"));
    }
    if every_path {
        for entry in dropped.named() {
            log(&format!("   dropped {}: {}", entry.path, entry.cause));
        }
        let unnamed = dropped.total().saturating_sub(dropped.named().len() as u64);
        if unnamed > 0 {
            log(&format!("   dropped {unnamed} more"));
        }
    }
    for rule in &report.unused {
        let rule = unused(rule);
        text::warning(&format!(
            "{rule} had no effect: the chosen layers have nothing there that could be kept"
        ));
    }
    warn_of_powers(report);
}

/// Warns of what will act on the host with more rights than a plain file.
fn warn_of_powers(report: &Report) {
    let warn = |list: &PathList, what: &str| {
        if list.total() > 0 {
            let paths: Vec<String> = list
                .named()
                .iter()
                .take(NAMED)
                .map(ToString::to_string)
                .collect();
            text::warning(&format!("{} {what}", enumerate(&paths, list.total())));
        }
    };
    warn(
        &report.setuid,
        "run with the rights of their owner or group (setuid, setgid)",
    );
    warn(
        &report.capabilities,
        "run with capabilities (security.capability)",
    );
    warn(
        &report.stripped,
        "lost setuid, setgid or capabilities, for --owner gave them another owner",
    );
    warn(
        &report.devices,
        "are device nodes, which systemd mounts without effect (nodev)",
    );
    warn(
        &report.broken_links,
        "are symbolic links that lead elsewhere now, for --remap moved them or their targets",
    );
    if report.overlay_xattrs > 0 {
        text::warning(&format!(
            "took off {} trusted.overlay attributes, which would hide files of the host",
            report.overlay_xattrs
        ));
    }
    if report.unknown_xattrs > 0 {
        text::warning(&format!(
            "took off {} extended attributes of unknown kinds",
            report.unknown_xattrs
        ));
    }
}

fn enumerate(paths: &[String], total: u64) -> String {
    let rest = total.saturating_sub(paths.len() as u64);
    match rest {
        0 => paths.join(", "),
        _ => format!("{} and {rest} more", paths.join(", ")),
    }
}
