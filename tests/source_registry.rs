//! Images in registries: one that is played by threads of the test and does what real ones do only
//! on bad days, and Debian's `docker-registry`.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_real.rs"]
mod registry_real;
#[path = "support/registry_server.rs"]
mod registry_server;
#[path = "support/request_head.rs"]
mod request_head;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use registry_image::{Blobs, GZIP_LAYER, configuration, content, digest, gzip, index};
use registry_real::{RealRegistry, Setup};
use registry_server::{Access, Behaviour, IDENTITY_TOKEN, RegistryServer};
use serde_json::Value;
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::source::{FindOptions, Image, Patience, RegistryOptions, SourceError, find};
use tempfile::NamedTempFile;

/// Not compressible, so that the stored layer is longer than all buffers on its way.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn look(reference: &str, platform: &str) -> Result<Image, SourceError> {
    look_with(reference, platform, Some("/nonexistent/config.json".into()))
}

fn look_with(
    reference: &str,
    platform: &str,
    auth_file: Option<PathBuf>,
) -> Result<Image, SourceError> {
    let options = FindOptions {
        registry: RegistryOptions {
            auth_file,
            patience: Patience {
                retries: 3,
                first_wait: Duration::from_millis(10),
                ..Patience::default()
            },
            ..RegistryOptions::default()
        },
        ..FindOptions::default()
    };
    find(
        &reference.parse().unwrap(),
        &platform.parse().unwrap(),
        &options,
    )
}

/// An image of one big layer, its manifest's descriptor, and the tag's document.
fn big_image() -> (Blobs, Value, Vec<u8>) {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[&noise(1 << 20)]);
    let document = blobs.0[&digest(&manifest)].clone();
    (blobs, manifest, document)
}

#[test]
fn the_manifest_for_the_platform_is_taken_out_of_an_index() {
    let mut blobs = Blobs::default();
    let amd64 = blobs.add_image("linux/amd64", &[b"base", b"for amd64"]);
    let arm64 = blobs.add_image("linux/arm64/v8", &[b"base", b"for arm64"]);
    let document = index(&[amd64, arm64.clone()]);
    let pinned = Digest::of(&document);
    let mut behaviour = Behaviour::new(blobs, "1", document.clone());
    behaviour.tags.insert(pinned.to_string(), document);
    let server = RegistryServer::start(behaviour);
    let reference = format!("docker://{}/app@{pinned}", server.host());
    assert_eq!(
        look(&reference, "arm64").unwrap().digest,
        Some(digest(&arm64))
    );
    let reference = format!("docker://{}/app:1", server.host());
    let image = look(&reference, "arm64").unwrap();
    assert_eq!(image.location, reference);
    assert_eq!(image.digest, Some(digest(&arm64)));
    assert_eq!(image.architecture, Some(Architecture::Arm64));
    let stored = gzip(b"for arm64");
    assert_eq!(image.layers[1].blob, Some(Digest::of(&stored)));
    assert_eq!(image.layers[1].diff_id, Some(Digest::of(b"for arm64")));
    assert_eq!(image.layers[1].size, Some(stored.len() as u64));
    assert_eq!(content(&image, 1).unwrap(), stored);
    let Err(SourceError::NoSuchPlatform { available, .. }) = look(&reference, "s390x") else {
        panic!("found");
    };
    assert_eq!(available, ["linux/amd64", "linux/arm64/v8"]);
}

#[test]
fn a_name_with_a_digest_gets_that_manifest_or_none() {
    let (blobs, manifest, document) = big_image();
    let server = RegistryServer::start(Behaviour::new(blobs, "1", document.clone()));
    let pinned = format!("docker://{}/app@{}", server.host(), digest(&manifest));
    assert_eq!(
        look(&pinned, "amd64").unwrap().digest,
        Some(digest(&manifest))
    );

    // A registry that answers with another document than the one asked for.
    let other = Digest::of(b"other");
    let server = RegistryServer::start(Behaviour::new(
        Blobs::default(),
        &other.to_string(),
        document,
    ));
    let pinned = format!("docker://{}/app@{other}", server.host());
    let error = look(&pinned, "amd64").unwrap_err();
    assert!(error.to_string().contains(&other.to_string()), "{error}");
}

