//! Which version an upgrade takes, and which it does not, with a systemd that is played.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_host.rs"]
mod node_host;
mod support;
#[path = "support/versions.rs"]
mod versions;

use std::fs;

use node_host::Host;
use versions::{V1, V2, V3, assert_runs, host};

#[test]
fn an_older_version_is_taken_only_on_request() {
    let Some(host) = host("an_older_version_is_taken_only_on_request") else {
        return;
    };
    host.sysext(&["upgrade", "hello"]);
    let said = host.refused(&["upgrade", "hello", "--version", "1.9"]);
    assert!(
        said.contains("hello_1.9.sysext.raw is older than hello_1.10.sysext.raw"),
        "{said}"
    );
    assert_runs(&host, V2);
    host.sysext(&["upgrade", "hello", "--version", "1.9", "--allow-downgrade"]);
    assert_runs(&host, V1);
    let said = host.refused(&["upgrade", "hello", "--version", "7"]);
    assert!(
        said.contains("the store has no version 7 of hello"),
        "{said}"
    );
    let said = host.refused(&["upgrade", "nothing"]);
    assert!(said.contains("extension nothing not found"), "{said}");
}

#[test]
fn what_was_not_kept_is_passed_over_until_it_is_named() {
    let Some(host) = host("what_was_not_kept_is_passed_over") else {
        return;
    };
    host.refused(&["upgrade", "hello", "--health-cmd", "echo ill >&2; false"]);
    for words in [
        &["upgrade", "hello"][..],
        &["upgrade", "hello", "--dry-run"],
    ] {
        let said = host.sysext(words);
        assert!(
            said.contains("hello_1.10.sysext.raw is passed over, for it was not kept before (the health check failed: ill)"),
            "{said}"
        );
        assert_runs(&host, V1);
    }
    // A newer one is taken all the same.
    let host = host.stored(&[V3]);
    let said = host.sysext(&["upgrade", "hello"]);
    assert!(!said.contains("passed over"), "{said}");
    assert_runs(&host, V3);
    host.sysext(&["rollback", "hello"]);
    host.sysext(&["upgrade", "hello", "--version", "1.10"]);
    assert_runs(&host, V2);
    assert!(host.records().rejected.is_empty());
    host.sysext(&["rollback", "hello"]);
    host.refused(&["upgrade", "hello_1.10", "--health-cmd", "false"]);
    // Another file of that name was never tried.
    fs::remove_file(host.store().join(V3)).unwrap();
    fs::remove_file(host.store().join(V2)).unwrap();
    let host = host.stored(&[V2]);
    host.sysext(&["upgrade", "hello"]);
    assert_runs(&host, V2);
}

#[test]
fn a_version_in_the_name_makes_another_extension() {
    let Some(host) = Host::new("a_version_in_the_name", 257) else {
        return;
    };
    let host = host.stored(&["k3s-v1.29.2+k3s1.raw", "k3s-v1.30.0+k3s1.raw", "k3sx.raw"]);
    host.sysext(&["enable", "k3s-v1.29.2+k3s1"]);
    host.sysext(&["enable", "k3sx"]);
    let said = host.refused(&["upgrade", "k3s-v1.30.0+k3s1"]);
    assert!(
        said.contains(
            "k3s-v1.30.0+k3s1 is not enabled for common, but k3s-v1.29.2+k3s1 is, which is another extension"
        ) && said.contains("`enable` k3s-v1.30.0+k3s1 and `disable` k3s-v1.29.2+k3s1"),
        "{said}"
    );
}
