//! Docker contexts: engines that the user gave names to.
//!
//! Source: docker/cli, `cli/context/store`: `config.json` names the current one, and each has
//! `contexts/meta/ID/meta.json` and `contexts/tls/ID/docker/*.pem`, where ID is the SHA-256 of its
//! name in hexadecimal digits.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::address::Endpoint;
use super::tls::TlsFiles;
use crate::digest::Digest;
use crate::source::error::SourceError;
use crate::source::manifest::parse_json;
use crate::source::window::{file_error, read_document};

/// The context that stands for no context.
const DEFAULT: &str = "default";

#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Docker>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Docker {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// The engine of the context `chosen`, else of the current one of Docker's configuration in
/// `folder`. `None` if that is the default one.
pub(super) fn endpoint(
    folder: &Path,
    chosen: Option<String>,
) -> Result<Option<Endpoint>, SourceError> {
    let name = match chosen {
        Some(name) => Some(name),
        None => {
            let configuration: Option<Configuration> = read(&folder.join("config.json"))?;
            configuration.unwrap_or_default().current_context
        }
    };
    let Some(name) = name.filter(|name| !name.is_empty() && name != DEFAULT) else {
        return Ok(None);
    };
    let unusable = |problem: String| SourceError::EngineContext {
        name: name.clone(),
        problem,
    };
    let contexts = folder.join("contexts");
    let id = Digest::of(name.as_bytes()).hex();
    let meta = contexts.join("meta").join(&id).join("meta.json");
    let context: Context =
        read(&meta)?.ok_or_else(|| unusable(format!("{} does not exist", meta.display())))?;
    let docker = context
        .endpoints
        .docker
        .filter(|docker| !docker.host.is_empty())
        .ok_or_else(|| unusable("it has no Docker endpoint".to_owned()))?;
    let files = TlsFiles {
        skip_verification: docker.skip_tls_verify,
        ..TlsFiles::of(&contexts.join("tls").join(id).join("docker"))?
    };
    Ok(Some(Endpoint {
        address: docker.host,
        tls: (files != TlsFiles::default()).then_some(files),
    }))
}

/// The JSON document at `path`, if it is there.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SourceError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => parse_json(&read_document(file, &name)?, &name).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(&name, error)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// Writes a context as Docker's client does.
    pub fn write(folder: &Path, name: &str, host: &str) {
        let meta = serde_json::json!({
            "Name": name,
            "Metadata": {},
            "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
        });
        let folder = folder
            .join("contexts/meta")
            .join(Digest::of(name.as_bytes()).hex());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
    }

    #[test]
    fn certificates_of_a_context_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "far", "tcp://far:2376");
        let chosen = || Some("far".to_owned());
        let plain = endpoint(folder.path(), chosen()).unwrap().unwrap();
        assert_eq!(plain.tls, None);
        let certificates = folder
            .path()
            .join("contexts/tls")
            .join(Digest::of(b"far").hex())
            .join("docker");
        fs::create_dir_all(&certificates).unwrap();
        fs::write(certificates.join("ca.pem"), "").unwrap();
        let found = endpoint(folder.path(), chosen()).unwrap().unwrap();
        assert_eq!(
            found.tls.unwrap().authority,
            Some(certificates.join("ca.pem"))
        );
    }

    #[test]
    fn certificates_that_cannot_be_reached_do_not_mean_plain_text() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "far", "tcp://far:2376");
        let certificates = folder.path().join("contexts/tls");
        // Not even root can look through it.
        std::os::unix::fs::symlink("tls", &certificates).unwrap();
        let error = endpoint(folder.path(), Some("far".to_owned())).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&certificates.display().to_string()), "{text}");
    }

    #[test]
    fn contexts_that_cannot_be_used_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str| {
            let error = endpoint(folder.path(), Some(name.to_owned())).unwrap_err();
            error.to_string()
        };
        assert!(
            said("../../etc").contains("does not exist"),
            "{}",
            said("x")
        );
        write(folder.path(), "empty", "");
        assert!(said("empty").contains("no Docker endpoint"));
        fs::write(folder.path().join("config.json"), "{").unwrap();
        let error = endpoint(folder.path(), None).unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
    }

    #[test]
    fn without_a_configuration_there_is_no_context() {
        let folder = tempfile::tempdir().unwrap();
        for configuration in [None, Some("{}"), Some(r#"{"currentContext":"default"}"#)] {
            if let Some(text) = configuration {
                fs::write(folder.path().join("config.json"), text).unwrap();
            }
            assert_eq!(endpoint(folder.path(), None).unwrap(), None);
        }
    }
}
