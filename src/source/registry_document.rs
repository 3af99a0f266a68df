//! Manifests and indexes from a registry, of which no more is read than they may have.
//!
//! `oci-client` logs in and hands out blobs as streams, but it reads manifests whole, however much
//! comes.

use oci_client::Reference;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope};
use oci_client::secrets::RegistryAuth;
use reqwest::header::ACCEPT;
use reqwest::{Certificate, Client, Response, StatusCode};
use tokio::sync::RwLock;

use super::manifest::{INDEX_TYPES, MANIFEST_TYPES};
use super::window::DOCUMENT_LIMIT;

/// Asks a registry for documents.
pub(super) struct DocumentClient {
    client: Client,
    scheme: &'static str,
    /// What the registry gave for the login, if that was a token.
    token: RwLock<Option<String>>,
}

impl DocumentClient {
    /// A client that speaks as `config` tells `oci-client` to.
    pub fn new(config: &ClientConfig) -> Result<DocumentClient, OciDistributionError> {
        let mut builder = Client::builder().user_agent(config.user_agent);
        if let Some(timeout) = config.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = config.read_timeout {
            builder = builder.read_timeout(timeout);
        }
        for authority in &config.extra_root_certificates {
            builder = builder.add_root_certificate(Certificate::from_der(&authority.data)?);
        }
        Ok(DocumentClient {
            client: builder.build()?,
            scheme: match config.protocol {
                ClientProtocol::Https => "https",
                ClientProtocol::Http | ClientProtocol::HttpsExcept(_) => "http",
            },
            token: RwLock::default(),
        })
    }

    /// Shows `token` with every request from now on.
    pub async fn show(&self, token: Option<String>) {
        *self.token.write().await = token;
    }

    /// The document that `reference` names, not verified; of one that is too long, one byte more
    /// than it may have.
    pub async fn get(
        &self,
        reference: &Reference,
        login: &RegistryAuth,
    ) -> Result<Vec<u8>, OciDistributionError> {
        let url = format!(
            "{}://{}/v2/{}/manifests/{}",
            self.scheme,
            reference.resolve_registry(),
            reference.repository(),
            reference.digest().or(reference.tag()).unwrap_or("latest")
        );
        let accepted: Vec<&str> = INDEX_TYPES.into_iter().chain(MANIFEST_TYPES).collect();
        let request = self.client.get(&url).header(ACCEPT, accepted.join(", "));
        let request = match (self.token.read().await.as_deref(), login) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(name, password)) => request.basic_auth(name, Some(password)),
            (None, _) => request,
        };
        let response = request.send().await?;
        let status = response.status();
        let body = beginning(response).await?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED => Err(OciDistributionError::UnauthorizedError { url }),
            _ => Err(match serde_json::from_slice::<OciEnvelope>(&body) {
                Ok(envelope) if status.is_client_error() => {
                    OciDistributionError::RegistryError { envelope, url }
                }
                _ => OciDistributionError::ServerError {
                    code: status.as_u16(),
                    url,
                    message: String::from_utf8_lossy(&body).into_owned(),
                },
            }),
        }
    }
}

/// All of an answer, or one byte more than a document may have.
async fn beginning(mut response: Response) -> Result<Vec<u8>, OciDistributionError> {
    let mut bytes = Vec::new();
    let limit = usize::try_from(DOCUMENT_LIMIT + 1).unwrap_or(usize::MAX);
    while bytes.len() < limit {
        match response.chunk().await? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}
