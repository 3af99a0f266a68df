//! The page of one image.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use maud::{Markup, html};

use crate::erofs::FileType;
use crate::inspection::{Facts, FileFacts, SignatureFacts, is_provenance};

use super::frame::{Page, Section};
use super::map::{Colours, Map};
use super::partitions;
use super::tables::{self, Column, Tile};
use super::tree::{Leaf, Node, State, grow};
use super::words::{base_name, count, size, things, visible};

/// How many of the largest files are named, apart from those on the map.
const LARGEST: usize = 100;
/// How many files with special rights are named.
const SPECIAL: usize = 100;
/// How many layers are named.
const LAYERS: usize = 200;
/// Where `sysgraft sysext` records the digests of layers, separated by spaces.
const LAYERS_KEY: &str = "SYSGRAFT_LAYERS";
/// Set user id and set group id (inode(7)).
const SET_ID: u16 = 0o6000;

/// The page of one image.
pub fn of_image(facts: &Facts) -> String {
    let tree = grow(facts.files.iter().map(leaf));
    let mut sections = Vec::new();
    let mut rules = String::new();
    let mut section = |id, heading, content| {
        sections.push(Section {
            id,
            heading,
            content,
        });
    };
    let maps = tree.as_ref().map(|root| Maps::of(facts, root));
    match &maps {
        Some(maps) => {
            rules.clone_from(&maps.rules);
            section("map", "Content by size", maps.map.clone());
        }
        None => section(
            "map",
            "Content by size",
            html! { p { "No file has any content." } },
        ),
    }
    section("origin", "Release file and origin", origin(facts));
    section("protection", "Protection", protection(facts));
    section("partitions", "Partitions", partitions_section(facts));
    if let Some(special) = special_rights(facts) {
        section("rights", "Special rights", special);
    }
    if let Some(maps) = maps {
        section("folders", "Folders", maps.folders);
        section("files", "Largest files", maps.files);
    }
    Page {
        title: title(facts),
        header: header(facts),
        sections,
        rules,
        made_from: visible(base_name(&facts.path)),
    }
    .render()
}

fn title(facts: &Facts) -> String {
    let name = facts.name.as_deref().unwrap_or(base_name(&facts.path));
    match facts.kind {
        Some(kind) => format!("{} ({kind}) – sysgraft", visible(name)),
        None => format!("{} – sysgraft", visible(name)),
    }
}

fn leaf(file: &FileFacts) -> Leaf<'_> {
    Leaf {
        path: &file.path,
        was: file.content_bytes,
        is: file.content_bytes,
        state: State::Same,
    }
}

/// What kind of extension it is, in words.
pub fn kind(facts: &Facts) -> &'static str {
    match facts.kind {
        Some("sysext") => "System extension",
        Some("confext") => "Configuration extension",
        _ => "Image without release file",
    }
}

/// The version that an extension says it has.
pub fn version(facts: &Facts) -> Option<&str> {
    let keys = ["SYSEXT_VERSION_ID", "CONFEXT_VERSION_ID", "IMAGE_VERSION"];
    let mut versions = keys.iter().filter_map(|&key| facts.release.get(key));
    versions.next().map(String::as_str)
}

fn header(facts: &Facts) -> Markup {
    let name = facts.name.as_deref().unwrap_or(base_name(&facts.path));
    html! {
        p.overline { (kind(facts)) }
        h1 {
            (visible(name))
            @if let Some(version) = version(facts) { " " span.version { (visible(version)) } }
        }
        p.subtitle { code { (visible(base_name(&facts.path))) } " · " (size(facts.size)) }
        (tables::tiles(&[
            Tile {
                term: "Signature",
                value: signature_state(facts),
                note: signature_note(facts),
            },
            content_tile(facts),
            compression_tile(facts),
            Tile {
                term: "Runs on",
                value: html! { (architecture(facts)) },
                note: html! { "Linux " (facts.file_system.minimum_kernel) " or newer" },
            },
        ]))
    }
}

