//! Stacks of layers with everything that makes merging hard, the same for the same seed.

#![allow(dead_code)] // each test uses a part of it

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::json;
use sysgraft::digest::Digest;

/// Numbers that look random (xorshift, <https://www.jstatsoft.org/v08/i14/paper>).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
pub enum What {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    Hardlink(String),
    Fifo,
    Device,
    Whiteout,
    Opaque,
}

#[derive(Clone, Debug)]
pub struct Item {
    pub path: String,
    pub what: What,
    pub mode: u32,
    pub owner: u64,
    pub mtime: u64,
    pub xattr: Option<Vec<u8>>,
}

const LONG: &str =
    "a-name-that-is-so-long-that-two-of-its-kind-do-not-fit-into-a-plain-header-of-tar";

/// A layer above what is `below`: paths with whether they are directories. What the layer hides and
/// adds is done to `below`.
fn layer(random: &mut Random, below: &mut BTreeMap<String, bool>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut here: BTreeMap<String, bool> = BTreeMap::new();
    // Whatever is hidden is decided before anything is added, as engines apply it.
    let known: Vec<String> = below
        .keys()
        .filter(|path| path.matches('/').count() > 1)
        .cloned()
        .collect();
    let mut hidden: BTreeSet<String> = BTreeSet::new();
    for _ in 0..random.below(3) {
        if !known.is_empty() {
            hidden.insert(random.pick(&known).clone());
        }
    }
    for _ in 0..6 + random.below(14) {
        let top = *random.pick(&["usr/x", "usr/x", "usr/y", "usr/lib", "opt/z"]);
        let mut path = top.to_owned();
        for _ in 0..1 + random.below(3) {
            path = format!("{path}/{}", random.pick(&["a", "b", "c", "d d", LONG]));
        }
        let ancestors: Vec<String> = path
            .match_indices('/')
            .map(|(at, _)| path[..at].to_owned())
            .collect();
        if ancestors
            .iter()
            .any(|parent| here.get(parent) == Some(&false) || hidden.contains(parent))
            || here.contains_key(&path)
            || hidden.contains(&path)
        {
            continue;
        }
        for parent in ancestors {
            if here.insert(parent.clone(), true).is_none() {
                let item = item(random, parent, What::Directory);
                items.push(item);
            }
        }
        let files: Vec<String> = items
            .iter()
            .filter(|item| matches!(item.what, What::File(_) | What::Hardlink(_)))
            .map(|item| item.path.clone())
            .collect();
        let what = match random.below(12) {
            0..=3 => {
                let size = *random.pick(&[0, 1, 100, 4096, 5000]);
                What::File((0..size).map(|_| random.below(256) as u8).collect())
            }
            4..=6 if !files.is_empty() => What::Hardlink(random.pick(&files).clone()),
            4..=7 => What::Directory,
            8 | 9 => What::Symlink(random.pick(&["a", "../b", "/etc/passwd", LONG]).to_string()),
            10 => What::Fifo,
            _ => What::Device,
        };
        here.insert(path.clone(), matches!(what, What::Directory));
        let item = item(random, path, what);
        items.push(item);
    }
    for path in &hidden {
        let covers = |other: &String| *other == *path || other.starts_with(&format!("{path}/"));
        let in_the_way =
            |parent: &(&String, &bool)| !*parent.1 && path.starts_with(&format!("{}/", parent.0));
        // What is hidden in vain, or comes back at once, is no matter for this test.
        if here.keys().any(covers)
            || here.iter().any(|parent| in_the_way(&parent))
            || !below.keys().any(covers)
        {
            continue;
        }
        below.retain(|other, _| !covers(other));
        let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        for parent in parents.collect::<Vec<String>>() {
            if here.insert(parent.clone(), true).is_none() {
                let item = item(random, parent, What::Directory);
                items.push(item);
            }
        }
        let item = item(random, path.clone(), What::Whiteout);
        // Engines heed whiteouts wherever they stand in the archive, but GNU tar gives directories that
        // come after what lies in them other modes.
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let first = items
            .iter()
            .position(|item| item.path == parent)
            .map_or(0, |at| at + 1);
        let place = first + random.below((items.len() - first) as u64 + 1) as usize;
        items.insert(place, item);
    }
    let folders: Vec<String> = here
        .iter()
        .filter(|(path, is)| **is && path.contains('/'))
        .map(|(path, _)| path.clone())
        .collect();
    if random.below(3) == 0 && !folders.is_empty() {
        let folder = random.pick(&folders).clone();
        below.retain(|other, _| !other.starts_with(&format!("{folder}/")));
        let item = item(random, folder.clone(), What::Opaque);
        // It counts from the beginning of the layer for some, so it stands before what it spares.
        let after = items
            .iter()
            .position(|item| item.path == folder)
            .map_or(0, |at| at + 1);
        items.insert(after, item);
    }
    for (path, is_directory) in here {
        if !is_directory {
            below.retain(|other, _| !other.starts_with(&format!("{path}/")));
        }
        below.insert(path, is_directory);
    }
    items
}

