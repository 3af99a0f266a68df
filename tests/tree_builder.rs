//! Layers become trees, seen from outside.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};

use proptest::prelude::*;
use sysgraft::extension::ExtensionKind;
use sysgraft::layer::{Device, Entry, EntryKind, EntryPath, EntryStream, LayerError, Xattr};
use sysgraft::timestamp::Timestamp;
use sysgraft::tree::{
    Attributes, Cause, ContentRules, DirectoryId, InodeSink, Leaf, LeafId, LeafKind, Node,
    PathGlob, Report, Selection, Tree, TreeBuilder, TreeError, UnusedRule,
};

fn path(text: &str) -> EntryPath {
    EntryPath::from_archive(text.as_bytes()).unwrap()
}

/// A layer that is a list.
struct List {
    entries: VecDeque<(Entry, Vec<u8>)>,
    content: VecDeque<u8>,
    /// Fails when content is read.
    broken: bool,
}

fn list(entries: Vec<(Entry, Vec<u8>)>) -> List {
    List {
        entries: entries.into(),
        content: VecDeque::new(),
        broken: false,
    }
}

impl EntryStream for List {
    fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        Ok(self.entries.pop_front().map(|(entry, content)| {
            self.content = content.into();
            entry
        }))
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        if self.broken {
            return Err(LayerError::Read(io::Error::other("the layer broke")));
        }
        self.content.read(buffer).map_err(LayerError::Read)
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        Ok(())
    }
}

fn entry(text: &str, kind: EntryKind) -> (Entry, Vec<u8>) {
    let mode = if kind == EntryKind::Directory {
        0o755
    } else {
        0o644
    };
    let entry = Entry {
        path: path(text),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(100),
        xattrs: Vec::new(),
    };
    (entry, Vec::new())
}

fn dir(text: &str) -> (Entry, Vec<u8>) {
    entry(text, EntryKind::Directory)
}

fn file(text: &str, content: &str) -> (Entry, Vec<u8>) {
    let size = content.len() as u64;
    let (entry, _) = entry(text, EntryKind::File { size });
    (entry, content.as_bytes().to_vec())
}

fn link(text: &str, target: &str) -> (Entry, Vec<u8>) {
    let target = path(target);
    entry(text, EntryKind::Hardlink { target })
}

fn symlink(text: &str, target: &str) -> (Entry, Vec<u8>) {
    let target = target.as_bytes().to_vec();
    entry(text, EntryKind::Symlink { target })
}

/// Keeps all leaves in memory.
#[derive(Default)]
struct Shelf {
    leaves: Vec<(Attributes, String)>,
}

impl InodeSink for Shelf {
    type Error = io::Error;

    fn add(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, io::Error> {
        let text = match leaf {
            Leaf::File { size, content } => {
                let mut text = String::new();
                content.read_to_string(&mut text)?;
                assert_eq!(text.len() as u64, size);
                text
            }
            Leaf::Symlink { target } => format!("-> {}", target.escape_ascii()),
            Leaf::CharDevice(device) => format!("c {} {}", device.major, device.minor),
            Leaf::BlockDevice(device) => format!("b {} {}", device.major, device.minor),
            Leaf::Fifo => "fifo".to_owned(),
            Leaf::Socket => "socket".to_owned(),
        };
        self.leaves.push((attributes.clone(), text));
        Ok(LeafId(u32::try_from(self.leaves.len()).unwrap() - 1))
    }
}

fn sysext() -> Selection {
    Selection {
        kind: ExtensionKind::Sysext,
        name: "hello".parse().unwrap(),
        rules: ContentRules::default(),
    }
}

struct Built {
    tree: Tree,
    report: Report,
    shelf: Shelf,
}

fn build_layers(
    selection: Selection,
    layers: Vec<Vec<(Entry, Vec<u8>)>>,
) -> Result<Built, TreeError> {
    let mut builder = TreeBuilder::new(selection, Shelf::default());
    for layer in layers {
        builder.add_layer(&mut list(layer.clone()))?;
        if builder.missing_target().is_some() {
            builder.add_targets(&mut list(layer))?;
        }
    }
    let (tree, report, shelf) = builder.finish()?;
    Ok(Built {
        tree,
        report,
        shelf,
    })
}

fn build(entries: Vec<(Entry, Vec<u8>)>) -> Result<Built, TreeError> {
    build_layers(sysext(), vec![entries])
}

impl Built {
    /// Every path but the root's, with `/` for directories and the leaf's text for others.
    fn listing(&self) -> BTreeMap<String, String> {
        let mut listing = BTreeMap::new();
        let mut reached = 1;
        let mut waiting = vec![(Tree::ROOT, String::new())];
        while let Some((id, parent)) = waiting.pop() {
            for (name, node) in &self.tree.directory(id).children {
                let path = format!("{parent}/{}", str::from_utf8(name).unwrap());
                let text = match *node {
                    Node::Directory(child) => {
                        reached += 1;
                        waiting.push((child, path.clone()));
                        "/".to_owned()
                    }
                    Node::Leaf(leaf, _) => self.shelf.leaves[leaf.0 as usize].1.clone(),
                };
                listing.insert(path, text);
            }
        }
        assert_eq!(
            reached,
            self.tree.directory_count(),
            "unreachable directories"
        );
        listing
    }

    fn node(&self, text: &str) -> Node {
        path(text)
            .components()
            .fold(Node::Directory(Tree::ROOT), |node, name| match node {
                Node::Directory(id) => self.tree.directory(id).children[name],
                Node::Leaf(..) => panic!("{text}"),
            })
    }

    fn directory(&self, text: &str) -> &Attributes {
        match self.node(text) {
            Node::Directory(id) => &self.tree.directory(id).attributes,
            Node::Leaf(..) => panic!("{text} is no directory"),
        }
    }

    fn leaf(&self, text: &str) -> (&Attributes, &str) {
        match self.node(text) {
            Node::Leaf(id, _) => {
                let (attributes, text) = &self.shelf.leaves[id.0 as usize];
                (attributes, text)
            }
            Node::Directory(_) => panic!("{text} is a directory"),
        }
    }

    fn dropped(&self) -> Vec<(String, Cause)> {
        let named = self.report.dropped.named().iter();
        named
            .map(|dropped| (dropped.path.to_string(), dropped.cause))
            .collect()
    }
}

fn listing(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

// Selection and report.

#[test]
fn a_sysext_keeps_usr_and_names_the_rest() {
    let built = build(vec![
        dir(""),
        dir("usr"),
        file("usr/bin/x", "x"),
        file("usrlocal", "no"),
        dir("etc"),
        file("etc/x", "no"),
        file("opt/x", "no"),
    ])
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[("/usr", "/"), ("/usr/bin", "/"), ("/usr/bin/x", "x")])
    );
    let outside = |path: &str| (path.to_owned(), Cause::Outside);
    assert_eq!(
        built.dropped(),
        [
            outside("/usrlocal"),
            outside("/etc"),
            outside("/etc/x"),
            outside("/opt/x")
        ]
    );
    assert_eq!(built.report.dropped.by_top()[&b"etc"[..]], 2);
    assert_eq!(built.report.dropped.count(Cause::Outside), 4);
}

