//! The rules, one family to a file.

mod accounts;
mod comparison;
mod confext;
mod content;
#[cfg(test)]
mod hostile_tests;
mod kernel_modules;
mod layout;
mod leftovers;
mod libraries;
mod library_search;
mod links;
mod modes;
mod overlay;
mod release;
mod scripts;
mod secrets;
#[cfg(test)]
mod tests;
mod units;

use super::{Extension, FilesError, Findings};

/// Judges one side of an extension.
pub(super) type Rule = fn(&Extension<'_>, &mut Findings) -> Result<(), FilesError>;

/// All of them.
pub(super) const ALL: [Rule; 12] = [
    layout::check,
    overlay::check,
    modes::check,
    release::check,
    accounts::check,
    confext::check,
    leftovers::check,
    kernel_modules::check,
    units::check,
    links::check,
    content::check,
    comparison::check,
];
