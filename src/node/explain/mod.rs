//! Why systemd would, or would not, merge an extension on a node: each condition that it looks at, in
//! its order.
//!
//! Sources: `src/sysext/sysext.c`, `src/shared/discover-image.c`, `src/shared/dissect-image.c`,
//! `src/shared/extension-util.c` and `src/basic/os-util.c` of systemd 252 to 262, and runs of 252, 257
//! and 262.

mod content;
mod image;
mod matching;
mod others;
mod policy_terms;
mod protection;
mod search_path;
mod settings;
mod target;

use std::fmt;

use serde::Serialize;

pub use target::{ExplainError, Target};

use super::Node;
use super::host::SystemdVersion;
use super::policy::Policy;
use crate::extension::ExtensionKind;
use image::Image;
use settings::Settings;

/// The systemd whose rules hold where that of a node is not known: the newest whose sources were read.
const NEWEST: SystemdVersion = SystemdVersion(262);

/// What becomes of an extension on a node, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The image.
    pub path: String,
    /// The name under which systemd finds it.
    pub name: String,
    /// `sysext` or `confext`.
    pub kind: String,
    /// Each condition, in the order in which systemd looks at them.
    pub conditions: Vec<Condition>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub conclusion: String,
}

/// One thing that systemd looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    pub subject: &'static str,
    /// What the host has, or demands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the extension has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Whether it holds.
    pub outcome: Outcome,
    /// What follows from that, or should be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It does.
    Holds,
    /// It does, but not as somebody may expect.
    Doubtful,
    /// Nobody looks, because of something else.
    Skipped,
    /// It does not, and systemd passes the extension over.
    Ignored,
    /// It does not, and systemd merges no extension at all.
    Blocks,
    /// It does not, because of another image for which systemd merges no extension at all.
    Blocked,
}

/// What becomes of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is merged.
    Merges,
    /// systemd passes it over and merges the others.
    Ignored,
    /// systemd merges none, because of another one.
    Blocked,
    /// systemd merges none, because of this one.
    Blocks,
}

/// Explains what would become of an extension on a node. Changes nothing, and needs no rights but to
/// read.
///
/// # Errors
/// [`ExplainError::Read`].
pub fn explain(
    node: &Node,
    policy: &Policy,
    kind: ExtensionKind,
    target: &Target,
) -> Result<Explanation, ExplainError> {
    let systemd = node.systemd.unwrap_or(NEWEST);
    let settings = Settings::read(&node.layout, kind, systemd);
    let image = Image::read(policy, kind, systemd, target)?;
    let question = Question {
        node,
        policy,
        kind,
        systemd,
        settings,
        target,
        image,
    };
    let mut conditions = Vec::new();
    question.look_at_systemd(&mut conditions);
    question.look_at_places(&mut conditions);
    // What systemd does not even see can do no harm.
    let is_seen = |condition: &Condition| condition.outcome != Outcome::Ignored;
    if conditions.iter().all(is_seen) {
        question.look_at_image(&mut conditions);
        question.look_at_content(&mut conditions);
        question.look_at_others(&mut conditions);
    }
    question.look_at_agent(&mut conditions);
    let name = question.image_name();
    let (verdict, conclusion) = conclude(&name, &conditions);
    Ok(Explanation {
        path: target.path.display().to_string(),
        name,
        kind: kind.to_string(),
        conditions,
        verdict,
        conclusion,
    })
}

/// Everything that the answer depends on.
struct Question<'a> {
    node: &'a Node,
    policy: &'a Policy,
    kind: ExtensionKind,
    systemd: SystemdVersion,
    settings: Settings,
    target: &'a Target,
    image: Image,
}

