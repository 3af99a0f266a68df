//! A program that is killed, or to which the system says no, at any of the calls by which it changes
//! something: the store is as it was or as it was to be, and the same command then succeeds.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/mod.rs"]
mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use agent::Agent;

/// What Rust's standard library and rustix call to change files (x86-64 and others).
const CALLS: [&str; 12] = [
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlink",
    "unlinkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "fsync",
    "ftruncate",
];
/// Many calls of these are about other things than the store.
const DATA_CALLS: [&str; 4] = ["write", "pwrite64", "copy_file_range", "flock"];

struct Scenario {
    words: Vec<String>,
    agent: Agent,
    before: Vec<String>,
}

/// Makes a node anew for each attempt, since every attempt changes it.
type Setup = fn() -> (Agent, Vec<String>);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn enable() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.put("b.raw");
    agent.ok(&["enable", "b"]);
    (agent, words(&["enable", "a", "--passive"]))
}

fn first_enable() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    (agent, words(&["enable", "a"]))
}

fn switch() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a_1.raw");
    agent.put("a_2.raw");
    agent.ok(&["enable", "a_1"]);
    (agent, words(&["enable", "a_2"]))
}

fn disable() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.ok(&["enable", "a"]);
    (agent, words(&["disable", "a"]))
}

fn remove() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.put("b.raw");
    for profile in ["--active", "--passive", "--common"] {
        agent.ok(&["enable", "a", profile]);
    }
    (agent, words(&["remove", "a"]))
}

fn install() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("b.raw");
    let image = agent.image("images", "a.raw", "a", "");
    (
        agent,
        words(&["install", image.to_str().unwrap(), "--common"]),
    )
}

fn replace() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    let image = agent.image("images", "a.raw", "a", "");
    (
        agent,
        words(&["install", image.to_str().unwrap(), "--common"]),
    )
}

impl Scenario {
    fn new(setup: Setup) -> Scenario {
        let (agent, words) = setup();
        let before = agent.state();
        Scenario {
            words,
            agent,
            before,
        }
    }

    /// The state when nothing goes wrong.
    fn after(setup: Setup) -> Vec<String> {
        let scenario = Scenario::new(setup);
        scenario.succeed();
        scenario.agent.state()
    }

    fn succeed(&self) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        self.agent.ok(&words);
    }

    /// Runs it under strace, which injects `fault` into the `number`th call of `call`.
    fn run(&self, call: &str, fault: &str, number: usize) -> std::process::Output {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let plain = self.agent.command(&words);
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:{fault}:when={number}"))
            .arg(plain.get_program())
            .args(plain.get_args());
        self.agent.with_environment(&mut command);
        command.stdout(Stdio::null());
        command.output().unwrap()
    }

    /// What holds however the command ended.
    fn judge(&self, after: &[String], what: &str) -> bool {
        let state = self.agent.state();
        let is_new = state == after;
        assert!(is_new || state == self.before, "{what}: {state:?}");
        let listed = self.agent.run(&["status"]);
        assert_eq!(listed.code, Some(0), "{what}: {}", listed.stderr);
        is_new
    }

    /// The same command again, or whatever comes next.
    fn recover(&self, after: &[String], was_made: bool, what: &str) {
        let is_removal = self.words[0] == "remove";
        if was_made && is_removal {
            self.agent.fails(1, &["remove", "a"]);
        } else {
            self.succeed();
        }
        assert_eq!(self.agent.state(), after, "{what}");
        let own = self.agent.below("var/lib/kairos/extensions/.sysgraft");
        let left: Vec<&String> = own
            .iter()
            .filter(|name| {
                name.contains("journal") || name.contains(".#") || name.contains(".proved")
            })
            .collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

fn has_strace(test: &str) -> bool {
    let found = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        support::skip(test, "strace is missing");
    }
    found
}

/// Kills the program at every call; how many there were.
fn kill_everywhere(setup: Setup) -> usize {
    let after = Scenario::after(setup);
    let mut kills = 0;
    for call in CALLS.iter().chain(&DATA_CALLS) {
        for number in 1.. {
            let what = format!("killed at {call} {number}");
            let scenario = Scenario::new(setup);
            let output = scenario.run(call, "signal=KILL", number);
            let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
            let was_made = scenario.judge(&after, &what);
            if !killed {
                assert!(output.status.success(), "{what}: {output:?}");
                assert!(was_made, "{what}");
                break;
            }
            kills += 1;
            scenario.recover(&after, was_made, &what);
        }
    }
    kills
}

/// Lets every call fail once; how many there were.
fn fail_everywhere(setup: Setup, error: &str) -> usize {
    let after = Scenario::after(setup);
    let mut failures = 0;
    for call in CALLS.iter().chain(&["write"]) {
        // Calls that nobody makes end it; calls whose failure is no matter must not.
        let mut unaffected = 0;
        for number in 1.. {
            let what = format!("{error} at {call} {number}");
            let scenario = Scenario::new(setup);
            let output = scenario.run(call, &format!("error={error}"), number);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.code().is_some_and(|code| code <= 1),
                "{what}: {output:?}"
            );
            let was_made = scenario.judge(&after, &what);
            if output.status.success() {
                assert!(was_made, "{what}: {said}");
                unaffected += 1;
                if unaffected > 3 {
                    break;
                }
                continue;
            }
            failures += 1;
            let is_explained =
                said.contains("the change is decided") || said.contains("standard output");
            assert_eq!(was_made, is_explained, "{what}: {said}");
            assert!(
                said.starts_with("error:")
                    || said.contains("\nerror:")
                    || said.contains("warning:"),
                "{what}: {said}"
            );
            scenario.recover(&after, was_made, &what);
        }
    }
    failures
}

macro_rules! at_every_call {
    ($($killed:ident $failed:ident $setup:ident $least:literal;)*) => {
        $(
            #[test]
            fn $killed() {
                if has_strace(stringify!($killed)) {
                    let kills = kill_everywhere($setup);
                    assert!(kills >= $least, "only {kills} calls");
                }
            }

            #[test]
            fn $failed() {
                if has_strace(stringify!($failed)) {
                    for error in ["ENOSPC", "EIO", "EROFS"] {
                        let failures = fail_everywhere($setup, error);
                        assert!(failures >= $least / 2, "only {failures} failures");
                    }
                }
            }
        )*
    };
}

at_every_call! {
    killed_while_enabling_for_the_first_time refused_while_enabling_for_the_first_time first_enable 15;
    killed_while_enabling refused_while_enabling enable 15;
    killed_while_switching_versions refused_while_switching_versions switch 15;
    killed_while_disabling refused_while_disabling disable 10;
    killed_while_removing refused_while_removing remove 15;
    killed_while_installing refused_while_installing install 20;
    killed_while_replacing refused_while_replacing replace 20;
}
