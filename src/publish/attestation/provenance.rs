//! What an image was made of, as an in-toto statement with SLSA provenance.
//!
//! Formats: in-toto Statement v1, SLSA Provenance v1 (<https://slsa.dev/spec/v1.0/provenance>).

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::publish::edition::Edition;
use crate::source::{EngineImage, ImageReference};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// What was done, and what its parameters mean.
const BUILD_TYPE: &str =
    "https://github.com/sysgraft/sysgraft/blob/main/docs/publish.md#build-type-1";
/// The program. Nobody but whoever ran it vouches for the machine that it ran on.
const BUILDER: &str = "https://github.com/sysgraft/sysgraft";

/// Fields of the release file that say how the image came about.
const BUILDER_VERSION: &str = "SYSGRAFT_VERSION";
const IMAGE: &str = "SYSGRAFT_IMAGE";
const IMAGE_DIGEST: &str = "SYSGRAFT_IMAGE_DIGEST";
const LAYERS: &str = "SYSGRAFT_LAYERS";
const OWN: &str = "SYSGRAFT_";

/// The provenance of `edition`; `None` where the image does not say by what it was made.
pub fn provenance(edition: &Edition) -> Option<Value> {
    let release = &edition.release;
    let builder = release.get(BUILDER_VERSION)?;
    let fields = release.fields().filter(|(key, _)| !key.starts_with(OWN));
    let fields: serde_json::Map<String, Value> = fields
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    Some(json!({
        "_type": STATEMENT,
        "subject": [{
            "name": edition.file_name(),
            "digest": {"sha256": edition.digest.hex()},
        }],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "kind": edition.kind.as_str(),
                    "name": edition.name.as_str(),
                    "image": release.get(IMAGE),
                    "release": fields,
                },
                "resolvedDependencies": dependencies(edition),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"sysgraft": builder}},
            },
        },
    }))
}

/// The source image, then the layers that the content is from (digests of their tar archives).
fn dependencies(edition: &Edition) -> Vec<Value> {
    let release = &edition.release;
    let digest = |text: &str| text.parse().ok().map(|digest: Digest| digest.hex());
    let image = release.get(IMAGE_DIGEST).and_then(digest).map(|digest| {
        let uri = uri(release.get(IMAGE).unwrap_or_default(), &digest);
        json!({"uri": uri, "digest": {"sha256": digest}})
    });
    let layers = release.get(LAYERS).unwrap_or_default();
    let layers = layers.split_ascii_whitespace().filter_map(digest);
    let layers = layers.map(|digest| json!({"name": "layer", "digest": {"sha256": digest}}));
    image.into_iter().chain(layers).collect()
}

/// The package URL of an image with a name, see <https://github.com/package-url/purl-spec>, type `oci`; of
/// all others, what the release file says.
fn uri(image: &str, digest: &str) -> String {
    let name = match image.parse() {
        Ok(ImageReference::Registry(name) | ImageReference::Anywhere(name)) => name,
        Ok(ImageReference::Engine(EngineImage::Name(name))) => name,
        _ => return image.to_owned(),
    };
    let (component, registry, path) = (name.last_component(), name.registry(), name.repository());
    let tag = name.tag().map(|tag| format!("&tag={tag}"));
    format!(
        "pkg:oci/{component}@sha256%3A{digest}?repository_url={registry}/{path}{}",
        tag.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::edition::example;
    use crate::release::ReleaseFile;

    #[test]
    fn the_release_file_says_it_all() {
        let mut edition = example("hello", "1.2");
        assert_eq!(provenance(&edition), None);
        let digest = Digest::of(b"x");
        let text = format!(
            "ID=_any\nSYSGRAFT_VERSION=0.1.0\nSYSGRAFT_IMAGE=docker://docker.io/x/y:1\n\
             SYSGRAFT_IMAGE_DIGEST={digest}\nSYSGRAFT_LAYERS=\"{digest} nonsense {digest}\"\n"
        );
        edition.release = ReleaseFile::parse(text.as_bytes()).unwrap();
        let provenance = provenance(&edition).unwrap();
        let definition = &provenance["predicate"]["buildDefinition"];
        let dependencies = definition["resolvedDependencies"].as_array().unwrap();
        assert_eq!(dependencies.len(), 3);
        let name = format!(
            "pkg:oci/y@sha256%3A{}?repository_url=docker.io/x/y&tag=1",
            digest.hex()
        );
        assert_eq!(dependencies[0]["uri"], name);
        assert_eq!(uri("oci-archive:x.tar", "0"), "oci-archive:x.tar");
        assert_eq!(dependencies[2]["digest"]["sha256"], digest.hex());
        assert_eq!(
            definition["externalParameters"]["release"],
            json!({"ID": "_any"})
        );
        assert_eq!(provenance["subject"][0]["name"], edition.file_name());
    }
}
