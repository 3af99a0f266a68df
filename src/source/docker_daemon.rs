//! Images in a container engine that speaks the Docker Engine API: Docker itself, and Podman.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::ImageInspect;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::TryStreamExt;

use super::content_store::no_such_platform;
use super::error::{SourceError, root_cause};
use super::export;
use super::platform::{Offer, Platform};
use super::reference::EngineImage;
use super::runtime::Runtime;
use super::{History, Image, Layer, LayerBytes, OpenLayer};
use crate::digest::Digest;

/// Docker's own socket.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Podman's, if it runs as a system service.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// For answers out of the engine's memory.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(60);

/// For the first byte of an export: Docker writes the whole archive to its disk before.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The image called `image` in the engine at `host` (in the notation of `DOCKER_HOST`, `None` for
/// that variable's value or the usual sockets).
pub(super) fn find(
    image: &EngineImage,
    platform: &Platform,
    host: Option<&str>,
) -> Result<Image, SourceError> {
    Arc::new(Engine::connect(host)?).image(image, platform)
}

struct Engine {
    runtime: Arc<Runtime>,
    docker: Docker,
    /// For messages.
    address: String,
}

impl Engine {
    fn connect(host: Option<&str>) -> Result<Engine, SourceError> {
        let configured = env::var("DOCKER_HOST").ok();
        let host = host
            .map(str::to_owned)
            .or(configured)
            .filter(|host| !host.is_empty());
        let address = match host {
            Some(host) => host,
            None => usual_socket(env::var_os("XDG_RUNTIME_DIR"))?,
        };
        let wants_tls = env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        let docker = client(&address, wants_tls)?;
        Ok(Engine {
            runtime: Runtime::start()?,
            docker,
            address,
        })
    }

    fn image(
        self: Arc<Self>,
        image: &EngineImage,
        platform: &Platform,
    ) -> Result<Image, SourceError> {
        let name = image.to_string();
        let docker = self.docker.clone().with_timeout(INSPECT_TIMEOUT);
        let (engine, asked) = (Arc::clone(&self), name.clone());
        let inspected = self.runtime.wait(async move {
            let answer = docker.inspect_image(&asked).await;
            answer.map_err(|error| engine.error(&asked, error))
        })?;
        let location = match image {
            EngineImage::Name(name) => format!("docker-daemon:{}", name.canonical()),
            EngineImage::Id(id) => format!("docker-daemon:{id}"),
        };
        let offer = Offer {
            os: inspected.os.clone().unwrap_or_default(),
            architecture: inspected.architecture.clone().unwrap_or_default(),
            variant: inspected.variant.clone(),
        };
        if platform.rank(&offer).is_none() {
            return Err(no_such_platform(&location, platform, [&offer]));
        }
        let diff_ids = diff_ids(&inspected, &location)?;
        // The name may be given to another image between now and the export, the ID may not.
        let id = id(&inspected).map_or(name, |id| id.to_string());
        let layer = |diff_id| Layer {
            blob: None,
            diff_id: Some(diff_id),
            size: None,
            history: History::default(),
            content: Box::new(EngineLayer {
                engine: Arc::clone(&self),
                id: id.clone(),
                image: location.clone(),
                diff_id,
            }),
        };
        Ok(Image {
            digest: None,
            architecture: offer.architecture.parse().ok(),
            layers: diff_ids.into_iter().map(layer).collect(),
            location,
        })
    }

    fn error(&self, image: &str, error: ApiError) -> SourceError {
        let engine = self.address.clone();
        let image = image.to_owned();
        match error {
            ApiError::DockerResponseServerError {
                status_code: 404, ..
            } => SourceError::NotInEngine { engine, image },
            ApiError::DockerResponseServerError { message, .. } => SourceError::EngineRefused {
                engine,
                image,
                message: message.escape_debug().to_string(),
            },
            ApiError::RequestTimeoutError => SourceError::EngineUnreachable {
                engine,
                cause: "it took too long".to_owned(),
            },
            other => SourceError::EngineUnreachable {
                engine,
                cause: root_cause(&other),
            },
        }
    }
}

fn id(inspected: &ImageInspect) -> Option<Digest> {
    inspected.id.as_deref()?.parse().ok()
}

