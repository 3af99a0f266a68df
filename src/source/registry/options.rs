//! What a user can say about registries.

use std::fmt;
use std::path::PathBuf;

use super::retry::Patience;
use super::warning::OnWarning;

/// How to get at images in registries, and what to demand of them.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// The login for the registry that the reference names. Mirrors do not get it. `None` means: a
    /// stored one.
    pub credentials: Option<Credentials>,
    /// The only file with stored logins, see containers-auth.json(5). `None` means: the usual ones.
    pub auth_file: Option<PathBuf>,
    /// `Some(true)`: only TLS, with a certificate of a trusted authority. `Some(false)`: any
    /// certificate, and plain HTTP where there is no TLS. `None`: as `registries.conf` says, else
    /// verified TLS, except that registries on this host may speak plain HTTP.
    pub tls_verify: Option<bool>,
    /// A file with certificates (PEM) of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What to show to registries that want to know who calls. `None` means: what lies in
    /// `certs.d`.
    pub client_certificate: Option<ClientCertificate>,
    /// The only file of the kind of containers-registries.conf(5). `None` means: the usual ones.
    pub registries_conf: Option<PathBuf>,
    /// Refuse references that a registry could answer with another image tomorrow.
    pub require_digest: bool,
    /// A file with the public key (PEM) that must have signed the image with cosign.
    pub verify_key: Option<PathBuf>,
    /// How long to bear with a registry.
    pub patience: Patience,
    /// Who is told what registries warn of.
    pub on_warning: OnWarning,
}

/// A name and a password or access token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The secret.
    pub password: String,
}

impl Credentials {
    /// Takes `USER:PASSWORD` apart; the name ends at the first colon.
    pub fn parse(text: &str) -> Option<Credentials> {
        let (user, password) = text.split_once(':')?;
        (!user.is_empty()).then(|| Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A certificate for clients of TLS.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// File with the certificate and those up to its authority's (PEM).
    pub certificate: PathBuf,
    /// File with its private key (PEM, not encrypted).
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_may_have_colons_and_are_never_shown() {
        let credentials = Credentials::parse("alice:a:b").unwrap();
        assert_eq!(credentials.password, "a:b");
        assert!(!format!("{credentials:?}").contains("a:b"));
        assert_eq!(Credentials::parse("alice"), None);
        assert_eq!(Credentials::parse(":secret"), None);
    }
}
