//! The arguments that say how to speak to registries, and what to demand of the images in them.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use clap::{ArgAction, Args};
use sysgraft::source::{
    ClientCertificate, Credentials, ImageReference, OnWarning, RegistryOptions,
};
use sysgraft::terminal::text;

/// Repeated at each argument: a heading of the whole would be that of all arguments behind it, too.
const HEADING: &str = "Registry";

/// Says what registries warn of; the same one for all of them, so that nothing is said twice.
static ON_WARNING: LazyLock<OnWarning> = LazyLock::new(|| OnWarning::new(text::warning));

/// How to speak to registries: logins, TLS, mirrors.
#[derive(Args)]
pub struct ConnectionArguments {
    /// Login for the registry [default: what is stored, as by `podman login`]
    // Not parsed by clap, whose errors would show the password.
    #[arg(
        long,
        help_heading = HEADING,
        value_name = "USER:PASSWORD",
        env = "SYSGRAFT_REGISTRY_CREDS",
        hide_env_values = true
    )]
    creds: Option<String>,
    /// File with stored logins, as `podman login` and `docker login` write it [default:
    /// $REGISTRY_AUTH_FILE, else those of containers-auth.json(5)]
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Whether registries need a certificate that is trusted; false takes any, and plain HTTP
    /// [default: true, but plain HTTP on this machine; see also insecure in registries.conf]
    #[arg(
        long,
        help_heading = HEADING,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    tls_verify: Option<bool>,
    /// Certificates (PEM) of authorities that are trusted beside the system's
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to registries [default: that in certs.d/HOST]
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// File with mirrors and insecure registries, as containers-registries.conf(5) describes [default: the
    /// usual ones]
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
}

impl ConnectionArguments {
    /// What the library needs to know for speaking to registries.
    pub fn options(&self) -> Result<RegistryOptions> {
        let credentials = self.creds.as_deref().map(|creds| {
            Credentials::parse(creds).context("--creds must be USER:PASSWORD, separated by a colon")
        });
        let client = self.client_cert.clone().zip(self.client_key.clone());
        Ok(RegistryOptions {
            credentials: credentials.transpose()?,
            auth_file: self.authfile.clone(),
            tls_verify: self.tls_verify,
            ca_file: self.ca_file.clone(),
            client_certificate: client
                .map(|(certificate, key)| ClientCertificate { certificate, key }),
            registries_conf: self.registries_conf.clone(),
            on_warning: ON_WARNING.clone(),
            ..RegistryOptions::default()
        })
    }
}

/// Registries that images are taken from: how to speak to them, and trust in images.
#[derive(Args)]
pub struct RegistryArguments {
    #[command(flatten)]
    connection: ConnectionArguments,
    /// Refuse an image that is not named by its digest, NAME@sha256:…
    #[arg(long, help_heading = HEADING)]
    require_digest: bool,
    /// Public key (PEM) with which cosign must have signed the image, or nothing of it is unpacked
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    verify_key: Option<PathBuf>,
}

impl RegistryArguments {
    /// What the library needs to know for finding `image`. A reference without the digest that is
    /// required is wrong usage: the program ends.
    pub fn options(&self, image: &ImageReference) -> Result<RegistryOptions> {
        if self.require_digest && !image.is_pinned() {
            crate::usage_error(
                ErrorKind::ValueValidation,
                format!(
                    "--require-digest needs an image with one, as NAME@sha256:…; {image} has none"
                ),
            );
        }
        Ok(RegistryOptions {
            require_digest: self.require_digest,
            verify_key: self.verify_key.clone(),
            ..self.connection.options()?
        })
    }
}
