//! Words for people: log lines and errors on stderr, sizes, colours where there is a terminal.

use std::io::{self, IsTerminal, Write};

use crate::secureboot::EfiTime;

/// What failed where the result could not be printed.
pub const STDOUT_FAILED: &str = "cannot write the result to standard output";

/// One line of the log, on stderr.
pub fn log(line: &str) {
    // Nothing useful can be done where stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says on stderr what went wrong, with every cause, in one line.
pub fn error(error: &anyhow::Error) {
    say(Colour::Red, "error:", &format!("{error:#}"));
}

/// Says on stderr what the user should know although the work goes on.
pub fn warning(message: &str) {
    say(Colour::Yellow, "warning:", message);
}

#[derive(Clone, Copy)]
enum Colour {
    Red = 31,
    Yellow = 33,
}

fn say(colour: Colour, label: &str, message: &str) {
    let mut stderr = io::stderr().lock();
    // Nothing useful can be done where stderr is gone.
    let _ = if stderr.is_terminal() && !is_plain() {
        writeln!(stderr, "\x1b[1;{}m{label}\x1b[0m {message}", colour as u8)
    } else {
        writeln!(stderr, "{label} {message}")
    };
}

/// Whether the user wants no colours (<https://no-color.org>).
pub(super) fn is_plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether the reader of stdout went away, as `sysgraft inspect … | head` does.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }) && error.downcast_ref::<io::Error>().is_some()
}

/// `bytes` in the largest binary unit that leaves a number of at least one.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `seconds` since 1970 as date and time in UTC, to the minute; a clock that was wrong may have given
/// what no calendar has.
pub fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().map(EfiTime::from_unix);
    match time {
        Some(Ok(time)) => time.to_string(),
        _ => "at an unknown time".to_owned(),
    }
}
