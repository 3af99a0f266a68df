//! How far work on many bytes is.

use std::sync::Once;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

    /// A bar for work on so many bytes, if that is known.
    pub fn with_optional_size(message: &'static str, size: Option<u64>) -> Bar {
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
        self.show();
        self.bar.inc(bytes);
    }

    /// So many bytes are done altogether.
    pub fn reach(&self, bytes: u64) {
        self.show();
        self.bar.set_position(bytes);
    }

    /// There is so much more to do, if that is known.
    pub fn extend(&self, bytes: Option<u64>) {
        self.bar.inc_length(bytes.unwrap_or_default());
    }

    fn show(&self) {
        if self.started.elapsed() > PATIENCE {
            self.shown.call_once(|| {
                // Draws nothing where stderr is no terminal.
                self.bar
                    .set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            });
        }
    }

    /// Takes the bar away, for the work is done.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}
