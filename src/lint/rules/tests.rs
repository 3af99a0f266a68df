//! Every code, with a tree in which it is found and one in which it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::architecture::Architecture;
use crate::extension::ExtensionKind;
use crate::layer::{Device, Entry, EntryKind, EntryPath, Xattr};
use crate::lint::files::{Content, Files, FilesError};
use crate::lint::{Code, Findings, Policy, Subject, lint};
use crate::timestamp::Timestamp;

/// A tree in memory.
#[derive(Clone, Default)]
pub(super) struct Tree {
    entries: BTreeMap<EntryPath, (Entry, Vec<u8>)>,
    closed: Option<EntryPath>,
}

pub(super) fn path(text: &str) -> EntryPath {
    EntryPath::from_archive(text.as_bytes()).unwrap()
}

impl Tree {
    /// With a folder whose content only others may see.
    pub(super) fn closed(self, at: &str) -> Tree {
        Tree {
            closed: Some(path(at)),
            ..self.directory(at, 0o700)
        }
    }

    fn refuse(&self, at: &EntryPath, is_read: bool) -> Result<(), FilesError> {
        match &self.closed {
            Some(closed) if at.is_within(closed) && (is_read || at != closed) => {
                Err(FilesError::Folder {
                    folder: "tree".to_owned(),
                    path: at.clone(),
                    source: std::io::ErrorKind::PermissionDenied.into(),
                })
            }
            _ => Ok(()),
        }
    }

    fn add(mut self, at: &str, kind: EntryKind, mode: u16, content: &[u8]) -> Tree {
        let at = path(at);
        let mut above = at.split_last().map(|(parent, _)| parent);
        while let Some(parent) = above {
            above = parent.split_last().map(|(parent, _)| parent);
            self = match self.entries.contains_key(&parent) {
                true => self,
                false => self.insert(parent, EntryKind::Directory, 0o755, b""),
            };
        }
        self.insert(at, kind, mode, content)
    }

    fn insert(mut self, at: EntryPath, kind: EntryKind, mode: u16, content: &[u8]) -> Tree {
        let entry = Entry {
            path: at.clone(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(0),
            xattrs: Vec::new(),
        };
        self.entries.insert(at, (entry, content.to_vec()));
        self
    }

    pub(super) fn file(self, at: &str, mode: u16, content: impl AsRef<[u8]>) -> Tree {
        let content = content.as_ref();
        let size = content.len() as u64;
        self.add(at, EntryKind::File { size }, mode, content)
    }

    fn directory(self, at: &str, mode: u16) -> Tree {
        self.add(at, EntryKind::Directory, mode, b"")
    }

    pub(super) fn link(self, at: &str, target: &str) -> Tree {
        let target = target.as_bytes().to_vec();
        self.add(at, EntryKind::Symlink { target }, 0o777, b"")
    }

    fn device(self, at: &str, major: u32, minor: u32) -> Tree {
        self.add(
            at,
            EntryKind::CharDevice(Device { major, minor }),
            0o600,
            b"",
        )
    }

    fn owned(mut self, at: &str, uid: u32, gid: u32) -> Tree {
        let entry = &mut self.entries.get_mut(&path(at)).unwrap().0;
        (entry.uid, entry.gid) = (uid, gid);
        self
    }

    fn attribute(mut self, at: &str, name: &str) -> Tree {
        let xattr = Xattr {
            name: name.into(),
            value: b"y".to_vec(),
        };
        self.entries
            .get_mut(&path(at))
            .unwrap()
            .0
            .xattrs
            .push(xattr);
        self
    }

    /// With the release file of a sysext.
    fn release(self, text: &str) -> Tree {
        self.file(
            "usr/lib/extension-release.d/extension-release.x",
            0o644,
            text,
        )
    }
}

impl Files for Tree {
    fn entry(&self, at: &EntryPath) -> Result<Option<Entry>, FilesError> {
        self.refuse(at, false)?;
        Ok(self.entries.get(at).map(|(entry, _)| entry.clone()))
    }

    fn names(&self, at: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError> {
        self.refuse(at, true)?;
        let within = self.entries.keys().filter_map(EntryPath::split_last);
        let names = within.filter(|(parent, _)| parent == at);
        Ok(names.map(|(_, name)| name.to_vec()).collect())
    }

    fn open(&self, at: &EntryPath) -> Result<Box<dyn Content + '_>, FilesError> {
        self.refuse(at, true)?;
        match self.entries.get(at) {
            Some((_, content)) => Ok(Box::new(content.as_slice())),
            None => Err(FilesError::Missing { path: at.clone() }),
        }
    }
}

impl Content for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, FilesError> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..));
        let rest = rest.unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

