//! Catalogs: lists from which a system extension is chosen by name and version.
//!
//! The format is that of Kairos' `releases.json`:
//! `{repo, layers: [{name, latest, tags: [{tag, sysext: {ARCHITECTURE: {oci}}}]}]}`.

use std::collections::BTreeMap;

use semver::{Version, VersionReq};
use serde::Deserialize;

use super::http::HttpClient;
use super::{FetchError, Location, Progress, Request, local};
use crate::architecture::Architecture;
use crate::extension::ExtensionKind;
use crate::printable::printable;

/// Bytes that a catalog may have.
const LIMIT: u64 = 8 << 20;

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// An image in a registry, pinned by digest.
    pub location: Location,
    /// The version that was chosen: a tag of the catalog.
    pub version: String,
    /// The catalog that has it.
    pub catalog: String,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    #[serde(default)]
    latest: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    tag: String,
    #[serde(default)]
    sysext: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    oci: String,
}

/// Looks `name` up in `catalogs`, which are asked in their order until one has it.
///
/// `version` is a tag, or else a constraint such as `>=1.2`, `~1.4`, `^2`, `>=1.2 <2` or
/// `1.x || 3.x`, of which the highest version is taken. `None` means the one that the catalog calls
/// the latest, or else the highest.
///
/// # Errors
/// [`FetchError::CatalogKind`] for anything but system extensions; [`FetchError::NoCatalog`];
/// [`FetchError::NotInCatalogs`] with what is wrong with each of them.
pub fn resolve(
    name: &str,
    version: Option<&str>,
    catalogs: &[Location],
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Resolved, FetchError> {
    if request.kind != ExtensionKind::Sysext {
        return Err(FetchError::CatalogKind);
    }
    if catalogs.is_empty() {
        return Err(FetchError::NoCatalog {
            name: printable(name.as_bytes()),
        });
    }
    let mut reasons = Vec::new();
    for location in catalogs {
        let catalog = read(location, request, progress);
        let chosen =
            catalog.and_then(|catalog| catalog.choose(name, version, request.architecture));
        match chosen {
            Ok((image, tag)) => {
                return Ok(Resolved {
                    location: image,
                    version: tag,
                    catalog: location.to_string(),
                });
            }
            Err(reason) => reasons.push(format!("{location} {}", printable(reason.as_bytes()))),
        }
    }
    let version = version.map_or_else(String::new, |version| format!(" {version}"));
    let wanted = format!("{name}{version} for {}", request.architecture);
    Err(FetchError::NotInCatalogs {
        wanted: printable(wanted.as_bytes()),
        reasons,
    })
}

/// The catalog at `location`, or why there is none.
fn read(
    location: &Location,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Catalog, String> {
    let json = match location {
        Location::File(path) => local::document(path, LIMIT),
        Location::Http(address) => HttpClient::new(request.ca_file, &request.patience)
            .and_then(|client| client.document(address, LIMIT, &request.patience, progress)),
        Location::Oci(_) => {
            return Err(
                "is in a registry; catalogs are read from file: and http(s): only".to_owned(),
            );
        }
    };
    let json = json.map_err(|error| format!("cannot be read ({error})"))?;
    serde_json::from_slice(&json).map_err(|error| format!("is no catalog ({error})"))
}

impl Catalog {
    /// The image and the tag, or what the catalog lacks.
    fn choose(
        &self,
        name: &str,
        version: Option<&str>,
        architecture: Architecture,
    ) -> Result<(Location, String), String> {
        let layer = self.layers.iter().find(|layer| layer.name == name);
        let layer = layer.ok_or_else(|| format!("has no {name}"))?;
        let tag = layer.tag(version, architecture)?;
        let entry = tag
            .entry(architecture)
            .ok_or_else(|| format!("has {name} {}, but not for {architecture}", tag.tag))?;
        Ok((pinned(&entry.oci)?, tag.tag.clone()))
    }
}

impl Layer {
    fn tag(&self, version: Option<&str>, architecture: Architecture) -> Result<&Tag, String> {
        let exact = |wanted: &str| self.tags.iter().find(|tag| tag.tag == wanted);
        let wanted = version.or(self.latest.as_deref());
        if let Some(tag) = wanted.and_then(exact) {
            return Ok(tag);
        }
        let constraint = match version {
            Some(text) => Some(Constraint::parse(text).ok_or_else(|| self.lacks(text))?),
            None => None,
        };
        let fitting = self.tags.iter().filter_map(|tag| {
            let version = loose_version(&tag.tag)?;
            let fits = constraint
                .as_ref()
                .is_none_or(|all| all.is_met_by(&version));
            (fits && tag.entry(architecture).is_some()).then_some((version, tag))
        });
        fitting
            .max_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(_, tag)| tag)
            .ok_or_else(|| self.lacks(version.unwrap_or("in any version for this architecture")))
    }

    fn lacks(&self, wanted: &str) -> String {
        let tags: Vec<&str> = self
            .tags
            .iter()
            .take(20)
            .map(|tag| tag.tag.as_str())
            .collect();
        format!("has no {} {wanted}, but {}", self.name, tags.join(", "))
    }
}

impl Tag {
    fn entry(&self, architecture: Architecture) -> Option<&Entry> {
        let is_it = |name: &str| name.parse() == Ok(architecture);
        self.sysext
            .iter()
            .find_map(|(name, entry)| is_it(name).then_some(entry))
    }
}

/// The image that `reference` names with its digest: a tag could be moved after the catalog was
/// written.
fn pinned(reference: &str) -> Result<Location, String> {
    let name = reference.strip_prefix("oci:").unwrap_or(reference);
    let location = format!("oci:{name}").parse();
    match location {
        Ok(Location::Oci(name)) if name.digest().is_some() => Ok(Location::Oci(name)),
        Ok(_) => Err(format!("names {reference} without its digest")),
        Err(error) => Err(format!("is malformed ({error})")),
    }
}

/// Alternatives of requirements that hold together.
struct Constraint(Vec<Vec<VersionReq>>);

impl Constraint {
    /// Reads a constraint as Go's `Masterminds/semver` does, as far as Cargo knows it too:
    /// alternatives between `||`, requirements between commas or spaces, a bare version means that
    /// very one.
    fn parse(text: &str) -> Option<Constraint> {
        let alternatives = text.split("||").map(|alternative| {
            let mut requirements = Vec::new();
            let mut operator = String::new();
            for word in alternative
                .split([',', ' '])
                .filter(|word| !word.is_empty())
            {
                let version = word.trim_start_matches(['<', '>', '=', '^', '~']);
                operator.push_str(word.strip_suffix(version)?);
                if version.is_empty() {
                    continue;
                }
                let version = version.strip_prefix('v').unwrap_or(version);
                let operator = match std::mem::take(&mut operator) {
                    none if none.is_empty() => "=".to_owned(),
                    some => some,
                };
                requirements.push(VersionReq::parse(&requirement(&operator, version)).ok()?);
            }
            (operator.is_empty() && !requirements.is_empty()).then_some(requirements)
        });
        alternatives.collect::<Option<_>>().map(Constraint)
    }

    fn is_met_by(&self, version: &Version) -> bool {
        let all_hold = |all: &Vec<VersionReq>| all.iter().all(|one| one.matches(version));
        self.0.iter().any(all_hold)
    }
}

/// Cargo takes `1.x` without an operator only.
fn requirement(operator: &str, version: &str) -> String {
    match operator {
        "=" if version.contains(['x', 'X', '*']) => version.to_owned(),
        operator => format!("{operator}{version}"),
    }
}

/// The version in a tag, which may have a `v` in front and fewer than three numbers.
fn loose_version(tag: &str) -> Option<Version> {
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    let end = tag.find(['-', '+']).unwrap_or(tag.len());
    let (numbers, rest) = tag.split_at(end);
    let missing = 2_usize.checked_sub(numbers.matches('.').count())?;
    Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::digest::Digest;

    fn tag(name: &str, architectures: &[&str]) -> Value {
        let digest = Digest::of(name.as_bytes());
        let entries = architectures.iter().map(|architecture| {
            let oci = format!("ghcr.io/k/x-{architecture}@{digest}");
            ((*architecture).to_owned(), json!({"oci": oci}))
        });
        json!({"tag": name, "sysext": Value::Object(entries.collect())})
    }

    fn catalog(latest: &str, tags: &[Value]) -> Value {
        json!({"repo": "x", "layers": [
            {"name": "other"},
            {"name": "k3s", "latest": latest, "tags": tags, "surplus": 1},
        ]})
    }

    fn versions() -> Value {
        catalog(
            "v1.29.2+k3s1",
            &[
                tag("v1.28.0+k3s1", &["amd64", "arm64"]),
                tag("v1.29.2+k3s1", &["amd64", "arm64"]),
                tag("v1.30.0-rc1", &["amd64"]),
                tag("v1.30", &["amd64"]),
                tag("v2.0.0", &["arm64"]),
                tag("edge", &["amd64"]),
            ],
        )
    }

    fn look_in(
        catalogs: &[Value],
        version: Option<&str>,
        architecture: &str,
    ) -> Result<Resolved, FetchError> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..catalogs.len())
            .map(|number| folder.path().join(format!("{number}.json")))
            .collect();
        for (path, catalog) in paths.iter().zip(catalogs) {
            std::fs::write(path, catalog.to_string()).unwrap();
        }
        let locations: Vec<Location> = paths.into_iter().map(Location::File).collect();
        let architecture = architecture.parse().unwrap();
        let request = Request::new(folder.path(), ExtensionKind::Sysext, architecture);
        resolve("k3s", version, &locations, &request, &())
    }

    fn chosen(version: Option<&str>, architecture: &str) -> String {
        look_in(&[versions()], version, architecture)
            .unwrap()
            .version
    }

    #[test]
    fn tags_win_over_constraints_and_the_highest_over_the_others() {
        for (version, architecture, expected) in [
            (None, "amd64", "v1.29.2+k3s1"),
            (Some("edge"), "amd64", "edge"),
            (Some("v1.28.0+k3s1"), "amd64", "v1.28.0+k3s1"),
            (Some(">=1.2"), "amd64", "v1.30"),
            (Some(">=1.2"), "arm64", "v2.0.0"),
            (Some(">= v1.2, <1.30"), "arm64", "v1.29.2+k3s1"),
            (Some("~1.28"), "amd64", "v1.28.0+k3s1"),
            (Some("^1.28"), "amd64", "v1.30"),
            (Some("1.29"), "amd64", "v1.29.2+k3s1"),
            (Some("1.28.x"), "amd64", "v1.28.0+k3s1"),
            (Some("<1.29 || ^2"), "arm64", "v2.0.0"),
        ] {
            assert_eq!(
                chosen(version, architecture),
                expected,
                "{version:?} {architecture}"
            );
        }
    }

    #[test]
    fn without_a_latest_the_highest_release_is_taken() {
        let tags = [tag("1.9.0", &["amd64"]), tag("1.10.0", &["amd64"])];
        let mut catalog = catalog("", &tags);
        catalog["layers"][1]
            .as_object_mut()
            .unwrap()
            .remove("latest");
        assert_eq!(
            look_in(&[catalog], None, "amd64").unwrap().version,
            "1.10.0"
        );
    }

    #[test]
    fn the_location_is_an_image_with_its_digest() {
        let resolved = look_in(&[versions()], None, "arm64").unwrap();
        let digest = Digest::of(b"v1.29.2+k3s1");
        let expected = format!("oci:ghcr.io/k/x-arm64@{digest}");
        assert_eq!(resolved.location.to_string(), expected);
        let mut moved = versions();
        moved["layers"][1]["tags"][1]["sysext"]["amd64"]["oci"] = "ghcr.io/k/x:1".into();
        let error = look_in(&[moved], None, "amd64").unwrap_err();
        assert!(error.to_string().contains("without its digest"), "{error}");
    }

    #[test]
    fn catalogs_are_asked_in_order_and_each_is_named_in_the_error() {
        let empty = json!({"layers": []});
        let found = look_in(&[empty.clone(), versions()], None, "amd64").unwrap();
        assert!(found.catalog.ends_with("/1.json"));
        let none = [empty, json!([1]), versions()];
        let error = look_in(&none, Some(">=7"), "amd64")
            .unwrap_err()
            .to_string();
        for part in [
            "0.json has no k3s",
            "1.json is no catalog",
            "2.json has no k3s >=7, but v1.28",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let error = look_in(&[versions()], Some("edge"), "arm64").unwrap_err();
        assert!(
            error.to_string().contains("edge, but not for arm64"),
            "{error}"
        );
    }

    #[test]
    fn catalogs_are_for_system_extensions() {
        let folder = tempfile::tempdir().unwrap();
        let architecture = Architecture::X86_64;
        let confext = Request::new(folder.path(), ExtensionKind::Confext, architecture);
        let result = resolve("x", None, &[], &confext, &());
        assert!(matches!(result, Err(FetchError::CatalogKind)));
        let sysext = Request::new(folder.path(), ExtensionKind::Sysext, architecture);
        let result = resolve("x", None, &[], &sysext, &());
        assert!(matches!(result, Err(FetchError::NoCatalog { .. })));
    }

    proptest! {
        #[test]
        fn constraints_and_tags_never_panic(text in "[<>=^~v0-9.x|, +-]{0,20}|\\PC{0,12}") {
            let _ = Constraint::parse(&text);
            let _ = loose_version(&text);
        }
    }
}
