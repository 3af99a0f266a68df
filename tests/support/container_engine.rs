//! Real container engines, with all of their data in a temporary directory.

#![allow(dead_code)] // each test uses a part of it

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

const SOCKET: &str = "engine.sock";

/// An engine on a socket of its own, until the value is dropped.
pub struct Engine {
    process: Child,
    directory: TempDir,
}

impl Engine {
    /// Debian's dockerd.
    pub fn dockerd() -> Result<Engine, String> {
        Engine::dockerd_with(|_| Vec::new())
    }

    /// The same with more arguments, which may name files in the engine's folder.
    pub fn dockerd_with(more: impl Fn(&Path) -> Vec<String>) -> Result<Engine, String> {
        Engine::start("dockerd", |directory, command| {
            command
                .args(more(directory))
                .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
                // overlayfs cannot be had in every container that runs tests.
                .arg("--storage-driver=vfs")
                .arg("--host")
                .arg(format!("unix://{}", directory.join(SOCKET).display()))
                .arg("--data-root")
                .arg(directory.join("data"))
                .arg("--exec-root")
                .arg(directory.join("exec"))
                .arg("--pidfile")
                .arg(directory.join("pid"));
        })
    }

    /// Debian's podman as a service.
    pub fn podman() -> Result<Engine, String> {
        Engine::start("podman", |directory, command| {
            command
                .arg("--root")
                .arg(directory.join("data"))
                .arg("--runroot")
                .arg(directory.join("run"))
                .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"])
                .args(["system", "service", "--time=0"])
                .arg(format!("unix://{}", directory.join(SOCKET).display()));
        })
    }

    fn start(program: &str, arguments: impl Fn(&Path, &mut Command)) -> Result<Engine, String> {
        if !geteuid().is_root() {
            return Err(format!("{program} needs root"));
        }
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        arguments(directory.path(), &mut command);
        let process = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let mut engine = Engine { process, directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !engine.docker(&["version"])?.status.success() {
            let has_ended = engine.process.try_wait().unwrap().is_some();
            if has_ended || Instant::now() > deadline {
                let log = fs::read_to_string(engine.path("log")).unwrap();
                let end: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!("{program} does not work here: {}", end.join("; ")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(engine)
    }

    /// A file in the engine's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The value for `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path(SOCKET).display())
    }

    /// What Docker's client says to the engine, with the engine's folder for its configuration.
    pub fn docker(&self, arguments: &[&str]) -> Result<Output, String> {
        Command::new("docker")
            .arg("--host")
            .arg(self.address())
            .args(arguments)
            // The other builder needs a plugin that Debian does not have.
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CONFIG", self.directory.path())
            .output()
            .map_err(|error| format!("docker cannot be started: {error}"))
    }

    /// Runs `docker` and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments).unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {message}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Politely: dockerd takes its containerd with it.
        if let Some(pid) = Pid::from_raw(self.process.id().try_into().unwrap()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}
