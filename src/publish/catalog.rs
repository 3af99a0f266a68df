//! Catalogs in which Kairos nodes look extensions up by name and version.
//!
//! The format is that of Kairos' `releases.json`: `{generated, repo, layers: [{name, title, image,
//! latest, tags: [{tag, digest, created, sysext: {ARCHITECTURE: {oci}}}]}]}`. What else is in a catalog
//! stays in it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::edition::Edition;
use super::folder_lock::lock_folder;
use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::image::{Output, OutputError};
use crate::version::Version;

/// The agents read no larger ones.
const MAX_BYTES: u64 = 8 << 20;

/// An image in a registry, for the catalog.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The image.
    pub edition: &'a Edition,
    /// The repository: registry and path without tag.
    pub repository: &'a str,
    /// Digest of the image's own manifest.
    pub manifest: Digest,
    /// Digest of the index over all architectures.
    pub index: Option<Digest>,
}

/// Why a catalog was not written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Kairos' format has no place for them.
    #[error("{0} is a confext; catalogs are for system extensions")]
    Confext(PathBuf),
    /// The file could not be read.
    #[error("cannot read the catalog {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is no catalog: {problem}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file could not be put into its place.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The file could not be written.
    #[error("cannot write the catalog {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether all of `editions` can be in a catalog.
///
/// # Errors
/// [`CatalogError::Confext`].
pub fn refuse_confexts(editions: &[Edition]) -> Result<(), CatalogError> {
    let mut kinds = editions.iter();
    match kinds.find(|edition| edition.kind != ExtensionKind::Sysext) {
        Some(confext) => Err(CatalogError::Confext(confext.path.clone())),
        None => Ok(()),
    }
}

/// Whether [`add`] would change the catalog at `path`.
///
/// # Errors
/// [`CatalogError`], as of [`add`].
pub fn would_change(path: &Path, entries: &[Entry<'_>], now: &str) -> Result<bool, CatalogError> {
    let _lock = lock(path)?;
    Ok(read_and_merge(path, entries, now)?.is_some())
}

/// Adds `entries`, which are of system extensions, to the catalog at `path`, which is made if it is missing.
/// `now` is RFC 3339. Says whether anything changed.
///
/// # Errors
/// [`CatalogError`]; the catalog is then as it was.
pub fn add(path: &Path, entries: &[Entry<'_>], now: &str) -> Result<bool, CatalogError> {
    let _lock = lock(path)?;
    let Some(mut catalog) = read_and_merge(path, entries, now)? else {
        return Ok(false);
    };
    catalog["generated"] = now.into();
    let output = Output::create(folder_of(path), path.file_name().unwrap_or_default())?;
    writeln!(output.file(), "{catalog:#}").map_err(|source| CatalogError::Write {
        path: path.to_path_buf(),
        source,
    })?;
    output.commit()?;
    Ok(true)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn lock(path: &Path) -> Result<File, CatalogError> {
    lock_folder(folder_of(path)).map_err(|source| CatalogError::Read {
        path: path.to_path_buf(),
        source,
    })
}

/// The catalog with `entries` in it, unless it has all of them.
fn read_and_merge(
    path: &Path,
    entries: &[Entry<'_>],
    now: &str,
) -> Result<Option<Value>, CatalogError> {
    let malformed = |problem| CatalogError::Malformed {
        path: path.to_path_buf(),
        problem,
    };
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            let path = path.to_path_buf();
            return Err(CatalogError::Read { path, source });
        }
        _ => {}
    }
    let before = match bytes.is_empty() {
        true => json!({}),
        false => serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?,
    };
    let mut catalog = before.clone();
    merge(&mut catalog, entries, now).map_err(malformed)?;
    Ok((catalog != before).then_some(catalog))
}

fn merge(catalog: &mut Value, entries: &[Entry<'_>], now: &str) -> Result<(), String> {
    for entry in entries {
        let edition = entry.edition;
        let catalog = object(catalog, "the catalog")?;
        catalog.entry("repo").or_insert(entry.repository.into());
        let layers = list(catalog, "layers")?;
        let layer = find_or_add(layers, "name", edition.name.as_str())?;
        for (key, value) in [
            ("title", edition.name.as_str()),
            ("image", entry.repository),
        ] {
            layer.entry(key).or_insert(value.into());
        }
        let version = edition.version.as_str();
        let latest = layer
            .get("latest")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if Version::from(latest) < edition.version {
            layer.insert("latest".to_owned(), version.into());
        }
        let tag = find_or_add(list(layer, "tags")?, "tag", version)?;
        let image = json!({"oci": format!("{}@{}", entry.repository, entry.manifest)});
        let index = entry.index.unwrap_or(entry.manifest);
        let index = Value::from(index.to_string());
        if tag.get("digest") != Some(&index) {
            tag.insert("digest".to_owned(), index);
            tag.insert("created".to_owned(), now.into());
        }
        let architecture = edition.architecture;
        let architecture = architecture
            .oci_name()
            .unwrap_or(architecture.systemd_name());
        let images = tag.entry("sysext").or_insert_with(|| json!({}));
        object(images, "sysext")?.insert(architecture.to_owned(), image);
    }
    Ok(())
}

fn object<'a>(value: &'a mut Value, what: &str) -> Result<&'a mut Map<String, Value>, String> {
    value
        .as_object_mut()
        .ok_or_else(|| format!("{what} is no object"))
}

fn list<'a>(object: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, String> {
    let value = object.entry(key).or_insert_with(|| json!([]));
    value
        .as_array_mut()
        .ok_or_else(|| format!("{key} is no list"))
}