#[test]
fn of_an_endless_manifest_no_more_is_read_than_it_may_have() {
    for status in ["200 OK", "404 Not Found"] {
        let sent = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counter = Arc::clone(&sent);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = request.next().unwrap().unwrap();
                let head = "Connection: close\r\n\r\n";
                if !first.contains("/manifests/") {
                    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{head}").unwrap();
                    continue;
                }
                let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}");
                let blanks = vec![b' '; 1 << 20];
                while counter.load(Ordering::SeqCst) < 256 << 20
                    && stream.write_all(&blanks).is_ok()
                {
                    counter.fetch_add(blanks.len(), Ordering::SeqCst);
                }
            }
        });
        let error = look(&format!("docker://127.0.0.1:{port}/app:1"), "amd64").unwrap_err();
        match status {
            "200 OK" => assert!(matches!(error, SourceError::TooLarge { .. }), "{error}"),
            _ => assert!(
                matches!(error, SourceError::NotInRegistry { .. }),
                "{error}"
            ),
        }
        // Beside it, the buffers on the way.
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    }
}

#[test]
fn manifests_and_configurations_with_a_wrong_digest_are_refused() {
    let (blobs, manifest, _) = big_image();
    let json: Value = serde_json::from_slice(&blobs.0[&digest(&manifest)]).unwrap();
    let victims = [digest(&manifest), digest(&json["config"])];
    for victim in victims {
        let mut changed = blobs.clone();
        changed.0.get_mut(&victim).unwrap().push(b' ');
        let document = index(std::slice::from_ref(&manifest));
        let server = RegistryServer::start(Behaviour::new(changed, "1", document));
        let error = look(&format!("docker://{}/app:1", server.host()), "amd64").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&victim.to_string()), "{text}");
    }
}

#[test]
fn layers_are_handed_out_unverified_whether_the_registry_knows_ranges_or_not() {
    for ranges in [true, false] {
        let (blobs, _, document) = big_image();
        let mut behaviour = Behaviour::new(blobs, "1", document);
        behaviour.ranges = ranges;
        let server = RegistryServer::start(behaviour);
        let image = look(&format!("docker://{}/app:1", server.host()), "amd64").unwrap();
        assert!(content(&image, 0).unwrap() == gzip(&noise(1 << 20)));
    }
}

#[test]
fn a_connection_that_breaks_is_an_error_and_no_short_layer() {
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.truncated = Some(Digest::of(&gzip(&noise(1 << 20))));
    // Without ranges the first half is all that ever comes.
    behaviour.ranges = false;
    let server = RegistryServer::start(behaviour);
    let image = look(&format!("docker://{}/app:1", server.host()), "amd64").unwrap();
    let error = content(&image, 0).unwrap_err();
    assert!(matches!(error, SourceError::Registry { .. }), "{error}");
}

#[test]
fn a_registry_without_ranges_sends_what_is_here_already_once_more() {
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.truncated = Some(Digest::of(&gzip(&noise(1 << 20))));
    behaviour.cuts = 1;
    behaviour.ranges = false;
    let server = RegistryServer::start(behaviour);
    let image = look(&format!("docker://{}/app:1", server.host()), "amd64").unwrap();
    assert!(content(&image, 0).unwrap() == gzip(&noise(1 << 20)));
}

