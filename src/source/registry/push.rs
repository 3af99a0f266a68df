//! A registry that is to be written to.

use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::super::error::{SourceError, root_cause};
use super::super::reference::ImageName;
use super::credentials::{Login, Secret};
use super::mirrors::Endpoint;
use super::options::RegistryOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a registry may be silent: it may have to move what it received.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// A client for the registry of one repository, and the stored login for it.
pub(crate) struct PushAccess {
    pub client: Client,
    pub reference: Reference,
    pub login: RegistryAuth,
    /// What to tell the user of the login; never contains a secret.
    pub login_description: String,
}

impl PushAccess {
    /// Nothing is sent yet. Blobs are pushed in one request each, which every registry takes.
    pub fn to(name: &ImageName) -> Result<PushAccess, SourceError> {
        let reference = name.as_oci().clone();
        let endpoint = Endpoint::of_name(&format!("{}/{}", name.registry(), name.repository()));
        let config = ClientConfig {
            protocol: protocol(&endpoint),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("sysgraft/", env!("CARGO_PKG_VERSION")),
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        let login = Login::find(&endpoint, &RegistryOptions::default());
        Ok(PushAccess {
            client: Client::try_from(config).map_err(|error| SourceError::Registry {
                image: name.to_string(),
                cause: root_cause(&error),
            })?,
            reference,
            login: match login.secret {
                Secret::Password { user, password } => RegistryAuth::Basic(user, password),
                // The client has no way to exchange identity tokens.
                Secret::Anonymous | Secret::IdentityToken(_) => RegistryAuth::Anonymous,
            },
            login_description: login.description,
        })
    }
}

/// HTTPS, except on this host, where no one can listen in: the same rule as Docker's.
fn protocol(endpoint: &Endpoint) -> ClientProtocol {
    match endpoint.is_on_this_host() {
        true => ClientProtocol::HttpsExcept(vec![endpoint.host().to_owned()]),
        false => ClientProtocol::Https,
    }
}
