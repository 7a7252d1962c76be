//! Would systemd take the units, and how open do they leave the daemon?

use std::process::Command;

use sess_tests::bins;
use sess_tests::harness::daemon::Folder;

/// The most that `systemd-analyze security` may find open, in tenths.
const EXPOSURE_MAX: u32 = 40;
const UNITS: [&str; 2] = ["sess.service", "sess.socket"];

/// The units in a folder of their own, with a program that is there.
fn units() -> Folder {
    let folder = Folder::new();
    for unit in UNITS {
        let text = std::fs::read_to_string(bins::workspace().join("systemd").join(unit)).unwrap();
        let program = bins::bin("sessd").display().to_string();
        let text = text.replace("%h/.cargo/bin/sessd", &program);
        std::fs::write(folder.path().join(unit), text).unwrap();
    }
    folder
}

#[test]
fn the_manager_of_a_user_takes_the_units_without_a_word() {
    let folder = units();
    let mut command = Command::new("systemd-analyze");
    command.args(["--user", "verify"]).args(UNITS.map(|it| format!("./{it}")));
    command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let done = command.output().expect("systemd-analyze is installed");
    // A key that it does not know is a warning only.
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    assert!(done.status.success());
}

#[test]
fn what_no_tool_needs_is_closed() {
    let folder = units();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let done = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &threshold, "sess.service"])
        .current_dir(folder.path())
        .output()
        .expect("systemd-analyze is installed");
    let words = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", words.lines().last().unwrap_or_default());
}
