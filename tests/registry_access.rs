//! How `sysgraft sysext` gets into registries: logins, TLS, mirrors, proxies.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/registry_flaky.rs"]
mod registry_flaky;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_real.rs"]
mod registry_real;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use node_nginx::free_port;
use registry_flaky::{Tunnel, write_script};
use registry_image::{Blobs, digest, tarball};
use registry_real::{LOGIN, RealRegistry, Setup};
use sysgraft::digest::Digest;
use workplace::{Workplace, sysgraft, text};

/// "alice:secret" in Base64.
const AUTH: &str = "YWxpY2U6c2VjcmV0";

const OPEN: Setup = Setup {
    tls: false,
    login: false,
    clients: false,
};

/// A registry with an image, or the word that the test cannot run.
macro_rules! registry {
    ($test:literal, $setup:expr, $($repository:literal),+) => {{
        let started = RealRegistry::start($setup);
        match started.and_then(|registry| {
            $(push(&registry, $repository)?;)+
            Ok(registry)
        }) {
            Ok(registry) => registry,
            Err(reason) => return support::skip($test, &reason),
        }
    }};
}

/// Stores an image as `REPOSITORY:1`; the result is its digest.
fn push(registry: &RealRegistry, repository: &str) -> Result<Digest, String> {
    let mut blobs = Blobs::default();
    let layer = tarball(&[("usr/bin/hello", b"hello\n")]);
    let manifest = blobs.add_image("linux/amd64", &[&layer]);
    registry.push(&blobs, std::slice::from_ref(&manifest), repository, "1")?;
    Ok(digest(&manifest))
}

/// A folder, and a user who has nothing but it.
struct User(Workplace);

