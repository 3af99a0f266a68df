//! Names, and the release file beside the os-release of the host.

use super::{Condition, Question};
use crate::extension::ExtensionKind;
use crate::node::host::SystemdVersion;
use crate::release::{Mismatch, ReleaseFile, Scope};
use crate::verification::{FoundRelease, ReleaseFault};

/// The first that takes `extension-release.a` for an image `a_1.0`.
const BY_BASE_NAME: SystemdVersion = SystemdVersion(256);
/// The first that knows both kinds, and passes over an image of the other one, or one that says that it
/// is an operating system.
const BOTH_KINDS: SystemdVersion = SystemdVersion(254);
/// What an extension without a scope is for.
const DEFAULT_SCOPES: &str = "system portable";

impl Question<'_> {
    /// Whether there is the release file that the image's name demands.
    pub(super) fn look_at_name(&self, conditions: &mut Vec<Condition>) {
        let name = self.image_name();
        let condition = Condition::new("name").demands(format!("extension-release.{name}"));
        conditions.push(match &self.image.release {
            Ok(found) => self.judge_name(condition, found, &name),
            Err(ReleaseFault::OperatingSystem) if self.systemd >= BOTH_KINDS => {
                condition.ignored(ReleaseFault::OperatingSystem.to_string())
            }
            Err(ReleaseFault::FileSystem(_)) if self.image.file_system.is_err() => {
                condition.skipped("the file system cannot be read")
            }
            Err(ReleaseFault::OperatingSystem) => condition
                .blocks("it holds usr/lib/os-release, so systemd takes it for an operating system"),
            Err(fault) => {
                let advice = self.advise_other_file_name(&name);
                condition.blocks(advice.unwrap_or_else(|| self.named(fault)))
            }
        });
    }

    fn judge_name(&self, condition: Condition, found: &FoundRelease, name: &str) -> Condition {
        let condition = condition.has(format!("extension-release.{}", found.name));
        if found.kind != self.kind {
            let remark = format!("it is a {}, not a {}", found.kind, self.kind);
            return if self.systemd >= BOTH_KINDS {
                condition.ignored(remark)
            } else {
                condition.blocks(remark)
            };
        }
        if found.for_any_name {
            return condition.remarked("it says that it does for an image of any name");
        }
        if found.name == name {
            return condition;
        }
        let base = name.split(['_', '+']).next().unwrap_or(name);
        if self.systemd >= BY_BASE_NAME && found.name == base {
            return condition.remarked(format!(
                "{} goes by the name before the version",
                self.systemd
            ));
        }
        condition.blocks(format!(
            "{} wants the same name; sysgraft-agent links it as {}",
            self.systemd, found.name
        ))
    }

    /// What helps against a kind that is a part of the name to this version of systemd.
    fn advise_other_file_name(&self, name: &str) -> Option<String> {
        let infix = format!(".{}", self.kind);
        let stem = name.strip_suffix(&infix)?;
        Some(format!(
            "{} does not take {infix} off file names; name the file {stem}.raw, as sysgraft-agent does when it links it",
            self.systemd
        ))
    }

    /// The conditions of `extension_release_validate()`, of which the first that fails is the last
    /// that is looked at.
    pub(super) fn look_at_release(&self, conditions: &mut Vec<Condition>) {
        let Ok(found) = &self.image.release else {
            return;
        };
        let host = self.policy.host();
        let own = &found.release;
        let verdict = own.matches(&host.release, self.kind, Scope::System, host.architecture);
        let failed = verdict.as_ref().err();
        let (scope, level) = match self.kind {
            ExtensionKind::Sysext => ("SYSEXT_SCOPE", "SYSEXT_LEVEL"),
            ExtensionKind::Confext => ("CONFEXT_SCOPE", "CONFEXT_LEVEL"),
        };
        let value = |release: &ReleaseFile, key| release.get(key).unwrap_or("(none)").to_owned();
        let host_id = match host.release.get("ID_LIKE") {
            Some(like) => format!("{}, like {like}", value(&host.release, "ID")),
            None => value(&host.release, "ID"),
        };
        let by_level = own.get(level).is_some() && host.release.get(level).is_some();
        let version = if by_level { level } else { "VERSION_ID" };
        let all = [
            Condition::new(scope)
                .demands("system")
                .has(own.get(scope).unwrap_or(DEFAULT_SCOPES)),
            Condition::new("ARCHITECTURE")
                .demands(host.architecture)
                .has(own.get("ARCHITECTURE").unwrap_or("_any")),
            Condition::new("ID").demands(host_id).has(value(own, "ID")),
            Condition::new(version)
                .demands(value(&host.release, version))
                .has(value(own, version)),
        ];
        // Which of them the first failure is about; behind it nobody looks.
        let last = match failed {
            Some(Mismatch::Empty | Mismatch::Scope { .. }) => 0,
            Some(Mismatch::Architecture { .. }) => 1,
            Some(Mismatch::NoId | Mismatch::Id { .. }) => 2,
            Some(Mismatch::Version { .. }) => 3,
            None if own.get("ID") == Some("_any") => 2,
            None => 3,
        };
        for (number, condition) in all.into_iter().enumerate() {
            conditions.push(match failed {
                Some(mismatch) if number == last => condition.ignored(mismatch.to_string()),
                _ if number > last => condition.skipped("not looked at"),
                _ => condition,
            });
        }
    }
}
