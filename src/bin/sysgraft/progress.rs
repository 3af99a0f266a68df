//! How a build goes on: a bar on a terminal, plain lines elsewhere.

use std::io::{self, Write};
use std::sync::Once;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sysgraft::build::{Progress, Stage};
use sysgraft::extension::ExtensionKind;

/// Work that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(400);

/// A bar with bytes and rate on stderr, if that is a terminal and the work takes a while. It
/// vanishes when it is dropped.
pub struct Bar {
    bar: ProgressBar,
    started: Instant,
    shown: Once,
}

impl Bar {
    /// A bar for work on so many bytes.
    pub fn new(message: &'static str, size: u64) -> Bar {
        Bar::with_optional_size(message, Some(size))
    }

    fn with_optional_size(message: &'static str, size: Option<u64>) -> Bar {
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
        bar.set_message(message);
        Bar {
            bar,
            started: Instant::now(),
            shown: Once::new(),
        }
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
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

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Log lines and, while the layer is read, a bar, all on stderr.
pub struct Reporter {
    kind: ExtensionKind,
    bar: Bar,
}

impl Reporter {
    /// A reporter for a build whose layer has `size` bytes as stored, if that is known.
    pub fn new(kind: ExtensionKind, size: Option<u64>) -> Reporter {
        Reporter {
            kind,
            bar: Bar::with_optional_size("Extracting", size),
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
            Stage::Requesting => log("📝 Writing the sign request"),
        }
    }

    fn read(&self, bytes: u64) {
        self.bar.advance(bytes);
    }
}

/// One line of the log, on stderr.
pub fn log(line: &str) {
    // Nothing useful can be done where stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}
