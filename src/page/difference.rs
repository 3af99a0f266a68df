//! The page of what became of an image.

use std::cmp::Reverse;
use std::collections::HashMap;

use maud::{Markup, html};

use crate::inspection::{ChangedFile, Difference, Facts, FieldDifference, FileFacts};

use super::frame::{Page, Section};
use super::image::{kind, signature_state, version};
use super::map::{Colours, Map};
use super::partitions;
use super::tables::{self, Column, Tile};
use super::tree::{Leaf, State, grow};
use super::words::{base_name, count, growth, size, visible};

/// How many files each table names.
const NAMED: usize = 200;
/// The field that stands in the header already.
const SIZE: &str = "size";
/// Words are shorter than digests and UUIDs.
const MIN_DIGEST: usize = 32;

/// The page of what became of image `a`, which is image `b` now.
pub fn of_difference(a: &Facts, b: &Facts, difference: &Difference) -> String {
    let files = &difference.files;
    let (from, to) = file_names(a, b);
    let added = Listed::of(&files.added, "added", |file| &file.path, |file| file.size);
    let removed = Listed::of(
        &files.removed,
        "removed",
        |file| &file.path,
        |file| file.size,
    );
    let changed = Listed::of(
        &files.changed,
        "changed",
        |file| &file.path,
        |file| file.a.size.max(file.b.size),
    );
    let leaves = leaves(a, b, difference);
    let tree = grow(leaves);
    let mut sections = vec![Section {
        id: "fields",
        heading: "What the images say",
        content: fields(difference),
    }];
    let mut section = |id, heading, content| {
        sections.push(Section {
            id,
            heading,
            content,
        });
    };
    let mut rules = String::new();
    let mut folders = None;
    if let Some(root) = &tree {
        let mut rows = HashMap::new();
        let map = Map::of(root);
        let mut shown = map.folders();
        shown.retain(|folder| folder.state != State::Same);
        for (number, folder) in shown.iter().enumerate() {
            rows.insert(folder.path, tables::folder_row(number));
        }
        added.add_rows(&mut rows);
        removed.add_rows(&mut rows);
        changed.add_rows(&mut rows);
        let drawn = map.draw(&rows, Colours::States);
        rules = drawn.rules;
        section(
            "map",
            "What became of the content",
            map_section(&drawn.markup),
        );
        folders = Some(tables::folders_of_both(&shown));
    }
    section("partitions", "Partitions", partitions_section(a, b));
    if let Some(folders) = folders {
        section("folders", "Folders", folders);
    }
    section(
        "added",
        "Added",
        entries(&added, "Only in the second image"),
    );
    section(
        "removed",
        "Removed",
        entries(&removed, "Only in the first image"),
    );
    section("changed", "Changed", changes(&changed));
    Page {
        title: format!("{}: what changed – sysgraft", visible(name(b))),
        header: header(a, b, difference),
        sections,
        rules,
        made_from: format!("{} and {}", visible(from), visible(to)),
    }
    .render()
}

fn name(facts: &Facts) -> &str {
    facts.name.as_deref().unwrap_or(base_name(&facts.path))
}

/// What the image files are called; their paths if both have the same name.
fn file_names<'a>(a: &'a Facts, b: &'a Facts) -> (&'a str, &'a str) {
    match (base_name(&a.path), base_name(&b.path)) {
        (from, to) if from != to => (from, to),
        _ => (&a.path, &b.path),
    }
}

/// All files of both images; those with one path are one.
fn leaves<'a>(a: &'a Facts, b: &'a Facts, difference: &'a Difference) -> Vec<Leaf<'a>> {
    let files = &difference.files;
    let leaf = |file: &'a FileFacts, state| Leaf {
        path: &file.path,
        was: if state == State::Added {
            0
        } else {
            file.content_bytes
        },
        is: if state == State::Removed {
            0
        } else {
            file.content_bytes
        },
        state,
    };
    let mut leaves: HashMap<&[u8], Leaf<'a>> = HashMap::new();
    for file in b.files.iter().chain(&a.files) {
        let same = || leaf(file, State::Same);
        leaves.entry(&file.raw_path).or_insert_with(same);
    }
    for file in &files.added {
        leaves.insert(&file.raw_path, leaf(file, State::Added));
    }
    for file in &files.removed {
        leaves.insert(&file.raw_path, leaf(file, State::Removed));
    }
    for file in files.changed.iter().filter(|file| !file.is_only_time()) {
        leaves.insert(
            &file.b.raw_path,
            Leaf {
                path: &file.path,
                was: file.a.content_bytes,
                is: file.b.content_bytes,
                state: State::Changed,
            },
        );
    }
    leaves.into_values().collect()
}

