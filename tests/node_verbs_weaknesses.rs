//! What goes wrong with kairos-agent does not go wrong here. Each test names the weakness:
//!
//! | weakness | kairos-agent |
//! |---|---|
//! | N1 | the first match wins, so that `k3s` picks the oldest version |
//! | N2 | a real name with `+` and `.` does not match itself |
//! | N3 | remove may delete the link of another extension |
//! | N4 | enable --now does nothing where the extension is enabled already |
//! | N5 | a failed merge leaves the links behind |
//! | N6 | a restart takes files away under running services |
//! | N7, N8, N9 | downloads: see `node_fetch*.rs`; here the name, and what `--sha256` demands |
//! | N10 | installing a stored file onto itself truncates it |
//! | N11 | nothing is checked at install: see `node_verbs.rs`; here a name that nothing would read |
//! | N12 | `oci:` unpacks whatever it likes into the store: see `node_fetch_oci.rs` |
//! | N13 | install and remove do not ask for root: see `node_verbs.rs` |
//! | N14 | list needs root, creates folders and prints a Go structure |
//! | N15 | confexts need systemd-sysext, and are called system extensions |
//! | N16 | installing over an enabled file rewrites it in place |
//! | N17 | disabling for one profile takes out what another one enables |
//! | N18 | no upgrade, no rollback: see `node_upgrade*.rs`; here versions side by side |
//! | N19 | no look at the space on the disk: see `node_fetch*.rs` and `node_crash_disk.rs` |
//! | N20 | the debug line names another file than the one that is looked at |
//! | N21 | no lock |

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;

use agent::Agent;

#[test]
fn n1_a_name_never_picks_the_oldest_version_and_ambiguity_is_told() {
    let agent = Agent::new();
    for file in ["k3s_1.2.raw", "k3s_1.10.raw", "other-1.raw", "other-2.raw"] {
        agent.put(file);
    }
    agent.ok(&["enable", "k3s"]);
    assert!(agent.state().contains(&"k3s_1.10.raw common".to_owned()));
    let said = agent.fails(1, &["enable", "other"]);
    assert!(
        said.contains("other may be any of other-1.raw, other-2.raw; name one of them"),
        "{said}"
    );
}

#[test]
fn n2_real_names_match_themselves() {
    let agent = Agent::new();
    agent.put("k3s-v1.29.2+k3s1.sysext.raw");
    agent.put("k3s-v1.29.2+k3s10.sysext.raw");
    agent.ok(&["enable", "k3s-v1.29.2+k3s1"]);
    assert_eq!(agent.state()[0], "k3s-v1.29.2+k3s1.sysext.raw common");
    assert_eq!(agent.state()[1], "k3s-v1.29.2+k3s10.sysext.raw");
}

#[test]
fn n3_remove_takes_the_links_of_exactly_that_extension() {
    let agent = Agent::new();
    for file in ["k3s.raw", "k3s-agent.raw", "my-k3s.raw"] {
        agent.put(file);
        for profile in ["--active", "--passive", "--common"] {
            agent.ok(&["enable", file, profile]);
        }
    }
    agent.ok(&["remove", "k3s"]);
    let all = "active,passive,common";
    assert_eq!(
        agent.state(),
        [format!("k3s-agent.raw {all}"), format!("my-k3s.raw {all}")]
    );
    assert_eq!(
        agent.below("var/lib/kairos/extensions/passive"),
        ["k3s-agent.raw", "my-k3s.raw"]
    );
}

#[test]
fn n4_enable_now_merges_what_is_enabled_already() {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.ok(&["enable", "a"]);
    let said = agent.ok(&["enable", "a", "--now"]);
    assert!(
        said.contains("already enabled") && said.contains("merged by"),
        "{said}"
    );
    assert_eq!(agent.state(), ["a.raw common*"]);
}

#[test]
fn n5_a_merge_that_fails_leaves_everything_as_it_was() {
    let agent = Agent::new();
    for file in ["a_1.raw", "a_2.raw", "b.raw"] {
        agent.put(file);
    }
    agent.ok(&["enable", "a_1", "--now"]);
    let before = (agent.state(), agent.below("run/extensions"));
    agent.refuse(true);
    for words in [
        &["enable", "a_2", "--now"][..],
        &["enable", "b", "--now"],
        &["disable", "a", "--now"],
        &["remove", "a_1", "--now"],
    ] {
        let said = agent.fails(1, words);
        assert!(said.contains("nothing was changed"), "{words:?}: {said}");
        assert_eq!(
            (agent.state(), agent.below("run/extensions")),
            before,
            "{words:?}"
        );
    }
    let image = agent.image("images", "c.raw", "c", "");
    let said = agent.fails(1, &["install", image.to_str().unwrap(), "--now"]);
    assert!(
        said.contains("c.raw is installed, but not enabled"),
        "{said}"
    );
    agent.refuse(false);
    for words in [
        &["enable", "a_2", "--now"][..],
        &["enable", "c", "--now"],
        &["remove", "a_1", "--now"],
    ] {
        agent.ok(words);
    }
    assert_eq!(agent.state(), ["a_2.raw common*", "b.raw", "c.raw common*"]);
}

