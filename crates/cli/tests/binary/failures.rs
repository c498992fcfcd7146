//! Files that cannot be analyzed, among others that can.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::corpus::Corpus;
use crate::place::Place;
use crate::run::{self, Run};

/// Checks that all of the corpus was analyzed, and that each of the others is reported with its reason, in
/// the database, in the JSON document and in the table.
#[track_caller]
fn check(place: &Place, corpus: &Corpus, json: &Run, table: &Run, failed: &[(PathBuf, &str)]) {
    let expected: BTreeMap<_, _> = failed.iter().cloned().collect();
    let rows = place.rows("a.db");
    assert_eq!(rows.figures(), corpus.files);
    let reasons = rows.failures();
    assert!(reasons.keys().eq(expected.keys()), "{reasons:?}");

    let document = json.json();
    assert_eq!(document["files"]["failed"], expected.len());
    let listed = document["failures"].as_array().unwrap();
    assert_eq!(listed.len(), expected.len());
    for (path, part) in &expected {
        let reason = &reasons[path];
        assert!(reason.contains(part), "{}: {reason}", path.display());
        let named = listed
            .iter()
            .any(|it| it["path"] == path.to_str().unwrap() && it["reason"] == reason.as_str());
        assert!(named, "{listed:#?}");
        let shown = path.strip_prefix(place.root()).unwrap().display();
        let line = format!("\n  {shown}: {reason}\n");
        assert!(table.stdout.contains(&line), "{line} in {}", table.stdout);
    }
    assert_eq!((json.code, table.code), (Some(2), Some(2)));
    assert_eq!((&*json.stderr, &*table.stderr), ("", ""));
}

#[cfg(unix)]
#[tokio::test]
async fn names_that_are_not_utf_8_are_told_apart() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::empty();
    let odd = place.src().join(OsStr::from_bytes(b"odd\xfe"));
    // Not every file system has such names.
    if std::fs::create_dir(&odd).is_err() {
        return;
    }
    for name in [&b"\xff.rs"[..], b"\xfe.rs", b"\xc3\xbc.rs"] {
        std::fs::write(odd.join(OsStr::from_bytes(name)), "fn one() {}\n").unwrap();
    }
    let mut command = place.perennial("analyze --db a.db --json");
    run::output(command.arg(&odd)).await.expect(0);
    let names = [
        "src/odd\\xfe/\\xfe.rs",
        "src/odd\\xfe/\\xff.rs",
        "src/odd\\xfe/\u{fc}.rs",
    ];
    let paths = names.map(|name| place.path(name));
    assert!(place.rows("a.db").files().iter().eq(&paths));

    std::fs::remove_file(odd.join(OsStr::from_bytes(b"\xff.rs"))).unwrap();
    let again = run::output(&mut command).await.expect(0).json();
    assert_eq!(again["files"]["unchanged"], 2);
    assert_eq!(again["files"]["removed"], 1);
    assert_eq!(again["languages"][0]["files"], 2);
}

#[cfg(unix)]
#[tokio::test]
async fn names_that_could_command_the_terminal_are_shown_escaped() {
    let place = Place::empty();
    place.write("src/red\u{1b}[31m\n.rs", "fn one() {}\n");
    place.write("src/latin\r.py", b"# caf\xe9\n");
    let methods = "class A {\n '\u{1b}[2J'() {}\n [`x\n y`]() {}\n}\n";
    place.write("src/methods.js", methods);
    let table = place.run("analyze src --db a.db").await.expect(2);
    assert!(
        table.stdout.contains(r" src/red\u{1b}[31m\n.rs:1"),
        "{table:?}"
    );
    assert!(
        table.stdout.contains(r"  src/latin\r.py: is not UTF-8"),
        "{table:?}"
    );
    // What a function is called is no less up to whoever wrote the file.
    assert!(table.stdout.contains(r" \u{1b}[2J "), "{table:?}");
    assert!(!table.stdout.contains('\u{1b}'), "{table:?}");
}

#[tokio::test]
async fn a_run_that_finds_no_source_file_says_so() {
    let place = Place::empty();
    place.write("src/notes.txt", "nothing to analyze");
    let run = place.run("analyze src/notes.txt --db a.db").await.expect(0);
    let said = "no file of a known language was found: Rust, Elixir, Erlang, Python, JavaScript";
    assert!(run.stdout.contains(said), "{run:?}");
    place.write("src/one.rs", "fn one() {}\n");
    let run = place.run("analyze src --db a.db").await.expect(0);
    assert!(!run.stdout.contains("no file of a known"), "{run:?}");
}

