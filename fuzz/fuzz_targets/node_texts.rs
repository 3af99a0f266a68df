//! Parses any text as whatever a node is told: file names, versions, addresses, its configuration, a
//! declared set.

#![no_main]

use std::cmp::Ordering;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::apply::Desired;
use sysgraft::node::artefact::ArtefactName;
use sysgraft::node::configuration::Configuration;
use sysgraft::node::fetch::Location;
use sysgraft::node::version::compare;

fuzz_target!(|text: &str| {
    for kind in ExtensionKind::ALL {
        if let Ok(artefact) = ArtefactName::parse(text, kind) {
            assert!(!artefact.file().contains(['/', '\0']));
            let again = ArtefactName::parse(artefact.file(), kind);
            assert_eq!(again.ok().as_ref(), Some(&artefact));
        }
    }
    let _ = text.parse::<Location>();
    let _ = Configuration::parse(text, Path::new("agent.toml"));
    let _ = Desired::parse(text);
    let mut words = text.splitn(3, ' ');
    if let (Some(a), Some(b), Some(c)) = (words.next(), words.next(), words.next()) {
        assert_eq!(compare(a, b), compare(b, a).reverse());
        assert_eq!(compare(a, a), Ordering::Equal);
        if compare(a, b) != Ordering::Greater && compare(b, c) != Ordering::Greater {
            assert_ne!(compare(a, c), Ordering::Greater);
        }
    }
});