#[test]
fn opt_and_etc_are_kept_when_asked_for() {
    let layer = || vec![file("usr/x", "u"), file("opt/x", "o"), file("etc/x", "e")];
    let with_opt = Selection {
        rules: ContentRules {
            with_opt: true,
            ..ContentRules::default()
        },
        ..sysext()
    };
    let confext = Selection {
        kind: ExtensionKind::Confext,
        ..sysext()
    };
    let both = build_layers(with_opt, vec![layer()]).unwrap();
    assert_eq!(both.listing().len(), 4);
    let etc = build_layers(confext, vec![layer()]).unwrap();
    assert_eq!(etc.listing(), listing(&[("/etc", "/"), ("/etc/x", "e")]));
}

#[test]
fn what_would_harm_the_host_stays_out_with_its_cause() {
    let overlay = entry(
        "usr/gone",
        EntryKind::CharDevice(Device { major: 0, minor: 0 }),
    );
    let built = build(vec![
        file("usr/lib/os-release", "no"),
        file("usr/lib/extension-release.d/extension-release.other", "no"),
        file("usr/lib/extension-release.d/extension-release.hello", "no"),
        file("usr/.wh.deleted", ""),
        file("usr/share/.wh..wh..opq", ""),
        file("usr/.wh..wh.plnk", ""),
        overlay,
        link("usr/gone-too", "usr/gone"),
        entry("usr/socket", EntryKind::Socket),
        file(".wh.var", ""),
        file("usr/x", "x"),
    ])
    .unwrap();
    assert_eq!(built.listing(), listing(&[("/usr", "/"), ("/usr/x", "x")]));
    let expected = [
        ("/usr/lib/os-release", Cause::OsRelease),
        (
            "/usr/lib/extension-release.d/extension-release.other",
            Cause::ForeignRelease,
        ),
        (
            "/usr/lib/extension-release.d/extension-release.hello",
            Cause::ReplacedRelease,
        ),
        ("/usr/.wh..wh.plnk", Cause::AufsMetadata),
        ("/usr/gone", Cause::OverlayWhiteout),
        ("/usr/gone-too", Cause::OverlayWhiteout),
        ("/usr/socket", Cause::Socket),
        ("/var", Cause::Outside),
        ("/usr/deleted", Cause::Whiteout),
        ("/usr/share", Cause::OpaqueDirectory),
    ];
    let expected: Vec<(String, Cause)> = expected
        .into_iter()
        .map(|(path, cause)| (path.to_owned(), cause))
        .collect();
    assert_eq!(built.dropped(), expected);
}

#[test]
fn a_layer_with_nothing_to_keep_is_an_error_that_says_what_it_has() {
    for entries in [
        vec![],
        vec![dir("usr")],
        vec![dir("usr"), file("etc/x", ""), file("etc/y", "")],
        vec![dir("usr"), file("usr/.wh.x", "")],
    ] {
        let expected = entries.len().saturating_sub(1) as u64;
        match build(entries) {
            Err(TreeError::Empty { dropped, .. }) => assert_eq!(dropped.total(), expected),
            other => panic!("{:?}", other.map(|built| built.listing())),
        }
    }
    assert!(build(vec![dir("usr/share/empty")]).is_ok());
    // The only file is gone again.
    let nothing = EntryKind::CharDevice(Device { major: 0, minor: 0 });
    let replaced = build(vec![file("usr/x", ""), entry("usr/x", nothing)]);
    assert!(matches!(replaced, Err(TreeError::Empty { .. })));
}

#[test]
fn an_error_of_nothing_to_keep_does_not_contradict_itself() {
    let rules = || ContentRules {
        exclude: globs(&["*.x"]),
        ..ContentRules::default()
    };
    let start = "the layers have nothing under /usr";
    for (entries, rest) in [
        (vec![], "; they are empty"),
        (vec![file("etc/a", "")], ", only /etc (1 entry)"),
        (
            vec![file("usr/a.x", ""), file("usr/b.x", "")],
            " that is wanted (2 entries match an --exclude or no --include)",
        ),
        (
            vec![file("usr/a.x", ""), file("etc/a", ""), file("etc/b", "")],
            " that is wanted (1 entry matches an --exclude or no --include), only /etc (2 entries)",
        ),
        (
            vec![file("usr/.wh.a", "")],
            " that an extension can have (1 entry is left out)",
        ),
    ] {
        let error = build_layers(ruled(rules()), vec![entries]).map(|_| ());
        assert_eq!(error.unwrap_err().to_string(), format!("{start}{rest}"));
    }
}

#[test]
fn files_with_privileges_and_devices_are_reported_under_every_name() {
    let mut setuid = file("usr/su", "12345");
    setuid.0.mode = 0o4755;
    let mut capable = file("usr/ping", "123");
    capable.0.xattrs = vec![Xattr {
        name: b"security.capability".to_vec(),
        value: vec![1],
    }];
    let mut setgid_directory = dir("usr/mail");
    setgid_directory.0.mode = 0o2775;
    let mut replaced = file("usr/former", "1234567");
    replaced.0.mode = 0o4755;
    let device = entry(
        "usr/null",
        EntryKind::CharDevice(Device { major: 1, minor: 3 }),
    );
    let built = build(vec![
        setuid,
        link("usr/su2", "usr/su"),
        capable,
        setgid_directory,
        device,
        symlink("usr/link", "su"),
        replaced,
        file("usr/former", "1"),
    ])
    .unwrap();
    assert_eq!(
        built.report.setuid.named(),
        [path("usr/su"), path("usr/su2")]
    );
    assert_eq!(built.report.setuid.total(), 2);
    assert_eq!(built.report.capabilities.named(), [path("usr/ping")]);
    assert_eq!(built.report.devices.named(), [path("usr/null")]);
    let kept = built.report.kept;
    assert_eq!((kept.files, kept.bytes), (4, 5 + 3 + 1));
    assert_eq!((kept.directories, kept.symlinks, kept.others), (2, 1, 1));
}

// Attributes.

#[test]
fn parents_that_no_entry_describes_belong_to_root() {
    let mut first = file("usr/a/b/x", "x");
    first.0.mtime = Timestamp::from_seconds(42);
    first.0.uid = 7;
    let built = build(vec![first, file("usr/y", "y")]).unwrap();
    let implied = Attributes {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(42),
        xattrs: Vec::new(),
    };
    assert_eq!(built.tree.directory(Tree::ROOT).attributes, implied);
    for directory in ["usr", "usr/a", "usr/a/b"] {
        assert_eq!(*built.directory(directory), implied, "{directory}");
    }
    assert_eq!(built.leaf("usr/a/b/x").0.uid, 7);
}

#[test]
fn a_directory_keeps_its_children_when_its_entry_comes_late_or_twice() {
    let mut early = dir("usr/a");
    early.0.mode = 0o700;
    let mut late = dir("usr/a");
    late.0.mode = 0o711;
    let built = build(vec![early, file("usr/a/x", "x"), late]).unwrap();
    assert_eq!(built.directory("usr/a").mode, 0o711);
    assert_eq!(built.leaf("usr/a/x").1, "x");
    let mut root = dir("");
    root.0.mode = 0o700;
    let built = build(vec![root, file("usr/x", "x")]).unwrap();
    assert_eq!(built.tree.directory(Tree::ROOT).attributes.mode, 0o755);
}

