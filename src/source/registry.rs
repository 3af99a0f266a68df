//! Images in a registry that speaks the OCI distribution protocol.

use std::error::Error;
use std::future::Future;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt, stream};
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Client, Reference, RegistryOperation};

use super::content_store::{self, ContentStore};
use super::credentials::Login;
use super::error::{SourceError, root_cause};
use super::manifest::{Descriptor, Document, Manifest, verified};
use super::platform::Platform;
use super::reference::ImageName;
use super::registry_document::DocumentClient;
use super::runtime::Runtime;
use super::window::{ExactReader, file_error, read_document};
use super::{Image, LayerBytes, OpenLayer};
use crate::digest::Digest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a registry may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a manifest may take, all of it.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits before the second and later tries.
const BACKOFF: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// The image called `name`, with the login in `auth_file` (`None`: the stored ones).
pub(super) fn find(
    name: &ImageName,
    platform: &Platform,
    auth_file: Option<&Path>,
) -> Result<Image, SourceError> {
    let registry = Registry::open(name, auth_file, &[])?;
    let location = format!("docker://{}", name.canonical());
    let (digest, manifest) = registry.manifest_for(name, platform)?;
    content_store::image(&registry, location, digest, &manifest, platform)
}

/// A registry that was logged in to.
pub(super) struct Registry {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
}

/// What requests need, and what lives as long as the last of them.
struct Session {
    client: Client,
    documents: DocumentClient,
    reference: Reference,
    login: Login,
}

impl Registry {
    /// The registry of `name`. Besides the system's authorities it may be vouched for by those with
    /// the certificates (DER) `authorities`.
    pub fn open(
        name: &ImageName,
        auth_file: Option<&Path>,
        authorities: &[Vec<u8>],
    ) -> Result<Registry, SourceError> {
        let reference = name.reference().clone();
        let config = ClientConfig {
            protocol: protocol(&reference),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("sysgraft/", env!("CARGO_PKG_VERSION")),
            extra_root_certificates: authorities
                .iter()
                .map(|der| Certificate {
                    encoding: CertificateEncoding::Der,
                    data: der.clone(),
                })
                .collect(),
            ..ClientConfig::default()
        };
        let failed = |error: OciDistributionError| SourceError::Registry {
            image: name.to_string(),
            cause: root_cause(&error),
        };
        let documents = DocumentClient::new(&config).map_err(failed)?;
        let client = Client::try_from(config).map_err(failed)?;
        let registry = Registry {
            runtime: Runtime::start()?,
            session: Arc::new(Session {
                client,
                documents,
                login: Login::find(reference.registry(), auth_file),
                reference,
            }),
        };
        let session = Arc::clone(&registry.session);
        registry
            .runtime
            .wait(async move { session.log_in().await })?;
        Ok(registry)
    }

    /// The manifest that `name` stands for on `platform`, with its digest.
    pub fn manifest_for(
        &self,
        name: &ImageName,
        platform: &Platform,
    ) -> Result<(Digest, Manifest), SourceError> {
        let (mut digest, mut document) = self.root(name)?;
        if let Document::Index(entries) = document {
            let candidates = content_store::candidates(self, &entries)?;
            // "If multiple manifests match […], the first matching entry SHOULD be used."
            // (OCI image specification, image-index.md)
            let fitting = content_store::best(&candidates, platform);
            let Some(chosen) = fitting.first() else {
                let offers = candidates.iter().map(|candidate| &candidate.offer);
                let location = format!("docker://{}", name.canonical());
                return Err(content_store::no_such_platform(&location, platform, offers));
            };
            digest = chosen.digest;
            document = content_store::document(self, digest)?;
        }
        match document {
            Document::Manifest(manifest) => Ok((digest, *manifest)),
            Document::Index(_) => Err(SourceError::Malformed {
                object: format!("manifest {digest}"),
                problem: "it is an index where a manifest has to be".to_owned(),
            }),
        }
    }