fn header(a: &Facts, b: &Facts, difference: &Difference) -> Markup {
    html! {
        p.overline { (kind(b)) ": what changed" }
        h1 {
            (visible(name(b)))
            @if let (Some(from), Some(to)) = (version(a), version(b)) {
                " " span.version { (visible(from)) " → " (visible(to)) }
            }
        }
        p.subtitle {
            @let (from, to) = file_names(a, b);
            "from " code { (visible(from)) } " to " code { (visible(to)) }
        }
        @if difference.is_none() {
            p.verdict { span.good { span aria-hidden="true" { "✓ " } "The images are equal." } }
        }
        (tables::tiles(&[
            files_tile(difference),
            Tile {
                term: "Content",
                value: html! { (growth(a.content_bytes(), b.content_bytes())) },
                note: html! { (size(a.content_bytes())) " → " (size(b.content_bytes())) },
            },
            Tile {
                term: "Image",
                value: html! { (growth(a.size, b.size)) },
                note: html! { (size(a.size)) " → " (size(b.size)) },
            },
            signature_tile(a, b),
        ]))
    }
}

fn files_tile(difference: &Difference) -> Tile {
    let files = &difference.files;
    let changed = files
        .changed
        .iter()
        .filter(|file| !file.is_only_time())
        .count();
    let number = |number: usize| count(number as u64);
    Tile {
        term: "Files",
        value: html! {
            span.added-text { "+" (number(files.added.len())) } " "
            span.removed-text { "−" (number(files.removed.len())) } " "
            span.changed-text { "±" (number(changed)) }
        },
        note: html! { "added, removed, changed" },
    }
}

fn signature_tile(a: &Facts, b: &Facts) -> Tile {
    let signer = |facts: &Facts| facts.signature.as_ref().and_then(|by| by.signer.clone());
    let (was, is) = (signer(a), signer(b));
    Tile {
        term: "Signature",
        value: signature_state(b),
        note: html! {
            @match (&was, &is) {
                (Some(was), Some(is)) if was != is => {
                    "by " (visible(is)) ", was by " (visible(was))
                },
                (None, Some(is)) => { "by " (visible(is)) ", was by nobody" },
                (Some(was), None) => { "was by " (visible(was)) },
                (_, Some(is)) => { "by " (visible(is)) ", as before" },
                (None, None) => { "nobody vouches for either" },
            }
        },
    }
}

fn fields(difference: &Difference) -> Markup {
    let all: Vec<(&str, &FieldDifference)> = (difference.release.iter())
        .map(|field| ("release file", field))
        .chain(difference.image.iter().map(|field| ("image", field)))
        .filter(|(_, field)| field.name != SIZE)
        .collect();
    if all.is_empty() {
        return html! { p { "They say the same." } };
    }
    html! {
        div.fields {
            (tables::table(
                "Fields of the release file, and facts of the image, that differ",
                &[
                    Column::Words("Field"),
                    Column::Words("Of"),
                    Column::Words("Before"),
                    Column::Words("After"),
                ],
                &html! {
                    @for (of, field) in all {
                        tr {
                            th scope="row" { (visible(&field.name)) }
                            td { (of) }
                            td { (value(&field.a)) }
                            td { (value(&field.b)) }
                        }
                    }
                },
            ))
        }
    }
}

fn value(value: &Option<String>) -> Markup {
    html! {
        @match value {
            Some(value) if value.len() >= MIN_DIGEST && !value.contains(' ') => {
                code { (visible(value)) }
            },
            Some(value) => { (visible(value)) },
            None => { span.quiet { "none" } },
        }
    }
}

