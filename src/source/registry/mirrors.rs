//! Which servers have the images of a registry: containers-registries.conf(5), version 2.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::error::SourceError;
use super::super::reference::ImageName;
use super::options::RegistryOptions;

/// Bytes that a configuration file may have.
const FILE_LIMIT: u64 = 1 << 20;

/// A repository on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `HOST[:PORT]`, as names have it.
    pub registry: String,
    pub repository: String,
    /// Whether the configuration lets it have any certificate, or none.
    pub is_insecure: bool,
    /// Whether it is a copy of the registry that was named.
    pub is_mirror: bool,
}

impl Endpoint {
    /// The host to connect to: Docker Hub's is not that of its names.
    pub fn host(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// Whether the way to it does not leave this host, so that no one can listen in.
    pub fn is_on_this_host(&self) -> bool {
        let host = self.host();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let address = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// Registry and repository, as names have them.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The endpoint of `HOST[:PORT]/PATH`.
    pub fn of_name(name: &str) -> Endpoint {
        let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
        Endpoint {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            is_insecure: false,
            is_mirror: false,
        }
    }
}

#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: PullFromMirror,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// Where to ask for `name`, in this order; the last one is its registry.
pub(super) fn endpoints(
    name: &ImageName,
    options: &RegistryOptions,
) -> Result<Vec<Endpoint>, SourceError> {
    let wanted = format!("{}/{}", name.registry(), name.repository());
    let Some(entry) = Entry::of(&wanted, options)? else {
        return Ok(vec![Endpoint::of_name(&wanted)]);
    };
    let Entry {
        registry,
        prefix_length,
        file,
    } = entry;
    if registry.blocked {
        return Err(SourceError::RegistryBlocked {
            image: name.to_string(),
            file,
        });
    }
    Ok(registry.endpoints(&wanted, prefix_length, name.digest().is_some()))
}

/// Where `name` is published: at its registry itself. Mirrors, other locations and bans are about
/// pulling.
pub(super) fn registry_itself(
    name: &ImageName,
    options: &RegistryOptions,
) -> Result<Endpoint, SourceError> {
    let wanted = format!("{}/{}", name.registry(), name.repository());
    let entry = Entry::of(&wanted, options)?;
    Ok(Endpoint {
        is_insecure: entry.is_some_and(|entry| entry.registry.insecure),
        ..Endpoint::of_name(&wanted)
    })
}

/// What the files say of one name.
struct Entry {
    registry: Registry,
    /// Bytes of the name that are its prefix.
    prefix_length: usize,
    /// Which file says it.
    file: PathBuf,
}

impl Entry {
    /// The one with the longest prefix of `wanted`.
    fn of(wanted: &str, options: &RegistryOptions) -> Result<Option<Entry>, SourceError> {
        let mut registries = BTreeMap::new();
        for file in files(options)? {
            // Of several entries for one prefix the last file's counts.
            registries.extend(
                read(&file)?
                    .into_iter()
                    .map(|(key, registry)| (key, (registry, file.clone()))),
            );
        }
        let matching = registries
            .into_iter()
            .filter_map(|(prefix, (registry, file))| {
                Some(Entry {
                    registry,
                    prefix_length: matched(&prefix, wanted)?,
                    file,
                })
            });
        Ok(matching.max_by_key(|entry| entry.prefix_length))
    }
}

impl Registry {
    /// The endpoints for the name `wanted`, of which the first `length` bytes are the prefix.
    fn endpoints(&self, wanted: &str, length: usize, has_digest: bool) -> Vec<Endpoint> {
        let (prefix, rest) = wanted.split_at(length);
        let applies = |mirror: &&Mirror| match mirror.pull_from_mirror {
            PullFromMirror::All => has_digest || !self.mirror_by_digest_only,
            PullFromMirror::DigestOnly => has_digest,
            PullFromMirror::TagOnly => !has_digest,
        };
        let mirrors = self.mirror.iter().filter(applies).map(|mirror| Endpoint {
            is_insecure: mirror.insecure,
            is_mirror: true,
            ..Endpoint::of_name(&format!("{}{rest}", mirror.location))
        });
        let location = self.location.as_deref().unwrap_or(prefix);
        let itself = Endpoint {
            is_insecure: self.insecure,
            ..Endpoint::of_name(&format!("{location}{rest}"))
        };
        mirrors.chain([itself]).collect()
    }
}

/// How many bytes of `name` the prefix covers, if it is one by whole components. `*.example.org`
/// covers the host.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split(['/', ':']).next().unwrap_or_default();
        let whole = name.split('/').next().unwrap_or_default();
        return (domain.len() > 1 && (host.ends_with(domain) || whole.ends_with(domain)))
            .then_some(whole.len());
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', ':'])).then_some(prefix.len())
}

/// The registries of one file by prefix.
fn read(file: &Path) -> Result<Vec<(String, Registry)>, SourceError> {
    let unusable = |problem: String| SourceError::RegistrySettings {
        path: file.to_path_buf(),
        problem,
    };
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(FILE_LIMIT).read_to_string(&mut text))
        .map_err(|error| unusable(error.to_string()))?;
    let configuration: Configuration =
        toml::from_str(&text).map_err(|error| unusable(error.to_string().trim().to_owned()))?;
    let keyed = configuration.registry.into_iter().map(|registry| {
        let prefix = registry.prefix.as_ref().or(registry.location.as_ref());
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        let prefix = prefix
            .ok_or_else(|| unusable("a [[registry]] has no prefix and no location".to_owned()))?;
        let locations = registry.mirror.iter().map(|mirror| &mirror.location);
        for location in locations.chain(&registry.location) {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/[]".contains(&byte);
            if location.is_empty() || !location.bytes().all(is_plain) {
                return Err(unusable(format!(
                    "{location:?} is no location of a registry"
                )));
            }
        }
        Ok((prefix.trim_end_matches('/').to_owned(), registry))
    });
    keyed.collect()
}