fn diff_ids(inspected: &ImageInspect, image: &str) -> Result<Vec<Digest>, SourceError> {
    let malformed = |problem: String| SourceError::Malformed {
        object: format!("the container engine's description of {image}"),
        problem,
    };
    let layers = inspected
        .root_fs
        .as_ref()
        .and_then(|fs| fs.layers.as_deref());
    match layers {
        None | Some([]) => Err(malformed("it names no layers".to_owned())),
        Some(layers) => layers
            .iter()
            .map(|layer| layer.parse())
            .collect::<Result<_, _>>()
            .map_err(|error: crate::digest::InvalidDigest| malformed(error.to_string())),
    }
}

/// The first of the usual sockets that is there.
fn usual_socket(runtime_directory: Option<OsString>) -> Result<String, SourceError> {
    let user = |name: &str| Some(PathBuf::from(runtime_directory.as_ref()?).join(name));
    let sockets: Vec<PathBuf> = [
        Some(DOCKER_SOCKET.into()),
        user("docker.sock"),
        user("podman/podman.sock"),
        Some(PODMAN_SOCKET.into()),
    ]
    .into_iter()
    .flatten()
    .collect();
    // What may not be looked at is there; connecting says why it cannot be used.
    let present = sockets
        .iter()
        .find(|path| path.try_exists().unwrap_or(true));
    match present {
        Some(path) => Ok(format!("unix://{}", path.display())),
        None => Err(SourceError::NoEngine {
            tried: sockets
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        }),
    }
}

fn client(address: &str, wants_tls: bool) -> Result<Docker, SourceError> {
    let unusable = |problem| SourceError::EngineAddress {
        address: address.to_owned(),
        problem,
    };
    let timeout = EXPORT_TIMEOUT.as_secs();
    let client = match address.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => {
            Docker::connect_with_unix(path, timeout, API_DEFAULT_VERSION)
        }
        Some(("unix", _)) => return Err(unusable("its path is not absolute")),
        Some(("tcp" | "http", _)) if wants_tls => {
            return Err(unusable("DOCKER_TLS_VERIFY asks for TLS"));
        }
        Some(("tcp" | "http", _)) => {
            Docker::connect_with_http(address, timeout, API_DEFAULT_VERSION)
        }
        Some(_) => return Err(unusable("its scheme is not supported")),
        None => return Err(unusable("it has no scheme")),
    };
    client.map_err(|error| SourceError::EngineUnreachable {
        engine: address.to_owned(),
        cause: root_cause(&error),
    })
}

struct EngineLayer {
    engine: Arc<Engine>,
    /// What the engine is asked for.
    id: String,
    /// For messages.
    image: String,
    diff_id: Digest,
}

impl OpenLayer for EngineLayer {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        let engine = Arc::clone(&self.engine);
        let image = self.image.clone();
        let export = self
            .engine
            .docker
            .export_image(&self.id)
            .map_err(move |error| engine.error(&image, error));
        let export = self.engine.runtime.read(export)?;
        export::find_layer(export, self.diff_id, &self.image).map(LayerBytes::Archive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_other_kinds_are_refused_with_the_supported_ones() {
        for address in [
            "ssh://host",
            "npipe:////./pipe/docker",
            "unix://relative",
            "/run/x.sock",
        ] {
            let error = client(address, false).unwrap_err();
            assert!(
                matches!(error, SourceError::EngineAddress { .. }),
                "{error}"
            );
            assert!(error.to_string().contains("unix:///PATH"));
        }
        assert!(client("tcp://127.0.0.1:1", true).is_err());
        assert!(client("tcp://127.0.0.1:1", false).is_ok());
    }

    #[test]
    fn a_missing_socket_is_named() {
        let error = client("unix:///does/not/exist.sock", false).unwrap_err();
        assert!(
            error.to_string().contains("/does/not/exist.sock"),
            "{error}"
        );
    }

    #[test]
    fn sockets_of_the_user_come_after_dockers_own() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("podman/podman.sock");
        std::fs::create_dir(directory.path().join("podman")).unwrap();
        std::fs::write(&socket, "").unwrap();
        let found = usual_socket(Some(directory.path().into())).unwrap();
        let expected = if std::path::Path::new(DOCKER_SOCKET).exists() {
            format!("unix://{DOCKER_SOCKET}")
        } else {
            format!("unix://{}", socket.display())
        };
        assert_eq!(found, expected);
    }
}