fn map_section(map: &Markup) -> Markup {
    html! {
        p.note {
            "The area of each rectangle is the size of a file or folder before compression, the larger "
            "of the two where it changed. " a href="#partitions" { "Skip the map" }
        }
        ul.legend {
            li { span.swatch.added {} "+ added" }
            li { span.swatch.removed {} "− removed" }
            li { span.swatch.changed {} "± changed, or something in it" }
            li { span.swatch.same {} "unchanged" }
        }
        (map)
    }
}

fn partitions_section(a: &Facts, b: &Facts) -> Markup {
    let whole = a.size.max(b.size);
    html! {
        h3 { "Before" }
        (partitions::bar(a, whole))
        h3 { "After" }
        (partitions::bar(b, whole))
        (partitions::table(b))
    }
}

/// What a table names, the largest first, and how much it does not name.
struct Listed<'a, T> {
    named: Vec<&'a T>,
    id: &'static str,
    path: fn(&T) -> &str,
    more: u64,
    more_bytes: u64,
}

impl<'a, T> Listed<'a, T> {
    fn of(
        all: &'a [T],
        id: &'static str,
        path: fn(&T) -> &str,
        bytes: fn(&T) -> u64,
    ) -> Listed<'a, T> {
        let mut named: Vec<&T> = all.iter().collect();
        named.sort_by_key(|file| Reverse(bytes(file)));
        let rest = named.split_off(named.len().min(NAMED));
        let more_bytes = rest.iter().map(|file| bytes(file));
        Listed {
            named,
            id,
            path,
            more: rest.len() as u64,
            more_bytes: more_bytes.fold(0, u64::saturating_add),
        }
    }

    fn row(&self, number: usize) -> String {
        format!("{}-{number}", self.id)
    }

    fn add_rows(&self, rows: &mut HashMap<&'a str, String>) {
        for (number, file) in self.named.iter().enumerate() {
            rows.insert((self.path)(file), self.row(number));
        }
    }
}

fn entries(list: &Listed<'_, FileFacts>, caption: &str) -> Markup {
    if list.named.is_empty() {
        return html! { p { "None." } };
    }
    html! {
        (tables::table(
            &format!("{caption}, the largest first"),
            &[
                Column::Words("Path"),
                Column::Words("Type"),
                Column::Words("Mode"),
                Column::Number("Owner"),
                Column::Number("Size"),
            ],
            &html! {
                @for (number, file) in list.named.iter().enumerate() {
                    tr id=(list.row(number)) {
                        th scope="row" {
                            (visible(&file.path))
                            @if let Some(target) = &file.target { " → " (visible(target)) }
                        }
                        td { (file.kind) }
                        td { code { (file.mode) } }
                        td.number { (file.uid) ":" (file.gid) }
                        td.number { (size(file.size)) }
                    }
                }
            },
        ))
        (tables::rest(list.more, list.more_bytes))
    }
}

fn changes(list: &Listed<'_, ChangedFile>) -> Markup {
    if list.named.is_empty() {
        return html! { p { "None." } };
    }
    html! {
        (tables::table(
            "In both images, and not the same, the largest first",
            &[
                Column::Words("Path"),
                Column::Words("What changed"),
                Column::Number("Before"),
                Column::Number("After"),
                Column::Number("Growth"),
            ],
            &html! {
                @for (number, file) in list.named.iter().enumerate() {
                    tr id=(list.row(number)) {
                        th scope="row" { (visible(&file.path)) }
                        td { (what_changed(file)) }
                        td.number { (size(file.a.size)) }
                        td.number { (size(file.b.size)) }
                        td.number { (growth(file.a.size, file.b.size)) }
                    }
                }
            },
        ))
        (tables::rest(list.more, list.more_bytes))
    }
}

fn what_changed(file: &ChangedFile) -> String {
    let words = file
        .changes
        .iter()
        .map(|aspect| aspect.words(&file.a, &file.b));
    visible(&words.collect::<Vec<_>>().join(", "))
}