#[test]
fn times_are_clamped_for_files_directories_and_what_is_implied() {
    let selection = Selection {
        rules: ContentRules {
            clamp_mtime: Some(50),
            ..ContentRules::default()
        },
        ..sysext()
    };
    let mut old = file("usr/a/old", "");
    old.0.mtime = Timestamp {
        seconds: 7,
        nanoseconds: 9,
    };
    let mut edge = file("usr/edge", "");
    edge.0.mtime = Timestamp {
        seconds: 50,
        nanoseconds: 1,
    };
    let entries = vec![old.clone(), dir("usr/new"), file("usr/new/x", ""), edge];
    let built = build_layers(selection, vec![entries]).unwrap();
    let clamp = Timestamp::from_seconds(50);
    assert_eq!(built.leaf("usr/a/old").0.mtime, old.0.mtime);
    assert_eq!(built.leaf("usr/new/x").0.mtime, clamp);
    assert_eq!(built.leaf("usr/edge").0.mtime, clamp);
    assert_eq!(built.directory("usr/new").mtime, clamp);
    assert_eq!(built.directory("usr/a").mtime, clamp);
}

#[test]
fn overlay_attributes_never_enter_and_others_pass() {
    let mut opaque = dir("usr/a");
    let names: [&[u8]; 7] = [
        b"com.apple.provenance",
        b"security.selinux",
        b"system.posix_acl_access",
        b"trusted.overlay.opaque",
        b"trusted.x",
        b"user.",
        b"user.x",
    ];
    opaque.0.xattrs = names
        .iter()
        .map(|name| Xattr {
            name: name.to_vec(),
            value: b"y".to_vec(),
        })
        .collect();
    let built = build(vec![opaque]).unwrap();
    let kept = &built.directory("usr/a").xattrs;
    let kept: Vec<&[u8]> = kept.iter().map(|xattr| &xattr.name[..]).collect();
    assert_eq!(kept, [names[1], names[2], names[4], names[6]]);
    assert_eq!(built.report.overlay_xattrs, 1);
    assert_eq!(built.report.unknown_xattrs, 2);
}

// Merging within a layer.

#[test]
fn the_last_entry_of_a_name_wins() {
    let built = build(vec![
        file("usr/x", "1"),
        file("usr/x", "2"),
        file("usr/d/a", "gone"),
        file("usr/d/b/c", "gone"),
        file("usr/d", "now a file"),
        file("usr/f", "gone"),
        dir("usr/f"),
        file("usr/f/x", "below"),
        symlink("usr/l", "x"),
        file("usr/l", "no link"),
        file("usr/w", "gone"),
        entry(
            "usr/w",
            EntryKind::CharDevice(Device { major: 0, minor: 0 }),
        ),
    ])
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[
            ("/usr", "/"),
            ("/usr/x", "2"),
            ("/usr/d", "now a file"),
            ("/usr/f", "/"),
            ("/usr/f/x", "below"),
            ("/usr/l", "no link"),
        ])
    );
}

#[test]
fn nothing_lies_below_a_link_or_a_file() {
    for parent in [symlink("usr/a", "/etc"), file("usr/a", "")] {
        for path in ["usr/a/passwd", "usr/a/b/passwd"] {
            let error = build(vec![parent.clone(), file(path, "")]).map(|_| ());
            match error.unwrap_err() {
                TreeError::ParentIsNotADirectory { path: p, parent } => {
                    assert_eq!(p.to_string(), format!("/{path}"));
                    assert_eq!(parent.to_string(), "/usr/a");
                }
                other => panic!("{other}"),
            }
        }
    }
    let error = build(vec![symlink("usr", "/etc"), file("usr/x", "")]).map(|_| ());
    assert!(matches!(
        error,
        Err(TreeError::HierarchyIsNotADirectory { .. })
    ));
}

// Hard links.

#[test]
fn hard_links_share_their_leaf_whichever_comes_first() {
    let built = build(vec![
        link("usr/later-than-link", "usr/later"),
        link("usr/of-a-link", "usr/later-than-link"),
        file("usr/a", "a"),
        link("usr/b", "usr/a"),
        link("usr/c", "usr/b"),
        file("usr/later", "later"),
        symlink("usr/s", "a"),
        link("usr/s2", "usr/s"),
    ])
    .unwrap();
    assert_eq!(built.node("usr/b"), built.node("usr/a"));
    assert_eq!(built.node("usr/c"), built.node("usr/a"));
    assert_eq!(built.node("usr/later-than-link"), built.node("usr/later"));
    assert_eq!(built.node("usr/of-a-link"), built.node("usr/later"));
    assert_eq!(built.node("usr/s2"), built.node("usr/s"));
    assert!(matches!(
        built.node("usr/s2"),
        Node::Leaf(_, LeafKind::Symlink)
    ));
    assert_eq!(built.shelf.leaves.len(), 3);
}

#[test]
fn hard_links_that_lead_nowhere_are_refused_by_both_names() {
    for (entries, needle) in [
        (vec![link("usr/a", "usr/b")], "/usr/b"),
        (vec![link("usr/a", "usr/a")], "/usr/a"),
        (
            vec![link("usr/a", "usr/b"), link("usr/b", "usr/a")],
            "/usr/b",
        ),
        (vec![link("usr/a", "opt/b")], "/opt/b"),
        (
            vec![link("usr/a", "opt/b"), link("opt/b", "opt/c")],
            "/opt/b",
        ),
        (
            vec![
                link("usr/a", "opt/b"),
                link("opt/b", "opt/c"),
                link("opt/c", "opt/b"),
            ],
            "/opt/b",
        ),
        (vec![dir("usr/d"), link("usr/a", "usr/d")], "directory"),
        (
            vec![link("usr/a", "usr/f/x"), file("usr/f", "")],
            "/usr/f/x",
        ),
    ] {
        let error = build(entries).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("/usr/a"), "{error}");
        assert!(error.contains(needle), "{error}");
    }
    // Where the link itself is left out or hidden, nobody misses its target.
    assert!(build(vec![link("opt/a", "opt/b"), file("usr/x", "")]).is_ok());
    let upper = vec![file("usr/.wh.a", ""), file("usr/x", "")];
    assert!(build_layers(sysext(), vec![upper, vec![link("usr/a", "opt/b")]]).is_ok());
}

#[test]
fn a_link_that_was_replaced_need_not_be_found() {
    let built = build(vec![link("usr/a", "usr/missing"), file("usr/a", "a")]).unwrap();
    assert_eq!(built.leaf("usr/a").1, "a");
}

#[test]
fn long_chains_of_links_take_no_time() {
    let many = 50_000;
    let mut entries: Vec<_> = (0..many)
        .map(|n| link(&format!("usr/{n}"), &format!("usr/{}", n + 1)))
        .collect();
    assert!(build(entries.clone()).is_err());
    entries.push(file(&format!("usr/{many}"), "end"));
    let built = build(entries).unwrap();
    assert_eq!(built.leaf("usr/0").1, "end");
}

