//! Pulls through a proxy that breaks connections, is busy, falls silent and lies.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/registry_flaky.rs"]
mod registry_flaky;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_real.rs"]
mod registry_real;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::time::{Duration, Instant};

use registry_flaky::{Faults, Flaky};
use registry_image::{Blobs, CONFIGURATION, GZIP_LAYER, configuration, tarball};
use registry_real::{LOGIN, RealRegistry, Setup, write_layout};
use serde_json::json;
use sysgraft::digest::{Digest, Hasher};
use sysgraft::source::{
    Credentials, FindOptions, Image, LayerBytes, Patience, RegistryOptions, SourceError, find,
};
use workplace::{Workplace, sysgraft, text};

const PRIVATE: Setup = Setup {
    tls: false,
    login: true,
    clients: false,
};

/// The registry, or the word that the test cannot run.
macro_rules! registry {
    ($test:literal, $setup:expr) => {
        match RealRegistry::start($setup) {
            Ok(registry) => registry,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

/// Not compressible.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    Noise(1).fill(&mut bytes);
    bytes
}

/// An image with one layer, `size` bytes of noise below `/usr`, as `app:1`; the result is the layer's
/// digest.
fn push_noise(registry: &RealRegistry, size: usize) -> Result<Digest, String> {
    let mut blobs = Blobs::default();
    let layer = tarball(&[("usr/share/noise", &noise(size))]);
    let manifest = blobs.add_image("linux/amd64", &[&layer]);
    registry.push(&blobs, std::slice::from_ref(&manifest), "app", "1")?;
    let stored = blobs.0.iter().max_by_key(|(_, blob)| blob.len());
    Ok(*stored.unwrap().0)
}

fn options(flaky: &Flaky) -> RegistryOptions {
    RegistryOptions {
        credentials: Credentials::parse(LOGIN),
        ca_file: Some(flaky.certificate()),
        patience: Patience {
            // A machine may be busy.
            silence: Duration::from_secs(20),
            retries: 4,
            first_wait: Duration::from_millis(50),
            ..Patience::default()
        },
        ..RegistryOptions::default()
    }
}

fn look(flaky: &Flaky, registry: RegistryOptions) -> Result<Image, SourceError> {
    let options = FindOptions {
        registry,
        ..FindOptions::default()
    };
    let reference = format!("docker://{}/app:1", flaky.host());
    find(
        &reference.parse().unwrap(),
        &"linux/amd64".parse().unwrap(),
        &options,
    )
}

/// Reads the only layer; the result is its digest and size.
fn pull(image: &Image) -> Result<(Digest, u64), SourceError> {
    let LayerBytes::Archive(mut bytes) = image.layers[0].open()? else {
        panic!("no archive");
    };
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = bytes
            .read(&mut buffer)
            .map_err(|error| SourceError::from_read(error, |error| panic!("{error}")))?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

/// `sysgraft sysext` of the image behind the proxy, for this host alone.
fn command(workplace: &Workplace, flaky: &Flaky) -> std::process::Command {
    let mut command = sysgraft(["sysext", "--output"]);
    command
        .arg(workplace.out())
        .args(["--platform", "amd64", "--compression", "none", "--ca-file"])
        .arg(flaky.certificate())
        .args(["noise", &format!("docker://{}/app:1", flaky.host())])
        .env("HOME", workplace.path("home"))
        .env("SYSGRAFT_REGISTRY_CREDS", LOGIN);
    command
}

#[test]
fn a_pull_of_a_gigabyte_goes_on_where_connections_broke() {
    const SIZE: u64 = 1 << 30;
    const PIECE: u64 = 40 << 20;
    let test = "a_pull_of_a_gigabyte_goes_on_where_connections_broke";
    let registry = registry!(
        "a_pull_of_a_gigabyte_goes_on_where_connections_broke",
        PRIVATE
    );
    let folder = tempfile::tempdir().unwrap();
    let (layer, layout) = (folder.path().join("layer"), folder.path().join("layout"));
    let mut file = BufWriter::new(File::create(&layer).unwrap());
    let (mut hasher, mut noise) = (Hasher::new(), Noise(1));
    let mut block = vec![0; 1 << 20];
    // A gzip header, so that skopeo takes it as it is.
    block[..10].copy_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    for number in 0..SIZE >> 20 {
        let start = if number == 0 { 16 } else { 0 };
        noise.fill(&mut block[start..]);
        hasher.update(&block);
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
    let stored = hasher.finish();
    let mut blobs = Blobs::default();
    let diff_ids = [Digest::of(b"nobody looks at it")].into_iter();
    let configuration = configuration("linux/amd64", diff_ids).to_string();
    let configuration = blobs.add(CONFIGURATION, configuration.into_bytes());
    let descriptor = json!({"mediaType": GZIP_LAYER, "digest": stored.to_string(), "size": SIZE});
    let manifest = blobs.add_manifest(configuration, vec![descriptor]);
    write_layout(&layout, &blobs, &[manifest]);
    fs::rename(&layer, layout.join("blobs/sha256").join(stored.hex())).unwrap();
    if let Err(reason) = registry.push_layout(&layout, "app", "1") {
        return support::skip(test, &reason);
    }

    let flaky = Flaky::before(
        registry.port,
        Faults {
            cut_after: Some(PIECE),
            busy: 2,
            ..Faults::default()
        },
    );
    let image = look(&flaky, options(&flaky)).unwrap();
    assert_eq!(pull(&image).unwrap(), (stored, SIZE));
    let (sent, requests) = flaky.traffic(&stored.hex());
    assert!(requests as u64 > SIZE / PIECE, "{requests} requests");
    let share = sent as f64 / SIZE as f64;
    assert!(share < 1.2, "each byte was sent {share} times");
    eprintln!("{requests} requests, each byte sent {share:.3} times");
}

#[test]
fn an_extension_is_built_from_a_torn_layer() {
    let registry = registry!("an_extension_is_built_from_a_torn_layer", PRIVATE);
    let layer = match push_noise(&registry, 4 << 20) {
        Ok(layer) => layer,
        Err(reason) => return support::skip("an_extension_is_built_from_a_torn_layer", &reason),
    };
    let faults = Faults {
        cut_after: Some(700_000),
        ..Faults::default()
    };
    let flaky = Flaky::before(registry.port, faults);
    let workplace = Workplace::new();
    let output = command(&workplace, &flaky).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(workplace.outputs(), ["noise.sysext.raw"]);
    let (sent, requests) = flaky.traffic(&layer.hex());
    assert!(requests >= 6, "{requests}");
    assert!(sent < 5 << 20, "{sent}");
}

#[test]
fn wrong_bytes_are_noticed_and_nothing_is_left() {
    let registry = registry!("wrong_bytes_are_noticed_and_nothing_is_left", PRIVATE);
    let layer = match push_noise(&registry, 4 << 20) {
        Ok(layer) => layer,
        Err(reason) => {
            return support::skip("wrong_bytes_are_noticed_and_nothing_is_left", &reason);
        }
    };
    // In the content, and where the decoder or the reader of the archive trips over it.
    for wrong_byte in [100_000, 5, 30] {
        let faults = Faults {
            cut_after: Some(1 << 20),
            wrong_byte: Some(wrong_byte),
            ..Faults::default()
        };
        let flaky = Flaky::before(registry.port, faults);
        let workplace = Workplace::new();
        let output = command(&workplace, &flaky).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(&layer.to_string()), "{message}");
        assert!(message.contains("damaged or replaced"), "{message}");
        assert_eq!(workplace.outputs(), [""; 0]);
    }
}

#[test]
fn who_falls_silent_is_asked_for_the_rest() {
    let registry = registry!("who_falls_silent_is_asked_for_the_rest", PRIVATE);
    let layer = match push_noise(&registry, 1 << 20) {
        Ok(layer) => layer,
        Err(reason) => return support::skip("who_falls_silent_is_asked_for_the_rest", &reason),
    };
    let faults = Faults {
        stall_after: Some(600_000),
        ..Faults::default()
    };
    let flaky = Flaky::before(registry.port, faults);
    let mut options = options(&flaky);
    options.patience.silence = Duration::from_secs(3);
    let image = look(&flaky, options).unwrap();
    assert_eq!(pull(&image).unwrap().0, layer);
    assert!(flaky.traffic(&layer.hex()).1 >= 2);
}

#[test]
fn a_busy_registry_gets_the_time_that_it_asks_for() {
    let registry = registry!("a_busy_registry_gets_the_time_that_it_asks_for", PRIVATE);
    let layer = match push_noise(&registry, 1 << 20) {
        Ok(layer) => layer,
        Err(reason) => {
            return support::skip("a_busy_registry_gets_the_time_that_it_asks_for", &reason);
        }
    };
    let faults = Faults {
        busy: 2,
        ..Faults::default()
    };
    let flaky = Flaky::before(registry.port, faults);
    let image = look(&flaky, options(&flaky)).unwrap();
    let start = Instant::now();
    assert_eq!(pull(&image).unwrap().0, layer);
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[test]
fn patience_ends() {
    let registry = registry!("patience_ends", PRIVATE);
    if let Err(reason) = push_noise(&registry, 1 << 20) {
        return support::skip("patience_ends", &reason);
    }
    let faults = Faults {
        cut_after: Some(0),
        ..Faults::default()
    };
    let flaky = Flaky::before(registry.port, faults);
    let image = look(&flaky, options(&flaky)).unwrap();
    let error = pull(&image).unwrap_err();
    assert!(matches!(error, SourceError::Registry { .. }), "{error}");
    let layer = image.layers[0].blob.unwrap();
    assert_eq!(flaky.traffic(&layer.hex()).1, 5);
    assert!(error.to_string().contains(&layer.to_string()), "{error}");
}