pub(super) fn judge_as(
    kind: ExtensionKind,
    tree: &Tree,
    base: Option<&Tree>,
    complete: bool,
) -> Findings {
    let subject = Subject {
        kind,
        architecture: Some(Architecture::X86_64),
        files: tree,
        image: None,
        complete,
        base: base.map(|base| base as &dyn Files),
    };
    lint(subject, &Policy::default()).unwrap()
}

pub(super) fn judge(tree: &Tree) -> BTreeSet<Code> {
    let findings = judge_as(ExtensionKind::Sysext, tree, None, false);
    findings.counts().keys().copied().collect()
}

fn judge_confext(tree: &Tree) -> BTreeSet<Code> {
    let findings = judge_as(ExtensionKind::Confext, tree, None, false);
    findings.counts().keys().copied().collect()
}

pub(super) fn judge_beside(tree: &Tree, base: &Tree) -> BTreeSet<Code> {
    let findings = judge_as(ExtensionKind::Sysext, tree, Some(base), false);
    findings.counts().keys().copied().collect()
}

/// A tree that nothing is to be said of.
pub(super) fn tree() -> Tree {
    Tree::default().file("usr/share/tool/data", 0o644, "data")
}

fn confext() -> Tree {
    Tree::default().file("etc/tool/tool.conf", 0o644, "a=b")
}

/// A host of today.
pub(super) fn host() -> Tree {
    Tree::default()
        .file("usr/bin/python3", 0o755, "")
        .file("usr/bin/tool", 0o755, "of the host")
        .file("usr/lib/libx.so.1", 0o644, "")
        .directory("usr/lib64", 0o755)
        .directory("usr/share/tool", 0o755)
        .directory("etc/tool", 0o755)
        .link("usr/sbin", "bin")
        .link("bin", "usr/bin")
}

/// The header of a program without segments.
fn elf(machine: u8) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 2;
    header[18] = machine;
    header[20] = 1;
    header[52] = 64;
    header
}

const X86_64: u8 = 62;
const ARM64: u8 = 183;
const INSTALL: &str = "[Service]\nExecStart=/usr/bin/x\n[Install]\nWantedBy=multi-user.target\n";
const UNIT: &str = "usr/lib/systemd/system/x.service";
const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n";

#[test]
fn nothing_is_said_of_a_harmless_extension() {
    let harmless = tree()
        .file("usr/bin/tool", 0o755, elf(X86_64))
        .file("usr/bin/script", 0o755, "#!/bin/sh\n")
        .file(UNIT, 0o644, INSTALL)
        .link(
            "usr/lib/systemd/system/multi-user.target.upholds/x.service",
            "../x.service",
        )
        .release("ID=_any\nARCHITECTURE=x86-64\nEXTENSION_RELOAD_MANAGER=1\n");
    let findings = judge_as(ExtensionKind::Sysext, &harmless, None, true);
    assert_eq!(findings.kept(), []);
    assert_eq!(judge_confext(&confext()), BTreeSet::new());
    assert_eq!(judge_beside(&tree(), &host()), BTreeSet::new());
}

/// Checks that `code` is found in the first tree, and not in the second.
#[track_caller]
pub(super) fn fires(code: Code, found: &BTreeSet<Code>, not: &BTreeSet<Code>) {
    assert!(found.contains(&code), "{code} is not among {found:?}");
    assert!(!not.contains(&code), "{code} is among {not:?}");
}

