//! Installs and activates signed systemd extensions on a node.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod apply;
mod boot;
mod context;
#[cfg(any(test, feature = "documents"))]
mod documents;
mod enable;
mod explain;
mod gc;
mod install;
mod list;
mod output;
mod profiles;
mod progress;
mod remove;
mod rollback;
mod status;
mod upgrade;
mod usage;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use context::{Context, NodeArguments};
use sysgraft::extension::ExtensionKind;
use sysgraft::name_service;
use sysgraft::terminal::text;

/// Installs and activates signed systemd extensions on a node
#[derive(Parser)]
#[command(
    name = "sysgraft-agent",
    version,
    disable_help_subcommand = true,
    after_help = "\
Example:
  sysgraft-agent sysext install https://example.com/k3s_1.29.2.sysext.raw
  sysgraft-agent sysext enable --now k3s
  sysgraft-agent sysext list
  sysgraft-agent sysext remove --now k3s

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not proved (verify), not to be
merged (explain)."
)]
struct Arguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// System extensions, which are merged into /usr and /opt
    Sysext(KindArguments),
    /// Configuration extensions, which are merged into /etc
    Confext(KindArguments),
    /// Brings the node to the set of extensions that a file declares
    Apply(apply::Arguments),
    /// Links what is enabled and good where systemd looks; for the units that run at boot
    Boot(boot::Arguments),
}

#[derive(Args)]
#[command(disable_help_subcommand = true)]
struct KindArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetches an extension, proves it and stores it
    Install(install::Arguments),
    /// Links an extension in a profile, so that it is merged at boot, or now
    Enable(enable::Arguments),
    /// Takes an extension out of a profile
    Disable(enable::Arguments),
    /// Removes an extension from the node
    Remove(remove::Arguments),
    /// Lists what is stored, enabled and merged
    List(list::Arguments),
    /// Shows everything about what is stored, and what is wrong with it
    Status(status::Arguments),
    /// Proves stored extensions once more
    Verify(verify::Arguments),
    /// Tells why systemd would or would not merge an extension
    Explain(explain::Arguments),
    /// Enables a newer version, and goes back if it is not good
    Upgrade(upgrade::Arguments),
    /// Goes back to what was enabled before the last upgrade
    Rollback(rollback::Arguments),
    /// Removes versions that are of no use any more
    Gc(gc::Arguments),
}

impl Verb {
    fn run(&self, context: &Context) -> Result<ExitCode> {
        match self {
            Verb::Install(arguments) => install::run(context, arguments),
            Verb::Enable(arguments) => enable::enable(context, arguments),
            Verb::Disable(arguments) => enable::disable(context, arguments),
            Verb::Remove(arguments) => remove::run(context, arguments),
            Verb::List(arguments) => list::run(context, arguments),
            Verb::Status(arguments) => status::run(context, arguments),
            Verb::Verify(arguments) => verify::run(context, arguments),
            Verb::Explain(arguments) => explain::run(context, arguments),
            Verb::Upgrade(arguments) => upgrade::run(context, arguments),
            Verb::Rollback(arguments) => rollback::run(context, arguments),
            Verb::Gc(arguments) => gc::run(context, arguments),
        }
    }
}

impl Arguments {
    fn run(&self) -> Result<ExitCode> {
        let context = |kind| self.node.context(kind);
        match &self.command {
            Command::Sysext(of_kind) => of_kind.verb.run(&context(ExtensionKind::Sysext)?),
            Command::Confext(of_kind) => of_kind.verb.run(&context(ExtensionKind::Confext)?),
            Command::Apply(arguments) => apply::run(&self.node, arguments),
            Command::Boot(of_boot) => boot::run(&self.node, of_boot),
        }
    }
}

fn main() -> ExitCode {
    name_service::use_what_is_built_in();
    #[cfg(feature = "documents")]
    if let Some(folder) = documents::wanted_in(std::env::args_os()) {
        return ended(documents::write(&folder).map(|()| ExitCode::SUCCESS));
    }
    let arguments = Arguments::try_parse().unwrap_or_else(|error| usage::exit(error));
    ended(arguments.run())
}

fn ended(result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if text::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            text::error(&error);
            ExitCode::FAILURE
        }
    }
}
