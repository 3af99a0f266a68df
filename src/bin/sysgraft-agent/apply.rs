//! `apply`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use sysgraft::node::apply::{self, Desired, Step};
use sysgraft::node::transaction::Options;
use sysgraft::terminal::text::{STDOUT_FAILED, log};

use crate::context::{ChangeArguments, NodeArguments};
use crate::output;
use crate::progress::Reporter;

/// Arguments of `apply`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent apply --dry-run extensions.toml
  sysgraft-agent apply --now extensions.toml

extensions.toml:
  set = \"edge\"                  # what the set is called; the path of the file if it is missing
  prune = true                  # remove what this set declared before and no longer does

  [[sysext]]                    # or [[confext]]
  name = \"k3s\"
  version = \"1.29.2\"
  source = \"https://example.com/k3s_{version}_{architecture}.sysext.raw\"
  sha256 = \"9f86d0…\"            # of the image; may be missing
  profiles = [\"common\"]         # which is the default
  allow_unsigned = false

Nothing is enabled, disabled or removed before everything that is missing is installed. What was
installed by hand, or by another set, is never removed. With --now what is declared is merged, even
where nothing else has to be done.

Exit codes: 0 as declared, 1 failed, 2 wrong usage.")]
pub struct Arguments {
    /// What the node shall have
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    change: ChangeArguments,
}

/// Brings the node to a declared set of extensions.
pub fn run(node: &NodeArguments, arguments: &Arguments) -> Result<ExitCode> {
    let desired = Desired::load(&arguments.file)?;
    let (node, debug) = (node.node()?, node.debug());
    let notify = |message: &str| {
        if debug {
            log(message);
        }
    };
    let options = Options {
        now: arguments.change.now,
        dry_run: arguments.change.dry_run,
        notify: &notify,
    };
    let begin = |step: &Step| log(&step.to_string());
    let steps = apply::apply(&node, &desired, options, &Reporter::default(), &begin)
        .with_context(|| format!("cannot bring the node to {}", arguments.file.display()))?;
    if arguments.change.json {
        output::json(&json!({ "dryRun": arguments.change.dry_run, "steps": steps }))?;
    } else {
        print(arguments, &steps).context(STDOUT_FAILED)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(arguments: &Arguments, steps: &[Step]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.change.dry_run {
        for step in steps {
            writeln!(out, "would {step}")?;
        }
    }
    match steps.len() {
        0 => writeln!(out, "nothing to do: the node is as declared"),
        _ if arguments.change.dry_run => Ok(()),
        1 => writeln!(out, "1 step, and the node is as declared"),
        count => writeln!(out, "{count} steps, and the node is as declared"),
    }
}
