//! A second run: it updates what changed, and removes what is gone.

use std::fs;

use serde_json::{Value, json};

use crate::corpus;
use crate::place::Place;

fn counts(json: &Value) -> Value {
    json["files"].clone()
}

#[tokio::test]
async fn a_second_run_analyzes_nothing() {
    let (place, corpus) = Place::with_files(100);
    place.run("analyze src --db a.db").await.expect(0);
    let before = place.rows("a.db");
    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    let expected = json!({
        "found": 100, "analyzed": 0, "unchanged": 100, "binary": 0, "failed": 0, "removed": 0,
    });
    assert_eq!(counts(&json), expected);
    // The totals are those of the database, not of the run.
    let files: u64 = json["languages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["files"].as_u64().unwrap())
        .sum();
    assert_eq!(files, 100);
    assert_eq!(place.rows("a.db"), before);
    assert_eq!(before.figures(), corpus.files);
}

#[tokio::test]
async fn a_second_run_updates_what_changed_and_removes_what_is_gone() {
    let (place, mut corpus) = Place::with_files(50);
    place.run("analyze src --db a.db").await.expect(0);

    let paths: Vec<_> = corpus.files.keys().cloned().collect();
    let (changed, deleted, renamed) = (&paths[3], &paths[11], &paths[29]);
    corpus
        .files
        .insert(changed.clone(), corpus::write(changed, 999, 6));
    let new = place.path("src/new/fresh.rs");
    corpus
        .files
        .insert(new.clone(), corpus::write(&new, 1000, 3));
    fs::remove_file(deleted).unwrap();
    corpus.files.remove(deleted);
    let to = renamed.with_file_name(format!(
        "renamed.{}",
        renamed.extension().unwrap().to_str().unwrap()
    ));
    fs::rename(renamed, &to).unwrap();
    let figures = corpus.files.remove(renamed).unwrap();
    corpus.files.insert(to, figures);

    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    let expected = json!({
        "found": 50, "analyzed": 3, "unchanged": 47, "binary": 0, "failed": 0, "removed": 2,
    });
    assert_eq!(counts(&json), expected);
    assert_eq!(place.rows("a.db").figures(), corpus.files);

    // As if it had been the first.
    place.run("analyze src --db b.db").await.expect(0);
    assert_eq!(place.rows("a.db"), place.rows("b.db"));
}

#[tokio::test]
async fn what_lies_elsewhere_is_not_gone() {
    let (place, corpus) = Place::with_files(40);
    place
        .run("analyze src/part_1 src/part_2 --db a.db")
        .await
        .expect(0);
    let json = place
        .run("analyze src/part_3 --db a.db --json")
        .await
        .expect(0)
        .json();
    assert_eq!(json["files"]["removed"], 0);
    let rows = place.rows("a.db").figures();
    for (path, figures) in &corpus.files {
        let analyzed = ["part_1", "part_2", "part_3"]
            .iter()
            .any(|it| path.starts_with(place.src().join(it)));
        assert_eq!(
            rows.get(path),
            analyzed.then_some(figures),
            "{}",
            path.display()
        );
    }
    // Nor does the report count it.
    let reported: u64 = json["languages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["files"].as_u64().unwrap())
        .sum();
    let below = corpus
        .files
        .keys()
        .filter(|it| it.starts_with(place.src().join("part_3")));
    assert_eq!(reported, below.count() as u64);
}

#[tokio::test]
async fn a_file_that_is_ignored_from_now_on_is_removed() {
    let (place, mut corpus) = Place::with_files(10);
    place.run("analyze src --db a.db").await.expect(0);
    place.write("src/.gitignore", "part_2/\n");
    corpus
        .files
        .retain(|path, _| !path.starts_with(place.src().join("part_2")));
    place.run("analyze src --db a.db").await.expect(0);
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}

#[tokio::test]
async fn a_file_that_is_a_binary_from_now_on_is_removed() {
    let (place, mut corpus) = Place::with_files(10);
    place.write("src/broken.rs", b"fn a() {}\n\xff");
    place.run("analyze src --db a.db").await.expect(2);
    let file = corpus.files.pop_first().unwrap().0;
    fs::write(&file, b"\x7fELF\0\0").unwrap();
    place.write("src/broken.rs", b"\0\0");
    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    assert_eq!(json["files"]["binary"], 2);
    let rows = place.rows("a.db");
    assert_eq!(rows.figures(), corpus.files);
    assert!(rows.failures().is_empty());
}

#[tokio::test]
async fn a_failure_is_forgotten_when_its_file_is_good_or_gone() {
    let (place, mut corpus) = Place::with_files(10);
    let one = place.write("src/one.rs", b"\xff");
    let two = place.write("src/two.rs", b"\xff");
    place.run("analyze src --db a.db").await.expect(2);
    assert_eq!(place.rows("a.db").failures().len(), 2);
    corpus.files.insert(one.clone(), corpus::write(&one, 1, 2));
    fs::remove_file(two).unwrap();
    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    assert_eq!(json["files"]["analyzed"], 1);
    assert_eq!(json["failures"], json!([]));
    let rows = place.rows("a.db");
    assert_eq!(rows.figures(), corpus.files);
    assert!(rows.failures().is_empty());
}

#[tokio::test]
async fn a_file_that_fails_from_now_on_has_no_figures_any_more() {
    let (place, mut corpus) = Place::with_files(10);
    place.run("analyze src --db a.db").await.expect(0);
    let file = corpus.files.pop_first().unwrap().0;
    fs::write(&file, b"\xff").unwrap();
    place.run("analyze src --db a.db").await.expect(2);
    let rows = place.rows("a.db");
    assert_eq!(rows.figures(), corpus.files);
    assert_eq!(rows.failures().into_keys().collect::<Vec<_>>(), [file]);
}
