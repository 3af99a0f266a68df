//! `sysgraft inspect`: what is in an extension image.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use sysgraft::erofs::{BLOCK_SIZE, FileSystem, FileType, ReadError};
use sysgraft::extension::ExtensionKind;
use sysgraft::image::{Copies, Ddi, Role};
use sysgraft::printable::printable;
use sysgraft::read_at::FileWindow;
use sysgraft::release::ReleaseFile;
use sysgraft::signature::{SignatureShape, signer_of};
use sysgraft::terminal::text;
use sysgraft::verification::{ReleaseFault, read_release};

/// Arguments of `sysgraft inspect`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft inspect build/hello.sysext.raw
  sysgraft inspect --json build/hello.sysext.raw | jq -r .rootHash

Shows what the image says of itself, and whether the signature is over its root hash by the certificate
that it brings along. It neither reads every block nor asks whom to trust; `sysgraft verify` does.")]
pub struct Arguments {
    /// Image to look into
    file: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Everything that is shown, under the names that `--json` promises.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    path: String,
    /// Bytes.
    size: u64,
    disk_guid: String,
    partition_tables: &'static str,
    partitions: Vec<PartitionFacts>,
    root_hash: Option<String>,
    verity: Option<VerityFacts>,
    signature: Option<SignatureFacts>,
    /// Whether the signature partition is empty, so that systemd refuses the image.
    awaits_signature: bool,
    kind: Option<&'static str>,
    name: Option<String>,
    release: BTreeMap<String, String>,
    /// Why the fields of the release file are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    release_problem: Option<String>,
    file_system: FileSystemFacts,
    files: Vec<FileFacts>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionFacts {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    uuid: String,
    read_only: bool,
    /// Bytes.
    offset: u64,
    /// Bytes.
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerityFacts {
    uuid: String,
    salt: String,
    data_blocks: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignatureFacts {
    /// The root hash that the signature partition names.
    root_hash: String,
    certificate_fingerprint: Option<String>,
    /// Whether it is over the image's root hash, by the certificate that it brings along.
    valid: bool,
    /// Subject of that certificate.
    signer: Option<String>,
    not_after: Option<String>,
    /// Why it is not valid.
    problem: Option<String>,
    /// Why systemd or the kernel refuses it although it is valid.
    objections: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileSystemFacts {
    #[serde(rename = "type")]
    kind: &'static str,
    uuid: String,
    blocks: u64,
    inodes: u64,
    /// Bytes of content for each byte of the file system; hard links count once.
    ratio: f64,
    compression: Vec<String>,
    /// The oldest kernel that mounts it.
    minimum_kernel: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileFacts {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    /// Octal.
    mode: String,
    uid: u32,
    gid: u32,
    /// Bytes.
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// Shows one image.
pub fn run(arguments: &Arguments) -> Result<()> {
    let facts = gather(&arguments.file)?;
    print(&facts, arguments.json).context(text::STDOUT_FAILED)
}

fn print(facts: &Facts, as_json: bool) -> io::Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if as_json {
        serde_json::to_writer_pretty(&mut stdout, facts)?;
        writeln!(stdout)?;
    } else {
        show(&mut stdout, facts)?;
    }
    stdout.flush()
}

fn gather(path: &Path) -> Result<Facts> {
    let ddi = Ddi::open(path)?;
    let data = ddi
        .open_partition(Role::Data)?
        .with_context(|| format!("{} has no data partition", path.display()))?;
    let broken = || format!("cannot read the file system in {}", path.display());
    let file_system = FileSystem::open(data).with_context(broken)?;
    let (files, content_bytes) = list_files(&file_system).with_context(broken)?;
    let found = find_release(&file_system, &files).with_context(broken)?;
    let (release, release_problem) = match found.as_ref().map(|found| &found.release) {
        Some(Ok(release)) => (fields(release), None),
        Some(Err(error)) => (BTreeMap::new(), Some(format!("{error:#}"))),
        None => (BTreeMap::new(), None),
    };
    let superblock = file_system.superblock();
    Ok(Facts {
        path: path.display().to_string(),
        size: ddi.size,
        disk_guid: ddi.disk_guid.to_string(),
        partition_tables: match ddi.copies {
            Copies::Both => "both intact",
            Copies::PrimaryOnly => "only the primary one is intact",
            Copies::BackupOnly => "only the backup is intact",
        },
        partitions: partitions(&ddi),
        root_hash: ddi.root_hash().map(|root| root.to_string()),
        verity: ddi.verity.as_ref().map(|verity| VerityFacts {
            uuid: verity.uuid.to_string(),
            salt: verity.salt.to_string(),
            data_blocks: verity.geometry.data_blocks(),
        }),
        signature: signature(&ddi),
        awaits_signature: ddi.awaits_signature(),
        kind: found.as_ref().map(|found| found.kind.as_str()),
        name: found.map(|found| found.name),
        release,
        release_problem,
        file_system: FileSystemFacts {
            kind: "erofs",
            uuid: superblock.uuid.to_string(),
            blocks: superblock.blocks.into(),
            inodes: superblock.inodes,
            ratio: ratio(content_bytes, superblock.blocks),
            compression: superblock
                .algorithms
                .iter()
                .map(ToString::to_string)
                .collect(),
            minimum_kernel: superblock.minimum_kernel().to_string(),
        },
        files,
    })
}

fn fields(release: &ReleaseFile) -> BTreeMap<String, String> {
    let fields = release.fields();
    fields
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn partitions(ddi: &Ddi) -> Vec<PartitionFacts> {
    ddi.partitions
        .iter()
        .map(|partition| PartitionFacts {
            label: partition.label.clone(),
            kind: match partition.kind {
                Some(kind) => kind.to_string(),
                None => partition.type_uuid.to_string(),
            },
            uuid: partition.uuid.to_string(),
            read_only: partition.is_read_only(),
            offset: partition.offset,
            size: partition.size,
        })
        .collect()
}

fn signature(ddi: &Ddi) -> Option<SignatureFacts> {
    let partition = ddi.signature.as_ref()?;
    // Opening refused images whose partition names another hash than their UUIDs.
    let root_hash = ddi.root_hash().unwrap_or(partition.root_hash);
    let verified = signer_of(&partition.pkcs7, &root_hash, &[]);
    let signer = verified.as_ref().ok().map(|by| &by.certificate);
    let problem = verified.as_ref().err().map(ToString::to_string);
    let shape = SignatureShape::read(&partition.pkcs7);
    Some(SignatureFacts {
        root_hash: partition.root_hash.to_string(),
        certificate_fingerprint: partition.certificate_fingerprint.map(|digest| digest.hex()),
        valid: problem.is_none(),
        signer: signer.map(|certificate| certificate.subject()),
        not_after: signer.map(|certificate| certificate.not_after()),
        problem,
        objections: shape
            .map(|shape| shape.objections.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
    })
}

/// All entries, and the bytes of content in them.
fn list_files(file_system: &FileSystem<FileWindow>) -> Result<(Vec<FileFacts>, u64), ReadError> {
    let mut files = Vec::new();
    let mut content_bytes = 0;
    let mut linked = HashSet::new();
    file_system.walk(|path, inode| {
        if path.is_empty() {
            return Ok(());
        }
        let first_name = inode.nlink == 1 || linked.insert(inode.nid);
        if inode.file_type == FileType::File && first_name {
            content_bytes += inode.size;
        }
        let target = match inode.file_type {
            FileType::Symlink => Some(printable(&file_system.read_link(inode)?)),
            _ => None,
        };
        files.push(FileFacts {
            path: format!("/{}", printable(path)),
            kind: inode.file_type.to_string(),
            mode: format!("{:04o}", inode.mode),
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            target,
        });
        Ok::<(), ReadError>(())
    })?;
    Ok((files, content_bytes))
}

struct FoundRelease {
    kind: ExtensionKind,
    name: String,
    /// Its content, if it is not stored in a way that only kernels read.
    release: Result<ReleaseFile, ReleaseFault>,
}

fn find_release(
    file_system: &FileSystem<FileWindow>,
    files: &[FileFacts],
) -> Result<Option<FoundRelease>> {
    for kind in [ExtensionKind::Sysext, ExtensionKind::Confext] {
        let prefix = format!("/{}/extension-release.", kind.release_directory());
        for file in files {
            let Some(name) = file.path.strip_prefix(&prefix) else {
                continue;
            };
            let Some(inode) = file_system.lookup(&file.path.as_bytes()[1..])? else {
                continue;
            };
            return Ok(Some(FoundRelease {
                kind,
                name: name.to_owned(),
                release: read_release(file_system, &inode, file.path.clone()),
            }));
        }
    }
    Ok(None)
}

fn show(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    writeln!(out, "{}  {}", facts.path, text::size(facts.size))?;
    if let (Some(kind), Some(name)) = (facts.kind, &facts.name) {
        writeln!(out, "\nextension    {name} ({kind})")?;
    }
    for (key, value) in &facts.release {
        writeln!(out, "             {key}={}", printable(value.as_bytes()))?;
    }
    if let Some(problem) = &facts.release_problem {
        writeln!(out, "             release file NOT READ: {problem}")?;
    }
    show_protection(out, facts)?;
    writeln!(
        out,
        "\npartitions   disk {}, tables: {}",
        facts.disk_guid, facts.partition_tables
    )?;
    for partition in &facts.partitions {
        let read_only = if partition.read_only { "ro" } else { "  " };
        writeln!(
            out,
            "             {:<24} {} {read_only} {:>10} at {}",
            printable(partition.label.as_bytes()),
            partition.uuid,
            text::size(partition.size),
            partition.offset
        )?;
    }
    show_file_system(out, &facts.file_system)?;
    writeln!(out)?;
    for file in &facts.files {
        let target = file
            .target
            .as_ref()
            .map(|target| format!(" -> {target}"))
            .unwrap_or_default();
        writeln!(
            out,
            "  {:<16} {} {:>5}:{:<5} {:>10} {}{target}",
            file.kind,
            file.mode,
            file.uid,
            file.gid,
            text::size(file.size),
            file.path
        )?;
    }
    Ok(())
}

fn show_file_system(out: &mut impl Write, facts: &FileSystemFacts) -> io::Result<()> {
    let FileSystemFacts {
        kind,
        uuid,
        inodes,
        ratio,
        minimum_kernel,
        ..
    } = facts;
    let compression = match facts.compression.as_slice() {
        [] => "not compressed".to_owned(),
        algorithms => format!("{}, content to image {ratio:.2}", algorithms.join(" and ")),
    };
    writeln!(out, "\nfile system  {kind} {uuid}, {inodes} inodes")?;
    writeln!(
        out,
        "             {compression}, needs Linux {minimum_kernel}"
    )
}

fn ratio(content_bytes: u64, blocks: u32) -> f64 {
    let stored = u64::from(blocks) * BLOCK_SIZE as u64;
    content_bytes as f64 / stored.max(1) as f64
}

fn show_protection(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    match &facts.root_hash {
        Some(root_hash) => writeln!(out, "root hash    {root_hash}")?,
        None => writeln!(out, "root hash    none: the image has no hash tree")?,
    }
    let Some(signature) = &facts.signature else {
        let missing = match facts.awaits_signature {
            true => "none yet: systemd refuses the image until it is signed (`sysgraft sign`)",
            false => "none",
        };
        return writeln!(out, "signature    {missing}");
    };
    match (&signature.problem, &signature.signer) {
        (None, Some(signer)) => {
            writeln!(out, "signature    by {}", printable(signer.as_bytes()))?;
        }
        (problem, _) => {
            let problem = problem.as_deref().unwrap_or("by an unknown signer");
            writeln!(out, "signature    NOT VALID: {problem}")?;
        }
    }
    for objection in &signature.objections {
        writeln!(out, "             NOT FOR EVERY HOST: {objection}")?;
    }
    if let Some(fingerprint) = &signature.certificate_fingerprint {
        let until = signature.not_after.as_deref().unwrap_or("unknown");
        writeln!(
            out,
            "             certificate sha256:{fingerprint}, valid until {until}"
        )?;
    }
    Ok(())
}
