//! `enable` and `disable`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use sysgraft::node::enable::{self, Disabled, Enabled};
use sysgraft::terminal::text::log;

use crate::context::{ChangeArguments, Context};
use crate::output;
use crate::profiles::ProfileArguments;

/// Arguments of `enable` and `disable`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent sysext enable --now k3s
  sysgraft-agent sysext enable --active --now k3s    (a boot state, on Kairos)

A name is an extension's name, name and version, or file name; else it is a regular expression that
must match exactly one file name. Of several versions of a name, enable takes the newest.

Exit codes: 0 done, 1 failed and nothing changed, 2 wrong usage.")]
pub struct Arguments {
    /// Which extension
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    profiles: ProfileArguments,
    #[command(flatten)]
    change: ChangeArguments,
}

/// Links an extension in a profile.
pub fn enable(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let profile = arguments.profiles.required(&context.node);
    let notify = |message: &str| context.debug(message);
    let options = context.options(arguments.change, &notify);
    let enabled = enable::enable(
        &context.node,
        context.kind,
        &arguments.name,
        profile,
        options,
    )
    .with_context(|| format!("failed enabling {} extension", context.adjective()))?;
    let facts = json!({
        "file": enabled.file,
        "name": enabled.name.as_str(),
        "version": enabled.version.as_ref().map(ToString::to_string),
        "profile": profile,
        "already": enabled.already,
        "replaced": enabled.replaced,
        "merged": enabled.done.activated.is_some(),
    });
    if !output::change(arguments.change, &enabled.done, facts)? {
        say_enabled(context, arguments.change, &enabled);
    }
    Ok(ExitCode::SUCCESS)
}

fn say_enabled(context: &Context, change: ChangeArguments, enabled: &Enabled) {
    let Enabled { file, profile, .. } = enabled;
    for other in &enabled.replaced {
        log(&format!("Extension {other} disabled in {profile}"));
    }
    if enabled.already {
        log(&format!("Extension {file} is already enabled in {profile}"));
    } else {
        log(&format!("Extension {file} enabled in {profile}"));
    }
    if change.now && enabled.is_booted {
        log(&format!("Extension {file} merged by {}", context.merger()));
    } else if change.now {
        log(&format!(
            "Extension {file} enabled in {profile} but not merged as we are currently not booted in {profile}"
        ));
    }
}

/// Takes an extension out of a profile.
pub fn disable(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let profile = arguments.profiles.required(&context.node);
    let notify = |message: &str| context.debug(message);
    let options = context.options(arguments.change, &notify);
    let disabled = enable::disable(
        &context.node,
        context.kind,
        &arguments.name,
        profile,
        options,
    )
    .with_context(|| format!("failed disabling {} extension", context.adjective()))?;
    let facts = json!({
        "profile": profile,
        "disabled": disabled.links,
        "refreshed": disabled.done.activated.is_some(),
    });
    if !output::change(arguments.change, &disabled.done, facts)? {
        say_disabled(context, arguments, &disabled);
    }
    Ok(ExitCode::SUCCESS)
}

fn say_disabled(context: &Context, arguments: &Arguments, disabled: &Disabled) {
    let (name, profile) = (&arguments.name, disabled.profile);
    if disabled.links.is_empty() {
        log(&format!("Extension {name} is not enabled in {profile}"));
        if disabled.done.activated.is_some() {
            log(&format!(
                "Extension {name} refreshed by {}",
                context.merger()
            ));
        }
    }
    for link in &disabled.links {
        log(&format!("Extension {link} disabled in {profile}"));
        if disabled.done.activated.is_some() {
            log(&format!(
                "Extension {link} refreshed by {}",
                context.merger()
            ));
        } else if arguments.change.now && !disabled.is_booted {
            log(&format!(
                "Extension {link} disabled in {profile} but not refreshed as we are currently not booted in {profile}"
            ));
        }
    }
}
