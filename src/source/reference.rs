//! Names of images, in the notation of containers-transports(5).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_client::Reference;

use crate::digest::Digest;

/// Where to look for an image.
///
/// Paths that a tag may follow end at the first colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReference {
    /// `NAME`: in the container engine, else in the registry.
    Anywhere(ImageName),
    /// `docker-daemon:NAME` or `docker-daemon:sha256:ID`.
    Engine(EngineImage),
    /// `docker://NAME`: in a registry.
    Registry(ImageName),
    /// `oci:DIR[:TAG]`: an OCI image layout.
    OciLayout {
        /// The directory with `index.json`.
        path: PathBuf,
        /// Value of the annotation `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: a tar archive of an OCI image layout.
    OciArchive {
        /// The archive.
        path: PathBuf,
        /// Value of the annotation `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive {
        /// The archive.
        path: PathBuf,
        /// One of the images in it.
        name: Option<ImageName>,
    },
    /// `dir:PATH`: a root tree. (Skopeo's transport of this name is a different thing.)
    Directory(PathBuf),
    /// `tar:FILE`: a tar archive of a root tree, plain or compressed.
    Tar(PathBuf),
    /// `-`: such an archive on standard input.
    StandardInput,
}

/// How an engine knows an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineImage {
    /// By name.
    Name(ImageName),
    /// By image ID.
    Id(Digest),
}

/// The validated name of an image: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
///
/// It consists of characters only that have no meaning of their own in the path of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// As it was written: engines resolve short names in their own ways.
    text: String,
    reference: Reference,
}

/// A text that names no image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidReference {
    /// The prefix is no supported transport.
    #[error("{text:?} uses an unknown transport; supported are {TRANSPORTS}")]
    Transport {
        /// The text.
        text: String,
    },
    /// No path behind a transport that needs one.
    #[error("{text:?} names no file or directory")]
    NoPath {
        /// The text.
        text: String,
    },
    /// The name of the image has the wrong form.
    #[error(
        "{text:?} is no image name: {problem}; a name is like docker.io/library/alpine:3, files need one of {TRANSPORTS}"
    )]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
}

const TRANSPORTS: &str = "docker-daemon:NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], \
                          docker-archive:FILE[:NAME], dir:PATH, tar:FILE and - (standard input)";

/// Transports of containers-transports(5) that are not supported here, although what follows could
/// be taken for a tag.
const OTHER_TRANSPORTS: [&str; 6] = [
    "atomic",
    "containers-storage",
    "docker-tarfile",
    "ostree",
    "sif",
    "tarball",
];

impl ImageName {
    /// The name with registry, path and tag spelled out.
    pub fn canonical(&self) -> String {
        self.reference.whole()
    }

    /// The name as it was written.
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// The last component of the path: `k3s` of `example.org/kairos/k3s:v1`.
    pub fn last_component(&self) -> &str {
        let path = self.reference.repository();
        path.rsplit_once('/').map_or(path, |(_, last)| last)
    }

    /// The tag, spelled out or implied.
    pub fn tag(&self) -> Option<&str> {
        self.reference.tag()
    }

    /// The digest of the manifest, where the name has it.
    pub fn digest(&self) -> Option<Digest> {
        self.reference.digest()?.parse().ok()
    }

    /// The name of what it stands for now: that with this digest.
    pub(super) fn pinned(&self, digest: Digest) -> ImageName {
        let reference = self.reference.clone_with_digest(digest.to_string());
        ImageName {
            text: reference.whole(),
            reference,
        }
    }

    /// The registry, `HOST[:PORT]`.
    pub fn registry(&self) -> &str {
        self.reference.registry()
    }

    /// The path, spelled out: `library/alpine`.
    pub fn repository(&self) -> &str {
        self.reference.repository()
    }
}

impl FromStr for ImageName {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |problem: String| InvalidReference::Name {
            text: text.to_owned(),
            problem,
        };
        // The grammar of the crate lets Unicode letters into tags, the specification does not.
        if !text.is_ascii() {
            return Err(invalid("it has letters other than ASCII".to_owned()));
        }
        let reference: Reference = text
            .parse()
            .map_err(|error: oci_client::ParseError| invalid(error.to_string()))?;
        if let Some(digest) = reference.digest() {
            digest
                .parse::<Digest>()
                .map_err(|error| invalid(error.to_string()))?;
        }
        Ok(ImageName {
            text: text.to_owned(),
            reference,
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for EngineImage {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(id) => Ok(EngineImage::Id(id)),
            Err(_) => text.parse().map(EngineImage::Name),
        }
    }
}

impl fmt::Display for EngineImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineImage::Name(name) => name.fmt(f),
            EngineImage::Id(id) => id.fmt(f),
        }
    }
}

impl ImageReference {
    /// The registry that the image is looked for in, if it may be in one.
    pub fn registry(&self) -> Option<&str> {
        match self {
            ImageReference::Anywhere(name) | ImageReference::Registry(name) => {
                Some(name.registry())
            }
            _ => None,
        }
    }

