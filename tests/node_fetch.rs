//! Artefacts from files and from a real nginx, over good and bad connections.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/node_torn.rs"]
mod node_torn;
mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use node_nginx::{Nginx, free_port};
use node_torn::{Torn, liar};
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::fetch::{
    Checksums, FetchError, Fetched, Location, Patience, Request, catalog, fetch, sweep,
};
use tempfile::TempDir;

/// Not compressible.
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

/// A staging folder, and what is asked of it.
struct Staging(TempDir);

impl Staging {
    fn new() -> Staging {
        Staging(tempfile::tempdir().unwrap())
    }

    fn request(&self) -> Request<'_> {
        let architecture = Architecture::X86_64;
        let mut request = Request::new(self.0.path(), ExtensionKind::Sysext, architecture);
        request.patience = Patience {
            silence: Duration::from_secs(5),
            retries: 2,
            first_wait: Duration::from_millis(5),
            ..Patience::default()
        };
        request
    }

    fn fetch(&self, location: &str) -> Result<Fetched, FetchError> {
        fetch_with(location, &self.request())
    }

    /// Names of all files in it.
    fn names(&self) -> Vec<String> {
        names(self.0.path())
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn fetch_with(location: &str, request: &Request<'_>) -> Result<Fetched, FetchError> {
    fetch(&location.parse()?, request, &())
}

/// nginx, or the word that the test cannot run.
macro_rules! nginx {
    ($test:literal) => {
        match Nginx::start() {
            Ok(nginx) => nginx,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
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
fn torn_downloads_fetch_each_byte_about_once() {
    let nginx = nginx!("torn_downloads_fetch_each_byte_about_once");
    let size = 2 << 20;
    let plain = noise(size);
    for (name, stored) in [
        ("a.raw", plain.clone()),
        ("a.raw.zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ] {
        nginx.put(name, &stored);
        for folder in ["", "dates/"] {
            let staging = Staging::new();
            let torn = Torn::before(nginx.http, 150_000);
            let fetched = staging
                .fetch(&torn.url(&format!("{folder}{name}")))
                .unwrap();
            assert_eq!(fetched.sha256(), Digest::of(&plain));
            let bytes = torn.bytes();
            let surplus = bytes - stored.len() as u64;
            assert!(surplus < 20_000, "{bytes} bytes for {}", stored.len());
        }
    }
}

#[test]
fn a_broken_download_is_taken_up_by_a_later_one() {
    let nginx = nginx!("a_broken_download_is_taken_up_by_a_later_one");
    let plain = noise(2 << 20);
    for (name, stored) in [("a.raw", plain.clone()), ("a.raw.gz", gzip(&plain))] {
        nginx.put(name, &stored);
        let staging = Staging::new();
        let torn = Torn::before(nginx.http, 1 << 20);
        let request = Request {
            patience: Patience {
                retries: 0,
                ..staging.request().patience
            },
            checksums: Checksums::Ignored,
            ..staging.request()
        };
        let error = fetch_with(&torn.url(name), &request).unwrap_err();
        assert!(matches!(error, FetchError::Broken { .. }), "{error}");
        assert!(error.to_string().contains("start it again"), "{error}");
        assert_eq!(staging.names().len(), 2, "{:?}", staging.names());
        torn.mend();
        let fetched = fetch_with(&torn.url(name), &request).unwrap();
        assert_eq!(fetched.sha256(), Digest::of(&plain));
        assert!(
            torn.bytes() < stored.len() as u64 + 5_000,
            "{}",
            torn.bytes()
        );
        let last = nginx.requests().pop().unwrap();
        assert!(last.contains(" 206 "), "{last}");
        drop(fetched);
        assert_eq!(staging.names(), [""; 0]);
    }
}

#[test]
fn a_file_that_changed_is_fetched_anew() {
    let nginx = nginx!("a_file_that_changed_is_fetched_anew");
    let (old, mut new) = (noise(1 << 20), noise(1 << 20));
    new.reverse();
    let once = Patience {
        retries: 0,
        ..Patience::default()
    };
    // Also of another length, and where the server knows no ranges.
    for (folder, new) in [("", new.clone()), ("", noise(700_000)), ("norange/", new)] {
        nginx.put("a.raw", &old);
        let staging = Staging::new();
        let torn = Torn::before(nginx.http, 500_000);
        let request = Request {
            patience: once.clone(),
            checksums: Checksums::Ignored,
            ..staging.request()
        };
        let url = torn.url(&format!("{folder}a.raw"));
        assert!(fetch_with(&url, &request).is_err());
        fs::write(nginx.root().join("a.raw"), &new).unwrap();
        torn.mend();
        let fetched = fetch_with(&url, &request).unwrap();
        assert_eq!(fetched.sha256(), Digest::of(&new));
        assert_eq!(fetched.size(), new.len() as u64);
    }
}

#[test]
fn without_a_validator_nothing_is_kept_and_nothing_resumed() {
    let nginx = nginx!("without_a_validator_nothing_is_kept_and_nothing_resumed");
    nginx.put("a.raw", &noise(1 << 20));
    let staging = Staging::new();
    let torn = Torn::before(nginx.http, 500_000);
    let url = torn.url("novalidator/a.raw");
    assert!(staging.fetch(&url).is_err());
    assert_eq!(staging.names(), [""; 0]);
    torn.mend();
    assert_eq!(
        staging.fetch(&url).unwrap().sha256(),
        Digest::of(&noise(1 << 20))
    );
    assert!(
        nginx
            .requests()
            .iter()
            .all(|request| !request.contains(" 206 "))
    );
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
fn servers_that_lie_about_lengths_or_fall_silent_are_noticed() {
    let ignoring = |staging: &Staging| Request {
        checksums: Checksums::Ignored,
        sha256: None,
        staging: Box::leak(staging.0.path().to_path_buf().into_boxed_path()),
        patience: Patience {
            silence: Duration::from_millis(300),
            ..staging.request().patience
        },
        ..Request::new(Path::new(""), ExtensionKind::Sysext, Architecture::X86_64)
    };
    let head = |status: &str, headers: &str| {
        format!("HTTP/1.1 {status}\r\nETag: \"a\"\r\n{headers}\r\n").into_bytes()
    };
    let whole = [
        head("200 OK", "Content-Length: 10\r\n"),
        b"0123456789".to_vec(),
    ]
    .concat();
    let half = whole[..whole.len() - 5].to_vec();
    let rest = |range: &str, body: &[u8]| {
        let headers = format!(
            "Content-Range: {range}\r\nContent-Length: {}\r\n",
            body.len()
        );
        [head("206 Partial Content", &headers), body.to_vec()].concat()
    };
    let now = Duration::ZERO;

    // Half of it, then silence, then the rest.
    let staging = Staging::new();
    let port = liar(
        vec![half.clone(), rest("bytes 5-9/10", b"56789")],
        Duration::from_secs(20),
    );
    let url = format!("http://127.0.0.1:{port}/a.raw");
    let fetched = fetch_with(&url, &ignoring(&staging)).unwrap();
    assert_eq!(fs::read(fetched.path()).unwrap(), b"0123456789");

    // Rests that do not fit, each followed by all of it on demand.
    for misfit in [
        rest("bytes 4-9/10", b"456789"),
        rest("bytes 5-9/11", b"56789"),
        rest("bytes 5-8/10", b"5678"),
        rest("bytes 5-10/11", b"56789x"),
        head("416 Range Not Satisfiable", "Content-Length: 0\r\n"),
        head("206 Partial Content", "Content-Length: 5\r\n"),
    ] {
        let staging = Staging::new();
        let port = liar(vec![half.clone(), misfit.clone(), whole.clone()], now);
        let url = format!("http://127.0.0.1:{port}/a.raw");
        let fetched = fetch_with(&url, &ignoring(&staging)).unwrap();
        let content = fs::read(fetched.path()).unwrap();
        assert_eq!(
            content,
            b"0123456789",
            "{}",
            String::from_utf8_lossy(&misfit)
        );
    }

    // Always half of it.
    let staging = Staging::new();
    let port = liar(vec![half], now);
    let url = format!("http://127.0.0.1:{port}/a.raw");
    let error = fetch_with(&url, &ignoring(&staging)).unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");

    // More than anyone wants.
    let staging = Staging::new();
    for headers in ["Content-Length: 99\r\n", ""] {
        let port = liar(
            vec![[head("200 OK", headers), vec![b'x'; 99]].concat()],
            now,
        );
        let request = Request {
            max_size: 98,
            ..ignoring(&staging)
        };
        let error = fetch_with(&format!("http://127.0.0.1:{port}/a.raw"), &request).unwrap_err();
        assert!(
            matches!(error, FetchError::TooLarge { limit: 98, .. }),
            "{error}"
        );
    }
    assert_eq!(staging.names(), [""; 0]);
}

/// A small file system of its own, until the value is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<SmallDisk, String> {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(|error| format!("mount cannot be started: {error}"))?;
        match output.status.success() {
            true => Ok(SmallDisk(folder)),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_noticed_before_the_first_byte_and_leaves_no_rubbish() {
    let test = "a_full_disk_is_noticed_before_the_first_byte_and_leaves_no_rubbish";
    let nginx = nginx!("a_full_disk_is_noticed_before_the_first_byte_and_leaves_no_rubbish");
    let disk = match SmallDisk::mount("4M") {
        Ok(disk) => disk,
        Err(reason) => return support::skip(test, &reason),
    };
    let staging = Staging::new();
    let request = Request {
        staging: disk.0.path(),
        ..staging.request()
    };
    let full = |location: &str| {
        let error = fetch_with(location, &request).unwrap_err();
        assert!(matches!(error, FetchError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("free"), "{error}");
        assert_eq!(names(disk.0.path()), [""; 0]);
    };
    // The server says how much it is.
    nginx.put("large.raw", &noise(8 << 20));
    let torn = Torn::before(nginx.http, u64::MAX);
    full(&torn.url("large.raw"));
    assert!(torn.bytes() < 7 << 20, "{} bytes were sent", torn.bytes());
    full(&nginx.root().join("large.raw").display().to_string());
    // Nobody says it: what is unpacked fills the disk.
    let packed = zstd::encode_all(vec![0; 32 << 20].as_slice(), 3).unwrap();
    nginx.put("bomb.raw.zst", &packed);
    full(&nginx.url("bomb.raw.zst"));
    // An answer without a length.
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let port = liar(vec![[head, noise(8 << 20)].concat()], Duration::ZERO);
    let endless = Request {
        checksums: Checksums::Ignored,
        ..request.clone()
    };
    let error = fetch_with(&format!("http://127.0.0.1:{port}/a.raw"), &endless).unwrap_err();
    assert!(matches!(error, FetchError::NoSpace { .. }), "{error}");
    assert_eq!(names(disk.0.path()), [""; 0]);
    // What fits still comes.
    nginx.put("small.raw", &noise(1 << 20));
    assert!(fetch_with(&nginx.url("small.raw"), &request).is_ok());
}

#[test]
fn what_nobody_went_on_with_is_swept() {
    let nginx = nginx!("what_nobody_went_on_with_is_swept");
    nginx.put("a.raw", &noise(1 << 20));
    let staging = Staging::new();
    let torn = Torn::before(nginx.http, 500_000);
    let request = Request {
        patience: Patience {
            retries: 0,
            ..Patience::default()
        },
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    assert!(fetch_with(&torn.url("a.raw"), &request).is_err());
    let finished = staging.fetch(&nginx.url("a.raw")).unwrap();
    assert_eq!(
        sweep(staging.0.path(), Duration::from_secs(3600)).unwrap(),
        0
    );
    assert_eq!(sweep(staging.0.path(), Duration::ZERO).unwrap(), 2);
    assert!(finished.path().exists());
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

#[test]
fn several_at_once_do_not_disturb_each_other() {
    let nginx = nginx!("several_at_once_do_not_disturb_each_other");
    let content = noise(2 << 20);
    nginx.put("a.raw.gz", &gzip(&content));
    let staging = Staging::new();
    let torn = Torn::before(nginx.http, 500_000);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (staging, content, url) = (&staging, &content, torn.url("a.raw.gz"));
            scope.spawn(move || {
                let target = staging.0.path().join(format!("{number}.placed"));
                staging.fetch(&url).unwrap().place(&target).unwrap();
                assert!(fs::read(target).unwrap() == *content);
            });
        }
    });
    let names = staging.names();
    assert_eq!(names.len(), 6, "{names:?}");
}

/// This program, to run only the fetch that the variables name.
fn child(url: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "fetches_what_the_environment_names",
            "--ignored",
            "--nocapture",
        ])
        .env("SYSGRAFT_TEST_URL", url)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped());
    command
}

/// The environment of this process is not changed: other tests run in it.
#[test]
fn proxies_of_the_environment_are_used() {
    let nginx = nginx!("proxies_of_the_environment_are_used");
    nginx.put("a.raw", b"content");
    let url = "http://proxied.invalid/a.raw";
    let proxy = nginx.url("");
    let through = child(url, &[("http_proxy", &proxy)]).output().unwrap();
    let shown = String::from_utf8_lossy(&through.stdout);
    assert!(through.status.success(), "{shown}");
    let except = ("no_proxy", "proxied.invalid");
    let beside = child(url, &[("http_proxy", &proxy), except])
        .output()
        .unwrap();
    assert!(!beside.status.success());
}

#[test]
fn a_large_download_takes_little_memory() {
    let nginx = nginx!("a_large_download_takes_little_memory");
    let large = fs::File::create(nginx.root().join("a.raw")).unwrap();
    large.set_len(300 << 20).unwrap();
    let output = child(&nginx.url("a.raw"), &[]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    let peak = shown.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u32>().ok());
    assert!(
        kib.is_some_and(|kib| kib < 48 << 10),
        "{kib:?} KiB: {shown}"
    );
}

#[test]
fn a_killed_download_is_taken_up_again() {
    let answers = [
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234",
        "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 5-9/10\r\n\
         Content-Length: 5\r\n\r\n56789",
    ];
    let answers = answers.map(|answer| answer.as_bytes().to_vec()).to_vec();
    let port = liar(answers, Duration::from_secs(30));
    let url = format!("http://127.0.0.1:{port}/a.raw");
    let staging = Staging::new();
    let folder = staging.0.path().to_str().unwrap().to_owned();
    let mut child = child(&url, &[("SYSGRAFT_TEST_STAGING", &folder)])
        .spawn()
        .unwrap();
    let is_half_there = || {
        let sizes = fs::read_dir(staging.0.path()).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_partial = path.extension().is_some_and(|suffix| suffix == "partial");
            is_partial.then(|| path.metadata().unwrap().len())
        });
        sizes.max() == Some(5)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_half_there() {
        assert!(Instant::now() < deadline, "{:?}", staging.names());
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let request = Request {
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    let fetched = fetch_with(&url, &request).unwrap();
    assert_eq!(fs::read(fetched.path()).unwrap(), b"0123456789");
}

#[test]
#[ignore = "others run it, with an environment of its own"]
fn fetches_what_the_environment_names() {
    let url = std::env::var("SYSGRAFT_TEST_URL").unwrap();
    let staging = Staging::new();
    let named = std::env::var_os("SYSGRAFT_TEST_STAGING").map(PathBuf::from);
    let request = Request {
        staging: named.as_deref().unwrap_or(staging.0.path()),
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    let fetched = fetch_with(&url, &request).unwrap();
    println!("{} bytes", fetched.size());
    println!("{}", fs::read_to_string("/proc/self/status").unwrap());
}
