//! Random trees.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use sysgraft::layer::{Device, Xattr};
use sysgraft::timestamp::Timestamp;
use sysgraft::tree::Attributes;

use super::{EPOCH, Kind, Model, Path, content};

/// One step in making a random tree.
#[derive(Clone, Debug)]
struct Step {
    parent: Index,
    name: Vec<u8>,
    kind: Kind,
    /// For a hard link, which file.
    target: Option<Index>,
    attributes: Attributes,
}

/// Runs a property that often, without a file of earlier failures.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    })
}

/// Random trees with about `size` paths.
pub fn models(size: usize) -> impl Strategy<Value = Model> {
    let steps = prop::collection::vec(steps(), 0..size);
    (attribute_sets(true), steps).prop_map(|(root, steps)| {
        let mut model = Model::new(root);
        let mut directories = vec![Vec::new()];
        let mut files: Vec<Path> = Vec::new();
        for step in steps {
            let mut path: Path = step.parent.get(&directories).clone();
            path.push(step.name);
            if model.entries.contains_key(&path) {
                continue;
            }
            let kind = match step.target {
                Some(target) if !files.is_empty() => Kind::Hardlink(target.get(&files).clone()),
                _ => step.kind,
            };
            match kind {
                Kind::Directory => directories.push(path.clone()),
                Kind::Hardlink(_) => {}
                _ => files.push(path.clone()),
            }
            model.add(path, kind, step.attributes);
        }
        model
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let step = (kinds(), any::<Index>(), names());
    let target = prop::option::weighted(0.1, any::<Index>());
    (step, target).prop_flat_map(|((kind, parent, name), target)| {
        // user attributes exist on files and directories only
        let with_user = matches!(kind, Kind::File(_) | Kind::Directory) && target.is_none();
        attribute_sets(with_user).prop_map(move |attributes| Step {
            parent,
            name: name.clone(),
            kind: kind.clone(),
            target,
            attributes,
        })
    })
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => b'a'..=b'z',
        2 => Just(b'.'),
        1 => 1_u8..b'/',
        1 => b'0'..=255,
    ];
    let length = prop_oneof![9 => 1_usize..12, 1 => 200_usize..=255];
    length
        .prop_flat_map(move |length| prop::collection::vec(byte.clone(), length))
        .prop_filter("no name", |name| name != b"." && name != b"..")
}

fn kinds() -> impl Strategy<Value = Kind> {
    let device = || {
        let ranges = (0_u32..1 << 12, 0_u32..1 << 20);
        ranges.prop_map(|(major, minor)| Device { major, minor })
    };
    prop_oneof![
        4 => Just(Kind::Directory),
        8 => contents().prop_map(Kind::File),
        3 => targets().prop_map(Kind::Symlink),
        1 => device().prop_map(Kind::CharDevice),
        1 => device().prop_map(Kind::BlockDevice),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
    ]
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![
        1 => Just(0_usize),
        4 => 1_usize..300,
        3 => 300_usize..5000,
        2 => (1_usize..5, -40_isize..40)
            .prop_map(|(blocks, more)| (blocks * 4096).wrapping_add_signed(more)),
        1 => 20_000_usize..100_000,
    ];
    (any::<u64>(), size).prop_map(|(seed, size)| content(seed, size))
}

fn targets() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![9 => 1_usize..100, 1 => 3900_usize..=4095];
    (any::<u64>(), size).prop_map(|(seed, size)| {
        let mut target = content(seed, size);
        target.iter_mut().for_each(|byte| *byte = (*byte).max(1));
        target
    })
}

fn attribute_sets(with_user: bool) -> impl Strategy<Value = Attributes> {
    let id = || prop_oneof![3 => Just(0_u32), 1 => 1_u32..70_000, 1 => 0_u32..u32::MAX];
    let mtime = prop_oneof![
        2 => Just(EPOCH),
        1 => (-3_000_000_000_i64..6_000_000_000, 0_u32..1_000_000_000)
            .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds }),
    ];
    let xattrs = prop_oneof![
        5 => Just(BTreeMap::new()),
        2 => prop::collection::btree_map(xattr_names(with_user), xattr_values(), 1..4),
    ];
    (0_u16..=0o7777, id(), id(), mtime, xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| {
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr {
            value: match &*name {
                // the kernel refuses to show any other value; version 2, effective
                "security.capability" => [&[1, 0, 0, 2][..], &[value[0]], &[0; 15]].concat(),
                _ => value,
            },
            name: name.into_bytes(),
        });
        Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs: xattrs.collect(),
        }
    })
}

fn xattr_names(with_user: bool) -> impl Strategy<Value = String> {
    let user = if with_user { "user" } else { "trusted" };
    prop_oneof![
        2 => Just("security.capability".to_owned()),
        2 => Just("security.selinux".to_owned()),
        2 => "[a-c]{1,2}".prop_map(move |name| format!("{user}.{name}")),
        1 => "[a-z.]{1,200}".prop_map(|name| format!("trusted.{name}")),
    ]
}

fn xattr_values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0_u8..3).prop_map(|few| vec![few; 30]),
        3 => prop::collection::vec(any::<u8>(), 1..100),
        1 => (any::<u64>(), 1_usize..5000).prop_map(|(seed, size)| content(seed, size)),
        1 => (any::<u64>(), 60_000_usize..=65_535).prop_map(|(seed, size)| content(seed, size)),
    ]
}