/// The object of a list in which `key` has this value.
fn find_or_add<'a>(
    list: &'a mut Vec<Value>,
    key: &str,
    value: &str,
) -> Result<&'a mut Map<String, Value>, String> {
    let found = list
        .iter()
        .position(|item| item.get(key).and_then(Value::as_str) == Some(value));
    let index = found.unwrap_or_else(|| {
        list.push(json!({key: value}));
        list.len() - 1
    });
    let item = list.get_mut(index).and_then(Value::as_object_mut);
    item.ok_or_else(|| format!("an entry of it with the {key} {value} is no object"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::edition::example;

    fn merged(catalog: &Value, editions: &[Edition], now: &str) -> Value {
        let mut catalog = catalog.clone();
        let entries: Vec<Entry<'_>> = editions
            .iter()
            .map(|edition| Entry {
                edition,
                repository: "ghcr.io/k/hello",
                manifest: edition.digest,
                index: Some(Digest::of(b"index")),
            })
            .collect();
        merge(&mut catalog, &entries, now).unwrap();
        catalog
    }

    #[test]
    fn versions_and_architectures_gather_and_the_newest_is_the_latest() {
        let mut arm = example("hello", "1.10");
        arm.architecture = "arm64".parse().unwrap();
        let editions = [example("hello", "1.10"), example("hello", "1.9"), arm];
        let catalog = merged(&json!({}), &editions, "now");
        let layer = &catalog["layers"][0];
        assert_eq!(layer["latest"], "1.10");
        let tags = layer["tags"].as_array().unwrap();
        assert_eq!(tags.len(), 2);
        for architecture in ["amd64", "arm64"] {
            let image = tags[0]["sysext"][architecture]["oci"].as_str().unwrap();
            assert!(image.starts_with("ghcr.io/k/hello@sha256:"), "{image}");
        }
        // Once more, later, is no change.
        assert_eq!(merged(&catalog, &editions, "later"), catalog);
    }

    #[test]
    fn a_v_makes_no_version_older() {
        let catalog = merged(&json!({}), &[example("hello", "1.0")], "now");
        let catalog = merged(&catalog, &[example("hello", "v2")], "now");
        let catalog = merged(&catalog, &[example("hello", "1.5")], "now");
        assert_eq!(catalog["layers"][0]["latest"], "v2");
    }

    #[test]
    fn what_others_wrote_stays() {
        let catalog = json!({
            "repo": "them", "toolchain": "v1",
            "layers": [
                {"name": "git", "tags": []},
                {"name": "hello", "description": "d", "latest": "2", "tags": [{"tag": "2", "x": 1}]},
            ],
        });
        let merged = merged(&catalog, &[example("hello", "1")], "now");
        assert_eq!(merged["toolchain"], "v1");
        assert_eq!(merged["repo"], "them");
        assert_eq!(merged["layers"][0], catalog["layers"][0]);
        let layer = &merged["layers"][1];
        assert_eq!(
            (&layer["latest"], &layer["description"]),
            (&"2".into(), &"d".into())
        );
        assert_eq!(layer["tags"][0], catalog["layers"][1]["tags"][0]);
        assert_eq!(layer["tags"][1]["tag"], "1");
    }

    #[test]
    fn other_documents_are_refused() {
        let edition = example("hello", "1");
        for other in [
            json!([]),
            json!({"layers": 1}),
            json!({"layers": [{"name": "hello", "tags": {}}]}),
        ] {
            let entry = Entry {
                edition: &edition,
                repository: "r",
                manifest: edition.digest,
                index: None,
            };
            let result = merge(&mut other.clone(), &[entry], "now");
            assert!(result.is_err(), "{other}");
        }
    }
}
