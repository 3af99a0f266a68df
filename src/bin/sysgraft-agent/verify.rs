//! `verify`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use sysgraft::node::store::Proof;
use sysgraft::node::transaction::Options;
use sysgraft::node::verify::{self, Verified};
use sysgraft::printable::printable;
use sysgraft::terminal::text::{STDOUT_FAILED, log};

use crate::context::Context;
use crate::output;
use crate::progress::Reporter;

/// At least one extension is not proved.
const NOT_PROVED: u8 = 3;

/// Arguments of `verify`.
#[derive(Args)]
#[command(after_help = "\
Example:
  sysgraft-agent sysext verify k3s

Reads every block, and notes the outcome for list and status if run as root. What was installed with
--allow-unsigned has to be intact; everything else has to be signed by somebody trusted as well.

Exit codes: 0 everything is proved, 1 failed, 2 wrong usage, 3 something is not proved.")]
pub struct Arguments {
    /// Which extensions [default: all that are stored]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Trust the certificate in this file as well
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Note nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Proves what is stored.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let notify = |message: &str| context.debug(message);
    let options = Options {
        now: false,
        dry_run: arguments.dry_run,
        notify: &notify,
    };
    let verified = verify::verify(
        &context.node,
        context.kind,
        &arguments.names,
        &arguments.certificate,
        options,
        &|_| Box::new(Reporter::default()),
    )
    .with_context(|| format!("failed verifying {} extensions", context.adjective()))?;
    if arguments.json {
        output::json(&verified.iter().map(facts).collect::<Value>())?;
    } else {
        if verified.is_empty() {
            log(&format!("No {} extensions found", context.adjective()));
        }
        let mut out = io::stdout().lock();
        for entry in &verified {
            writeln!(out, "{}", sentence(entry)).context(STDOUT_FAILED)?;
        }
    }
    match verified.iter().all(|entry| entry.outcome.is_ok()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(NOT_PROVED)),
    }
}

fn facts(entry: &Verified) -> Value {
    let proved = entry.outcome.as_ref().ok();
    json!({
        "file": entry.artefact.file.file(),
        "proved": proved.is_some(),
        "proof": proved.map(|proved| &proved.proof),
        "warnings": proved.map(|proved| &proved.warnings),
        "problem": entry.outcome.as_ref().err().map(ToString::to_string),
    })
}

fn sentence(entry: &Verified) -> String {
    let file = &entry.artefact.file;
    match entry.outcome.as_ref().map(|proved| &proved.proof) {
        Ok(Proof::Signed { signer, .. }) => {
            format!(
                "✓ {file}: every block is as {} signed it",
                printable(signer.as_bytes())
            )
        }
        Ok(Proof::Unsigned { .. } | Proof::Skipped) => {
            format!("✓ {file}: intact, but nobody vouches for it (allowed when it was installed)")
        }
        Err(refusal) => format!("✗ {}", printable(refusal.to_string().as_bytes())),
    }
}