#[tokio::test]
async fn files_that_are_not_utf_8_or_too_large_fail_with_their_reasons() {
    let (place, corpus) = Place::with_files(60);
    let latin = place.write("src/latin.py", b"# caf\xe9\n");
    let large = place.write("src/large.rs", "fn large() {}\n".repeat(1000));
    let json = place
        .run("analyze src --db a.db --max-bytes 13999 --json")
        .await;
    let table = place.run("analyze src --db a.db --max-bytes 13999").await;
    let failed = [
        (latin, "is not UTF-8 from byte 5"),
        (large, "is 14000 bytes long, more than 13999"),
    ];
    check(&place, &corpus, &json, &table, &failed);
    // The limit itself is allowed.
    place.write("src/latin.py", "");
    place
        .run("analyze src --db a.db --max-bytes 14000")
        .await
        .expect(0);
}

#[tokio::test]
async fn binaries_are_counted_and_are_no_failure() {
    let (place, corpus) = Place::with_files(20);
    place.write("src/blob.rs", b"fn a() {}\n\0\x01\x02");
    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    assert_eq!(json["files"]["binary"], 1);
    assert_eq!(json["files"]["found"], 21);
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}

#[tokio::test]
async fn a_file_with_syntax_errors_is_analyzed_as_far_as_it_parses_and_marked() {
    let place = Place::empty();
    let broken = place.write("src/broken.rs", "fn good() {}\n\nfn bad( {\n");
    let worse = place.write("src/worse.py", "def good():\n    pass\n\nclass (:\n");
    let good = place.write("src/good.rs", "fn good() {}\n");
    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    let rows = place.rows("a.db");
    assert_eq!(rows.syntax_errors(&good), Some(0));
    for file in [broken, worse] {
        assert!(rows.syntax_errors(&file) > Some(0));
        let functions = &rows.figures()[&file].functions;
        assert!(
            functions.contains(&("good".to_owned(), 1, 1)),
            "{functions:?}"
        );
    }
    let languages = json["languages"].as_array().unwrap();
    for totals in languages {
        assert_eq!(totals["files_with_syntax_errors"], 1, "{totals}");
    }
    let table = place.run("analyze src --db a.db").await.expect(0).stdout;
    for language in ["Rust", "Python"] {
        let line = table
            .lines()
            .find(|line| line.trim_start().starts_with(language));
        let marked = line.and_then(|line| line.split_whitespace().last());
        assert_eq!(marked, Some("1"), "{table}");
    }
}

#[cfg(unix)]
mod unreadable {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[tokio::test]
    async fn a_file_that_cannot_be_read_fails_with_its_reason() {
        let (place, corpus) = Place::with_files(30);
        let file = place.write("src/secret.rs", "fn secret() {}\n");
        fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
        let (Some(mut json), Some(mut table)) = (
            place.unprivileged("analyze src --db a.db --json").await,
            place.unprivileged("analyze src --db a.db").await,
        ) else {
            return;
        };
        let json = run::output(&mut json).await;
        let table = run::output(&mut table).await;
        let failed = [(file, "cannot be read: Permission denied")];
        check(&place, &corpus, &json, &table, &failed);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_read_fails_and_what_is_known_of_it_stays() {
        let (place, corpus) = Place::with_files(30);
        let Some(mut first) = place.unprivileged("analyze src --db a.db").await else {
            return;
        };
        run::output(&mut first).await.expect(0);
        let directory = place.path("src/part_3");
        fs::set_permissions(&directory, Permissions::from_mode(0o000)).unwrap();
        let mut json = place
            .unprivileged("analyze src --db a.db --json")
            .await
            .unwrap();
        let mut table = place.unprivileged("analyze src --db a.db").await.unwrap();
        let json = run::output(&mut json).await;
        let table = run::output(&mut table).await;
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        check(
            &place,
            &corpus,
            &json,
            &table,
            &[(directory, "Permission denied")],
        );
        assert_eq!(json.json()["files"]["removed"], 0);

        place.run("analyze src --db a.db").await.expect(0);
        let rows = place.rows("a.db");
        assert_eq!(rows.figures(), corpus.files);
        assert!(rows.failures().is_empty());
    }

    #[tokio::test]
    async fn links_are_not_followed() {
        let (place, corpus) = Place::with_files(10);
        symlink("nowhere.rs", place.path("src/dangling.rs")).unwrap();
        symlink(".", place.path("src/loop")).unwrap();
        symlink("/", place.path("src/root")).unwrap();
        place.run("analyze src --db a.db").await.expect(0);
        assert_eq!(place.rows("a.db").figures(), corpus.files);
    }
}
