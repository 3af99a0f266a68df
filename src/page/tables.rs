//! Tables, lists and figures that several pages have.

use maud::{Markup, html};

use super::tree::Node;
use super::words::{count, growth, percent, size, visible};

/// A number that everybody should see, with what it is.
pub struct Tile {
    /// What it is.
    pub term: &'static str,
    /// The number, or a word.
    pub value: Markup,
    /// More about it.
    pub note: Markup,
}

/// Figures side by side.
pub fn tiles(tiles: &[Tile]) -> Markup {
    html! {
        dl.tiles {
            @for tile in tiles {
                div {
                    dt { (tile.term) }
                    dd.value { (tile.value) }
                    dd.note { (tile.note) }
                }
            }
        }
    }
}

/// Terms and what they are.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (term, value) in facts {
                dt { (term) }
                dd { (value) }
            }
        }
    }
}

/// A bar that is so many hundredths long; what it shows also stands beside it in digits.
pub fn bar(part: u64, whole: u64) -> Markup {
    let width = format!("{:.2}", percent(part, whole).clamp(0.0, 100.0));
    html! {
        svg.bar aria-hidden="true" viewBox="0 0 100 8" preserveAspectRatio="none" {
            rect.track x="0" y="0" width="100" height="8" {}
            rect x="0" y="0" width=(width) height="8" {}
        }
    }
}

/// The head of a column.
pub enum Column {
    /// Of words.
    Words(&'static str),
    /// Of numbers, which stand below each other digit by digit.
    Number(&'static str),
    /// Of bars with numbers.
    Share(&'static str),
}

/// A table, which can be moved sideways where it is wider than the window. `rows` are its `tr`s.
pub fn table(caption: &str, columns: &[Column], rows: &Markup) -> Markup {
    html! {
        div.scroll role="group" tabindex="0" {
            table {
                caption { (caption) }
                thead {
                    tr {
                        @for column in columns {
                            @match column {
                                Column::Words(head) => { th scope="col" { (head) } }
                                Column::Number(head) => { th.number scope="col" { (head) } }
                                Column::Share(head) => { th.share scope="col" { (head) } }
                            }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

/// The id of the row of a folder in [`folders`].
pub fn folder_row(number: usize) -> String {
    format!("folder-{number}")
}

/// Folders with the sum of what is in them. `root` is all there is.
pub fn folders(folders: &[&Node<'_>], root: &Node<'_>) -> Markup {
    table(
        "Folders of the map, with all that is below them",
        &[
            Column::Words("Folder"),
            Column::Number("Files"),
            Column::Number("Size"),
            Column::Share("Share"),
        ],
        &html! {
            @for (number, folder) in folders.iter().enumerate() {
                tr id=(folder_row(number)) {
                    th scope="row" { (visible(folder.path)) }
                    td.number { (count(folder.files)) }
                    td.number { (size(folder.is)) }
                    td.share { (bar(folder.is, root.is)) (share(folder.is, root.is)) }
                }
            }
        },
    )
}

/// The same for two images.
pub fn folders_of_both(folders: &[&Node<'_>]) -> Markup {
    table(
        "Folders of the map, with all that is below them",
        &[
            Column::Words("Folder"),
            Column::Number("Before"),
            Column::Number("After"),
            Column::Number("Growth"),
        ],
        &html! {
            @for (number, folder) in folders.iter().enumerate() {
                tr id=(folder_row(number)) {
                    th scope="row" { (visible(folder.path)) }
                    td.number { (size(folder.was)) }
                    td.number { (size(folder.is)) }
                    td.number { (growth(folder.was, folder.is)) }
                }
            }
        },
    )
}

/// A share with one digit behind the point.
pub fn share(part: u64, whole: u64) -> Markup {
    html! { span { (format!("{:.1} %", percent(part, whole))) } }
}

/// What a table does not name, if there is something.
pub fn rest(files: u64, bytes: u64) -> Markup {
    html! {
        @if files > 0 {
            p.note {
                "Not named: " (super::words::things(files, "more", "more")) ", together "
                (size(bytes)) "."
            }
        }
    }
}
