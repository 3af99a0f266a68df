//! Several ways to the same end, measured in turn.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sysgraft::image::{Ddi, Role};

use super::children;
use super::machine;
use super::results::{Results, Row, Sample};
use super::session::Session;

/// A command of a way, with the file that takes what it prints.
pub struct Step {
    command: Command,
    stdout: Option<PathBuf>,
}

impl Step {
    pub fn printing_into(command: Command, file: PathBuf) -> Step {
        Step {
            command,
            stdout: Some(file),
        }
    }

    fn run(&mut self, stderr: &Path) -> Result<children::Usage, String> {
        let stdout = match &self.stdout {
            Some(path) => Stdio::from(File::create(path).unwrap()),
            None => Stdio::null(),
        };
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(stderr).unwrap())
            .spawn()
            .map_err(|error| format!("{:?}: {error}", self.command.get_program()))?;
        let (status, usage) = children::wait(&child).unwrap();
        if status.success() {
            return Ok(usage);
        }
        let said = fs::read(stderr).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = said.trim_end().lines().next_back().unwrap_or_default();
        Err(format!(
            "{:?}: {status}: {last}",
            self.command.get_program()
        ))
    }
}

impl From<Command> for Step {
    fn from(command: Command) -> Step {
        Step {
            command,
            stdout: None,
        }
    }
}

/// What counts as the size of a result.
pub enum Output {
    /// The file as it is.
    File(PathBuf),
    /// The file system in a disk image, so that it can be compared with a naked one.
    FileSystemIn(PathBuf),
    Nothing,
}

impl Output {
    pub fn size(&self) -> u64 {
        match self {
            Output::File(path) => fs::metadata(path).unwrap().len(),
            Output::FileSystemIn(path) => {
                let image = Ddi::open(path).unwrap();
                image.partition(Role::Data).unwrap().size
            }
            Output::Nothing => 0,
        }
    }
}

/// Commands that, one after another, make `output`.
pub struct Way {
    name: String,
    steps: Vec<Step>,
    output: Output,
    /// A peer may fail; the table says so then.
    is_peer: bool,
    samples: Vec<Sample>,
    failure: Option<String>,
}

impl Way {
    pub fn ours(name: impl Into<String>, step: impl Into<Step>, output: Output) -> Way {
        Way {
            is_peer: false,
            ..Way::peer(name, vec![step.into()], output)
        }
    }

    pub fn peer(name: impl Into<String>, steps: Vec<Step>, output: Output) -> Way {
        Way {
            name: name.into(),
            steps,
            output,
            is_peer: true,
            samples: Vec::new(),
            failure: None,
        }
    }

    fn measure(&mut self, session: &Session) {
        let out = session.path("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(out.join("tree")).unwrap();
        // What earlier runs left to be written must not be written during this one.
        rustix::fs::sync();
        let start = Instant::now();
        let mut cpu = Duration::ZERO;
        let mut peak = 0;
        for step in &mut self.steps {
            match step.run(&session.path("stderr")) {
                Ok(usage) => {
                    cpu += usage.cpu;
                    peak = peak.max(usage.peak);
                }
                Err(failure) => {
                    assert!(self.is_peer, "{}: {failure}", self.name);
                    self.failure = Some(failure);
                    return;
                }
            }
        }
        let wall = start.elapsed();
        self.samples.push(Sample {
            wall,
            cpu,
            peak,
            size: self.output.size(),
        });
    }
}

/// Measures all ways once, then all once more, and so on, so that whatever else the machine does
/// befalls all of them alike.
pub fn in_turn(session: &Session, mut ways: Vec<Way>) -> Results {
    for run in 1..=session.runs {
        for way in &mut ways {
            if way.failure.is_some() {
                continue;
            }
            way.measure(session);
            match (&way.failure, way.samples.last()) {
                (None, Some(sample)) => eprintln!(
                    "  {run}/{} {:7.2} s  {}",
                    session.runs,
                    sample.wall.as_secs_f64(),
                    way.name
                ),
                (failure, _) => eprintln!("  {}: {failure:?}", way.name),
            }
        }
    }
    let _ = fs::remove_dir_all(session.path("out"));
    let rows = ways
        .into_iter()
        .map(|way| Row::new(way.name, &way.samples, way.failure));
    Results {
        rows: rows.collect(),
        own_peak: machine::own_peak(),
    }
}
