//! A program that is killed, or to which the system says no, at any of the calls by which it changes
//! something: the store is as it was or as it was to be, and the same command then succeeds.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use agent::Agent;
use extension_image::{By, Extension, OS_RELEASE};

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

/// A node on which version 1 is merged, and version 2 is stored.
fn merged() -> Agent {
    let agent = Agent::new();
    agent.put("a_1.raw");
    agent.put("a_2.raw");
    agent.ok(&["enable", "a_1", "--now"]);
    agent
}

fn upgrade() -> (Agent, Vec<String>) {
    (merged(), words(&["upgrade", "a"]))
}

fn upgrade_from_file() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a_1.raw");
    agent.ok(&["enable", "a_1", "--now"]);
    (agent, words(&["upgrade", image().to_str().unwrap()]))
}

fn rollback() -> (Agent, Vec<String>) {
    let agent = merged();
    agent.ok(&["upgrade", "a"]);
    (agent, words(&["rollback", "a"]))
}

fn gc() -> (Agent, Vec<String>) {
    let agent = merged();
    agent.put("a_3.raw");
    agent.put("b.raw");
    (agent, words(&["gc", "--all", "--keep", "0"]))
}

fn apply() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a_1.raw");
    agent.ok(&["enable", "a_1", "--now"]);
    let source = image().display();
    let declared = format!("[[sysext]]\nname = \"a\"\nversion = \"2\"\nsource = \"{source}\"\n");
    agent.write("desired.toml", &declared);
    let file = agent.tree.path("desired.toml");
    (agent, words(&["apply", file.to_str().unwrap(), "--now"]))
}

fn enable_now() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.put("b.raw");
    agent.ok(&["enable", "b", "--now"]);
    (agent, words(&["enable", "a", "--now"]))
}

fn disable_now() -> (Agent, Vec<String>) {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.put("b.raw");
    agent.ok(&["enable", "a", "--now"]);
    agent.ok(&["enable", "b", "--now"]);
    (agent, words(&["disable", "a", "--now"]))
}

/// Version 2 of `a`, which is made once for all attempts.
fn image() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node_crash");
        fs::create_dir_all(&folder).unwrap();
        let extension = Extension::sysext("a", OS_RELEASE);
        extension.image(&folder.join("a_2.sysext.raw"), By::Example("db"))
    })
}

/// What is stored and enabled, but not what is merged: that follows a moment later.
fn stored(state: &[String]) -> Vec<String> {
    let lines = state.iter();
    lines
        .map(|line| line.trim_end_matches('*').trim_end().to_owned())
        .collect()
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
        let output = self.command().output().unwrap();
        let words = &self.words;
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    fn command(&self) -> Command {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        if words[0] != "apply" {
            return self.agent.command(&words);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft-agent"));
        command.arg("--root").arg(self.agent.tree.0.path());
        command.args(words);
        self.agent.with_environment(&mut command);
        command
    }

    /// Runs it under strace, which injects `fault` into the `number`th call of `call`, of the program
    /// itself, not of those that it starts.
    fn run(&self, call: &str, fault: &str, number: usize) -> std::process::Output {
        let plain = self.command();
        let mut command = Command::new("strace");
        command
            .args(["-qq", "-o", "/dev/null", "-e"])
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
    fn judge(&self, after: &[String], between: &[&str], what: &str) -> bool {
        let state = stored(&self.agent.state());
        let is_new = state == stored(after);
        let is_between = !between.is_empty() && state == between;
        let is_known = is_new || is_between || state == stored(&self.before);
        assert!(is_known, "{what}: {state:?}");
        let listed = self.agent.run(&["status"]);
        assert_eq!(listed.code, Some(0), "{what}: {}", listed.stderr);
        is_new
    }

    /// The same command again, or whatever comes next.
    fn recover(&self, after: &[String], was_made: bool, what: &str) {
        match self.words[0].as_str() {
            "remove" if was_made => {
                self.agent.fails(1, &["remove", "a"]);
            }
            // It may have been good already.
            "rollback" if was_made => {
                let ran = self.agent.run(&["rollback", "a"]);
                let is_done = ran.stderr.contains("was not upgraded here");
                assert!(ran.code == Some(0) || is_done, "{what}: {}", ran.stderr);
            }
            _ => self.succeed(),
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
///
/// `between` is what is stored and enabled between two changes, each of which is whole.
fn kill_everywhere(setup: Setup, between: &[&str]) -> usize {
    let after = Scenario::after(setup);
    let mut kills = 0;
    for call in CALLS.iter().chain(&DATA_CALLS) {
        for number in 1.. {
            let what = format!("killed at {call} {number}");
            let scenario = Scenario::new(setup);
            let output = scenario.run(call, "signal=KILL", number);
            let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
            let was_made = scenario.judge(&after, between, &what);
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

/// What a disk that is full, broken or read-only says.
const ERRORS: [&str; 3] = ["ENOSPC", "EIO", "EROFS"];

/// Lets every call fail once, with one of [`ERRORS`] after the other; how many there were.
fn fail_everywhere(setup: Setup) -> usize {
    let after = Scenario::after(setup);
    let mut failures = 0;
    let mut errors = ERRORS.iter().cycle();
    for call in CALLS.iter().chain(&["write"]) {
        // Calls that nobody makes end it; calls whose failure is no matter must not.
        let mut unaffected = 0;
        for number in 1.. {
            let error = errors.next().unwrap();
            let what = format!("{error} at {call} {number}");
            let scenario = Scenario::new(setup);
            let output = scenario.run(call, &format!("error={error}"), number);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.code().is_some_and(|code| code <= 1),
                "{what}: {output:?}"
            );
            let was_made = scenario.judge(&after, &[], &what);
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
                    let kills = kill_everywhere($setup, &[]);
                    assert!(kills >= $least, "only {kills} calls");
                }
            }

            #[test]
            fn $failed() {
                if has_strace(stringify!($failed)) {
                    let failures = fail_everywhere($setup);
                    assert!(failures >= $least / 2, "only {failures} failures");
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

macro_rules! killed_at_every_call {
    ($($killed:ident $setup:ident $between:expr, $least:literal;)*) => {
        $(
            #[test]
            fn $killed() {
                if has_strace(stringify!($killed)) {
                    let kills = kill_everywhere($setup, $between);
                    assert!(kills >= $least, "only {kills} calls");
                }
            }
        )*
    };
}

// Changes of what is merged, and commands of more than one change.
killed_at_every_call! {
    killed_while_upgrading upgrade &[], 40;
    killed_while_upgrading_from_a_file upgrade_from_file &["a_1.raw common", "a_2.sysext.raw"], 60;
    killed_while_rolling_back rollback &[], 40;
    killed_while_collecting gc &[], 15;
    killed_while_applying apply &["a_1.raw common", "a_2.sysext.raw"], 40;
    killed_while_enabling_now enable_now &[], 25;
    killed_while_disabling_now disable_now &[], 20;
}