    /// Whether it names the image by digest, so that it will never mean another one.
    pub fn is_pinned(&self) -> bool {
        match self {
            ImageReference::Anywhere(name)
            | ImageReference::Registry(name)
            | ImageReference::Engine(EngineImage::Name(name)) => name.digest().is_some(),
            ImageReference::Engine(EngineImage::Id(_)) => true,
            _ => false,
        }
    }
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(ImageReference::StandardInput);
        }
        let path = |rest: &str| match rest {
            "" => Err(InvalidReference::NoPath {
                text: text.to_owned(),
            }),
            _ => Ok(PathBuf::from(rest)),
        };
        let path_and_tag = |rest: &str| {
            let (file, tag) = match rest.split_once(':') {
                Some((file, tag)) => (file, Some(tag.to_owned()).filter(|tag| !tag.is_empty())),
                None => (rest, None),
            };
            Ok::<_, InvalidReference>((path(file)?, tag))
        };
        match text.split_once(':') {
            Some(("docker-daemon", image)) => image.parse().map(ImageReference::Engine),
            Some(("docker", name)) if name.starts_with("//") => {
                name[2..].parse().map(ImageReference::Registry)
            }
            Some(("oci", rest)) => {
                path_and_tag(rest).map(|(path, tag)| ImageReference::OciLayout { path, tag })
            }
            Some(("oci-archive", rest)) => {
                path_and_tag(rest).map(|(path, tag)| ImageReference::OciArchive { path, tag })
            }
            Some(("docker-archive", rest)) => {
                let (path, name) = path_and_tag(rest)?;
                let name = name.map(|name| name.parse()).transpose()?;
                Ok(ImageReference::DockerArchive { path, name })
            }
            Some(("dir", rest)) => path(rest).map(ImageReference::Directory),
            Some(("tar", rest)) => path(rest).map(ImageReference::Tar),
            Some((word, rest)) if OTHER_TRANSPORTS.contains(&word) || rest.starts_with("//") => {
                Err(InvalidReference::Transport {
                    text: text.to_owned(),
                })
            }
            _ => text.parse().map(ImageReference::Anywhere),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_tag =
            |f: &mut fmt::Formatter<'_>, transport, path: &PathBuf, tag: Option<&str>| {
                write!(f, "{transport}:{}", path.display())?;
                tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
            };
        match self {
            ImageReference::Anywhere(name) => name.fmt(f),
            ImageReference::Engine(image) => write!(f, "docker-daemon:{image}"),
            ImageReference::Registry(name) => write!(f, "docker://{name}"),
            ImageReference::OciLayout { path, tag } => with_tag(f, "oci", path, tag.as_deref()),
            ImageReference::OciArchive { path, tag } => {
                with_tag(f, "oci-archive", path, tag.as_deref())
            }
            ImageReference::DockerArchive { path, name } => {
                let name = name.as_ref().map(ImageName::as_written);
                with_tag(f, "docker-archive", path, name)
            }
            ImageReference::Directory(path) => write!(f, "dir:{}", path.display()),
            ImageReference::Tar(path) => write!(f, "tar:{}", path.display()),
            ImageReference::StandardInput => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    #[test]
    fn every_transport_reads_back_what_it_prints() {
        let id = Digest::of(b"x");
        for text in [
            "alpine",
            "localhost:5000/x",
            "name:tag",
            "docker-daemon:name:tag",
            &format!("docker-daemon:{id}"),
            "docker://example.org/a/b:c",
            &format!("docker://example.org/a@{id}"),
            "oci:some/dir",
            "oci:/some/dir:tag",
            "oci-archive:a.tar:v1",
            "docker-archive:a.tar:alpine:3",
            "docker-archive:a.tar",
            "dir:/a:b",
            "tar:a:b.tar",
            "-",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn ports_and_tags_are_not_taken_for_transports() {
        for text in ["localhost:5000/x", "name:tag", "podman:5", "docker:dind"] {
            assert!(matches!(read(text), ImageReference::Anywhere(_)), "{text}");
        }
    }

    #[test]
    fn names_are_spelled_out() {
        for (text, canonical) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("user/app:1", "docker.io/user/app:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().canonical(), canonical);
        }
    }

    #[test]
    fn an_id_is_not_taken_for_a_name() {
        let id = Digest::of(b"x");
        let text = format!("docker-daemon:{id}");
        assert_eq!(read(&text), ImageReference::Engine(EngineImage::Id(id)));
    }

    #[test]
    fn unknown_transports_are_named() {
        for text in [
            "containers-storage:alpine",
            "https://example.org/x",
            "ostree:a",
            "foo://x",
        ] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(
                matches!(error, InvalidReference::Transport { .. }),
                "{text}"
            );
            assert!(error.to_string().contains("oci-archive:FILE[:TAG]"));
        }
    }

    #[test]
    fn names_that_could_change_a_url_are_refused() {
        for text in [
            "",
            "a b",
            "a?b",
            "a#b",
            "a/../b",
            "../a",
            "./a.tar",
            "/a.tar",
            "a%2f",
            "a:täg",
            "Upper",
            "a\n",
            "docker://",
            "docker-daemon:",
            "a@sha256:00",
            "a:b/../../c",
            &format!("a@sha512:{}", "0".repeat(128)),
            &format!("a@sha256:{}", "A".repeat(64)),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(
                matches!(error, InvalidReference::Name { .. }),
                "{text}: {error}"
            );
        }
        for text in ["dir:", "tar:", "oci:", "oci-archive::x", "docker-archive:"] {
            assert!(matches!(
                text.parse::<ImageReference>(),
                Err(InvalidReference::NoPath { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn accepted_names_need_no_escaping(text in "\\PC{0,40}|[a-z0-9:/@._-]{0,40}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert!(name.as_written().bytes().all(
                    |b| b.is_ascii_alphanumeric() || b":/@._-+".contains(&b)));
                prop_assert!(!name.as_written().split('/').any(|part| part == ".." || part == "."));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<ImageReference>();
        }
    }
}