#[test]
fn n6_nothing_is_unmerged_in_between_and_nothing_done_that_changes_nothing() {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.put("b.raw");
    agent.ok(&["enable", "a", "--now"]);
    agent.ok(&["enable", "b", "--now"]);
    agent.ok(&["disable", "a", "--now"]);
    let asked = agent.asked();
    let harmful = |line: &&String| line.contains("restart") || line.contains("unmerge");
    assert_eq!(asked.iter().find(harmful), None);
    assert_eq!(asked.len(), 3, "{asked:?}");
    agent.ok(&["enable", "b", "--now"]);
    agent.ok(&["disable", "a", "--now"]);
    assert_eq!(agent.asked(), asked);
}

/// A server that answers one request after another with `body`, whatever is asked for, but has no
/// list of checksums.
fn serve(body: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let got = std::io::Read::read(&mut stream, &mut request).unwrap();
            let is_list = request[..got].windows(10).any(|word| word == b"SHA256SUMS");
            let (status, body) = if is_list {
                ("404 Not Found", &[][..])
            } else {
                ("200 OK", &body[..])
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body));
        }
    });
    port
}

#[test]
fn n7_n8_n9_what_came_is_what_was_meant_under_a_name_that_is_seen() {
    let agent = Agent::new();
    let image = fs::read(agent.image("images", "a.raw", "a", "")).unwrap();
    let port = serve(image.clone());
    let uri = format!("http://127.0.0.1:{port}/a.sysext.raw?token=secret");
    // Of the same size, and not what is meant.
    agent.put("a.sysext.raw");
    fs::write(agent.store().join("a.sysext.raw"), vec![0; image.len()]).unwrap();
    agent.fails(1, &["install", &uri, "--sha256", &"0".repeat(64)]);
    agent.ok(&["install", &uri]);
    assert_eq!(fs::read(agent.store().join("a.sysext.raw")).unwrap(), image);
    assert_eq!(agent.state(), ["a.sysext.raw"]);
    assert!(!agent.run(&["status", "--json"]).stdout.contains("secret"));
}

#[test]
fn n10_installing_a_stored_file_onto_itself_keeps_it() {
    let agent = Agent::new();
    let image = agent.image("images", "a.raw", "a", "");
    agent.ok(&["install", image.to_str().unwrap()]);
    let stored = agent.store().join("a.raw");
    let said = agent.ok(&["install", stored.to_str().unwrap()]);
    assert!(said.contains("already installed"), "{said}");
    assert_eq!(fs::read(&stored).unwrap(), fs::read(&image).unwrap());
}

#[test]
fn n11_a_name_under_which_systemd_would_not_find_the_release_is_refused() {
    let agent = Agent::new();
    let image = agent.image("images", "other.raw", "a", "");
    agent.fails(1, &["install", image.to_str().unwrap()]);
    assert_eq!(agent.state(), [""; 0]);
}

#[test]
fn n14_list_is_a_table_with_what_one_wants_to_know() {
    let agent = Agent::new();
    let image = agent.image("images", "a_1.2.raw", "a", "");
    agent.ok(&["install", image.to_str().unwrap(), "--now"]);
    agent.ok(&["enable", "a", "--active"]);
    let listed = agent.run(&["list"]).stdout;
    let mut lines = listed.lines();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let headings = "NAME VERSION SIZE PROFILES MERGED SIGNED BY VERIFIED";
    assert_eq!(words(lines.next().unwrap()).join(" "), headings);
    let row = words(lines.next().unwrap());
    assert_eq!(&row[..2], ["a", "1.2"]);
    assert_eq!(&row[4..7], ["active,common", "yes", "CN=sysgraft"]);
    assert_eq!(lines.next(), None);
}

#[test]
fn n15_confexts_do_not_need_systemd_sysext() {
    let agent = Agent::confext();
    for program in ["systemd-sysext", "systemctl"] {
        fs::remove_file(agent.tree.path("bin").join(program)).unwrap();
    }
    agent.put("a.raw");
    let said = agent.ok(&["enable", "a", "--now"]);
    assert!(said.contains("merged by systemd-confext"), "{said}");
}

