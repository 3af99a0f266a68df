//! A repository in a registry that is written to.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::RegistryError;
use super::document::Document;
use crate::digest::Digest;
use crate::source::{BlobContent, ImageName, OnSent, PushTarget, RegistryOptions};

/// A manifest or index that is in a repository.
pub struct Known {
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: usize,
    /// What it says.
    pub content: Value,
}

/// One repository.
pub struct Repository {
    target: PushTarget,
    name: String,
}

impl Repository {
    /// The repository of `name`.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn open(name: &ImageName, options: &RegistryOptions) -> Result<Repository, RegistryError> {
        let target = PushTarget::open(name, options)?;
        Ok(Repository {
            name: target.name(),
            target,
        })
    }

    /// Registry and path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest or index of this tag or digest, if there is one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn document(&self, tag: &str) -> Result<Option<Known>, RegistryError> {
        let Some(bytes) = self.target.document(tag)? else {
            return Ok(None);
        };
        Ok(Some(Known {
            digest: Digest::of(&bytes),
            size: bytes.len(),
            content: self.parse(tag, &bytes)?,
        }))
    }

    /// Its tags, as far as the registry tells them.
    pub fn tags(&self) -> Vec<String> {
        self.target.tags()
    }

    /// Stores a manifest or index under a tag or its digest. The result is whether the registry itself
    /// lists it among the statements about its subject.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn put_document(&self, tag: &str, document: &Document) -> Result<bool, RegistryError> {
        let Document {
            media_type, bytes, ..
        } = document;
        Ok(self.target.put_document(tag, media_type, bytes)?)
    }

    /// Stores a small blob, unless it is there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn put_blob(&self, content: &[u8]) -> Result<(), RegistryError> {
        let (digest, content) = (Digest::of(content), BlobContent::Bytes(content.into()));
        let nobody: OnSent = Arc::new(|_| ());
        Ok(self.target.put_blob(digest, &content, &nobody)?)
    }

    /// Stores a file as a blob, unless it is there, piece by piece. The registry compares what it
    /// received with the digest.
    ///
    /// # Errors
    /// [`RegistryError`]; also if the file is not what it was.
    pub(super) fn put_file(
        &self,
        path: &Path,
        digest: Digest,
        size: u64,
        on_sent: &OnSent,
    ) -> Result<(), RegistryError> {
        let path = path.to_path_buf();
        let content = BlobContent::File { path, size };
        Ok(self.target.put_blob(digest, &content, on_sent)?)
    }

    /// The statements about a manifest: from the registry's own list of them, else from the one under a
    /// tag.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn referrers(&self, subject: Digest) -> Result<Vec<Referrer>, RegistryError> {
        let list = match self.target.referrers(subject)? {
            Some(list) => list,
            None => match self.target.document(&referrers_tag(subject))? {
                Some(list) => list,
                None => return Ok(Vec::new()),
            },
        };
        let list: Referrers = self.parse("its list of statements", &list)?;
        Ok(list.manifests)
    }

    fn parse<T: for<'a> Deserialize<'a>>(
        &self,
        object: &str,
        bytes: &[u8],
    ) -> Result<T, RegistryError> {
        serde_json::from_slice(bytes).map_err(|error| RegistryError::Malformed {
            object: format!("{}:{object}", self.name),
            problem: error.to_string(),
        })
    }
}

/// Where registries without a list of their own keep that of the statements about `subject` (OCI
/// distribution specification 1.1, "Referrers Tag Schema").
pub fn referrers_tag(subject: Digest) -> String {
    subject.to_string().replace(':', "-")
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Vec<Referrer>,
}

/// A statement about an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Digest of its manifest.
    pub digest: String,
    /// What it is.
    pub artifact_type: Option<String>,
}
