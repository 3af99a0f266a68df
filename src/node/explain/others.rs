//! Whether systemd gets as far as merging at all: one image that it cannot activate keeps it from
//! merging any.

use std::path::PathBuf;

use super::image::Image;
use super::search_path::{entries, opened};
use super::{Condition, Outcome, Question, Target};

impl Question<'_> {
    /// Whether another image blocks the merge of all.
    pub(super) fn look_at_others(&self, conditions: &mut Vec<Condition>) {
        let condition = Condition::new("others");
        conditions.push(match self.first_blocker() {
            None => condition,
            Some((path, why)) => condition.blocked(format!(
                "nothing merges until {} is removed: {why}",
                path.display()
            )),
        });
    }

    /// The first other image that blocks, and why. Folders are not looked at; they have neither
    /// partitions nor a policy.
    fn first_blocker(&self) -> Option<(PathBuf, String)> {
        let layout = &self.node.layout;
        let mut seen = vec![self.image_name()];
        for entry in entries(layout, self.kind, self.systemd) {
            if seen.contains(&entry.name) {
                continue;
            }
            seen.push(entry.name.clone());
            if entry.is_folder || self.is_target(&entry) {
                continue;
            }
            let target = Target {
                path: opened(layout, &entry.path),
                seen_as: entry.path.clone(),
            };
            let Ok(image) = Image::read(self.policy, self.kind, self.systemd, &target) else {
                continue;
            };
            let other = Question {
                settings: self.settings.clone(),
                target: &target,
                image,
                ..*self
            };
            let mut conditions = Vec::new();
            other.look_at_image(&mut conditions);
            let blocking = |condition: &&Condition| condition.outcome == Outcome::Blocks;
            if let Some(condition) = conditions.iter().find(blocking) {
                return Some((entry.path, condition.because()));
            }
        }
        None
    }
}
