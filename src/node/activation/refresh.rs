//! Telling systemd that there is something else to merge.

use std::env;
use std::io;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::command::{Ended, run, sentence};
use super::manager_runs;
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::configuration::Signatures;
use crate::node::host::SystemdVersion;
use crate::node::policy::{image_policy, is_trusted_boot};

/// Of a refresh: every image is opened, and slow disks are slow.
const REFRESH_LIMIT: Duration = Duration::from_secs(300);
/// Of a question.
const QUESTION_LIMIT: Duration = Duration::from_secs(20);

/// The first that reloads the manager by itself, and takes `--no-reload`.
const RELOADS_MANAGER: SystemdVersion = SystemdVersion(255);
/// The first that leaves out a refresh if it sees no change, and takes `--always-refresh=`.
const SKIPS_REFRESH: SystemdVersion = SystemdVersion(260);

/// What the manager knows of the service that merges.
#[derive(Debug, PartialEq, Eq)]
struct Unit {
    exists: bool,
    is_active: bool,
    /// What it sets of the folders that are extended.
    hierarchies: Option<String>,
}

/// Lets systemd merge what it finds. The error is what systemd said, in one sentence.
///
/// The service is reloaded, never restarted, for that would take everything away in between. A
/// service that never ran is started, unless there is `nothing_left` to merge, for then its
/// conditions would keep it from running. systemd-sysext itself is run where there is no manager.
pub(super) fn refresh(
    node: &Node,
    kind: ExtensionKind,
    nothing_left: bool,
    notify: &dyn Fn(&str),
) -> Result<(), String> {
    if !manager_runs(&node.layout) {
        notify(&format!("Running systemd-{kind} refresh"));
        return refresh_directly(node, kind);
    }
    let unit = Unit::ask(kind);
    let service = service(kind);
    if unit.is_active {
        notify(&format!("Reloading {service}"));
        systemctl("reload", kind)
    } else if unit.exists && !nothing_left {
        notify(&format!("Starting {service}"));
        // A service that failed often is not started again without this.
        let _ = systemctl("reset-failed", kind);
        systemctl("start", kind)
    } else {
        notify(&format!("Running systemd-{kind} refresh"));
        refresh_directly(node, kind)
    }
}

fn service(kind: ExtensionKind) -> String {
    format!("systemd-{kind}.service")
}

fn systemctl(verb: &str, kind: ExtensionKind) -> Result<(), String> {
    let since = SystemTime::now();
    let mut command = Command::new("systemctl");
    command.args(["--no-ask-password", verb, &service(kind)]);
    match run(&mut command, REFRESH_LIMIT) {
        Ok(ended) if ended.succeeded() => Ok(()),
        Ok(ended) => Err(journal(kind, since).unwrap_or_else(|| ended.complaint())),
        Err(error) => Err(not_started("systemctl", &error)),
    }
}

/// What the service wrote into the journal as errors.
fn journal(kind: ExtensionKind, since: SystemTime) -> Option<String> {
    let since = since.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let service = service(kind);
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=cat", "--priority=err"]);
    command.args([
        format!("--unit={service}"),
        format!("--since=@{since}"),
        "--lines=50".to_owned(),
    ]);
    let ended = run(&mut command, QUESTION_LIMIT).ok()?;
    let text = String::from_utf8_lossy(&ended.stdout);
    // What the manager adds only says that the service failed.
    let own: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains(&service))
        .collect();
    Some(sentence(own.join("\n").as_bytes())).filter(|said| !said.is_empty())
}

fn refresh_directly(node: &Node, kind: ExtensionKind) -> Result<(), String> {
    let program = format!("systemd-{kind}");
    let mut command = Command::new(&program);
    command.args(arguments(node, kind));
    // systemd's checks can be switched off by its environment.
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("SYSTEMD_")
            && variable != hierarchies(kind).as_str()
        {
            command.env_remove(variable);
        }
    }
    if manager_runs(&node.layout) {
        pass_hierarchies(&mut command, kind);
    }
    command.envs([("SYSTEMD_LOG_TARGET", "console"), ("SYSTEMD_COLORS", "0")]);
    match run(&mut command, REFRESH_LIMIT) {
        Ok(ended) if ended.succeeded() => Ok(()),
        Ok(ended) => Err(ended.complaint()),
        Err(error) => Err(not_started(&program, &error)),
    }
}

