//! SIGKILL at random moments: what was committed stays, and another run does the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::place::Place;
use crate::rows::Rows;
use crate::signals::Running;

const MOMENTS: u64 = 20;
const AT_ONCE: usize = 3;
const FILES: usize = 300;

/// Reads what a killed process left, from a copy: the next run is to find it as it was left.
fn left(place: &Place, database: &str) -> Rows {
    let copy = place.path(&format!("copy-of-{database}"));
    let original = place.path(database);
    if !original.exists() {
        return Rows::default();
    }
    for ending in ["", "-wal", "-journal"] {
        let with = |file: &Path| PathBuf::from(format!("{}{ending}", file.display()));
        if with(&original).exists() {
            fs::copy(with(&original), with(&copy)).unwrap();
        }
    }
    Rows::read_sound(&copy)
}

/// Runs `analyze` and kills it at a random moment: when so many rows are committed, and a little later.
/// Returns what a reader saw while it ran.
async fn kill_at_random(place: &Place, database: &str, random: &mut Rng) -> BTreeSet<PathBuf> {
    let rows = random.usize(..FILES);
    let looks = random.usize(..=rows);
    // With a rate there is a transaction for each file, without one there are large ones.
    let rate = if random.bool() { "--rate 300" } else { "" };
    let mut command = place.perennial(&format!("analyze src --db {database} {rate}"));
    let mut running = Running::start(&mut command);
    let mut seen = BTreeSet::new();
    let mut committed = 0;
    while committed < rows {
        let Some(more) = running.committed().await else {
            break;
        };
        if (committed..committed + more).contains(&looks) {
            seen = Rows::read(&place.path(database)).files();
            assert!(seen.len() >= committed + more);
        }
        committed += more;
    }
    // Time that passes: nothing waits for it.
    sleep(Duration::from_micros(
        random.u64(..if rows == 0 { 100_000 } else { 10_000 }),
    ))
    .await;
    running.kill().await;
    seen
}

async fn survives(place: Arc<Place>, calm: Arc<Rows>, seed: u64) -> usize {
    let mut random = Rng::with_seed(seed);
    let database = format!("{seed}.db");
    let seen = kill_at_random(&place, &database, &mut random).await;
    let after = left(&place, &database);
    assert!(seen.is_subset(&after.files()), "seed {seed}");
    for (path, figures) in after.figures() {
        assert_eq!(figures, calm.figures()[&path], "seed {seed}");
    }

    let json = place
        .run(&format!("analyze src --db {database} --json"))
        .await
        .expect(0)
        .json();
    let kept = after.files().len();
    assert_eq!(json["files"]["unchanged"], kept, "seed {seed}");
    assert_eq!(json["files"]["analyzed"], FILES - kept, "seed {seed}");
    assert_eq!(
        Rows::read_sound(&place.path(&database)),
        *calm,
        "seed {seed}"
    );
    kept
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_that_was_committed() {
    let (place, corpus) = Place::with_files(FILES);
    place.run("analyze src --db calm.db").await.expect(0);
    let calm = Arc::new(place.rows("calm.db"));
    assert_eq!(calm.figures(), corpus.files);

    let place = Arc::new(place);
    let mut seeds = 0..MOMENTS;
    let mut running = JoinSet::new();
    let mut halfway = 0;
    loop {
        while let (true, Some(seed)) = (running.len() < AT_ONCE, seeds.next()) {
            running.spawn(survives(Arc::clone(&place), Arc::clone(&calm), seed));
        }
        match running.join_next().await {
            Some(kept) => halfway += usize::from((1..FILES).contains(&kept.unwrap())),
            None => break,
        }
    }
    // Some moments are before the first commit, and some after the last.
    assert!(halfway >= 5, "{halfway} of {MOMENTS} kills came halfway");
}

#[tokio::test]
async fn a_run_that_is_killed_again_and_again_comes_to_its_end() {
    let (place, _) = Place::with_files(FILES);
    place.run("analyze src --db calm.db").await.expect(0);
    let mut random = Rng::with_seed(42);
    let mut before = BTreeSet::new();
    for _ in 0..6 {
        let mut command = place.perennial("analyze src --db a.db --rate 300");
        let mut running = Running::start(&mut command);
        for _ in 0..random.usize(1..20) {
            running.committed().await;
        }
        running.kill().await;
        let after = left(&place, "a.db").files();
        assert!(before.is_subset(&after));
        before = after;
    }
    place.run("analyze src --db a.db").await.expect(0);
    assert_eq!(place.rows("a.db"), place.rows("calm.db"));
}
