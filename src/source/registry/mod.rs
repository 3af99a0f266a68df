//! Images in a registry that speaks the OCI distribution protocol.
//!
//! A `Session` is the only one that speaks to a registry: it asks, logs in when it is told to, and
//! tells failures apart. Around it lie what it takes from the user (`options`), from files
//! (`credentials`, `mirrors`, `tls`) and from the registry's answers (`challenge`, `token`, `failure`,
//! `warning`).
//! What is published goes the same way (`push`, `upload`).

mod blob;
mod bundle;
mod challenge;
mod credential_helper;
mod credentials;
mod failure;
mod mirrors;
mod options;
mod push;
mod push_error;
mod retry;
mod session;
mod signature;
mod tags;
mod tls;
mod token;
mod upload;
mod verify_key;
mod warning;

use std::io::Read;
use std::sync::Arc;

pub use options::{ClientCertificate, Credentials, RegistryOptions};
pub(crate) use push::PushTarget;
pub use push_error::{PushError, PushObject};
pub use retry::Patience;
pub(crate) use upload::{BlobContent, OnSent};
pub use warning::OnWarning;

use super::content_store::{self, ContentStore};
use super::error::SourceError;
use super::manifest::{Descriptor, Document, Manifest, verified};
use super::platform::{Offer, Platform};
use super::reference::ImageName;
use super::runtime::Runtime;
use super::window::{ExactReader, read_document};
use super::{Image, LayerBytes, OpenLayer};
use crate::digest::Digest;
use crate::printable::sentence;
use blob::BlobDownload;
use mirrors::Endpoint;
use session::{Access, Session, Tries};
use verify_key::VerifyKey;

/// The image called `name`.
pub(super) fn find(
    name: &ImageName,
    platform: &Platform,
    options: &RegistryOptions,
) -> Result<Image, SourceError> {
    let registry = Registry::open(name, options)?;
    let (digest, manifest) = registry.manifest_for(platform)?;
    let location = registry.location();
    content_store::image(&registry, location, digest, &manifest, platform)
}

/// The digest of what `name` stands for now, and the platforms that it is for.
pub(super) fn offers(
    name: &ImageName,
    options: &RegistryOptions,
) -> Result<(Digest, Vec<Offer>), SourceError> {
    let registry = Registry::open(name, options)?;
    let offers = match &registry.root {
        (_, Document::Index(entries)) => {
            let candidates = content_store::candidates(&registry, entries)?;
            candidates.into_iter().map(|found| found.offer).collect()
        }
        (_, Document::Manifest(manifest)) => vec![content_store::offer(&registry, manifest)?],
    };
    Ok((registry.root.0, offers))
}

/// An image's registry, or the mirror of it that has the image.
pub(super) struct Registry {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
    /// As the user knows it.
    name: ImageName,
    /// What the name stands for: an index or a manifest.
    root: (Digest, Document),
}

impl Registry {
    /// Opens the registry for `name`, which meets what is demanded of it from here on.
    pub fn open(name: &ImageName, options: &RegistryOptions) -> Result<Registry, SourceError> {
        if options.require_digest && name.digest().is_none() {
            return Err(SourceError::NoDigest {
                reference: name.to_string(),
            });
        }
        let key = options.verify_key.as_deref();
        let key = key.map(VerifyKey::load).transpose()?;
        let registry = Registry::first_with(name, options)?;
        if let Some(key) = key {
            signature::verify(&registry, &key)?;
        }
        Ok(registry)
    }

    /// The first of the places for `name` that has it.
    fn first_with(name: &ImageName, options: &RegistryOptions) -> Result<Registry, SourceError> {
        let runtime = Runtime::start()?;
        let mut endpoints = mirrors::endpoints(name, options)?;
        let itself = endpoints
            .pop()
            .unwrap_or_else(|| Endpoint::of_name(&name.canonical()));
        let mut refusals = Vec::new();
        for mirror in endpoints {
            let host = mirror.name();
            match Registry::open_at(mirror, name, options, &runtime, Tries::One) {
                Ok(registry) => return Ok(registry),
                Err(error) => refusals.push(format!("{host} ({})", sentence(&error))),
            }
        }
        let opened = Registry::open_at(itself, name, options, &runtime, Tries::Several);
        opened.map_err(|error| match refusals.as_slice() {
            [] => error,
            _ => SourceError::NoMirror {
                image: name.to_string(),
                registry: Box::new(error),
                mirrors: refusals.join(", "),
            },
        })
    }

    fn open_at(
        endpoint: Endpoint,
        name: &ImageName,
        options: &RegistryOptions,
        runtime: &Arc<Runtime>,
        tries: Tries,
    ) -> Result<Registry, SourceError> {
        let opened = {
            let options = options.clone();
            async move { Session::open(endpoint, &options, Access::Read).await }
        };
        let session = Arc::new(runtime.wait(opened)?);
        let title = format!("manifest of docker://{}", name.canonical());
        let wanted = match name.digest() {
            Some(digest) => digest.to_string(),
            None => name.tag().unwrap_or("latest").to_owned(),
        };
        let bytes = manifest(runtime, &session, &wanted, tries)?;
        let digest = Digest::of(&bytes);
        let bytes = match name.digest() {
            Some(expected) => verified(bytes, expected, &title)?,
            None => bytes,
        };
        Ok(Registry {
            runtime: Arc::clone(runtime),
            session,
            name: name.clone(),
            root: (digest, Document::parse(&bytes, &title)?),
        })
    }

