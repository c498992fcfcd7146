//! The functions in the database, as others count them.
//!
//! That the analysis of the samples in `crates/workers/tests` agrees with queries and with ctags is tested
//! there. Here the rows are compared: with those of the analysis for these samples, and with simpler
//! queries and with ctags for other files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use perennial::workers::analysis::{Analyzer, Language};
use tree_sitter::{Parser, Query, QueryCursor, StreamingIterator as _};

use crate::place::Place;

/// The functions of each file, as name and line, in order.
type Functions = BTreeMap<PathBuf, Vec<(String, i64)>>;

/// What the database has. Names are without arity.
fn in_database(place: &Place) -> Functions {
    let figures = place.rows("a.db").figures().into_iter();
    figures
        .map(|(path, figures)| {
            let functions = figures.functions.into_iter();
            let functions = functions.map(|(name, line, _)| (base(&name).to_owned(), line));
            (path, functions.collect())
        })
        .collect()
}

fn base(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

fn copy(from: &Path, ending: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, ending, &to);
        } else if from.to_str().is_some_and(|it| it.ends_with(ending)) {
            fs::copy(from, to).unwrap();
        }
    }
}

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The functions that a query finds, by their names.
fn by_query(file: &Path) -> Vec<(String, i64)> {
    let (grammar, query): (tree_sitter::Language, _) =
        match Language::from_path(file).expect("a source file") {
            Language::Rust => (
                tree_sitter_rust::LANGUAGE.into(),
                "(function_item name: (_) @name)",
            ),
            Language::Python => (
                tree_sitter_python::LANGUAGE.into(),
                "(function_definition name: (_) @name)",
            ),
            Language::JavaScript => (
                tree_sitter_javascript::LANGUAGE.into(),
                "[(function_declaration name: (_) @name) (method_definition name: (_) @name)]",
            ),
            Language::Erlang => (
                tree_sitter_erlang::LANGUAGE.into(),
                "(function_clause name: (_) @name)",
            ),
            Language::Elixir => (
                tree_sitter_elixir::LANGUAGE.into(),
                r#"(call target: (identifier) @_def
                     (arguments . (call target: (identifier) @name))
                     (#any-of? @_def "def" "defp"))"#,
            ),
        };
    let source = fs::read(file).unwrap();
    let mut parser = Parser::new();
    parser.set_language(&grammar).unwrap();
    let tree = parser.parse(&source, None).unwrap();
    let query = Query::new(&grammar, query).unwrap();
    let name = query.capture_index_for_name("name").unwrap();
    let mut cursor = QueryCursor::new();
    let mut matches = cursor.matches(&query, tree.root_node(), source.as_slice());
    let mut functions = Vec::new();
    while let Some(found) = matches.next() {
        for node in found.nodes_for_capture_index(name) {
            let line = i64::try_from(node.start_position().row).unwrap() + 1;
            functions.push((node.utf8_text(&source).unwrap().to_owned(), line));
        }
    }
    functions
}

#[tokio::test]
async fn functions_of_a_made_corpus_are_those_of_a_query() {
    let (place, corpus) = Place::with_files(100);
    place.run("analyze src --db a.db").await.expect(0);
    let expected: Functions = corpus
        .files
        .keys()
        .map(|file| (file.clone(), by_query(file)))
        .collect();
    assert_eq!(in_database(&place), expected);
}

#[tokio::test]
async fn functions_of_real_files_are_those_of_a_query() {
    let place = Place::empty();
    for name in ["cli", "workers", "supervisor", "pool"] {
        copy(
            &workspace(&format!("crates/{name}/src")),
            ".rs",
            &place.src().join(name),
        );
    }
    place.run("analyze src --db a.db").await.expect(0);
    let found = in_database(&place);
    assert!(found.len() > 50);
    for (path, functions) in found {
        // The name may stand on a line after the first.
        let names = |it: Vec<(String, i64)>| -> Vec<String> {
            it.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(
            names(functions),
            names(by_query(&path)),
            "{}",
            path.display()
        );
    }
}

#[tokio::test]
async fn rows_of_the_samples_are_those_of_the_analysis() {
    let place = Place::empty();
    copy(&workspace("crates/workers/tests/samples"), "", &place.src());
    place.run("analyze src --db a.db").await.expect(0);
    let mut analyzer = Analyzer::new();
    let mut expected = Functions::new();
    for entry in fs::read_dir(place.src()).unwrap() {
        let path = entry.unwrap().path();
        let language = Language::from_path(&path).unwrap();
        let report = analyzer.analyze(language, &fs::read_to_string(&path).unwrap());
        let functions = report.functions();
        let functions = functions.map(|it| (base(&it.name).to_owned(), i64::from(it.start_line)));
        expected.insert(path, functions.collect());
    }
    assert_eq!(expected.len(), 10);
    assert_eq!(in_database(&place), expected);
}

#[tokio::test]
async fn functions_of_plain_files_are_those_of_ctags() {
    let (place, corpus) = Place::with_files(100);
    copy(
        &workspace("crates/workers/tests/samples"),
        "",
        &place.path("samples"),
    );
    for (_, ending) in crate::corpus::LANGUAGES {
        let plain = format!("plain.{ending}");
        fs::copy(place.path("samples").join(&plain), place.src().join(&plain)).unwrap();
    }
    place.run("analyze src --db a.db").await.expect(0);
    let version = Command::new("ctags").arg("--version").output();
    let universal =
        version.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("Universal Ctags"));
    if !universal {
        println!("skipped: universal-ctags is not installed");
        return;
    }
    let listed = Command::new("ctags")
        .args([
            "--options=NONE",
            "--sort=no",
            "-R",
            "-x",
            "--_xformat=%N %n %F",
        ])
        .args(["--kinds-Rust=fP", "--kinds-Elixir=f", "--kinds-Erlang=f"])
        .args(["--kinds-Python=fm", "--kinds-JavaScript=fmg"])
        .arg(place.src())
        .output()
        .unwrap();
    assert!(listed.status.success());
    let mut expected = Functions::new();
    for line in String::from_utf8(listed.stdout).unwrap().lines() {
        let [name, line, path] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let functions = expected.entry(path.into()).or_default();
        functions.push((name.to_owned(), line.parse().unwrap()));
    }
    expected
        .values_mut()
        .for_each(|it| it.sort_by_key(|(_, line)| *line));
    assert_eq!(expected.len(), corpus.files.len() + 5);
    assert_eq!(in_database(&place), expected);
}
