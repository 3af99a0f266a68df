//! Units that an extension wants restarted.

use std::process::Command;
use std::time::Duration;

use super::command::{Ended, run};
use crate::node::store::Record;
use crate::unit_name::UnitName;

/// systemd waits 90 seconds for a service to stop and as long for it to start.
const LIMIT: Duration = Duration::from_secs(300);
/// For the answer to a question.
const QUESTION_LIMIT: Duration = Duration::from_secs(20);

/// The units that extensions name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Named {
    /// Those to restart.
    restart: Vec<UnitName>,
    /// Those to reload, or restart if they cannot.
    reload: Vec<UnitName>,
}

impl Named {
    /// What these extensions name, and what is wrong with the rest of it.
    pub(in crate::node) fn by(records: &[&Record]) -> (Named, Vec<String>) {
        let all = |of: fn(&Record) -> &Vec<String>| {
            parse(records.iter().copied().flat_map(of).map(String::as_str))
        };
        let (restart, mut problems) = all(|record| &record.restart_units);
        let (reload, wrong) = all(|record| &record.reload_or_restart_units);
        problems.extend(wrong);
        (Named { restart, reload }, problems)
    }

    /// All of them.
    pub(in crate::node) fn all(&self) -> Vec<UnitName> {
        self.restart.iter().chain(&self.reload).cloned().collect()
    }

    /// Without those of which `stays` does not hold.
    pub(in crate::node) fn retain(&mut self, stays: impl Fn(&UnitName) -> bool) {
        self.restart.retain(&stays);
        self.reload.retain(&stays);
    }

    /// Restarts or reloads those that run; what went wrong.
    pub(super) fn restart_running(&self) -> Vec<String> {
        let outcomes = [
            act("try-restart", &self.restart),
            act("try-reload-or-restart", &self.reload),
        ];
        outcomes.into_iter().filter_map(Result::err).collect()
    }

    /// Lets all of them run anew, also those that failed; what went wrong.
    pub(super) fn run_again(&self) -> Vec<String> {
        // One that failed often is not started again without this; one that did not is no matter.
        let _ = act("reset-failed", &self.all());
        let attempts = [
            ("restart", &self.restart),
            ("reload-or-restart", &self.reload),
        ];
        let outcomes = attempts.into_iter().map(|(verb, units)| {
            act(verb, units).map_err(|said| format!("{} did not start: {said}", stopped(units)))
        });
        outcomes.filter_map(Result::err).collect()
    }
}

/// The names of those units that do not run; all of them where systemd does not tell.
fn stopped(units: &[UnitName]) -> String {
    let running = running(units);
    let names: Vec<&str> = units
        .iter()
        .filter(|unit| running.len() == units.len() || !running.contains(unit))
        .map(UnitName::as_str)
        .collect();
    names.join(", ")
}

/// Those of the units that run, or are about to. None where systemd does not tell.
pub(in crate::node) fn running(units: &[UnitName]) -> Vec<UnitName> {
    let runs = |state: &str| {
        matches!(
            state,
            "active" | "activating" | "reloading" | "refreshing" | "maintenance"
        )
    };
    let states = states(units).unwrap_or_default();
    let both = units.iter().zip(states);
    both.filter(|(_, state)| runs(state))
        .map(|(unit, _)| unit.clone())
        .collect()
}

/// The state of each of the units, in systemd's words.
pub(in crate::node) fn states(units: &[UnitName]) -> Result<Vec<String>, String> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = Command::new("systemctl");
    command.args(["is-active", "--"]);
    command.args(units.iter().map(UnitName::as_str));
    let ended: Ended = run(&mut command, QUESTION_LIMIT)
        .map_err(|error| format!("systemctl cannot be started: {error}"))?;
    // It fails if one is not active, and tells the state of each on a line of its own anyway.
    let text = String::from_utf8_lossy(&ended.stdout);
    let states: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if states.len() == units.len() {
        Ok(states)
    } else {
        let said = ended.complaint();
        Err(format!(
            "systemctl does not tell the state of units: {said}"
        ))
    }
}

/// Takes what extensions wrote apart: the units, each once, and what is wrong with the rest.
fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> (Vec<UnitName>, Vec<String>) {
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

/// Does what a verb of systemctl says with units, and waits until it is done.
fn act(verb: &str, units: &[UnitName]) -> Result<(), String> {
    if units.is_empty() {
        return Ok(());
    }
    let mut arguments = vec![verb, "--"];
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
