//! `sysgraft-agent boot`: what is done for extensions while the node boots.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::context::NodeArguments;
use anyhow::Result;
use clap::Args;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::Node;
use sysgraft::node::activation;
use sysgraft::node::boot::{self, Report};
use sysgraft::node::boot_state::BootState;
use sysgraft::node::configuration::{Configuration, DEFAULT_PATH, Signatures};
use sysgraft::node::host::SystemdVersion;
use sysgraft::node::layout::{DEFAULT_STATE_DIR, Layout};
use sysgraft::printable::printable;

/// How it is done.
#[derive(Args)]
#[command(after_help = "\
Example:
  sysgraft-agent boot --sysroot /sysroot

What was done is in /run/sysgraft/boot.json and in the journal, with the reason for every extension
that was left out. Exit codes: 0 done, though perhaps not for every extension; 1 nothing could be done,
or (--complete) systemd merged nothing of what was linked.")]
pub struct Arguments {
    /// Work in an initrd that has mounted the root file system there
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
    /// Note that the node came up with what was linked
    #[arg(long, conflicts_with_all = ["sysroot", "retry", "json"])]
    complete: bool,
    /// Let sets of extensions be linked again with which the node did not come up
    #[arg(long, conflicts_with_all = ["sysroot", "json"])]
    retry: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Syslog priorities that journald takes off the beginning of a line (sd-daemon(3)).
#[derive(Clone, Copy)]
enum Priority {
    Warning = 4,
    Notice = 5,
    Info = 6,
}

pub fn run(node: &NodeArguments, arguments: &Arguments) -> Result<ExitCode> {
    let sysroot = arguments.sysroot.as_deref();
    let (node, problem) = open(node, sysroot);
    if let Some(problem) = problem {
        say(Priority::Warning, &problem);
    }
    if arguments.retry {
        boot::retry(&node)?;
    } else if arguments.complete {
        let merged = ExtensionKind::ALL.map(|kind| (kind, activation::merged(&node, kind)));
        let merged = BTreeMap::from(merged);
        for note in boot::complete(&node, &merged, &boot::was_started)? {
            say(Priority::Warning, &note);
        }
    } else {
        let report = boot::run(&node)?;
        tell(&report);
        if arguments.json {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The node, and why its configuration does not count. A mistake in there must not cost the
/// extensions.
fn open(of: &NodeArguments, sysroot: Option<&Path>) -> (Node, Option<String>) {
    let layout = |state_dir: &Path| {
        let layout = Layout::new(of.root(), state_dir);
        match sysroot {
            Some(sysroot) => layout.in_initrd(sysroot),
            None => layout,
        }
    };
    let file = layout(Path::new(DEFAULT_STATE_DIR)).open_path(DEFAULT_PATH);
    let (configuration, problem) = match Configuration::find(of.config(), &file) {
        Ok(configuration) => (configuration, None),
        Err(error) => (
            Configuration {
                signatures: Signatures::Required,
                ..Configuration::default()
            },
            Some(format!(
                "{error}; until that is mended, signatures are required and all else is as without it"
            )),
        ),
    };
    let layout = layout(of.state_dir().unwrap_or(&configuration.state_dir));
    let systemd = match sysroot {
        Some(_) => SystemdVersion::in_tree(&layout).or_else(SystemdVersion::of_this_host),
        None => SystemdVersion::of_this_host(),
    };
    let node = Node {
        boot_state: BootState::of(&layout),
        systemd,
        layout,
        configuration,
    };
    (node, problem)
}

/// A line for every extension, for the journal.
fn tell(report: &Report) {
    for linked in &report.linked {
        let profile = linked
            .profile
            .map_or("the last set that came up", |profile| profile.as_str());
        let signer = linked.signer.as_deref();
        let signer = signer.map_or("unsigned".to_owned(), |signer| {
            format!("signed by {signer}")
        });
        let (kind, name, file) = (linked.kind, &linked.name, &linked.file);
        say(
            Priority::Info,
            &format!("{kind} {name} is linked: {file} of {profile}, {signer}"),
        );
    }
    for taken in &report.taken_over {
        say(
            Priority::Notice,
            &format!(
                "{} {} is taken over from {}",
                taken.kind,
                taken.file,
                taken.from.display()
            ),
        );
    }
    for left in &report.left_out {
        say(
            Priority::Warning,
            &format!("{} {} is left out: {}", left.kind, left.file, left.reason),
        );
    }
    for note in &report.notes {
        say(Priority::Notice, note);
    }
    for kind in ExtensionKind::ALL {
        if let Some(policy) = report.image_policy.get(&kind) {
            let what = policy.policy.as_deref().unwrap_or("as systemd has it");
            say(
                Priority::Info,
                &format!("{kind} image policy: {what} ({})", policy.reason),
            );
        }
    }
}

/// Writes one line to stderr, with its priority where that is the journal, all at once: what is
/// written to the kernel's log at once is one message.
fn say(priority: Priority, line: &str) {
    let line = printable(line.as_bytes());
    let line = if io::stderr().is_terminal() {
        format!("{line}\n")
    } else {
        format!("<{}>{line}\n", priority as u8)
    };
    // Nobody can be told that nobody can be told.
    let _ = io::stderr().write_all(line.as_bytes());
}
