//! Units that an extension wants restarted.

use std::fmt;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use super::command::run;

/// systemd waits 90 seconds for a service to stop and as long for it to start.
const LIMIT: Duration = Duration::from_secs(300);

/// The name of a unit as systemd takes it (systemd.unit(5), `unit_name_is_valid()` in systemd's
/// `src/basic/unit-name.c`): a plain one or an instance, never a template or a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName(String);

/// A text that names no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a unit; name one such as k3s.service")]
pub struct InvalidUnitName(pub String);

/// The longest name, in bytes (`UNIT_NAME_MAX` is 256 with the final zero).
const MAX_BYTES: usize = 255;
const TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

impl UnitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = InvalidUnitName;

    fn from_str(text: &str) -> Result<UnitName, InvalidUnitName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let is_valid = text.len() <= MAX_BYTES
            && text.chars().all(allowed)
            && text.rsplit_once('.').is_some_and(|(stem, kind)| {
                // Neither without a name or prefix, nor a template without its instance.
                !stem.is_empty()
                    && !stem.starts_with('@')
                    && !stem.ends_with('@')
                    && TYPES.contains(&kind)
            });
        if is_valid {
            Ok(UnitName(text.to_owned()))
        } else {
            Err(InvalidUnitName(text.to_owned()))
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is done with units that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Restart,
    ReloadOrRestart,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Action::Restart => "try-restart",
            Action::ReloadOrRestart => "try-reload-or-restart",
        }
    }
}

/// Takes what extensions wrote apart: the units, each once, and what is wrong with the rest.
pub(super) fn parse<'a>(texts: impl Iterator<Item = &'a String>) -> (Vec<UnitName>, Vec<String>) {
    let (mut units, mut problems) = (Vec::new(), Vec::new());
    for text in texts {
        match text.parse::<UnitName>() {
            Ok(unit) if units.contains(&unit) => {}
            Ok(unit) => units.push(unit),
            Err(error) => problems.push(error.to_string()),
        }
    }
    (units, problems)
}

/// Restarts those of the units that run, and waits until they do again.
pub(super) fn act(action: Action, units: &[UnitName]) -> Result<(), String> {
    if units.is_empty() {
        return Ok(());
    }
    let mut arguments = vec![action.verb(), "--"];
    arguments.extend(units.iter().map(UnitName::as_str));
    systemctl(&arguments)
}

/// Lets the manager see units that came or went with a merge.
pub(super) fn reload_manager() -> Result<(), String> {
    systemctl(&["daemon-reload"])
}

fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("systemctl");
    command.arg("--no-ask-password").args(arguments);
    let said = match run(&mut command, LIMIT) {
        Ok(ended) if ended.succeeded() => return Ok(()),
        Ok(ended) => ended.complaint(),
        Err(error) => error.to_string(),
    };
    Err(format!("systemctl {} failed: {said}", arguments.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_are_taken_and_nothing_else() {
        for good in [
            "k3s.service",
            "getty@tty1.service",
            "a-b\\x2d.mount",
            "-.mount",
        ] {
            assert!(good.parse::<UnitName>().is_ok(), "{good}");
        }
        let long = format!("{}.service", "a".repeat(248));
        for bad in [
            "",
            "k3s",
            ".service",
            "@.service",
            "getty@.service",
            "@x.service",
            "a b.service",
            "a;reboot.service",
            "*.service",
            "a/b.service",
            "$(x).service",
            "a.exe",
            "ä.service",
            "--now",
            "--root=/x.service",
            "a\n.service",
            &long,
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad}");
        }
    }
}