    /// The blob with this digest and size from byte `offset` on, not verified. It ends early only
    /// with an error.
    pub fn blob(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let session = Arc::clone(&self.session);
        let name = format!("{} ({digest})", session.image());
        let opened = async move { session.open_blob(digest, offset).await };
        let (blob, start) = match self.runtime.wait(opened)? {
            BlobResponse::Partial(blob) => (blob, offset),
            BlobResponse::Full(blob) => (blob, 0),
        };
        let object = name.clone();
        let mut reader = self
            .runtime
            .read(blob.map_err(move |error| broken(&object, &error)))?;
        // A registry that knows no ranges sends all of it.
        let surplus = offset - start;
        let skipped = io::copy(&mut (&mut reader).take(surplus), &mut io::sink())
            .map_err(|error| SourceError::from_read(error, |error| file_error(&name, error)))?;
        if skipped < surplus {
            return Err(SourceError::Truncated {
                object: name,
                missing: size.saturating_sub(skipped),
            });
        }
        Ok(Box::new(ExactReader::new(
            reader,
            size.saturating_sub(offset),
            name,
        )))
    }

    /// The index or manifest that the name stands for.
    fn root(&self, name: &ImageName) -> Result<(Digest, Document), SourceError> {
        let reference = self.session.reference.clone();
        let bytes = self.fetch_manifest(reference)?;
        let digest = Digest::of(&bytes);
        let title = format!("manifest of docker://{}", name.canonical());
        let bytes = match name.reference().digest().map(str::parse) {
            Some(Ok(expected)) => verified(bytes, expected, &title)?,
            _ => bytes,
        };
        Ok((digest, Document::parse(&bytes, &title)?))
    }

    fn fetch_manifest(&self, reference: Reference) -> Result<Vec<u8>, SourceError> {
        let session = Arc::clone(&self.session);
        let object = format!("docker://{reference}");
        let bytes = self
            .runtime
            .wait(async move { session.manifest(reference).await })?;
        read_document(bytes.as_slice(), &object)
    }
}

impl ContentStore for Registry {
    fn manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        let reference = &self.session.reference;
        self.fetch_manifest(reference.clone_with_digest(digest.to_string()))
    }

    fn configuration(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        let session = Arc::clone(&self.session);
        let blob = self.runtime.read(session.stream(digest))?;
        read_document(blob, &format!("image configuration {digest}"))
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<Box<dyn OpenLayer>, SourceError> {
        Ok(Box::new(RegistryLayer {
            runtime: Arc::clone(&self.runtime),
            session: Arc::clone(&self.session),
            digest: descriptor.digest()?,
            descriptor: descriptor.clone(),
        }))
    }
}

struct RegistryLayer {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
    digest: Digest,
    descriptor: Descriptor,
}

impl OpenLayer for RegistryLayer {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        self.descriptor.check_layer_type()?;
        let session = Arc::clone(&self.session);
        let blob = self.runtime.read(session.stream(self.digest))?;
        let name = format!("layer {} of {}", self.digest, self.session.image());
        let blob = ExactReader::new(blob, self.descriptor.size, name);
        Ok(LayerBytes::Archive(Box::new(blob)))
    }
}

impl Session {
    /// What messages call the image.
    fn image(&self) -> String {
        format!("docker://{}", self.reference)
    }

    /// Gets the token with which all else is asked for, if the registry wants one.
    async fn log_in(&self) -> Result<(), SourceError> {
        let auth = || {
            let auth = &self.login.auth;
            self.client
                .auth(&self.reference, auth, RegistryOperation::Pull)
        };
        match retried(auth).await {
            Ok(token) => {
                self.documents.show(token).await;
                Ok(())
            }
            Err(error) => Err(self.error(self.image(), error)),
        }
    }

    async fn manifest(&self, reference: Reference) -> Result<Vec<u8>, SourceError> {
        let object = format!("docker://{reference}");
        let fetch = || self.documents.get(&reference, &self.login.auth);
        let fetched = async {
            match retried(fetch).await {
                // The token may have expired; some live for a minute only.
                Err(OciDistributionError::UnauthorizedError { .. }) => {
                    self.log_in().await?;
                    retried(fetch).await
                }
                done => done,
            }
            .map_err(|error| self.error(object.clone(), error))
        };
        match tokio::time::timeout(DOCUMENT_TIMEOUT, fetched).await {
            Ok(done) => done,
            Err(_) => Err(SourceError::Registry {
                image: object,
                cause: "it took too long".to_owned(),
            }),
        }
    }

