//! What is in the image.

use std::fs::File;
use std::num::NonZero;
use std::path::Path;

use super::search_path::image_name;
use super::target::{ExplainError, Target};
use super::{Condition, Question};
use crate::erofs::FileSystem;
use crate::extension::ExtensionKind;
use crate::image::{Ddi, DdiError, Designator, Role};
use crate::node::artefact::ArtefactName;
use crate::node::host::SystemdVersion;
use crate::node::policy::{Allowed, Policy};
use crate::read_at::FileWindow;
use crate::signature::trust::Verifier;
use crate::verification::{
    Blocks, Check, Fault, FoundRelease, Outcome, Progress, ReleaseFault, Report, Request, Trust,
    find_release, verify,
};

/// An image, as far as it can be read.
pub struct Image {
    /// What it is.
    pub form: Form,
    /// The file system in it, or why it cannot be read.
    pub file_system: Result<FileSystem<FileWindow>, String>,
    /// The release file by which systemd judges it.
    pub release: Result<FoundRelease, ReleaseFault>,
    /// Why the agent would not let it in.
    pub refusal: Option<String>,
}

/// What a file is.
pub enum Form {
    /// Partitions, and what was found out about them.
    Image {
        /// The partitions.
        ddi: Box<Ddi>,
        /// What was found out.
        report: Box<Report>,
    },
    /// A file system without a partition table.
    Naked,
    /// Neither.
    Other(DdiError),
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

impl Image {
    /// Reads an image.
    ///
    /// # Errors
    /// [`ExplainError::Read`].
    pub fn read(
        policy: &Policy,
        kind: ExtensionKind,
        systemd: SystemdVersion,
        target: &Target,
    ) -> Result<Image, ExplainError> {
        let find = |file_system: &FileSystem<FileWindow>, designator| {
            let name = image_name(&target.seen_as, kind, systemd);
            find(file_system, designator, kind, name.as_deref(), target)
        };
        let path = &target.path;
        let read = |source| ExplainError::Read {
            path: path.clone(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(read(std::io::Error::other("it is no regular file")));
        }
        let whole = FileWindow::whole(file).map_err(read)?;
        let (form, data) = match Ddi::examine(path) {
            Ok((ddi, _)) => {
                let data = ddi.open_partition(Role::Data).ok().flatten();
                let report = Box::new(report(policy, target));
                let ddi = Box::new(ddi);
                (Form::Image { ddi, report }, data)
            }
            Err(error) => match FileSystem::open(whole) {
                Ok(file_system) => {
                    let release = find(&file_system, Designator::Root);
                    return Ok(Image {
                        form: Form::Naked,
                        file_system: Ok(file_system),
                        release,
                        refusal: refusal(policy, kind, target),
                    });
                }
                Err(_) => (Form::Other(error), None),
            },
        };
        let designator = designator(&form).unwrap_or(Designator::Root);
        let file_system = data.map(FileSystem::open);
        let (file_system, release) = match file_system {
            Some(Ok(file_system)) => {
                let release = find(&file_system, designator);
                (Ok(file_system), release)
            }
            Some(Err(error)) => (Err(error.to_string()), Err(ReleaseFault::FileSystem(error))),
            None => (Err("there is none".to_owned()), Err(ReleaseFault::None)),
        };
        Ok(Image {
            form,
            file_system,
            release,
            refusal: refusal(policy, kind, target),
        })
    }

    /// What its data extends.
    pub fn designator(&self) -> Option<Designator> {
        designator(&self.form)
    }

    /// How its data is protected, in the words of image policies: by the partitions that there are.
    pub fn protection(&self) -> &'static str {
        match &self.form {
            Form::Image { ddi, .. } if ddi.partition(Role::Signature).is_some() => "signed",
            Form::Image { ddi, .. } if ddi.partition(Role::Hash).is_some() => "verity",
            _ => "unprotected",
        }
    }
}

fn designator(form: &Form) -> Option<Designator> {
    match form {
        Form::Image { ddi, .. } => Some(ddi.partition(Role::Data)?.kind?.designator),
        Form::Naked => Some(Designator::Root),
        Form::Other(_) => None,
    }
}

/// The release file for the name that this version of systemd gives the image; where there is none of
/// the kind that is asked for, that of the other one.
fn find(
    file_system: &FileSystem<FileWindow>,
    designator: Designator,
    kind: ExtensionKind,
    name: Option<&str>,
    target: &Target,
) -> Result<FoundRelease, ReleaseFault> {
    let Some(name) = name else {
        return find_release(file_system, designator, &target.seen_as);
    };
    // A file name out of which the newest rules make the very name.
    let of = |kind: ExtensionKind| {
        let file = format!("/{name}.{kind}.raw");
        find_release(file_system, designator, Path::new(&file))
    };
    let other = match kind {
        ExtensionKind::Sysext => ExtensionKind::Confext,
        ExtensionKind::Confext => ExtensionKind::Sysext,
    };
    match of(kind) {
        Err(ReleaseFault::None) => of(other).map_err(|_| ReleaseFault::None),
        found => found,
    }
}

fn report(policy: &Policy, target: &Target) -> Report {
    let request = Request {
        path: &target.path,
        known_as: Some(&target.seen_as),
        trust: Trust::Signed {
            store: policy.trust(),
            verifiers: &[Verifier::Systemd, Verifier::Kernel],
        },
        host: None,
        blocks: Blocks::Needed,
        jobs: NonZero::<usize>::MIN,
    };
    verify(&request, &Silent)
}

/// Why the agent would not let the image in.
fn refusal(policy: &Policy, kind: ExtensionKind, target: &Target) -> Option<String> {
    let file = target
        .path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let name = match ArtefactName::parse(file, kind) {
        Ok(name) => name,
        Err(error) => return Some(error.to_string()),
    };
    let refused = policy.prove_quickly(&target.path, &name, kind, Allowed::default());
    refused.err().map(|refusal| refusal.to_string())
}

impl Question<'_> {
    pub(super) fn look_at_form(&self, conditions: &mut Vec<Condition>) {
        let condition =
            Condition::new("image").demands("a partition table, or a file system alone");
        conditions.push(match &self.image.form {
            Form::Naked => condition
                .has("a file system alone")
                .doubtful("nothing shows whether it is intact"),
            Form::Other(error) => {
                let error = error
                    .to_string()
                    .replace(&self.target.path.display().to_string(), "it");
                condition.has("neither").blocks(error)
            }
            Form::Image { ddi, report } => {
                let roles = [Role::Data, Role::Hash, Role::Signature];
                let names = roles.iter().filter_map(|role| ddi.partition(*role)?.kind);
                let names: Vec<String> = names.map(|kind| kind.to_string()).collect();
                let condition = condition.has(names.join(", "));
                match (
                    report.outcome(Check::Partitions),
                    report.outcome(Check::PartitionTable),
                ) {
                    (Outcome::Failed(Fault::UsrPartition), _) => condition,
                    (Outcome::Failed(fault), _) => condition.blocks(self.named(fault)),
                    (_, Outcome::Failed(fault)) => condition.doubtful(self.named(fault)),
                    _ => condition,
                }
            }
        });
    }

    /// A fault, without the path of the image.
    pub(super) fn named(&self, fault: &dyn std::error::Error) -> String {
        let mut sentence = fault.to_string();
        if let Some(cause) = fault.source().map(ToString::to_string)
            && !sentence.ends_with(&cause)
        {
            sentence = format!("{sentence}: {cause}");
        }
        let path: &Path = &self.target.path;
        sentence.replace(&path.display().to_string(), "it")
    }
}
