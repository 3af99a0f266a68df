//! What is left of an image that cannot be finished: nothing.

mod support;
#[path = "support/unmount.rs"]
mod unmount;

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use sysgraft::architecture::Architecture;
use sysgraft::erofs::BlockSink;
use sysgraft::image::{AssembleError, DATA_OFFSET, Output, assemble};
use sysgraft::seed::Seed;
use sysgraft::signature::Signing;
use sysgraft::verity::{BLOCK_SIZE, HashedDataWriter};
use unmount::unmount;

const SEED: &str = "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f";

/// A file system of its own with `size` bytes, or `None`, said aloud, where none can be mounted.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(test: &str, size: usize) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Tmpfs(folder));
        }
        support::skip(test, "cannot mount a tmpfs (it takes root)");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(self.path());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    entries.map(name).collect()
}

fn writer(output: &Output) -> HashedDataWriter {
    let file = output.file().try_clone().unwrap();
    let seed: Seed = SEED.parse().unwrap();
    let workers = NonZero::new(2).unwrap();
    HashedDataWriter::new(file, DATA_OFFSET, seed.verity_salt().into(), workers).unwrap()
}

#[test]
fn a_full_file_system_is_an_error_and_leaves_nothing_but_the_old_image() {
    let test = "a_full_file_system_is_an_error_and_leaves_nothing_but_the_old_image";
    let Some(full) = Tmpfs::mount(test, 4 << 20) else {
        return;
    };
    fs::write(full.path().join("x.raw"), "old").unwrap();
    let output = Output::create(full.path(), "x.raw").unwrap();
    let mut writer = writer(&output);
    let block = [1; BLOCK_SIZE];
    let written = (0..4096).try_for_each(|_| writer.append(&block));
    let error = written
        .and_then(|()| writer.finish().map(drop))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    drop(output);
    assert_eq!(names(full.path()), ["x.raw"]);
    assert_eq!(fs::read(full.path().join("x.raw")).unwrap(), b"old");
}

/// The data fits, what goes around it does not.
#[test]
fn a_file_system_that_is_full_at_the_last_moment_is_an_error_too() {
    let test = "a_file_system_that_is_full_at_the_last_moment_is_an_error_too";
    let Some(full) = Tmpfs::mount(test, 512 * BLOCK_SIZE) else {
        return;
    };
    let output = Output::create(full.path(), "x.raw").unwrap();
    let mut writer = writer(&output);
    for _ in 0..511 {
        writer.append(&[1; BLOCK_SIZE]).unwrap();
    }
    let data = writer.finish().unwrap();
    let seed = SEED.parse().unwrap();
    let error = assemble(data, seed, Architecture::X86_64, Signing::Never).unwrap_err();
    let AssembleError::Write(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    drop(output);
    assert_eq!(names(full.path()), [""; 0]);
}

#[test]
fn data_in_the_wrong_place_is_not_assembled() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create(folder.path(), "x.raw").unwrap();
    let seed: Seed = SEED.parse().unwrap();
    let file = output.file().try_clone().unwrap();
    let salt = seed.verity_salt().into();
    let mut writer = HashedDataWriter::new(file, 0, salt, NonZero::<usize>::MIN).unwrap();
    let nothing = HashedDataWriter::new(
        output.file().try_clone().unwrap(),
        DATA_OFFSET,
        seed.verity_salt().into(),
        NonZero::<usize>::MIN,
    );
    writer.append(&[1; BLOCK_SIZE]).unwrap();
    let misplaced = writer.finish().unwrap();
    let error = assemble(misplaced, seed, Architecture::X86_64, Signing::Never).unwrap_err();
    assert!(matches!(error, AssembleError::Misplaced { offset: 0 }));
    let empty = nothing.unwrap().finish().unwrap();
    let error = assemble(empty, seed, Architecture::X86_64, Signing::Never).unwrap_err();
    assert!(matches!(error, AssembleError::Empty));
}
