//! Artefacts from `http:` and `https:` servers, with the `SHA256SUMS` beside them.

use super::download::download;
use super::file_name::stored_name;
use super::http::{HttpClient, WebFile};
use super::intake::Intake;
use super::location::WebAddress;
use super::staging::Slot;
use super::{Checksums, FetchError, Fetched, Progress, Request, check, checksums};
use crate::digest::Digest;

/// Brings in the file at `address`.
pub(super) fn fetch(
    address: &WebAddress,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let url = address.to_string();
    let raw_name = address.file_name();
    let file_name = stored_name(&raw_name, request.kind, &url)?;
    let client = HttpClient::new(request.ca_file, &request.patience)?;
    let listed = listed_digest(&client, address, &raw_name, request, progress)?;
    let slot = Slot::claim(request.staging, address.digest())?;
    let intake = Intake::new(slot, url.clone(), request.max_size)?;
    let source = WebFile {
        client: &client,
        address,
    };
    let received = download(&source, intake, &request.patience, progress)?;
    check(&received, &url, request.sha256, listed)?;
    Ok(Fetched {
        file_name,
        source: url,
        version: None,
        received,
    })
}

/// What the list beside the artefact says of it.
fn listed_digest(
    client: &HttpClient,
    address: &WebAddress,
    name: &[u8],
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Option<Digest>, FetchError> {
    match request.checksums {
        Checksums::Ignored => return Ok(None),
        // Who names the digest needs no list.
        Checksums::IfPresent if request.sha256.is_some() => return Ok(None),
        Checksums::IfPresent | Checksums::Required => {}
    }
    let sums = address.sibling(checksums::FILE_NAME);
    let url = sums.to_string();
    match client.document(&sums, checksums::LIMIT, &request.patience, progress) {
        Ok(list) => checksums::expected(&list, name, &url).map(Some),
        // Object stores answer 403 for what is absent.
        Err(FetchError::NotFound { .. } | FetchError::Denied { .. }) => match request.checksums {
            Checksums::Required => Err(FetchError::NoChecksums { url }),
            _ => Ok(None),
        },
        Err(error) => Err(error),
    }
}
