//! The walls between the crates are where the picture has them.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

/// From the top down: each crate may use those of the rows below its own, as far as the list goes.
///
/// Components of one height do not know each other.
const PICTURE: &[(&str, &[&str])] = &[
    ("lifecycle", &[]),
    ("testkit", &[]),
    ("supervisor", &["lifecycle"]),
    ("breaker", &["lifecycle"]),
    ("registry", &["lifecycle"]),
    ("rate-limit", &["lifecycle"]),
    ("monitor", &["lifecycle"]),
    ("pool", &["supervisor", "lifecycle"]),
    (
        "guard",
        &[
            "pool",
            "breaker",
            "rate-limit",
            "registry",
            "supervisor",
            "lifecycle",
        ],
    ),
    (
        "workers",
        &[
            "pool",
            "breaker",
            "rate-limit",
            "registry",
            "supervisor",
            "lifecycle",
        ],
    ),
    (
        "config",
        &[
            "guard",
            "workers",
            "monitor",
            "pool",
            "breaker",
            "rate-limit",
            "registry",
            "supervisor",
            "lifecycle",
        ],
    ),
    (
        "debug",
        &[
            "guard",
            "workers",
            "monitor",
            "pool",
            "breaker",
            "rate-limit",
            "registry",
            "supervisor",
            "lifecycle",
        ],
    ),
    (
        "perennial",
        &[
            "debug",
            "config",
            "guard",
            "workers",
            "monitor",
            "pool",
            "breaker",
            "rate-limit",
            "registry",
            "supervisor",
            "lifecycle",
        ],
    ),
    ("cli", &["perennial", "console"]),
    ("console", &["perennial"]),
    ("examples", &["perennial"]),
];

/// Libraries that one crate alone sees.
const HIDDEN: &[(&str, &str)] = &[
    ("ratelimit_meter", "rate-limit"),
    ("governor", "rate-limit"),
    ("deadpool", "pool"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    rust_version: Option<String>,
    publish: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

impl Package {
    /// The crate's name in the picture.
    fn short(&self) -> &str {
        self.name.strip_prefix("perennial-").unwrap_or(&self.name)
    }
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert!(metadata.packages.len() > 10);
    metadata.packages
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let picture: BTreeMap<_, BTreeSet<_>> = PICTURE
        .iter()
        .map(|(name, below)| (*name, below.iter().copied().collect()))
        .collect();
    let mut wrong = Vec::new();
    for package in packages() {
        let from = package.short();
        if from == "tests" {
            continue;
        }
        let Some(allowed) = picture.get(from) else {
            wrong.push(format!("{from} is not in the picture"));
            continue;
        };
        for dependency in &package.dependencies {
            // Tests may use anything.
            if dependency.path.is_none() || dependency.kind.as_deref() == Some("dev") {
                continue;
            }
            let to = dependency
                .name
                .strip_prefix("perennial-")
                .unwrap_or(&dependency.name);
            if !allowed.contains(to) {
                wrong.push(format!("{from} -> {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the picture lacks: {wrong:?}");
}

#[test]
fn the_picture_itself_has_arrows_that_go_down_only() {
    // Each row may name only rows above it in the list, so there is no way round in a circle.
    let mut known = BTreeSet::new();
    for (name, below) in PICTURE {
        for to in *below {
            assert!(
                known.contains(to) || (*name, *to) == ("cli", "console"),
                "{name} -> {to}"
            );
        }
        known.insert(*name);
    }
}

#[test]
fn the_testkit_is_for_tests_only() {
    for package in packages() {
        for dependency in &package.dependencies {
            let normal = dependency.kind.as_deref() != Some("dev");
            assert!(
                dependency.name != "perennial-testkit" || !normal,
                "{}",
                package.name
            );
        }
    }
}

#[test]
fn the_engines_are_seen_by_one_crate_each() {
    for package in packages() {
        for dependency in &package.dependencies {
            for (library, only) in HIDDEN {
                let seen = dependency.name == *library && dependency.kind.as_deref() != Some("dev");
                assert!(
                    !seen || package.short() == *only,
                    "{} sees {library}",
                    package.name
                );
            }
        }
    }
}

#[test]
fn every_crate_says_what_it_is_and_under_which_terms() {
    let packages = packages();
    let version = &packages[0].version;
    for package in &packages {
        let name = &package.name;
        let described = package
            .description
            .as_deref()
            .is_some_and(|it| it.ends_with('.'));
        assert!(described, "{name}: description {:?}", package.description);
        assert_eq!(
            package.license.as_deref(),
            Some("MIT OR Apache-2.0"),
            "{name}"
        );
        assert!(package.rust_version.is_some(), "{name}: rust-version");
        assert_eq!(&package.version, version, "{name}");
        let inner = matches!(package.short(), "tests" | "examples" | "testkit");
        assert_eq!(
            package.publish.as_deref() == Some(&[]),
            inner,
            "{name}: publish"
        );
    }
}

#[test]
fn the_library_stays_under_120_crates() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "perennial",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let others: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(" (*)").or(Some(line)))
        .filter(|line| !line.is_empty() && !line.starts_with("perennial"))
        .collect();
    assert!(others.len() < 120, "{}: {others:?}", others.len());
}
