//! The promises of a store, on trees of all kinds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::node::layout::DEFAULT_STATE_DIR;
use crate::node::profile::Profile;

struct Place {
    root: TempDir,
    store: Store,
}

impl Place {
    fn with(files: &[&str]) -> Place {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path(), DEFAULT_STATE_DIR);
        let store = Store::new(layout, ExtensionKind::Sysext);
        fs::create_dir_all(store.path()).unwrap();
        for file in files {
            fs::write(store.path().join(file), file).unwrap();
        }
        Place { root, store }
    }

    fn profile(&self, profile: Profile) -> PathBuf {
        self.store.layout().profile(ExtensionKind::Sysext, profile)
    }

    fn files(&self) -> Vec<String> {
        let view = self.store.view().unwrap();
        let files = view.artefacts.iter();
        files.map(|artefact| artefact.file.to_string()).collect()
    }

    fn links(&self) -> Vec<ProfileLink> {
        self.store.view().unwrap().links
    }
}

fn link(profile: Profile, link: &str, target: Option<&str>) -> LinkChange {
    LinkChange {
        profile,
        link: link.to_owned(),
        target: target.map(str::to_owned),
    }
}

fn links(changes: Vec<LinkChange>) -> Change {
    Change {
        links: changes,
        ..Change::default()
    }
}

#[test]
fn looking_creates_nothing() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path(), DEFAULT_STATE_DIR);
    let view = Store::new(layout, ExtensionKind::Confext).view().unwrap();
    assert!(view.artefacts.is_empty() && view.links.is_empty());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn links_are_relative_unless_the_profile_lies_elsewhere() {
    let place = Place::with(&["a.raw"]);
    let elsewhere = place.root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, place.profile(Profile::Active)).unwrap();
    let both = [Profile::Active, Profile::Common];
    let change = links(
        both.map(|profile| link(profile, "a.raw", Some("a.raw")))
            .into(),
    );
    place.store.lock().unwrap().commit(&change).unwrap();
    let content = |profile| fs::read_link(place.profile(profile).join("a.raw")).unwrap();
    assert_eq!(content(Profile::Common), Path::new("../a.raw"));
    let of_node = Path::new("/var/lib/kairos/extensions/a.raw");
    assert_eq!(content(Profile::Active), of_node);
    let view = place.store.view().unwrap();
    assert_eq!(view.profiles_of("a.raw").collect::<Vec<_>>(), both);
}

#[test]
fn links_of_kairos_agent_count_and_those_that_lead_elsewhere_do_not() {
    let place = Place::with(&["a.raw", "b.raw"]);
    let folder = place.profile(Profile::Passive);
    fs::create_dir(&folder).unwrap();
    for (name, target) in [
        ("a.raw", "/var/lib/kairos/extensions/a.raw"),
        ("b.raw", "/etc/passwd"),
        ("c.raw", "../../confexts/c.raw"),
        ("d.raw", "../sub/../a.raw"),
        ("gone.raw", "../gone.raw"),
    ] {
        symlink(target, folder.join(name)).unwrap();
    }
    let targets: Vec<_> = place.links().into_iter().map(|link| link.target).collect();
    let expected = [Some("a.raw"), None, None, None, Some("gone.raw")];
    assert_eq!(targets, expected.map(|target| target.map(str::to_owned)));
}

#[test]
fn a_symlinked_store_is_used_where_it_is() {
    let place = Place::with(&[]);
    let elsewhere = place.root.path().join("data");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("a.raw"), "a").unwrap();
    fs::remove_dir(place.store.path()).unwrap();
    symlink("/data", place.store.path()).unwrap();
    let change = links(vec![link(Profile::Common, "a.raw", Some("a.raw"))]);
    place.store.lock().unwrap().commit(&change).unwrap();
    let there = fs::read(elsewhere.join("common/a.raw")).unwrap();
    assert_eq!(there, b"a");
    assert_eq!(place.links().len(), 1);
}

