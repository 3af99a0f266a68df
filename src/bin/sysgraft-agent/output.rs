//! What verbs print on stdout.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sysgraft::node::transaction::Done;
use sysgraft::terminal::text::{self, STDOUT_FAILED};

use crate::context::ChangeArguments;

/// Prints facts for programs.
pub fn json(facts: &Value) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{facts:#}").context(STDOUT_FAILED)
}

/// Prints what a change did as JSON where that is wanted, and what it would do where nothing is to
/// be done. Whether nothing is left to say.
pub fn change(arguments: ChangeArguments, done: &Done, mut facts: Value) -> Result<bool> {
    let activated = done.activated.iter();
    for problem in activated.flat_map(|activated| &activated.problems) {
        text::warning(problem);
    }
    if let (true, Some(object)) = (arguments.json, facts.as_object_mut()) {
        object.insert("dryRun".to_owned(), arguments.dry_run.into());
        object.insert("actions".to_owned(), serde_json::to_value(&done.actions)?);
        json(&facts)?;
    } else if arguments.dry_run {
        let mut stdout = io::stdout().lock();
        for action in &done.actions {
            writeln!(stdout, "would {action}").context(STDOUT_FAILED)?;
        }
        if done.actions.is_empty() {
            writeln!(stdout, "nothing to do").context(STDOUT_FAILED)?;
        }
    }
    Ok(arguments.dry_run)
}
