//! What the benchmarks share: layers, peers, measuring, tables.

#![allow(dead_code)] // each benchmark uses a part of it

pub mod builder;
pub mod children;
pub mod layer;
pub mod machine;
pub mod measure;
pub mod mount;
pub mod peers;
pub mod results;
pub mod session;
pub mod table;
