//! Layers of container images as files that lint looks into.

use std::sync::Arc;

use anyhow::Result;
use sysgraft::extension::ExtensionKind;
use sysgraft::lint::{self, Files, PackError};
use sysgraft::source::{Image, Layer};
use sysgraft::terminal::Bar;
use sysgraft::tree::{ContentRules, ReadProgress, Selection, TreeError};

use crate::survey::Quiet;

/// All files of a host's image, if it has any where an extension may have some.
pub fn files_of(base: &Image, kind: ExtensionKind) -> Result<Option<Box<dyn Files>>> {
    let layers: Vec<&Layer> = base.layers.iter().collect();
    match pack(&layers, kind, true) {
        Ok(files) => Ok(Some(files)),
        Err(error) => match error.downcast_ref() {
            Some(PackError::Tree(TreeError::Empty { .. })) => Ok(None),
            _ => Err(error.context(format!("cannot read {}", base.location))),
        },
    }
}

/// The files of layers, lowest first, in a temporary file.
pub fn pack(layers: &[&Layer], kind: ExtensionKind, with_opt: bool) -> Result<Box<dyn Files>> {
    let selection = Selection {
        kind,
        name: "lint".parse()?,
        rules: ContentRules {
            with_opt,
            ..ContentRules::default()
        },
    };
    let size = layers.iter().map(|layer| layer.size).sum();
    let bar = Bar::with_optional_size("Reading", size);
    let progress: Arc<dyn ReadProgress> = Arc::new(Quiet(bar));
    let files = lint::pack(layers, selection, &std::env::temp_dir(), &progress)?;
    Ok(Box::new(files))
}
