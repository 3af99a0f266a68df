//! A tree as rectangles within rectangles, each as large as what it stands for.
//!
//! The algorithm is that of Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000): rows are filled
//! along the shorter side as long as that makes their rectangles more like squares.

use super::tree::{Node, State};

/// What the rectangles are laid out for, in CSS pixels. The page gives the map this height, and
/// whatever width there is.
pub const CANVAS: Rect = Rect {
    left: 0.0,
    top: 0.0,
    width: 1080.0,
    height: 620.0,
};
/// Pixels above the content of a folder, for its name.
const HEADING: f64 = 22.0;
/// Pixels around the content of a folder.
const PADDING: f64 = 3.0;
/// A folder in less room than this is not divided.
const MIN_FRAME: (f64, f64) = (84.0, 64.0);
/// Folders are divided down to this depth.
const MAX_DEPTH: usize = 5;
/// In fewer square pixels nothing is shown by itself. This bounds the number of cells.
const MIN_AREA: f64 = 700.0;
/// In fewer square pixels not even the sum of what is small is shown.
const MIN_REST: f64 = 40.0;

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// A rectangle that stands for something.
#[derive(Debug)]
pub struct Cell<'t, 'a> {
    pub rect: Rect,
    pub shows: Shows<'t, 'a>,
    /// Number of the topmost folder that it lies in, from which its colour comes; none for what lies
    /// above all of them.
    pub group: Option<usize>,
}

/// What a rectangle stands for.
#[derive(Clone, Copy, Debug)]
pub enum Shows<'t, 'a> {
    /// A folder whose content is shown on it.
    Frame(&'t Node<'a>),
    /// A folder or file as a whole.
    Whole(&'t Node<'a>),
    /// What is too small to be shown, of a folder.
    Rest {
        folder: &'t Node<'a>,
        bytes: u64,
        files: u64,
        state: State,
    },
}

/// The rectangles of a tree, each before those that lie on it.
pub fn lay_out<'t, 'a>(root: &'t Node<'a>) -> Vec<Cell<'t, 'a>> {
    let mut cells = Vec::new();
    place(&mut cells, root, CANVAS, 0, None);
    cells
}

fn place<'t, 'a>(
    cells: &mut Vec<Cell<'t, 'a>>,
    node: &'t Node<'a>,
    rect: Rect,
    depth: usize,
    group: Option<usize>,
) {
    let (width, height) = MIN_FRAME;
    let is_frame = node.is_folder()
        && depth < MAX_DEPTH
        && (depth == 0 || rect.width >= width && rect.height >= height);
    if !is_frame {
        let shows = Shows::Whole(node);
        return cells.push(Cell { rect, shows, group });
    }
    let shows = Shows::Frame(node);
    cells.push(Cell { rect, shows, group });
    let room = rect.below_heading();
    let scale = room.area() / node.weight.max(1) as f64;
    let area = |child: &Node<'_>| child.weight as f64 * scale;
    let large = (node.children).partition_point(|child| area(child) >= MIN_AREA);
    let (mut shown, mut rest) = node.children.split_at(large);
    if rest.iter().map(area).sum::<f64>() < MIN_REST {
        rest = &[];
    } else if rest.len() == 1 {
        // It needs no more room by itself.
        (shown, rest) = (&node.children, &[]);
    }
    let mut areas: Vec<f64> = shown.iter().map(area).collect();
    if !rest.is_empty() {
        areas.push(rest.iter().map(area).sum());
    }
    let rects = squarify(&areas, room);
    for (number, (child, rect)) in shown.iter().zip(&rects).enumerate() {
        // Where one folder is nearly everything, colours are for what is in it.
        let is_nearly_all = child.is_folder() && child.weight / 4 > node.weight / 5;
        let own = (!is_nearly_all).then_some(number);
        place(cells, child, *rect, depth + 1, group.or(own));
    }
    if let (false, Some(&rect)) = (rest.is_empty(), rects.last()) {
        let shows = sum_up(node, rest);
        cells.push(Cell { rect, shows, group });
    }
}

