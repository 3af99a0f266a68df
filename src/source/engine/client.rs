//! From the address of an engine to a client of it.

use std::path::Path;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};

use super::address::Endpoint;
use super::socket;
use super::tls::{self, TlsFiles};
use crate::source::error::{SourceError, root_cause};

/// For the first byte of an export: Docker writes the whole archive to its disk before.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Ports that Docker's client adds to addresses without one, without and with TLS.
const PORTS: [&str; 2] = ["2375", "2376"];

/// A client for the engine at `endpoint`; nothing is sent yet.
pub(super) fn client(endpoint: &Endpoint) -> Result<Docker, SourceError> {
    let address = &endpoint.address;
    let unusable = |problem: String| SourceError::EngineAddress {
        address: address.clone(),
        problem,
    };
    let timeout = EXPORT_TIMEOUT.as_secs();
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(unusable("it has no scheme".to_owned()));
    };
    let client = match (scheme, &endpoint.tls) {
        ("unix", _) if rest.starts_with('/') => {
            socket::check(Path::new(rest), address)?;
            Docker::connect_with_unix(rest, timeout, API_DEFAULT_VERSION)
        }
        ("unix", _) => return Err(unusable("its path is not absolute".to_owned())),
        ("tcp" | "http", None) => {
            let address = format!("tcp://{}", with_port(rest, PORTS[0]));
            Docker::connect_with_http(&address, timeout, API_DEFAULT_VERSION)
        }
        ("tcp" | "https", Some(files)) => {
            return tls::client(&with_port(rest, PORTS[1]), files, timeout);
        }
        ("https", None) => {
            return tls::client(&with_port(rest, PORTS[1]), &TlsFiles::default(), timeout);
        }
        ("http", Some(_)) => {
            return Err(unusable("TLS is asked for, and http:// is not".to_owned()));
        }
        ("ssh", _) => return Err(unusable(ssh_advice(rest))),
        _ => return Err(unusable("its scheme is not supported".to_owned())),
    };
    client.map_err(|error| SourceError::EngineUnreachable {
        engine: address.clone(),
        cause: root_cause(&error),
    })
}

fn with_port(authority: &str, port: &str) -> String {
    let authority = authority.trim_end_matches('/');
    // Docker's client means itself by `tcp://:2375`, and by `tcp://`.
    let authority = match authority.is_empty() || authority.starts_with(':') {
        true => format!("localhost{authority}"),
        false => authority.to_owned(),
    };
    // The colons of an IPv6 address stand in brackets.
    let behind_address = authority.rsplit(']').next().unwrap_or(&authority);
    match behind_address.contains(':') {
        true => authority,
        false => format!("{authority}:{port}"),
    }
}

fn ssh_advice(rest: &str) -> String {
    let host = rest.split('/').next().unwrap_or(rest).escape_default();
    format!(
        "engines are not reached over SSH; run `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock \
         {host}` beside, and give --engine unix:///tmp/engine.sock"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_client(address: &str, tls: Option<TlsFiles>) -> Result<Docker, SourceError> {
        client(&Endpoint {
            address: address.to_owned(),
            tls,
        })
    }

    #[test]
    fn addresses_of_other_kinds_are_refused_with_the_supported_ones() {
        for address in [
            "ssh://host",
            "npipe:////./pipe/docker",
            "unix://relative",
            "/run/x.sock",
        ] {
            let error = try_client(address, None).unwrap_err();
            assert!(
                matches!(error, SourceError::EngineAddress { .. }),
                "{error}"
            );
            assert!(error.to_string().contains("unix:///PATH"));
        }
        let with_tls = || Some(TlsFiles::default());
        assert!(try_client("http://127.0.0.1:1", with_tls()).is_err());
        for address in ["tcp://127.0.0.1:1", "https://h"] {
            assert!(try_client(address, with_tls()).is_ok());
            assert!(try_client(address, None).is_ok());
        }
    }

    #[test]
    fn for_ssh_the_command_is_given_that_makes_a_socket() {
        let error = try_client("ssh://me@build.example:22/run/x", None).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/var/run/docker.sock me@build.example:22`"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_socket_is_named() {
        let error = try_client("unix:///does/not/exist.sock", None).unwrap_err();
        assert!(
            error.to_string().contains("/does/not/exist.sock"),
            "{error}"
        );
    }

    #[test]
    fn ports_are_those_of_docker() {
        assert_eq!(with_port("h", "1"), "h:1");
        assert_eq!(with_port(":2", "1"), "localhost:2");
        assert_eq!(with_port("", "1"), "localhost:1");
        assert_eq!(with_port("h:2/", "1"), "h:2");
        assert_eq!(with_port("[::1]", "1"), "[::1]:1");
        assert_eq!(with_port("[::1]:2", "1"), "[::1]:2");
    }
}
