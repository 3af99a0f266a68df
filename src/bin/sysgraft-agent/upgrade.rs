//! `upgrade`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::error::ErrorKind;
use serde_json::{Value, json};
use sysgraft::extension::{ExtensionKind, ExtensionName};
use sysgraft::node::configuration::TIMEOUT_SECONDS;
use sysgraft::node::fetch::Location;
use sysgraft::node::health::Health;
use sysgraft::node::install::{self, Outcome};
use sysgraft::node::select::{Several, select_one};
use sysgraft::node::store::{Artefact, Store};
use sysgraft::node::transaction::Options;
use sysgraft::node::upgrade::{self, Goal, Offer, PassedOver, Request, Upgraded};
use sysgraft::node::version::Version;
use sysgraft::printable::printable;
use sysgraft::terminal::text::{self, log};
use sysgraft::unit_name::UnitName;

use crate::context::{ChangeArguments, Context};
use crate::install::SourceArguments;
use crate::output;
use crate::profiles::ProfileArguments;
use crate::progress::Reporter;
use crate::usage;

/// Arguments of `upgrade`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent sysext upgrade https://example.com/k3s_1.30.sysext.raw --health-unit k3s.service
  sysgraft-agent sysext upgrade k3s --health-cmd 'kubectl get nodes'

Where catalogs are configured, or one is named, NAME is looked up there first, and what is newer is
installed. A version that was not kept once is passed over until it is named or installed anew.

The profiles of the running system that enable another version enable the new one instead, and systemd
merges it now. If it does not, if units that the extension wants restarted fail, or if the health check
fails, the version before is enabled and merged again, and the units that ran with it run again. Only
the next boot merges it where no systemd runs, or with a profile of another system; it says so, and makes
no health check.

Exit codes: 0 done or nothing newer, 1 failed and the version before is in place, 2 wrong usage.")]
pub struct Arguments {
    /// Which extension, to take the newest version; or where to install one from
    #[arg(value_name = "NAME|URI")]
    name: String,
    /// Take this version; of a catalog a tag or a constraint, as >=1.2
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
    /// How long the health check may take, at most a day [default: 60, or what the configuration says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(TIMEOUT_SECONDS))]
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
    if asks_for_health(arguments) && upgraded.activated.is_none() && !arguments.output.dry_run {
        let why = if upgraded.changed.is_empty() {
            "nothing was changed"
        } else {
            "the new version is not merged before the next boot of a system that enables it"
        };
        text::warning(&format!("the health check was not made, for {why}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn asks_for_health(arguments: &Arguments) -> bool {
    arguments.health_cmd.is_some() || !arguments.health_unit.is_empty()
}

/// The extension that is meant, and which of its versions, which may have to be installed first;
/// nothing if that would be done only.
fn find(context: &Context, arguments: &Arguments) -> Result<Option<(ExtensionName, Goal)>> {
    let view = Store::new(context.node.layout.clone(), context.kind).view()?;
    let is_stored = view.artefact(&arguments.name).is_some();
    if !is_stored && arguments.name.parse::<Location>().is_ok() {
        let version = arguments.version.as_ref().map(Version::as_str);
        let installed = install(context, arguments, &arguments.name, version)?;
        return Ok(installed.map(|(name, file)| (name, Goal::File(file))));
    }
    let all: Vec<&Artefact> = view.artefacts.iter().collect();
    let found = select_one(&arguments.name, context.kind, &all, Several::Newest)?;
    let name = found.name().clone();
    let is_name = name.as_str() == arguments.name;
    let goal = match &arguments.version {
        Some(version) => Goal::Version(version.clone()),
        None if is_name => Goal::Newest,
        None => Goal::File(found.file.to_string()),
    };
    if is_name && has_catalogs(context, arguments) {
        return look_up(context, arguments, name, goal);
    }
    if let Some(flag) = arguments.source.first_flag() {
        let text = printable(arguments.name.as_bytes());
        usage::refuse(
            ErrorKind::ArgumentConflict,
            &format!(
                "{flag} is about what is fetched, but {text} is in the store already; leave it out, or name an extension with --catalog, or a URI"
            ),
        );
    }
    Ok(Some((name, goal)))
}

fn has_catalogs(context: &Context, arguments: &Arguments) -> bool {
    // Those of the configuration have system extensions only.
    let configured = &context.node.configuration.fetch.catalogs;
    let is_sysext = context.kind == ExtensionKind::Sysext;
    arguments.source.names_catalog() || is_sysext && !configured.is_empty()
}

/// Installs what catalogs have of an extension, if it is newer. `stored` is what else to change to.
fn look_up(
    context: &Context,
    arguments: &Arguments,
    name: ExtensionName,
    stored: Goal,
) -> Result<Option<(ExtensionName, Goal)>> {
    let version = arguments.version.as_ref().map(Version::as_str);
    let sources = arguments.source.sources(version);
    let profile = arguments.profiles.optional();
    let reporter = Reporter::default();
    let (node, kind) = (&context.node, context.kind);
    let offer = upgrade::offer(node, kind, &name, profile, sources, &reporter);
    drop(reporter);
    let goal = match offer {
        Ok(Offer::Image { location, version }) => {
            let version = Some(version.as_str());
            let Some((name, file)) = install(context, arguments, &location, version)? else {
                return Ok(None);
            };
            let goal = match stored {
                // A still newer one may be in the store.
                Goal::Newest => Goal::Newest,
                _ => Goal::File(file),
            };
            return Ok(Some((name, goal)));
        }
        Ok(Offer::Stored(file)) if stored != Goal::Newest => Goal::File(file),
        Ok(Offer::Stored(_) | Offer::NotEnabled) => stored,
        Ok(Offer::NothingNewer(version)) => {
            let version = printable(version.as_str().as_bytes());
            log(&format!(
                "Catalogs have {name} {version}, which is not newer than what is enabled"
            ));
            stored
        }
        Err(error) if !arguments.source.names_catalog() => {
            text::warning(&format!("{error}; going on with what is in the store"));
            stored
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Some((name, goal)))
}

/// Installs what lies at `uri`, without enabling it: the extension and its file, or nothing if that
/// would be done only.
fn install(
    context: &Context,
    arguments: &Arguments,
    uri: &str,
    version: Option<&str>,
) -> Result<Option<(ExtensionName, String)>> {
    let request = arguments.source.request(uri, version, None);
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
            Ok(Some((installed.name, installed.file)))
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
    for PassedOver { file, why } in &upgraded.passed_over {
        let why = printable(why.as_bytes());
        log(&format!(
            "Extension {file} is passed over, for it was not kept before ({why}); name it or its version to try it again"
        ));
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
        if activated.problems.is_empty() {
            for unit in &activated.units {
                log(&format!("Unit {unit} restarted, if it ran"));
            }
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
    let passed_over = upgraded.passed_over.iter();
    let passed_over = passed_over.map(|over| json!({ "file": over.file, "why": over.why }));
    json!({
        "name": upgraded.name.as_str(),
        "changed": changed,
        "refreshed": activated.is_some_and(|activated| activated.refreshed),
        "merged": activated.map(|activated| &activated.merged),
        "units": units,
        "problems": activated.map(|activated| &activated.problems),
        "passedOver": passed_over.collect::<Vec<Value>>(),
        "undone": upgraded.undone.as_ref().map(ToString::to_string),
        "dryRun": arguments.dry_run,
    })
}
