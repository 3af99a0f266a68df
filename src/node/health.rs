//! Whether a node works with what was just merged.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::activation::{run, states};
use crate::unit_name::UnitName;

/// Between two looks at units.
const PAUSE: Duration = Duration::from_millis(500);
/// For how long units have to stay as they are before that counts, at most: a service that fails
/// right after its start is active for a moment.
const SETTLE: Duration = Duration::from_secs(3);

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
        let started = Instant::now();
        if !self.units.is_empty() {
            notify("Waiting for units to be active");
            self.wait_for_units(started)?;
        }
        match &self.command {
            Some(command) => {
                notify("Running the health check");
                run_command(command, self.timeout.saturating_sub(started.elapsed()))
            }
            None => Ok(()),
        }
    }

    fn wait_for_units(&self, started: Instant) -> Result<(), String> {
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
            if now - started >= self.timeout || lasts(ill_since) {
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
        Ok(self.units.iter().zip(states(&self.units)?).collect())
    }
}

fn run_command(command: &str, left: Duration) -> Result<(), String> {
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
        assert_eq!(check("true", Duration::MAX), Ok(()));
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
