//! `explain`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use sysgraft::node::explain::{Condition, Explanation, Outcome, Target, Verdict, explain};
use sysgraft::node::policy::Policy;
use sysgraft::printable::printable;
use sysgraft::terminal::text::STDOUT_FAILED;

use crate::context::Context;

/// What tells scripts that an extension will not be merged.
const NOT_MERGED: u8 = 3;

/// Arguments of `explain`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent sysext explain k3s
  sysgraft-agent sysext explain ./k3s.sysext.raw

Tells each condition that systemd will look at, with what the node and the extension have:
  ✓ it holds   ! it holds, but take note   – nobody looks   ✗ it does not hold
Changes nothing, and needs no root.
Exit codes: 0 it will merge, 1 failed, 2 wrong usage, 3 it will not (ignored, or the merge blocked).")]
pub struct Arguments {
    /// Name of an extension, or path of an image
    target: String,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Explains what would become of an extension.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let node = &context.node;
    let policy = Policy::load(node, &[])?;
    let target = Target::find(node, context.kind, &arguments.target)?;
    let explanation = explain(node, &policy, context.kind, &target)?;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let printed = if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &explanation)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(stdout))
    } else {
        show(&mut stdout, &explanation)
    };
    printed
        .and_then(|()| stdout.flush())
        .context(STDOUT_FAILED)?;
    Ok(match explanation.verdict {
        Verdict::Merges => ExitCode::SUCCESS,
        Verdict::Ignored | Verdict::Blocked | Verdict::Blocks => ExitCode::from(NOT_MERGED),
    })
}

fn show(out: &mut dyn Write, explanation: &Explanation) -> io::Result<()> {
    writeln!(out, "{}", printable(explanation.path.as_bytes()))?;
    for condition in &explanation.conditions {
        writeln!(out, "{}", printable(line(condition).as_bytes()))?;
    }
    writeln!(out, "{}", printable(explanation.conclusion.as_bytes()))
}

/// `✗ ID  host: debian; extension: fedora: ID=fedora is neither …`
fn line(condition: &Condition) -> String {
    let mark = match condition.outcome {
        Outcome::Holds => '✓',
        Outcome::Doubtful => '!',
        Outcome::Skipped => '–',
        Outcome::Ignored | Outcome::Blocks | Outcome::Blocked => '✗',
    };
    let values = [
        ("host", &condition.host),
        ("extension", &condition.extension),
    ];
    let values = values
        .into_iter()
        .filter_map(|(who, value)| value.as_ref().map(|value| format!("{who}: {value}")));
    let remark = condition.remark.iter().map(|remark| format!("({remark})"));
    let words: Vec<String> = values.chain(remark).collect();
    format!("  {mark} {:<18}{}", condition.subject, words.join("  "))
}
