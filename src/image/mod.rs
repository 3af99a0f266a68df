//! The disk image: partition tables around data, hash tree and signature; written and read back.
//!
//! The layout is that of `systemd-repart --make-ddi=`: a `root` partition with the file system, then
//! `root-verity`, then `root-verity-sig`, without gaps.

mod assemble;
mod ddi;
mod gpt;
mod layout;
mod output;
mod partition_type;

pub use assemble::{AssembleError, Assembled, assemble};
pub use ddi::{Ddi, DdiError, Partition};
pub use gpt::{Copies, GptError};
pub use layout::DATA_OFFSET;
pub(crate) use output::sync_folder;
pub use output::{Output, OutputError, discard_pending};
pub use partition_type::{Designator, PartitionType, Role};