fn content_tile(facts: &Facts) -> Tile {
    let is_file = |file: &&FileFacts| file.inode.file_type == FileType::File;
    let files = facts.files.iter().filter(is_file).count();
    Tile {
        term: "Content",
        value: html! { (size(facts.content_bytes())) },
        note: html! { "in " (things(files as u64, "file", "files")) },
    }
}

fn compression_tile(facts: &Facts) -> Tile {
    let file_system = &facts.file_system;
    Tile {
        term: "Compression",
        value: html! {
            @if file_system.compression.is_empty() { "none" }
            @else { (file_system.compression.join(" and ")) }
        },
        note: html! { "content to image " (format!("{:.2}", file_system.ratio)) " : 1" },
    }
}

fn architecture(facts: &Facts) -> String {
    let types = facts.partitions.iter().filter_map(|one| one.partition_type);
    match types.map(|kind| kind.architecture).next() {
        Some(architecture) => architecture.to_string(),
        None => "unknown".to_owned(),
    }
}

/// Whether the signature is good, as a word with a mark.
pub fn signature_state(facts: &Facts) -> Markup {
    let (class, mark, word) = match &facts.signature {
        Some(signature) if signature.valid && signature.objections.is_empty() => {
            ("good", "✓", "valid")
        }
        Some(signature) if signature.valid => ("doubtful", "!", "not for every host"),
        Some(_) => ("bad", "✗", "not valid"),
        None if facts.awaits_signature => ("doubtful", "!", "still to come"),
        None => ("doubtful", "!", "none"),
    };
    html! { span class=(class) { span aria-hidden="true" { (mark) " " } (word) } }
}

fn signature_note(facts: &Facts) -> Markup {
    let signer = facts.signature.as_ref().and_then(|by| by.signer.as_ref());
    html! {
        @match signer {
            Some(signer) => { "by " (visible(signer)) },
            None => { "nobody vouches for it" },
        }
    }
}

fn origin(facts: &Facts) -> Markup {
    let (provenance, release): (Vec<_>, Vec<_>) = facts
        .release
        .iter()
        .partition(|(key, _)| is_provenance(key));
    html! {
        div.columns {
            div {
                h3 { "Release file" }
                @if let Some(problem) = &facts.release_problem {
                    p.bad { "It could not be read: " (visible(problem)) }
                }
                @else if release.is_empty() { p { "It says nothing." } }
                (fields(&release))
            }
            div {
                h3 { "Where the content came from" }
                @if provenance.is_empty() {
                    p.quiet { "The image does not say." }
                }
                (fields(&provenance))
            }
        }
    }
}

fn fields(fields: &[(&String, &String)]) -> Markup {
    if fields.is_empty() {
        return html! {};
    }
    html! {
        dl.facts {
            @for &(key, value) in fields {
                dt { code { (visible(key)) } }
                dd {
                    @if key == LAYERS_KEY { (layers(value)) } @else { (visible(value)) }
                }
            }
        }
    }
}

fn layers(value: &str) -> Markup {
    let more = value.split_whitespace().skip(LAYERS).count();
    html! {
        ol {
            @for layer in value.split_whitespace().take(LAYERS) {
                li { code { (visible(layer)) } }
            }
        }
        @if more > 0 { p.note { "and " (count(more as u64)) " more" } }
    }
}

fn protection(facts: &Facts) -> Markup {
    let mut list: Vec<(&str, Markup)> = Vec::new();
    list.push((
        "Root hash",
        match &facts.root_hash {
            Some(root_hash) => html! { code { (root_hash) } },
            None => html! { "none: the image has no hash tree" },
        },
    ));
    if let Some(verity) = &facts.verity {
        list.push(("Hash tree", html! {
            "over " (things(verity.data_blocks, "block", "blocks")) ", salt " code { (verity.salt) }
        }));
    }
    list.push(("Signature", signature_state(facts)));
    if let Some(signature) = &facts.signature {
        list.extend(signature_facts(signature));
    }
    html! {
        (tables::facts(&list))
        p.note {
            "Valid means: made over this root hash by the certificate that the image brings along. "
            "Whether every block is as the root hash says, and whether that certificate deserves trust, "
            "is what " code { "sysgraft verify" } " proves."
        }
    }
}

