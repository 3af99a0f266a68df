//! The node: everything that brings extensions onto a host, and keeps them right there.

pub mod fetch;
