//! Where the container engine listens: what the caller, the environment and Docker's contexts say,
//! else the first usable one of the usual sockets.

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::fs::{Access, access};

use super::context;
use super::tls::TlsFiles;
use crate::source::error::SourceError;

/// Docker's own socket.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Podman's, if it runs as a system service.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// An engine to talk to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// In the notation of `DOCKER_HOST`.
    pub address: String,
    /// What its TLS connection is made with, if it has one.
    pub tls: Option<TlsFiles>,
}

/// The environment variables that matter here; empty ones count as unset.
pub(super) struct Environment<'a>(pub &'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.0)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.path(name)
            .map(|value| value.to_string_lossy().into_owned())
    }

    /// The folder of Docker's client configuration.
    fn docker_folder(&self) -> Option<PathBuf> {
        let configured = self.path("DOCKER_CONFIG");
        configured.or_else(|| Some(self.path("HOME")?.join(".docker")))
    }

    /// What `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` ask for.
    fn tls(&self) -> Result<Option<TlsFiles>, SourceError> {
        if self.path("DOCKER_TLS_VERIFY").is_none() {
            return Ok(None);
        }
        let named = self.path("DOCKER_CERT_PATH");
        if let Some(path) = named.as_ref().filter(|path| !path.is_dir()) {
            return Err(SourceError::EngineCertificate {
                path: path.clone(),
                problem: "DOCKER_CERT_PATH names it, and it is no folder".to_owned(),
            });
        }
        match named.or_else(|| self.docker_folder()) {
            Some(folder) => TlsFiles::of(&folder).map(Some),
            None => Ok(Some(TlsFiles::default())),
        }
    }
}

/// The engine at `asked`, or the one that `environment` means. Docker's variables and contexts have
/// the order of its own client: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context.
pub(super) fn find(
    asked: Option<&str>,
    environment: &Environment<'_>,
) -> Result<Endpoint, SourceError> {
    let host = asked
        .map(str::to_owned)
        .filter(|host| !host.is_empty())
        .or_else(|| environment.text("DOCKER_HOST"));
    if let Some(address) = host {
        let tls = environment.tls()?;
        return Ok(Endpoint { address, tls });
    }
    let folder = environment.docker_folder();
    let chosen = environment.text("DOCKER_CONTEXT");
    if chosen.is_none()
        && let Some(address) = environment.text("CONTAINER_HOST")
    {
        return Ok(Endpoint { address, tls: None });
    }
    if let Some(folder) = folder
        && let Some(endpoint) = context::endpoint(&folder, chosen)?
    {
        return Ok(endpoint);
    }
    let address = usual_socket(environment.path("XDG_RUNTIME_DIR"))?;
    Ok(Endpoint { address, tls: None })
}

/// The first of the usual sockets that may be used, else the first that is there: connecting says
/// why it cannot be used.
fn usual_socket(runtime_directory: Option<PathBuf>) -> Result<String, SourceError> {
    let user = |name: &str| Some(runtime_directory.as_ref()?.join(name));
    let sockets: Vec<PathBuf> = [
        Some(DOCKER_SOCKET.into()),
        user("docker.sock"),
        user("podman/podman.sock"),
        Some(PODMAN_SOCKET.into()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let may_be_used = |path: &&PathBuf| access(path.as_path(), Access::WRITE_OK).is_ok();
    let is_there = |path: &&PathBuf| path.try_exists().unwrap_or(true);
    let found = sockets
        .iter()
        .find(may_be_used)
        .or_else(|| sockets.iter().find(is_there));
    match found {
        Some(path) => Ok(format!("unix://{}", path.display())),
        None => Err(SourceError::NoEngine {
            tried: sockets
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn find_with(variables: &[(&str, &str)]) -> Result<Endpoint, SourceError> {
        let value = |name: &str| {
            let variable = variables.iter().find(|(known, _)| *known == name);
            variable.map(|(_, value)| OsString::from(value))
        };
        find(None, &Environment(&value))
    }

    fn address(variables: &[(&str, &str)]) -> String {
        find_with(variables).unwrap().address
    }

    #[test]
    fn what_is_said_comes_before_what_is_usual() {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        context::tests::write(&docker, "far", "tcp://far:1");
        context::tests::write(&docker, "other", "tcp://other:1");
        fs::write(docker.join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let home = ("HOME", home.path().to_str().unwrap());
        let host = ("DOCKER_HOST", "unix:///a");
        let context = ("DOCKER_CONTEXT", "other");
        let container_host = ("CONTAINER_HOST", "unix:///podman");
        assert_eq!(address(&[home, host, context, container_host]), "unix:///a");
        assert_eq!(address(&[home, context, container_host]), "tcp://other:1");
        assert_eq!(address(&[home, container_host]), "unix:///podman");
        assert_eq!(address(&[home, ("DOCKER_HOST", "")]), "tcp://far:1");
        let host = |name: &str| (name == "DOCKER_HOST").then(|| "y".into());
        let asked = find(Some("unix:///x"), &Environment(&host));
        assert_eq!(asked.unwrap().address, "unix:///x");
    }

    #[test]
    fn the_default_context_means_the_usual_sockets() {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        context::tests::write(&docker, "far", "tcp://far:1");
        fs::write(docker.join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let socket = home.path().join("docker.sock");
        fs::write(&socket, "").unwrap();
        let home = home.path().to_str().unwrap();
        let found = address(&[
            ("HOME", home),
            ("XDG_RUNTIME_DIR", home),
            ("DOCKER_CONTEXT", "default"),
        ]);
        assert_eq!(found, expected_socket(&socket));
    }

    /// `socket`, unless Docker runs on this machine.
    fn expected_socket(socket: &Path) -> String {
        match Path::new(DOCKER_SOCKET).exists() {
            true => format!("unix://{DOCKER_SOCKET}"),
            false => format!("unix://{}", socket.display()),
        }
    }

    #[test]
    fn sockets_of_the_user_come_after_dockers_own() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("podman/podman.sock");
        fs::create_dir(directory.path().join("podman")).unwrap();
        fs::write(&socket, "").unwrap();
        let found = usual_socket(Some(directory.path().into())).unwrap();
        assert_eq!(found, expected_socket(&socket));
    }

    #[test]
    fn tls_is_asked_for_by_its_variable_and_takes_the_files_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["ca.pem", "cert.pem"] {
            fs::write(path(name), "").unwrap();
        }
        let host = ("DOCKER_HOST", "tcp://h:1");
        let certificates = ("DOCKER_CERT_PATH", folder.path().to_str().unwrap());
        assert_eq!(find_with(&[host, certificates]).unwrap().tls, None);
        let found = find_with(&[host, certificates, ("DOCKER_TLS_VERIFY", "1")]).unwrap();
        let tls = found.tls.unwrap();
        assert_eq!(tls.authority, Some(path("ca.pem")));
        assert_eq!(tls.certificate, Some(path("cert.pem")));
        assert_eq!(tls.key, None);
        assert!(!tls.skip_verification);
        let absent = ("DOCKER_CERT_PATH", "/nonexistent/certificates");
        let error = find_with(&[host, absent, ("DOCKER_TLS_VERIFY", "1")]).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/certificates"),
            "{error}"
        );
    }
}
