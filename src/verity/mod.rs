//! (being written)

pub mod sha256;
