//! The number of functions in plain files, as universal-ctags counts them.

use std::path::Path;
use std::process::Command;

use perennial_workers::analysis::Language;

use crate::{SAMPLES, analyze};

/// Runs ctags; `None` if there is none, or not the universal one.
fn ctags(arguments: &[&str]) -> Option<String> {
    let output = Command::new("ctags").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn functions_of_plain_files_are_those_of_ctags() {
    let version = ctags(&["--version"]).unwrap_or_default();
    if !version.contains("Universal Ctags") {
        println!("skipped: universal-ctags is not installed");
        return;
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    for (language, name, source) in SAMPLES {
        if !name.starts_with("plain") {
            continue;
        }
        let kinds = match language {
            Language::Rust => "--kinds-Rust=fP",
            Language::Elixir => "--kinds-Elixir=f",
            Language::Erlang => "--kinds-Erlang=f",
            Language::Python => "--kinds-Python=fm",
            Language::JavaScript => "--kinds-JavaScript=fmg",
        };
        let file = samples.join(name);
        let listed = ctags(&[
            "--options=NONE",
            "--sort=no",
            kinds,
            "-x",
            "--_xformat=%N %n",
            file.to_str().expect("the repository's path is UTF-8"),
        ])
        .expect("ctags reads the sample");
        let mut expected: Vec<String> = listed.lines().map(str::to_owned).collect();
        expected.sort();

        let mut found: Vec<String> = analyze(language, source)
            .functions()
            .map(|function| {
                let name = function.name.split('/').next().unwrap_or_default();
                format!("{name} {}", function.start_line)
            })
            .collect();
        found.sort();
        assert!(!found.is_empty());
        assert_eq!(found, expected, "{name}");
    }
}
