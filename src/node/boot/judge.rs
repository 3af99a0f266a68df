//! What is known of an image before systemd sees it.

use std::path::Path;

use crate::extension::{ExtensionKind, ExtensionName};
use crate::image::Ddi;
use crate::node::Node;
use crate::node::artefact::ArtefactName;
use crate::node::store::Proof;
use crate::signature::trust::{TrustStore, Verifier};
use crate::verity::RootHash;

/// An image that may be merged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The extension that its release file names.
    pub name: ExtensionName,
    /// The hash that stands for its data.
    pub root_hash: Option<RootHash>,
    /// Who vouches for it.
    pub proof: Proof,
}

/// Whose word counts.
pub struct Judge {
    trust: TrustStore,
    required: bool,
}

impl Judge {
    pub fn load(node: &Node) -> Result<Judge, String> {
        let mut trust = TrustStore::new();
        for folder in ["/etc/verity.d", "/run/verity.d", "/usr/lib/verity.d"] {
            let folder = node.layout.open_path(folder);
            if folder.is_dir() {
                trust
                    .load_folders(&[folder])
                    .map_err(|error| error.to_string())?;
            }
        }
        let required = node.configuration.signatures == crate::node::configuration::Signatures::Required;
        Ok(Judge { trust, required })
    }

    pub fn trusted_boot(&self) -> bool {
        false
    }

    pub fn requires_signatures(&self) -> bool {
        self.required
    }

    pub fn judge(
        &self,
        path: &Path,
        file: &ArtefactName,
        _kind: ExtensionKind,
    ) -> Result<Judged, String> {
        let ddi = Ddi::open(path).map_err(|error| error.to_string())?;
        let proof = match &ddi.signature {
            Some(signature) => {
                let verdict = self.trust.judge(signature, &signature.root_hash);
                if let Err(distrust) = verdict.of(Verifier::Systemd) {
                    return Err(distrust.to_string());
                }
                let signer = verdict.signer().ok_or("no signer")?;
                Proof::Signed {
                    signer: signer.subject().to_string(),
                    fingerprint: signer.fingerprint(),
                    trusted_by: String::new(),
                    verified: crate::node::store::Moment::now(),
                }
            }
            None if self.required => return Err("it is not signed".to_owned()),
            None => Proof::Unsigned {
                verified: crate::node::store::Moment::now(),
            },
        };
        Ok(Judged {
            name: file.name().clone(),
            root_hash: ddi.root_hash(),
            proof,
        })
    }
}

impl Judge {
    pub fn prove(
        &self,
        path: &Path,
        file: &ArtefactName,
        kind: ExtensionKind,
        identity: crate::node::store::FileIdentity,
        source: String,
    ) -> Result<crate::node::store::Record, String> {
        let judged = self.judge(path, file, kind)?;
        Ok(crate::node::store::Record {
            name: judged.name,
            version: file.version().cloned(),
            file: identity,
            digest: crate::digest::Digest::of(&std::fs::read(path).map_err(|error| error.to_string())?),
            root_hash: judged.root_hash,
            source,
            installed: crate::node::store::Moment::now(),
            proof: judged.proof,
            restart_units: Vec::new(),
            reload_or_restart_units: Vec::new(),
            declared: false,
        })
    }
}