impl User {
    fn new() -> User {
        let workplace = Workplace::new();
        for folder in ["home", "run", "bin"] {
            fs::create_dir(workplace.path(folder)).unwrap();
        }
        User(workplace)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Writes a file, and the folders above it.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A file with the login for `host`.
    fn write_login(&self, name: &str, host: &str) -> PathBuf {
        let json = format!(r#"{{"auths": {{"{host}": {{"auth": "{AUTH}"}}}}}}"#);
        self.write(name, json)
    }

    /// `sysgraft sysext … hello IMAGE` with an environment of its own.
    fn sysext(&self, image: &str) -> Command {
        let mut command = sysgraft(["sysext", "--platform", "amd64", "--output"]);
        command
            .arg(self.0.out())
            .args(["hello", image])
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", self.path("bin"));
        for variable in [
            "REGISTRY_AUTH_FILE",
            "DOCKER_CONFIG",
            "XDG_CONFIG_HOME",
            "CONTAINERS_REGISTRIES_CONF",
            "SYSGRAFT_REGISTRY_CREDS",
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
            "NO_PROXY",
            "no_proxy",
        ] {
            command.env_remove(variable);
        }
        command
    }
}

/// What a run that has to succeed says.
fn works(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// What a run that has to fail says.
fn fails(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success(), "{}", text(&stderr));
    assert!(!text(&stderr).contains("secret"), "{}", text(&stderr));
    text(&stderr)
}

#[test]
fn logins_come_from_wherever_they_are_kept() {
    let setup = Setup {
        login: true,
        ..OPEN
    };
    let registry = registry!("logins_come_from_wherever_they_are_kept", setup, "team/app");
    let host = registry.host();
    let image = format!("docker://{host}/team/app:1");
    let user = User::new();

    let message = fails(&mut user.sysext(&image));
    assert!(message.contains("no login for"), "{message}");
    assert!(message.contains("podman login"), "{message}");
    works(user.sysext(&image).args(["--creds", LOGIN]));
    works(user.sysext(&image).env("SYSGRAFT_REGISTRY_CREDS", LOGIN));
    let shouted = format!("docker://LOCALHOST:{}/team/app:1", registry.port);
    works(user.sysext(&shouted).args(["--creds", LOGIN]));
    let message = fails(user.sysext(&image).args(["--creds", "bob:secret"]));
    assert!(
        message.contains("logged in to") && message.contains("as bob"),
        "{message}"
    );

    let file = user.write_login("elsewhere.json", &host);
    works(user.sysext(&image).arg("--authfile").arg(&file));
    works(user.sysext(&image).env("REGISTRY_AUTH_FILE", &file));
    for place in [
        "run/containers/auth.json",
        "home/.config/containers/auth.json",
        "home/.docker/config.json",
    ] {
        // Podman and Docker differ in the keys.
        for key in [
            host.clone(),
            format!("{host}/team"),
            format!("https://{host}/v1/"),
        ] {
            let file = user.write_login(place, &key);
            works(&mut user.sysext(&image));
            fs::remove_file(file).unwrap();
        }
    }
    let other = user.write_login("docker/config.json", &host);
    works(
        user.sysext(&image)
            .env("DOCKER_CONFIG", other.parent().unwrap()),
    );
}

#[test]
fn credential_helpers_are_asked() {
    let setup = Setup {
        login: true,
        ..OPEN
    };
    let registry = registry!("credential_helpers_are_asked", setup, "app");
    let host = registry.host();
    let image = format!("docker://{host}/app:1");
    let user = User::new();
    let asked = user.path("asked");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 1\nread -r host\necho \"$host\" >>{}\n\
         [ \"$host\" = {host} ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"alice\", \"Secret\": \"secret\"}}'\n",
        asked.display()
    );
    write_script(&user.path("bin/docker-credential-test"), &script);
    for json in [
        format!(r#"{{"credHelpers": {{"{host}": "test"}}}}"#),
        format!(r#"{{"auths": {{"{host}": {{}}}}, "credsStore": "test"}}"#),
    ] {
        user.write("home/.docker/config.json", json);
        works(&mut user.sysext(&image));
    }
    assert_eq!(fs::read_to_string(&asked).unwrap().lines().count(), 2);

    write_script(
        &user.path("bin/docker-credential-test"),
        "#!/bin/sh\necho 'the keyring is locked'\nexit 1\n",
    );
    let message = fails(&mut user.sysext(&image));
    assert!(message.contains("the keyring is locked"), "{message}");
}

#[test]
fn credential_helpers_are_left_alone_where_no_login_is_asked_for() {
    let registry = registry!(
        "credential_helpers_are_left_alone_where_no_login_is_asked_for",
        OPEN,
        "app"
    );
    let user = User::new();
    let asked = user.path("asked");
    let script = format!("#!/bin/sh\n: >{}\nexit 1\n", asked.display());
    write_script(&user.path("bin/docker-credential-test"), &script);
    user.write("home/.docker/config.json", r#"{"credsStore": "test"}"#);
    works(&mut user.sysext(&format!("docker://{}/app:1", registry.host())));
    assert!(!asked.exists());
}

#[test]
fn certificates_of_registries_are_verified_unless_that_is_given_up() {
    let setup = Setup { tls: true, ..OPEN };
    let registry = registry!(
        "certificates_of_registries_are_verified_unless_that_is_given_up",
        setup,
        "app"
    );
    let image = format!("docker://{}/app:1", registry.host());
    let user = User::new();
    let message = fails(&mut user.sysext(&image));
    assert!(message.contains("is not trusted"), "{message}");
    assert!(message.contains("--ca-file"), "{message}");
    works(
        user.sysext(&image)
            .arg("--ca-file")
            .arg(registry.certificate()),
    );
    works(user.sysext(&image).arg("--tls-verify=false"));
    fails(user.sysext(&image).arg("--tls-verify=true"));
    let folder = format!("home/.config/containers/certs.d/{}", registry.host());
    user.write(
        &format!("{folder}/own.crt"),
        fs::read(registry.certificate()).unwrap(),
    );
    works(&mut user.sysext(&image));
    let wrong = user.write("wrong.pem", "no certificate");
    let message = fails(user.sysext(&image).arg("--ca-file").arg(&wrong));
    assert!(message.contains("wrong.pem"), "{message}");
}

#[test]
fn without_verification_plain_http_is_spoken_where_there_is_no_tls() {
    let registry = registry!(
        "without_verification_plain_http_is_spoken_where_there_is_no_tls",
        OPEN,
        "app"
    );
    // An address of this host that is not known for one.
    let image = format!("docker://0.0.0.0:{}/app:1", registry.port);
    let user = User::new();
    fails(&mut user.sysext(&image));
    works(user.sysext(&image).arg("--tls-verify=false"));
    let insecure = format!(
        "[[registry]]\nlocation = \"0.0.0.0:{}\"\ninsecure = true\n",
        registry.port
    );
    user.write(
        "home/.config/containers/registries.conf.d/own.conf",
        insecure,
    );
    works(&mut user.sysext(&image));
    fails(user.sysext(&image).arg("--tls-verify=true"));
}

#[test]
fn registries_that_want_to_know_who_calls_are_shown_a_certificate() {
    let setup = Setup {
        tls: true,
        clients: true,
        ..OPEN
    };
    let registry = registry!(
        "registries_that_want_to_know_who_calls_are_shown_a_certificate",
        setup,
        "app"
    );
    let image = format!("docker://{}/app:1", registry.host());
    let user = User::new();
    let trusting = || {
        let mut command = user.sysext(&image);
        command.arg("--ca-file").arg(registry.certificate());
        command
    };
    fails(&mut trusting());
    let named = |command: &mut Command, key: PathBuf| {
        command.arg("--client-cert").arg(registry.certificate());
        command.arg("--client-key").arg(key);
    };
    let mut command = trusting();
    named(&mut command, registry.key());
    works(&mut command);
    let mut command = trusting();
    named(&mut command, registry.certificate());
    let message = fails(&mut command);
    assert!(message.contains("no private key"), "{message}");

    let folder = format!("home/.config/containers/certs.d/{}", registry.host());
    for (name, source) in [
        ("ca.crt", registry.certificate()),
        ("client.cert", registry.certificate()),
        ("client.key", registry.key()),
    ] {
        user.write(&format!("{folder}/{name}"), fs::read(source).unwrap());
    }
    works(&mut user.sysext(&image));
}

#[test]
fn mirrors_are_asked_in_order_and_then_the_registry() {
    let mirror = registry!(
        "mirrors_are_asked_in_order_and_then_the_registry",
        OPEN,
        "copies/app"
    );
    let registry = registry!(
        "mirrors_are_asked_in_order_and_then_the_registry",
        OPEN,
        "team/app",
        "team/own"
    );
    let user = User::new();
    let (dead, mirror, host) = (free_port(), mirror.host(), registry.host());
    let configuration = format!(
        r#"
        [[registry]]
        prefix = "example.org/team"
        location = "{host}/team"
        [[registry.mirror]]
        location = "127.0.0.1:{dead}/nothing"
        [[registry.mirror]]
        location = "{mirror}/copies"
        [[registry]]
        location = "example.org/evil"
        blocked = true
        "#
    );
    let file = user.write("mirrors.conf", configuration);
    let run = |image: &str| {
        let mut command = user.sysext(image);
        command.arg("--registries-conf").arg(&file);
        command
    };
    let message = works(&mut run("docker://example.org/team/app:1"));
    assert!(
        message.contains(&format!("(from {mirror}/copies/app)")),
        "{message}"
    );
    // The mirrors lack it.
    let message = works(&mut run("docker://example.org/team/own:1"));
    assert!(
        message.contains(&format!("(from {host}/team/own)")),
        "{message}"
    );
    let message = fails(&mut run("docker://example.org/team/none:1"));
    for place in [
        &format!("127.0.0.1:{dead}/nothing/none"),
        &format!("{mirror}/copies/none"),
    ] {
        assert!(message.contains(place), "{message}");
    }
    let message = fails(&mut run("docker://example.org/evil/app:1"));
    assert!(message.contains("mirrors.conf blocks"), "{message}");
    let image = "docker://example.org/team/app:1";
    works(user.sysext(image).env("CONTAINERS_REGISTRIES_CONF", &file));
}

#[test]
fn mirrors_do_not_get_the_login_of_the_registry() {
    let setup = Setup {
        login: true,
        ..OPEN
    };
    let mirror = registry!("mirrors_do_not_get_the_login_of_the_registry", setup, "app");
    let registry = registry!("mirrors_do_not_get_the_login_of_the_registry", setup, "app");
    let user = User::new();
    let (mirror, host) = (mirror.host(), registry.host());
    let configuration = format!(
        "[[registry]]\nlocation = \"{host}\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\n"
    );
    let file = user.write("mirrors.conf", configuration);
    let run = |arguments: &[&str]| {
        let mut command = user.sysext(&format!("docker://{host}/app:1"));
        command.arg("--registries-conf").arg(&file).args(arguments);
        works(&mut command)
    };
    assert!(!run(&["--creds", LOGIN]).contains("(from"));
    user.write_login("home/.docker/config.json", &mirror);
    assert!(run(&["--creds", LOGIN]).contains("(from"));
}

/// A place where a registry could be, which asks everybody for a login; and the logins that come.
fn listener() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let logins = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&logins);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map_while(Result::ok);
            let headers = lines.take_while(|line| !line.is_empty());
            let login = |line: &String| line.to_lowercase().starts_with("authorization:");
            seen.lock().unwrap().extend(headers.filter(login));
            let _ = stream.write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                  Content-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    (host, logins)
}

#[test]
fn lint_gives_the_login_of_the_image_to_no_other_registry() {
    let user = User::new();
    let lint = |target: &str| {
        let (host, logins) = listener();
        let output = sysgraft(["lint", "--platform", "amd64", "--creds", LOGIN])
            .args(["--base", &format!("docker://{host}/base:1"), target])
            .env("HOME", user.path("home"))
            .env("XDG_RUNTIME_DIR", user.path("run"))
            .output()
            .unwrap();
        assert!(text(&output.stderr).contains("--base"), "{output:?}");
        let logins = logins.lock().unwrap().clone();
        logins.iter().any(|login| login.contains(AUTH))
    };
    assert!(!lint("docker://registry.invalid/app:1"));
    assert!(!lint("oci:/nonexistent"));
    let folder = user.0.small_tree();
    assert!(lint(folder.to_str().unwrap()));
}

#[test]
fn proxies_of_the_environment_are_used() {
    let setup = Setup { tls: true, ..OPEN };
    let registry = registry!("proxies_of_the_environment_are_used", setup, "app");
    let (tunnel, host) = (Tunnel::start(), format!("0.0.0.0:{}", registry.port));
    let user = User::new();
    let run = |variables: &[(&str, &str)]| {
        // An address of this host that is not known for one.
        let mut command = user.sysext(&format!("docker://{host}/app:1"));
        command.arg("--ca-file").arg(registry.certificate());
        works(command.envs(variables.iter().copied()));
    };
    let proxy = format!("http://127.0.0.1:{}", tunnel.port);
    run(&[("HTTPS_PROXY", &proxy), ("NO_PROXY", "0.0.0.0")]);
    assert_eq!(tunnel.requests(), [""; 0]);
    run(&[("HTTPS_PROXY", &proxy)]);
    let requests = tunnel.requests();
    let connect = format!("CONNECT {host} HTTP/1.1");
    assert!(
        !requests.is_empty() && requests.iter().all(|line| *line == connect),
        "{requests:?}"
    );
}

#[test]
fn images_without_a_digest_are_refused_before_anybody_is_asked() {
    let registry = registry!(
        "images_without_a_digest_are_refused_before_anybody_is_asked",
        OPEN,
        "app"
    );
    let pinned = match push(&registry, "app") {
        Ok(digest) => digest,
        Err(reason) => panic!("{reason}"),
    };
    let host = registry.host();
    let user = User::new();
    for image in [
        format!("docker://{host}/app:1"),
        "docker://registry.invalid/app:1".to_owned(),
        format!("{host}/app"),
        "dir:/nonexistent".to_owned(),
    ] {
        let output = user
            .sysext(&image)
            .arg("--require-digest")
            .output()
            .unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("--require-digest"), "{message}");
    }
    let image = format!("docker://{host}/app@{pinned}");
    let message = works(user.sysext(&image).arg("--require-digest"));
    assert!(message.contains(&pinned.to_string()), "{message}");
}
