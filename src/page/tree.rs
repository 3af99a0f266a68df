//! Content as a tree of folders with the sum of what lies below each.

use std::collections::BTreeMap;

/// What became of something between two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is as it was; so is all in a page about one image.
    Same,
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
    /// It differs, or something below it does.
    Changed,
}

impl State {
    /// What it is together with something of another state.
    pub fn with(self, other: State) -> State {
        if self == other { self } else { State::Changed }
    }
}

/// A file with content.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// Absolute.
    pub path: &'a str,
    /// Bytes in the first image.
    pub was: u64,
    /// Bytes in the second image, or in the only one.
    pub is: u64,
    /// What became of it.
    pub state: State,
}

/// A file, or a folder with all below it.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its path from the node above, of several components where folders hold nothing but a folder.
    pub name: &'a str,
    /// Absolute.
    pub path: &'a str,
    /// How much room it deserves: for each file the larger one of its two sizes.
    pub weight: u64,
    /// Bytes in the first image.
    pub was: u64,
    /// Bytes in the second image, or in the only one.
    pub is: u64,
    /// How many files it is.
    pub files: u64,
    /// What became of it.
    pub state: State,
    /// What is in it, the largest first; nothing in a file.
    pub children: Vec<Node<'a>>,
}

impl Node<'_> {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        !self.children.is_empty()
    }
}

/// The tree of all files that have content; none if there are none.
pub fn grow<'a>(leaves: impl IntoIterator<Item = Leaf<'a>>) -> Option<Node<'a>> {
    let mut root = Bud::default();
    for leaf in leaves {
        if leaf.was.max(leaf.is) > 0 {
            root.insert(leaf);
        }
    }
    (!root.children.is_empty()).then(|| root.into_node("/", 0))
}

/// A node whose children are still to come.
#[derive(Default)]
struct Bud<'a> {
    children: BTreeMap<&'a str, Bud<'a>>,
    /// A path may be a file in one image and a folder in the other.
    leaf: Option<Leaf<'a>>,
}

impl<'a> Bud<'a> {
    fn insert(&mut self, leaf: Leaf<'a>) {
        let mut bud = self;
        for (slash, _) in leaf.path.match_indices('/').skip(1) {
            bud = bud.children.entry(&leaf.path[..slash]).or_default();
        }
        bud.children.entry(leaf.path).or_default().leaf = Some(leaf);
    }

    /// `above` is the length of the path of the node above it, with the slash behind.
    fn into_node(mut self, mut path: &'a str, above: usize) -> Node<'a> {
        while self.leaf.is_none() && self.children.len() == 1 {
            match self.children.pop_first() {
                Some((only, bud)) if !bud.children.is_empty() && bud.leaf.is_none() => {
                    path = only;
                    self = bud;
                }
                Some((only, bud)) => {
                    self.children.insert(only, bud);
                    break;
                }
                None => break,
            }
        }
        let name = &path[above.min(path.len())..];
        let below = if path == "/" { 1 } else { path.len() + 1 };
        let mut children: Vec<Node<'a>> = self
            .children
            .into_iter()
            .map(|(path, bud)| bud.into_node(path, below))
            .collect();
        let own = self.leaf.map(|leaf| Node {
            name,
            path: leaf.path,
            weight: leaf.was.max(leaf.is),
            was: leaf.was,
            is: leaf.is,
            files: 1,
            state: leaf.state,
            children: Vec::new(),
        });
        if children.is_empty()
            && let Some(file) = own
        {
            return file;
        }
        children.extend(own);
        children.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.path.cmp(b.path)));
        let sum = |of: fn(&Node<'a>) -> u64| children.iter().map(of).fold(0, u64::saturating_add);
        let states = children.iter().map(|child| child.state);
        Node {
            name,
            path,
            weight: sum(|child| child.weight),
            was: sum(|child| child.was),
            is: sum(|child| child.is),
            files: sum(|child| child.files),
            state: states.reduce(State::with).unwrap_or(State::Same),
            children,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(path: &str, was: u64, is: u64) -> Leaf<'_> {
        let state = match (was, is) {
            (0, _) => State::Added,
            (_, 0) => State::Removed,
            (was, is) if was == is => State::Same,
            _ => State::Changed,
        };
        Leaf {
            path,
            was,
            is,
            state,
        }
    }

    #[test]
    fn folders_sum_up_what_is_below() {
        let root = grow([
            leaf("/usr/lib/a/x", 5, 5),
            leaf("/usr/lib/a/y", 7, 9),
            leaf("/usr/bin/z", 0, 50),
            leaf("/usr/bin/empty", 0, 0),
        ])
        .unwrap();
        assert_eq!((root.name, root.path), ("/usr", "/usr"));
        assert_eq!((root.was, root.is, root.weight), (12, 64, 64));
        assert_eq!((root.files, root.state), (3, State::Changed));
        let names: Vec<_> = root.children.iter().map(|child| child.name).collect();
        assert_eq!(names, ["bin", "lib/a"]);
        assert_eq!(root.children[0].state, State::Added);
        assert_eq!(root.children[1].children[0].name, "y");
    }

    #[test]
    fn a_file_that_became_a_folder_is_both() {
        let root = grow([leaf("/usr/a", 3, 0), leaf("/usr/a/b", 0, 4)]).unwrap();
        assert_eq!((root.was, root.is, root.files), (3, 4, 2));
    }

    #[test]
    fn nothing_has_no_tree() {
        assert!(grow([leaf("/usr/empty", 0, 0)]).is_none());
        let one = grow([leaf("/x", 1, 1)]).unwrap();
        assert_eq!((one.path, one.children[0].name), ("/", "x"));
    }
}
