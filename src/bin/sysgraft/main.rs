//! Turns container images into signed systemd extensions.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod compared;
mod completions;
mod content_arguments;
mod diff;
mod extension;
mod genkey;
mod inspect;
mod jobs;
mod layers;
mod lint;
mod lint_arguments;
mod man;
mod outcome;
mod packer;
mod page_file;
mod passphrase;
mod platform_arguments;
mod progress;
mod publish;
mod registry_arguments;
mod release_arguments;
mod report_file;
mod sign;
mod signing_arguments;
mod source_arguments;
mod survey;
mod verify;

use std::fmt::Display;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use sysgraft::extension::ExtensionKind;
use sysgraft::name_service;
use sysgraft::terminal::text;

/// Turns container images into signed systemd extensions
#[derive(Parser)]
#[command(
    name = "sysgraft",
    version,
    disable_help_subcommand = true,
    after_help = "\
Example:
  sysgraft sysext --private-key db.key --certificate db.pem --output build hello oci-archive:hello.tar

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a system extension (/usr, with --with-opt also /opt) from layers of an image
    Sysext(extension::SysextArguments),
    /// Makes a configuration extension (/etc) from layers of an image
    Confext(extension::ConfextArguments),
    /// Shows which layers an image has, and what is in them
    Layers(layers::Arguments),
    /// Shows what is in an extension image
    Inspect(inspect::Arguments),
    /// Shows how two extension images differ
    Diff(diff::Arguments),
    /// Signs an image that was built without its signature, or signs it anew
    Sign(sign::Arguments),
    /// Makes the keys of Secure Boot and of signed extensions: PK, KEK, db
    #[command(visible_alias = "gk")]
    Genkey(genkey::Arguments),
    /// Looks for what would surprise a host: in an image before it is built, or in a finished one
    Lint(lint::Arguments),
    /// Proves that images are intact, signed by somebody trusted, and fit for a host
    Verify(verify::Arguments),
    /// Brings images to where nodes look for them: a sysupdate feed, a registry, a catalog
    Publish(Box<publish::Arguments>),
    /// Prints what a shell is to read so that it completes command lines
    Completions(completions::Arguments),
    /// Prints or stores manual pages
    Man(man::Arguments),
}

fn main() -> ExitCode {
    name_service::use_what_is_built_in();
    let arguments = Arguments::parse();
    if let Err(error) = discard_output_on_signals() {
        text::error(&error);
        return ExitCode::FAILURE;
    }
    let result = match &arguments.command {
        Command::Sysext(arguments) => {
            extension::run(ExtensionKind::Sysext, &arguments.common, arguments.with_opt)
        }
        Command::Confext(arguments) => {
            extension::run(ExtensionKind::Confext, &arguments.common, false)
        }
        Command::Layers(arguments) => layers::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Diff(arguments) => return diff::run(arguments),
        Command::Sign(arguments) => sign::run(arguments),
        Command::Genkey(arguments) => genkey::run(arguments),
        Command::Lint(arguments) => lint::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Completions(arguments) => completions::run(arguments, &Arguments::command()),
        Command::Man(arguments) => man::run(arguments, &Arguments::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if text::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            text::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Ends the program as wrong usage of the present subcommand does, with what is wrong.
fn usage_error(kind: ErrorKind, message: impl Display) -> ! {
    let mut command = Arguments::command();
    // Gives the subcommands their full names.
    command.build();
    let subcommand = std::env::args_os().nth(1);
    match subcommand.and_then(|name| command.find_subcommand_mut(name)) {
        Some(subcommand) => subcommand.error(kind, message).exit(),
        None => command.error(kind, message).exit(),
    }
}

/// On SIGINT and SIGTERM removes what unfinished work would leave behind, and exits as a shell
/// expects of a program that died of the signal.
fn discard_output_on_signals() -> anyhow::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            sysgraft::image::discard_pending();
            sysgraft::secureboot::discard_pending();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
