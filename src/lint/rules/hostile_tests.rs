//! What is made to take long, to take much memory, or to be out of reach.

use super::tests::{Tree, fires, host, judge, judge_as, judge_beside, tree};
use crate::extension::ExtensionKind;
use crate::lint::{Code, FilesError, Policy, Subject, lint};

/// A program that needs libraries, and looks for them in folders.
fn program(needed: &[String], search: &str) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    let entries = needed.len() as u64 + 3;
    let strings_at = HEADERS + entries * 16;
    let mut strings = vec![0];
    let mut dynamic: Vec<[u64; 2]> = vec![[5, strings_at]];
    let texts = needed.iter().map(|name| (1, name.as_str()));
    for (tag, text) in texts.chain([(29, search)]) {
        dynamic.push([tag, strings.len() as u64]);
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
    }
    dynamic.push([0, 0]);
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (file[16], file[18], file[20]) = (2, 62, 1);
    (file[32], file[52], file[54], file[56]) = (64, 64, 56, 2);
    let size = strings_at + strings.len() as u64;
    for (kind, offset, size) in [(1u64, 0, size), (2, HEADERS, entries * 16)] {
        for field in [kind, offset, offset, offset, size, size, 1] {
            file.extend_from_slice(&field.to_le_bytes());
        }
    }
    for field in dynamic.into_iter().flatten() {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(&strings);
    file
}

fn names(count: usize, length: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{number:0>length$}"))
        .collect()
}

fn with_program(program: Vec<u8>) -> Tree {
    tree().file("usr/bin/x", 0o755, program)
}

#[test]
fn names_of_a_program_take_bounded_memory() {
    let usual = judge(&with_program(program(&names(100, 200), "/usr/lib/x")));
    assert!(usual.contains(&Code::HostNeeded), "{usual:?}");
    for (count, length) in [(3000, 200), (1, 300)] {
        let large = judge(&with_program(program(&names(count, length), "")));
        fires(Code::UnreadableContent, &large, &usual);
    }
}

#[test]
fn search_folders_do_not_grow_with_their_origin() {
    let search = format!("$ORIGIN{}", "/$ORIGIN".repeat(1000));
    let long = "d".repeat(200);
    let at = format!("usr/{long}/{long}/{long}/x");
    let deep = tree().file(&at, 0o755, program(&names(2, 10), &search));
    fires(Code::HostNeeded, &judge(&deep), &judge(&tree()));
}

#[test]
fn the_folders_of_the_host_are_looked_at_among_many() {
    let many: Vec<String> = (0..400).map(|number| format!("/usr/a/{number}")).collect();
    let mut tree = with_program(program(&["libx.so.1".to_owned()], &many.join(":")));
    for folder in &many {
        tree = tree.file(&format!("{}/x", &folder[1..]), 0o644, "");
    }
    let host = host().file("usr/lib/libx.so.1", 0o644, program(&[], ""));
    let found = judge_beside(&tree, &host);
    assert!(!found.contains(&Code::MissingLibrary), "{found:?}");
}

#[test]
fn links_are_followed_for_a_bounded_time() {
    let mut tree = tree().file("usr/d/x", 0o644, "");
    for number in 0..200 {
        let target = format!("{}l{}", "d/../".repeat(800), number + 1);
        tree = tree.link(&format!("usr/l{number}"), &target);
    }
    let found = judge(&tree);
    fires(Code::JudgedInPart, &found, &judge(&tree_of_few()));
    // What was not followed is not called dangling.
    assert!(!found.contains(&Code::OutsideLink), "{found:?}");
}

fn tree_of_few() -> Tree {
    tree().link("usr/share/tool/link", "data")
}

#[test]
fn long_paths_take_bounded_memory() {
    let deep = vec!["d".repeat(250); 15].join("/");
    let mut tree = tree();
    for number in 0..400 {
        tree = tree.file(&format!("usr/{deep}/{number}"), 0o644, "");
    }
    let subject = Subject {
        kind: ExtensionKind::Sysext,
        architecture: None,
        files: &tree,
        image: None,
        complete: false,
        base: None,
    };
    let refused = lint(subject, &Policy::default());
    assert!(matches!(refused, Err(FilesError::TooLarge { .. })));
}

#[test]
fn what_may_not_be_read_is_told_and_not_judged() {
    let closed = tree().closed("usr/lib/tool");
    fires(Code::UnreadableContent, &judge(&closed), &judge(&tree()));
    let link = tree().link("usr/bin/x", "/root/x");
    let locked = host().closed("root");
    let beside = judge_beside(&link, &locked);
    fires(
        Code::UnreadableContent,
        &beside,
        &judge_beside(&link, &host()),
    );
    assert!(!beside.contains(&Code::DanglingLink), "{beside:?}");
    let rules = tree().file("usr/share/polkit-1/rules.d/x.rules", 0o644, "");
    let host = host().closed("usr/share/polkit-1/rules.d");
    let findings = judge_as(ExtensionKind::Sysext, &rules, Some(&host), false);
    assert!(findings.counts().contains_key(&Code::UnreadableContent));
    let program = with_program(program(
        &["liby.so".to_owned()],
        "/usr/share/polkit-1/rules.d",
    ));
    let found = judge_beside(&program, &host);
    assert!(!found.contains(&Code::MissingLibrary), "{found:?}");
}
