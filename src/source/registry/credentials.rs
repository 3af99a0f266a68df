//! The login for a registry, from the files in which `docker login`, `podman login` and their kin
//! keep it.
//!
//! Sources: containers-auth.json(5), and Docker's "config.json" and "Credential store".

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credential_helper::{self, HelperError};
use super::mirrors::Endpoint;
use super::options::{Credentials, RegistryOptions};

/// The key under which Docker keeps the login of Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Bytes that a file with logins may have.
const FILE_LIMIT: u64 = 4 << 20;

/// What is sent to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// What a token server gives tokens for (OAuth2: a refresh token).
    IdentityToken(String),
}

/// What is sent to a registry, and what to tell the user of it.
#[derive(Clone)]
pub(super) struct Login {
    pub secret: Secret,
    /// For the message when the registry refuses; never contains a secret.
    pub description: String,
}

/// Why a stored login is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    File(std::io::Error),
    #[error("it is no JSON with logins ({0})")]
    Json(serde_json::Error),
    #[error("it has more than {FILE_LIMIT} bytes")]
    TooLarge,
    #[error("its login is not USER:PASSWORD in Base64")]
    Auth,
    #[error("{0}")]
    Helper(HelperError),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Login {
    /// The login for an endpoint: the given one, or else the first in the files of
    /// containers-auth.json(5).
    ///
    /// Whatever is wrong with a stored login only matters if the registry asks for one: most pulls
    /// need none.
    pub fn find(endpoint: &Endpoint, options: &RegistryOptions) -> Login {
        if let (Some(given), false) = (&options.credentials, endpoint.is_mirror) {
            return Login::password(endpoint, given.clone());
        }
        for file in auth_files(options) {
            match stored(endpoint, &file) {
                Ok(None) => {}
                Ok(Some(Secret::Password { user, password })) => {
                    return Login::password(endpoint, Credentials { user, password });
                }
                Ok(Some(secret)) => {
                    return Login {
                        secret,
                        description: format!(
                            "logged in to {} with an identity token",
                            endpoint.registry
                        ),
                    };
                }
                Err(problem) => {
                    let problem = problem.to_string();
                    return Login::anonymous(format!(
                        "the login for {} in {} cannot be used: {}",
                        endpoint.registry,
                        file.display(),
                        problem.escape_debug()
                    ));
                }
            }
        }
        let place = match &options.auth_file {
            Some(file) => format!("in {}", file.display()),
            None => "stored".to_owned(),
        };
        Login::anonymous(format!(
            "no login for {0} is {place}; try podman login {0} or docker login {0}",
            endpoint.registry
        ))
    }

    fn password(endpoint: &Endpoint, given: Credentials) -> Login {
        Login {
            description: format!(
                "logged in to {} as {}",
                endpoint.registry,
                given.user.escape_debug()
            ),
            secret: Secret::Password {
                user: given.user,
                password: given.password,
            },
        }
    }

    fn anonymous(description: String) -> Login {
        Login {
            secret: Secret::Anonymous,
            description,
        }
    }
}

