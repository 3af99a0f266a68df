//! Turns container images into signed systemd extensions.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod extension;
mod genkey;
mod inspect;
mod jobs;
mod outcome;
mod packer;
mod passphrase;
mod progress;
mod publish;
mod sign;
mod signing_arguments;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sysgraft::extension::ExtensionKind;
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
    /// Makes a system extension (/usr, with --with-opt also /opt) from the last layer of an image
    Sysext(extension::SysextArguments),
    /// Makes a configuration extension (/etc) from the last layer of an image
    Confext(extension::ConfextArguments),
    /// Shows what is in an extension image
    Inspect(inspect::Arguments),
    /// Signs an image that was built without its signature, or signs it anew
    Sign(sign::Arguments),
    /// Makes the keys of Secure Boot and of signed extensions: PK, KEK, db
    #[command(visible_alias = "gk")]
    Genkey(genkey::Arguments),
    /// Proves that images are intact, signed by somebody trusted, and fit for a host
    Verify(verify::Arguments),
    /// Brings images to where nodes look for them: a sysupdate feed, a registry, a catalog
    Publish(Box<publish::Arguments>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = discard_output_on_signals() {
        text::error(&error);
        return ExitCode::FAILURE;
    }
    let result = match &arguments.command {
        Command::Sysext(arguments) => extension::run(
            ExtensionKind::Sysext,
            &arguments.common,
            arguments.service_reload,
            arguments.with_opt,
        ),
        Command::Confext(arguments) => {
            extension::run(ExtensionKind::Confext, &arguments.common, false, false)
        }
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Sign(arguments) => sign::run(arguments),
        Command::Genkey(arguments) => genkey::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Publish(arguments) => publish::run(arguments),
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
