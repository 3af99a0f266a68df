//! A real dockerd behind TLS with client certificates, named by address and by Docker's contexts.

#[path = "support/container_engine.rs"]
mod container_engine;
mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use container_engine::Engine;
use tempfile::TempDir;

/// Certificates as Docker's guide "Protect the Docker daemon socket" makes them.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"
            set -eu
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=ca
            certify() {
                openssl req -newkey rsa:2048 -nodes -keyout "$1-pkcs8.pem" -subj "/CN=$1" -out "$1.csr"
                # The form that `openssl genrsa` gave for decades, and many still have.
                openssl rsa -traditional -in "$1-pkcs8.pem" -out "$1-key.pem"
                printf "%s\n" "$2" > "$1.conf"
                openssl x509 -req -days 2 -in "$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial \
                    -out "$1-cert.pem" -extfile "$1.conf"
            }
            certify server "subjectAltName=IP:127.0.0.1
extendedKeyUsage=serverAuth"
            certify client "extendedKeyUsage=clientAuth"
            mkdir client
            cp ca.pem client/ca.pem
            cp client-cert.pem client/cert.pem
            cp client-key.pem client/key.pem
            mkdir anonymous
            cp ca.pem anonymous/
            mkdir stranger
            openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -out stranger/ca.pem -subj /CN=other
        "#;
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{message}");
        Certificates { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// dockerd that takes only clients with certificates at `address`, with the image `app:1`.
fn start(certificates: &Certificates, address: &str) -> Result<Engine, String> {
    let engine = Engine::dockerd_with(|_| {
        let file =
            |option: &str, name: &str| format!("{option}={}", certificates.path(name).display());
        vec![
            format!("--host={address}"),
            "--tlsverify".to_owned(),
            file("--tlscacert", "ca.pem"),
            file("--tlscert", "server-cert.pem"),
            file("--tlskey", "server-key.pem"),
        ]
    })?;
    let root = engine.path("root");
    fs::create_dir_all(root.join("usr/share/app")).unwrap();
    fs::write(root.join("usr/share/app/file"), "content").unwrap();
    let archive = engine.path("app.tar");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(&archive)
        .arg("usr")
        .status()
        .unwrap();
    assert!(packed.success());
    engine.run(&["import", archive.to_str().unwrap(), "app:1"]);
    Ok(engine)
}

/// Builds an extension from `app:1` with these arguments and variables, and no others of Docker's.
fn build(arguments: &[&str], variables: &[(&str, &Path)]) -> Output {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft"));
    for name in [
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_CERT_PATH",
        "DOCKER_TLS_VERIFY",
        "CONTAINER_HOST",
    ] {
        command.env_remove(name);
    }
    command
        .args(["sysext", "app", "docker-daemon:app:1"])
        .args(arguments)
        .arg("--output")
        .arg(out.path())
        .env("HOME", out.path())
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_built(output: &Output) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
}

#[track_caller]
fn assert_refused(output: &Output, reason: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(reason), "{message}");
}

#[test]
fn dockerd_behind_tls_is_reached_by_address_and_by_context() {
    let test = "dockerd_behind_tls_is_reached_by_address_and_by_context";
    let certificates = Certificates::new();
    let address = format!("tcp://127.0.0.1:{}", free_port());
    let engine = match start(&certificates, &address) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(test, &reason),
    };
    addresses_need_the_right_certificates(&certificates, &address);
    contexts_bring_their_certificates(&certificates, &engine, &address);
}

fn addresses_need_the_right_certificates(certificates: &Certificates, address: &str) {
    let verify = ("DOCKER_TLS_VERIFY", Path::new("1"));
    let folder = certificates.path("client");
    let client = ("DOCKER_CERT_PATH", folder.as_path());
    assert_built(&build(&["--engine", address], &[verify, client]));
    assert_built(&build(
        &[],
        &[verify, client, ("DOCKER_HOST", Path::new(address))],
    ));

    let plain = build(&["--engine", address], &[client]);
    assert_refused(&plain, "Client sent an HTTP request to an HTTPS server");
    for (folder, reason) in [
        ("stranger", "certificate verify failed"),
        ("anonymous", "it does not know its client"),
    ] {
        let folder = certificates.path(folder);
        let output = build(
            &["--engine", address],
            &[verify, ("DOCKER_CERT_PATH", &folder)],
        );
        assert_refused(&output, reason);
    }
    // The certificate is for the address, not for this name.
    let by_name = address.replace("127.0.0.1", "localhost");
    let output = build(&["--engine", &by_name], &[verify, client]);
    assert_refused(&output, "certificate verify failed");
}

fn contexts_bring_their_certificates(certificates: &Certificates, engine: &Engine, address: &str) {
    let file = |name: &str| certificates.path("client").join(name).display().to_string();
    let endpoint = format!(
        "host={address},ca={},cert={},key={}",
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    // Not through `Engine::docker`, whose --host the client would take for the context.
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker")
            .args(arguments)
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", engine.path("client"))
            .output()
            .unwrap();
        assert_built(&output);
    };
    docker(&["context", "create", "far", "--docker", &endpoint]);
    let folder = engine.path("client");
    let configuration = ("DOCKER_CONFIG", folder.as_path());
    let chosen = |name: &'static str| ("DOCKER_CONTEXT", Path::new(name));
    assert_built(&build(&[], &[configuration, chosen("far")]));
    docker(&["context", "use", "far"]);
    assert_built(&build(&[], &[configuration]));
    let unknown = build(&[], &[configuration, chosen("near")]);
    assert_refused(&unknown, "cannot use the Docker context \"near\"");
}