// Errors of others.

#[test]
fn errors_of_the_layer_are_not_blamed_on_the_sink() {
    let mut layer = list(vec![file("usr/x", "x")]);
    layer.broken = true;
    let mut builder = TreeBuilder::new(sysext(), Shelf::default());
    match builder.add_layer(&mut layer) {
        Err(TreeError::Layer(LayerError::Read(error))) => {
            assert_eq!(error.to_string(), "the layer broke");
        }
        other => panic!("{other:?}"),
    }
}

struct Full;

impl InodeSink for Full {
    type Error = io::Error;

    fn add(&mut self, _: &Attributes, _: Leaf<'_>) -> Result<LeafId, io::Error> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn errors_of_the_sink_name_the_file() {
    let mut builder = TreeBuilder::new(sysext(), Full);
    let error = builder.add_layer(&mut list(vec![file("usr/x", "x")]));
    match error {
        Err(TreeError::Sink { path: p, .. }) => assert_eq!(p, path("usr/x")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whiteouts_without_a_name_are_refused() {
    for name in ["usr/.wh.", "usr/.wh..", "usr/.wh..."] {
        let error = build(vec![file(name, ""), file("usr/x", "")]).map(|_| ());
        assert!(matches!(error, Err(TreeError::InvalidWhiteout { .. })));
    }
}

// Files on top.

#[test]
fn a_file_on_top_replaces_what_layers_have() {
    let release = path("usr/lib/extension-release.d/extension-release.hello");
    for below in [
        file("usr/x", "x"),
        dir("usr/lib/extension-release.d"),
        file(
            "usr/lib/extension-release.d/extension-release.hello/odd",
            "",
        ),
    ] {
        let mut builder = TreeBuilder::new(sysext(), Shelf::default());
        builder
            .add_layer(&mut list(vec![below, file("usr/y", "y")]))
            .unwrap();
        builder.add_file(&release, 0o644, b"ID=_any\n").unwrap();
        let (tree, report, shelf) = builder.finish().unwrap();
        let built = Built {
            tree,
            report,
            shelf,
        };
        let (attributes, text) = built.leaf("usr/lib/extension-release.d/extension-release.hello");
        assert_eq!(text, "ID=_any\n");
        assert_eq!((attributes.mode, attributes.uid), (0o644, 0));
        assert_eq!(attributes.mtime, Timestamp::from_seconds(100));
        built.listing();
    }
}

#[test]
fn a_file_on_top_never_follows_a_link() {
    let mut builder = TreeBuilder::new(sysext(), Shelf::default());
    let entries = vec![symlink("usr/lib", "/etc"), file("usr/x", "")];
    builder.add_layer(&mut list(entries)).unwrap();
    let error = builder.add_file(&path("usr/lib/d/file"), 0o644, b"");
    assert!(matches!(
        error,
        Err(TreeError::ParentIsNotADirectory { .. })
    ));
}

#[test]
fn a_file_on_top_alone_is_nothing() {
    let mut builder = TreeBuilder::new(sysext(), Shelf::default());
    builder.add_layer(&mut list(vec![dir("usr")])).unwrap();
    builder.add_file(&path("usr/x"), 0o644, b"").unwrap();
    assert!(matches!(builder.finish(), Err(TreeError::Empty { .. })));
}

// Several layers, the top one first.

#[test]
fn upper_layers_shadow_lower_ones() {
    let mut lower_directory = dir("usr/d");
    lower_directory.0.mode = 0o700;
    let mut described_below = dir("usr/implied");
    described_below.0.mode = 0o711;
    let built = build_layers(
        sysext(),
        vec![
            vec![
                dir("usr/d"),
                file("usr/a", "upper"),
                file("usr/implied/x", "x"),
                symlink("usr/to", "d"),
            ],
            vec![
                lower_directory,
                described_below,
                file("usr/a", "lower"),
                file("usr/b", "lower"),
                file("usr/to/hidden", "hidden"),
                file("usr/a/hidden", "hidden"),
                file("usr/d/c", "lower"),
            ],
        ],
    )
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[
            ("/usr", "/"),
            ("/usr/a", "upper"),
            ("/usr/b", "lower"),
            ("/usr/d", "/"),
            ("/usr/d/c", "lower"),
            ("/usr/implied", "/"),
            ("/usr/implied/x", "x"),
            ("/usr/to", "-> d"),
        ])
    );
    assert_eq!(built.directory("usr/d").mode, 0o755);
    assert_eq!(built.directory("usr/implied").mode, 0o711);
    assert_eq!(built.shelf.leaves.len(), 5, "no leaf that is not seen");
}

#[test]
fn whiteouts_hide_lower_layers_and_only_those() {
    let built = build_layers(
        sysext(),
        vec![
            vec![
                file("usr/.wh.a", ""),
                file("usr/a", "new"),
                file("usr/.wh.b", ""),
                dir("usr/d"),
                file("usr/d/.wh..wh..opq", ""),
                file("usr/d/new", "new"),
                file("usr/.wh.host", ""),
            ],
            vec![
                file("usr/a", "old"),
                file("usr/b/c", "old"),
                file("usr/d/old", "old"),
                file("usr/e", "old"),
            ],
        ],
    )
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[
            ("/usr", "/"),
            ("/usr/a", "new"),
            ("/usr/d", "/"),
            ("/usr/d/new", "new"),
            ("/usr/e", "old"),
        ])
    );
    assert_eq!(
        built.dropped(),
        [
            ("/usr/a".to_owned(), Cause::Shadowed),
            ("/usr/b/c".to_owned(), Cause::Shadowed),
            ("/usr/d/old".to_owned(), Cause::Shadowed),
            ("/usr/host".to_owned(), Cause::Whiteout)
        ]
    );
}

#[test]
fn a_directory_in_the_place_of_a_file_does_not_show_what_the_file_hid() {
    let built = build_layers(
        sysext(),
        vec![
            vec![dir("usr/p"), file("usr/p/top", "top")],
            vec![file("usr/p", "file")],
            vec![dir("usr/p"), file("usr/p/bottom", "bottom")],
        ],
    )
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[("/usr", "/"), ("/usr/p", "/"), ("/usr/p/top", "top")])
    );
}

#[test]
fn directories_that_only_hidden_entries_imply_are_there() {
    let bottom = || vec![file("usr/c", "old"), file("usr/k", "k")];
    for (top, middle) in [
        (file("usr/c/.wh.b", ""), file("usr/c/b", "x")),
        (file("usr/c/.wh.b", ""), file("usr/c/b/d/e", "x")),
        (file("usr/c/.wh..wh..opq", ""), file("usr/c/b/d", "x")),
        (file("usr/c/.wh.b", ""), dir("usr/c/b")),
    ] {
        let built = build_layers(sysext(), vec![vec![top], vec![middle], bottom()]).unwrap();
        assert_eq!(
            built.listing(),
            listing(&[("/usr", "/"), ("/usr/c", "/"), ("/usr/k", "k")])
        );
    }
    // What is deleted with its directory leaves none.
    let layers = vec![
        vec![file("usr/.wh.c", "")],
        vec![file("usr/c/b", "x")],
        bottom(),
    ];
    let built = build_layers(sysext(), layers).unwrap();
    assert_eq!(built.listing(), listing(&[("/usr", "/"), ("/usr/k", "k")]));
}

