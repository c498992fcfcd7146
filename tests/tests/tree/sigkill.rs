//! What was acknowledged is there, whatever happens to the process.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use perennial::{Schema, Settings, Tree};

use crate::support::{Folder, random, shut_down};

const SETTINGS: [&str; 4] = ["a.first", "a.second", "b.third", "b.fourth"];
const KILLS: u64 = 20;

/// By version: setting and value.
type Acknowledged = BTreeMap<u64, (String, u64)>;

#[tokio::test]
async fn tree_2_a_process_that_is_killed_has_lost_nothing_that_was_acknowledged() {
    let folder = Folder::new("sigkill");
    let file = folder.file("tree.db");
    let mut random = random(42);
    let mut acknowledged = Acknowledged::new();
    for seed in 1..=KILLS {
        let before = acknowledged.len();
        run_and_kill(&file, seed, &mut random, &mut acknowledged).await;
        let kept = stored(&file).await;
        for (version, change) in &acknowledged {
            assert_eq!(
                kept.get(version),
                Some(change),
                "version {version} after kill {seed}"
            );
        }
        println!("kill {seed}: {} acknowledged", acknowledged.len() - before);
    }
    // Not everything was killed before it began.
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}

/// Runs a writer until some random moment, kills it, and notes what it has acknowledged.
async fn run_and_kill(
    file: &Path,
    seed: u64,
    random: &mut fastrand::Rng,
    acknowledged: &mut Acknowledged,
) {
    let mut writer = Command::new(env!("CARGO_BIN_EXE_config_writer"))
        .arg(file)
        .arg(seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let latest = acknowledged
        .last_key_value()
        .map_or(0, |(version, _)| *version);
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut note = |line: std::io::Result<String>| {
        let line = line.unwrap();
        let mut parts = line.split(' ');
        let version: u64 = parts.next().unwrap().parse().unwrap();
        let path = parts.next().unwrap().to_owned();
        let value = parts.next().unwrap().parse().unwrap();
        assert!(version > latest, "version {version} was given twice");
        let known = acknowledged.insert(version, (path, value));
        assert!(known.is_none(), "version {version} was given twice");
    };
    for _ in 0..random.usize(0..150) {
        note(lines.next().expect("the writer goes on until it is killed"));
    }
    // Somewhere in the middle of a write, or of the start.
    tokio::time::sleep(Duration::from_micros(random.u64(0..5_000))).await;
    writer.kill().unwrap();
    writer.wait().unwrap();
    lines.for_each(note);
}

/// Reads all changes of the database through a new tree, which checks that what it serves is the latest.
async fn stored(file: &Path) -> Acknowledged {
    let mut schema = Schema::builder();
    for path in SETTINGS {
        schema = schema.value(path, 0_u64);
    }
    let mut settings = Settings::default();
    settings.database.path = Some(file.to_owned());
    let tree = Tree::builder("reader")
        .settings(settings)
        .schema(schema.build().unwrap())
        .start()
        .await
        .unwrap();
    let mut kept = Acknowledged::new();
    for path in SETTINGS {
        let history = tree.config().history(path, u32::MAX).await.unwrap();
        if let Some(last) = history.first() {
            assert_eq!(tree.config().get_value(path).unwrap(), last.new);
        }
        for change in history {
            kept.insert(
                change.version,
                (path.to_owned(), change.new.as_u64().unwrap()),
            );
        }
    }
    let last = kept.last_key_value().map_or(0, |(version, _)| *version);
    assert_eq!(tree.config().version(), last);
    shut_down(&tree).await;
    kept
}
