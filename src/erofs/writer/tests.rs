use super::*;
use crate::erofs::compression::{ChunkSize, Compression};
use crate::erofs::{FileSystem, MemorySink, TailPacking};
use crate::tree::{LeafKind, Node};

fn writer() -> Writer<MemorySink> {
    let options = Options {
        uuid: Uuid::nil(),
        epoch: None,
        compression: Compression::None,
        chunk_size: ChunkSize::default(),
        tail_packing: TailPacking::None,
        jobs: NonZeroUsize::MIN,
    };
    Writer::new(MemorySink::new(), options).unwrap()
}

fn attributes(mtime: i64) -> Attributes {
    Attributes {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(mtime),
        xattrs: Vec::new(),
    }
}

fn add(writer: &mut Writer<MemorySink>, size: u64, content: &[u8]) -> Result<LeafId, WriteError> {
    let content = &mut &*content;
    writer.add(&attributes(0), Leaf::File { size, content })
}

#[test]
fn content_of_another_length_than_announced_is_refused() {
    for (size, length) in [
        (1, 0),
        (4095, 4094),
        (4096, 4095),
        (8193, 8192),
        (8193, 4096),
    ] {
        let error = add(&mut writer(), size, &vec![1; length]).unwrap_err();
        let WriteError::ContentTooShort { missing, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(missing, size - length as u64);
    }
    for (size, length) in [(0, 1), (4095, 4096), (4096, 4097), (8193, 9000)] {
        let error = add(&mut writer(), size, &vec![1; length]).unwrap_err();
        assert!(
            matches!(error, WriteError::ContentTooLong { .. }),
            "{error}"
        );
    }
}

#[test]
fn after_an_error_nothing_is_written() {
    let mut writer = writer();
    add(&mut writer, 5000, &[1]).unwrap_err();
    let error = add(&mut writer, 1, &[1]).unwrap_err();
    assert!(matches!(error, WriteError::Broken), "{error}");
    let error = writer.finish(&Tree::new(attributes(0))).unwrap_err();
    assert!(matches!(error, WriteError::Broken), "{error}");
}

#[test]
fn errors_of_the_content_are_passed_on_and_interruptions_are_not() {
    struct Unsteady(Vec<io::Result<u8>>);
    impl Read for Unsteady {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match (self.0.pop(), buffer) {
                (Some(byte), [first, ..]) => {
                    *first = byte?;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }
    let fail = |kind: io::ErrorKind| Err(io::Error::from(kind));
    let interrupted = || fail(io::ErrorKind::Interrupted);
    let mut steps = Unsteady(vec![Ok(1), interrupted(), Ok(2), interrupted()]);
    let content = &mut steps;
    let leaf = Leaf::File { size: 2, content };
    writer().add(&attributes(0), leaf).unwrap();
    let content = &mut Unsteady(vec![fail(io::ErrorKind::TimedOut), Ok(1)]);
    let leaf = Leaf::File { size: 2, content };
    let error = writer().add(&attributes(0), leaf).unwrap_err();
    let kind = |error: &WriteError| match error {
        WriteError::Content(source) => Some(source.kind()),
        _ => None,
    };
    assert_eq!(kind(&error), Some(io::ErrorKind::TimedOut), "{error}");
}

#[test]
fn memory_is_bounded_however_many_files_there_are() {
    let mut writer = writer();
    for _ in 0..20_000 {
        add(&mut writer, 1000, &[1; 1000]).unwrap();
        assert!(writer.batch.bytes().len() < BATCH_BYTES + BLOCK_SIZE);
    }
    assert!(writer.sink.position() >= 4 * BATCH_BYTES as u64);
    assert_eq!(writer.leaves.len(), 20_000);
    assert!(writer.numbered > 15_000);
}

#[test]
fn the_time_of_the_first_leaf_becomes_the_epoch() {
    let mut writer = writer();
    writer.add(&attributes(77), Leaf::Fifo).unwrap();
    writer.add(&attributes(78), Leaf::Fifo).unwrap();
    let (sink, _) = writer.finish(&Tree::new(attributes(79))).unwrap();
    let image = sink.into_bytes();
    let file_system = FileSystem::open(&image[..]).unwrap();
    assert_eq!(file_system.superblock().epoch, Timestamp::from_seconds(77));
    assert_eq!(
        file_system.root().unwrap().mtime,
        Timestamp::from_seconds(79)
    );
}

#[test]
fn leaves_without_a_name_do_no_harm_and_are_not_counted() {
    let mut writer = writer();
    add(&mut writer, 5000, &[1; 5000]).unwrap();
    let id = add(&mut writer, 5000, &[2; 5000]).unwrap();
    let mut tree = Tree::new(attributes(0));
    // a directory that gave way to another of its name
    let replaced = tree.add_directory(Tree::ROOT, b"d", attributes(0));
    let leaf = Node::Leaf(id, LeafKind::File);
    let children = |tree: &mut Tree, id, name: &[u8]| {
        tree.directory_mut(id).children.insert(name.into(), leaf);
    };
    children(&mut tree, replaced, b"lost");
    tree.add_directory(Tree::ROOT, b"d", attributes(0));
    children(&mut tree, Tree::ROOT, b"file");
    let (sink, summary) = writer.finish(&tree).unwrap();
    assert_eq!(summary.inodes, 3);
    let image = sink.into_bytes();
    let file_system = FileSystem::open(&image[..]).unwrap();
    let file = file_system.lookup(b"file").unwrap().unwrap();
    assert_eq!(file.nlink, 1);
    assert_eq!(file_system.lookup(b"d/lost").unwrap(), None);
}

#[test]
fn more_links_than_an_inode_counts_are_refused_but_not_fewer() {
    for (uid, links, fits) in [
        (0, 65_535, true),
        (0, 65_536, false),
        (65_536, 65_536, true),
    ] {
        let mut writer = writer();
        let attributes = Attributes {
            uid,
            ..attributes(0)
        };
        let id = writer.add(&attributes, Leaf::Fifo).unwrap();
        let mut tree = Tree::new(attributes);
        let children = &mut tree.directory_mut(Tree::ROOT).children;
        for name in 0..links {
            let leaf = Node::Leaf(id, LeafKind::Fifo);
            children.insert(format!("{name}").into_bytes().into(), leaf);
        }
        match writer.finish(&tree) {
            Ok((sink, _)) => {
                assert!(fits);
                let image = sink.into_bytes();
                let file_system = FileSystem::open(&image[..]).unwrap();
                let file = file_system.lookup(b"1").unwrap().unwrap();
                assert_eq!(file.nlink, links);
            }
            Err(WriteError::TooManyLinks { .. }) => assert!(!fits),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn trees_that_are_none_are_refused() {
    let mut tree = Tree::new(attributes(0));
    let inner = tree.add_directory(Tree::ROOT, b"a", attributes(0));
    let child = Node::Directory(inner);
    tree.directory_mut(inner)
        .children
        .insert((*b"b").into(), child);
    let error = writer().finish(&tree).unwrap_err();
    assert!(
        matches!(error, WriteError::DirectoryTwice { .. }),
        "{error}"
    );
    let mut tree = Tree::new(attributes(0));
    let leaf = Node::Leaf(LeafId(0), LeafKind::Fifo);
    tree.directory_mut(Tree::ROOT)
        .children
        .insert((*b"b").into(), leaf);
    let error = writer().finish(&tree).unwrap_err();
    assert!(
        matches!(error, WriteError::UnknownLeaf { id: 0 }),
        "{error}"
    );
}
