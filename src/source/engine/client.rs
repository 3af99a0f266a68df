//! From the address of an engine to a client of it.

use std::path::Path;

use reqwest::Client;
use reqwest::redirect::Policy;

use super::address::Endpoint;
use super::api::Api;
use super::socket;
use super::tls::TlsFiles;
use crate::source::error::{SourceError, root_cause};

/// Ports that Docker's client adds to addresses without one, without and with TLS.
const PORTS: [&str; 2] = ["2375", "2376"];

/// A client for the engine at `endpoint`; nothing is sent yet.
pub(super) fn client(endpoint: &Endpoint) -> Result<Api, SourceError> {
    let address = &endpoint.address;
    let unusable = |problem: String| SourceError::EngineAddress {
        address: address.clone(),
        problem,
    };
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(unusable("it has no scheme".to_owned()));
    };
    // Engines are neither behind proxies nor elsewhere.
    let builder = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0);
    let over_tls = |files: &TlsFiles| {
        let connector = files.connector()?;
        let base = format!("https://{}", with_port(rest, PORTS[1]));
        Ok((base, Some(connector)))
    };
    let (base, tls) = match (scheme, &endpoint.tls) {
        ("unix", _) if rest.starts_with('/') => {
            socket::check(Path::new(rest), address)?;
            ("http://localhost".to_owned(), None)
        }
        ("unix", _) => return Err(unusable("its path is not absolute".to_owned())),
        ("tcp" | "http", None) => (format!("http://{}", with_port(rest, PORTS[0])), None),
        ("tcp" | "https", Some(files)) => over_tls(files)?,
        ("https", None) => over_tls(&TlsFiles::default())?,
        ("http", Some(_)) => {
            return Err(unusable("TLS is asked for, and http:// is not".to_owned()));
        }
        ("ssh", _) => return Err(unusable(ssh_advice(rest))),
        _ => return Err(unusable("its scheme is not supported".to_owned())),
    };
    let builder = match (scheme, tls) {
        ("unix", _) => builder.unix_socket(rest),
        (_, Some(connector)) => builder
            .tls_backend_preconfigured(connector)
            .https_only(true),
        (_, None) => builder,
    };
    let client = builder
        .build()
        .map_err(|error| SourceError::EngineUnreachable {
            engine: address.clone(),
            cause: root_cause(&error),
        })?;
    Ok(Api::new(client, base))
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

    fn try_client(address: &str, tls: Option<TlsFiles>) -> Result<Api, SourceError> {
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