#[test]
fn layout() {
    let nothing = Tree::default().directory("usr/bin", 0o755);
    fires(Code::EmptyExtension, &judge(&nothing), &judge(&tree()));
    let core = tree().link("usr/bin", "../opt/bin");
    fires(
        Code::CoreDirectoryReplaced,
        &judge(&core),
        &judge(&tree().directory("usr/bin", 0o755)),
    );
    let sbin = tree().file("usr/sbin/x", 0o755, "");
    fires(Code::MergedUsrDirectory, &judge(&sbin), &judge(&tree()));
    // A host to compare with knows better.
    let lib64 = tree().file("usr/lib64/x", 0o644, "");
    fires(
        Code::MergedUsrDirectory,
        &judge(&lib64),
        &judge_beside(&lib64, &host()),
    );
    fires(
        Code::MergedUsrLink,
        &judge(&tree().link("usr/sbin", "bin")),
        &judge(&sbin),
    );
    let local = tree().file("usr/local/bin/x", 0o755, "");
    fires(
        Code::UsrLocal,
        &judge(&local),
        &judge(&tree().directory("usr/local/bin", 0o755)),
    );
    let outside = tree().file("srv/x", 0o644, "");
    fires(
        Code::OutsideHierarchies,
        &judge(&outside),
        &judge(&tree().directory("srv", 0o755)),
    );
    let nested = tree().file("usr/lib/confexts/a.raw", 0o644, "");
    fires(Code::NestedExtension, &judge(&nested), &judge(&tree()));
    let case = tree().file("usr/share/tool/Data", 0o644, "");
    let no_case = tree().file("usr/share/Data/data", 0o644, "");
    fires(Code::CaseCollision, &judge(&case), &judge(&no_case));
}

#[test]
fn what_overlayfs_acts_upon() {
    let whiteout = tree().file("usr/bin/.wh.x", 0o644, "");
    fires(
        Code::WhiteoutFile,
        &judge(&whiteout),
        &judge(&tree().file("usr/bin/wh.x", 0o644, "")),
    );
    let (deletion, device) = (
        tree().device("usr/bin/x", 0, 0),
        tree().device("usr/x", 1, 3),
    );
    fires(Code::OverlayWhiteout, &judge(&deletion), &judge(&device));
    fires(Code::DeviceNode, &judge(&device), &judge(&deletion));
    let opaque = tree().attribute("usr/share/tool", "trusted.overlay.opaque");
    let other = tree().attribute("usr/share/tool", "user.other");
    fires(Code::OverlayAttribute, &judge(&opaque), &judge(&other));
}

#[test]
fn modes_and_owners() {
    let locked = tree().directory("usr/bin", 0o700);
    let own = tree().directory("usr/share/tool/private", 0o700);
    fires(Code::DirectoryLocked, &judge(&locked), &judge(&own));
    fires(
        Code::DirectoryLocked,
        &judge(&locked),
        &judge(&tree().directory("usr", 0o700)),
    );
    fires(
        Code::DirectoryLocked,
        &judge(&locked),
        &judge(
            &tree()
                .directory("usr/tool", 0o700)
                .directory("usr/bin", 0o711),
        ),
    );
    let writable = tree().file("usr/bin/x", 0o777, "");
    let group_of_root = tree().file("usr/bin/x", 0o775, "");
    fires(
        Code::WritableByOthers,
        &judge(&writable),
        &judge(&group_of_root),
    );
    let group = tree()
        .file("usr/bin/x", 0o775, "")
        .owned("usr/bin/x", 0, 50);
    fires(
        Code::WritableByOthers,
        &judge(&group),
        &judge(&tree().directory("usr/t", 0o1777)),
    );
    let person = tree().owned("usr/share/tool/data", 1000, 1000);
    let system = tree().owned("usr/share/tool/data", 101, 999);
    fires(Code::ForeignOwner, &judge(&person), &judge(&system));
    let setuid = tree().file("usr/bin/x", 0o4755, "");
    fires(
        Code::Setuid,
        &judge(&setuid),
        &judge(&tree().directory("usr/x", 0o2755)),
    );
    let able = tree().attribute("usr/share/tool/data", "security.capability");
    fires(Code::FileCapability, &judge(&able), &judge(&tree()));
}

#[test]
fn release_files() {
    let os_release = tree().file("usr/lib/os-release", 0o644, "ID=x\n");
    fires(Code::OsReleaseInside, &judge(&os_release), &judge(&tree()));
    let complete = |tree: &Tree| {
        let findings = judge_as(ExtensionKind::Sysext, tree, None, true);
        findings.counts().keys().copied().collect()
    };
    let released = tree().release("ID=_any\n");
    fires(
        Code::NoReleaseFile,
        &complete(&tree()),
        &complete(&released),
    );
    let other = "usr/lib/extension-release.d/extension-release.other";
    let two = released.clone().file(other, 0o644, "ID=_any\n");
    fires(Code::ForeignRelease, &judge(&two), &judge(&released));
}

