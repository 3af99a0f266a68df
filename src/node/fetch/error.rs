//! What can go wrong between a location and an artefact in the staging folder.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::layer::LayerError;
use crate::source::SourceError;

/// Why an artefact could not be brought into the staging folder.
///
/// Addresses in it have neither credentials nor query strings.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A text that is no location. (The first half of the sentence is kairos-agent's.)
    #[error(
        "source {source_text} does not match any of oci:, file: or http(s): name one of these, or a path with a slash"
    )]
    UnknownSource {
        /// What was written, without credentials.
        source_text: String,
    },
    /// A location of a known kind that is malformed.
    #[error("{location} is no location to fetch from: {problem}")]
    InvalidLocation {
        /// What was written, without credentials.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate file cannot be used.
    #[error("cannot use the authorities' certificates in {path}: {problem}; name a PEM file")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client: {cause}")]
    Client {
        /// The innermost cause.
        cause: String,
    },
    /// No connection, or no answer.
    #[error(
        "cannot reach {url}: {cause}; check the address, the network and the proxy settings (HTTP_PROXY, HTTPS_PROXY, NO_PROXY)"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The innermost cause.
        cause: String,
    },
    /// The server's certificate does not lead to a trusted authority.
    #[error(
        "the certificate of the server of {url} is not trusted ({cause}); if it is the right server, name its authority's certificate with --ca-file"
    )]
    Untrusted {
        /// What was asked for.
        url: String,
        /// What OpenSSL says.
        cause: String,
    },
    /// The server leads astray.
    #[error(
        "{url} leads elsewhere in a way that is not followed: {problem}; name the final address"
    )]
    Redirect {
        /// What was asked for.
        url: String,
        /// Which way.
        problem: String,
    },
    /// 404 or 410.
    #[error("{url} does not exist (the server answers {status}); check the address")]
    NotFound {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// 401, 403 or 407.
    #[error(
        "no access to {url} (the server answers {status}); check the address, or write a login into it as https://NAME:PASSWORD@HOST/…"
    )]
    Denied {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// Any other answer that is not the content.
    #[error("the server answers {status} for {url}; try again later or ask who runs it")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The connection broke, more often than is put up with.
    #[error(
        "the download of {url} broke off after {received} bytes ({cause}); start it again, it goes on where the server allows it"
    )]
    Broken {
        /// What was asked for.
        url: String,
        /// Bytes that had come.
        received: u64,
        /// The innermost cause.
        cause: String,
    },
    /// An answer that contradicts itself.
    #[error("the server of {url} answers nonsense: {problem}; ask who runs it")]
    Nonsense {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// More bytes than are accepted.
    #[error(
        "{url} has more than {limit} bytes, which is refused as too large; name another source"
    )]
    TooLarge {
        /// What was asked for.
        url: String,
        /// How many bytes are accepted, downloaded or unpacked.
        limit: u64,
    },
    /// The staging folder's file system is full, or would be.
    #[error(
        "not enough room in {}: {available} bytes are free{}; remove extensions that are not needed (see gc), or free space there",
        folder.display(),
        wanted(needed)
    )]
    NoSpace {
        /// The staging folder.
        folder: PathBuf,
        /// Bytes that are still to be written, where that is known.
        needed: Option<u64>,
        /// Bytes that can be written, less the reserve.
        available: u64,
    },
    /// A file in the staging folder cannot be written.
    #[error("cannot write {}", path.display())]
    Staging {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A local artefact cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A device, a directory, a pipe.
    #[error("{} is {what}, not a regular file; name the image file itself", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The artefact is not the one that was wanted.
    #[error(
        "{url} has the SHA-256 digest {actual}, but {expected} was expected ({origin}); it was damaged or replaced, and is not kept"
    )]
    WrongDigest {
        /// The artefact.
        url: String,
        /// What it should be.
        expected: Digest,
        /// What came.
        actual: Digest,
        /// Who expects it.
        origin: String,
    },
    /// `SHA256SUMS` was demanded and is absent.
    #[error("there is no {url}, but it was demanded; publish it, or name the digest with --sha256")]
    NoChecksums {
        /// Where it should be.
        url: String,
    },
    /// `SHA256SUMS` is not one.
    #[error(
        "line {line} of {url} {problem}; have it written anew (sha256sum), or name the digest with --sha256"
    )]
    MalformedChecksums {
        /// The file.
        url: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with the line.
        problem: &'static str,
    },
    /// `SHA256SUMS` does not have the artefact.
    #[error("{url} does not list {name}; have it added, or name the digest with --sha256")]
    NotListed {
        /// The file.
        url: String,
        /// The artefact's name in its folder.
        name: String,
    },
    /// A name that the store would not take.
    #[error(
        "the file name {name:?} that {origin} suggests {reason}; rename the artefact where it is published"
    )]
    Name {
        /// The name.
        name: String,
        /// What suggests it.
        origin: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Compressed content is damaged, cut off, or made to exhaust memory.
    #[error("the {format} data of {url} cannot be unpacked: {source}; publish it anew")]
    Unpack {
        /// The artefact.
        url: String,
        /// `xz`, `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder says.
        source: io::Error,
    },
    /// A compression that is not unpacked here.
    #[error(
        "{url} is compressed with {format}, which is not unpacked here; publish it as .raw, .raw.xz, .raw.gz or .raw.zst"
    )]
    UnknownCompression {
        /// The artefact.
        url: String,
        /// Name of the format.
        format: &'static str,
    },
    /// A registry, or an image in it.
    #[error(transparent)]
    Registry(#[from] SourceError),
    /// A layer of an image that carries an artefact.
    #[error("cannot read a layer of {image}")]
    Layer {
        /// The image.
        image: String,
        /// What is wrong with the layer.
        source: LayerError,
    },
    /// Something in a registry that carries no artefact, or several.
    #[error("{image} {problem}")]
    Shape {
        /// The image.
        image: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A confext where a sysext is wanted, or the other way round.
    #[error("{image} is a {actual}, not a {wanted}; use sysgraft-agent {actual} install")]
    WrongKind {
        /// The image.
        image: String,
        /// What it is.
        actual: ExtensionKind,
        /// What was wanted.
        wanted: ExtensionKind,
    },
    /// Catalogs have system extensions only.
    #[error("--catalog is only supported for sysext")]
    CatalogKind,
    /// A name was given, and no catalog to look it up in.
    #[error(
        "{name} is no location, and no catalog is configured to look it up in; name one with --catalog, or write oci:, file: or http(s):"
    )]
    NoCatalog {
        /// The name.
        name: String,
    },
    /// No catalog has it.
    #[error("no catalog has {wanted}: {}", reasons.join("; "))]
    NotInCatalogs {
        /// Name, version and architecture.
        wanted: String,
        /// What each catalog lacks, in the order in which they were asked.
        reasons: Vec<String>,
    },
}

fn wanted(needed: &Option<u64>) -> String {
    needed.map_or_else(String::new, |needed| format!(", {needed} more are needed"))
}

impl FetchError {
    /// Whether the same may work a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            FetchError::Unreachable { .. } | FetchError::Broken { .. } => true,
            FetchError::Status { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            FetchError::Registry(error) => matches!(
                error,
                SourceError::Registry { .. } | SourceError::Truncated { .. }
            ),
            _ => false,
        }
    }
    /// Whether it is a judgement of the content, or of the disk: then bytes that came are of no use
    /// to a later attempt.
    pub(super) fn condemns_content(&self) -> bool {
        matches!(
            self,
            FetchError::NotFound { .. }
                | FetchError::TooLarge { .. }
                | FetchError::NoSpace { .. }
                | FetchError::Staging { .. }
                | FetchError::WrongDigest { .. }
                | FetchError::Unpack { .. }
                | FetchError::UnknownCompression { .. }
        )
    }
}
