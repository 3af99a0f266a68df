//! Parses any text as whatever people or images write: references, names, release files, JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::digest::Digest;
use sysgraft::extension::ExtensionName;
use sysgraft::release::ReleaseFile;
use sysgraft::signature::SignaturePartition;
use sysgraft::source::{ImageReference, Platform};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(release) = ReleaseFile::parse(bytes) {
        let rendered = ReleaseFile::parse(release.render().as_bytes());
        assert_eq!(rendered.ok().as_ref(), Some(&release));
    }
    let _ = SignaturePartition::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = text.parse::<Digest>();
    let _ = text.parse::<ExtensionName>();
    let _ = text.parse::<Platform>();
    let _ = text.parse::<ImageReference>();
});