/// The configuration files that there are, the most important one last.
fn files(options: &RegistryOptions) -> Result<Vec<PathBuf>, SourceError> {
    if let Some(file) = &options.registries_conf {
        return Ok(vec![file.clone()]);
    }
    let path = |variable| {
        let value = env::var_os(variable).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(file) = path("CONTAINERS_REGISTRIES_CONF") {
        return Ok(vec![file]);
    }
    let own = path("XDG_CONFIG_HOME")
        .or_else(|| path("HOME").map(|home| home.join(".config")))
        .map(|folder| folder.join("containers"));
    let own_file = own.as_ref().map(|folder| folder.join("registries.conf"));
    let mut files = Vec::new();
    // Who has a file of their own means none of the system's.
    match own_file.filter(|file| file.exists()) {
        Some(file) => files.push(file),
        None => {
            let system = PathBuf::from("/etc/containers/registries.conf");
            files.extend(Some(system).filter(|file| file.exists()));
            files.extend(drop_ins(Path::new("/etc/containers/registries.conf.d"))?);
        }
    }
    if let Some(own) = own {
        files.extend(drop_ins(&own.join("registries.conf.d"))?);
    }
    Ok(files)
}

/// The files `*.conf` in a folder, sorted by name.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let unreadable = |source: io::Error| SourceError::File {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "cache.example.org:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "pinned.example.org"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/team"
        location = "internal.example.org/mirrors/team"
        [[registry]]
        prefix = "*.evil.example.org"
        blocked = true
        [[registry]]
        prefix = "*.old.example.org"
        location = "new.example.org"
        [[registry]]
        location = "localhost:5000"
        insecure = true
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "a.example.org"
    "#;

    fn ask(configuration: &str, name: &str) -> Result<Vec<Endpoint>, SourceError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), configuration).unwrap();
        let options = RegistryOptions {
            registries_conf: Some(file.path().into()),
            ..RegistryOptions::default()
        };
        endpoints(&name.parse().unwrap(), &options)
    }

    fn names(name: &str) -> Vec<String> {
        let endpoints = ask(CONFIGURATION, name).unwrap();
        endpoints.iter().map(Endpoint::name).collect()
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_wins() {
        let hub = [
            "cache.example.org:5000/hub/library/alpine",
            "docker.io/library/alpine",
        ];
        assert_eq!(names("alpine"), hub);
        assert_eq!(
            names("docker.io/team/app"),
            ["internal.example.org/mirrors/team/app"]
        );
        assert_eq!(names("docker.io/teams/app")[1], "docker.io/teams/app");
        assert_eq!(names("a.old.example.org/x/y"), ["new.example.org/x/y"]);
        assert_eq!(names("other.org/x"), ["other.org/x"]);
    }

    #[test]
    fn some_mirrors_are_for_digests_only() {
        let digest = crate::digest::Digest::of(b"x");
        assert_eq!(names(&format!("alpine@{digest}")).len(), 3);
        assert_eq!(names("localhost:5000/x"), ["localhost:5000/x"]);
        assert_eq!(
            names(&format!("localhost:5000/x@{digest}")),
            ["a.example.org/x", "localhost:5000/x"]
        );
        let endpoints = ask(CONFIGURATION, "alpine").unwrap();
        assert!(endpoints[0].is_insecure && endpoints[0].is_mirror);
        assert!(!endpoints[1].is_insecure && !endpoints[1].is_mirror);
    }

    #[test]
    fn blocked_registries_and_broken_files_are_errors_that_name_the_file() {
        let error = ask(CONFIGURATION, "very.evil.example.org/x").unwrap_err();
        assert!(
            matches!(error, SourceError::RegistryBlocked { .. }),
            "{error}"
        );
        for broken in [
            "[[registry]]\nblocked = true",
            "[[registry]]\nlocation = \"a b\"",
            "[[registry]]\nlocation = 3",
            "registry = \"x\"",
            "[",
        ] {
            let error = ask(broken, "alpine").unwrap_err();
            assert!(
                matches!(error, SourceError::RegistrySettings { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_published_goes_to_the_registry_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), CONFIGURATION).unwrap();
        let options = RegistryOptions {
            registries_conf: Some(file.path().into()),
            ..RegistryOptions::default()
        };
        for (name, is_insecure) in [
            ("docker.io/team/app", false),
            ("docker.io/library/x", false),
            ("a.evil.example.org/x", false),
            ("localhost:5000/x", true),
        ] {
            let endpoint = registry_itself(&name.parse().unwrap(), &options).unwrap();
            assert_eq!(
                (endpoint.name(), endpoint.is_insecure),
                (name.to_owned(), is_insecure)
            );
            assert!(!endpoint.is_mirror);
        }
    }

    #[test]
    fn prefixes_match_whole_components() {
        assert_eq!(matched("example.org", "example.org:5000/x"), Some(11));
        assert_eq!(matched("example.org", "example.organ/x"), None);
        assert_eq!(matched("*.example.org", "example.org/x"), None);
        assert_eq!(matched("*", "example.org/x"), None);
    }
}