#[test]
fn the_name_of_an_image_leads_to_its_release_file() {
    let named = |file: &str, tree: &Tree| -> BTreeSet<Code> {
        let subject = Subject {
            kind: ExtensionKind::Sysext,
            architecture: None,
            files: tree,
            image: Some(Path::new(file)),
            complete: true,
            base: None,
        };
        let findings = lint(subject, &Policy::default()).unwrap();
        findings.counts().keys().copied().collect()
    };
    let released = tree().release("ID=_any\n");
    let renamed = named("/i/renamed.raw", &released);
    for file in [
        "x.raw",
        "x.sysext.raw",
        "x_1.2_arm64.sysext.raw",
        "x+3-0.raw",
        "x.raw.v/x_1.raw",
    ] {
        fires(
            Code::ReleaseName,
            &renamed,
            &named(&format!("/i/{file}"), &released),
        );
    }
    let release = "usr/lib/extension-release.d/extension-release.x";
    let mut lenient = released.clone();
    let strict = Xattr {
        name: b"user.extension-release.strict".to_vec(),
        value: b"0".to_vec(),
    };
    let entry = &mut lenient.entries.get_mut(&path(release)).unwrap().0;
    entry.xattrs.push(strict);
    fires(
        Code::ReleaseName,
        &renamed,
        &named("/i/renamed.raw", &lenient),
    );
    fires(
        Code::ReleaseName,
        &renamed,
        &named("/i/renamed.raw", &tree()),
    );
}

#[test]
fn files_of_one_host() {
    let accounts = confext().file("etc/shadow", 0o600, "");
    let factory = tree().file("usr/share/factory/etc/shadow", 0o600, "");
    fires(
        Code::AccountDatabase,
        &judge_confext(&accounts),
        &judge(&factory),
    );
    fires(Code::CredentialFile, &judge(&factory), &judge(&tree()));
    for at in ["etc/machine-id", "etc/ssh/ssh_host_ed25519_key"] {
        let identity = confext().file(at, 0o600, "");
        fires(
            Code::HostIdentity,
            &judge_confext(&identity),
            &judge_confext(&confext()),
        );
    }
    let resolv = confext().file("etc/resolv.conf", 0o644, "");
    let drop_in = confext().file("etc/tool/resolv.conf", 0o644, "");
    fires(
        Code::HostConfiguration,
        &judge_confext(&resolv),
        &judge_confext(&drop_in),
    );
}

#[test]
fn secrets() {
    for at in [
        "usr/share/tool/tls.key",
        "usr/share/ssl/x",
        "usr/share/tool/id_rsa",
    ] {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIE\n";
        let [key, certificate] =
            [KEY, certificate].map(|text| judge(&tree().file(at, 0o600, text)));
        fires(Code::PrivateKey, &key, &certificate);
    }
    let program = format!("printf '{KEY}'");
    fires(
        Code::PrivateKey,
        &judge_confext(&confext().file("etc/x", 0o644, format!("# key\n{KEY}"))),
        &judge_confext(&confext().file("etc/x", 0o644, program)),
    );
    for at in ["usr/share/tool/.docker/config.json", "opt/x/.netrc"] {
        fires(
            Code::CredentialFile,
            &judge(&tree().file(at, 0o600, "")),
            &judge(&tree()),
        );
    }
    let npm = |text: &str| judge(&tree().file("usr/lib/.npmrc", 0o600, text));
    fires(
        Code::CredentialFile,
        &npm("//r/:_authToken=x"),
        &npm("package-lock=false"),
    );
}

#[test]
fn leftovers() {
    let database = tree().file("usr/lib/sysimage/rpm/rpmdb.sqlite", 0o644, "x");
    fires(Code::PackageDatabase, &judge(&database), &judge(&tree()));
    let cache = tree().file("usr/lib/python3/__pycache__/x.pyc", 0o644, "x");
    fires(Code::BuildLeftover, &judge(&cache), &judge(&tree()));
    let index = tree().file("usr/share/mime/mime.cache", 0o644, "x");
    fires(Code::SharedIndex, &judge(&index), &judge(&tree()));
}

#[test]
fn kernel_modules() {
    let module = tree().file("usr/lib/modules/6.1/extra/x.ko.zst", 0o644, "");
    let index = module
        .clone()
        .file("usr/lib/modules/6.1/modules.dep", 0o644, "");
    fires(Code::ModulesIndex, &judge(&index), &judge(&module));
    let any = module.clone().release("ID=_any\n");
    let bound = module.release("ID=flatcar\nVERSION_ID=4000.1.0\n");
    fires(Code::ModulesUnbound, &judge(&any), &judge(&bound));
}

