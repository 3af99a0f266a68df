//! Whether a node works with what was just merged.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::activation::{UnitName, run};

/// Between two looks at units.
const PAUSE: Duration = Duration::from_millis(500);
/// For how long units have to stay as they are before that counts, at most: a service that fails
/// right after its start is active for a moment.
const SETTLE: Duration = Duration::from_secs(3);
/// For the answer of systemctl.
const QUESTION_LIMIT: Duration = Duration::from_secs(20);

/// What must hold. With neither command nor units everything is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// A command line for `sh` that has to succeed.
    pub command: Option<String>,
    /// Units that have to be active, or become so, and stay.
    pub units: Vec<UnitName>,
    /// How long all of it may take.
    pub timeout: Duration,
}

impl Health {
    /// Waits until everything holds. The error is what does not, in one sentence.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self, notify: &dyn Fn(&str)) -> Result<(), String> {
        let deadline = Instant::now() + self.timeout;
        if !self.units.is_empty() {
            notify("Waiting for units to be active");
            self.wait_for_units(deadline)?;
        }
        match &self.command {
            Some(command) => {
                notify("Running the health check");
                run_command(command, deadline)
            }
            None => Ok(()),
        }
    }

    fn wait_for_units(&self, deadline: Instant) -> Result<(), String> {
        let settle = SETTLE.min(self.timeout / 4);
        // Since when every unit is active, or one has failed.
        let (mut well_since, mut ill_since) = (None, None);
        loop {
            let now = Instant::now();
            let states = self.states()?;
            let not_active = states.iter().find(|(_, state)| state != "active");
            let has_failed = states.iter().any(|(_, state)| state == "failed");
            well_since = not_active.is_none().then(|| well_since.unwrap_or(now));
            ill_since = has_failed.then(|| ill_since.unwrap_or(now));
            let lasts = |since: Option<Instant>| since.is_some_and(|since| now - since >= settle);
            if lasts(well_since) {
                return Ok(());
            }
            if now >= deadline || lasts(ill_since) {
                let seconds = self.timeout.as_secs();
                return Err(
                    match not_active.map(|(unit, state)| (unit, state.as_str())) {
                        Some((unit, "failed")) => format!("{unit} has failed"),
                        Some((unit, state)) => {
                            format!("{unit} was still {state} after {seconds} seconds")
                        }
                        None => format!("the units did not stay active within {seconds} seconds"),
                    },
                );
            }
            thread::sleep(PAUSE.min(settle));
        }
    }

    /// The state of each unit in systemd's words.
    fn states(&self) -> Result<Vec<(&UnitName, String)>, String> {
        let mut command = Command::new("systemctl");
        command.args(["is-active", "--"]);
        command.args(self.units.iter().map(UnitName::as_str));
        let ended = run(&mut command, QUESTION_LIMIT)
            .map_err(|error| format!("systemctl cannot be started: {error}"))?;
        // It fails if one is not active, and tells the state of each on a line of its own anyway.
        let text = String::from_utf8_lossy(&ended.stdout);
        let states: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        if states.len() == self.units.len() {
            Ok(self.units.iter().zip(states).collect())
        } else {
            let said = ended.complaint();
            Err(format!(
                "systemctl does not tell the state of units: {said}"
            ))
        }
    }
}

fn run_command(command: &str, deadline: Instant) -> Result<(), String> {
    let left = deadline.saturating_duration_since(Instant::now());
    let ended = run(Command::new("sh").args(["-c", command]), left)
        .map_err(|error| format!("the health check cannot be started: {error}"))?;
    if ended.succeeded() {
        Ok(())
    } else {
        Err(format!("the health check failed: {}", ended.complaint()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, timeout: Duration) -> Result<(), String> {
        let health = Health {
            command: Some(command.to_owned()),
            units: Vec::new(),
            timeout,
        };
        health.check(&|_| {})
    }

    #[test]
    fn a_command_decides() {
        let long = Duration::from_secs(20);
        assert_eq!(check("true", long), Ok(()));
        assert_eq!(
            check("echo no port >&2; exit 1", long),
            Err("the health check failed: no port".to_owned())
        );
        let error = check("sleep 60", Duration::from_millis(200)).unwrap_err();
        assert!(error.contains("took too long"), "{error}");
    }

    #[test]
    fn without_conditions_all_is_well() {
        let health = Health {
            command: None,
            units: Vec::new(),
            timeout: Duration::ZERO,
        };
        assert_eq!(health.check(&|_| {}), Ok(()));
    }
}
