//! systemd finds nothing to object to in the units that are handed out.

mod support;
#[path = "support/units.rs"]
mod units;

use std::fs;
use std::path::PathBuf;

use units::systemd_takes;

#[test]
fn systemd_analyze_verifies_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let agent = env!("CARGO_BIN_EXE_sysgraft-agent");
    let mut units: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir("dist/systemd").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "preset") {
            continue;
        }
        // The program is not installed on the host that runs the test.
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("=sysgraft-agent ", &format!("={agent} "));
        let unit = folder.path().join(path.file_name().unwrap());
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 5);
    systemd_takes("systemd_analyze_verifies_the_units", &units);
}