    /// Where the image is, and which mirror hands it out.
    fn location(&self) -> String {
        let name = self.name.canonical();
        let endpoint = self.session.endpoint();
        let itself = format!("{}/{}", self.name.registry(), self.name.repository());
        match endpoint.name() {
            served if served == itself => format!("docker://{name}"),
            served => format!("docker://{name} (from {served})"),
        }
    }

    /// The manifest that the name stands for on `platform`, with its digest.
    pub fn manifest_for(&self, platform: &Platform) -> Result<(Digest, Manifest), SourceError> {
        let entries = match &self.root {
            (digest, Document::Manifest(manifest)) => return Ok((*digest, (**manifest).clone())),
            (_, Document::Index(entries)) => entries,
        };
        let candidates = content_store::candidates(self, entries)?;
        // "If multiple manifests match […], the first matching entry SHOULD be used."
        // (OCI image specification, image-index.md)
        let fitting = content_store::best(&candidates, platform);
        let Some(chosen) = fitting.first() else {
            let offers = candidates.iter().map(|candidate| &candidate.offer);
            let location = self.location();
            return Err(content_store::no_such_platform(&location, platform, offers));
        };
        match content_store::document(self, chosen.digest)? {
            Document::Manifest(manifest) => Ok((chosen.digest, *manifest)),
            Document::Index(_) => Err(SourceError::Malformed {
                object: format!("manifest {}", chosen.digest),
                problem: "it is an index where a manifest has to be".to_owned(),
            }),
        }
    }

    /// The manifest or index called `name` (a tag or digest) beside the image, not verified, if there
    /// is one.
    fn neighbour(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let found = manifest(&self.runtime, &self.session, name, Tries::Several);
        unless_absent(found)
    }

    /// The index of what refers to the image, if the registry keeps one. Source: OCI distribution
    /// specification 1.1, "Listing Referrers".
    fn referrers(&self) -> Result<Option<Vec<u8>>, SourceError> {
        let (digest, _) = self.root;
        let (path, object) = (
            format!("referrers/{digest}"),
            format!("referrers of {digest}"),
        );
        unless_absent(self.document(path, object))
    }

    /// A document of the repository, not verified, which errors call `object`.
    fn document(&self, path: String, object: String) -> Result<Vec<u8>, SourceError> {
        document(&self.runtime, &self.session, path, object, Tries::Several)
    }

    /// The blob with this digest and size from byte `offset` on, not verified. It ends early only
    /// with an error, also when the connection breaks.
    pub fn blob(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let download = BlobDownload::rest(&self.session, digest, size, offset);
        Ok(Box::new(self.runtime.read(download.bytes())?))
    }
}

fn unless_absent(found: Result<Vec<u8>, SourceError>) -> Result<Option<Vec<u8>>, SourceError> {
    match found {
        Err(SourceError::NotInRegistry { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// The bytes of the manifest called `name`, not verified.
fn manifest(
    runtime: &Runtime,
    session: &Arc<Session>,
    name: &str,
    tries: Tries,
) -> Result<Vec<u8>, SourceError> {
    let separator = if name.contains(':') { '@' } else { ':' };
    let object = format!("docker://{}{separator}{name}", session.endpoint().name());
    document(runtime, session, format!("manifests/{name}"), object, tries)
}

/// A document of the repository, which errors call `object`.
fn document(
    runtime: &Runtime,
    session: &Arc<Session>,
    path: String,
    object: String,
    tries: Tries,
) -> Result<Vec<u8>, SourceError> {
    let (session, title) = (Arc::clone(session), object.clone());
    let bytes = runtime.wait(async move {
        let document = session.document(&path, tries).await;
        document.map_err(|failure| session.error(object, failure))
    })?;
    read_document(bytes.as_slice(), &title)
}

impl ContentStore for Registry {
    fn manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        manifest(
            &self.runtime,
            &self.session,
            &digest.to_string(),
            Tries::Several,
        )
    }

    fn configuration(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.document(
            format!("blobs/{digest}"),
            format!("image configuration {digest}"),
        )
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<Box<dyn OpenLayer>, SourceError> {
        Ok(Box::new(RegistryLayer {
            runtime: Arc::clone(&self.runtime),
            session: Arc::clone(&self.session),
            digest: descriptor.digest()?,
            descriptor: descriptor.clone(),
        }))
    }
}

struct RegistryLayer {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
    digest: Digest,
    descriptor: Descriptor,
}

impl OpenLayer for RegistryLayer {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        self.descriptor.check_layer_type()?;
        let size = self.descriptor.size;
        let download = BlobDownload::whole(&self.session, self.digest, size);
        let blob = self.runtime.read(download.bytes())?;
        let name = format!(
            "layer {} of {}",
            self.digest,
            self.session.endpoint().name()
        );
        Ok(LayerBytes::Archive(Box::new(ExactReader::new(
            blob, size, name,
        ))))
    }
}
