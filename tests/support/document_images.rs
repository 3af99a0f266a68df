//! The container images that documents speak of.

use std::path::Path;

use serde_json::{Value, json};
use sysgraft::digest::Digest;

use crate::registry_image::{Blobs, CONFIGURATION, GZIP_LAYER, INDEX, configuration, gzip, index};
use crate::registry_real::write_layout;

/// A layer: the command that made it, and files with their modes.
struct Layer {
    command: &'static str,
    archive: Vec<u8>,
}

/// Writes a layout REPOSITORY/TAG for each image.
pub fn write_layouts(folder: &Path) {
    let platforms = ["linux/amd64", "linux/arm64"];
    let k3s = |_: &str| vec![k3s()];
    write(&folder.join("library/debian/13"), &platforms, |_| {
        vec![debian()]
    });
    write(&folder.join("me/tool/1"), &platforms, |_| {
        vec![debian(), library(), tool()]
    });
    write(&folder.join("me/hello/1"), &platforms, |_| vec![hello()]);
    write(&folder.join("me/k3s/1.29"), &platforms, k3s);
    write(&folder.join("k3s/1.29"), &platforms, k3s);
}

fn write(layout: &Path, platforms: &[&str], layers: impl Fn(&str) -> Vec<Layer>) {
    let mut blobs = Blobs::default();
    let manifests: Vec<Value> = platforms
        .iter()
        .map(|platform| add_image(&mut blobs, platform, &layers(platform)))
        .collect();
    let index = blobs.add(INDEX, index(&manifests));
    write_layout(layout, &blobs, &[index]);
}

fn add_image(blobs: &mut Blobs, platform: &str, layers: &[Layer]) -> Value {
    let diff_ids = layers.iter().map(|layer| Digest::of(&layer.archive));
    let mut configuration = configuration(platform, diff_ids);
    configuration["history"] = layers
        .iter()
        .map(|layer| json!({"created_by": layer.command}))
        .collect();
    let platform =
        json!({"os": configuration["os"], "architecture": configuration["architecture"]});
    let configuration = blobs.add(CONFIGURATION, configuration.to_string().into_bytes());
    let layers = layers
        .iter()
        .map(|layer| blobs.add(GZIP_LAYER, gzip(&layer.archive)))
        .collect();
    let mut descriptor = blobs.add_manifest(configuration, layers);
    descriptor["platform"] = platform;
    descriptor
}

fn debian() -> Layer {
    let mut files: Vec<(String, u32, &str)> = vec![
        ("etc/os-release".into(), 0o644, "ID=debian\nVERSION_ID=13\n"),
        ("usr/bin/sh".into(), 0o755, "#!/bin/false\n"),
    ];
    for (folder, count) in [
        ("usr/share/doc", 2840),
        ("etc/alternatives", 160),
        ("var/lib/dpkg/info", 2703),
    ] {
        files.extend((0..count).map(|number| (format!("{folder}/{number}"), 0o644, "")));
    }
    layer("# debian.sh --arch 'amd64' out/ 'trixie'", &files)
}

fn library() -> Layer {
    let mut files: Vec<(String, u32, &str)> = vec![("usr/lib/libfoo.a".into(), 0o644, "!<arch>\n")];
    for (folder, count) in [
        ("usr/share/doc/libfoo", 213),
        ("etc/foo", 3),
        ("var/lib/dpkg/foo", 61),
    ] {
        files.extend((0..count).map(|number| (format!("{folder}/{number}"), 0o644, "")));
    }
    layer("RUN apt-get install -y libfoo", &files)
}

fn tool() -> Layer {
    let mut files: Vec<(String, u32, &str)> = vec![
        ("usr/bin/tool".into(), 0o755, "#!/bin/sh\necho tool\n"),
        ("usr/lib/tool/part".into(), 0o644, "part\n"),
        ("etc/tool.conf".into(), 0o644, "answer = 42\n"),
    ];
    files.extend((0..14).map(|number| (format!("opt/tool/{number}"), 0o644, "")));
    layer("COPY tool /", &files)
}

fn hello() -> Layer {
    let program = "#!/bin/sh\necho hello\n";
    layer(
        "COPY hello /usr/bin/",
        &[("usr/bin/hello".into(), 0o755, program)],
    )
}

fn k3s() -> Layer {
    let unit = "[Service]\nExecStart=/usr/bin/k3s server\n";
    let started = "[Unit]\nUpholds=k3s.service\n";
    let system = "usr/lib/systemd/system";
    layer(
        "COPY k3s /usr/bin/",
        &[
            (
                "usr/bin/k3s".into(),
                0o755,
                "#!/bin/sh\nexec sleep infinity\n",
            ),
            (format!("{system}/k3s.service"), 0o644, unit),
            (
                format!("{system}/multi-user.target.d/10-k3s.conf"),
                0o644,
                started,
            ),
        ],
    )
}

fn layer(command: &'static str, files: &[(String, u32, &str)]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    let archive = builder.into_inner().unwrap();
    Layer { command, archive }
}
