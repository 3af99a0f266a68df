//! `gc`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use sysgraft::node::gc::{self, Collected, Request};
use sysgraft::terminal::text::{log, size};

use crate::context::Context;
use crate::output;

/// Arguments of `gc`.
#[derive(Args)]
#[command(after_help = "\
Example:
  sysgraft-agent sysext gc --keep 2

Removed is what no profile enables, what is not merged, and what is not among the newest versions of
its extension; the version that a rollback would go back to stays as well, unless nothing is kept,
and always what a boot would fall back to.
Removed are also the remains of downloads that nobody went on with for a day.

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct Arguments {
    /// How many versions of each extension to keep beside those in use [default: 1, or what the
    /// configuration says]
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Also remove files that this program did not install
    #[arg(long)]
    all: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

/// Removes what is of no use.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let request = Request {
        keep: arguments
            .keep
            .unwrap_or(context.node.configuration.upgrade.keep),
        all: arguments.all,
        dry_run: arguments.dry_run,
    };
    let notify = |message: &str| context.debug(message);
    let collected =
        gc::collect(&context.node, context.kind, request, &notify).with_context(|| {
            format!(
                "failed collecting unused {} extensions",
                context.adjective()
            )
        })?;
    if arguments.json {
        output::json(&json!({
            "artefacts": collected.artefacts,
            "staged": collected.staged,
            "size": collected.size(),
            "dryRun": arguments.dry_run,
        }))?;
    } else {
        say(arguments, &collected);
    }
    Ok(ExitCode::SUCCESS)
}

fn say(arguments: &Arguments, collected: &Collected) {
    let verb = if arguments.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    for freed in collected.artefacts.iter().chain(&collected.staged) {
        log(&format!("{} {verb}: {}", freed.file, size(freed.size)));
    }
    if collected.artefacts.is_empty() && collected.staged.is_empty() {
        log("Nothing to remove");
    }
}
