//! How fetching and proving go on.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sysgraft::node::fetch::{self, FetchError};
use sysgraft::terminal::{Bar, text};
use sysgraft::verification;

/// A bar for what is under way, and warnings, on stderr. What a registry warns of with each artefact is
/// said once.
#[derive(Default)]
pub struct Reporter {
    bar: Mutex<Option<Bar>>,
    said: Mutex<BTreeSet<String>>,
}

impl Reporter {
    fn start(&self, bar: Option<Bar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    fn with_bar(&self, work: impl FnOnce(&mut Option<Bar>)) {
        work(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fetch::Progress for Reporter {
    fn received(&self, bytes: u64, total: Option<u64>) {
        self.with_bar(|bar| {
            bar.get_or_insert_with(|| Bar::with_optional_size("Fetching", total))
                .reach(bytes);
        });
    }

    fn interrupted(&self, error: &FetchError, wait: Duration) {
        self.start(None);
        let seconds = wait.as_secs_f32();
        text::warning(&format!("{error}; trying again in {seconds:.1} s"));
    }

    fn warn(&self, message: &str) {
        self.start(None);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(message.to_owned()) {
            text::warning(message);
        }
    }
}

impl verification::Progress for Reporter {
    fn begin(&self, bytes: u64) {
        self.start(Some(Bar::new("Verifying", bytes)));
    }

    fn verified(&self, bytes: u64) {
        self.with_bar(|bar| {
            if let Some(bar) = bar {
                bar.advance(bytes);
            }
        });
    }
}
