//! A repository in a registry that is written to.

use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Reference, RegistryOperation};
use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::RegistryError;
use super::document::{Document, INDEX, MANIFEST};
use crate::digest::Digest;
use crate::printable::printable;
use crate::source::{ImageName, PushAccess, root_cause};

/// Bytes of an image that are in memory at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Is told how many more bytes were sent.
pub type OnSent = Arc<dyn Fn(u64) + Send + Sync>;

/// One repository, after a login with the right to write.
pub struct Repository {
    runtime: Runtime,
    access: PushAccess,
    name: String,
}

impl Repository {
    /// Logs in.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn open(name: &ImageName) -> Result<Repository, RegistryError> {
        let access = PushAccess::to(name)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RegistryError::Network)?;
        let repository = Repository {
            runtime,
            name: format!(
                "{}/{}",
                access.reference.registry(),
                access.reference.repository()
            ),
            access,
        };
        let PushAccess {
            client,
            reference,
            login,
            ..
        } = &repository.access;
        repository.wait("", client.auth(reference, login, RegistryOperation::Push))?;
        Ok(repository)
    }

    /// Registry and path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest or index of this tag or digest, if there is one, with its digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn document(&self, tag: &str) -> Result<Option<(Digest, Value)>, RegistryError> {
        let PushAccess { client, login, .. } = &self.access;
        let reference = self.tagged(tag);
        let pulled = client.pull_manifest_raw(&reference, login, &[MANIFEST, INDEX]);
        let (bytes, _) = match self.runtime.block_on(pulled) {
            Ok(pulled) => pulled,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.error(tag, &error)),
        };
        let document =
            serde_json::from_slice(&bytes).map_err(|error| RegistryError::Malformed {
                object: format!("{}:{tag}", self.name),
                problem: error.to_string(),
            })?;
        Ok(Some((Digest::of(&bytes), document)))
    }

    /// Stores a manifest or index under a tag or its digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn put_document(&self, tag: &str, document: &Document) -> Result<(), RegistryError> {
        let reference = self.tagged(tag);
        let media_type = HeaderValue::from_static(document.media_type);
        let client = &self.access.client;
        let pushed = client.push_manifest_raw(&reference, document.bytes.clone(), media_type);
        self.wait(tag, pushed)?;
        Ok(())
    }

    /// Stores a small blob, unless it is there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn put_blob(&self, content: &[u8]) -> Result<(), RegistryError> {
        let digest = Digest::of(content).to_string();
        let PushAccess {
            client, reference, ..
        } = &self.access;
        if !self.wait(&digest, client.blob_exists(reference, &digest))? {
            self.wait(
                &digest,
                client.push_blob(reference, content.to_vec(), &digest),
            )?;
        }
        Ok(())
    }

    /// Stores a file as a blob, unless it is there, piece by piece.
    ///
    /// # Errors
    /// [`RegistryError`]; also if the file is not what it was.
    pub fn put_file(
        &self,
        path: &Path,
        digest: Digest,
        size: u64,
        on_sent: &OnSent,
    ) -> Result<(), RegistryError> {
        let digest = digest.to_string();
        let PushAccess {
            client, reference, ..
        } = &self.access;
        if self.wait(&digest, client.blob_exists(reference, &digest))? {
            on_sent(size);
            return Ok(());
        }
        let file = File::open(path).map_err(|source| RegistryError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let on_sent = Arc::clone(on_sent);
        let pieces = stream::try_unfold(file.take(size), move |mut file| {
            let on_sent = Arc::clone(&on_sent);
            async move {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let read = file
                    .by_ref()
                    .take(PIECE_BYTES as u64)
                    .read_to_end(&mut piece)?;
                on_sent(read as u64);
                Ok((read > 0).then(|| (piece.into(), file)))
            }
        });
        // The registry compares what it received with the digest.
        let pushed = client.push_blob_stream(reference, pieces, &digest, Some(size));
        self.wait(&digest, pushed)?;
        Ok(())
    }

    /// The statements about a manifest: from the registry's own list of them, else from the one under a
    /// tag.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn referrers(&self, subject: Digest) -> Result<Vec<Referrer>, RegistryError> {
        let PushAccess {
            client, reference, ..
        } = &self.access;
        let reference = reference.clone_with_digest(subject.to_string());
        let index = self.wait("its referrers", client.pull_referrers(&reference, None))?;
        let known = index.manifests.into_iter().map(|manifest| Referrer {
            digest: manifest.digest,
            artifact_type: manifest.artifact_type,
        });
        Ok(known.collect())
    }

    fn tagged(&self, tag: &str) -> Reference {
        let reference = &self.access.reference;
        match tag.starts_with("sha256:") {
            true => reference.clone_with_digest(tag.to_owned()),
            false => Reference::with_tag(
                reference.registry().to_owned(),
                reference.repository().to_owned(),
                tag.to_owned(),
            ),
        }
    }

    fn wait<T>(
        &self,
        object: &str,
        answer: impl Future<Output = Result<T, OciDistributionError>>,
    ) -> Result<T, RegistryError> {
        let answer = self.runtime.block_on(answer);
        answer.map_err(|error| self.error(object, &error))
    }

    fn error(&self, object: &str, error: &OciDistributionError) -> RegistryError {
        let repository = self.name.clone();
        let is_refused = match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => true,
            OciDistributionError::RegistryError { envelope, .. } => {
                let refusals = [OciErrorCode::Unauthorized, OciErrorCode::Denied];
                envelope
                    .errors
                    .iter()
                    .any(|error| refusals.contains(&error.code))
            }
            _ => false,
        };
        if is_refused {
            return RegistryError::Refused {
                repository,
                login: self.access.login_description.clone(),
            };
        }
        RegistryError::Registry {
            repository,
            object: match object {
                "" => String::new(),
                object => format!(" ({object})"),
            },
            cause: printable(root_cause(error).as_bytes()),
        }
    }
}

/// A statement about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Digest of its manifest.
    pub digest: String,
    /// What it is.
    pub artifact_type: Option<String>,
}

fn is_absent(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => true,
        OciDistributionError::RegistryError { envelope, .. } => {
            let unknown = [
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ];
            envelope
                .errors
                .iter()
                .any(|error| unknown.contains(&error.code))
        }
        _ => false,
    }
}
