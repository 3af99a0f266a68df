//! The map of the content: a treemap whose every cell is a link to a row of a table.

use std::collections::HashMap;
use std::fmt::Write;

use maud::{Markup, html};

use super::tree::{Node, State};
use super::treemap::{CANVAS, Cell, Shows, lay_out};
use super::words::{base_name, growth, percent, size, things, visible};

/// How many colours there are for groups.
const COLOURS: usize = 7;

/// From what the colour of a cell comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// From the topmost folder.
    Groups,
    /// From what became of it.
    States,
}

/// A treemap, and what its cells stand for.
pub struct Map<'t, 'a> {
    root: &'t Node<'a>,
    cells: Vec<Cell<'t, 'a>>,
}

/// A treemap as HTML.
pub struct Drawn {
    /// The map.
    pub markup: Markup,
    /// Where its cells lie, as style rules: the page's policy forbids style attributes.
    pub rules: String,
}

impl<'t, 'a> Map<'t, 'a> {
    /// The map of a tree.
    pub fn of(root: &'t Node<'a>) -> Map<'t, 'a> {
        Map {
            root,
            cells: lay_out(root),
        }
    }

    /// The folders that are shown, in byte order of their paths.
    pub fn folders(&self) -> Vec<&'t Node<'a>> {
        let mut folders = self.nodes(true);
        folders.sort_by_key(|node| node.path);
        folders
    }

    /// The files that are shown by themselves.
    pub fn files(&self) -> Vec<&'t Node<'a>> {
        self.nodes(false)
    }

    fn nodes(&self, folders: bool) -> Vec<&'t Node<'a>> {
        let nodes = self.cells.iter().filter_map(|cell| match cell.shows {
            Shows::Frame(node) | Shows::Whole(node) => Some(node),
            Shows::Rest { .. } => None,
        });
        nodes.filter(|node| node.is_folder() == folders).collect()
    }

    /// Draws it. `rows` has the ids of table rows by path; a file without one is linked to the row of
    /// the folder that it is shown in.
    pub fn draw(&self, rows: &HashMap<&str, String>, colours: Colours) -> Drawn {
        let mut rules = String::new();
        for (number, cell) in self.cells.iter().enumerate() {
            rules.push_str(&rule(number, cell));
        }
        let mut above = self.root;
        let markup = html! {
            ul.map .states[colours == Colours::States] {
                @for (number, cell) in self.cells.iter().enumerate() {
                    @let row = row(rows, cell, &mut above);
                    li id={ "m" (number) } class=(class(cell, colours)) {
                        a href={ "#" (row.unwrap_or("folders")) } {
                            span.label aria-hidden="true" {
                                span.name { (self.label(cell, colours)) } " "
                                span.size { (size(cell.shows.weight())) }
                            }
                            span.tip { (self.tip(cell, colours)) }
                        }
                    }
                }
            }
        };
        Drawn { markup, rules }
    }

    fn label(&self, cell: &Cell<'_, '_>, colours: Colours) -> String {
        let name = match cell.shows {
            Shows::Frame(node) => visible(node.name),
            Shows::Whole(node) if node.is_folder() => format!("{}/", visible(node.name)),
            Shows::Whole(node) => visible(base_name(node.path)),
            Shows::Rest { files, .. } => format!("{} more", super::words::count(files)),
        };
        match (colours, cell.shows.state()) {
            (Colours::Groups, _) | (_, State::Same) => name,
            (_, State::Added) => format!("+ {name}"),
            (_, State::Removed) => format!("− {name}"),
            (_, State::Changed) => format!("± {name}"),
        }
    }

    /// What is said of a cell that is pointed at, has the focus, or is read out.
    fn tip(&self, cell: &Cell<'_, '_>, colours: Colours) -> String {
        let (what, files) = match cell.shows {
            Shows::Frame(node) | Shows::Whole(node) if node.is_folder() => (
                format!("{}/", visible(node.path).trim_end_matches('/')),
                Some(node.files),
            ),
            Shows::Frame(node) | Shows::Whole(node) => (visible(node.path), None),
            Shows::Rest { folder, files, .. } => (
                format!("the smallest in {}", visible(folder.path)),
                Some(files),
            ),
        };
        let mut tip = format!("{what}: {}", size(cell.shows.weight()));
        if let Some(files) = files {
            tip = format!("{tip} in {}", things(files, "file", "files"));
        }
        if colours == Colours::Groups {
            let share = percent(cell.shows.weight(), self.root.weight);
            return format!("{tip}, {share:.1} % of all");
        }
        match (cell.shows.state(), cell.shows) {
            (State::Same, _) => format!("{tip}, unchanged"),
            (State::Added, _) => format!("{tip}, added"),
            (State::Removed, _) => format!("{tip}, removed"),
            (State::Changed, Shows::Frame(node) | Shows::Whole(node)) => {
                format!("{tip}, changed, {}", growth(node.was, node.is))
            }
            (State::Changed, Shows::Rest { .. }) => format!("{tip}, some changed"),
        }
    }
}

/// The row that a cell links to. `above` is the frame that was last seen.
fn row<'r, 't, 'a>(
    rows: &'r HashMap<&str, String>,
    cell: &Cell<'t, 'a>,
    above: &mut &'t Node<'a>,
) -> Option<&'r str> {
    let found = match cell.shows {
        Shows::Frame(node) => {
            *above = node;
            rows.get(node.path)
        }
        Shows::Whole(node) => rows.get(node.path).or_else(|| rows.get(above.path)),
        Shows::Rest { folder, .. } => rows.get(folder.path),
    };
    found.map(String::as_str)
}

fn class(cell: &Cell<'_, '_>, colours: Colours) -> String {
    let kind = match cell.shows {
        Shows::Frame(_) => "frame",
        Shows::Whole(_) => "whole",
        Shows::Rest { .. } => "rest",
    };
    match colours {
        Colours::Groups => match cell.group {
            Some(group) => format!("{kind} g{}", group % COLOURS),
            None => kind.to_owned(),
        },
        Colours::States => {
            let state = match cell.shows.state() {
                State::Same => "same",
                State::Added => "added",
                State::Removed => "removed",
                State::Changed => "changed",
            };
            format!("{kind} {state}")
        }
    }
}

/// Vertical places are exact, horizontal ones go with the width of the page.
fn rule(number: usize, cell: &Cell<'_, '_>) -> String {
    let rect = cell.rect;
    let part = |pixels: f64| 100.0 * pixels / CANVAS.width;
    let mut rule = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        rule,
        "#m{number}{{left:{:.3}%;top:{:.1}px;width:{:.3}%;height:{:.1}px}}",
        part(rect.left),
        rect.top,
        part(rect.width),
        rect.height
    );
    rule
}

impl Shows<'_, '_> {
    fn weight(&self) -> u64 {
        match self {
            Shows::Frame(node) | Shows::Whole(node) => node.weight,
            Shows::Rest { bytes, .. } => *bytes,
        }
    }

    fn state(&self) -> State {
        match self {
            Shows::Frame(node) | Shows::Whole(node) => node.state,
            Shows::Rest { state, .. } => *state,
        }
    }
}
