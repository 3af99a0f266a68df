//! What was published, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};
use sysgraft::publish::edition::Edition;
use sysgraft::publish::registry::Pushed;
use sysgraft::publish::sysupdate::{Action, Change};

use super::Published;

/// Prints everything that was published, or would be.
pub fn print(published: &Published<'_>, as_json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if as_json {
        return writeln!(stdout, "{:#}", facts(published));
    }
    lines(published)
        .iter()
        .try_for_each(|line| writeln!(stdout, "{line}"))
}

/// Prints a fragment, and nothing else.
pub fn text(fragment: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(fragment.as_bytes())?;
    stdout.flush()
}

/// Everything that was published, or would be, for people.
pub fn lines(published: &Published<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if published.dry_run {
        lines.push("nothing is published yet; it would be:".to_owned());
    }
    if let Some((folder, change)) = &published.feed {
        let mut line = |what: &str, name: &str| {
            lines.push(format!("{what:<10} {}", folder.join(name).display()));
        };
        for (name, action) in &change.images {
            line(word(*action), name);
        }
        for name in &change.removed {
            line("removed", name);
        }
        for name in &change.node_files {
            line("for nodes", name);
        }
        if change.signed {
            line("signed", "SHA256SUMS");
        }
    }
    for pushed in &published.pushed {
        let what = if pushed.unchanged {
            "unchanged"
        } else {
            "pushed"
        };
        let (repository, tags) = (&pushed.repository, pushed.tags.join(", "));
        lines.push(format!("{what:<10} {repository}@{}", pushed.manifest));
        lines.push(format!("{:<10} {tags}", "tagged"));
        if !pushed.statements.is_empty() {
            let statements = pushed.statements.join(", ");
            lines.push(format!("{:<10} {statements}", "beside it"));
        }
    }
    if let Some((path, changed)) = published.catalog {
        let what = if changed { "listed in" } else { "unchanged" };
        lines.push(format!("{what:<10} {}", path.display()));
    }
    lines
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Added => "added",
        Action::Replaced => "replaced",
        Action::Unchanged => "unchanged",
    }
}

fn facts(published: &Published<'_>) -> Value {
    let images: Vec<Value> = published.editions.iter().map(edition).collect();
    let feed = published.feed.as_ref();
    json!({
        "dryRun": published.dry_run,
        "images": images,
        "sysupdate": feed.map(|(folder, change)| sysupdate(&folder.to_string_lossy(), change)),
        "registry": published.pushed.iter().map(pushed).collect::<Vec<_>>(),
        "catalog": published.catalog.map(|(path, changed)| json!({"path": path, "changed": changed})),
    })
}

fn pushed(pushed: &Pushed) -> Value {
    json!({
        "repository": pushed.repository,
        "tags": pushed.tags,
        "manifest": pushed.manifest.to_string(),
        "index": pushed.index.map(|index| index.to_string()),
        "unchanged": pushed.unchanged,
        "statements": pushed.statements,
    })
}

fn edition(edition: &Edition) -> Value {
    json!({
        "path": edition.path,
        "name": edition.name.as_str(),
        "kind": edition.kind.as_str(),
        "version": edition.version.as_str(),
        "architecture": edition.architecture.systemd_name(),
        "size": edition.size,
        "sha256": edition.digest.hex(),
        "rootHash": edition.root_hash.to_string(),
        "signedBy": edition.signer.as_ref().map(|signer| signer.subject()),
    })
}

fn sysupdate(folder: &str, change: &Change) -> Value {
    let images = change.images.iter();
    let images = images.map(|(file, action)| json!({"file": file, "action": word(*action)}));
    json!({
        "folder": folder,
        "images": images.collect::<Vec<_>>(),
        "removed": change.removed,
        "nodeFiles": change.node_files,
        "signed": change.signed,
    })
}
