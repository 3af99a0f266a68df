//! Names of repositories and tags.

use std::fmt;
use std::str::FromStr;

use crate::source::{ImageName, ImageReference};
use crate::version::Version;

/// A repository: registry and path, without tag or digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryName(ImageName);

/// Why a text names no repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no repository: {reason}; write it like registry.example.org/extensions/hello")]
pub struct InvalidRepository {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl RepositoryName {
    /// The name as that of an image.
    pub fn image_name(&self) -> &ImageName {
        &self.0
    }

    /// Registry and path, spelled out.
    pub fn canonical(&self) -> String {
        let name = self.0.canonical();
        match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => path.to_owned(),
            _ => name,
        }
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidRepository;

    fn from_str(text: &str) -> Result<RepositoryName, InvalidRepository> {
        let invalid = |reason: String| InvalidRepository {
            text: text.to_owned(),
            reason,
        };
        let path = text.strip_prefix("docker://").unwrap_or(text);
        let last = path.rsplit('/').next().unwrap_or_default();
        if last.contains([':', '@']) || !path.contains('/') {
            return Err(invalid("it has a tag or digest, or no registry".to_owned()));
        }
        match format!("docker://{path}").parse() {
            Ok(ImageReference::Registry(name)) => Ok(RepositoryName(name)),
            Ok(_) => Err(invalid("it is no name in a registry".to_owned())),
            Err(error) => Err(invalid(error.to_string())),
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

/// The tag of a version. Tags have neither `+` nor `~` nor `^` (OCI distribution specification), so that
/// `1.29+k3s1` is tagged `1.29_k3s1`, as Helm does it, and `1.2~rc1` is `1.2-rc1`.
pub fn tag_of(version: &Version) -> String {
    version.as_str().replace('+', "_").replace(['~', '^'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_neither_tag_nor_digest() {
        for (text, canonical) in [
            ("ghcr.io/k/hello", "ghcr.io/k/hello"),
            ("docker://localhost:5000/hello", "localhost:5000/hello"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
        ] {
            let name: RepositoryName = text.parse().unwrap();
            assert_eq!(name.canonical(), canonical);
        }
        let digest = format!("ghcr.io/k/hello@sha256:{}", "0".repeat(64));
        for text in [
            "",
            "hello",
            "ghcr.io/k/hello:1",
            &digest,
            "oci:dir/x",
            "ghcr.io/K/Hello",
        ] {
            assert!(text.parse::<RepositoryName>().is_err(), "{text}");
        }
    }

    #[test]
    fn tags_have_the_characters_that_tags_have() {
        for (version, tag) in [
            ("1.2", "1.2"),
            ("1.29+k3s1", "1.29_k3s1"),
            ("1~rc^2", "1-rc-2"),
        ] {
            assert_eq!(tag_of(&Version::from(version)), tag);
        }
    }
}
