//! What both programs show to people: words, sizes, colours, bars, tables, manual pages.
//!
//! The only room that writes to the terminal. No other room of the library uses it.

mod bar;
pub mod documents;
mod table;
pub mod text;

pub use bar::Bar;
pub use table::Table;
