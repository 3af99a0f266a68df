//! What an image holds, or how two differ, as one page for browsers.
//!
//! A page is complete in itself: it loads nothing and runs nothing, and a Content-Security-Policy in
//! it sees to that. Whatever comes from an image is hostile text: [`maud`] escapes it, and what could
//! make it look like something else is made visible ([`words::visible`]). However many files there
//! are, a page names the largest ones and sums up the rest.

mod difference;
mod frame;
mod image;
mod map;
mod partitions;
mod tables;
mod tree;
mod treemap;
mod words;

pub use difference::of_difference;
pub use image::of_image;