fn item(random: &mut Random, path: String, what: What) -> Item {
    let mode = match what {
        What::Directory => *random.pick(&[0o755, 0o700, 0o1777, 0o2750]),
        _ => *random.pick(&[0o644, 0o600, 0o4755, 0o400]),
    };
    let has_xattr = matches!(what, What::File(_) | What::Directory) && random.below(4) == 0;
    Item {
        path,
        mode,
        owner: *random.pick(&[0, 0, 1000, 3_000_000]),
        mtime: 1_600_000_000 + random.below(100_000_000),
        xattr: has_xattr.then(|| vec![b'v'; 1 + random.below(40) as usize]),
        what,
    }
}

/// Layers, lowest first. Each begins with `usr`, and the lowest has `usr/lib` and a file.
pub fn stack(seed: u64, layers: usize) -> Vec<Vec<Item>> {
    let mut random = Random::new(seed);
    let mut below = BTreeMap::new();
    let stack = (0..layers).map(|number| {
        let mut items = layer(&mut random, &mut below);
        if number == 0 {
            items.retain(|item| item.path != "usr/lib/bottom");
            let mut lead = Vec::new();
            for folder in ["usr", "usr/lib"] {
                if !items.iter().any(|item| item.path == folder) {
                    lead.push(item(&mut random, folder.to_owned(), What::Directory));
                }
            }
            let bottom = item(
                &mut random,
                "usr/lib/bottom".to_owned(),
                What::File(b"bottom".to_vec()),
            );
            lead.extend(items);
            lead.push(bottom);
            items = lead;
        }
        items
    });
    stack.collect()
}

/// The same layers without entries of directories that something in their layer lies in, but for
/// those that take the place of something else. None has the setgid bit, which directories that an
/// engine makes on its own would get from theirs.
pub fn without_parents(layers: Vec<Vec<Item>>) -> Vec<Vec<Item>> {
    let mut others: BTreeSet<String> = BTreeSet::new();
    let sparse = |layer: Vec<Item>| {
        let below: Vec<String> = layer.iter().map(|item| item.path.clone()).collect();
        let is_parent = |path: &str| {
            let inside = format!("{path}/");
            below.iter().any(|other| other.starts_with(&inside))
        };
        let mut kept = layer;
        kept.retain(|item| {
            let is_directory = matches!(item.what, What::Directory);
            !is_directory || others.contains(&item.path) || !is_parent(&item.path)
        });
        for item in &mut kept {
            if matches!(item.what, What::Directory) {
                item.mode &= !0o2000;
            }
        }
        let leaves = kept
            .iter()
            .filter(|item| !matches!(item.what, What::Directory | What::Whiteout | What::Opaque));
        others.extend(leaves.map(|item| item.path.clone()));
        kept
    };
    layers.into_iter().map(sparse).collect()
}

/// The layer as an archive, with headers as different programs write them.
pub fn archive(layer: &[Item], seed: u64) -> Vec<u8> {
    // Contiguous files and those of the oldest archives are files, too.
    let odd = [tar::EntryType::Continuous, tar::EntryType::new(0)];
    write(
        layer,
        seed,
        &[&[tar::EntryType::Regular; 2], &odd[..]].concat(),
    )
}