    /// The bytes of a blob, not verified.
    fn stream(
        self: Arc<Self>,
        digest: Digest,
    ) -> impl Stream<Item = Result<impl AsRef<[u8]> + Send + 'static, SourceError>> + Send + 'static
    {
        let opened = async move {
            let object = format!("{} ({digest})", self.image());
            let blob = match self.open_blob(digest, 0).await? {
                BlobResponse::Full(blob) | BlobResponse::Partial(blob) => blob,
            };
            Ok(blob.map_err(move |error| broken(&object, &error)))
        };
        stream::once(opened).try_flatten()
    }

    /// Asks for a blob from byte `offset` on; the registry may send all of it nonetheless.
    async fn open_blob(&self, digest: Digest, offset: u64) -> Result<BlobResponse, SourceError> {
        let name = digest.to_string();
        // A plain request would be hashed on the network thread; see the crate's documentation of
        // partial blobs.
        let open = || {
            let reference = &self.reference;
            self.client
                .pull_blob_stream_partial(reference, name.as_str(), offset, None)
        };
        let opened = retried(open).await;
        opened.map_err(|error| self.error(format!("{} ({name})", self.image()), error))
    }

    fn error(&self, object: String, error: OciDistributionError) -> SourceError {
        let image = object;
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => self.unauthorized(image),
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                SourceError::NotInRegistry { image }
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| {
                    envelope
                        .errors
                        .iter()
                        .any(|error| codes.contains(&error.code))
                };
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    self.unauthorized(image)
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                    OciErrorCode::BlobUnknown,
                ]) {
                    SourceError::NotInRegistry { image }
                } else {
                    SourceError::Registry {
                        image,
                        cause: envelope.to_string().escape_debug().to_string(),
                    }
                }
            }
            other => SourceError::Registry {
                image,
                cause: root_cause(&other).escape_debug().to_string(),
            },
        }
    }

    fn unauthorized(&self, image: String) -> SourceError {
        SourceError::Unauthorized {
            image,
            login: self.login.description.clone(),
        }
    }
}

/// The error for a blob whose bytes stop coming.
fn broken(object: &str, error: &(dyn Error + 'static)) -> SourceError {
    SourceError::Registry {
        image: object.to_owned(),
        cause: root_cause(error),
    }
}

/// Tries again what may work a moment later.
async fn retried<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, OciDistributionError>
where
    F: Future<Output = Result<T, OciDistributionError>>,
{
    for wait in BACKOFF {
        match attempt().await {
            Err(error) if is_transient(&error) => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
    attempt().await
}

fn is_transient(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(error) => {
            error.is_connect() || error.is_timeout() || error.is_request() || error.is_body()
        }
        OciDistributionError::ServerError { code, .. } => {
            matches!(code, 429 | 500 | 502 | 503 | 504)
        }
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .any(|error| error.code == OciErrorCode::Toomanyrequests),
        _ => false,
    }
}

/// HTTPS, except on this host, where no one can listen in: the same rule as Docker's.
pub(super) fn protocol(reference: &Reference) -> ClientProtocol {
    let registry = reference.resolve_registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let is_loopback = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if is_loopback {
        ClientProtocol::HttpsExcept(vec![registry.to_owned()])
    } else {
        ClientProtocol::Https
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_on_this_host_are_spoken_to_in_plain_text() {
        for (name, is_plain) in [
            ("localhost:5000/x", true),
            ("localhost/x", true),
            ("127.0.0.1:5000/x", true),
            ("127.1.2.3/x", true),
            ("localhost.example.org/x", false),
            ("128.0.0.1:5000/x", false),
            ("alpine", false),
        ] {
            let protocol = protocol(&name.parse().unwrap());
            assert_eq!(protocol != ClientProtocol::Https, is_plain, "{name}");
        }
    }
}
