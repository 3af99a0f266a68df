//! A repository in a registry that is written to.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::super::error::SourceError;
use super::super::reference::ImageName;
use super::super::runtime::Runtime;
use super::super::window::read_document;
use super::failure::Failure;
use super::mirrors;
use super::options::RegistryOptions;
use super::push_error::{PushError, PushObject};
use super::retry::Retries;
use super::session::{Access, STEP_TIMEOUT, Session, Tries};
use super::tags;
use super::upload::{BlobContent, OnSent, Upload, UploadFailure, stored, success};
use crate::digest::Digest;

/// By this header a registry says that it lists the manifest among what refers to its subject. Source:
/// OCI distribution specification 1.1, "Pushing Manifests with Subject".
const SUBJECT: &str = "OCI-Subject";

/// A repository that is written to.
pub(crate) struct PushTarget {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
}

impl PushTarget {
    /// The repository of `name`, wherever it may be pulled from. Who logs in with what is known when the
    /// registry asks.
    pub fn open(name: &ImageName, options: &RegistryOptions) -> Result<PushTarget, PushError> {
        let runtime = Runtime::start()?;
        let endpoint = mirrors::registry_itself(name, options)?;
        let options = options.clone();
        let opened = async move { Session::open(endpoint, &options, Access::Write).await };
        let session = Arc::new(runtime.wait(opened)?);
        Ok(PushTarget { runtime, session })
    }

    /// Registry and path.
    pub fn name(&self) -> String {
        self.session.endpoint().name()
    }

    /// The manifest or index of this tag or digest, not verified, if there is one.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>, PushError> {
        self.read(format!("manifests/{name}"), PushObject::document(name))
    }

    /// The registry's list of what refers to a manifest, if it keeps one.
    pub fn referrers(&self, subject: Digest) -> Result<Option<Vec<u8>>, PushError> {
        let list = PushObject::List(format!("what refers to {subject}"));
        self.read(format!("referrers/{subject}"), list)
    }

    /// The tags, as far as the registry lists them: not all who may write may list.
    pub fn tags(&self) -> Vec<String> {
        let session = Arc::clone(&self.session);
        let tags = async move { Ok::<_, SourceError>(tags::list(&session).await) };
        self.runtime.wait(tags).unwrap_or_default()
    }

    fn read(&self, path: String, object: PushObject) -> Result<Option<Vec<u8>>, PushError> {
        let title = format!("{object} of {}", self.name());
        let found = self.wait(object, |session| async move {
            match session.document(&path, Tries::Several).await {
                Ok(document) => Ok(Some(document)),
                Err(failure) if failure.is_absence() => Ok(None),
                Err(failure) => Err(failure),
            }
        })?;
        let found = found.map(|bytes| read_document(bytes.as_slice(), &title));
        Ok(found.transpose()?)
    }

    /// Stores a manifest or index under a tag or its digest. The result is whether the registry itself
    /// lists it among what refers to its subject.
    pub fn put_document(
        &self,
        name: &str,
        media_type: &'static str,
        content: &[u8],
    ) -> Result<bool, PushError> {
        let (path, content) = (format!("manifests/{name}"), content.to_vec());
        self.wait(PushObject::document(name), |session| async move {
            let url = session.url(&path)?;
            let put = || {
                let request = session.request(Method::PUT, url.clone());
                let request = request.header(CONTENT_TYPE, media_type);
                request.body(content.clone())
            };
            let attempt = || async { stored(session.exchange(STEP_TIMEOUT, put).await?).await };
            let stored = Retries::for_documents(&session.patience)
                .of(attempt)
                .await?;
            Ok(stored.headers().contains_key(SUBJECT))
        })
    }

    /// Stores a blob, unless it is there, and tells `on_sent` how far that is.
    pub fn put_blob(
        &self,
        digest: Digest,
        content: &BlobContent,
        on_sent: &OnSent,
    ) -> Result<(), PushError> {
        let object = || PushObject::Blob {
            digest,
            size: content.size(),
        };
        let is_there = self.wait(object(), |session| async move {
            let url = session.url(&format!("blobs/{digest}"))?;
            let ask = || session.request(Method::HEAD, url.clone());
            let attempt = || async { success(session.exchange(STEP_TIMEOUT, ask).await?).await };
            match Retries::for_documents(&session.patience).of(attempt).await {
                Ok(_) => Ok(true),
                Err(failure) if failure.is_absence() => Ok(false),
                Err(failure) => Err(failure),
            }
        })?;
        if is_there {
            on_sent(content.size());
            return Ok(());
        }
        let session = Arc::clone(&self.session);
        let upload = Upload::new(&session, digest, content.clone(), Arc::clone(on_sent));
        let (object, content) = (object(), content.clone());
        self.runtime.wait(async move {
            upload.run().await.map_err(|failure| match failure {
                UploadFailure::Content(source) => PushError::content(&content, source),
                UploadFailure::Registry(failure) => error(&session, object, failure),
            })
        })
    }

    /// What `attempt` brings.
    fn wait<T, F>(
        &self,
        object: PushObject,
        attempt: impl FnOnce(Arc<Session>) -> F,
    ) -> Result<T, PushError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let session = Arc::clone(&self.session);
        let attempt = attempt(Arc::clone(&session));
        self.runtime.wait(async move {
            attempt
                .await
                .map_err(|failure| error(&session, object, failure))
        })
    }
}

fn error(session: &Session, object: PushObject, failure: Failure) -> PushError {
    let repository = session.endpoint().name();
    PushError::new(repository, object, failure, session.login_description())
}