fn arguments(node: &Node, kind: ExtensionKind) -> Vec<String> {
    let mut arguments = Vec::new();
    if !node.layout.is_this_host() {
        arguments.push(format!("--root={}", node.layout.root().display()));
    }
    let since = |first| node.systemd.is_some_and(|version| version >= first);
    if since(RELOADS_MANAGER) && !manager_runs(&node.layout) {
        arguments.push("--no-reload".to_owned());
    }
    if since(SKIPS_REFRESH) {
        arguments.push("--always-refresh=yes".to_owned());
    }
    let policy = node.systemd.and_then(|version| {
        let required = node.configuration.signatures == Signatures::Required
            || is_trusted_boot(&node.layout, node.configuration.trusted_boot);
        image_policy(version, kind, required)
    });
    arguments.extend(policy.map(|policy| format!("--image-policy={policy}")));
    arguments.push("refresh".to_owned());
    arguments
}

fn not_started(program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {program} on this host"),
        _ => format!("{program} cannot be started: {error}"),
    }
}

impl Unit {
    fn ask(kind: ExtensionKind) -> Unit {
        let mut command = Command::new("systemctl");
        command.args(["show", "--property=LoadState,ActiveState,Environment"]);
        command.arg(service(kind));
        let answer: Option<Ended> = run(&mut command, QUESTION_LIMIT).ok();
        let text = answer.map(|ended| ended.stdout).unwrap_or_default();
        Unit::parse(&String::from_utf8_lossy(&text), kind)
    }

    fn parse(properties: &str, kind: ExtensionKind) -> Unit {
        let property = |name: &str| {
            properties
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let variable = hierarchies(kind);
        Unit {
            exists: property("LoadState") != Some("not-found"),
            is_active: property("ActiveState") == Some("active"),
            hierarchies: property("Environment").and_then(|environment| {
                let mut settings = environment.split_ascii_whitespace();
                settings.find_map(|setting| {
                    let value = setting.trim_matches('"').strip_prefix(&variable)?;
                    value.strip_prefix('=').map(str::to_owned)
                })
            }),
        }
    }
}

/// The variable that names the folders which are extended, instead of `/usr` and `/opt` or `/etc`.
fn hierarchies(kind: ExtensionKind) -> String {
    format!("SYSTEMD_{}_HIERARCHIES", kind.as_str().to_uppercase())
}

/// Lets systemd-sysext work on the folders that its service works on.
pub(super) fn pass_hierarchies(command: &mut Command, kind: ExtensionKind) {
    if let Some(folders) = Unit::ask(kind).hierarchies {
        command.env(hierarchies(kind), folders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::boot_state::BootState;
    use crate::node::configuration::{Configuration, TrustedBoot};
    use crate::node::layout::Layout;

    #[test]
    fn a_refresh_has_the_options_that_this_systemd_knows() {
        let arguments = |version: u32, signatures| {
            let configuration = Configuration {
                signatures,
                trusted_boot: TrustedBoot::No,
                ..Configuration::default()
            };
            let node = Node {
                layout: Layout::new("/t", &configuration.state_dir),
                configuration,
                systemd: Some(SystemdVersion(version)),
                boot_state: BootState::Plain,
            };
            arguments(&node, ExtensionKind::Sysext).join(" ")
        };
        let relaxed = Signatures::WhenPresent;
        assert_eq!(arguments(252, relaxed), "--root=/t refresh");
        let open = "--image-policy=root=verity+signed+unprotected+absent:usr=absent refresh";
        assert_eq!(arguments(254, relaxed), format!("--root=/t {open}"));
        let no_reload = format!("--root=/t --no-reload {open}");
        assert_eq!(arguments(255, relaxed), no_reload);
        let always = format!("--root=/t --no-reload --always-refresh=yes {open}");
        assert_eq!(arguments(260, relaxed), always);
        let strict = Signatures::Required;
        assert_eq!(arguments(252, strict), "--root=/t refresh");
        let signed = "--image-policy=root=signed+absent:usr=absent refresh";
        let expected = format!("--root=/t --no-reload {signed}");
        assert_eq!(arguments(257, strict), expected);
    }

    #[test]
    fn the_manager_tells_of_the_service() {
        let text = "LoadState=loaded\nActiveState=active\nEnvironment=A=b SYSTEMD_SYSEXT_HIERARCHIES=/usr/lib:/opt\n";
        let unit = Unit::parse(text, ExtensionKind::Sysext);
        assert!(unit.exists && unit.is_active);
        assert_eq!(unit.hierarchies.as_deref(), Some("/usr/lib:/opt"));
        let unit = Unit::parse(
            "LoadState=not-found\nActiveState=inactive\n",
            ExtensionKind::Sysext,
        );
        assert!(!unit.exists && !unit.is_active && unit.hierarchies.is_none());
    }
}
