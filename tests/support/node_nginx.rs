//! A real nginx on ports of the loopback interface, with plain HTTP and TLS.

#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use tempfile::TempDir;

/// nginx, until the value is dropped.
pub struct Nginx {
    process: Child,
    folder: TempDir,
    pub http: u16,
    pub https: u16,
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub fn wait_for(port: u16, who: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{who} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Nginx {
    /// Serves the folder `root`, and variants of it under `/norange/`, `/novalidator/` and the
    /// like; see the configuration.
    pub fn start() -> Result<Nginx, String> {
        Nginx::start_before(free_port())
    }

    /// Likewise, and puts its TLS port before a registry.
    pub fn start_before(registry: u16) -> Result<Nginx, String> {
        let folder = tempfile::tempdir().unwrap();
        let (http, https) = (free_port(), free_port());
        let at = folder.path().display();
        fs::create_dir(folder.path().join("root")).unwrap();
        write_certificate(folder.path());
        fs::write(folder.path().join("logins"), "alice:{PLAIN}secret\n").unwrap();
        let configuration = format!(
            r#"
            daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
            events {{ }}
            http {{
                log_format short '$request_method $request_uri $status $body_bytes_sent $http_range';
                access_log {at}/access.log short;
                default_type application/octet-stream;
                client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
                uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
                server {{
                    listen 127.0.0.1:{http};
                    listen 127.0.0.1:{https} ssl;
                    ssl_certificate {at}/certificate.pem; ssl_certificate_key {at}/key.pem;
                    root {at}/root;
                    location /norange/ {{ alias {at}/root/; max_ranges 0; }}
                    location /novalidator/ {{ alias {at}/root/; etag off; add_header Last-Modified ""; }}
                    location /dates/ {{ alias {at}/root/; etag off; }}
                    location /encoded/ {{ alias {at}/root/; add_header Content-Encoding gzip; }}
                    location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
                    location /insecure/ {{ rewrite ^/insecure/(.*)$ http://127.0.0.1:{http}/$1 redirect; }}
                    location /circle/ {{ return 302 $request_uri; }}
                    location /busy/ {{ return 503; }}
                    location /v2/ {{
                        proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host $http_host;
                    }}
                    location /private/ {{
                        alias {at}/root/; auth_basic x; auth_basic_user_file {at}/logins;
                    }}
                }}
            }}
            "#
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let process = Command::new("nginx")
            .args(["-p", "/", "-e"])
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nginx cannot be started: {error}"))?;
        let nginx = Nginx {
            process,
            folder,
            http,
            https,
        };
        wait_for(http, "nginx");
        Ok(nginx)
    }

    /// The certificate of its TLS port, which is its own authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The folder that it serves.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Puts a file into the folder that it serves, changed long ago.
    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.root().join(name);
        fs::write(&path, content).unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.http)
    }

    pub fn secure_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.https)
    }

    /// What was asked for so far: method, path, status, bytes of the body, range.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes `certificate.pem`, its own authority for this host's addresses, and `key.pem`.
pub fn write_certificate(folder: &Path) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "test").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    let (from, until) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(2));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&until.unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    let constraints = BasicConstraints::new().critical().ca().build().unwrap();
    builder.append_extension(constraints).unwrap();
    let address = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .ip("0.0.0.0")
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(address).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let pem = builder.build().to_pem().unwrap();
    fs::write(folder.join("certificate.pem"), pem).unwrap();
    fs::write(
        folder.join("key.pem"),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
    .unwrap();
}