#[test]
fn the_mode_of_a_directory_goes_when_a_file_replaces_it() {
    let mut old = dir("usr/p");
    old.0.mode = 0o700;
    let layers = vec![
        vec![file("usr/p/x", "x")],
        vec![file("usr/p", "file")],
        vec![old],
    ];
    let built = build_layers(sysext(), layers).unwrap();
    assert_eq!(built.directory("usr/p").mode, 0o755);
}

#[test]
fn links_find_their_target_in_lower_layers_but_not_in_upper_ones() {
    let built = build_layers(
        sysext(),
        vec![
            vec![link("usr/a", "usr/target")],
            vec![file("usr/a", "hidden"), file("usr/target", "target")],
        ],
    )
    .unwrap();
    assert_eq!(built.node("usr/a"), built.node("usr/target"));
    assert_eq!(built.leaf("usr/a").1, "target");
    // A layer between the link and the file deletes it.
    let error = build_layers(
        sysext(),
        vec![
            vec![link("usr/a", "usr/target")],
            vec![file("usr/.wh.target", "")],
            vec![file("usr/target", "target")],
        ],
    );
    assert!(matches!(
        error.map(|_| ()),
        Err(TreeError::LinkTargetMissing { .. })
    ));
}

#[test]
fn links_to_what_is_out_of_sight_have_its_content() {
    let excluding = |glob: &str| Selection {
        rules: ContentRules {
            exclude: vec![glob.parse().unwrap()],
            ..ContentRules::default()
        },
        ..sysext()
    };
    let target = || file("usr/target", "target");
    for (selection, uppers, layer) in [
        // Replaced or deleted above, in every way.
        (
            sysext(),
            vec![vec![file("usr/target", "no")]],
            vec![target(), link("usr/a", "usr/target")],
        ),
        (
            sysext(),
            vec![vec![file("usr/.wh.target", "")]],
            vec![target(), link("usr/a", "usr/target")],
        ),
        (
            sysext(),
            vec![vec![file("usr/.wh.target", "")]],
            vec![link("usr/a", "usr/target"), target()],
        ),
        (
            sysext(),
            vec![vec![dir("usr/target"), file("usr/target/x", "no")]],
            vec![target(), link("usr/a", "usr/target")],
        ),
        (
            sysext(),
            vec![vec![file("usr/.wh.d", "")]],
            vec![
                file("usr/d/target", "target"),
                link("usr/a", "usr/d/target"),
            ],
        ),
        (
            sysext(),
            vec![vec![file("usr/d", "no")]],
            vec![
                file("usr/d/target", "target"),
                link("usr/a", "usr/d/target"),
            ],
        ),
        // Left out.
        (
            sysext(),
            vec![],
            vec![file("opt/t", "target"), link("usr/a", "opt/t")],
        ),
        (
            sysext(),
            vec![],
            vec![link("usr/a", "opt/t"), file("opt/t", "target")],
        ),
        (
            sysext(),
            vec![],
            vec![
                file("usr/lib/os-release", "target"),
                link("usr/a", "usr/lib/os-release"),
            ],
        ),
        (
            excluding("*.x"),
            vec![],
            vec![file("usr/t.x", "target"), link("usr/a", "usr/t.x")],
        ),
        // Through links that are out of sight themselves, in any order.
        (
            sysext(),
            vec![],
            vec![
                file("opt/t", "target"),
                link("opt/b", "opt/t"),
                link("opt/c", "opt/b"),
                link("usr/a", "opt/c"),
            ],
        ),
        (
            sysext(),
            vec![],
            vec![
                link("usr/a", "opt/c"),
                link("opt/c", "opt/b"),
                link("opt/b", "opt/t"),
                file("opt/t", "target"),
            ],
        ),
        (
            sysext(),
            vec![],
            vec![
                file("usr/t", "target"),
                link("opt/b", "usr/t"),
                link("usr/a", "opt/b"),
            ],
        ),
        (
            sysext(),
            vec![],
            vec![
                link("usr/a", "opt/b"),
                link("opt/b", "usr/t"),
                file("usr/t", "target"),
            ],
        ),
        // Names that mean several files in turn.
        (
            sysext(),
            vec![],
            vec![
                file("opt/t", "target"),
                link("usr/a", "opt/t"),
                file("opt/t", "later"),
            ],
        ),
        (
            sysext(),
            vec![],
            vec![
                file("opt/t", "earlier"),
                file("opt/t", "target"),
                link("usr/a", "opt/t"),
            ],
        ),
        // In a layer below the link's.
        (
            sysext(),
            vec![
                vec![file("usr/.wh.target", "")],
                vec![link("usr/a", "usr/target")],
            ],
            vec![target()],
        ),
        (
            sysext(),
            vec![vec![link("usr/a", "opt/b")], vec![file("usr/x", "")]],
            vec![link("opt/b", "opt/t"), file("opt/t", "target")],
        ),
    ] {
        let what = format!("{uppers:?} over {layer:?}");
        let layers = uppers.into_iter().chain([layer]).collect();
        let built =
            build_layers(selection, layers).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(built.leaf("usr/a").1, "target", "{what}");
    }
}

#[test]
fn links_to_one_file_out_of_sight_are_one_file() {
    let built = build(vec![
        file("opt/t", "target"),
        link("usr/a", "opt/t"),
        link("opt/b", "opt/t"),
        link("usr/c", "opt/b"),
        link("usr/d", "usr/a"),
        file("opt/other", "target"),
        link("usr/e", "opt/other"),
    ])
    .unwrap();
    assert_eq!(built.node("usr/a"), built.node("usr/c"));
    assert_eq!(built.node("usr/a"), built.node("usr/d"));
    assert_ne!(built.node("usr/a"), built.node("usr/e"));
    assert_eq!(built.report.kept.bytes, 12);
    assert_eq!(built.report.kept.files, 4);
}

#[test]
fn a_layer_without_such_links_is_read_once() {
    let mut builder = TreeBuilder::new(sysext(), Shelf::default());
    let layer = vec![
        file("opt/t", ""),
        link("opt/u", "opt/t"),
        file("usr/t", ""),
        link("usr/u", "usr/t"),
    ];
    builder.add_layer(&mut list(layer)).unwrap();
    assert_eq!(builder.missing_target(), None);
}

// Filters and remaps.

fn globs(texts: &[&str]) -> Vec<PathGlob> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ruled(rules: ContentRules) -> Selection {
    Selection { rules, ..sysext() }
}

