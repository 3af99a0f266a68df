//! TLS to an engine, with OpenSSL as for everything else.

use std::fs;
use std::path::{Path, PathBuf};

use native_tls::{Certificate, Identity, TlsConnector};
use openssl::pkey::PKey;

use crate::source::error::{SourceError, root_cause};

/// What a connection is made with, as Docker names the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// `ca.pem`: who signed the engine's certificate. Without it the system's authorities count.
    pub authority: Option<PathBuf>,
    /// `cert.pem`: by which the engine knows its client.
    pub certificate: Option<PathBuf>,
    /// `key.pem`: the key of that certificate.
    pub key: Option<PathBuf>,
    /// Whether anybody may pose as the engine, as `docker context create` can be told.
    pub skip_verification: bool,
}

impl TlsFiles {
    /// Those that are in `folder`.
    ///
    /// # Errors
    /// [`SourceError::File`] where it cannot be said whether one is there: without its files an
    /// engine would be spoken to in plain text, or trusted for another reason.
    pub fn of(folder: &Path) -> Result<TlsFiles, SourceError> {
        let present = |name| {
            let path = folder.join(name);
            match path.try_exists() {
                Ok(exists) => Ok(exists.then_some(path)),
                Err(source) => Err(SourceError::File { path, source }),
            }
        };
        Ok(TlsFiles {
            authority: present("ca.pem")?,
            certificate: present("cert.pem")?,
            key: present("key.pem")?,
            skip_verification: false,
        })
    }

    /// What makes connections with them.
    pub fn connector(&self) -> Result<TlsConnector, SourceError> {
        let mut builder = TlsConnector::builder();
        builder
            .danger_accept_invalid_certs(self.skip_verification)
            .danger_accept_invalid_hostnames(self.skip_verification);
        if let Some(path) = &self.authority {
            builder.disable_built_in_roots(true);
            let authorities = Certificate::stack_from_pem(&read(path)?)
                .map_err(|error| unusable(path, &error))?;
            for authority in authorities {
                builder.add_root_certificate(authority);
            }
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                builder.identity(identity(certificate, key)?);
            }
            (Some(path), None) | (None, Some(path)) => {
                return Err(SourceError::EngineCertificate {
                    path: path.clone(),
                    problem: "cert.pem and key.pem belong together, and one is missing".to_owned(),
                });
            }
            (None, None) => {}
        }
        builder.build().map_err(|error| {
            let path = self.authority.clone().unwrap_or_default();
            unusable(&path, &error)
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    fs::read(path).map_err(|source| SourceError::File {
        path: path.to_owned(),
        source,
    })
}

fn unusable(path: &Path, error: &(dyn std::error::Error + 'static)) -> SourceError {
    SourceError::EngineCertificate {
        path: path.to_owned(),
        problem: root_cause(error),
    }
}

/// `cause`, with what it means if it is the engine's refusal of its client.
pub(super) fn explain(cause: String) -> String {
    // Which of them depends on the engine's Go.
    let refusals = [
        "alert bad certificate",
        "alert certificate required",
        "alert unknown ca",
    ];
    match refusals.iter().any(|refusal| cause.contains(refusal)) {
        true => format!(
            "it does not know its client, whose cert.pem and key.pem are missing beside ca.pem or not \
             of the engine's authority ({cause})"
        ),
        false => cause,
    }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, SourceError> {
    // Docker's guide makes keys of the older form, which only OpenSSL takes.
    let pem = PKey::private_key_from_pem_passphrase(&read(key)?, b"")
        .and_then(|key| key.private_key_to_pem_pkcs8())
        .map_err(|error| unusable(key, &error))?;
    Identity::from_pkcs8(&read(certificate)?, &pem).map_err(|error| unusable(certificate, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let said = || {
            let files = TlsFiles::of(folder.path()).unwrap();
            files.connector().err().map(|error| error.to_string())
        };
        assert_eq!(said(), None);
        write("key.pem", "no key");
        assert!(said().unwrap().contains("belong together"));
        write("cert.pem", "no certificate");
        assert!(said().unwrap().contains("key.pem"), "{:?}", said());
        write(
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        assert!(said().unwrap().contains("ca.pem"), "{:?}", said());
    }
}
