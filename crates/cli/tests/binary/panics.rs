//! Files on which an analyzer panics.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Parser as _;
use perennial::AnalyzerWorker;
use perennial::workers::analysis::Analyzer;
use perennial_cli::analyze;
use perennial_cli::args::{AnalyzeArgs, Args, Command};

use crate::corpus::LANGUAGES;
use crate::place::Place;

/// The arguments of `perennial analyze` over a place.
fn arguments(place: &Place) -> AnalyzeArgs {
    let (src, database) = (place.src(), place.path("a.db"));
    let args = ["perennial", "analyze", "--quiet", "--workers", "2"].map(PathBuf::from);
    let args = args.into_iter().chain([src, "--db".into(), database]);
    match Args::parse_from(args).command {
        Command::Analyze(args) => args,
        other => panic!("{other:?}"),
    }
}

/// Analyzes files, all but those with a bomb in them.
fn worker() -> AnalyzerWorker {
    AnalyzerWorker::with(|language, source| {
        assert!(!source.contains("bomb"), "it goes off");
        Analyzer::new().analyze(language, source)
    })
}

async fn bombs_fail_and_all_else_is_analyzed(bombs: usize) {
    let (place, corpus) = Place::with_files(100);
    let bombs: BTreeSet<PathBuf> = (0..bombs)
        .map(|number| {
            let (_, ending) = LANGUAGES[number % LANGUAGES.len()];
            let part = number % 7;
            place.write(&format!("src/part_{part}/bomb_{number}.{ending}"), "bomb")
        })
        .collect();

    let report = analyze::run_with(arguments(&place), worker())
        .await
        .unwrap();
    let failed: BTreeSet<PathBuf> = report
        .failures
        .iter()
        .map(|(path, _)| path.into())
        .collect();
    assert_eq!(failed, bombs);
    for (path, reason) in &report.failures {
        assert!(
            reason.contains("panicked") && reason.contains("it goes off"),
            "{path}: {reason}"
        );
    }
    let rows = place.rows("a.db");
    assert_eq!(rows.figures(), corpus.files);
    assert_eq!(
        rows.failures(),
        report
            .failures
            .iter()
            .map(|(path, reason)| (path.into(), reason.clone()))
            .collect()
    );

    let restarts: u64 = (1..=2)
        .map(|number| format!("perennial/pools/analyzer/worker-{number}"))
        .map(|path| {
            let worker = report.snapshot.find(&path).unwrap();
            assert!(worker.incarnation.is_some(), "{path} is down");
            worker.restarts
        })
        .sum();
    assert!(restarts >= 1);
    assert!(report.restarts >= restarts);
}

#[tokio::test]
async fn a_file_that_makes_a_worker_panic_fails_with_the_message() {
    bombs_fail_and_all_else_is_analyzed(1).await;
}

#[tokio::test]
async fn many_files_that_make_workers_panic_hold_up_nothing() {
    bombs_fail_and_all_else_is_analyzed(40).await;
}
