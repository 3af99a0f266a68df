//! Images in a container engine that speaks the Docker Engine API: Docker itself, and Podman.

mod address;
mod api;
mod client;
mod context;
mod export;
mod history;
mod socket;
mod tls;

use std::env;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;

use self::address::Environment;
use self::api::{Api, Description, Failure, Step};
use self::export::SharedExport;
use super::content_store::no_such_platform;
use super::error::{SourceError, root_cause};
use super::platform::{Offer, Platform};
use super::reference::EngineImage;
use super::runtime::Runtime;
use super::{Image, Layer, LayerBytes, OpenLayer};
use crate::digest::Digest;

/// The image called `image` in the engine at `host` (in the notation of `DOCKER_HOST`, `None` for
/// the one that the environment, Docker's contexts or the usual sockets mean).
pub(super) fn find(
    image: &EngineImage,
    platform: &Platform,
    host: Option<&str>,
) -> Result<Image, SourceError> {
    Arc::new(Engine::connect(host)?).image(image, platform)
}

/// What the image called `image` in the engine at `host` is for.
pub(super) fn offer(image: &EngineImage, host: Option<&str>) -> Result<Offer, SourceError> {
    let inspected = Arc::new(Engine::connect(host)?).inspect(image.to_string())?;
    Ok(offer_of(&inspected))
}

struct Engine {
    runtime: Arc<Runtime>,
    api: Api,
    /// For messages.
    address: String,
}

impl Engine {
    fn connect(host: Option<&str>) -> Result<Engine, SourceError> {
        let endpoint = address::find(host, &Environment(&|name| env::var_os(name)))?;
        Ok(Engine {
            api: client::client(&endpoint)?,
            runtime: Runtime::start()?,
            address: endpoint.address,
        })
    }

    fn image(
        self: Arc<Self>,
        image: &EngineImage,
        platform: &Platform,
    ) -> Result<Image, SourceError> {
        let name = image.to_string();
        let inspected = Arc::clone(&self).inspect(name.clone())?;
        let location = match image {
            EngineImage::Name(name) => format!("docker-daemon:{}", name.canonical()),
            EngineImage::Id(id) => format!("docker-daemon:{id}"),
        };
        let offer = offer_of(&inspected);
        if platform.rank(&offer).is_none() {
            return Err(no_such_platform(&location, platform, [&offer]));
        }
        let diff_ids = diff_ids(&inspected, &location)?;
        // The name may be given to another image between now and the export, the ID may not.
        let id = id(&inspected).map_or(name, |id| id.to_string());
        let history = history::of_layers(Arc::clone(&self).history(&id), diff_ids.len());
        let export = Arc::new(self.export(id, location.clone(), diff_ids.clone()));
        let layer = |(diff_id, history)| Layer {
            blob: None,
            diff_id: Some(diff_id),
            size: None,
            history,
            content: Box::new(EngineLayer {
                export: Arc::clone(&export),
                diff_id,
            }),
        };
        Ok(Image {
            digest: None,
            architecture: offer.architecture.parse().ok(),
            layers: diff_ids.into_iter().zip(history).map(layer).collect(),
            location,
        })
    }

    fn inspect(self: Arc<Self>, name: String) -> Result<Description, SourceError> {
        let engine = Arc::clone(&self);
        self.runtime.wait(async move {
            let answer = engine.api.inspect(&name).await;
            answer.map_err(|error| engine.error(&name, error))
        })
    }

    /// The steps that made the image, highest first. They are for information only: an engine that
    /// does not tell them has none.
    fn history(self: Arc<Self>, id: &str) -> Vec<Step> {
        let (engine, id) = (Arc::clone(&self), id.to_owned());
        let steps = self.runtime.wait(async move {
            let answer = engine.api.history(&id).await;
            answer.map_err(|error| engine.error(&id, error))
        });
        steps.unwrap_or_default()
    }

    /// The export of the image that the engine calls `id`, not asked for yet.
    fn export(self: Arc<Self>, id: String, location: String, layers: Vec<Digest>) -> SharedExport {
        let image = location.clone();
        let start = move || {
            let (engine, image) = (Arc::clone(&self), image.clone());
            let stream = self
                .api
                .clone()
                .export(id.clone())
                .map_err(move |error| engine.error(&image, error));
            let bytes: Box<dyn std::io::Read + Send> = Box::new(self.runtime.read(stream)?);
            Ok(bytes)
        };
        SharedExport::new(location, layers, Box::new(start))
    }

    fn error(&self, image: &str, failure: Failure) -> SourceError {
        let engine = self.address.clone();
        let image = image.to_owned();
        match failure {
            Failure::Refused { status: 404, .. } => SourceError::NotInEngine { engine, image },
            Failure::Refused { message, .. } => SourceError::EngineRefused {
                engine,
                image,
                message: message.escape_debug().to_string(),
            },
            Failure::Silence => SourceError::EngineUnreachable {
                engine,
                cause: "it took too long".to_owned(),
            },
            Failure::Nonsense(problem) => SourceError::Malformed {
                object: format!("what the container engine at {engine} says of {image}"),
                problem,
            },
            Failure::Connection(error) => match self.forbidden_socket(&error) {
                Some(path) => socket::forbidden(path, &engine, root_cause(&error)),
                None => SourceError::EngineUnreachable {
                    engine,
                    cause: tls::explain(root_cause(&error)),
                },
            },
        }
    }

    /// The engine's socket, if `error` means that it may not be used.
    fn forbidden_socket(&self, error: &reqwest::Error) -> Option<&Path> {
        let path = self.address.strip_prefix("unix://")?;
        is_denied(error).then_some(Path::new(path))
    }
}

/// Whether the system denied what `error` tells of.
fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let system = error.downcast_ref::<std::io::Error>();
    system.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        || error.source().is_some_and(is_denied)
}

fn offer_of(inspected: &Description) -> Offer {
    Offer {
        os: inspected.os.clone().unwrap_or_default(),
        architecture: inspected.architecture.clone().unwrap_or_default(),
        variant: inspected.variant.clone(),
    }
}

fn id(inspected: &Description) -> Option<Digest> {
    inspected.id.as_deref()?.parse().ok()
}

fn diff_ids(inspected: &Description, image: &str) -> Result<Vec<Digest>, SourceError> {
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

/// One layer of an image, which comes out of the export of all of it.
struct EngineLayer {
    export: Arc<SharedExport>,
    diff_id: Digest,
}

impl OpenLayer for EngineLayer {
    fn announce(&self) {
        self.export.announce(self.diff_id);
    }

    fn open(&self) -> Result<LayerBytes, SourceError> {
        self.export.open(self.diff_id).map(LayerBytes::Archive)
    }
}
