//! What is said about an image beside it: what it holds, and what it was made of.
//!
//! Neither statement is signed. What the provenance says stands in the image's release file, which the
//! image's own signature covers.

mod provenance;
mod spdx;

pub use provenance::provenance;
pub use spdx::{SpdxError, spdx};

use super::edition::Edition;

/// Media type of a statement of in-toto.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Media type of an SPDX document in JSON.
pub const SPDX: &str = "application/spdx+json";

/// Media types of the statements that there are about an image.
pub fn types(edition: &Edition) -> Vec<&'static str> {
    match provenance(edition) {
        Some(_) => vec![SPDX, IN_TOTO],
        None => vec![SPDX],
    }
}