/// The same without the types of files that umoci does not know.
pub fn common_archive(layer: &[Item], seed: u64) -> Vec<u8> {
    write(layer, seed, &[tar::EntryType::Regular])
}

fn write(layer: &[Item], seed: u64, file_types: &[tar::EntryType]) -> Vec<u8> {
    let mut random = Random::new(seed + 77);
    let mut builder = tar::Builder::new(Vec::new());
    for item in layer {
        let mut header = match random.below(2) {
            0 => tar::Header::new_gnu(),
            _ => tar::Header::new_ustar(),
        };
        header.set_mode(item.mode);
        header.set_uid(item.owner.min(2_000_000));
        header.set_gid(7);
        header.set_mtime(item.mtime);
        header.set_size(0);
        let mut extensions: Vec<(String, Vec<u8>)> = Vec::new();
        if item.owner > 2_000_000 {
            extensions.push(("uid".to_owned(), item.owner.to_string().into_bytes()));
        }
        if let Some(value) = &item.xattr {
            extensions.push(("SCHILY.xattr.user.note".to_owned(), value.clone()));
        }
        if random.below(2) == 0 {
            let time = format!("{}.5", item.mtime);
            extensions.push(("mtime".to_owned(), time.into_bytes()));
        }
        let (parent, name) = item.path.rsplit_once('/').unwrap_or(("", &item.path));
        let mut path = match &item.what {
            What::Whiteout => format!("{parent}/.wh.{name}"),
            What::Opaque => format!("{}/.wh..wh..opq", item.path),
            What::Directory if random.below(2) == 0 => format!("{}/", item.path),
            _ => item.path.clone(),
        };
        if random.below(3) == 0 {
            path = format!("./{path}");
        }
        let mut link = None;
        let mut content: &[u8] = &[];
        header.set_entry_type(match &item.what {
            What::File(bytes) => {
                content = bytes;
                *random.pick(file_types)
            }
            What::Whiteout | What::Opaque => tar::EntryType::Regular,
            What::Directory => tar::EntryType::Directory,
            What::Fifo => tar::EntryType::Fifo,
            What::Device => tar::EntryType::Char,
            What::Symlink(target) => {
                link = Some(target.clone());
                tar::EntryType::Symlink
            }
            What::Hardlink(target) => {
                link = Some(target.clone());
                tar::EntryType::Link
            }
        });
        if let What::Device = item.what {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_size(content.len() as u64);
        // Names that a plain header cannot hold go into extended ones.
        if path.len() > 99 {
            extensions.push(("path".to_owned(), path.clone().into_bytes()));
            path = "too-long".to_owned();
        }
        if let Some(target) = &link {
            if target.len() > 99 {
                extensions.push(("linkpath".to_owned(), target.clone().into_bytes()));
                header.set_link_name_literal("too-long").unwrap();
            } else {
                header.set_link_name_literal(target).unwrap();
            }
        }
        let records = extensions
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        builder.append_pax_extensions(records).unwrap();
        let bytes = header.as_mut_bytes();
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI layout with one image called `t` of these archives, lowest first, and the commands that
/// made them.
pub fn write_layout(folder: &Path, archives: &[Vec<u8>], commands: &[&str]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add = |media_type: &str, content: &[u8]| {
        let digest = Digest::of(content);
        fs::write(blobs.join(digest.hex()), content).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": content.len()})
    };
    let layers: Vec<_> = archives
        .iter()
        .map(|archive| add("application/vnd.oci.image.layer.v1.tar", archive))
        .collect();
    let diff_ids: Vec<String> = archives
        .iter()
        .map(|archive| Digest::of(archive).to_string())
        .collect();
    let mut history: Vec<_> = commands
        .iter()
        .map(|command| json!({"created_by": command}))
        .collect();
    if !history.is_empty() {
        history.insert(1, json!({"created_by": "ENV a=b", "empty_layer": true}));
    }
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let configuration = json!({
        "os": "linux",
        "architecture": architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    let configuration = add(
        "application/vnd.oci.image.config.v1+json",
        configuration.to_string().as_bytes(),
    );
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration,
        "layers": layers,
    });
    let mut manifest = add(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "t"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}
