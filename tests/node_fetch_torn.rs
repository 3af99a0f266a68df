//! Artefacts over bad connections, from lying servers, onto full disks, by programs that are killed.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/node_staging.rs"]
mod node_staging;
#[path = "support/node_torn.rs"]
mod node_torn;
mod support;
#[path = "support/unmount.rs"]
mod unmount;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use node_nginx::Nginx;
use node_staging::{Staging, fetch_with, gzip, names, noise};
use node_torn::{Torn, liar};
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::fetch::{Checksums, FetchError, Patience, Progress, Request, fetch, sweep};
use tempfile::TempDir;
use unmount::unmount;

/// nginx, or the word that the test cannot run.
macro_rules! nginx {
    ($test:literal) => {
        match Nginx::start() {
            Ok(nginx) => nginx,
            Err(reason) => return support::skip($test, &reason),
        }
    };
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
        unmount(self.0.path());
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

/// Notes how little room was left on a file system while something came.
struct Lowest<'a> {
    folder: &'a Path,
    free: AtomicU64,
}

impl Progress for Lowest<'_> {
    fn warn(&self, _: &str) {}

    fn received(&self, _: u64, _: Option<u64>) {
        let disk = rustix::fs::statvfs(self.folder).unwrap();
        let free = disk.f_bavail * disk.f_frsize;
        self.free.fetch_min(free, Ordering::SeqCst);
    }

    fn interrupted(&self, _: &FetchError, _: Duration) {}
}

#[test]
fn what_is_of_unknown_size_stops_at_the_reserve() {
    let test = "what_is_of_unknown_size_stops_at_the_reserve";
    let disk = match SmallDisk::mount("64M") {
        Ok(disk) => disk,
        Err(reason) => return support::skip(test, &reason),
    };
    let reserve = (64 << 20) / 20;
    let staging = Staging::new();
    let request = Request {
        staging: disk.0.path(),
        checksums: Checksums::Ignored,
        ..staging.request()
    };
    // Of each packed byte come about twenty, so that the room goes in small steps.
    let noise_of_all = noise(6400 << 10);
    let blocks = noise_of_all.chunks(1 << 10);
    let unpacked: Vec<u8> = blocks
        .flat_map(|block| [block, &[0; 19 << 10]].concat())
        .collect();
    let packed = zstd::encode_all(unpacked.as_slice(), 1).unwrap();
    for (name, content) in [("a.raw", noise(96 << 20)), ("a.raw.zst", packed)] {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let port = liar(vec![[head, content].concat()], Duration::ZERO);
        let location = format!("http://127.0.0.1:{port}/{name}").parse().unwrap();
        let lowest = Lowest {
            folder: disk.0.path(),
            free: AtomicU64::new(u64::MAX),
        };
        let error = fetch(&location, &request, &lowest).unwrap_err();
        assert!(
            matches!(error, FetchError::NoSpace { needed: None, .. }),
            "{error}"
        );
        let free = lowest.free.into_inner();
        assert!(free >= reserve, "{name} left {free} bytes");
        assert!(free < 2 * reserve, "{name} stopped at {free} bytes");
        assert_eq!(names(disk.0.path()), [""; 0]);
    }
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
    let hour = Duration::from_secs(3600);
    assert_eq!(sweep(staging.0.path(), hour).unwrap(), []);
    assert_eq!(sweep(staging.0.path(), Duration::ZERO).unwrap().len(), 2);
    assert!(finished.path().exists());
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