#[test]
fn units_must_be_started_by_something() {
    let unit = tree().file(UNIT, 0o644, INSTALL);
    let system = "usr/lib/systemd/system";
    let drop_in = format!("{system}/multi-user.target.d/10-x.conf");
    let dbus = "usr/share/dbus-1/system-services/x.service";
    for started in [
        tree().file(UNIT, 0o644, "[Service]\nExecStart=/usr/bin/x\n"),
        unit.clone().link(
            &format!("{system}/multi-user.target.upholds/x.service"),
            "../x.service",
        ),
        unit.clone()
            .file(&drop_in, 0o644, "[Unit]\nUpholds=y.service x.service\n"),
        unit.clone().file(
            &format!("{system}/x.timer"),
            0o644,
            "[Timer]\nOnBootSec=1\n",
        ),
        unit.clone().file(
            &format!("{system}/y.service"),
            0o644,
            "[Unit]\nWants=x.service\n",
        ),
        unit.clone()
            .file(dbus, 0o644, "[D-BUS Service]\nSystemdService=x.service\n"),
        unit.clone()
            .link(&format!("{system}/dbus-x.service"), "x.service"),
        unit.clone()
            .release("ID=_any\nEXTENSION_RESTART_UNITS=\"x.service\"\n"),
    ] {
        fires(Code::UnitNotStarted, &judge(&unit), &judge(&started));
        assert!(!judge(&started).contains(&Code::UnitOnlyWanted));
    }
    let wanted = unit.clone().link(
        &format!("{system}/a.target.wants/x.service"),
        "../x.service",
    );
    fires(Code::UnitOnlyWanted, &judge(&wanted), &judge(&unit));
    let template = tree().file(&format!("{system}/x@.service"), 0o644, INSTALL);
    let link = format!("{system}/a.target.upholds/x@1.service");
    let instance = template.clone().link(&link, "../x@.service");
    fires(Code::UnitNotStarted, &judge(&template), &judge(&instance));
    let reloaded = unit
        .clone()
        .release("ID=_any\nEXTENSION_RELOAD_MANAGER=1\n");
    fires(
        Code::ReloadMissing,
        &judge(&unit.release("ID=_any\n")),
        &judge(&reloaded),
    );
}

#[test]
fn a_comment_does_not_end_a_continued_line() {
    let unit = tree().file(UNIT, 0o644, INSTALL);
    let starting = |text: &str| judge(&unit.clone().file(&UNIT.replace("x.s", "y.s"), 0o644, text));
    fires(
        Code::UnitNotStarted,
        &starting("[Unit]\nWants=a.service \\\n# x.service\n"),
        &starting("[Unit]\nWants=a.service \\\n  # these too:\n; and\n x.service\n"),
    );
}

/// A word of a value must not cost what its key does.
#[test]
fn a_long_key_with_many_words_takes_little() {
    let text = format!("{}={}\n{INSTALL}", "k".repeat(130_000), "w ".repeat(60_000));
    let unit = tree().file(UNIT, 0o644, text);
    fires(Code::UnitNotStarted, &judge(&unit), &judge(&tree()));
}

#[test]
fn confexts_and_steps() {
    let script = confext().file("etc/tool/x.sh", 0o755, "#!/bin/sh\n");
    fires(
        Code::ExecutableInConfext,
        &judge_confext(&script),
        &judge_confext(&confext()),
    );
    let policy = tree().file("usr/share/dbus-1/system.d/x.conf", 0o644, "");
    fires(Code::HostStepNeeded, &judge(&policy), &judge(&tree()));
}