#[test]
fn what_is_included_keeps_its_directories_and_nothing_else() {
    let rules = ContentRules {
        include: globs(&["/usr/bin", "*.so", "/usr/share/empty/"]),
        exclude: globs(&["*.debug"]),
        ..ContentRules::default()
    };
    let mut lib = dir("usr/lib");
    lib.0.mode = 0o711;
    let built = build_layers(
        ruled(rules),
        vec![vec![
            dir("usr"),
            dir("usr/bin"),
            file("usr/bin/x", "x"),
            file("usr/bin/x.debug", "no"),
            lib,
            file("usr/lib/a.so", "so"),
            file("usr/lib/a.h", "no"),
            dir("usr/include"),
            dir("usr/include/deep"),
            file("usr/include/deep/a.h", "no"),
            dir("usr/share/empty"),
        ]],
    )
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[
            ("/usr", "/"),
            ("/usr/bin", "/"),
            ("/usr/bin/x", "x"),
            ("/usr/lib", "/"),
            ("/usr/lib/a.so", "so"),
            ("/usr/share", "/"),
            ("/usr/share/empty", "/"),
        ])
    );
    assert_eq!(built.directory("usr/lib").mode, 0o711);
    let dropped = &built.report.dropped;
    assert_eq!(dropped.count(Cause::Excluded), 1);
    let not_included: Vec<String> = built
        .dropped()
        .into_iter()
        .filter(|(_, cause)| *cause == Cause::NotIncluded)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        not_included,
        [
            "/usr/lib/a.h",
            "/usr/include/deep/a.h",
            "/usr/include/deep",
            "/usr/include"
        ]
    );
    assert_eq!(built.report.unused, []);
}

#[test]
fn rules_without_effect_are_told() {
    let rules = ContentRules {
        include: globs(&["/srv", "/usr"]),
        exclude: globs(&["*.none"]),
        remaps: vec!["/etc=/usr/etc".parse().unwrap()],
        ..ContentRules::default()
    };
    let built = build_layers(
        ruled(rules),
        vec![vec![file("usr/a", ""), file("srv/a", "")]],
    )
    .unwrap();
    assert_eq!(
        built.report.unused,
        [
            UnusedRule::Include("/srv".to_owned()),
            UnusedRule::Exclude("*.none".to_owned()),
            UnusedRule::Remap(path("etc")),
        ]
    );
}

#[test]
fn what_a_filter_leaves_out_of_an_upper_layer_still_hides_the_lower_ones() {
    for (pattern, upper, lower) in [
        ("d/", dir("usr/d"), file("usr/d", "lower")),
        ("x", file("usr/x", "upper"), file("usr/x", "lower")),
        ("gone", file("usr/.wh.x", ""), file("usr/x", "lower")),
    ] {
        let rules = ContentRules {
            exclude: globs(&[pattern]),
            ..ContentRules::default()
        };
        let layers = vec![vec![upper, file("usr/kept", "")], vec![lower]];
        let built = build_layers(ruled(rules), layers).unwrap();
        assert_eq!(
            built.listing(),
            listing(&[("/usr", "/"), ("/usr/kept", "")]),
            "{pattern}"
        );
    }
}

#[test]
fn what_is_not_included_still_replaces_what_is() {
    let rules = || ContentRules {
        include: globs(&["*.so"]),
        ..ContentRules::default()
    };
    let old = || vec![dir("usr/lib/foo"), file("usr/lib/foo/a.so", "old")];
    for layers in [
        vec![vec![symlink("usr/lib/foo", "/usr/lib/bar")], old()],
        vec![
            vec![dir("usr/lib/foo")],
            vec![file("usr/lib/foo", "")],
            old(),
        ],
        vec![[old(), vec![file("usr/lib/foo", "")]].concat()],
    ] {
        let layers = [vec![vec![file("usr/k.so", "k")]], layers].concat();
        let built = build_layers(ruled(rules()), layers).unwrap();
        assert_eq!(
            built.listing(),
            listing(&[("/usr", "/"), ("/usr/k.so", "k")])
        );
    }
}

#[test]
fn a_directory_that_is_excluded_takes_the_place_of_a_file_in_its_layer() {
    let rules = ContentRules {
        exclude: globs(&["doc/"]),
        ..ContentRules::default()
    };
    let layer = vec![
        file("usr/doc", "file"),
        dir("usr/doc"),
        file("usr/doc/a", "a"),
        file("usr/z", "z"),
    ];
    let built = build_layers(ruled(rules), vec![layer]).unwrap();
    assert_eq!(built.listing(), listing(&[("/usr", "/"), ("/usr/z", "z")]));
}

#[test]
fn shadowed_entries_are_accounted_for() {
    let built = build_layers(
        sysext(),
        vec![
            vec![
                file("usr/a", "new"),
                file("usr/.wh.b", ""),
                file("usr/c", "now a file"),
            ],
            vec![
                file("usr/a", "old"),
                file("usr/b", ""),
                dir("usr/c"),
                file("usr/c/x", ""),
            ],
        ],
    )
    .unwrap();
    let shadowed = |path: &str| (path.to_owned(), Cause::Shadowed);
    assert_eq!(
        built.dropped(),
        [
            shadowed("/usr/a"),
            shadowed("/usr/b"),
            shadowed("/usr/c"),
            shadowed("/usr/c/x")
        ]
    );
}

fn remapped(remaps: &[&str], layers: Vec<Vec<(Entry, Vec<u8>)>>) -> Result<Built, TreeError> {
    let rules = ContentRules {
        remaps: remaps.iter().map(|text| text.parse().unwrap()).collect(),
        ..ContentRules::default()
    };
    build_layers(ruled(rules), layers)
}

#[test]
fn remapped_directories_move_after_layers_were_merged() {
    let mut etc = dir("etc");
    etc.0.mode = 0o700;
    let built = remapped(
        &[
            "/etc=/usr/share/factory/etc",
            "/etc/tool=/usr/lib/tool",
            "/opt/one=/usr/lib/one",
        ],
        vec![
            vec![
                file("etc/.wh.gone", ""),
                file("etc/a", "new"),
                file("opt/one", "1"),
                file("opt/two", ""),
            ],
            vec![
                etc,
                file("etc/gone", ""),
                file("etc/a", "old"),
                file("etc/tool/conf", "c"),
                link("usr/lib/b", "etc/a2"),
                file("etc/a2", "linked"),
                file("etc/os-release", "kept there"),
            ],
        ],
    )
    .unwrap();
    assert_eq!(
        built.listing(),
        listing(&[
            ("/usr", "/"),
            ("/usr/lib", "/"),
            ("/usr/lib/b", "linked"),
            ("/usr/lib/one", "1"),
            ("/usr/lib/tool", "/"),
            ("/usr/lib/tool/conf", "c"),
            ("/usr/share", "/"),
            ("/usr/share/factory", "/"),
            ("/usr/share/factory/etc", "/"),
            ("/usr/share/factory/etc/a", "new"),
            ("/usr/share/factory/etc/a2", "linked"),
            ("/usr/share/factory/etc/os-release", "kept there"),
        ])
    );
    assert_eq!(
        built.node("usr/lib/b"),
        built.node("usr/share/factory/etc/a2")
    );
    assert_eq!(built.directory("usr/share/factory/etc").mode, 0o700);
    assert_eq!(built.directory("usr/share/factory").mode, 0o755);
    let outside: Vec<_> = built
        .dropped()
        .into_iter()
        .filter(|(_, cause)| *cause == Cause::Outside)
        .collect();
    assert_eq!(outside, [("/opt/two".to_owned(), Cause::Outside)]);
}

