//! What both programs show to people: words, sizes, colours, bars and tables.
//!
//! The only room that writes to the terminal. No other room of the library uses it.

mod bar;
mod table;
pub mod text;

pub use bar::Bar;
pub use table::Table;
