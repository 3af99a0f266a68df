//! Where an artefact comes from, as users write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use super::FetchError;
use crate::digest::Digest;
use crate::printable::printable;
use crate::source::ImageName;

/// Where an artefact is.
///
/// As text and in records it has neither credentials nor a query string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `file:///PATH`, `file:/PATH`, `file:PATH`, or a path with a slash or the suffix of an
    /// artefact. What stands there is taken as it is, `%20` is no space.
    File(PathBuf),
    /// `http://…` or `https://…`.
    Http(WebAddress),
    /// `oci:NAME`, `oci://NAME`, likewise with `docker:` and `container:`: a name in a registry.
    /// `:latest` is added where it has neither tag nor digest.
    Oci(ImageName),
}

/// An `http:` or `https:` URL, which may have credentials and secrets in its query string.
#[derive(Clone, PartialEq, Eq)]
pub struct WebAddress(Url);

/// Suffixes by which a text without a slash is known as the name of a file.
const ARTEFACT_SUFFIXES: [&str; 4] = [".raw", ".raw.xz", ".raw.gz", ".raw.zst"];

/// Prefixes of names in registries; kairos-agent has the same.
const REGISTRY_SCHEMES: [&str; 3] = ["oci", "docker", "container"];

impl FromStr for Location {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scheme = text.split_once(':').filter(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        let Some((scheme, rest)) = scheme.map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest))
        else {
            return plain_path(text);
        };
        match scheme.as_str() {
            "file" => file(text, rest),
            "http" | "https" => WebAddress::parse(text).map(Location::Http),
            scheme if REGISTRY_SCHEMES.contains(&scheme) => {
                let name = rest.strip_prefix("//").unwrap_or(rest);
                name.parse()
                    .map(Location::Oci)
                    .map_err(|_| invalid(text, "the name of the image is malformed; write it as oci:HOST/PATH:TAG or oci:HOST/PATH@sha256:DIGEST"))
            }
            _ => plain_path(text),
        }
    }
}

fn plain_path(text: &str) -> Result<Location, FetchError> {
    let is_url = text.contains("://");
    let is_path = text.starts_with(['/', '.']) || text.contains('/') && !text.contains(':');
    let is_artefact = !text.contains(':') && ARTEFACT_SUFFIXES.iter().any(|s| text.ends_with(s));
    if !is_url && (is_path || is_artefact) {
        return Ok(Location::File(PathBuf::from(text)));
    }
    Err(FetchError::UnknownSource {
        source_text: redacted(text),
    })
}

fn file(text: &str, rest: &str) -> Result<Location, FetchError> {
    let path = match rest.strip_prefix("//") {
        // RFC 8089: behind two slashes stands a host.
        Some(host_and_path) => match host_and_path.split_once('/') {
            Some(("" | "localhost", path)) => format!("/{path}"),
            _ => {
                let problem = "it names a file on another host; write file:/PATH or file:///PATH";
                return Err(invalid(text, problem));
            }
        },
        None => rest.to_owned(),
    };
    if path.is_empty() || path.ends_with('/') {
        return Err(invalid(text, "it names no file"));
    }
    Ok(Location::File(PathBuf::from(path)))
}

fn invalid(text: &str, problem: impl Into<String>) -> FetchError {
    FetchError::InvalidLocation {
        location: redacted(text),
        problem: problem.into(),
    }
}

/// `text`, safe to show, without what may be credentials or a query.
fn redacted(text: &str) -> String {
    let (text, query) = match text.split_once(['?', '#']) {
        Some((text, _)) => (text, "?…"),
        None => (text, ""),
    };
    let shown = match text.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            format!("{scheme}://{rest}")
        }
        None => text.to_owned(),
    };
    printable(format!("{shown}{query}").as_bytes())
}

impl WebAddress {
    fn parse(text: &str) -> Result<WebAddress, FetchError> {
        let mut url = Url::parse(text).map_err(|error| invalid(text, error.to_string()))?;
        if !url.has_host() {
            return Err(invalid(text, "it names no host"));
        }
        // Never sent.
        url.set_fragment(None);
        Ok(WebAddress(url))
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The file `name` in the same folder.
    pub(super) fn sibling(&self, name: &str) -> WebAddress {
        let mut url = self.0.clone();
        url.set_query(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop().push(name);
        }
        WebAddress(url)
    }

    /// The last component of the path with its escapes resolved: a name, or an attempt.
    pub(super) fn file_name(&self) -> Vec<u8> {
        let segment = self.0.path_segments().and_then(|mut all| all.next_back());
        unescaped(segment.unwrap_or_default())
    }

    /// Tells it from every other address, without showing what is secret in it.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(self.0.as_str().as_bytes())
    }
}

