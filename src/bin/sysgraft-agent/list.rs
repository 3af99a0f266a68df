//! `list`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use sysgraft::node::profile::Profile;
use sysgraft::node::status::{ArtefactStatus, status};
use sysgraft::node::store::Proof;
use sysgraft::printable::printable;
use sysgraft::terminal::Table;
use sysgraft::terminal::text::{self, STDOUT_FAILED, log};

use crate::context::Context;
use crate::output;
use crate::profiles::ProfileArguments;

/// Arguments of `list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent sysext list
  sysgraft-agent sysext list --active    (a boot state, on Kairos)

Needs no root. Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct Arguments {
    #[command(flatten)]
    profiles: ProfileArguments,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Lists what is stored, or what a profile links.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let profile = arguments.profiles.optional();
    let mut status = status(&context.node, context.kind)
        .with_context(|| format!("failed listing {} extensions", context.adjective()))?;
    status
        .artefacts
        .retain(|entry| profile.is_none_or(|profile| entry.profiles.contains(&profile)));
    if arguments.json {
        let entries = status.artefacts.iter().map(facts);
        output::json(&Value::Array(entries.collect()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if status.artefacts.is_empty() {
        log(&format!("No {} extensions found", context.adjective()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new([
        "NAME",
        "VERSION",
        "SIZE",
        "PROFILES",
        "MERGED",
        "SIGNED BY",
        "VERIFIED",
    ]);
    for entry in &status.artefacts {
        let (signed_by, verified) = vouched(entry);
        table.add([
            entry.name().to_string(),
            entry.artefact.version().map_or("-".to_owned(), |version| {
                printable(version.as_str().as_bytes())
            }),
            text::size(entry.artefact.identity.size),
            profiles(&entry.profiles),
            if entry.is_merged { "yes" } else { "no" }.to_owned(),
            signed_by,
            verified,
        ]);
    }
    table.print().context(STDOUT_FAILED)?;
    Ok(ExitCode::SUCCESS)
}

/// What programs are told of an artefact.
pub fn facts(entry: &ArtefactStatus) -> Value {
    let record = entry.artefact.record.as_ref();
    json!({
        "file": entry.artefact.file.file(),
        "name": entry.name().as_str(),
        "version": entry.artefact.version().map(ToString::to_string),
        "size": entry.artefact.identity.size,
        "profiles": entry.profiles,
        "merged": entry.is_merged,
        "proof": record.map(|record| &record.proof),
        "failed": record.and_then(|record| record.failed.as_ref()),
        "changedSinceProved": entry.artefact.was_changed,
        "digest": record.map(|record| record.digest.to_string()),
        "rootHash": record.and_then(|record| record.root_hash).map(|hash| hash.to_string()),
        "source": record.map(|record| &record.source),
        "installed": record.map(|record| record.installed),
    })
}

/// The names of profiles, for people.
pub fn profiles(profiles: &[Profile]) -> String {
    let names: Vec<&str> = profiles.iter().map(|profile| profile.as_str()).collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(",")
    }
}

/// Who signed an artefact, and when that was found out.
fn vouched(entry: &ArtefactStatus) -> (String, String) {
    let at = |seconds: u64| text::moment(seconds);
    let record = entry.artefact.record.as_ref();
    if record.is_some_and(|record| record.failed.is_some()) {
        return ("-".to_owned(), "failed".to_owned());
    }
    match record.map(|record| &record.proof) {
        Some(Proof::Signed {
            signer, verified, ..
        }) => (printable(signer.as_bytes()), at(verified.0)),
        Some(Proof::Unsigned { verified }) => ("nobody".to_owned(), at(verified.0)),
        Some(Proof::Skipped) => ("-".to_owned(), "never".to_owned()),
        None if entry.artefact.was_changed => ("-".to_owned(), "changed since".to_owned()),
        None => ("-".to_owned(), "never".to_owned()),
    }
}
