//! The disk image: partition tables around data, hash tree and signature; written and read back.
//!
//! The layout is that of `systemd-repart --make-ddi=`: a `root` partition with the file system, then
//! `root-verity`, then `root-verity-sig`, without gaps.

mod assemble;
mod copy;
mod ddi;
mod folder;
mod gpt;
mod identity;
mod layout;
mod output;
mod ownership;
mod partition_type;
mod sign_request;
mod signing;

pub use assemble::{AssembleError, Assembled, assemble};
pub use copy::OnBytes;
pub(crate) use copy::copy_content;
pub use ddi::{Ddi, DdiError, Partition};
pub(crate) use folder::{is_foreign_link, open_folder};
pub use gpt::{Copies, GptError};
pub use identity::{Identity, IdentityError};
pub use layout::DATA_OFFSET;
pub(crate) use output::{Named, sync_folder, sync_folder_at};
pub use output::{Output, OutputError, discard_pending};
pub(crate) use ownership::{create_folders, give_to_owner_of, make_folder, parent};
pub use partition_type::{Designator, PartitionType, Role};
pub use sign_request::{InvalidRequest, RequestError, SignRequest};
pub use signing::{SignableImage, SigningError};
