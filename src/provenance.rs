//! Where the content of an extension is from, as its release file says it.
//!
//! systemd passes over fields that it does not know, so that they can stand beside its own, and are
//! covered by the image's signature as all of its content is.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::digest::Digest;
use crate::printable::printable;
use crate::source::{EngineImage, Image, ImageReference, Layer};

/// With what the fields begin.
pub const PREFIX: &str = "SYSGRAFT_";

/// From which image an extension was made, and of what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    image: String,
    digest: Option<Digest>,
    layers: Vec<Digest>,
}

impl Provenance {
    /// That of an extension of `layers` (lowest first) of the `image` that `reference` names.
    pub fn of(reference: &ImageReference, image: &Image, layers: &[&Layer]) -> Provenance {
        let digest = |layer: &&Layer| layer.diff_id.or(layer.blob);
        Provenance {
            image: public_name(reference, image),
            digest: image.digest,
            layers: layers.iter().filter_map(digest).collect(),
        }
    }

    /// The fields of the release file: `SYSGRAFT_VERSION`, `SYSGRAFT_IMAGE`, and where they are
    /// known `SYSGRAFT_IMAGE_DIGEST` (of the manifest) and `SYSGRAFT_LAYERS` (diff ids, else digests
    /// of the layers as stored, lowest first).
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("SYSGRAFT_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
            ("SYSGRAFT_IMAGE", self.image.clone()),
        ];
        if let Some(digest) = self.digest {
            fields.push(("SYSGRAFT_IMAGE_DIGEST", digest.to_string()));
        }
        if !self.layers.is_empty() {
            let layers: Vec<String> = self.layers.iter().map(Digest::to_string).collect();
            fields.push(("SYSGRAFT_LAYERS", layers.join(" ")));
        }
        fields
    }
}

/// What the world may know of where the image was found: of files their names alone, for the
/// folders in which they lie are nobody's business, and differ from machine to machine.
fn public_name(reference: &ImageReference, image: &Image) -> String {
    let file = |transport: &str, path: &Path, tag: Option<&str>| {
        let name = printable(path.file_name().unwrap_or_default().as_bytes());
        let tag = tag.map(|tag| format!(":{}", printable(tag.as_bytes())));
        let tag = tag.unwrap_or_default();
        format!("{transport}:{name}{tag}")
    };
    match reference {
        ImageReference::Anywhere(name) if image.location.starts_with("docker-daemon:") => {
            format!("docker-daemon:{}", name.canonical())
        }
        ImageReference::Anywhere(name) | ImageReference::Registry(name) => {
            format!("docker://{}", name.canonical())
        }
        ImageReference::Engine(EngineImage::Name(name)) => {
            format!("docker-daemon:{}", name.canonical())
        }
        ImageReference::Engine(EngineImage::Id(id)) => format!("docker-daemon:{id}"),
        ImageReference::OciLayout { path, tag } => file("oci", path, tag.as_deref()),
        ImageReference::OciArchive { path, tag } => file("oci-archive", path, tag.as_deref()),
        ImageReference::DockerArchive { path, name } => {
            let name = name.as_ref().map(|name| name.canonical());
            file("docker-archive", path, name.as_deref())
        }
        ImageReference::Directory(path) => file("dir", path, None),
        ImageReference::Tar(path) => file("tar", path, None),
        ImageReference::StandardInput => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(reference: &str, location: &str) -> String {
        let image = Image {
            location: location.to_owned(),
            digest: None,
            architecture: None,
            layers: Vec::new(),
        };
        public_name(&reference.parse().unwrap(), &image)
    }

    #[test]
    fn of_files_only_the_names_are_told() {
        for (reference, expected) in [
            ("oci:/home/me/layout:v1", "oci:layout:v1"),
            ("oci-archive:/secret/x.tar", "oci-archive:x.tar"),
            (
                "docker-archive:../x.tar:app:1",
                "docker-archive:x.tar:docker.io/library/app:1",
            ),
            ("dir:/home/me/rootfs/", "dir:rootfs"),
            ("tar:/tmp/x.tar.gz", "tar:x.tar.gz"),
            ("tar:/tmp/x\nID=y\x1b.tar", "tar:x\\nID=y\\u{1b}.tar"),
            ("oci:/tmp/x:a\nb", "oci:x:a\\nb"),
            ("-", "-"),
        ] {
            assert_eq!(public(reference, ""), expected);
        }
    }

    #[test]
    fn bare_names_say_where_the_image_was_found() {
        let engine = "docker-daemon:docker.io/library/app:1";
        assert_eq!(public("app:1", engine), engine);
        let mirrored = "docker://docker.io/library/app:1 (from mirror.example/app)";
        assert_eq!(
            public("app:1", mirrored),
            "docker://docker.io/library/app:1"
        );
    }

    #[test]
    fn fields_that_are_not_known_are_not_there() {
        let nothing = Provenance {
            image: "-".to_owned(),
            digest: None,
            layers: Vec::new(),
        };
        let keys = |of: &Provenance| {
            of.fields()
                .into_iter()
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&nothing), ["SYSGRAFT_VERSION", "SYSGRAFT_IMAGE"]);
        let everything = Provenance {
            digest: Some(Digest::of(b"a")),
            layers: vec![Digest::of(b"b"), Digest::of(b"c")],
            ..nothing
        };
        assert_eq!(keys(&everything).len(), 4);
        assert!(keys(&everything).iter().all(|key| key.starts_with(PREFIX)));
        let (_, layers) = everything.fields().pop().unwrap();
        assert_eq!(layers, format!("{} {}", Digest::of(b"b"), Digest::of(b"c")));
    }
}
