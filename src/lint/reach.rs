//! How far lint could look: what it must not read, and what would take too long.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::{Code, FilesError, Findings};
use crate::layer::EntryPath;

/// So many steps one run may take: names that are looked up, with those above them, and what is read.
/// The largest extensions need some hundred thousand, and a million steps take about a second.
const MAX_STEPS: u64 = if cfg!(test) { 200_000 } else { 8_000_000 };
/// So many places that could not be read are told.
const MAX_BLIND: usize = 1000;

/// What is left of the steps, and what was not seen.
pub(super) struct Reach {
    steps: Cell<u64>,
    cut_short: Cell<bool>,
    blind: RefCell<BTreeSet<(EntryPath, Side)>>,
}

/// Where a place lies that could not be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Extension,
    Host,
}

impl Reach {
    pub fn new() -> Reach {
        Reach {
            steps: Cell::new(MAX_STEPS),
            cut_short: Cell::new(false),
            blind: RefCell::default(),
        }
    }

    /// Takes steps off what is left.
    ///
    /// # Errors
    /// [`FilesError::TooLong`] if fewer are left; from then on always.
    pub fn spend(&self, steps: usize) -> Result<(), FilesError> {
        let left = self.steps.get().checked_sub(steps as u64);
        self.steps.set(left.unwrap_or_default());
        left.map(|_| ()).ok_or_else(|| {
            self.cut_short();
            FilesError::TooLong
        })
    }

    /// Something is not judged, for there is too much of it.
    pub fn cut_short(&self) {
        self.cut_short.set(true);
    }

    pub fn is_cut_short(&self) -> bool {
        self.cut_short.get()
    }

    /// Passes `result` on, with `None` for what is out of reach, of which a note is made.
    ///
    /// # Errors
    /// All others.
    pub fn seen<T>(
        &self,
        result: Result<T, FilesError>,
        path: &EntryPath,
        side: Side,
    ) -> Result<Option<T>, FilesError> {
        match result {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.is_out_of_reach() => {
                self.miss(path, side);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub fn miss(&self, path: &EntryPath, side: Side) {
        let mut blind = self.blind.borrow_mut();
        if blind.len() < MAX_BLIND {
            blind.insert((path.clone(), side));
        }
    }

    pub fn report(&self, findings: &mut Findings) {
        for (path, side) in self.blind.borrow().iter() {
            let message = match side {
                Side::Extension => "cannot be read, so that what is in it is not judged",
                Side::Host => {
                    "cannot be read on the host, so that nothing is said of what needs it"
                }
            };
            findings.add(Code::UnreadableContent, path, message);
        }
        if self.is_cut_short() {
            let message =
                "has more links, programs or text than lint looks at; the rest is not judged";
            findings.add(Code::JudgedInPart, &EntryPath::root(), message);
        }
    }
}
