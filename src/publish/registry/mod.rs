//! Images in a registry: an artefact for each architecture, an index for each version, and beside them
//! what an image holds and was made of.

mod document;
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
use document::{Document, VERSION};
use serde_json::Value;

/// The tag of the newest version.
const LATEST: &str = "latest";

/// How often an index is stored until it has all that is tagged.
const INDEX_ROUNDS: usize = 5;

/// What became of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Registry and path.
    pub repository: String,
    /// The tags that lead to it: first its own, then those of its index.
    pub tags: Vec<String>,
    /// Digest of its own manifest.
    pub manifest: Digest,
    /// Digest of the index over all architectures; `None` before it is made.
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
    /// The version cannot be a tag.
    #[error(
        "{path} has the version {version}, which cannot be tagged {tag}: {problem}; make it with another one (sysgraft sysext --extension-version)"
    )]
    Tag {
        /// The image.
        path: PathBuf,
        /// Its version.
        version: Version,
        /// The tag that it would get.
        tag: String,
        /// Why it does not.
        problem: &'static str,
    },
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

/// Whether `editions` can be in one repository: all are of one extension, and their versions can be tags.
///
/// # Errors
/// [`RegistryError::Several`], [`RegistryError::Tag`].
pub fn refuse_unfit(repository: &str, editions: &[Edition]) -> Result<(), RegistryError> {
    refuse_several(repository, editions)?;
    for edition in editions {
        let tag = tag_of(&edition.version);
        let problem = match tag == LATEST {
            true => Some("that tag leads to the newest version"),
            false => tag::flaw(&tag).or_else(|| tag::flaw(&own_tag(edition))),
        };
        if let Some(problem) = problem {
            return Err(RegistryError::Tag {
                path: edition.path.clone(),
                version: edition.version.clone(),
                tag,
                problem,
            });
        }
    }
    Ok(())
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
    refuse_unfit(repository.name(), editions)?;
    refuse_others_tags(repository, editions, options)?;
    let mut images = Vec::new();
    for edition in editions {
        let image = document::image(edition);
        let unchanged = is_there(repository, edition, &image, options)?;
        images.push((edition, image, unchanged));
    }
    for (edition, image, _) in &images {
        repository.put_blob(document::EMPTY)?;
        repository.put_file(&edition.path, edition.digest, edition.size, &on_sent)?;
        repository.put_document(&image.digest.to_string(), image)?;
    }
    let mut pushed = Vec::new();
    for (edition, image, unchanged) in &images {
        let statements = match options.statements {
            true => push_statements(repository, edition, image, options.now)?,
            false => Vec::new(),
        };
        let own_tag = own_tag(edition);
        if !unchanged {
            repository.put_document(&own_tag, image)?;
        }
        pushed.push(Pushed {
            repository: repository.name().to_owned(),
            tags: vec![own_tag],
            manifest: image.digest,
            index: None,
            unchanged: *unchanged,
            statements,
        });
    }
    for version in versions(editions) {
        let mut of_version = images
            .iter()
            .filter(|(edition, ..)| edition.version == version)
            .peekable();
        let Some((first, ..)) = of_version.peek().copied() else {
            continue;
        };
        let entries: Vec<Value> = of_version
            .map(|(edition, image, _)| document::entry(edition.architecture, image))
            .collect();
        let (index, tags) = push_index(repository, first, &entries)?;
        for (edition, pushed) in editions.iter().zip(&mut pushed) {
            if edition.version == version {
                pushed.index = Some(index);
                pushed.tags.extend(tags.iter().cloned());
            }
        }
    }
    Ok(pushed)
}

/// What [`push`] would do, as far as that is known before.
///
/// # Errors
/// [`RegistryError`], as of [`push`].
pub fn preview(
    repository: &Repository,
    editions: &[Edition],
    options: Options<'_>,
) -> Result<Vec<Pushed>, RegistryError> {
    refuse_unfit(repository.name(), editions)?;
    refuse_others_tags(repository, editions, options)?;
    let preview = |edition: &Edition| {
        let image = document::image(edition);
        Ok(Pushed {
            repository: repository.name().to_owned(),
            tags: vec![own_tag(edition), tag_of(&edition.version)],
            manifest: image.digest,
            index: None,
            unchanged: is_there(repository, edition, &image, options)?,
            statements: Vec::new(),
        })
    };
    editions.iter().map(preview).collect()
}

/// The tag of an image alone: `VERSION-ARCH`, with the architecture's name in registries.
fn own_tag(edition: &Edition) -> String {
    let architecture = edition.architecture;
    let architecture = architecture
        .oci_name()
        .unwrap_or(architecture.systemd_name());
    format!("{}-{architecture}", tag_of(&edition.version))
}

/// All versions, the oldest first, so that the newest one is the last to be called the latest.
fn versions(editions: &[Edition]) -> Vec<Version> {
    let mut versions: Vec<Version> = editions
        .iter()
        .map(|edition| edition.version.clone())
        .collect();
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
        tags.extend(versions(editions).iter().map(tag_of));
    }
    tags.push(LATEST.to_owned());
    for tag in tags {
        if let Some(known) = repository.document(&tag)?
            && !is_index_of(edition, &known.content)
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

fn is_index_of(edition: &Edition, document: &Value) -> bool {
    document::is_index(document) && document::is_of(edition, document)
}

/// Puts `images`, which are all of one version, into its index.
fn push_index(
    repository: &Repository,
    edition: &Edition,
    images: &[Value],
) -> Result<(Digest, Vec<String>), RegistryError> {
    let tag = tag_of(&edition.version);
    // Whoever publishes for another architecture at the same time may put an index without these images in
    // the place of this one. But all tag their images before, so that the last one to look finds all of them.
    let mut rounds = 0;
    let index = loop {
        let known = repository.document(&tag)?;
        let content = known.as_ref().map(|known| &known.content);
        let content = content.filter(|content| is_index_of(edition, content));
        let others = others(repository, edition, content)?;
        let index = document::index(edition, content, &[others.as_slice(), images].concat());
        if known.is_some_and(|known| known.digest == index.digest) || rounds == INDEX_ROUNDS {
            break index;
        }
        repository.put_document(&tag, &index)?;
        rounds += 1;
    };
    let mut tags = vec![tag];
    let latest = repository.document(LATEST)?;
    let latest_version = latest
        .as_ref()
        .and_then(|latest| version_of(&latest.content));
    if latest_version.is_none_or(|latest| Version::from(latest) <= edition.version) {
        if latest.is_none_or(|latest| latest.digest != index.digest) {
            repository.put_document(LATEST, &index)?;
        }
        tags.push(LATEST.to_owned());
    }
    Ok((index.digest, tags))
}

/// The images of the same version that are tagged, but not in its index.
fn others(
    repository: &Repository,
    edition: &Edition,
    index: Option<&Value>,
) -> Result<Vec<Value>, RegistryError> {
    let prefix = format!("{}-", tag_of(&edition.version));
    let mut others = Vec::new();
    for tag in repository.tags() {
        let architecture = tag.strip_prefix(&prefix).and_then(|name| name.parse().ok());
        let Some(architecture) = architecture else {
            continue;
        };
        if index.is_some_and(|index| document::has(index, architecture)) {
            continue;
        }
        // Two versions may have the same tag.
        if let Some(known) = repository.document(&tag)?
            && document::is_of(edition, &known.content)
            && version_of(&known.content) == Some(edition.version.as_str())
        {
            others.extend(document::entry_of_known(architecture, &known));
        }
    }
    Ok(others)
}

fn version_of(document: &Value) -> Option<&str> {
    document["annotations"][VERSION].as_str()
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