fn signature_facts(signature: &SignatureFacts) -> Vec<(&'static str, Markup)> {
    let mut list = Vec::new();
    if let Some(problem) = &signature.problem {
        list.push(("Problem", html! { span.bad { (visible(problem)) } }));
    }
    for objection in &signature.objections {
        list.push((
            "Not for every host",
            html! { span.doubtful { (visible(objection)) } },
        ));
    }
    if let Some(signer) = &signature.signer {
        list.push(("Signer", html! { (visible(signer)) }));
    }
    if let Some(fingerprint) = &signature.certificate_fingerprint {
        list.push(("Certificate", html! { code { "sha256:" (fingerprint) } }));
    }
    if let Some(not_after) = &signature.not_after {
        list.push(("Valid until", html! { (visible(not_after)) }));
    }
    list
}

fn partitions_section(facts: &Facts) -> Markup {
    html! {
        (partitions::bar(facts, facts.size))
        (partitions::table(facts))
        p.note {
            "Disk " code { (facts.disk_guid) } ", partition tables: " (facts.partition_tables)
            ". File system " (facts.file_system.kind) " " code { (facts.file_system.uuid) } ", "
            (things(facts.file_system.inodes, "inode", "inodes")) "."
        }
    }
}

/// What acts on the host with more rights than a plain file.
fn special_rights(facts: &Facts) -> Option<Markup> {
    let word = |file: &FileFacts| match file.inode.file_type {
        FileType::File if file.inode.mode & SET_ID == SET_ID => Some("sets user and group"),
        FileType::File if file.inode.mode & SET_ID == 0o4000 => Some("sets user"),
        FileType::File if file.inode.mode & SET_ID == 0o2000 => Some("sets group"),
        FileType::CharDevice | FileType::BlockDevice => Some("device"),
        _ => None,
    };
    let all = facts
        .files
        .iter()
        .filter_map(|file| Some((file, word(file)?)));
    let all: Vec<(&FileFacts, &str)> = all.collect();
    if all.is_empty() {
        return None;
    }
    Some(html! {
        (tables::table(
            "Files that run with the rights of their owner or group, and devices",
            &[
                Column::Words("Path"),
                Column::Words("What"),
                Column::Words("Mode"),
                Column::Number("Owner"),
            ],
            &html! {
                @for (file, word) in all.iter().take(SPECIAL) {
                    tr {
                        th scope="row" { (visible(&file.path)) }
                        td { (word) }
                        td { code { (file.mode) } }
                        td.number { (file.uid) ":" (file.gid) }
                    }
                }
            },
        ))
        @if all.len() > SPECIAL {
            p.note { "and " (count((all.len() - SPECIAL) as u64)) " more" }
        }
    })
}

/// What is drawn and listed of the tree.
struct Maps {
    map: Markup,
    rules: String,
    folders: Markup,
    files: Markup,
}

impl Maps {
    fn of(facts: &Facts, root: &Node<'_>) -> Maps {
        let map = Map::of(root);
        let folders = map.folders();
        let files = largest(facts, &map);
        let mut rows: HashMap<&str, String> = HashMap::new();
        for (number, folder) in folders.iter().enumerate() {
            rows.insert(folder.path, tables::folder_row(number));
        }
        for (number, file) in files.iter().enumerate() {
            rows.insert(&file.path, file_row(number));
        }
        let drawn = map.draw(&rows, Colours::Groups);
        Maps {
            map: html! {
                p.note {
                    "The area of each rectangle is the size of a file or folder before compression. Each "
                    "is a link to its row in the tables below. "
                    a href="#origin" { "Skip the map" }
                }
                (drawn.markup)
            },
            rules: drawn.rules,
            folders: tables::folders(&folders, root),
            files: files_table(&files, root),
        }
    }
}

fn file_row(number: usize) -> String {
    format!("file-{number}")
}

