//! Turns container images into signed systemd extensions, and reads them back.
//!
//! An extension is a disk image (a DDI, "discoverable disk image") that systemd-sysext or
//! systemd-confext merges into `/usr` or `/etc` of a running host. The rooms of this library stand
//! in the order in which a container layer flows through them; a room only ever uses those before
//! it:
//!
//! | room | what it does |
//! |---|---|
//! | [`source`] | finds a container image (engine, registry, archive, directory) and opens its layers |
//! | [`layer`] | turns the bytes of a layer into entries: decompression, digests, tar |
//! | [`tree`] | decides which entries belong into the extension, and where |
//! | [`erofs`] | writes the tree as an EROFS file system in one pass, and reads it back |
//! | [`verity`] | hashes its blocks into a dm-verity tree |
//! | [`signature`] | signs the root hash of that tree with PKCS#7 |
//! | [`image`] | assembles data, hash tree and signature into a GPT image, and takes it apart |
//! | [`lint`] | looks for what would surprise a host |
//! | [`mod@build`] | the whole job, from a layer to a file under its final name |
//! | [`verification`] | proves a finished image: tables, blocks, signature, release file |
//! | [`publish`] | brings proved images to where nodes look for them: feeds, registries, catalogs |
//! | [`inspection`] | gathers what an image says of itself, and how two differ |
//! | [`page`] | shows that in browsers |
//!
//! Beside them stand [`secureboot`], which makes the keys that firmware and nodes trust, and
//! [`terminal`], with which both programs speak to people. Small modules that any room may use have
//! the vocabulary: [`digest`], [`efi`], [`extension`], …

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation
)]

pub mod architecture;
pub mod build;
pub mod digest;
pub mod efi;
pub mod erofs;
pub mod extension;
pub mod extension_release;
mod https;
pub mod image;
pub mod image_file;
pub mod inspection;
pub mod layer;
pub mod lint;
pub mod name_service;
pub mod node;
pub mod page;
pub mod printable;
pub mod provenance;
pub mod publish;
pub mod read_at;
pub mod release;
pub mod secureboot;
pub mod seed;
pub mod sha256sums;
pub mod signature;
pub mod source;
pub mod terminal;
pub mod timestamp;
pub mod tree;
pub mod unit_name;
pub mod verification;
pub mod verity;
pub mod version;
