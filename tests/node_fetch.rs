//! Artefacts from files and from a real nginx that does what it should.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/node_staging.rs"]
mod node_staging;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use node_nginx::{Nginx, free_port};
use node_staging::{Staging, fetch_with, gzip, noise};
use sysgraft::digest::Digest;
use sysgraft::node::fetch::{Checksums, FetchError, Location, Request, catalog};

/// nginx, or the word that the test cannot run.
macro_rules! nginx {
    ($test:literal) => {
        match Nginx::start() {
            Ok(nginx) => nginx,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

/// What xz(1) makes of it.
fn xz(bytes: &[u8], folder: &Path) -> Vec<u8> {
    let file = folder.join("to-pack");
    fs::write(&file, bytes).unwrap();
    let output = Command::new("xz")
        .args(["-c", "-T2", "--block-size=64KiB"])
        .arg(&file)
        .output();
    output.expect("xz is part of every Debian").stdout
}

#[test]
fn a_file_is_copied_and_gets_its_place_by_renaming() {
    let staging = Staging::new();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("hello_1.2.raw");
    fs::write(&source, noise(3 << 20)).unwrap();
    for location in [
        format!("file://{}", source.display()),
        format!("file:{}", source.display()),
        source.display().to_string(),
    ] {
        let fetched = staging.fetch(&location).unwrap();
        assert_eq!(fetched.file_name, "hello_1.2.raw");
        assert_eq!(fetched.source, format!("file:{}", source.display()));
        assert_eq!(fetched.sha256(), Digest::of(&noise(3 << 20)));
        // Onto the source itself: a copy takes the name, the source is not written to.
        let reader = fs::File::open(&source).unwrap();
        fetched.place(&source).unwrap();
        assert_eq!(reader.metadata().unwrap().len(), 3 << 20);
        assert!(fs::read(&source).unwrap() == noise(3 << 20));
        assert_eq!(staging.names(), [""; 0]);
    }
}

#[test]
fn nothing_but_regular_files_is_read() {
    let staging = Staging::new();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.raw");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.raw")).unwrap();
    fs::create_dir(folder.path().join("folder.raw")).unwrap();
    for (name, what) in [
        ("pipe.raw", "a pipe"),
        ("zero.raw", "a device"),
        ("folder.raw", "a directory"),
        ("absent.raw", "cannot read"),
    ] {
        let path = folder.path().join(name).display().to_string();
        let error = staging.fetch(&path).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    assert_eq!(staging.names(), [""; 0]);
}

#[test]
fn files_are_held_to_a_list_beside_them_only_on_demand() {
    let staging = Staging::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    let location = path.display().to_string();
    fs::write(&path, "content").unwrap();
    let demanding = Request {
        checksums: Checksums::Required,
        ..staging.request()
    };
    let error = fetch_with(&location, &demanding).unwrap_err();
    assert!(matches!(error, FetchError::NoChecksums { .. }), "{error}");
    let sums = folder.path().join("SHA256SUMS");
    fs::write(&sums, format!("{}  a.raw\n", Digest::of(b"other").hex())).unwrap();
    assert!(staging.fetch(&location).is_ok());
    let error = fetch_with(&location, &demanding).unwrap_err();
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
    fs::write(&sums, format!("{}  a.raw\n", Digest::of(b"content").hex())).unwrap();
    assert!(fetch_with(&location, &demanding).is_ok());
}

#[test]
fn files_come_over_http_under_names_without_their_query() {
    let nginx = nginx!("files_come_over_http_under_names_without_their_query");
    let staging = Staging::new();
    nginx.put("k3s-v1.29.2+k3s1.raw", &noise(1 << 20));
    let fetched = staging
        .fetch(&nginx.url("k3s-v1.29.2%2Bk3s1.raw?token=secret"))
        .unwrap();
    assert_eq!(fetched.file_name, "k3s-v1.29.2+k3s1.raw");
    assert_eq!(fetched.source, nginx.url("k3s-v1.29.2%2Bk3s1.raw?…"));
    assert_eq!(fetched.size(), 1 << 20);
    assert!(fs::read(fetched.path()).unwrap() == noise(1 << 20));
    let target = staging.0.path().join("placed.raw");
    fetched.place(&target).unwrap();
    assert_eq!(staging.names(), ["placed.raw"]);
}

#[test]
fn compressed_files_are_unpacked_whatever_they_are_called() {
    let nginx = nginx!("compressed_files_are_unpacked_whatever_they_are_called");
    let staging = Staging::new();
    let content = [vec![0; 300_000], noise(500_000), vec![7; 300_000]].concat();
    let packed = [
        ("a.raw.xz", xz(&content, staging.0.path())),
        ("a.raw.gz", gzip(&content)),
        (
            "a.raw.zst",
            zstd::encode_all(content.as_slice(), 3).unwrap(),
        ),
        ("a.raw", gzip(&content)),
    ];
    fs::remove_file(staging.0.path().join("to-pack")).unwrap();
    for (name, stored) in packed {
        nginx.put(name, &stored);
        for url in [nginx.url(name), nginx.url(&format!("encoded/{name}"))] {
            let fetched = staging.fetch(&url).unwrap();
            assert_eq!(fetched.file_name, "a.raw");
            assert_eq!(fetched.sha256(), Digest::of(&content), "{url}");
            assert_eq!(fetched.download_sha256(), Digest::of(&stored));
            let target = staging.0.path().join("a.raw");
            fetched.place(&target).unwrap();
            assert!(fs::read(&target).unwrap() == content);
            assert_eq!(staging.names(), ["a.raw"]);
            fs::remove_file(target).unwrap();
        }
        // Either digest will do.
        for digest in [Digest::of(&content), Digest::of(&stored)] {
            let request = Request {
                sha256: Some(digest),
                ..staging.request()
            };
            fetch_with(&nginx.url(name), &request).unwrap();
        }
        nginx.put(name, &stored[..stored.len() - 3]);
        let error = staging.fetch(&nginx.url(name)).unwrap_err();
        assert!(matches!(error, FetchError::Unpack { .. }), "{error}");
        assert_eq!(staging.names(), [""; 0]);
    }
}

#[test]
fn redirections_are_followed_but_never_from_https_to_http() {
    let nginx = nginx!("redirections_are_followed_but_never_from_https_to_http");
    nginx.put("a.raw", b"content");
    let staging = Staging::new();
    let authority = nginx.authority();
    let request = Request {
        ca_file: Some(&authority),
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    for url in [nginx.url("moved/a.raw"), nginx.secure_url("moved/a.raw")] {
        assert_eq!(fetch_with(&url, &request).unwrap().size(), 7);
    }
    assert_eq!(
        fetch_with(&nginx.url("insecure/a.raw"), &request)
            .unwrap()
            .size(),
        7
    );
    for (url, problem) in [
        (nginx.secure_url("insecure/a.raw"), "from https to http"),
        (nginx.url("circle/a.raw"), "circles"),
    ] {
        let error = fetch_with(&url, &request).unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert_eq!(staging.names(), [""; 0]);
}

#[test]
fn certificates_need_a_trusted_authority() {
    let nginx = nginx!("certificates_need_a_trusted_authority");
    nginx.put("a.raw", b"content");
    let staging = Staging::new();
    let url = nginx.secure_url("a.raw");
    let error = staging.fetch(&url).unwrap_err();
    assert!(matches!(error, FetchError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("--ca-file"), "{error}");
    assert!(error.to_string().contains("self"), "{error}");
    let authority = nginx.authority();
    let request = Request {
        ca_file: Some(&authority),
        ..staging.request()
    };
    assert_eq!(fetch_with(&url, &request).unwrap().size(), 7);
    // A certificate for another name.
    let other = url.replace("127.0.0.1", "localhost");
    let error = fetch_with(&other, &request).unwrap_err();
    assert!(matches!(error, FetchError::Untrusted { .. }), "{error}");
    let empty = staging.0.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for path in [empty, PathBuf::from("/nonexistent.pem")] {
        let request = Request {
            ca_file: Some(&path),
            ..staging.request()
        };
        let error = fetch_with(&url, &request).unwrap_err();
        assert!(matches!(error, FetchError::Authorities { .. }), "{error}");
    }
}

#[test]
fn logins_are_used_and_never_shown() {
    let nginx = nginx!("logins_are_used_and_never_shown");
    nginx.put("a.raw", b"content");
    let staging = Staging::new();
    let with = |login: &str| {
        nginx
            .url("private/a.raw")
            .replace("//", &format!("//{login}@"))
    };
    let fetched = staging.fetch(&with("alice:secret")).unwrap();
    assert_eq!(fetched.source, nginx.url("private/a.raw"));
    for url in [nginx.url("private/a.raw"), with("alice:hunter2")] {
        let error = staging.fetch(&url).unwrap_err();
        assert!(
            matches!(error, FetchError::Denied { status: 401, .. }),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let port = free_port();
    let unreachable = format!("http://alice:hunter2@127.0.0.1:{port}/a.raw?hunter2");
    let error = staging.fetch(&unreachable).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}

#[test]
fn answers_without_the_file_say_what_to_do() {
    let nginx = nginx!("answers_without_the_file_say_what_to_do");
    let staging = Staging::new();
    let error = staging.fetch(&nginx.url("absent.raw")).unwrap_err();
    assert!(
        matches!(error, FetchError::NotFound { status: 404, .. }),
        "{error}"
    );
    let request = Request {
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    let before = nginx.requests().len();
    let error = fetch_with(&nginx.url("busy/a.raw"), &request).unwrap_err();
    assert!(
        matches!(error, FetchError::Status { status: 503, .. }),
        "{error}"
    );
    assert_eq!(nginx.requests().len(), before + 3);
    let error = staging.fetch(&nginx.url("..%2fa.raw")).unwrap_err();
    assert!(matches!(error, FetchError::Name { .. }), "{error}");
    assert_eq!(staging.names(), [""; 0]);
}

#[test]
fn a_list_beside_the_file_counts() {
    let nginx = nginx!("a_list_beside_the_file_counts");
    let staging = Staging::new();
    nginx.put("a.raw", b"content");
    let line = |content: &[u8], name: &str| format!("{}  {name}\n", Digest::of(content).hex());
    let url = nginx.url("a.raw");
    let demanding = Request {
        checksums: Checksums::Required,
        ..staging.request()
    };
    assert!(staging.fetch(&url).is_ok());
    let error = fetch_with(&url, &demanding).unwrap_err();
    assert!(matches!(error, FetchError::NoChecksums { .. }), "{error}");

    nginx.put("SHA256SUMS", line(b"content", "a.raw").as_bytes());
    assert!(staging.fetch(&url).is_ok());
    assert!(fetch_with(&url, &demanding).is_ok());

    nginx.put("SHA256SUMS", line(b"other", "a.raw").as_bytes());
    let error = staging.fetch(&url).unwrap_err().to_string();
    assert!(error.contains(&Digest::of(b"other").hex()), "{error}");
    assert!(error.contains(&Digest::of(b"content").hex()), "{error}");

    nginx.put("SHA256SUMS", line(b"content", "b.raw").as_bytes());
    let error = staging.fetch(&url).unwrap_err();
    assert!(matches!(error, FetchError::NotListed { .. }), "{error}");

    nginx.put("SHA256SUMS", b"<html>no</html>\n");
    let error = staging.fetch(&url).unwrap_err();
    assert!(
        matches!(error, FetchError::MalformedChecksums { .. }),
        "{error}"
    );
    assert_eq!(staging.names(), [""; 0]);

    // Who names the digest, or wants no list, is not held to it.
    let named = Request {
        sha256: Some(Digest::of(b"content")),
        ..staging.request()
    };
    assert!(fetch_with(&url, &named).is_ok());
    let wrong = Request {
        sha256: Some(Digest::of(b"other")),
        ..staging.request()
    };
    let error = fetch_with(&url, &wrong).unwrap_err();
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
    let ignoring = Request {
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    assert!(fetch_with(&url, &ignoring).is_ok());
    assert_eq!(staging.names(), [""; 0]);
}

#[test]
fn catalogs_come_from_servers_too() {
    let nginx = nginx!("catalogs_come_from_servers_too");
    let staging = Staging::new();
    let image = format!("ghcr.io/kairos/k3s@{}", Digest::of(b"x"));
    let json = format!(
        r#"{{"layers":[{{"name":"k3s","tags":[{{"tag":"v1","sysext":{{"amd64":{{"oci":"{image}"}}}}}}]}}]}}"#
    );
    nginx.put("releases.json", json.as_bytes());
    let catalogs = [nginx.url("absent.json?t=1"), nginx.url("releases.json")];
    let catalogs: Vec<Location> = catalogs.iter().map(|url| url.parse().unwrap()).collect();
    let resolved = catalog::resolve("k3s", None, &catalogs, &staging.request(), &()).unwrap();
    assert_eq!(resolved.location.to_string(), format!("oci:{image}"));
    assert_eq!(resolved.version, "v1");
    assert_eq!(resolved.catalog, nginx.url("releases.json"));
    let request = staging.request();
    let error = catalog::resolve("k0s", None, &catalogs, &request, &()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("404") && text.contains("has no k0s"),
        "{text}"
    );
    assert!(!text.contains("t=1"), "{text}");
}