/// The largest files, and whatever else is on the map, the largest first.
fn largest<'a>(facts: &'a Facts, map: &Map<'_, 'a>) -> Vec<&'a FileFacts> {
    let on_map: HashSet<&str> = map.files().iter().map(|node| node.path).collect();
    let mut files: Vec<&FileFacts> = facts.files.iter().collect();
    files.retain(|file| file.content_bytes > 0);
    files.sort_by_key(|file| (Reverse(file.content_bytes), file.path.as_str()));
    let mut number = 0;
    files.retain(|file| {
        number += 1;
        number <= LARGEST || on_map.contains(file.path.as_str())
    });
    files
}

fn files_table(files: &[&FileFacts], root: &Node<'_>) -> Markup {
    let named = files.iter().map(|file| file.content_bytes);
    let bytes = root.is.saturating_sub(named.fold(0, u64::saturating_add));
    html! {
        (tables::table(
            "The largest files, sizes before compression",
            &[
                Column::Words("Path"),
                Column::Words("Mode"),
                Column::Number("Owner"),
                Column::Number("Size"),
                Column::Share("Share"),
            ],
            &html! {
                @for (number, file) in files.iter().enumerate() {
                    tr id=(file_row(number)) {
                        th scope="row" { (visible(&file.path)) }
                        td { code { (file.mode) } }
                        td.number { (file.uid) ":" (file.gid) }
                        td.number { (size(file.size)) }
                        td.share {
                            (tables::bar(file.size, root.is)) (tables::share(file.size, root.is))
                        }
                    }
                }
            },
        ))
        (tables::rest(root.files.saturating_sub(files.len() as u64), bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inspection::FileSystemFacts;

    fn facts(release: &[(&str, &str)]) -> Facts {
        let pairs = release
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        Facts {
            path: "build/a.sysext.raw".to_owned(),
            size: 4096,
            disk_guid: String::new(),
            partition_tables: "both intact",
            partitions: Vec::new(),
            root_hash: None,
            verity: None,
            signature: Some(SignatureFacts {
                root_hash: String::new(),
                certificate_fingerprint: None,
                valid: true,
                signer: Some("CN=<script>alert(1)</script>".to_owned()),
                not_after: None,
                problem: None,
                objections: vec!["<b>".to_owned()],
            }),
            awaits_signature: false,
            kind: Some("sysext"),
            name: Some("a\"><script>".to_owned()),
            release: pairs.collect::<BTreeMap<_, _>>(),
            release_problem: None,
            file_system: FileSystemFacts {
                kind: "erofs",
                uuid: String::new(),
                blocks: 1,
                inodes: 1,
                ratio: 0.0,
                compression: Vec::new(),
                minimum_kernel: "5.4".to_owned(),
            },
            files: Vec::new(),
        }
    }

    #[test]
    fn the_origin_stands_apart_from_the_release_file() {
        let page = of_image(&facts(&[
            ("ID", "_any"),
            ("SYSEXT_VERSION_ID", "1.30"),
            ("SYSGRAFT_IMAGE", "docker://registry.example/k3s:1.30"),
            ("SYSGRAFT_LAYERS", "sha256:aa sha256:bb"),
        ]));
        let (release, origin) = page.split_once("Where the content came from").unwrap();
        assert!(release.contains("_any") && !release.contains("registry.example"));
        assert!(origin.contains("docker://registry.example/k3s:1.30"));
        assert!(origin.contains("<li><code>sha256:aa</code></li><li><code>sha256:bb</code></li>"));
        assert!(page.contains("<span class=\"version\">1.30</span>"));
        assert!(!page.contains("The image does not say."));
    }

    #[test]
    fn what_an_image_says_is_text_and_nothing_else() {
        let layers = "<script> ".repeat(1000);
        let page = of_image(&facts(&[("<script>", "<script>"), (LAYERS_KEY, &layers)]));
        assert!(!page.contains("<script") && !page.contains("<b>"));
        assert!(page.contains("CN=&lt;script&gt;") && page.contains("not for every host"));
        assert!(page.contains("and 800 more"));
    }
}