#[test]
fn what_cannot_be_used_is_told_and_costs_nothing_else() {
    let place = Place::with(&[
        "good.raw",
        "with space.raw",
        "new\nline.raw",
        "esc\x1b[2J.raw",
    ]);
    fs::create_dir(place.store.path().join("folder.raw")).unwrap();
    symlink("/etc/passwd", place.store.path().join("out.raw")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.store.path().join("pipe.raw"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    fs::write(place.profile(Profile::Active), "no folder").unwrap();
    let view = place.store.view().unwrap();
    assert_eq!(place.files(), ["good.raw"]);
    assert_eq!(view.passed_over.len(), 7, "{:?}", view.passed_over);
}

#[test]
fn nothing_is_decided_that_could_not_be_finished() {
    let place = Place::with(&["a.raw"]);
    fs::create_dir_all(place.profile(Profile::Common).join("a.raw")).unwrap();
    fs::create_dir(place.store.path().join("folder.raw")).unwrap();
    let staged = place.store.staging().join("new.proved");
    let placed = |file: &str| Change {
        placed: vec![Placement {
            staged: "new.proved".to_owned(),
            file: file.to_owned(),
        }],
        ..Change::default()
    };
    let impossible = [
        links(vec![link(Profile::Common, "a.raw", Some("a.raw"))]),
        links(vec![link(Profile::Common, "../a.raw", None)]),
        placed("folder.raw"),
        placed("../out.raw"),
        Change {
            removed: vec!["folder.raw".to_owned()],
            ..Change::default()
        },
        Change {
            removed: vec!["../../x".to_owned()],
            ..Change::default()
        },
    ];
    for change in impossible {
        let mut locked = place.store.lock().unwrap();
        fs::write(&staged, "new").unwrap();
        let error = locked.commit(&change).unwrap_err();
        assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
        assert_eq!(place.store.pending().unwrap(), None);
    }
}

#[test]
fn a_decided_change_whose_file_was_taken_away_is_finished_all_the_same() {
    let place = Place::with(&["a.raw"]);
    drop(place.store.lock().unwrap());
    let change = Change {
        placed: vec![Placement::of("gone.raw")],
        links: vec![
            link(Profile::Common, "gone.raw", Some("gone.raw")),
            link(Profile::Common, "a.raw", Some("a.raw")),
        ],
        ..Change::default()
    };
    let journal = serde_json::to_vec(&change).unwrap();
    fs::write(place.store.notes().join("journal.json"), journal).unwrap();
    place.store.lock().unwrap();
    assert_eq!(place.store.pending().unwrap(), None);
    assert_eq!(place.links().len(), 2);
    assert_eq!(place.files(), ["a.raw"]);
}

#[test]
fn a_journal_that_leads_out_of_the_store_is_refused() {
    let place = Place::with(&["a.raw"]);
    drop(place.store.lock().unwrap());
    let victim = place.root.path().join("var/lib/kairos/precious");
    fs::write(&victim, "precious").unwrap();
    let change = Change {
        removed: vec!["../precious".to_owned()],
        ..Change::default()
    };
    let journal = serde_json::to_vec(&change).unwrap();
    fs::write(place.store.notes().join("journal.json"), journal).unwrap();
    let error = place.store.lock().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(place.store.view().is_err());
    assert!(victim.exists());
}

#[test]
fn what_dead_programs_left_is_cleared_away_and_what_is_resumable_stays() {
    let place = Place::with(&[]);
    drop(place.store.lock().unwrap());
    let left = [
        place.store.notes().join(".#journal.json.7.0"),
        place.store.staging().join("a.raw.proved"),
    ];
    let kept = place.store.staging().join("0123.0.partial");
    for path in left.iter().chain([&kept]) {
        fs::write(path, "x").unwrap();
    }
    drop(place.store.lock().unwrap());
    assert!(!left.iter().any(|path| path.exists()));
    assert!(kept.exists());
}

#[test]
fn a_file_that_was_swapped_has_no_proof() {
    let place = Place::with(&["a.raw"]);
    let mut locked = place.store.lock().unwrap();
    let view = locked.view().unwrap();
    let record = Record {
        name: "a".parse().unwrap(),
        version: None,
        file: view.artefacts[0].identity,
        digest: crate::digest::Digest::of(b"a.raw"),
        root_hash: None,
        source: String::new(),
        // The clock may have been ahead when it was noted.
        installed: Moment(u64::MAX),
        proof: Proof::Unsigned {
            verified: Moment(u64::MAX),
        },
        restart_units: Vec::new(),
        reload_or_restart_units: Vec::new(),
        declared_by: None,
        failed: None,
    };
    let mut change = Change::default();
    change.records.artefacts.insert("a.raw".to_owned(), record);
    locked.commit(&change).unwrap();
    assert!(locked.view().unwrap().artefacts[0].record.is_some());
    fs::remove_file(place.store.path().join("a.raw")).unwrap();
    fs::write(place.store.path().join("a.raw"), "b.raw").unwrap();
    let artefact = locked.view().unwrap().artefacts.remove(0);
    assert!(artefact.record.is_none() && artefact.was_changed);
}

#[test]
fn every_commit_can_be_told_from_the_one_before() {
    let place = Place::with(&["a.raw"]);
    let mut locked = place.store.lock().unwrap();
    for expected in 1..4 {
        locked.commit(&Change::default()).unwrap();
        assert_eq!(locked.view().unwrap().records.changes, expected);
    }
}

const FILES: [&str; 4] = ["a_1.raw", "a_2.raw", "b.raw", "c.raw"];

fn any_change() -> impl Strategy<Value = Change> {
    let profile = prop::sample::select(Profile::ALL.to_vec());
    let file = prop::sample::select(FILES.to_vec());
    let change = (profile, file.clone(), prop::option::of(file.clone()));
    let changes = prop::collection::vec(change, 0..6);
    let removed = prop::collection::btree_set(file.clone(), 0..2);
    let placed = prop::collection::btree_set(file, 0..2);
    (changes, removed, placed).prop_map(|(changes, removed, placed)| Change {
        placed: placed.into_iter().map(Placement::of).collect(),
        links: changes
            .into_iter()
            .map(|(profile, name, target)| link(profile, name, target))
            .collect(),
        removed: removed.into_iter().map(str::to_owned).collect(),
        ..Change::default()
    })
}

fn seen(store: &Store) -> (Vec<(String, u64)>, Vec<ProfileLink>) {
    let view = store.view().unwrap();
    let files = view.artefacts.iter();
    let files = files.map(|artefact| (artefact.file.to_string(), artefact.identity.size));
    (files.collect(), view.links)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Readers, and whoever comes after a crash, see a decided change as made: before its first step,
    /// after its last one, and when it is made a second time.
    #[test]
    fn a_decided_change_looks_made_at_once(history in prop::collection::vec(any_change(), 1..5)) {
        let place = Place::with(&["a_1.raw", "b.raw"]);
        for (number, change) in history.iter().enumerate() {
            drop(place.store.lock().unwrap());
            for placement in &change.placed {
                let staged = place.store.staging().join(&placement.staged);
                fs::write(staged, "x".repeat(number + 10)).unwrap();
            }
            let journal = place.store.notes().join("journal.json");
            let bytes = serde_json::to_vec(change).unwrap();
            fs::write(&journal, &bytes).unwrap();
            let decided = seen(&place.store);
            drop(place.store.lock().unwrap());
            let made = seen(&place.store);
            prop_assert_eq!(&decided, &made);
            fs::write(&journal, &bytes).unwrap();
            prop_assert_eq!(&seen(&place.store), &made);
            drop(place.store.lock().unwrap());
            prop_assert_eq!(&seen(&place.store), &made);
        }
    }
}
