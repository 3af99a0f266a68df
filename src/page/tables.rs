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

/// The id of the row of a folder in [`folders`].
pub fn folder_row(number: usize) -> String {
    format!("folder-{number}")
}

/// Folders with the sum of what is in them. `root` is all there is.
pub fn folders(folders: &[&Node<'_>], root: &Node<'_>) -> Markup {
    html! {
        div.scroll role="group" tabindex="0" {
            table {
                caption { "Folders of the map, with all that is below them" }
                thead {
                    tr {
                        th scope="col" { "Folder" }
                        th.number scope="col" { "Files" }
                        th.number scope="col" { "Size" }
                        th.share scope="col" { "Share" }
                    }
                }
                tbody {
                    @for (number, folder) in folders.iter().enumerate() {
                        tr id=(folder_row(number)) {
                            th scope="row" { (visible(folder.path)) }
                            td.number { (count(folder.files)) }
                            td.number { (size(folder.is)) }
                            td.share { (bar(folder.is, root.is)) (share(folder.is, root.is)) }
                        }
                    }
                }
            }
        }
    }
}

/// The same for two images.
pub fn folders_of_both(folders: &[&Node<'_>]) -> Markup {
    html! {
        div.scroll role="group" tabindex="0" {
            table {
                caption { "Folders of the map, with all that is below them" }
                thead {
                    tr {
                        th scope="col" { "Folder" }
                        th.number scope="col" { "Before" }
                        th.number scope="col" { "After" }
                        th.number scope="col" { "Growth" }
                    }
                }
                tbody {
                    @for (number, folder) in folders.iter().enumerate() {
                        tr id=(folder_row(number)) {
                            th scope="row" { (visible(folder.path)) }
                            td.number { (size(folder.was)) }
                            td.number { (size(folder.is)) }
                            td.number { (growth(folder.was, folder.is)) }
                        }
                    }
                }
            }
        }
    }
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
