//! `upgrade`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use sysgraft::extension::ExtensionName;
use sysgraft::node::activation::UnitName;
use sysgraft::node::fetch::Location;
use sysgraft::node::health::Health;
use sysgraft::node::install::{self, Outcome};
use sysgraft::node::select::{Several, select_one};
use sysgraft::node::store::{Artefact, Store};
use sysgraft::node::transaction::Options;
use sysgraft::node::upgrade::{self, Goal, Request, Upgraded};
use sysgraft::node::version::Version;
use sysgraft::terminal::text::log;

use crate::context::{ChangeArguments, Context};
use crate::install::SourceArguments;
use crate::output;
use crate::profiles::ProfileArguments;
use crate::progress::Reporter;

/// Arguments of `upgrade`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent sysext upgrade https://example.com/k3s_1.30.sysext.raw --health-unit k3s.service
  sysgraft-agent sysext upgrade k3s --health-cmd 'kubectl get nodes'

The profiles of the running system that enable another version enable the new one instead. Where the
extension is merged, systemd merges the new version now; if it does not, if units that the extension
wants restarted fail, or if the health check fails, the version before is enabled and merged again.

Exit codes: 0 done or nothing newer, 1 failed and the version before is in place, 2 wrong usage.")]
pub struct Arguments {
    /// Which extension, to take the newest version in the store; or where to install one from
    #[arg(value_name = "NAME|URI")]
    name: String,
    /// Take this version from the store; or the version of what is installed
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    profiles: ProfileArguments,
    /// Go back unless this command line of sh succeeds
    #[arg(long, value_name = "CMD")]
    health_cmd: Option<String>,
    /// Go back unless this unit is active, or becomes so, and stays
    #[arg(long, value_name = "UNIT")]
    health_unit: Vec<UnitName>,
    /// How long the health check may take [default: 60, or what the configuration says]
    #[arg(long, value_name = "SECONDS")]
    health_timeout: Option<u64>,
    /// Take a version even if it is older
    #[arg(long)]
    allow_downgrade: bool,
    #[command(flatten)]
    output: SwitchArguments,
}

/// How `upgrade` and `rollback` tell what they do.
#[derive(Args, Clone, Copy)]
pub struct SwitchArguments {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

/// Changes to another version.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let failed = || format!("failed upgrading {} extension", context.adjective());
    let Some((name, goal)) = find(context, arguments).with_context(failed)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let configured = context.node.configuration.upgrade.health_timeout;
    let timeout = arguments.health_timeout.map(Duration::from_secs);
    let request = Request {
        name: &name,
        goal,
        profile: arguments.profiles.optional(),
        allow_downgrade: arguments.allow_downgrade,
        health: Health {
            command: arguments.health_cmd.clone(),
            units: arguments.health_unit.clone(),
            timeout: timeout.unwrap_or(configured),
        },
        dry_run: arguments.output.dry_run,
    };
    let notify = |message: &str| context.debug(message);
    let upgraded = upgrade::upgrade(&context.node, context.kind, &request, &notify);
    let upgraded = upgraded.with_context(failed)?;
    tell(context, arguments.output, &upgraded)?;
    if upgraded.changed.is_empty() && !arguments.output.json {
        log(&format!("Extension {name} is up to date"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The extension that is meant, and which of its versions, which may have to be installed first;
/// nothing if that would be done only.
fn find(context: &Context, arguments: &Arguments) -> Result<Option<(ExtensionName, Goal)>> {
    let view = Store::new(context.node.layout.clone(), context.kind).view()?;
    let is_stored = view.artefact(&arguments.name).is_some();
    if !is_stored && arguments.name.parse::<Location>().is_ok() {
        return install(context, arguments);
    }
    let all: Vec<&Artefact> = view.artefacts.iter().collect();
    let found = select_one(&arguments.name, context.kind, &all, Several::Newest)?;
    let goal = match &arguments.version {
        Some(version) => Goal::Version(version.clone()),
        None if found.name().as_str() == arguments.name => Goal::Newest,
        None => Goal::File(found.file.to_string()),
    };
    Ok(Some((found.name().clone(), goal)))
}

/// Installs what the user names, without enabling it.
fn install(context: &Context, arguments: &Arguments) -> Result<Option<(ExtensionName, Goal)>> {
    let version = arguments.version.as_ref().map(Version::as_str);
    let request = arguments.source.request(&arguments.name, version, None);
    let notify = |message: &str| context.debug(message);
    let options = Options {
        now: false,
        dry_run: arguments.output.dry_run,
        notify: &notify,
    };
    let reporter = Reporter::default();
    let outcome = install::install(&context.node, context.kind, &request, options, &reporter)?;
    drop(reporter);
    match outcome {
        Outcome::Planned(done) => {
            let change = ChangeArguments {
                now: false,
                dry_run: arguments.output.dry_run,
                json: arguments.output.json,
            };
            output::change(change, &done, json!({}))?;
            Ok(None)
        }
        Outcome::Installed(installed) => {
            log(&format!("Extension {} installed", installed.file));
            Ok(Some((installed.name, Goal::File(installed.file))))
        }
    }
}

/// The extension whose name a user means.
pub fn selected(context: &Context, text: &str) -> Result<ExtensionName> {
    let view = Store::new(context.node.layout.clone(), context.kind).view()?;
    let all: Vec<&Artefact> = view.artefacts.iter().collect();
    Ok(select_one(text, context.kind, &all, Several::Newest)?
        .name()
        .clone())
}

/// Prints what `upgrade` or `rollback` did.
pub fn tell(context: &Context, arguments: SwitchArguments, upgraded: &Upgraded) -> Result<()> {
    if arguments.json {
        return output::json(&facts(arguments, upgraded));
    }
    if let Some(undone) = &upgraded.undone {
        log(&format!("An upgrade was broken off: {undone}"));
    }
    let verb = if arguments.dry_run {
        "would be enabled"
    } else {
        "enabled"
    };
    for (profile, (from, to)) in &upgraded.changed {
        log(&format!(
            "Extension {to} {verb} in {profile} instead of {from}"
        ));
    }
    if let Some(activated) = &upgraded.activated {
        let name = &upgraded.name;
        log(&format!("Extension {name} merged by {}", context.merger()));
        for unit in &activated.units {
            log(&format!("Unit {unit} restarted, if it ran"));
        }
    }
    Ok(())
}

fn facts(arguments: SwitchArguments, upgraded: &Upgraded) -> Value {
    let changed = upgraded.changed.iter();
    let changed = changed
        .map(|(profile, (from, to))| json!({ "profile": profile, "from": from, "to": to }))
        .collect::<Vec<Value>>();
    let activated = upgraded.activated.as_ref();
    let units = activated.map(|activated| {
        let units = activated.units.iter();
        units.map(ToString::to_string).collect::<Vec<String>>()
    });
    json!({
        "name": upgraded.name.as_str(),
        "changed": changed,
        "refreshed": activated.is_some_and(|activated| activated.refreshed),
        "merged": activated.map(|activated| &activated.merged),
        "units": units,
        "undone": upgraded.undone.as_ref().map(ToString::to_string),
        "dryRun": arguments.dry_run,
    })
}
