//! Links of the documents lead somewhere, and the book has all documents.
//!
//! Nothing is asked of the network: of addresses only the form is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// Documents outside of the book.
const OUTSIDE: [&str; 4] = [
    "README.md",
    "CHANGELOG.md",
    "examples/README.md",
    "benches/README.md",
];

const BOOK: &str = "docs";
const SUMMARY: &str = "docs/SUMMARY.md";

/// The pages of the book, without its table of contents.
fn pages() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(BOOK).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "md"))
        .filter(|path| path != Path::new(SUMMARY))
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<PathBuf> = OUTSIDE.iter().map(PathBuf::from).collect();
    documents.push(SUMMARY.into());
    documents.extend(pages());
    documents
}

/// A document without what stands in code blocks and code spans.
fn prose(document: &str) -> String {
    let mut prose = String::new();
    let mut inside = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            let spans = line.split('`').step_by(2);
            prose += &format!("{}\n", spans.collect::<Vec<_>>().join("`"));
        }
    }
    assert!(!inside, "a code block has no end");
    prose
}

/// Targets of links and of pictures.
fn links(document: &str) -> Vec<String> {
    let link =
        Regex::new(r#"\]\(([^()\s]+)(?: "[^"]*")?\)|(?:src|srcset|href)="([^"]+)""#).unwrap();
    let prose = prose(document);
    let found = link.captures_iter(&prose);
    found
        .map(|link| {
            let target = link.get(1).or(link.get(2)).unwrap();
            target.as_str().to_owned()
        })
        .collect()
}

/// The names that headings can be linked by, as forges and mdBook make them.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut inside = false;
    for line in document.lines() {
        inside ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if inside || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor: String = heading
            .trim()
            .chars()
            .filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter))
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .flat_map(char::to_lowercase)
            .collect();
        let before = uses.entry(anchor.clone()).or_default();
        anchors.insert(match *before {
            0 => anchor,
            before => format!("{anchor}-{before}"),
        });
        *before += 1;
    }
    anchors
}

/// The path without `.` and `..`; none if it leads out of the repository.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir if resolved.pop() => (),
            Component::CurDir => (),
            _ => return None,
        }
    }
    Some(resolved)
}

/// What is wrong with a link that stands in `document`.
fn fault(document: &Path, link: &str) -> Option<String> {
    if let Some((scheme, rest)) = link.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        let sound = scheme == "https" && host.contains('.') && !link.contains(['<', '>', '…']);
        return (!sound).then(|| "no address of the form https://HOST/…".to_owned());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => document.to_owned(),
        path => match resolved(&document.parent().unwrap().join(path)) {
            Some(target) if target.exists() => target,
            _ => return Some("no such file".to_owned()),
        },
    };
    if document.starts_with(BOOK) && !target.starts_with(BOOK) {
        return Some("leads out of the book: name the file instead".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let known = anchors(&fs::read_to_string(&target).unwrap());
    (!known.contains(anchor)).then(|| format!("no such heading; there are {known:?}"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = String::new();
    let mut seen = 0;
    for document in documents() {
        for link in links(&fs::read_to_string(&document).unwrap()) {
            seen += 1;
            if let Some(fault) = fault(&document, &link) {
                faults += &format!("{}: {link}: {fault}\n", document.display());
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
    assert!(seen > 100, "{seen} links: are they still found?");
}

#[test]
fn the_book_has_every_document_once() {
    let mut listed: Vec<PathBuf> = links(&fs::read_to_string(SUMMARY).unwrap())
        .iter()
        .map(|link| Path::new(BOOK).join(link))
        .collect();
    listed.sort();
    assert_eq!(listed, pages().into_iter().collect::<Vec<_>>());
}

#[test]
fn chapters_are_called_alike_in_the_table_of_contents() {
    let chapter = Regex::new(r"\[(.+)\]\((.+)\)").unwrap();
    for found in chapter.captures_iter(&fs::read_to_string(SUMMARY).unwrap()) {
        let page = fs::read_to_string(Path::new(BOOK).join(&found[2])).unwrap();
        let title = page.lines().next().unwrap_or_default();
        assert_eq!(title, format!("# {}", &found[1]), "{}", &found[2]);
    }
}

#[test]
fn links_are_found_outside_of_code_alone() {
    let document =
        "[a](b.md#c) `[d](e)` ![f](g.svg \"h\")\n```sh\n[i](j)\n```\n<img src=\"k.svg\">\n";
    assert_eq!(links(document), ["b.md#c", "g.svg", "k.svg"]);
}

#[test]
fn headings_have_the_anchors_of_forges() {
    let document = "# What is `this`?\n## A, b\n## A, b\n```sh\n# no heading\n```\n#none\n";
    let expected = ["a-b", "a-b-1", "what-is-this"].map(str::to_owned);
    assert_eq!(anchors(document), BTreeSet::from(expected));
}

#[test]
fn what_leads_nowhere_is_told() {
    let page = Path::new("docs/node.md");
    for link in [
        "nothing.md",
        "#no-such-heading",
        "../README.md",
        "../../x",
        "http://a.b/c",
        "https://c",
    ] {
        assert!(fault(page, link).is_some(), "{link}");
    }
    for link in [
        "verify.md",
        "#configuration",
        "verify.md#checks",
        "https://a.b/c",
    ] {
        assert_eq!(fault(page, link), None, "{link}");
    }
}
