//! dm-verity: a tree of digests over the blocks of a file system.
//!
//! The digest of every data block is SHA-256 of salt and block; 128 digests fill a hash block,
//! whose digests fill the blocks of the next level, until one block is left. Its digest is the root
//! hash, which stands for every bit of the data. The hash partition holds a [`Superblock`] and then
//! the tree, its top level first.
//!
//! Sources of the format: `Documentation/admin-guide/device-mapper/verity.rst` of Linux 6.12, and
//! cryptsetup's `lib/verity/verity.c` and `verity_hash.c`.

mod chunks;
mod data_writer;
mod geometry;
mod root_hash;
pub mod sha256;
mod superblock;
mod tree;
mod verified_data;
mod verify;

pub use data_writer::{HashedData, HashedDataWriter};
pub use geometry::Geometry;
pub use root_hash::{InvalidRootHash, RootHash};
pub use superblock::{InvalidSuperblock, Salt, Superblock};
pub use tree::HashTree;
pub use verified_data::VerifiedData;
pub use verify::{Damage, VerifiedGeometry, verify, verify_with};

pub use crate::erofs::BLOCK_SIZE;

/// Salted SHA-256 of one block.
pub type BlockDigest = [u8; 32];
