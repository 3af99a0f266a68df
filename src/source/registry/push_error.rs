//! Why something was not published.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::super::error::SourceError;
use super::failure::{Failure, wait_text};
use super::upload::BlobContent;
use crate::digest::Digest;

/// What is stored in a repository, or read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushObject {
    /// A manifest or index under a tag.
    Tag(String),
    /// A manifest or index under its digest.
    Manifest(String),
    /// A blob.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Bytes.
        size: u64,
    },
    /// What the registry lists.
    List(String),
}

impl PushObject {
    /// The manifest or index of this tag or digest.
    pub(super) fn document(name: &str) -> PushObject {
        match name.contains(':') {
            true => PushObject::Manifest(name.to_owned()),
            false => PushObject::Tag(name.to_owned()),
        }
    }
}

impl fmt::Display for PushObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushObject::Tag(tag) => write!(f, "the tag {tag}"),
            PushObject::Manifest(digest) => write!(f, "the manifest {digest}"),
            PushObject::Blob { digest, size } => write!(f, "the blob {digest} of {size} bytes"),
            PushObject::List(what) => f.write_str(what),
        }
    }
}

/// Why something was not published.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry cannot be spoken to.
    #[error(transparent)]
    Access(#[from] SourceError),
    /// What becomes a blob cannot be read.
    #[error("cannot read {path}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No right to write.
    #[error("the registry does not let you write to {repository} ({login}){said}")]
    Refused {
        /// Registry and path.
        repository: String,
        /// Which login was used.
        login: String,
        /// What the registry said of it.
        said: String,
    },
    /// Nobody may write there.
    #[error(
        "{repository} takes no {object} ({said}); if it is a mirror or a cache, publish to the registry itself"
    )]
    ReadOnly {
        /// Registry and path.
        repository: String,
        /// What was to be stored.
        object: PushObject,
        /// What the registry said.
        said: String,
    },
    /// Some registries do not make what is not there.
    #[error("there is no repository {repository} ({said}); create it in the registry first")]
    NoRepository {
        /// Registry and path.
        repository: String,
        /// What the registry said.
        said: String,
    },
    /// A rule of the registry keeps a tag where it is.
    #[error(
        "{repository} does not let {object} move ({said}); latest moves with each version, and a version's tag with each architecture that comes: exempt them from the registry's rule, or publish all architectures at once"
    )]
    Immutable {
        /// Registry and path.
        repository: String,
        /// The tag.
        object: PushObject,
        /// What the registry said.
        said: String,
    },
    /// It is larger than what is taken.
    #[error(
        "{repository} does not take {object}, which is too large ({said}); raise the limit of the registry, or of the proxy before it (nginx: client_max_body_size)"
    )]
    TooLarge {
        /// Registry and path.
        repository: String,
        /// What was to be stored.
        object: PushObject,
        /// What the registry said.
        said: String,
    },
    /// What came has another digest.
    #[error(
        "{repository} received another content than that of {object} ({said}); if it did not change meanwhile, publish again"
    )]
    Damaged {
        /// Registry and path.
        repository: String,
        /// What was to be stored.
        object: PushObject,
        /// What the registry said.
        said: String,
    },
    /// The registry takes only so much in a time.
    #[error("{repository} is over the registry's rate limit ({login}): {wait}, and publish again")]
    RateLimited {
        /// Registry and path.
        repository: String,
        /// Which login was used.
        login: String,
        /// How long to wait.
        wait: String,
    },
    /// The certificate of the registry is not trusted.
    #[error(
        "the certificate of the registry of {repository} is not trusted ({cause}); if it is the right registry, name its authority's certificate with --ca-file"
    )]
    Untrusted {
        /// Registry and path.
        repository: String,
        /// OpenSSL's verdict.
        cause: String,
    },
    /// The registry does not answer, or with another error.
    #[error("cannot publish to {repository} ({object}): {cause}")]
    Registry {
        /// Registry and path.
        repository: String,
        /// What was to be stored or read.
        object: PushObject,
        /// The innermost cause.
        cause: String,
    },
}