#[test]
fn what_was_deleted_above_the_moved_directory_stays_deleted() {
    let opaque = || file("opt/.wh..wh..opq", "");
    for (name, upper) in [
        ("whiteout", vec![file(".wh.opt", "")]),
        ("opaque directory", vec![opaque(), file("opt/new", "")]),
        ("opaque root", vec![file(".wh..wh..opq", "")]),
        ("link", vec![symlink("opt", "usr")]),
        ("file", vec![file("opt/tool", "")]),
    ] {
        let lower = vec![file("opt/tool/bin/x", "old"), file("usr/a", "")];
        let upper = [upper, vec![file("usr/b", "")]].concat();
        let built = remapped(
            &["/opt/tool/bin=/usr/lib/tool", "/srv=/usr/srv"],
            vec![upper, lower],
        )
        .unwrap();
        let listing = built.listing();
        assert!(!listing.contains_key("/usr/lib"), "{name}: {listing:?}");
        assert_eq!(built.report.dropped.count(Cause::Whiteout), 0, "{name}");
    }
    // In the same layer the last entry wins.
    let layer = vec![
        file("opt/tool/x", "old"),
        symlink("opt", "usr"),
        file("usr/b", ""),
    ];
    let built = remapped(&["/opt/tool=/usr/lib/tool"], vec![layer]).unwrap();
    assert_eq!(built.listing(), listing(&[("/usr", "/"), ("/usr/b", "")]));
    // What the whiteout's own layer has is there.
    let layers = vec![
        vec![file(".wh.opt", ""), file("opt/tool/y", "new")],
        vec![file("opt/tool/x", "old")],
    ];
    let built = remapped(&["/opt/tool=/usr/tool"], layers).unwrap();
    assert_eq!(
        built.listing(),
        listing(&[("/usr", "/"), ("/usr/tool", "/"), ("/usr/tool/y", "new")])
    );
}

#[test]
fn remaps_join_directories_but_never_files() {
    let built = remapped(
        &["/opt/usr=/usr"],
        vec![vec![file("opt/usr/bin/a", "a"), file("usr/bin/b", "b")]],
    )
    .unwrap();
    assert_eq!(built.listing().len(), 4);
    for (remaps, entries, first, second) in [
        (
            &["/opt/usr=/usr"][..],
            vec![file("opt/usr/bin/a", ""), file("usr/bin/a", "")],
            "/usr/bin/a",
            "/opt/usr/bin/a",
        ),
        (
            &["/opt=/usr/x", "/srv=/usr/x"],
            vec![file("opt/a", ""), file("srv/a", "")],
            "/opt/a",
            "/srv/a",
        ),
        (
            &["/opt/a=/usr/x/y"],
            vec![file("opt/a", ""), file("usr/x", "")],
            "/opt/a",
            "/usr/x",
        ),
        (
            &["/opt=/usr/bin"],
            vec![file("opt/a/b", ""), file("usr/bin/a", "")],
            "/opt/a",
            "/usr/bin/a",
        ),
    ] {
        let error = remapped(remaps, vec![entries])
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(first) && error.contains(second), "{error}");
    }
}

#[test]
fn remapping_gets_no_release_file_in() {
    let built = remapped(
        &["/etc=/usr/lib"],
        vec![vec![
            file("etc/os-release", ""),
            file("etc/extension-release.d/extension-release.x", ""),
            file("etc/a", "a"),
        ]],
    )
    .unwrap();
    assert_eq!(
        built
            .listing()
            .keys()
            .filter(|path| path.contains("release.") || path.contains("os-release"))
            .count(),
        0
    );
    assert_eq!(built.report.dropped.count(Cause::OsRelease), 1);
    assert_eq!(built.report.dropped.count(Cause::ForeignRelease), 1);
}

#[test]
fn links_that_moving_breaks_are_reported() {
    let built = remapped(
        &["/opt/tool=/usr/lib/tool"],
        vec![vec![
            file("opt/tool/a", ""),
            symlink("opt/tool/fine", "a"),
            symlink("opt/tool/broken", "../other"),
            symlink("usr/bin/broken", "../../opt/tool/a"),
            symlink("usr/bin/absolute", "/opt/tool/a"),
            symlink("usr/bin/elsewhere", "/opt/other"),
        ]],
    )
    .unwrap();
    let names: Vec<String> = built
        .report
        .broken_links
        .named()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(built.report.broken_links.total(), 3);
    assert!(names.contains(&"/usr/bin/absolute".to_owned()), "{names:?}");
    assert!(
        names.contains(&"/usr/lib/tool/broken".to_owned()),
        "{names:?}"
    );
    assert!(names.contains(&"/usr/bin/broken".to_owned()), "{names:?}");
}

#[test]
fn owners_and_modes_of_directories_can_be_given() {
    let rules = ContentRules {
        owner: Some("7:8".parse().unwrap()),
        dir_mode: Some(0o750),
        ..ContentRules::default()
    };
    let mut implied = file("usr/a/x", "");
    implied.0.uid = 1000;
    implied.0.mode = 0o4711;
    let mut directory = dir("usr/b");
    directory.0.gid = 1000;
    let built = build_layers(ruled(rules), vec![vec![implied, directory]]).unwrap();
    let owner = |attributes: &Attributes| (attributes.uid, attributes.gid);
    for (name, mode) in [("usr", 0o750), ("usr/a", 0o750), ("usr/b", 0o750)] {
        assert_eq!(owner(built.directory(name)), (7, 8));
        assert_eq!(built.directory(name).mode, mode);
    }
    assert_eq!(owner(built.leaf("usr/a/x").0), (7, 8));
    assert_eq!(built.leaf("usr/a/x").0.mode, 0o711);
}

#[test]
fn files_that_are_given_away_lose_the_powers_of_their_owner() {
    let rules = ContentRules {
        owner: Some("0:0".parse().unwrap()),
        ..ContentRules::default()
    };
    let powerful = |name: &str, uid, gid| {
        let mut file = file(name, "");
        (file.0.uid, file.0.gid, file.0.mode) = (uid, gid, 0o6755);
        file.0.xattrs = ["security.capability", "user.note"]
            .map(|name| Xattr {
                name: name.as_bytes().to_vec(),
                value: b"x".to_vec(),
            })
            .into();
        file
    };
    let layer = vec![
        powerful("usr/of-user", 1000, 0),
        powerful("usr/of-group", 0, 50),
        powerful("usr/of-root", 0, 0),
    ];
    let built = build_layers(ruled(rules), vec![layer]).unwrap();
    for (name, mode, xattrs) in [
        ("usr/of-user", 0o755, 1),
        ("usr/of-group", 0o755, 1),
        ("usr/of-root", 0o6755, 2),
    ] {
        let (attributes, _) = built.leaf(name);
        assert_eq!((attributes.mode, attributes.xattrs.len()), (mode, xattrs));
    }
    let stripped = built.report.stripped.named();
    assert_eq!(stripped, [path("usr/of-user"), path("usr/of-group")]);
    assert_eq!(built.report.setuid.named(), [path("usr/of-root")]);
    assert_eq!(built.report.capabilities.named(), [path("usr/of-root")]);
}

