//! What can go wrong between a reference and the bytes of its layers.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::platform::Platform;
use crate::digest::Digest;
use crate::printable::sentence;

/// Why an image or a layer could not be had.
///
/// Readers of layers wrap it into an [`io::Error`]; [`SourceError::from_read`] takes it out again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory was named where a file is needed.
    #[error(
        "{path} is a directory, not an archive; for a root tree write dir:{path}, for an OCI layout oci:{path}"
    )]
    IsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A file was named where a directory is needed.
    #[error(
        "{path} is no directory; for a tar archive write tar:{path}, for an image oci-archive:{path} or docker-archive:{path}"
    )]
    NotDirectory {
        /// The file.
        path: PathBuf,
    },
    /// Something is not built as its format demands.
    #[error("{object} is malformed: {problem}")]
    Malformed {
        /// The file, blob or document.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that has to fit into memory is too large.
    #[error("{object} has more than {limit} bytes, which no sound image needs; it is refused")]
    TooLarge {
        /// The document.
        object: String,
        /// How many bytes are accepted.
        limit: u64,
    },
    /// A document or blob does not have the digest by which it was named.
    #[error("{object} was damaged or replaced: its digest is {actual}, not {expected}")]
    WrongDigest {
        /// The document.
        object: String,
        /// The digest by which it was named.
        expected: Digest,
        /// The digest that it has.
        actual: Digest,
    },
    /// An archive or a layout lacks a part that it names.
    #[error("{container} lacks {member}; it is incomplete, save the image again")]
    Missing {
        /// The archive or layout.
        container: String,
        /// The missing part.
        member: String,
    },
    /// Fewer bytes came than were announced.
    #[error("{object} ended early, {missing} bytes are missing; try again")]
    Truncated {
        /// The layer or archive.
        object: String,
        /// How many announced bytes did not come.
        missing: u64,
    },
    /// No image of the wanted name is in an archive or layout.
    #[error("{container} has no image {wanted:?}; it has: {}", list(available))]
    NoSuchImage {
        /// The archive or layout.
        container: String,
        /// The name or tag that was asked for.
        wanted: String,
        /// The names that are there.
        available: Vec<String>,
    },
    /// An archive or layout has several images and none was chosen.
    #[error(
        "{container} has several images for {platform}; append :NAME with one of: {}",
        list(available)
    )]
    Ambiguous {
        /// The archive or layout.
        container: String,
        /// The platform that was asked for.
        platform: Platform,
        /// The names that are there.
        available: Vec<String>,
    },
    /// The image exists, but not for the wanted platform.
    #[error("{location} is not for {platform}, only for: {}", list(available))]
    NoSuchPlatform {
        /// The image.
        location: String,
        /// The platform that was asked for.
        platform: Platform,
        /// The platforms that are there.
        available: Vec<String>,
    },
    /// A layer has a media type that is no tar archive in the registry.
    #[error("layer {digest} has the media type {media_type:?}, {reason}")]
    LayerMediaType {
        /// The layer, as the manifest names it.
        digest: String,
        /// Its media type.
        media_type: String,
        /// Why that does not work.
        reason: &'static str,
    },
    /// A temporary file cannot be made or written.
    #[error(
        "cannot write a temporary file in {directory}; name a directory with enough space in TMPDIR"
    )]
    Temporary {
        /// The directory for temporary files.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard input was asked for twice.
    #[error("the archive on standard input was already read; save it to a file and use tar:FILE")]
    StandardInputGone,
    /// A pipe or the like was asked for twice.
    #[error(
        "{path} was already read and is no regular file; save the archive to a file and use tar:FILE"
    )]
    PipeGone {
        /// The pipe.
        path: PathBuf,
    },
    /// No container engine listens where one is expected.
    #[error(
        "no container engine is running: none of the sockets {} exists; start Docker or Podman, or say --engine",
        list(tried)
    )]
    NoEngine {
        /// The sockets that were looked for.
        tried: Vec<String>,
    },
    /// The address of the engine is of a kind that is not supported.
    #[error(
        "cannot use the engine at {address:?}: {problem}; supported are unix:///PATH and tcp://HOST:PORT, also with TLS"
    )]
    EngineAddress {
        /// The value of `DOCKER_HOST`, or the address in a Docker context.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The Docker context that is to be used does not name an engine.
    #[error(
        "cannot use the Docker context {name:?}: {problem}; `docker context ls` lists those that there are"
    )]
    EngineContext {
        /// The context.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file for the TLS connection to the engine is not what it should be.
    #[error("cannot use {path} for TLS to the container engine: {problem}")]
    EngineCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system denies the engine's socket.
    #[error("may not use the container engine at {engine}: {cause}; {advice}")]
    EngineForbidden {
        /// Its socket.
        engine: String,
        /// What the system says.
        cause: String,
        /// Who may use it, and what to do.
        advice: String,
    },
    /// The engine does not answer.
    #[error("the container engine at {engine} does not answer: {cause}")]
    EngineUnreachable {
        /// Its socket.
        engine: String,
        /// The innermost cause.
        cause: String,
    },
    /// The engine answers with an error.
    #[error("the container engine at {engine} refuses to hand out {image}: {message}")]
    EngineRefused {
        /// Its socket.
        engine: String,
        /// The image.
        image: String,
        /// The engine's message.
        message: String,
    },
    /// The engine does not have the image.
    #[error("the container engine at {engine} has no image {image}; pull or build it first")]
    NotInEngine {
        /// Its socket.
        engine: String,
        /// The image.
        image: String,
    },
    /// The engine's export of an image does not have one of the image's layers.
    #[error("the container engine's export of {image} lacks layer {diff_id}; pull the image again")]
    NotInExport {
        /// The image.
        image: String,
        /// The layer that was looked for.
        diff_id: Digest,
    },
    /// The registry wants a login, or hides that the image does not exist.
    #[error("no access to {image}: it does not exist or needs a login ({login})")]
    Unauthorized {
        /// The image.
        image: String,
        /// Which credentials were used.
        login: String,
    },
    /// The registry does not have the image or one of its parts.
    #[error("{image} does not exist in its registry; check name and tag")]
    NotInRegistry {
        /// The image.
        image: String,
    },
    /// The registry does not answer, or with an error.
    #[error("cannot get {image} from its registry: {cause}")]
    Registry {
        /// The image or the blob.
        image: String,
        /// The innermost cause.
        cause: String,
    },
    /// The registry hands out only so much in a time.
    #[error("{image} is over the registry's rate limit ({login}): log in, or {wait}")]
    RateLimited {
        /// The image or the blob.
        image: String,
        /// Which credentials were used.
        login: String,
        /// How long to wait.
        wait: String,
    },
    /// The certificate of the registry is not trusted.
    #[error(
        "the certificate of the registry of {image} is not trusted ({cause}); if it is the right registry, name its authority's certificate with --ca-file"
    )]
    UntrustedRegistry {
        /// The image or the blob.
        image: String,
        /// OpenSSL's verdict.
        cause: String,
    },
    /// `registries.conf` forbids the registry.
    #[error("{image} is not asked for: {file} blocks its registry")]
    RegistryBlocked {
        /// The image.
        image: String,
        /// The configuration file.
        file: PathBuf,
    },
    /// A file that says how to get at registries is of no use.
    #[error("cannot use {path}: {problem}")]
    RegistrySettings {
        /// The configuration, certificate or key.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Neither the registry nor a mirror of it has the image.
    #[error(
        "cannot get {image}, not from its registry ({}) and not from mirrors: {mirrors}",
        sentence(registry)
    )]
    NoMirror {
        /// The image.
        image: String,
        /// What the registry said.
        registry: Box<SourceError>,
        /// What the mirrors said.
        mirrors: String,
    },
    /// The reference may mean another image tomorrow.
    #[error("{reference} is not pinned: a digest is required, as in NAME@sha256:…")]
    NoDigest {
        /// The reference.
        reference: String,
    },
    /// Signatures are kept in registries, and the image comes from somewhere else.
    #[error(
        "{reference} has no signature that could be verified: cosign keeps them in registries; write docker://NAME"
    )]
    NoPlaceOfSignatures {
        /// The reference.
        reference: String,
    },
    /// The key that must have signed the image is of no use.
    #[error("cannot verify signatures with {path}: {problem}")]
    VerifyKey {
        /// The file with the key.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The image is not signed by the key that must have signed it.
    #[error("{image} is not to be trusted: {problem}")]
    Untrusted {
        /// The image, with the digest that should be signed.
        image: String,
        /// Why no signature counts.
        problem: String,
    },
    /// A bare reference was found neither in the engine nor in the registry.
    #[error(
        "{image} was found neither in a container engine ({}) nor in a registry ({})",
        sentence(engine),
        sentence(registry)
    )]
    Nowhere {
        /// The image.
        image: String,
        /// What the engine said.
        engine: Box<SourceError>,
        /// What the registry said.
        registry: Box<SourceError>,
    },
    /// The thread that talks to engines and registries could not be started, or died.
    #[error("cannot run the network thread")]
    NetworkThread {
        /// What the system says.
        source: io::Error,
    },
}

impl SourceError {
    /// What an [`io::Error`] from reading `object` means: the error of this room that it wraps, or
    /// else what `otherwise` makes of it.
    pub fn from_read(
        error: io::Error,
        otherwise: impl FnOnce(io::Error) -> SourceError,
    ) -> SourceError {
        error.downcast::<SourceError>().unwrap_or_else(otherwise)
    }
}

impl From<SourceError> for io::Error {
    fn from(error: SourceError) -> io::Error {
        io::Error::other(error)
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// The message of the innermost cause of `error`: HTTP libraries wrap "connection refused" in
/// layers of "error sending request".
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_an_io_error() {
        let error = io::Error::from(SourceError::StandardInputGone);
        let back = SourceError::from_read(error, |_| unreachable!());
        assert!(matches!(back, SourceError::StandardInputGone));
        let foreign =
            SourceError::from_read(io::ErrorKind::NotFound.into(), |source| SourceError::File {
                path: "/x".into(),
                source,
            });
        assert_eq!(sentence(&foreign), "cannot read /x: entity not found");
        assert_eq!(root_cause(&foreign), "entity not found");
    }
}