#[test]
fn n16_a_file_in_use_is_never_written_to() {
    use std::os::unix::fs::FileExt;
    let agent = Agent::new();
    let first = agent.image("1", "a.raw", "a", "");
    let second = agent.image("2", "a.raw", "a", "SYSEXT_VERSION_ID=2\n");
    agent.ok(&["install", first.to_str().unwrap()]);
    // As a loop device has it.
    let open = fs::File::open(agent.store().join("a.raw")).unwrap();
    agent.ok(&["install", second.to_str().unwrap()]);
    let mut seen = vec![0; fs::metadata(&first).unwrap().len() as usize];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(seen, fs::read(first).unwrap());
    assert_eq!(
        fs::read(agent.store().join("a.raw")).unwrap(),
        fs::read(second).unwrap()
    );
}

#[test]
fn n17_what_another_profile_enables_stays_merged() {
    let agent = Agent::booted("active");
    for file in ["a_1.raw", "a_2.raw"] {
        agent.put(file);
    }
    agent.ok(&["enable", "a_1", "--active"]);
    agent.ok(&["enable", "a_2", "--common"]);
    agent.ok(&["enable", "a_2", "--common", "--now"]);
    assert_eq!(
        agent.state(),
        ["a_1.raw active*", "a_2.raw common"],
        "the boot state's own comes first"
    );
    agent.ok(&["disable", "a", "--common", "--now"]);
    assert_eq!(agent.state(), ["a_1.raw active*", "a_2.raw"]);
    agent.ok(&["enable", "a_2", "--common"]);
    agent.ok(&["disable", "a", "--active", "--now"]);
    assert_eq!(agent.state(), ["a_1.raw", "a_2.raw common*"]);
    agent.ok(&["remove", "a_1", "--now"]);
    assert_eq!(agent.state(), ["a_2.raw common*"]);
}

#[test]
fn n18_versions_lie_side_by_side() {
    let agent = Agent::new();
    for version in ["1", "2"] {
        let more = format!("SYSEXT_VERSION_ID={version}\n");
        let image = agent.image("images", &format!("a_{version}.raw"), "a", &more);
        agent.ok(&["install", image.to_str().unwrap()]);
    }
    agent.ok(&["enable", "a"]);
    assert_eq!(agent.state(), ["a_1.raw", "a_2.raw common"]);
}

#[test]
fn n20_the_boot_state_that_is_told_is_the_one_that_is_looked_at() {
    let agent = Agent::booted("recovery");
    agent.put("a.raw");
    let said = agent.ok(&["--debug", "enable", "--recovery", "--now", "a"]);
    assert!(said.contains("merged by"), "{said}");
    assert!(!said.contains("_state"), "{said}");
}

#[test]
fn n21_twenty_programs_at_once_leave_a_state_that_one_after_another_would() {
    let agent = Agent::new();
    for file in ["a_1.raw", "a_2.raw", "b.raw", "c.raw"] {
        agent.put(file);
    }
    let image = agent.image("images", "i.raw", "i", "");
    let image = image.to_str().unwrap();
    let jobs: [&[&str]; 10] = [
        &["enable", "a_1"],
        &["enable", "a_2"],
        &["enable", "b", "--now"],
        &["disable", "b"],
        &["enable", "b", "--passive"],
        &["remove", "c"],
        &["install", image, "--common"],
        &["disable", "a"],
        &["enable", "a"],
        &["install", image],
    ];
    let mut running = Vec::new();
    for words in jobs.iter().chain(&jobs) {
        let mut command = agent.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        running.push((words, command.spawn().unwrap()));
    }
    // Whoever looks meanwhile always sees one version of a, or none.
    for _ in 0..20 {
        let state = agent.state();
        let enabled = state
            .iter()
            .filter(|line| line.starts_with("a_") && line.contains("common"));
        assert!(enabled.count() <= 1, "{state:?}");
    }
    let mut removed = 0;
    for (words, child) in running {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match words {
            ["remove", "c"] => removed += i32::from(output.status.success()),
            _ => assert!(output.status.success(), "{words:?}: {said}"),
        }
    }
    assert_eq!(removed, 1);
    let state = agent.state();
    assert!(state.contains(&"i.raw common".to_owned()), "{state:?}");
    assert!(
        !state.iter().any(|line| line.starts_with("c.raw")),
        "{state:?}"
    );
    let own = agent.below("var/lib/kairos/extensions/.sysgraft");
    assert_eq!(own, ["lock", "records.json", "staging"]);
    let said = agent.run(&["verify", "i"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}