/// The files with logins, in the order of containers-auth.json(5): whoever names one means no other.
fn auth_files(options: &RegistryOptions) -> Vec<PathBuf> {
    let named = options.auth_file.clone();
    if let Some(file) = named.or_else(|| folder("REGISTRY_AUTH_FILE")) {
        return vec![file];
    }
    let home = folder("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    [
        Some(runtime_auth_file()),
        folder("XDG_CONFIG_HOME")
            .or_else(|| below_home(".config"))
            .map(|folder| folder.join("containers/auth.json")),
        folder("DOCKER_CONFIG")
            .or_else(|| below_home(".docker"))
            .map(|folder| folder.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Podman's file, which is gone after a reboot.
fn runtime_auth_file() -> PathBuf {
    match folder("XDG_RUNTIME_DIR") {
        Some(folder) => folder.join("containers/auth.json"),
        None => {
            let user = rustix::process::geteuid().as_raw();
            PathBuf::from(format!("/run/containers/{user}/auth.json"))
        }
    }
}

/// The path in an environment variable, if there is one.
fn folder(variable: &str) -> Option<PathBuf> {
    let value = env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(value.into())
}

/// The login for `endpoint` in one file.
fn stored(endpoint: &Endpoint, file: &Path) -> Result<Option<Secret>, Unusable> {
    let Some(logins) = read(file)? else {
        return Ok(None);
    };
    let keys = keys(endpoint);
    for key in &keys {
        if let Some(helper) = logins.cred_helpers.get(key) {
            return credential_helper::ask(helper, key).map_err(Unusable::Helper);
        }
    }
    for key in &keys {
        let known = logins.auths.get(key).or_else(|| {
            let mut entries = logins.auths.iter();
            entries
                .find(|(other, _)| normalized(other) == key)
                .map(|(_, entry)| entry)
        });
        if let Some(secret) = known.map(Entry::secret).transpose()?.flatten() {
            return Ok(Some(secret));
        }
    }
    let Some(helper) = &logins.creds_store else {
        return Ok(None);
    };
    // Docker's store knows no repositories, and Docker Hub under its old name.
    let key = match endpoint.registry.as_str() {
        "docker.io" => DOCKER_HUB_KEY,
        other => other,
    };
    credential_helper::ask(helper, key).map_err(Unusable::Helper)
}

fn read(file: &Path) -> Result<Option<AuthFile>, Unusable> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::File(error)),
    };
    let mut bytes = Vec::new();
    let read = opened.take(FILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(Unusable::File)?;
    match bytes.len() as u64 {
        0 => Ok(None),
        size if size > FILE_LIMIT => Err(Unusable::TooLarge),
        _ => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(Unusable::Json),
    }
}

/// The keys under which a login may stand, the most special one first: `host/a/b`, `host/a`, `host`.
fn keys(endpoint: &Endpoint) -> Vec<String> {
    let mut key = format!("{}/{}", endpoint.registry, endpoint.repository);
    let mut keys = vec![key.clone()];
    while let Some(end) = key.rfind('/') {
        key.truncate(end);
        keys.push(key.clone());
    }
    keys
}

/// A key of old: `https://host/v1/` means `host`.
fn normalized(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let Some(bare) = bare else {
        return match key {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        };
    };
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

impl Entry {
    fn secret(&self) -> Result<Option<Secret>, Unusable> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Secret::IdentityToken(token)));
        }
        if let Some(auth) = filled(&self.auth) {
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| Unusable::Auth)?;
            let text = String::from_utf8(bytes).map_err(|_| Unusable::Auth)?;
            // Docker pads with NULs.
            let login = Credentials::parse(text.trim_end_matches('\0')).ok_or(Unusable::Auth)?;
            return Ok(Some(Secret::Password {
                user: login.user,
                password: login.password,
            }));
        }
        let both = filled(&self.username).zip(self.password.clone());
        Ok(both.map(|(user, password)| Secret::Password { user, password }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn login(name: &str, json: &str) -> Login {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(json.as_bytes()).unwrap();
        let options = RegistryOptions {
            auth_file: Some(file.path().into()),
            ..RegistryOptions::default()
        };
        Login::find(&Endpoint::of_name(name), &options)
    }

    fn user(login: &Login) -> Option<&str> {
        match &login.secret {
            Secret::Password { user, password } if password == "secret" => Some(user),
            _ => None,
        }
    }

    /// "alice:secret" in Base64.
    const ALICE: &str = r#"{"auth":"YWxpY2U6c2VjcmV0"}"#;
    /// "bob:secret" in Base64.
    const BOB: &str = r#"{"auth":"Ym9iOnNlY3JldA=="}"#;

    #[test]
    fn logins_are_found_under_the_keys_of_docker_and_podman() {
        for (name, key) in [
            ("example.org/app", "example.org"),
            ("example.org/app", "https://example.org/v1/"),
            ("example.org/app", "https://example.org"),
            ("example.org/a/b/c", "example.org/a/b"),
            ("localhost:5000/app", "localhost:5000"),
            ("docker.io/library/alpine", DOCKER_HUB_KEY),
            ("docker.io/library/alpine", "docker.io"),
            ("docker.io/library/alpine", "docker.io/library"),
        ] {
            let login = login(name, &format!(r#"{{"auths":{{"{key}":{ALICE}}}}}"#));
            assert_eq!(user(&login), Some("alice"), "{name} {key}");
            assert!(!login.description.contains("secret"));
        }
    }

    #[test]
    fn the_most_special_key_wins() {
        let json = format!(r#"{{"auths":{{"example.org":{BOB},"example.org/team":{ALICE}}}}}"#);
        assert_eq!(user(&login("example.org/team/app", &json)), Some("alice"));
        assert_eq!(user(&login("example.org/teams/app", &json)), Some("bob"));
        assert_eq!(user(&login("example.org:5000/team/app", &json)), None);
    }

    #[test]
    fn identity_tokens_come_before_what_stands_beside_them() {
        let json = r#"{"auths":{"example.org":{"auth":"YWxpY2U6c2VjcmV0","identitytoken":"t"}}}"#;
        let login = login("example.org/app", json);
        assert!(login.secret == Secret::IdentityToken("t".to_owned()));
    }

    #[test]
    fn what_cannot_be_used_is_described_and_not_sent() {
        for (json, described) in [
            ("{}", "no login"),
            ("", "no login"),
            (r#"{"auths":{"example.org":{}}}"#, "no login"),
            ("[", "no JSON"),
            (r#"{"auths":{"example.org":{"auth":"!"}}}"#, "Base64"),
            (r#"{"auths":{"example.org":{"auth":"YWxpY2U="}}}"#, "Base64"),
            (
                r#"{"credsStore":"does-not-exist"}"#,
                "docker-credential-does-not-exist",
            ),
            (r#"{"credsStore":"../../bin/sh"}"#, "name"),
        ] {
            let login = login("example.org/app", json);
            assert!(login.secret == Secret::Anonymous);
            assert!(
                login.description.contains(described),
                "{}",
                login.description
            );
        }
    }
}