impl Question<'_> {
    /// The name that systemd gives the image, by that of its file.
    fn image_name(&self) -> String {
        search_path::image_name(&self.target.seen_as, self.kind, self.systemd)
            .unwrap_or_else(|| self.target.file_name())
    }

    fn look_at_systemd(&self, conditions: &mut Vec<Condition>) {
        let first = match self.kind {
            ExtensionKind::Sysext => SystemdVersion(248),
            ExtensionKind::Confext => SystemdVersion(254),
        };
        let condition = Condition::new("systemd").demands(format!("systemd-{}", self.kind));
        conditions.push(match self.node.systemd {
            None => condition.doubtful(format!(
                "it is not known which systemd the node has; the rules are those of {}",
                self.systemd
            )),
            Some(systemd) if systemd < first => condition.has(systemd).ignored(format!(
                "systemd merges {}s from {} on only",
                self.kind, first.0
            )),
            Some(systemd) => condition.has(systemd),
        });
    }

    /// All that may keep systemd from activating or taking the image, whatever else there is.
    fn look_at_image(&self, conditions: &mut Vec<Condition>) {
        self.look_at_form(conditions);
        self.look_at_policy(conditions);
        self.look_at_protection(conditions);
        self.look_at_file_system(conditions);
        self.look_at_name(conditions);
        self.look_at_release(conditions);
    }

    /// What this program would do with it, which may be less than systemd does.
    fn look_at_agent(&self, conditions: &mut Vec<Condition>) {
        let condition = Condition::new("sysgraft-agent");
        conditions.push(match &self.image.refusal {
            None => condition.has("would install and link it"),
            Some(refusal) => condition.doubtful(format!("would not let it in: {refusal}")),
        });
    }
}

/// What follows from all conditions. One that blocks counts more than one for which the extension
/// would be passed over, since systemd activates all images before it matches any.
fn conclude(name: &str, conditions: &[Condition]) -> (Verdict, String) {
    let first = |wanted: Outcome| {
        conditions
            .iter()
            .find(|condition| condition.outcome == wanted)
    };
    if let Some(condition) = first(Outcome::Blocks) {
        let why = condition.because();
        (
            Verdict::Blocks,
            format!("{name} will block the merge of all extensions ({why})"),
        )
    } else if let Some(condition) = first(Outcome::Ignored) {
        let why = condition.because();
        (Verdict::Ignored, format!("{name} will be ignored ({why})"))
    } else if let Some(condition) = first(Outcome::Blocked) {
        let why = condition.because();
        let conclusion = format!("{name} will not be merged ({why})");
        (Verdict::Blocked, conclusion)
    } else {
        (Verdict::Merges, format!("{name} will merge"))
    }
}

impl Condition {
    /// A condition that holds.
    fn new(subject: &'static str) -> Condition {
        Condition {
            subject,
            host: None,
            extension: None,
            outcome: Outcome::Holds,
            remark: None,
        }
    }

    fn demands(self, host: impl fmt::Display) -> Condition {
        Condition {
            host: Some(host.to_string()),
            ..self
        }
    }

    fn has(self, extension: impl fmt::Display) -> Condition {
        Condition {
            extension: Some(extension.to_string()),
            ..self
        }
    }

    fn with(self, outcome: Outcome, remark: impl Into<String>) -> Condition {
        Condition {
            outcome,
            remark: Some(remark.into()),
            ..self
        }
    }

    fn remarked(self, remark: impl Into<String>) -> Condition {
        let outcome = self.outcome;
        self.with(outcome, remark)
    }

    fn doubtful(self, remark: impl Into<String>) -> Condition {
        self.with(Outcome::Doubtful, remark)
    }

    fn skipped(self, remark: impl Into<String>) -> Condition {
        self.with(Outcome::Skipped, remark)
    }

    fn ignored(self, remark: impl Into<String>) -> Condition {
        self.with(Outcome::Ignored, remark)
    }

    fn blocked(self, remark: impl Into<String>) -> Condition {
        self.with(Outcome::Blocked, remark)
    }

    /// What is wrong, for a sentence that goes on.
    fn because(&self) -> String {
        let remark = self.remark.as_deref().unwrap_or("it does not hold");
        format!("{}: {remark}", self.subject)
    }

    fn blocks(self, remark: impl Into<String>) -> Condition {
        self.with(Outcome::Blocks, remark)
    }
}
