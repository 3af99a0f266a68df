//! `rollback`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sysgraft::node::rollback;

use crate::context::Context;
use crate::upgrade::{SwitchArguments, selected, tell};

/// Arguments of `rollback`.
#[derive(Args)]
#[command(after_help = "\
Example:
  sysgraft-agent sysext rollback k3s

The profiles that the last upgrade changed enable again what they enabled before, and where the
extension is merged or a systemd runs, systemd merges that now, and the units that ran with it run again.
Again, and it goes one more step back.

Exit codes: 0 done; 1 failed, and everything is as it was unless it says that only units did not start;
2 wrong usage.")]
pub struct Arguments {
    /// Which extension
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    output: SwitchArguments,
}

/// Goes one step back.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let failed = || format!("failed rolling back {} extension", context.adjective());
    let name = selected(context, &arguments.name).with_context(failed)?;
    let notify = |message: &str| context.debug(message);
    let dry_run = arguments.output.dry_run;
    let outcome = rollback::rollback(&context.node, context.kind, &name, dry_run, &notify);
    let upgraded = outcome.with_context(failed)?;
    tell(context, arguments.output, &upgraded)?;
    let problems = upgraded.activated.map(|activated| activated.problems);
    if let Some(problems) = problems.filter(|problems| !problems.is_empty()) {
        let mut files: Vec<String> = upgraded.changed.into_values().map(|(_, to)| to).collect();
        files.dedup();
        let (files, problems) = (files.join(", "), problems.join("; "));
        bail!("{files} is enabled and merged again, but {problems}");
    }
    Ok(ExitCode::SUCCESS)
}
