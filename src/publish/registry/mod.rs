//! Images in a registry: an artefact for each architecture, an index for each version, and beside them
//! what an image holds and was made of.

mod document;
mod index;
mod repository;
mod tag;

use std::path::PathBuf;
use std::sync::Arc;

pub use document::artifact_type;
pub use repository::Repository;
use repository::referrers_tag;
pub use tag::{RepositoryName, tag_of};

use super::attestation::{self, SpdxError};
use super::edition::Edition;
use crate::digest::Digest;
use crate::source::{OnSent, PushError};
use crate::version::Version;
use document::Document;
use index::Mode;
use serde_json::Value;

/// The tag of the newest version.
const LATEST: &str = "latest";

/// What became of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Registry and path.
    pub repository: String,
    /// The tags that lead to it: first its own, then those of its index.
    pub tags: Vec<String>,
    /// Digest of its own manifest.
    pub manifest: Digest,
    /// Digest of the index over all architectures.
    pub index: Option<Digest>,
    /// Whether it was there.
    pub unchanged: bool,
    /// Media types of the statements beside it.
    pub statements: Vec<&'static str>,
}

/// Why an image did not come into a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry did not take something.
    #[error(transparent)]
    Push(#[from] PushError),
    /// What is under a tag cannot be added to.
    #[error("{object} cannot be added to: {problem}")]
    Malformed {
        /// What was read.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Several extensions.
    #[error(
        "{first} and {second} cannot share the repository {repository}; publish each extension to one of its own"
    )]
    Several {
        /// One of them.
        first: String,
        /// Another one.
        second: String,
        /// The repository.
        repository: String,
    },
    /// The version's tag is taken.
    #[error(
        "{0} has the version {LATEST}, which is the tag of the newest version; make it with another one (sysgraft sysext --extension-version)"
    )]
    Latest(PathBuf),
    /// Nodes that have the version would never get the other content.
    #[error(
        "{repository}:{tag} is published already, with another content; publish under a new version (or say --replace)"
    )]
    Occupied {
        /// Registry and path.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// A tag belongs to something else: a container image, or another extension.
    #[error(
        "{repository}:{tag} is there, and not of the {extension}; publish each extension to a repository of its own"
    )]
    Foreign {
        /// Registry and path.
        repository: String,
        /// The tag.
        tag: String,
        /// What would be published.
        extension: String,
    },
    /// The content of an image cannot be listed.
    #[error(transparent)]
    Spdx(#[from] SpdxError),
}

/// How images are pushed.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Whether a version may get another content.
    pub replace: bool,
    /// Whether statements go along: what an image holds, and what it was made of.
    pub statements: bool,
    /// Time of the statements (RFC 3339).
    pub now: &'a str,
}

/// Which manifest an image would get; without a registry.
pub fn manifest_digest(edition: &Edition) -> Digest {
    document::image(edition).digest
}

/// Whether `editions` can be in one repository: all are of one extension, and no version is called `latest`.
///
/// # Errors
/// [`RegistryError::Several`], [`RegistryError::Latest`].
pub fn refuse_unfit(repository: &str, editions: &[Edition]) -> Result<(), RegistryError> {
    refuse_several(repository, editions)?;
    // All others become tags: an edition's version is short, and of letters, digits, `.`, `-` and `+`.
    match editions
        .iter()
        .find(|edition| tag_of(&edition.version) == LATEST)
    {
        Some(edition) => Err(RegistryError::Latest(edition.path.clone())),
        None => Ok(()),
    }
}

fn refuse_several(repository: &str, editions: &[Edition]) -> Result<(), RegistryError> {
    for pair in editions.windows(2) {
        if let [first, second] = pair
            && (first.kind, &first.name) != (second.kind, &second.name)
        {
            return Err(RegistryError::Several {
                first: format!("the {}", words(first)),
                second: format!("the {}", words(second)),
                repository: repository.to_owned(),
            });
        }
    }
    Ok(())
}

fn words(edition: &Edition) -> String {
    format!("{} {}", edition.kind, edition.name)
}

/// An image, and what the registry knows of it.
struct Image<'a> {
    edition: &'a Edition,
    document: Document,
    /// Whether its tag leads to it already.
    is_there: bool,
}

impl Image<'_> {
    fn pushed(&self, repository: &Repository, statements: Vec<&'static str>) -> Pushed {
        Pushed {
            repository: repository.name().to_owned(),
            tags: vec![own_tag(self.edition)],
            manifest: self.document.digest,
            index: None,
            unchanged: self.is_there,
            statements,
        }
    }
}

