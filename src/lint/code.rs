//! What lint can find: every code with its severity, its reason and its remedy.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something will not work as it seems, on some hosts at least.
    Warning,
    /// systemd refuses the extension, or it breaks its host.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// What is to be said of a [`Code`]; the columns of the table in `docs/lint.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The stable name.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: &'static str,
    /// What comes of it.
    pub why: &'static str,
    /// How to mend it.
    pub mend: &'static str,
    /// Where it really happened, or who says so.
    pub incident: &'static str,
}

macro_rules! codes {
    ($($code:ident $name:literal $severity:ident $what:literal $why:literal $mend:literal $incident:literal)*) => {
        /// What was found. Names are stable: scripts allow and count them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $what] $code,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$code,)*];

            /// What is to be said of it.
            pub fn rule(self) -> Rule {
                match self {
                    $(Code::$code => Rule {
                        name: $name,
                        severity: Severity::$severity,
                        what: $what,
                        why: $why,
                        mend: $mend,
                        incident: $incident,
                    },)*
                }
            }
        }
    };
}

codes! {
    EmptyExtension "empty-extension" Error
        "there is no file in the folders that the extension can extend"
        "It is merged and changes nothing; mostly the wrong layer was taken"
        "Choose the layer, or the paths, that hold the files"
        "kairos AuroraBoot: the last layer of an image with several RUN lines"
    CoreDirectoryReplaced "core-directory-replaced" Error
        "a link or file in the place of /usr/bin, /usr/lib or another folder that every host has"
        "An overlay shows the link instead of the host's folder: all of its files are gone"
        "Put the files into the folder itself"
        "kairos-io/kairos#4290"
    MergedUsrDirectory "merged-usr-directory" Warning
        "a folder that many hosts have as a link, as /usr/sbin and /usr/lib64"
        "Where the host has a link, the folder takes its place and hides what the link led to"
        "Move the files to /usr/bin or /usr/lib; if the hosts are known, say --host-root or --base"
        "flatcar/sysext-bakery#131, systemd/systemd#42746"
    MergedUsrLink "merged-usr-link" Warning
        "a link in the place of a folder that many hosts have, as /usr/sbin and /usr/lib64"
        "Where the host has a folder, the link takes its place and hides the files in it"
        "Leave the link out; if the hosts are known, say --host-root or --base"
        "systemd/systemd#42746"
    UsrLocal "usr-local" Warning
        "files below /usr/local"
        "Immutable hosts mount a folder of their own there, or have a link to /var: either the files are not seen, or those of the host"
        "Install with the prefix /usr"
        "kairos-io/kairos#4290"
    OutsideHierarchies "outside-hierarchies" Warning
        "files outside of the folders that are merged"
        "systemd merges /usr and /opt of a sysext and /etc of a confext, and passes over the rest"
        "Move them below these folders, or make a second extension of the other kind"
        "flatcar/Flatcar#1298, kairos-io/AuroraBoot#771"
    NestedExtension "nested-extension" Warning
        "extensions inside an extension"
        "systemd looks for extensions before it merges any, so it finds these at the next merge only, or never"
        "Install them on the host as extensions of their own"
        "systemd/systemd#38838"
    CaseCollision "case-collision" Note
        "names in one folder that differ in case only"
        "On a disk without case, as of build machines with macOS, one of them was lost or will be"
        "Rename one of them"
        "known from git checkouts; none among extensions yet"
    WhiteoutFile "whiteout-file" Warning
        "a deletion of a container layer (.wh.NAME) that was unpacked as a file"
        "It deletes nothing on the host, and appears in its folder"
        "Apply deletions when the layers are merged, as sysgraft does"
        "weakness B3 of AuroraBoot's builder"
    OverlayWhiteout "overlay-whiteout" Error
        "a deletion as overlayfs stores it: a character device 0:0"
        "It deletes the file of that name on the host"
        "Leave it out"
        "flatcar/scripts#1729"
    OverlayAttribute "overlay-attribute" Error
        "an attribute trusted.overlay.* or user.overlay.*"
        "An opaque folder hides all that host and other extensions have in it"
        "Take the attributes off (setfattr -x) before packing"
        "flatcar/scripts#1729, flatcar/sysext-bakery#50"

    DirectoryLocked "directory-locked" Error
        "a folder that every host has, closed for other users"
        "A folder takes its mode from the topmost extension that has it: a 0700 /usr/bin locks out all users and services"
        "chmod 0755, or leave the entry out"
        "systemd/systemd#31987"
    WritableByOthers "writable-by-others" Warning
        "a file or folder that its group or everybody may write"
        "Whoever may write a program may have its power; mutable extensions can be written"
        "chmod go-w"
        "known from packaging policies (Debian Policy 10.9)"
    ForeignOwner "foreign-owner" Warning
        "a file or folder of a user or group with a number of 1000 or more"
        "It is a person of the machine that built it, and somebody else on the host, who may then change a service"
        "chown root:root"
        "flatcar/Flatcar#1525"
    Setuid "setuid" Note
        "a program that runs with the rights of its owner or group"
        "A sysext is merged without nosuid: the program has these rights on the host"
        "Take the bit off unless it is needed"
        "systemd-sysext(8): merged with ro,nodev only"
    FileCapability "file-capability" Note
        "a program that runs with capabilities"
        "A sysext is merged without nosuid: the program has them on the host"
        "Take them off (setcap -r) unless they are needed"
        "systemd-sysext(8): merged with ro,nodev only"
    DeviceNode "device-node" Note
        "a device node"
        "Extensions are merged with nodev: it cannot be opened"
        "Leave it out"
        "systemd-sysext(8): merged with ro,nodev"

    OsReleaseInside "os-release-inside" Error
        "an os-release file"
        "systemd passes over an image that has /usr/lib/os-release, and fails on such a folder; /etc/os-release of a confext renames the host"
        "Leave it out"
        "weakness B28 of AuroraBoot's builder"
    NoReleaseFile "no-release-file" Error
        "there is no file extension-release.NAME"
        "systemd cannot read the extension, and then merges none of the others either"
        "Build the image with sysgraft, or add usr/lib/extension-release.d/extension-release.NAME"
        "flatcar/sysext-bakery#52, systemd/systemd#32762"
    ForeignRelease "foreign-release" Warning
        "release files of several extensions"
        "systemd looks among them if none has the exact name, and gives up if several would do"
        "Leave in the one of this extension"
        "weakness B33 of AuroraBoot's builder"
    ReleaseName "release-name" Error
        "an image file whose name demands another release file"
        "systemd looks for extension-release.NAME by the name of the file, and without it merges none of the extensions"
        "Give the file the name of the release file back; behind it only _VERSION may stand"
        "systemd-sysext(8); renamed downloads"

    AccountDatabase "account-database" Error
        "passwd, shadow, group or gshadow in /etc"
        "It takes the place of the host's: its users, passwords and groups are gone, and those of the build machine are published"
        "Describe users in /usr/lib/sysusers.d"
        "frostyard/snosi#282"
    HostIdentity "host-identity" Error
        "what only one host may have: machine-id, random seed, SSH host key"
        "All hosts of the extension get the same; a changed machine-id also loses the journal"
        "Leave it out"
        "systemd/systemd#36378, frostyard/snosi#282"
    HostConfiguration "host-configuration" Warning
        "a file in /etc that hosts write themselves: resolv.conf, hostname, hosts, fstab and the like"
        "It takes the place of the host's, and while the confext is merged it cannot be written"
        "Use a drop-in folder, or leave it out"
        "systemd/systemd#31392"
    PrivateKey "private-key" Warning
        "a private key"
        "Whoever gets the image gets the key"
        "Leave it out and bring it to the host as a credential; with --allow private-key if it is public anyway"
        "frostyard/snosi#282"
    CredentialFile "credential-file" Warning
        "a file that holds logins or tokens: .docker/config.json, .netrc, .git-credentials, cloud credentials"
        "Whoever gets the image gets the login"
        "Leave it out; use secrets of the build (RUN --mount=type=secret)"
        "frostyard/snosi#282"
    PackageDatabase "package-database" Warning
        "the database or cache of a package manager"
        "It takes the place of the host's, which then knows only the packages of the build, and it is large"
        "Exclude it, or delete it in the same RUN line that installs"
        "systemd/mkosi#3113: 20 MB of rpmdb in an extension of 1 MB"
    BuildLeftover "build-leftover" Note
        "what a build leaves behind: __pycache__, .git, .cache"
        "It is of no use on the host; some of it differs from build to build"
        "Delete it in the same RUN line"
        "systemd/mkosi#3113"
    SharedIndex "shared-index" Warning
        "an index over files of all packages: mime.cache, gschemas.compiled, hwdb.bin and the like"
        "It takes the place of the host's, and lists only what the build had"
        "Leave it out"
        "the same as with modules.dep: flatcar/scripts#2976"

    ModulesIndex "modules-index" Warning
        "modules.dep or another index of depmod"
        "It takes the place of the host's, so that only modules of the build can be loaded; of several extensions one wins"
        "Leave it out, and run depmod into a folder of the host (or load by path)"
        "flatcar/scripts#2976, flatcar/Flatcar#1576, elementary/os#869"
    ModulesUnbound "modules-unbound" Warning
        "kernel modules in an extension that is not bound to a version of the host"
        "After an update of the host it is still merged, but the new kernel has no such modules"
        "Say ID with VERSION_ID or SYSEXT_LEVEL in the release file"
        "systemd/systemd#37587, flatcar/sysext-bakery#235"

    ForeignMachine "foreign-machine" Warning
        "a program or library for another CPU than the extension's"
        "It cannot be run; mostly the image was of another platform"
        "Take the image of the right --platform"
        "weakness B12 of AuroraBoot's builder"
    HostNeeded "host-needed" Note
        "programs need a library or interpreter that is not in the extension"
        "It has to be on the host; without a host to compare with nobody knows"
        "Say --host-root or --base to have it checked"
        "systemd/systemd#32007"
    MissingLibrary "missing-library" Warning
        "a library that programs need is neither in the extension nor on the host"
        "They do not start: cannot open shared object file"
        "Put the library into the extension, or link statically"
        "systemd/systemd#32007"
    MissingInterpreter "missing-interpreter" Warning
        "the loader of a program, or the interpreter of a script, is neither in the extension nor on the host"
        "It does not start: No such file or directory"
        "Put it into the extension, or build for the host's libc"
        "programs from Alpine's musl on hosts with glibc"
    SymbolVersion "symbol-version" Warning
        "programs need a newer version of a library (GLIBC_2.38 or the like) than there is"
        "They do not start: version not found"
        "Build on the oldest system that is to run them, or link statically"
        "systemd/systemd#32007"
    UnreadableContent "unreadable-content" Note
        "a file or folder that could not be read"
        "Rules about content were not applied to it"
        "Let somebody run this who may read it; images in LZMA or DEFLATE cannot be read"
        "none: it is a limit of lint"

    JudgedInPart "judged-in-part" Warning
        "more links, programs or text than lint looks at"
        "To look at all would take too long or too much memory: what is left out may be wrong"
        "Find out what the many are; no usual extension has so much"
        "none: it is a limit of lint"

    UnitNotStarted "unit-not-started" Warning
        "a unit with [Install] that nothing starts"
        "Merging an extension enables no units: without a link in *.wants or *.upholds nobody starts it"
        "Add a drop-in TARGET.d/NAME.conf with Upholds=, a link in TARGET.upholds, or name it in EXTENSION_RESTART_UNITS"
        "frostyard/snosi#239, flatcar/sysext-bakery#8"
    UnitOnlyWanted "unit-only-wanted" Note
        "a unit that is started by a link in *.wants alone"
        "A target that is reached already when the extension is merged starts nothing any more"
        "Use *.upholds (systemd 249), which is kept true all the time"
        "frostyard/snosi#239, flatcar/sysext-bakery#8"
    ReloadMissing "reload-missing" Warning
        "units in an extension whose release file does not say EXTENSION_RELOAD_MANAGER=1"
        "systemd does not read them when the extension is merged"
        "Build with --service-reload"
        "flatcar/Flatcar#1329"
    HostStepNeeded "host-step-needed" Note
        "files that take effect only after a step on the host: D-Bus policies, udev rules, users, sysctl"
        "The programs that read them have done so when the extension is merged, or have to be told"
        "Do the step in a unit of the extension"
        "systemd/systemd#41662"
    ExecutableInConfext "executable-in-confext" Warning
        "an executable file in /etc"
        "Confexts are merged with noexec: it cannot be run any more"
        "Put programs into a sysext; or merge with --noexec=no"
        "systemd/systemd#38961"

    OutsideLink "outside-link" Note
        "a link to something that is not in the extension"
        "It has to be on the host; without a host to compare with nobody knows"
        "Say --host-root or --base to have it checked"
        "none: it is what dangling-link would prove"
    DanglingLink "dangling-link" Warning
        "a link to something that is neither in the extension nor on the host"
        "Whoever opens it finds nothing"
        "Add what it leads to, or leave the link out"
        "links to /etc/alternatives, which containers have and extensions lose"
    LinkConflict "link-conflict" Error
        "a folder where the host has a link"
        "The folder takes the place of the link, and hides all that it led to; hosts did not boot any more"
        "Put the files where the link leads to"
        "flatcar/sysext-bakery#131, systemd/systemd#42746"
    TypeConflict "type-conflict" Error
        "a file where the host has a folder, or the reverse"
        "It takes the place of the host's, and all that was in the folder is gone"
        "Rename or move it"
        "kairos-io/kairos#4290"
    OverwrittenFile "overwritten-file" Warning
        "a file that the host has with other content"
        "The host's is hidden; it may be a library that the whole system uses, and is not updated with it"
        "Build on top of the same host (--base), or exclude it"
        "systemd/mkosi#4283, systemd/systemd#32007"
    RepeatedFile "repeated-file" Note
        "a file that the host has with the same content"
        "It takes space, and hides the host's when that is updated"
        "Exclude it, or build with --base"
        "systemd/mkosi#4283"
    DirectoryDiffers "directory-differs" Warning
        "a folder of the host with other mode or owner"
        "A folder takes both from the topmost extension that has it"
        "Give it the mode and owner of the host"
        "systemd/systemd#31987"
}