impl PushError {
    /// The error for a blob that cannot be read.
    pub(super) fn content(content: &BlobContent, source: io::Error) -> PushError {
        let path = match content {
            BlobContent::File { path, .. } => path.clone(),
            // Memory can always be read.
            BlobContent::Bytes(_) => PathBuf::new(),
        };
        PushError::Content { path, source }
    }

    /// The error for `object`, which `failure` kept from `repository`.
    pub(super) fn new(
        repository: String,
        object: PushObject,
        failure: Failure,
        login: String,
    ) -> PushError {
        if failure.is_rate_limit() {
            let wait = wait_text(failure.retry_after());
            return PushError::RateLimited {
                repository,
                login,
                wait,
            };
        }
        let is_absence = failure.is_absence();
        let is_denied = failure.has_code(&["UNAUTHORIZED", "DENIED"]);
        let is_damaged = failure.has_code(&["DIGEST_INVALID", "SIZE_INVALID"]);
        let (status, said) = match failure {
            Failure::Unauthorized => {
                return PushError::Refused {
                    repository,
                    login,
                    said: String::new(),
                };
            }
            Failure::Refused {
                status, message, ..
            } => (status, message),
            Failure::Untrusted { cause } => return PushError::Untrusted { repository, cause },
            Failure::Connection { cause } | Failure::Nonsense { problem: cause } => {
                return PushError::Registry {
                    repository,
                    object,
                    cause,
                };
            }
            Failure::Ended { missing } => {
                return PushError::Registry {
                    repository,
                    object,
                    cause: format!("the answer ended {missing} bytes before its end"),
                };
            }
        };
        match (status, &object) {
            // Harbor answers 412, Amazon's registry 400, Azure's 405.
            (400 | 405 | 409 | 412, PushObject::Tag(_))
                if is_about_immutable_tags(status, &said) =>
            {
                PushError::Immutable {
                    repository,
                    object,
                    said,
                }
            }
            _ if is_denied || status == 403 => PushError::Refused {
                repository,
                login,
                said: format!(": {said}"),
            },
            _ if is_absence => PushError::NoRepository { repository, said },
            _ if is_damaged => PushError::Damaged {
                repository,
                object,
                said,
            },
            (413, _) => PushError::TooLarge {
                repository,
                object,
                said,
            },
            (405, _) => PushError::ReadOnly {
                repository,
                object,
                said,
            },
            _ => PushError::Registry {
                repository,
                object,
                cause: said,
            },
        }
    }
}

/// There is no code for it in the specification.
fn is_about_immutable_tags(status: u16, said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let words = ["immutable", "overwrit", "already exists", "locked"];
    status == 412 || words.iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(object: PushObject, status: u16, code: &str, message: &str) -> String {
        let failure = Failure::Refused {
            status,
            codes: vec![code.to_owned()],
            message: format!("{status}: {code}: {message}"),
            retry_after: None,
        };
        let error = PushError::new("r.example/x".to_owned(), object, failure, "as a".to_owned());
        error.to_string()
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let tag = || PushObject::document("1.2");
        let blob = || PushObject::Blob {
            digest: Digest::of(b"x"),
            size: 1,
        };
        for (object, status, code, message, expected) in [
            (
                tag(),
                403,
                "DENIED",
                "no",
                "does not let you write to r.example/x (as a): 403",
            ),
            (tag(), 401, "UNAUTHORIZED", "no", "(as a)"),
            (tag(), 412, "PRECONDITION", "rule", "exempt them"),
            (
                tag(),
                400,
                "TAG_INVALID",
                "the repository is immutable",
                "the tag 1.2 move",
            ),
            (blob(), 405, "UNSUPPORTED", "no", "mirror or a cache"),
            (blob(), 413, "", "", "client_max_body_size"),
            (
                blob(),
                404,
                "NAME_UNKNOWN",
                "no",
                "create it in the registry first",
            ),
            (blob(), 400, "DIGEST_INVALID", "no", "publish again"),
            (blob(), 429, "", "", "rate limit (as a): wait"),
            (blob(), 400, "TAG_INVALID", "", "of 1 bytes): 400"),
        ] {
            let said = said(object, status, code, message);
            assert!(said.contains(expected), "{said}");
        }
    }
}
