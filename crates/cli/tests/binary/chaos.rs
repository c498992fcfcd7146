//! `--chaos`: whatever is killed, the result is the same.

use serde_json::Value;
use tokio::task::JoinSet;

use crate::place::Place;
use crate::run::{self, Run};

const SEEDS: u64 = 20;
/// How many runs at the same time.
const AT_ONCE: usize = 4;
const FILES: usize = 150;
/// Files a second: a run lasts one and a half seconds at the least, and is killed at several times a second.
const RATE: usize = 100;

/// What a document says of the sources, and not of the run.
fn of_the_sources(mut json: Value) -> Value {
    let document = json.as_object_mut().unwrap();
    for of_the_run in [
        "tree",
        "elapsed_seconds",
        "files_per_second",
        "megabytes_per_second",
    ] {
        assert!(document.remove(of_the_run).is_some());
    }
    json
}

#[tokio::test]
async fn twenty_seeds_give_the_rows_of_an_undisturbed_run() {
    let (place, corpus) = Place::with_files(FILES);
    let broken = place.write("src/broken.rs", b"\xff");
    let calm = place
        .run("analyze src --db calm.db --json")
        .await
        .expect(2)
        .json();
    assert_eq!(calm["tree"]["chaos_kills"], 0);
    let (rows, calm) = (place.rows("calm.db"), of_the_sources(calm));
    assert_eq!(rows.figures(), corpus.files);
    assert!(rows.failures().into_keys().eq([broken]));

    let mut seeds = 1..=SEEDS;
    let mut running: JoinSet<(u64, Run)> = JoinSet::new();
    let mut kills = 0;
    loop {
        while let (true, Some(seed)) = (running.len() < AT_ONCE, seeds.next()) {
            let arguments =
                format!("analyze src --db {seed}.db --chaos {seed} --rate {RATE} --json");
            let mut command = place.perennial(&arguments);
            running.spawn(async move { (seed, run::output(&mut command).await) });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (seed, run) = ended.unwrap();
        assert_eq!(run.stderr, "", "seed {seed}");
        let json = run.expect(2).json();
        let killed = json["tree"]["chaos_kills"].as_u64().unwrap();
        assert!(killed > 0, "seed {seed}");
        kills += killed;
        assert_eq!(of_the_sources(json), calm, "seed {seed}");
        assert_eq!(place.rows(&format!("{seed}.db")), rows, "seed {seed}");
    }
    // A pause between two kills is 0.4 s at the most.
    assert!(kills >= 3 * SEEDS, "{kills} kills");
}

#[tokio::test]
async fn a_run_without_failures_says_so_under_chaos_too() {
    let (place, corpus) = Place::with_files(30);
    let run = place
        .run("analyze src --db a.db --chaos 3 --rate 30")
        .await
        .expect(0);
    assert!(run.stdout.contains(" killed by chaos"), "{}", run.stdout);
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}