#[test]
fn logins_are_used_where_the_registry_asks_for_them() {
    for (access, needs_login) in [
        (Access::Basic, true),
        (Access::Token, true),
        (Access::AnonymousToken, false),
    ] {
        let (blobs, _, document) = big_image();
        let mut behaviour = Behaviour::new(blobs, "1", document);
        behaviour.access = access;
        let server = RegistryServer::start(behaviour);
        let reference = format!("docker://{}/app:1", server.host());
        let auth_file = NamedTempFile::new().unwrap();
        let auth = r#"{"auth": "YWxpY2U6c2VjcmV0"}"#;
        let json = format!(r#"{{"auths": {{"{}": {auth}}}}}"#, server.host());
        fs::write(auth_file.path(), json).unwrap();
        let image = look_with(&reference, "amd64", Some(auth_file.path().into())).unwrap();
        assert!(content(&image, 0).unwrap() == gzip(&noise(1 << 20)));
        let anonymous = look(&reference, "amd64");
        if needs_login {
            let Err(error @ SourceError::Unauthorized { .. }) = anonymous else {
                panic!("{anonymous:?}");
            };
            assert!(error.to_string().contains("docker login"), "{error}");
        } else {
            assert!(content(&anonymous.unwrap(), 0).is_ok());
        }
    }
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.failures = 2;
    let server = RegistryServer::start(behaviour);
    assert!(look(&format!("docker://{}/app:1", server.host()), "amd64").is_ok());
}

#[test]
fn rate_limits_are_explained() {
    const LIMIT: &str =
        r#"{"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}"#;
    for (headers, words) in [
        ("Retry-After: 3600\r\n", "wait for 3600 s"),
        ("", "Docker Hub"),
    ] {
        let (blobs, _, document) = big_image();
        let mut behaviour = Behaviour::new(blobs, "1", document);
        behaviour.failures = usize::MAX;
        behaviour.failure = (429, headers, LIMIT);
        let server = RegistryServer::start(behaviour);
        let error = look(&format!("docker://{}/app:1", server.host()), "amd64").unwrap_err();
        assert!(matches!(error, SourceError::RateLimited { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("log in") && text.contains(words), "{text}");
    }
}

#[test]
fn a_registry_that_names_a_time_is_asked_again_after_it() {
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    // The first one is about the protocol.
    behaviour.failures = 2;
    behaviour.failure = (429, "Retry-After: 1\r\n", "");
    let server = RegistryServer::start(behaviour);
    let start = Instant::now();
    assert!(look(&format!("docker://{}/app:1", server.host()), "amd64").is_ok());
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn tokens_that_expire_in_the_middle_of_a_layer_are_renewed() {
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.access = Access::Token;
    behaviour.token_uses = 2;
    behaviour.truncated = Some(Digest::of(&gzip(&noise(1 << 20))));
    let server = RegistryServer::start(behaviour);
    let auth_file = NamedTempFile::new().unwrap();
    let json = format!(
        r#"{{"auths": {{"{}": {{"auth": "YWxpY2U6c2VjcmV0"}}}}}}"#,
        server.host()
    );
    fs::write(auth_file.path(), json).unwrap();
    let reference = format!("docker://{}/app:1", server.host());
    let image = look_with(&reference, "amd64", Some(auth_file.path().into())).unwrap();
    assert!(content(&image, 0).unwrap() == gzip(&noise(1 << 20)));
    let requests = server.requests();
    let count = |start: &str| {
        requests
            .iter()
            .filter(|path| path.starts_with(start))
            .count()
    };
    assert!(
        count("/token") >= count("/v2/app/blobs") / 4,
        "{requests:?}"
    );
    assert!(count("/token") > 3, "{requests:?}");
}

#[test]
fn no_login_is_sent_to_where_a_registry_keeps_its_blobs() {
    let (blobs, _, document) = big_image();
    let storage = RegistryServer::start(Behaviour::new(blobs.clone(), "1", document.clone()));
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.access = Access::Basic;
    behaviour.elsewhere = Some(format!("http://{}", storage.host()));
    let server = RegistryServer::start(behaviour);
    let auth_file = NamedTempFile::new().unwrap();
    let json = format!(
        r#"{{"auths": {{"{}": {{"auth": "YWxpY2U6c2VjcmV0"}}}}}}"#,
        server.host()
    );
    fs::write(auth_file.path(), json).unwrap();
    let reference = format!("docker://{}/app:1", server.host());
    let image = look_with(&reference, "amd64", Some(auth_file.path().into())).unwrap();
    assert!(content(&image, 0).unwrap() == gzip(&noise(1 << 20)));
    assert!(storage.requests().len() >= 2 && server.logins().len() >= 2);
    assert_eq!(storage.logins(), [""; 0]);

    // Nor does a storage get it that asks for it.
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs.clone(), "1", document.clone());
    behaviour.access = Access::Basic;
    let storage = RegistryServer::start(behaviour);
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.elsewhere = Some(format!("http://{}", storage.host()));
    let server = RegistryServer::start(behaviour);
    let json = format!(
        r#"{{"auths": {{"{}": {{"auth": "YWxpY2U6c2VjcmV0"}}}}}}"#,
        server.host()
    );
    fs::write(auth_file.path(), json).unwrap();
    let reference = format!("docker://{}/app:1", server.host());
    let error = look_with(&reference, "amd64", Some(auth_file.path().into())).unwrap_err();
    assert!(matches!(error, SourceError::Unauthorized { .. }), "{error}");
    assert_eq!(storage.logins(), [""; 0]);
}

#[test]
fn identity_tokens_get_tokens() {
    let (blobs, _, document) = big_image();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.access = Access::IdentityToken;
    let server = RegistryServer::start(behaviour);
    let reference = format!("docker://{}/app:1", server.host());
    for (token, is_good) in [(IDENTITY_TOKEN, true), ("another", false)] {
        let auth_file = NamedTempFile::new().unwrap();
        let json = format!(
            r#"{{"auths": {{"{}": {{"identitytoken": "{token}"}}}}}}"#,
            server.host()
        );
        fs::write(auth_file.path(), json).unwrap();
        let found = look_with(&reference, "amd64", Some(auth_file.path().into()));
        match found {
            Ok(image) => assert!(is_good && content(&image, 0).is_ok()),
            Err(error) => {
                assert!(
                    !is_good && error.to_string().contains("identity token"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn identity_tokens_are_not_sent_to_where_a_token_server_redirects() {
    let thief = RegistryServer::start(Behaviour::new(Blobs::default(), "1", Vec::new()));
    let auth_file = NamedTempFile::new().unwrap();
    for (elsewhere, works) in [
        (format!("http://{}/token", thief.host()), false),
        ("/token/again".to_owned(), true),
    ] {
        let (blobs, _, document) = big_image();
        let mut behaviour = Behaviour::new(blobs, "1", document);
        behaviour.access = Access::IdentityToken;
        behaviour.token_elsewhere = Some(elsewhere);
        let server = RegistryServer::start(behaviour);
        let json = format!(
            r#"{{"auths": {{"{}": {{"identitytoken": "{IDENTITY_TOKEN}"}}}}}}"#,
            server.host()
        );
        fs::write(auth_file.path(), json).unwrap();
        let reference = format!("docker://{}/app:1", server.host());
        match look_with(&reference, "amd64", Some(auth_file.path().into())) {
            Ok(_) => assert!(works),
            Err(error) => assert!(!works && error.to_string().contains("redirects"), "{error}"),
        }
    }
    assert_eq!(thief.bodies(), [""; 0]);
}

#[test]
fn absent_images_and_absent_registries_are_told_apart() {
    let (blobs, _, document) = big_image();
    let server = RegistryServer::start(Behaviour::new(blobs, "1", document));
    let absent = look(&format!("docker://{}/app:2", server.host()), "amd64").unwrap_err();
    assert!(
        matches!(absent, SourceError::NotInRegistry { .. }),
        "{absent}"
    );
    let absent = look(&format!("docker://{}/other:1", server.host()), "amd64").unwrap_err();
    assert!(
        matches!(absent, SourceError::NotInRegistry { .. }),
        "{absent}"
    );

    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = look(&format!("docker://127.0.0.1:{port}/app:1"), "amd64").unwrap_err();
    assert!(matches!(refused, SourceError::Registry { .. }), "{refused}");
    assert!(
        refused.to_string().contains("onnection refused"),
        "{refused}"
    );
}

#[test]
fn foreign_layers_are_refused() {
    let mut blobs = Blobs::default();
    let foreign = blobs.add(
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        gzip(b"x"),
    );
    let own = blobs.add(GZIP_LAYER, gzip(b"y"));
    let diff_ids = [Digest::of(b"x"), Digest::of(b"y")].into_iter();
    let configuration = configuration("linux/amd64", diff_ids).to_string();
    let configuration = blobs.add("x", configuration.into_bytes());
    let manifest = blobs.add_manifest(configuration, vec![foreign, own]);
    let document = blobs.0[&digest(&manifest)].clone();
    let server = RegistryServer::start(Behaviour::new(blobs, "1", document));
    let image = look(&format!("docker://{}/app:1", server.host()), "amd64").unwrap();
    assert!(matches!(
        content(&image, 0),
        Err(SourceError::LayerMediaType { .. })
    ));
    assert_eq!(content(&image, 1).unwrap(), gzip(b"y"));
}

#[test]
fn images_come_out_of_a_real_registry_as_they_went_in() {
    let test = "images_come_out_of_a_real_registry_as_they_went_in";
    let registry = match RealRegistry::start(Setup::default()) {
        Ok(registry) => registry,
        Err(reason) => return support::skip(test, &reason),
    };
    let layer = noise(1 << 20);
    let mut blobs = Blobs::default();
    let amd64 = blobs.add_image("linux/amd64", &[b"base", &layer]);
    let arm = blobs.add_image("linux/arm/v7", &[b"base", b"for arm"]);
    let both = blobs.add(registry_image::INDEX, index(&[amd64.clone(), arm.clone()]));
    let pushed = registry
        .push(&blobs, std::slice::from_ref(&amd64), "app", "one")
        .and_then(|()| registry.push(&blobs, &[both], "app", "both"));
    if let Err(reason) = pushed {
        return support::skip(test, &reason);
    }
    for tag in ["one", "both"] {
        let reference = format!("docker://{}/app:{tag}", registry.host());
        let image = look(&reference, "amd64").unwrap();
        assert_eq!(image.digest, Some(digest(&amd64)));
        assert_eq!(image.layers[1].diff_id, Some(Digest::of(&layer)));
        assert!(content(&image, 1).unwrap() == gzip(&layer));
    }
    let reference = format!("docker://{}/app:both", registry.host());
    let image = look(&reference, "arm").unwrap();
    assert_eq!(image.digest, Some(digest(&arm)));
    assert_eq!(content(&image, 1).unwrap(), gzip(b"for arm"));
    let absent = look(&format!("docker://{}/app:absent", registry.host()), "amd64");
    assert!(
        matches!(absent, Err(SourceError::NotInRegistry { .. })),
        "{absent:?}"
    );
}
