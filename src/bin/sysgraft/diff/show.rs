//! A difference as text.

use std::collections::HashMap;
use std::io::{self, Write};

use sysgraft::erofs::FileType;
use sysgraft::inspection::{
    Aspect, ChangedFile, Difference, Facts, FieldDifference, FileFacts, FolderDifference,
};
use sysgraft::printable::printable;
use sysgraft::terminal::text;

/// What stands for a value that there is not.
const NOTHING: &str = "–";

/// Writes everything in which `a` and `b` differ.
pub fn show(out: &mut impl Write, a: &Facts, b: &Facts, difference: &Difference) -> io::Result<()> {
    if difference.is_none() {
        return writeln!(out, "{} and {} are equal", a.path, b.path);
    }
    writeln!(out, "from         {}  {}", a.path, text::size(a.size))?;
    writeln!(out, "to           {}  {}", b.path, text::size(b.size))?;
    show_fields(out, "release", &difference.release)?;
    show_fields(out, "image", &difference.image)?;
    show_partitions(out, difference)?;
    show_folders(out, &difference.folders)?;
    show_files(out, difference)
}

/// Writes a paragraph of lines, with its heading before the first.
fn paragraph(
    out: &mut impl Write,
    heading: &str,
    lines: impl IntoIterator<Item = String>,
) -> io::Result<()> {
    for (number, line) in lines.into_iter().enumerate() {
        match number {
            0 => writeln!(out, "\n{heading:<12} {line}")?,
            _ => writeln!(out, "{:12} {line}", "")?,
        }
    }
    Ok(())
}

fn show_fields(out: &mut impl Write, heading: &str, fields: &[FieldDifference]) -> io::Result<()> {
    let value = |value: &Option<String>| match value {
        Some(value) => printable(value.as_bytes()),
        None => NOTHING.to_owned(),
    };
    let lines = fields.iter().map(|field| {
        let name = printable(field.name.as_bytes());
        format!("{name}: {} → {}", value(&field.a), value(&field.b))
    });
    paragraph(out, heading, lines)
}

fn show_partitions(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    let lines = difference.partitions.iter().map(|partition| {
        let name = printable(partition.name.as_bytes());
        match (&partition.a, &partition.b) {
            (Some(a), Some(b)) if a.size != b.size => {
                format!("{name}: {} → {}", text::size(a.size), text::size(b.size))
            }
            (Some(a), Some(b)) if a.uuid != b.uuid => format!("{name}: {} → {}", a.uuid, b.uuid),
            (Some(a), Some(b)) if a.offset != b.offset => {
                format!("{name}: at {} → {}", a.offset, b.offset)
            }
            (Some(_), Some(_)) => format!("{name}: other type, label or flags"),
            (Some(a), None) => format!("{name}: {} → {NOTHING}", text::size(a.size)),
            (None, b) => {
                let size = b.as_ref().map_or(0, |b| b.size);
                format!("{name}: {NOTHING} → {}", text::size(size))
            }
        }
    });
    paragraph(out, "partitions", lines)
}

fn show_folders(out: &mut impl Write, folders: &[FolderDifference]) -> io::Result<()> {
    let lines = folders.iter().map(|folder| {
        format!(
            "{:>12}  {}: {} → {}",
            growth(folder.a, folder.b),
            folder.path,
            text::size(folder.a),
            text::size(folder.b)
        )
    });
    paragraph(out, "folders", lines)
}

/// By how much something grew, or shrank.
fn growth(a: u64, b: u64) -> String {
    let sign = if b < a { '−' } else { '+' };
    format!("{sign}{}", text::size(a.abs_diff(b)))
}

fn show_files(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    let files = &difference.files;
    let changed = files.changed.iter().filter(|file| !file.is_only_time());
    let changed: Vec<&ChangedFile> = changed.collect();
    let only_time = files.changed.len() - changed.len();
    writeln!(
        out,
        "\nfiles        {} added, {} removed, {} changed",
        files.added.len(),
        files.removed.len(),
        changed.len()
    )?;
    if only_time > 0 {
        writeln!(
            out,
            "             {only_time} have another time and are else equal"
        )?;
    }
    show_entries(out, '-', &files.removed)?;
    show_entries(out, '+', &files.added)?;
    for file in changed {
        writeln!(out, "  ~ {}: {}", file.path, changes(file))?;
    }
    Ok(())
}

/// Writes a line for each entry; a folder stands for all that is below it.
fn show_entries(out: &mut impl Write, sign: char, files: &[FileFacts]) -> io::Result<()> {
    let is_folder = |file: &&FileFacts| file.inode.file_type == FileType::Directory;
    let mut folders: HashMap<&[u8], Below> = (files.iter().filter(is_folder))
        .map(|folder| (folder.raw_path.as_slice(), Below::default()))
        .collect();
    let mut topmost = Vec::new();
    for file in files {
        let folder = above(&file.raw_path).find(|path| folders.contains_key(path));
        match folder.and_then(|path| folders.get_mut(path)) {
            Some(below) => below.count(file),
            None => topmost.push(file),
        }
    }
    for file in topmost {
        match folders.get(file.raw_path.as_slice()) {
            Some(Below { entries, bytes }) if *entries > 0 => {
                let number = match entries {
                    1 => "1 entry".to_owned(),
                    _ => format!("{entries} entries"),
                };
                let (path, size) = (&file.path, text::size(*bytes));
                writeln!(out, "  {sign} {path}/  with {number}, {size}")?;
            }
            _ => writeln!(out, "  {sign} {}", entry(file))?,
        }
    }
    Ok(())
}

/// What is below a folder.
#[derive(Default)]
struct Below {
    entries: u64,
    /// Of content; hard links count once.
    bytes: u64,
}

impl Below {
    fn count(&mut self, file: &FileFacts) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(file.content_bytes);
    }
}

/// The folders that a path lies in, the topmost first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(slash, _)| &path[..slash])
}

fn entry(file: &FileFacts) -> String {
    let target = file.target.as_ref().map(|target| format!(" -> {target}"));
    format!(
        "{}  {} {} {}:{} {}",
        file.path.clone() + &target.unwrap_or_default(),
        file.kind,
        file.mode,
        file.uid,
        file.gid,
        text::size(file.size)
    )
}

fn changes(file: &ChangedFile) -> String {
    let ChangedFile { a, b, changes, .. } = file;
    let words = changes.iter().map(|aspect| match aspect {
        Aspect::Content if a.size == b.size => format!("content, still {}", text::size(b.size)),
        Aspect::Content => format!("content {} → {}", text::size(a.size), text::size(b.size)),
        _ => aspect.words(a, b),
    });
    words.collect::<Vec<_>>().join(", ")
}