/// Pushes `editions`, which are of one extension. Blobs come first and tags last, so that a tag always
/// leads to a complete image.
///
/// # Errors
/// [`RegistryError`]. What was stored until then does no harm.
pub fn push(
    repository: &Repository,
    editions: &[Edition],
    options: Options<'_>,
    on_sent: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Vec<Pushed>, RegistryError> {
    let on_sent: OnSent = Arc::new(on_sent);
    let images = look(repository, editions, options)?;
    for Image {
        edition, document, ..
    } in &images
    {
        repository.put_blob(document::EMPTY)?;
        repository.put_file(&edition.path, edition.digest, edition.size, &on_sent)?;
        repository.put_document(&document.digest.to_string(), document)?;
    }
    let mut pushed = Vec::new();
    for image in &images {
        let statements = match options.statements {
            true => push_statements(repository, image.edition, &image.document, options.now)?,
            false => Vec::new(),
        };
        if !image.is_there {
            repository.put_document(&own_tag(image.edition), &image.document)?;
        }
        pushed.push(image.pushed(repository, statements));
    }
    index::add(repository, &images, &mut pushed, Mode::Push)?;
    Ok(pushed)
}

/// What [`push`] would do. Whoever publishes at the same time may still change the indexes.
///
/// # Errors
/// [`RegistryError`], as of [`push`].
pub fn preview(
    repository: &Repository,
    editions: &[Edition],
    options: Options<'_>,
) -> Result<Vec<Pushed>, RegistryError> {
    let images = look(repository, editions, options)?;
    let preview = |image: &Image<'_>| {
        let statements = match options.statements {
            true => attestation::types(image.edition),
            false => Vec::new(),
        };
        image.pushed(repository, statements)
    };
    let mut pushed: Vec<Pushed> = images.iter().map(preview).collect();
    index::add(repository, &images, &mut pushed, Mode::Preview)?;
    Ok(pushed)
}

/// What the registry has of `editions`, unless they may not come into it.
fn look<'a>(
    repository: &Repository,
    editions: &'a [Edition],
    options: Options<'_>,
) -> Result<Vec<Image<'a>>, RegistryError> {
    refuse_unfit(repository.name(), editions)?;
    refuse_others_tags(repository, editions, options)?;
    let look = |edition| {
        let document = document::image(edition);
        Ok(Image {
            is_there: is_there(repository, edition, &document, options)?,
            edition,
            document,
        })
    };
    editions.iter().map(look).collect()
}

/// The tag of an image alone: `VERSION-ARCH`, with the architecture's name in registries.
fn own_tag(edition: &Edition) -> String {
    let architecture = edition.architecture;
    let architecture = architecture
        .oci_name()
        .unwrap_or(architecture.systemd_name());
    format!("{}-{architecture}", tag_of(&edition.version))
}

/// All versions, the oldest first.
fn versions<'a>(editions: impl Iterator<Item = &'a Edition>) -> Vec<Version> {
    let mut versions: Vec<Version> = editions.map(|edition| edition.version.clone()).collect();
    versions.sort();
    versions.dedup();
    versions
}

fn is_there(
    repository: &Repository,
    edition: &Edition,
    image: &Document,
    options: Options<'_>,
) -> Result<bool, RegistryError> {
    let tag = own_tag(edition);
    match repository.document(&tag)? {
        Some(known) if known.digest == image.digest => Ok(true),
        Some(_) if !options.replace => Err(RegistryError::Occupied {
            repository: repository.name().to_owned(),
            tag,
        }),
        _ => Ok(false),
    }
}

/// That nothing but indexes over this extension is under the tags that are to be moved.
fn refuse_others_tags(
    repository: &Repository,
    editions: &[Edition],
    options: Options<'_>,
) -> Result<(), RegistryError> {
    let Some(edition) = editions.first() else {
        return Ok(());
    };
    let mut tags: Vec<String> = Vec::new();
    if !options.replace {
        tags.extend(versions(editions.iter()).iter().map(tag_of));
    }
    tags.push(LATEST.to_owned());
    for tag in tags {
        if let Some(known) = repository.document(&tag)?
            && !index::is_index_of(edition, &known.content)
        {
            return Err(RegistryError::Foreign {
                repository: repository.name().to_owned(),
                tag,
                extension: words(edition),
            });
        }
    }
    Ok(())
}

/// Pushes what is not there yet, and says what is there then.
fn push_statements(
    repository: &Repository,
    edition: &Edition,
    image: &Document,
    now: &str,
) -> Result<Vec<&'static str>, RegistryError> {
    let known = repository.referrers(image.digest)?;
    let is_known = |media_type: &str| {
        let mut types = known.iter().map(|known| known.artifact_type.as_deref());
        types.any(|known| known == Some(media_type))
    };
    let mut there = Vec::new();
    if !is_known(attestation::SPDX) {
        let statement = attestation::spdx(edition, now)?;
        push_statement(repository, edition, image, attestation::SPDX, &statement)?;
    }
    there.push(attestation::SPDX);
    if let Some(statement) = attestation::provenance(edition) {
        if !is_known(attestation::IN_TOTO) {
            push_statement(repository, edition, image, attestation::IN_TOTO, &statement)?;
        }
        there.push(attestation::IN_TOTO);
    }
    Ok(there)
}

fn push_statement(
    repository: &Repository,
    edition: &Edition,
    image: &Document,
    media_type: &'static str,
    statement: &Value,
) -> Result<(), RegistryError> {
    let suffix = match media_type {
        attestation::SPDX => "spdx",
        _ => "intoto",
    };
    let title = format!("{}.{suffix}.json", edition.file_name());
    let statement = statement.to_string().into_bytes();
    let referrer = document::referrer(image, media_type, &title, &statement);
    repository.put_blob(document::EMPTY)?;
    repository.put_blob(&statement)?;
    if repository.put_document(&referrer.digest.to_string(), &referrer)? {
        return Ok(());
    }
    let tag = referrers_tag(image.digest);
    let list = repository.document(&tag)?;
    let list = list.as_ref().map(|list| &list.content);
    if list.is_some_and(|list| !document::is_index(list)) {
        return Err(RegistryError::Malformed {
            object: format!("{}:{tag}", repository.name()),
            problem: "statements are listed there, but it is no index".to_owned(),
        });
    }
    let list = document::referrers(list, &referrer);
    repository.put_document(&tag, &list)?;
    Ok(())
}