#[test]
fn programs_and_scripts() {
    let [arm, x86] = [ARM64, X86_64].map(|cpu| judge(&tree().file("usr/bin/x", 0o755, elf(cpu))));
    fires(Code::ForeignMachine, &arm, &x86);
    let firmware = tree().file("usr/lib/firmware/x", 0o755, elf(ARM64));
    fires(Code::ForeignMachine, &arm, &judge(&firmware));
    let damaged = tree().file("usr/bin/x", 0o755, &elf(X86_64)[..40]);
    fires(Code::UnreadableContent, &judge(&damaged), &x86);
    let script = |line: &str| tree().file("usr/bin/x", 0o755, format!("{line}\n"));
    let (perl, python) = (
        script("#!/usr/bin/perl -w"),
        script("#! /usr/bin/env python3"),
    );
    fires(
        Code::HostNeeded,
        &judge(&perl),
        &judge_beside(&perl, &host()),
    );
    fires(
        Code::MissingInterpreter,
        &judge_beside(&perl, &host()),
        &judge_beside(&python, &host()),
    );
    let own = perl.file("usr/bin/perl", 0o755, elf(X86_64));
    fires(
        Code::MissingInterpreter,
        &judge_beside(&script("#!/usr/bin/no"), &host()),
        &judge(&own),
    );
    // What /bin leads to is known even where the base does not say it.
    let through_bin = script("#!/bin/python3");
    fires(
        Code::HostNeeded,
        &judge(&through_bin),
        &judge_beside(&through_bin, &host()),
    );
}

#[test]
fn links() {
    let out = tree().link("usr/bin/x", "/etc/alternatives/x");
    let within = tree().link("usr/bin/x", "../share/tool/data");
    fires(Code::OutsideLink, &judge(&out), &judge(&within));
    fires(
        Code::DanglingLink,
        &judge_beside(&out, &host()),
        &judge(&out),
    );
    let to_host = tree().link("usr/bin/x", "/bin/python3");
    fires(
        Code::OutsideLink,
        &judge(&to_host),
        &judge_beside(&to_host, &host()),
    );
    let round = tree().link("usr/bin/x", "y").link("usr/bin/y", "x");
    fires(
        Code::DanglingLink,
        &judge(&round),
        &judge_beside(&to_host, &host()),
    );
    let masked = tree().link("usr/lib/systemd/system/x.service", "/dev/null");
    assert!(
        judge_beside(&masked, &host()).is_empty(),
        "{:?}",
        judge_beside(&masked, &host())
    );
}

#[test]
fn beside_a_host() {
    let beside = |tree: Tree| judge_beside(&tree, &host());
    let fine = beside(tree());
    fires(
        Code::LinkConflict,
        &beside(tree().file("usr/sbin/x", 0o755, "")),
        &fine,
    );
    fires(
        Code::TypeConflict,
        &beside(tree().file("usr/lib64", 0o644, "")),
        &fine,
    );
    fires(
        Code::TypeConflict,
        &beside(tree().file("usr/bin/tool/x", 0o644, "")),
        &fine,
    );
    for replaced in [
        Tree::default().link("usr", "/somewhere"),
        Tree::default().file("usr", 0o644, ""),
    ] {
        fires(Code::TypeConflict, &beside(replaced), &fine);
    }
    // The top folders of an extension are merged with what the host's lead to.
    let opt = tree().file("opt/tool/x", 0o644, "");
    assert_eq!(judge_beside(&opt, &host().link("opt", "var/opt")), fine);
    let same = beside(tree().file("usr/bin/tool", 0o755, "of the host"));
    for content in ["of the hosts", "of our host"] {
        let other = beside(tree().file("usr/bin/tool", 0o755, content));
        fires(Code::OverwrittenFile, &other, &same);
        fires(Code::RepeatedFile, &same, &other);
    }
    let [closed, open] =
        [0o750, 0o755].map(|mode| beside(tree().directory("usr/share/tool", mode)));
    fires(Code::DirectoryDiffers, &closed, &open);
}

#[test]
fn allowed_codes_are_passed_over() {
    let tree = tree().file("usr/sbin/x", 0o755, "");
    let policy = Policy {
        strict: true,
        allowed: [Code::MergedUsrDirectory].into(),
    };
    let subject = Subject {
        kind: ExtensionKind::Sysext,
        architecture: None,
        files: &tree,
        image: None,
        complete: false,
        base: None,
    };
    let findings = lint(subject, &policy).unwrap();
    assert_eq!(policy.objections(&findings), 0);
}

proptest::proptest! {
    /// Whatever is in a file, reading it ends, and says something.
    #[test]
    fn no_program_is_too_strange(changes in proptest::collection::vec((0usize..4096, 0u8..), 0..40), length in 0usize..40_000) {
        let mut program = std::fs::read("/bin/true").unwrap();
        for (place, byte) in changes {
            program[place] = byte;
        }
        program[..4].copy_from_slice(b"\x7fELF");
        program.truncate(length.max(4));
        judge_beside(&tree().file("usr/bin/x", 0o755, program), &host());
    }
}