#[test]
fn a_layer_that_contradicts_itself_in_the_shadow_of_another_is_refused() {
    let error = build_layers(
        sysext(),
        vec![
            vec![file("usr/d/upper", "")],
            vec![file("usr/d/lower", ""), file("usr/d", "")],
        ],
    );
    assert!(matches!(
        error.map(|_| ()),
        Err(TreeError::Contradiction { .. })
    ));
}

// Random layers against a model that unpacks them as an engine does.

#[derive(Clone, Debug)]
enum Step {
    File(String, String),
    Directory(String, u16),
    Symlink(String, String),
    Hardlink(String, String),
    Whiteout(String),
    Opaque(String),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || {
        proptest::collection::vec("[a-c]", 1..4)
            .prop_map(|names| format!("usr/{}", names.join("/")))
    };
    prop_oneof![
        4 => (name(), "[0-9]{1,3}").prop_map(|(path, content)| Step::File(path, content)),
        3 => (name(), 0..0o1000_u16).prop_map(|(path, mode)| Step::Directory(path, mode)),
        1 => (name(), "[a-c]").prop_map(|(path, target)| Step::Symlink(path, target)),
        1 => (name(), name()).prop_map(|(path, target)| Step::Hardlink(path, target)),
        1 => name().prop_map(Step::Whiteout),
        1 => name().prop_map(Step::Opaque),
    ]
}

fn entry_of(step: &Step) -> (Entry, Vec<u8>) {
    match step {
        Step::File(path, content) => file(path, content),
        Step::Directory(path, mode) => {
            let mut directory = dir(path);
            directory.0.mode = *mode;
            directory
        }
        Step::Symlink(path, target) => symlink(path, target),
        Step::Hardlink(path, target) => link(path, target),
        Step::Whiteout(path) => {
            let (parent, name) = path.rsplit_once('/').unwrap();
            file(&format!("{parent}/.wh.{name}"), "")
        }
        Step::Opaque(path) => file(&format!("{path}/.wh..wh..opq"), ""),
    }
}

/// What lies on an engine's disk: `/` and a mode for directories, else the leaf's text.
type Disk = BTreeMap<String, String>;

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(slash, _)| &path[..slash])
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn is_directory(disk: &Disk, path: &str) -> bool {
    disk.get(path).is_some_and(|text| text.starts_with('/'))
}

fn remove(disk: &mut Disk, path: &str) {
    disk.retain(|other, _| other != path && !is_below(other, path));
}

/// Unpacks one layer over the disk; `None` where an engine could not, or where entries come in an
/// order that means something else to different programs.
///
/// What a lower layer has in the place of a directory gives way to it, as overlayfs has it.
fn unpack(disk: &mut Disk, layer: &[Step]) -> Option<()> {
    let mut made: BTreeSet<String> = BTreeSet::new();
    for step in layer {
        match step {
            Step::Whiteout(path) => remove(disk, path),
            Step::Opaque(path) => disk.retain(|other, _| !is_below(other, path)),
            _ => {}
        }
    }
    for step in layer {
        let (path, text) = match step {
            Step::File(path, content) => (path, content.clone()),
            Step::Directory(path, mode) => (path, format!("/{mode:o}")),
            Step::Symlink(path, target) => (path, format!("-> {target}")),
            Step::Hardlink(path, target) => {
                // The directory that makes room for the link takes the target with it.
                if is_below(target, path) {
                    return None;
                }
                let text = disk.get(target).filter(|text| !text.starts_with('/'))?;
                (path, text.clone())
            }
            Step::Whiteout(_) | Step::Opaque(_) => continue,
        };
        for parent in parents(path) {
            if is_directory(disk, parent) {
                continue;
            }
            if disk.contains_key(parent) && made.contains(parent) {
                return None;
            }
            disk.insert(parent.to_owned(), "/755".to_owned());
        }
        let stays = text.starts_with('/') && is_directory(disk, path);
        if !stays {
            remove(disk, path);
        }
        made.insert(path.clone());
        disk.insert(path.clone(), text);
    }
    Some(())
}

fn modes_and_texts(built: &Built) -> Disk {
    let directory = |id: DirectoryId| format!("/{:o}", built.tree.directory(id).attributes.mode);
    built
        .listing()
        .into_iter()
        .map(|(path, text)| {
            let path = path.trim_start_matches('/').to_owned();
            let text = match built.node(&path) {
                Node::Directory(id) => directory(id),
                Node::Leaf(..) => text,
            };
            (path, text)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn one_layer_is_what_an_engine_unpacks(layer in proptest::collection::vec(step(), 0..25)) {
        let mut disk = Disk::new();
        let unpacked = unpack(&mut disk, &layer);
        let built = build(layer.iter().map(entry_of).collect());
        match (unpacked, built) {
            (Some(()), Ok(built)) => prop_assert_eq!(modes_and_texts(&built), disk),
            (Some(()), Err(TreeError::Empty { .. })) => prop_assert!(disk.is_empty()),
            (Some(()), Err(error)) => prop_assert!(false, "{}", error),
            // Links to later entries are more than the model can do.
            (None, Ok(_)) => prop_assert!(layer.iter().any(|step| matches!(step, Step::Hardlink(..)))),
            (None, Err(_)) => {}
        }
    }

    #[test]
    fn several_layers_are_what_an_engine_unpacks(
        layers in proptest::collection::vec(proptest::collection::vec(step(), 0..8), 1..5),
        with_parents: bool,
    ) {
        // Links that cross layers are another test's; entries twice in a layer are, too.
        let well_formed = |layer| well_formed(layer, with_parents);
        let layers: Vec<Vec<Step>> = layers.into_iter().map(well_formed).collect();
        let mut disk = Disk::new();
        for layer in &layers {
            prop_assert!(unpack(&mut disk, layer).is_some());
        }
        let top_first = layers.iter().rev().map(|layer| layer.iter().map(entry_of).collect());
        match build_layers(sysext(), top_first.collect()) {
            Ok(built) => prop_assert_eq!(modes_and_texts(&built), disk),
            Err(TreeError::Empty { .. }) => prop_assert!(disk.len() <= 1),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

/// The layer as engines write them: no links, each path once, every parent described before its
/// children, or none that need not be.
fn well_formed(layer: Vec<Step>, with_parents: bool) -> Vec<Step> {
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    let mut result = Vec::new();
    for step in layer {
        let path = match &step {
            Step::Hardlink(..) => continue,
            Step::File(path, _)
            | Step::Directory(path, _)
            | Step::Symlink(path, _)
            | Step::Whiteout(path) => path.clone(),
            Step::Opaque(path) => format!("{path}/x"),
        };
        if parents(&path).any(|parent| seen.get(parent) == Some(&false)) {
            continue;
        }
        for parent in parents(&path) {
            if seen.insert(parent.to_owned(), true).is_none() && with_parents {
                result.push(Step::Directory(parent.to_owned(), 0o755));
            }
        }
        match &step {
            Step::Whiteout(_) | Step::Opaque(_) => {}
            _ if seen.contains_key(&path) => continue,
            other => {
                let is_directory = matches!(other, Step::Directory(..));
                seen.insert(path, is_directory);
            }
        }
        result.push(step);
    }
    result
}
