//! The tags of a repository, page by page.
//!
//! Source: OCI distribution specification 1.1, "Listing Tags".

use serde::Deserialize;

use super::session::Session;

/// Pages that are read.
const PAGE_LIMIT: usize = 100;

/// Bytes of all pages after which no more of them are read.
const BYTE_LIMIT: usize = 16 << 20;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

/// The tags, as far as the registry hands out pages with them.
pub(super) async fn list(session: &Session) -> Vec<String> {
    let (mut tags, mut bytes) = (Vec::new(), 0);
    let mut next = session.url("tags/list?n=1000").ok();
    for _ in 0..PAGE_LIMIT {
        let Some(url) = next else {
            break;
        };
        let Ok((page, behind)) = session.page(&url).await else {
            break;
        };
        let Ok(list) = serde_json::from_slice::<Page>(&page) else {
            break;
        };
        tags.extend(list.tags.unwrap_or_default());
        bytes += page.len();
        next = behind.filter(|behind| *behind != url && bytes < BYTE_LIMIT);
    }
    tags
}
