//! `status`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use sysgraft::node::select::{Several, select};
use sysgraft::node::status::{ArtefactStatus, Status, status};
use sysgraft::node::store::{Failure, Proof};
use sysgraft::printable::printable;
use sysgraft::read_at::read_file;
use sysgraft::terminal::text::{self, STDOUT_FAILED, log};

use crate::context::Context;
use crate::{list, output};

/// Arguments of `status`.
#[derive(Args)]
#[command(after_help = "\
Example:
  sysgraft-agent sysext status k3s

Needs no root. Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct Arguments {
    /// Which extension [default: all that are stored]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Shows everything about what is stored.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let failed = || format!("failed examining {} extensions", context.adjective());
    let mut status = status(&context.node, context.kind).with_context(failed)?;
    if let Some(name) = &arguments.name {
        let all: Vec<_> = status
            .artefacts
            .iter()
            .map(|entry| &entry.artefact)
            .collect();
        let selected = select(name, context.kind, &all, Several::All).with_context(failed)?;
        let files: Vec<_> = selected
            .iter()
            .map(|artefact| artefact.file.clone())
            .collect();
        status
            .artefacts
            .retain(|entry| files.contains(&entry.artefact.file));
        // The rest is about others.
        status.dangling.clear();
        status.passed_over.clear();
        status.trial = status.trial.filter(|trial| {
            status
                .artefacts
                .iter()
                .any(|entry| *entry.name() == trial.name)
        });
    }
    let left_out = left_out(context);
    if arguments.json {
        output::json(&facts(&status, &left_out))?;
    } else {
        print(context, &status, &left_out).context(STDOUT_FAILED)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(status: &Status, left_out: &[LeftOut]) -> Value {
    let entry = |entry: &ArtefactStatus| {
        let mut facts = list::facts(entry);
        let reason = reason(entry, left_out);
        if let Some(object) = facts.as_object_mut() {
            object.insert("leftOutAtBoot".to_owned(), reason.into());
        }
        facts
    };
    let dangling = status
        .dangling
        .iter()
        .map(|link| json!({"profile": link.profile, "link": link.link, "target": link.target}));
    let passed_over = status
        .passed_over
        .iter()
        .map(|entry| json!({"path": entry.path.to_string_lossy(), "reason": entry.reason}));
    json!({
        "artefacts": status.artefacts.iter().map(entry).collect::<Value>(),
        "dangling": dangling.collect::<Value>(),
        "passedOver": passed_over.collect::<Value>(),
        "unfinishedUpgrade": status.trial,
    })
}

fn print(context: &Context, status: &Status, left_out: &[LeftOut]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if status.artefacts.is_empty() {
        log(&format!("No {} extensions found", context.adjective()));
    }
    for entry in &status.artefacts {
        details(&mut out, entry, reason(entry, left_out))?;
    }
    if let Some(trial) = &status.trial {
        let name = &trial.name;
        writeln!(
            out,
            "! an upgrade of {name} was not found good yet; if none is running, the next one or a boot goes back to what was enabled before"
        )?;
    }
    for link in &status.dangling {
        let (profile, name) = (link.profile, printable(link.link.as_bytes()));
        writeln!(out, "! {profile}/{name} leads to no extension in the store")?;
    }
    for entry in &status.passed_over {
        let path = printable(entry.path.as_os_str().as_encoded_bytes());
        writeln!(
            out,
            "! {path} is passed over: {}",
            printable(entry.reason.as_bytes())
        )?;
    }
    out.flush()
}

fn details(out: &mut dyn Write, entry: &ArtefactStatus, reason: Option<&str>) -> io::Result<()> {
    let artefact = &entry.artefact;
    writeln!(
        out,
        "{}  {}",
        artefact.file,
        text::size(artefact.identity.size)
    )?;
    let mut line =
        |what: &str, value: &str| writeln!(out, "  {what:<11}{}", printable(value.as_bytes()));
    line("name", entry.name().as_str())?;
    if let Some(version) = artefact.version() {
        line("version", version.as_str())?;
    }
    line("enabled in", &list::profiles(&entry.profiles))?;
    line("merged", if entry.is_merged { "yes" } else { "no" })?;
    if let Some(reason) = reason {
        line("left out", reason)?;
    }
    let Some(record) = &artefact.record else {
        return line(
            "verified",
            match artefact.was_changed {
                true => "no: the file changed since it was proved; run `verify`",
                false => "never; run `verify`",
            },
        );
    };
    match &record.proof {
        Proof::Signed {
            signer,
            fingerprint,
            trusted_by,
            verified,
        } => {
            line("signed by", signer)?;
            line(
                "",
                &format!("sha256 {}, trusted by {trusted_by}", fingerprint.hex()),
            )?;
            line("verified", &text::moment(verified.0))?;
        }
        Proof::Unsigned { verified } => {
            line("signed by", "nobody")?;
            line("verified", &text::moment(verified.0))?;
        }
        Proof::Skipped => line("verified", "no; run `verify`")?,
    }
    if let Some(Failure { found, reason }) = &record.failed {
        let found = text::moment(found.0);
        line("failed", &format!("when verified {found}: {reason}"))?;
    }
    line("digest", &record.digest.to_string())?;
    if let Some(hash) = record.root_hash {
        line("root hash", &hash.to_string())?;
    }
    if !record.source.is_empty() {
        line("from", &record.source)?;
    }
    line("installed", &text::moment(record.installed.0))
}

/// What boot says of an extension that it did not link (`/run/sysgraft/boot.json`).
#[derive(Deserialize)]
struct LeftOut {
    kind: String,
    file: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BootReport {
    #[serde(default)]
    left_out: Vec<LeftOut>,
}

/// A report of real nodes has a few thousand bytes.
const MAX_REPORT: u64 = 16 << 20;

fn left_out(context: &Context) -> Vec<LeftOut> {
    let path = context.node.layout.run().join("boot.json");
    // Without a report there is nothing to tell.
    let report = read_file(&path, MAX_REPORT).ok();
    let report = report.and_then(|bytes| serde_json::from_slice::<BootReport>(&bytes).ok());
    let mut left_out = report.map(|report| report.left_out).unwrap_or_default();
    left_out.retain(|entry| entry.kind == context.kind.as_str());
    left_out
}

fn reason<'a>(entry: &ArtefactStatus, left_out: &'a [LeftOut]) -> Option<&'a str> {
    let mut found = left_out.iter();
    let found = found.find(|left_out| left_out.file == entry.artefact.file.file());
    found.map(|left_out| left_out.reason.as_str())
}
