//! The login for a registry, from the files in which `docker login` and `podman login` keep it.

use std::env;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

/// The key under which Docker keeps the login of Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What is sent to a registry, and what to tell the user of it.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub auth: RegistryAuth,
    /// For the message when the registry refuses; never contains a secret.
    pub description: String,
}

impl Login {
    /// The login for `registry`: from `file`, or else from `$REGISTRY_AUTH_FILE`, Docker's
    /// `config.json` and Podman's `auth.json`, in this order.
    ///
    /// Whatever is wrong with a stored login only matters if the registry asks for one: most pulls
    /// need none.
    pub fn find(registry: &str, file: Option<&Path>) -> Login {
        let docker = || docker_credential::get_credential(docker_key(registry));
        let podman = || docker_credential::get_podman_credential(registry);
        let stored = match file {
            Some(file) => from_file(registry, file),
            None if env::var_os("REGISTRY_AUTH_FILE").is_some() => or_else(podman(), docker),
            None => or_else(docker(), podman),
        };
        Login::of(registry, stored)
    }

    fn of(registry: &str, stored: Result<DockerCredential, CredentialRetrievalError>) -> Login {
        let anonymous = |description: String| Login {
            auth: RegistryAuth::Anonymous,
            description,
        };
        match stored {
            Ok(DockerCredential::UsernamePassword(name, password)) => Login {
                description: format!("logged in to {registry} as {}", name.escape_debug()),
                auth: RegistryAuth::Basic(name, password),
            },
            Ok(DockerCredential::IdentityToken(_)) => anonymous(format!(
                "the stored login for {registry} is an identity token, which is not supported; \
                 log in with a name and a password or access token"
            )),
            Err(error) if is_absent(&error) => anonymous(format!(
                "no login for {registry} is stored; try docker login {registry}"
            )),
            Err(error) => anonymous(format!(
                "the stored login for {registry} cannot be read: {}",
                error.to_string().trim_end().escape_debug()
            )),
        }
    }
}

fn docker_key(registry: &str) -> &str {
    match registry {
        "docker.io" => DOCKER_HUB_KEY,
        other => other,
    }
}

fn from_file(registry: &str, file: &Path) -> Result<DockerCredential, CredentialRetrievalError> {
    let read = |key| {
        let file = File::open(file).map_err(|_| CredentialRetrievalError::ConfigReadError)?;
        docker_credential::get_credential_from_reader(BufReader::new(file), key)
    };
    or_else(read(docker_key(registry)), || read(registry))
}

type Stored = Result<DockerCredential, CredentialRetrievalError>;

/// The second place, where the first has no login; the first error that says more than that.
fn or_else(first: Stored, second: impl FnOnce() -> Stored) -> Stored {
    match first {
        Err(error) if is_absent(&error) => second(),
        other => other,
    }
}

fn is_absent(error: &CredentialRetrievalError) -> bool {
    matches!(
        error,
        CredentialRetrievalError::NoCredentialConfigured
            | CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn login(registry: &str, json: &str) -> Login {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(json.as_bytes()).unwrap();
        Login::find(registry, Some(file.path()))
    }

    fn basic(name: &str, password: &str) -> RegistryAuth {
        RegistryAuth::Basic(name.to_owned(), password.to_owned())
    }

    #[test]
    fn logins_are_found_under_the_keys_of_docker_and_podman() {
        // "alice:secret" in Base64.
        let auth = r#"{"auth":"YWxpY2U6c2VjcmV0"}"#;
        for (registry, key) in [
            ("example.org", "example.org"),
            ("localhost:5000", "localhost:5000"),
            ("docker.io", DOCKER_HUB_KEY),
            ("docker.io", "docker.io"),
        ] {
            let login = login(registry, &format!(r#"{{"auths":{{"{key}":{auth}}}}}"#));
            assert_eq!(login.auth, basic("alice", "secret"), "{registry} {key}");
            assert!(!login.description.contains("secret"));
        }
    }

    #[test]
    fn what_cannot_be_used_is_described_and_not_sent() {
        for (json, described) in [
            ("{}", "no login"),
            (
                r#"{"auths":{"example.org":{"identitytoken":"t"}}}"#,
                "identity token",
            ),
            (
                r#"{"auths":{"example.org":{"auth":"!"}}}"#,
                "cannot be read",
            ),
            (r#"{"credsStore":"does-not-exist"}"#, "cannot be read"),
        ] {
            let login = login("example.org", json);
            assert_eq!(login.auth, RegistryAuth::Anonymous);
            assert!(
                login.description.contains(described),
                "{}",
                login.description
            );
        }
    }
}