impl Code {
    /// The stable name.
    pub fn name(self) -> &'static str {
        self.rule().name
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        self.rule().severity
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no code.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name:?} is no code of lint; `sysgraft lint --explain all` lists them")]
pub struct UnknownCode {
    /// The text.
    pub name: String,
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(name: &str) -> Result<Code, UnknownCode> {
        let found = Code::ALL.iter().find(|code| code.name() == name);
        found.copied().ok_or_else(|| UnknownCode {
            name: name.to_owned(),
        })
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_mean_their_code() {
        for &code in Code::ALL {
            assert_eq!(code.name().parse(), Ok(code));
            assert!(
                code.name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
        }
        assert!("no-such-code".parse::<Code>().is_err());
    }

    #[test]
    fn the_document_has_the_text_of_every_code_and_no_other() {
        let row = |code: &Code| {
            let rule = code.rule();
            let Rule {
                name,
                severity,
                what,
                why,
                mend,
                incident,
            } = rule;
            format!("| `{name}` | {severity} | {what} | {why} | {mend} | {incident} |")
        };
        let document = std::fs::read_to_string("docs/lint.md").unwrap();
        let documented: Vec<&str> = document.lines().filter(|l| l.starts_with("| `")).collect();
        let expected: Vec<String> = Code::ALL.iter().map(row).collect();
        assert_eq!(documented, expected, "should be:\n{}", expected.join("\n"));
    }
}
