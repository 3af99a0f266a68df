//! The HTTP client for a registry: whom it trusts, and who it says it is.
//!
//! Folders with certificates: containers-certs.d(5) and Docker's "Verify repository client with
//! certificates".

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::x509::X509;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, Identity, Url};

use super::super::error::{SourceError, root_cause};
use super::mirrors::Endpoint;
use super::options::{ClientCertificate, RegistryOptions};
use crate::https::follow;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that a file with certificates may have; Debian's whole bundle has 220 KiB.
const FILE_LIMIT: u64 = 4 << 20;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Documents and blobs, which may lie on other servers.
    Content,
    /// Blobs on their way to the registry: no answer comes before all of one is sent.
    Uploads,
    /// Tokens: what is sent to get one is for that server alone, and a redirection would repeat it,
    /// body and all.
    Tokens,
}

/// A client for a registry, that goes through the proxies which the environment names.
pub(super) fn client(
    endpoint: &Endpoint,
    verify: bool,
    purpose: Purpose,
    options: &RegistryOptions,
) -> Result<Client, SourceError> {
    // An encoding would not be part of the content that has the digest.
    let identity = HeaderValue::from_static("identity");
    let mut builder = Client::builder()
        .user_agent(concat!("sysgraft/", env!("CARGO_PKG_VERSION")))
        .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, identity)]))
        .redirect(match purpose {
            Purpose::Content | Purpose::Uploads => Policy::custom(follow),
            Purpose::Tokens => Policy::custom(follow_within_origin),
        })
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT);
    if purpose != Purpose::Uploads {
        builder = builder.read_timeout(options.patience.silence);
    }
    if endpoint.is_on_this_host() {
        builder = builder.no_proxy();
    }
    if !verify {
        builder = builder
            .tls_danger_accept_invalid_certs(true)
            .tls_danger_accept_invalid_hostnames(true);
    }
    let folder = certificate_folder(endpoint.host())?;
    for file in folder.authorities.iter().chain(&options.ca_file) {
        for authority in authorities(file)? {
            builder = builder.add_root_certificate(authority);
        }
    }
    if let Some(client) = options
        .client_certificate
        .as_ref()
        .or(folder.client.as_ref())
    {
        builder = builder.identity(identity_of(client)?);
    }
    builder.build().map_err(|error| SourceError::Registry {
        image: endpoint.name(),
        cause: root_cause(&error),
    })
}

/// Follows redirections to the server that was asked.
fn follow_within_origin(attempt: Attempt<'_>) -> Action {
    let first = attempt.previous().first().map(Url::origin);
    if first != Some(attempt.url().origin()) {
        return attempt.error("requests for tokens to another server");
    }
    follow(attempt)
}

/// What lies in the folder of certificates for one host.
#[derive(Default)]
struct CertificateFolder {
    authorities: Vec<PathBuf>,
    client: Option<ClientCertificate>,
}

/// The first folder that there is for `host`.
fn certificate_folder(host: &str) -> Result<CertificateFolder, SourceError> {
    let path = |variable| {
        let value = env::var_os(variable).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let own = path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
    let parents = own
        .map(|folder| folder.join("containers/certs.d"))
        .into_iter()
        .chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from));
    match parents.map(|parent| parent.join(host)).find(|f| f.is_dir()) {
        Some(folder) => read_folder(&folder),
        None => Ok(CertificateFolder::default()),
    }
}

fn read_folder(folder: &Path) -> Result<CertificateFolder, SourceError> {
    let unreadable = |source| SourceError::File {
        path: folder.to_path_buf(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    let is = |path: &Path, extension: &str| path.extension().is_some_and(|e| e == extension);
    let client = paths.iter().find(|path| is(path, "cert"));
    Ok(CertificateFolder {
        client: client.map(|certificate| ClientCertificate {
            certificate: certificate.clone(),
            key: certificate.with_extension("key"),
        }),
        authorities: paths.into_iter().filter(|path| is(path, "crt")).collect(),
    })
}

/// The certificates in a file.
fn authorities(path: &Path) -> Result<Vec<Certificate>, SourceError> {
    let unusable = |problem: String| unusable(path, problem);
    let certificates = X509::stack_from_pem(&read(path)?)
        .map_err(|error| unusable(format!("it has no certificates ({error})")))?;
    if certificates.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    let usable = certificates.iter().map(|certificate| {
        let der = certificate.to_der().map_err(|error| error.to_string());
        der.and_then(|der| Certificate::from_der(&der).map_err(|error| root_cause(&error)))
            .map_err(unusable)
    });
    usable.collect()
}

fn identity_of(client: &ClientCertificate) -> Result<Identity, SourceError> {
    let certificates = read(&client.certificate)?;
    let bad_key = |_| {
        unusable(
            &client.key,
            "it is no private key without passphrase".to_owned(),
        )
    };
    // A callback that knows nothing, lest OpenSSL ask on the terminal.
    let key = PKey::private_key_from_pem_callback(&read(&client.key)?, |_| Ok(0));
    let key = key.and_then(|key| key.private_key_to_pem_pkcs8());
    Identity::from_pkcs8_pem(&certificates, &key.map_err(bad_key)?).map_err(|error| {
        let problem = format!("it is no certificate of that key ({})", root_cause(&error));
        unusable(&client.certificate, problem)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes))
        .map_err(|error| unusable(path, error.to_string()))?;
    Ok(bytes)
}

fn unusable(path: &Path, problem: String) -> SourceError {
    SourceError::RegistrySettings {
        path: path.to_path_buf(),
        problem,
    }
}
