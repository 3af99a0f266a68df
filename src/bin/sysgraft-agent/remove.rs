//! `remove`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use sysgraft::node::remove;
use sysgraft::printable::printable;
use sysgraft::terminal::text::log;

use crate::context::{ChangeArguments, Context};
use crate::output;

/// Arguments of `remove`.
#[derive(Args)]
#[command(after_help = "\
Example:
  sysgraft-agent sysext remove --now k3s

Every profile that links the extension no longer does. Without --now it stays merged until systemd
merges anew: at the next boot, or when something else is changed with --now. Of several versions of a name, one has to be named, as k3s_1.29.

Exit codes: 0 done, 1 failed and nothing changed, 2 wrong usage.")]
pub struct Arguments {
    /// Which extension: its name, name and version, file name, or a regular expression that matches
    /// exactly one file name
    #[arg(value_name = "EXTENSION")]
    name: String,
    #[command(flatten)]
    change: ChangeArguments,
}

/// Removes an artefact and its links.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let notify = |message: &str| context.debug(message);
    let options = context.options(arguments.change, &notify);
    let removed = remove::remove(&context.node, context.kind, &arguments.name, options)
        .with_context(|| format!("failed removing {} extension", context.adjective()))?;
    let facts = json!({
        "file": removed.file,
        "name": removed.name.as_str(),
        "profiles": removed.profiles,
        "refreshed": removed.done.activated.is_some(),
    });
    if !output::change(arguments.change, &removed.done, facts)? {
        for profile in &removed.profiles {
            log(&format!("Extension {} disabled in {profile}", removed.file));
        }
        let name = printable(arguments.name.as_bytes());
        log(&format!("{} extension {name} removed", context.title()));
    }
    Ok(ExitCode::SUCCESS)
}
