//! The panic hook of a process in which nobody logs. Alone in its process, and then in another of its own.

use std::env;
use std::process::Command;

use perennial_lifecycle::install_panic_hook;

/// Set in the process that panics.
const PANICS: &str = "PERENNIAL_TEST_PANICS";

#[test]
fn life_13_a_panic_is_on_stderr_where_nobody_logs() {
    if env::var_os(PANICS).is_some() {
        install_panic_hook();
        panic!("no licence");
    }
    let name = "life_13_a_panic_is_on_stderr_where_nobody_logs";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PANICS, "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let place = concat!("panic at ", file!(), ":");
    let told = |line: &&str| line.contains(place) && line.ends_with(": no licence");
    assert_eq!(stderr.lines().filter(told).count(), 1, "{stderr}");
}