fn sum_up<'t, 'a>(folder: &'t Node<'a>, rest: &[Node<'a>]) -> Shows<'t, 'a> {
    let sum = |of: fn(&Node<'_>) -> u64| rest.iter().map(of).fold(0, u64::saturating_add);
    let states = rest.iter().map(|node| node.state);
    Shows::Rest {
        folder,
        bytes: sum(|node| node.weight),
        files: sum(|node| node.files),
        state: states.reduce(State::with).unwrap_or(State::Same),
    }
}

/// Divides `room` in proportion to `areas`, which are best sorted with the largest first.
fn squarify(areas: &[f64], mut room: Rect) -> Vec<Rect> {
    let sum: f64 = areas.iter().sum();
    let scale = room.area() / sum.max(f64::MIN_POSITIVE);
    let areas: Vec<f64> = areas.iter().map(|area| area * scale).collect();
    let mut rects = Vec::with_capacity(areas.len());
    let mut rest = areas.as_slice();
    while !rest.is_empty() {
        let side = room.width.min(room.height);
        let mut length = 1;
        while length < rest.len() && worst(&rest[..=length], side) <= worst(&rest[..length], side) {
            length += 1;
        }
        let (row, others) = rest.split_at(length);
        rects.extend(room.cut_off(row));
        rest = others;
    }
    rects
}

/// How much longer than wide the least square rectangle of a row along `side` is.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let thickness = sum / side.max(f64::MIN_POSITIVE);
    let ratios = row.iter().map(|area| {
        let length = area / thickness.max(f64::MIN_POSITIVE);
        let ratio = length / thickness.max(f64::MIN_POSITIVE);
        ratio.max(1.0 / ratio.max(f64::MIN_POSITIVE))
    });
    ratios.fold(1.0, f64::max)
}

impl Rect {
    fn area(self) -> f64 {
        self.width * self.height
    }

    fn below_heading(self) -> Rect {
        Rect {
            left: self.left + PADDING,
            top: self.top + HEADING,
            width: (self.width - 2.0 * PADDING).max(0.0),
            height: (self.height - HEADING - PADDING).max(0.0),
        }
    }

    /// Takes a row of rectangles away along the shorter side.
    fn cut_off(&mut self, row: &[f64]) -> Vec<Rect> {
        let sum: f64 = row.iter().sum();
        let is_wide = self.width >= self.height;
        let side = self.width.min(self.height);
        let thickness = if side > 0.0 { sum / side } else { 0.0 };
        let mut at = 0.0;
        let rects = row.iter().map(|area| {
            let length = if sum > 0.0 { side * area / sum } else { 0.0 };
            let rect = if is_wide {
                Rect {
                    left: self.left,
                    top: self.top + at,
                    width: thickness,
                    height: length,
                }
            } else {
                Rect {
                    left: self.left + at,
                    top: self.top,
                    width: length,
                    height: thickness,
                }
            };
            at += length;
            rect
        });
        let rects = rects.collect();
        if is_wide {
            self.left += thickness;
            self.width = (self.width - thickness).max(0.0);
        } else {
            self.top += thickness;
            self.height = (self.height - thickness).max(0.0);
        }
        rects
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::tree::{Leaf, grow};

    #[test]
    fn the_example_of_the_paper_comes_out_as_in_the_paper() {
        let room = Rect {
            left: 0.0,
            top: 0.0,
            width: 6.0,
            height: 4.0,
        };
        let rects = squarify(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], room);
        let first = Rect {
            left: 0.0,
            top: 0.0,
            width: 3.0,
            height: 2.0,
        };
        assert_eq!(rects[0], first);
        assert_eq!(rects[1], Rect { top: 2.0, ..first });
        assert!((rects[2].left - 3.0).abs() < 1e-9 && (rects[2].height - 7.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn many_files_make_few_cells() {
        let paths: Vec<String> = (0..50_000)
            .map(|number| format!("/usr/{}/{}/{number}", number % 7, number % 900))
            .collect();
        let leaves = paths.iter().zip(1..).map(|(path, bytes)| Leaf {
            path,
            was: bytes,
            is: bytes,
            state: State::Same,
        });
        let root = grow(leaves).unwrap();
        let cells = lay_out(&root);
        assert!((8..1500).contains(&cells.len()), "{}", cells.len());
        let rests = cells.iter().filter_map(|cell| match cell.shows {
            Shows::Rest { files, .. } => Some(files),
            Shows::Whole(node) => Some(node.files),
            Shows::Frame(_) => None,
        });
        let rests: u64 = rests.sum();
        assert!((49_000..=50_000).contains(&rests), "{rests}");
    }

    #[test]
    fn colours_are_for_what_is_in_a_folder_that_is_nearly_all() {
        let sizes = [
            ("/usr/lib/a/x", 900),
            ("/usr/lib/b/x", 800),
            ("/usr/bin/x", 20),
        ];
        let root = grow(sizes.map(|(path, bytes)| Leaf {
            path,
            was: bytes,
            is: bytes,
            state: State::Same,
        }));
        let root = root.unwrap();
        let groups = lay_out(&root).into_iter().map(|cell| match cell.shows {
            Shows::Frame(node) | Shows::Whole(node) => (node.path, cell.group),
            Shows::Rest { folder, .. } => (folder.path, cell.group),
        });
        let groups: std::collections::HashMap<_, _> = groups.collect();
        assert_eq!(groups["/usr/lib"], None);
        assert_ne!(groups["/usr/lib/a/x"], groups["/usr/lib/b/x"]);
    }

    proptest! {
        #[test]
        fn rectangles_fill_the_room_in_proportion(mut areas in prop::collection::vec(1.0..1e12f64, 1..60)) {
            areas.sort_by(|a, b| b.total_cmp(a));
            let rects = squarify(&areas, CANVAS);
            prop_assert_eq!(rects.len(), areas.len());
            let scale = CANVAS.area() / areas.iter().sum::<f64>();
            for (rect, area) in rects.iter().zip(&areas) {
                prop_assert!((rect.area() - area * scale).abs() < 1e-3);
                prop_assert!(rect.left > -1e-6 && rect.left + rect.width < CANVAS.width + 1e-6);
                prop_assert!(rect.top > -1e-6 && rect.top + rect.height < CANVAS.height + 1e-6);
            }
        }
    }
}
