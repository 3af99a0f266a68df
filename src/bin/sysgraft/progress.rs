//! How work goes on: a bar on a terminal, plain lines elsewhere.

use std::io::{self, Write};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sysgraft::build::{Progress, Stage};
use sysgraft::extension::ExtensionKind;
use sysgraft::verification;

/// Work that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(400);

/// A bar that shows itself on stderr only where work takes longer.
struct PatientBar {
    bar: ProgressBar,
    started: Instant,
    shown: Once,
}

impl PatientBar {
    /// A bar for so many bytes, or for an unknown number of them.
    fn new(what: &'static str, size: Option<u64>) -> PatientBar {
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        let template = match size {
            Some(_) => {
                "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            None => "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        PatientBar {
            bar,
            started: Instant::now(),
            shown: Once::new(),
        }
    }

    fn add(&self, bytes: u64) {
        if self.started.elapsed() > PATIENCE {
            self.shown.call_once(|| {
                // Draws nothing where stderr is no terminal.
                self.bar
                    .set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            });
        }
        self.bar.inc(bytes);
    }
}

impl Drop for PatientBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Log lines and, while the layer is read, a bar with bytes and rate, all on stderr.
pub struct Reporter {
    kind: ExtensionKind,
    bar: PatientBar,
}

impl Reporter {
    /// A reporter for a build whose layer has `size` bytes as stored, if that is known.
    pub fn new(kind: ExtensionKind, size: Option<u64>) -> Reporter {
        Reporter {
            kind,
            bar: PatientBar::new("Extracting", size),
        }
    }
}

impl Progress for Reporter {
    fn stage(&self, stage: Stage) {
        match stage {
            Stage::Extracting => log("📤 Extracting archives from image layer"),
            Stage::Packing => {
                self.bar.bar.finish_and_clear();
                log(&format!("📦 Packing {} into raw image", self.kind));
            }
        }
    }

    fn read(&self, bytes: u64) {
        self.bar.add(bytes);
    }
}

/// A bar with the bytes that were verified.
#[derive(Default)]
pub struct VerificationBar(OnceLock<PatientBar>);

impl verification::Progress for VerificationBar {
    fn begin(&self, bytes: u64) {
        self.0
            .get_or_init(|| PatientBar::new("Verifying", Some(bytes)));
    }

    fn verified(&self, bytes: u64) {
        if let Some(bar) = self.0.get() {
            bar.add(bytes);
        }
    }
}

/// One line of the log, on stderr.
pub fn log(line: &str) {
    // Nothing useful can be done where stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}
