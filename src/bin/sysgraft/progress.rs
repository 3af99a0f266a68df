//! How a build goes on: a bar on a terminal, plain lines elsewhere.

use std::io::{self, Write};
use std::sync::Once;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sysgraft::build::{Progress, Stage};
use sysgraft::extension::ExtensionKind;

/// Work that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(400);

/// Log lines and, while the layer is read, a bar with bytes and rate, all on stderr.
pub struct Reporter {
    kind: ExtensionKind,
    bar: ProgressBar,
    started: Instant,
    shown: Once,
}

impl Reporter {
    /// A reporter for a build whose layer has `size` bytes as stored, if that is known.
    pub fn new(kind: ExtensionKind, size: Option<u64>) -> Reporter {
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
        bar.set_message("Extracting");
        Reporter {
            kind,
            bar,
            started: Instant::now(),
            shown: Once::new(),
        }
    }
}

impl Progress for Reporter {
    fn stage(&self, stage: Stage) {
        match stage {
            Stage::Extracting => log("📤 Extracting archives from image layer"),
            Stage::Packing => {
                self.bar.finish_and_clear();
                log(&format!("📦 Packing {} into raw image", self.kind));
            }
        }
    }

    fn read(&self, bytes: u64) {
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

impl Drop for Reporter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// One line of the log, on stderr.
pub fn log(line: &str) {
    // Nothing useful can be done where stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}
