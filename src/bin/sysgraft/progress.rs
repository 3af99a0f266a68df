//! How a build goes on: a bar on a terminal, plain lines elsewhere.

use sysgraft::build::{Progress, Stage};
use sysgraft::extension::ExtensionKind;
use sysgraft::terminal::{Bar, text::log};
use sysgraft::tree::ReadProgress;

/// Log lines and, while layers are read, a bar, all on stderr.
pub struct Reporter {
    kind: ExtensionKind,
    bar: Bar,
}

impl Reporter {
    /// A reporter for a build whose layers have `size` bytes as stored, if that is known.
    pub fn new(kind: ExtensionKind, size: Option<u64>) -> Reporter {
        Reporter {
            kind,
            bar: Bar::with_optional_size("Extracting", size),
        }
    }
}

impl Progress for Reporter {
    fn stage(&self, stage: Stage) {
        match stage {
            Stage::Extracting => log("📤 Extracting archives from image layer"),
            Stage::Packing => {
                self.bar.finish();
                log(&format!("📦 Packing {} into raw image", self.kind));
            }
            Stage::Requesting => log("📝 Writing the sign request"),
        }
    }
}

impl ReadProgress for Reporter {
    fn read(&self, bytes: u64) {
        self.bar.advance(bytes);
    }

    fn rereading(&self, size: Option<u64>) {
        log("🔗 Reading a layer again for the targets of hard links");
        self.bar.extend(size);
    }
}
