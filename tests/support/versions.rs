//! An extension of which one version is merged and a newer one is stored.

#![allow(dead_code)] // each test uses a part of it

use crate::node_host::Host;

pub const V1: &str = "hello_1.9.sysext.raw";
pub const V2: &str = "hello_1.10.sysext.raw";
pub const V3: &str = "hello_1.11.sysext.raw";

/// A host on which the first version is merged and the second is stored.
pub fn host(test: &str) -> Option<Host> {
    let host = Host::new(test, 257)?.stored(&[V1, V2]);
    host.sysext(&["enable", V1, "--now"]);
    host.calls();
    Some(host)
}

pub fn link(file: &str) -> String {
    format!("{file} -> ../{file}")
}

pub fn live(file: &str) -> String {
    format!("hello.sysext.raw -> /var/lib/kairos/extensions/common/{file}")
}

/// The version that is enabled and merged, with nothing left of a trial.
pub fn assert_runs(host: &Host, file: &str) {
    assert_eq!(host.enabled("common"), [link(file)]);
    assert_eq!(host.live(), [live(file)]);
    assert_eq!(host.merged(), ["hello"]);
    assert_eq!(host.records().trial, None);
}