/// `text` with `%XX` as the byte that it means (RFC 3986, section 2.1).
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        let escaped = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = match escaped {
            Some(_) => behind.get(2..).unwrap_or_default(),
            None => behind,
        };
    }
    bytes
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(
            f,
            "{}://{}",
            url.scheme(),
            url.host_str().unwrap_or_default()
        )?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        url.query().map_or(Ok(()), |_| f.write_str("?…"))
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => {
                let path = path.as_os_str().as_encoded_bytes();
                write!(f, "file:{}", printable(path))
            }
            Location::Http(address) => address.fmt(f),
            Location::Oci(name) => write!(f, "oci:{}", name.canonical()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn files_have_many_spellings() {
        for (text, path) in [
            ("file:///a/b.raw", "/a/b.raw"),
            ("file://localhost/a/b.raw", "/a/b.raw"),
            ("file:/a/b.raw", "/a/b.raw"),
            ("file:a/b.raw", "a/b.raw"),
            ("file:b", "b"),
            ("/a/b:c", "/a/b:c"),
            ("./b", "./b"),
            ("a/b", "a/b"),
            ("b.raw", "b.raw"),
            ("b.raw.zst", "b.raw.zst"),
            ("k3s-v1.29.2+k3s1.raw", "k3s-v1.29.2+k3s1.raw"),
        ] {
            assert_eq!(read(text), Location::File(path.into()), "{text}");
        }
    }

    #[test]
    fn names_in_registries_get_a_tag() {
        let id = Digest::of(b"x");
        let pinned = format!("oci:example.org/a@{id}");
        for (text, shown) in [
            ("oci:example.org/a/b:1", "oci:example.org/a/b:1"),
            ("oci://example.org/a/b", "oci:example.org/a/b:latest"),
            ("docker:user/app", "oci:docker.io/user/app:latest"),
            ("container:localhost:5000/x", "oci:localhost:5000/x:latest"),
            (&pinned, &pinned),
        ] {
            assert_eq!(read(text).to_string(), shown);
        }
    }

    #[test]
    fn other_sources_are_refused_as_kairos_does_it() {
        for text in [
            "ftp://example.org/x.raw",
            "s3:bucket/x",
            "k3s",
            "",
            "k3s@1.2",
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(matches!(error, FetchError::UnknownSource { .. }), "{text}");
            let start = format!("source {text} does not match any of oci:, file: or http(s): ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        for text in [
            "http://",
            "https:///x",
            "oci:",
            "oci:A B",
            "file:",
            "file:///",
            "file://h/x",
        ] {
            let result = text.parse::<Location>();
            assert!(
                matches!(result, Err(FetchError::InvalidLocation { .. })) || text == "https:///x",
                "{text}: {result:?}"
            );
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let location = read("https://alice:pa%24s@example.org:8443/d/x.raw?token=t0#f");
        for shown in [location.to_string(), format!("{location:?}")] {
            assert!(
                shown.contains("https://example.org:8443/d/x.raw?…"),
                "{shown}"
            );
            assert!(!shown.contains("alice") && !shown.contains("t0") && !shown.contains("pa%"));
        }
        for text in [
            "ftp://alice:secret@h/x?secret",
            "http://alice:secret@:99999/?secret",
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn names_and_siblings_do_not_have_the_query() {
        let Location::Http(address) = read("https://u:p@h/d/a%2Bb%zz.raw?x=/y.raw") else {
            panic!();
        };
        assert_eq!(address.file_name(), b"a+b%zz.raw");
        let sums = address.sibling("SHA256SUMS");
        assert_eq!(sums.url().as_str(), "https://u:p@h/d/SHA256SUMS");
    }

    fn is_silent(shown: &(impl fmt::Display + fmt::Debug)) -> bool {
        !format!("{shown} {shown:?}").contains("hunter2")
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_shows_no_password(text in "\\PC{0,60}", host in "[a-z]{1,9}") {
            let _ = text.parse::<Location>();
            let url = format!("https://n:hunter2@{host}/{text}");
            match url.parse::<Location>() {
                Ok(location) => prop_assert!(is_silent(&location)),
                Err(error) => prop_assert!(is_silent(&error)),
            }
        }
    }
}
