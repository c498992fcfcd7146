//! The JSON document and the database have what `docs/analyze-json.md` lists, and nothing else.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::Value;

use crate::place::Place;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/analyze-json.md");

/// The names in the first column of the first table after a line that begins so.
#[track_caller]
fn documented(docs: &str, heading: &str) -> BTreeSet<String> {
    let lines = docs.lines().skip_while(|line| !line.starts_with(heading));
    let table = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let first_cells = table.filter_map(|line| line.split('|').nth(1));
    let names: BTreeSet<String> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert!(!names.is_empty(), "no table after `{heading}`");
    names
}

fn keys(value: &Value) -> BTreeSet<String> {
    let object = value.as_object().expect("an object");
    object.keys().cloned().collect()
}

fn nodes(root: &Value) -> Vec<&Value> {
    let mut nodes = vec![root];
    for child in root["children"].as_array().unwrap() {
        nodes.extend(self::nodes(child));
    }
    nodes
}

#[tokio::test]
async fn the_document_has_the_fields_that_are_documented() {
    let docs = std::fs::read_to_string(DOCS).unwrap();
    let (place, corpus) = Place::with_files(50);
    place.write("src/broken.rs", b"\xff");
    let run = place.run("analyze src --db a.db --json").await.expect(2);
    assert_eq!(run.stderr, "");
    let json = run.json();
    let mut fields = documented(&docs, "## The document");
    assert!(fields.remove("snapshot"));
    assert_eq!(keys(&json), fields);
    for (heading, value) in [
        ("### `files`", &json["files"]),
        ("### `languages[]`", &json["languages"][0]),
        ("### `most_complex[]`", &json["most_complex"][0]),
        ("### `failures[]`", &json["failures"][0]),
        ("### `tree`", &json["tree"]),
        ("`tree.pools[]`:", &json["tree"]["pools"][0]),
    ] {
        assert_eq!(keys(value), documented(&docs, heading), "{heading}");
    }

    assert_eq!(json["version"], 1);
    assert_eq!(json["interrupted"], false);
    assert_eq!(json["files"]["analyzed"], 50);
    assert_eq!(json["most_complex"].as_array().unwrap().len(), 10);
    let languages = json["languages"].as_array().unwrap();
    let functions = languages.iter().map(|it| it["functions"].as_u64().unwrap());
    assert_eq!(functions.sum::<u64>(), corpus.functions() as u64);
    assert!(json["elapsed_seconds"].as_f64().unwrap() > 0.0);
    assert!(json["files_per_second"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn the_tree_in_the_document_is_the_debug_actors_snapshot() {
    let docs = std::fs::read_to_string(DOCS).unwrap();
    let (place, _) = Place::with_files(30);
    // Killed actors have an exit to show.
    let arguments = "analyze src --db a.db --json --tree --chaos 1 --rate 30";
    let json = place.run(arguments).await.expect(0).json();
    let snapshot = &json["snapshot"];
    assert_eq!(keys(&json), documented(&docs, "## The document"));
    let totals = keys(&snapshot["totals"]);
    let mut fields: BTreeSet<String> = totals.iter().map(|it| format!("totals.{it}")).collect();
    fields.extend(keys(snapshot));
    assert!(fields.remove("totals"));
    assert_eq!(fields, documented(&docs, "### `snapshot`"));

    let root = &snapshot["root"];
    assert_eq!(root["path"], "perennial");
    let children = root["children"].as_array().unwrap();
    let ids: Vec<&str> = children
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "registry",
            "rate_gate",
            "breakers",
            "pools",
            "config_server",
            "monitors",
            "host",
            "debug"
        ],
    );
    let of_a_node = documented(&docs, "`root`, and each element");
    let of_an_exit = documented(&docs, "`last_exit`:");
    let mut exits = 0;
    for node in nodes(root) {
        assert_eq!(keys(node), of_a_node, "{node}");
        if !node["last_exit"].is_null() {
            assert_eq!(keys(&node["last_exit"]), of_an_exit, "{node}");
            exits += 1;
        }
    }
    assert!(exits > 0);
}

#[tokio::test]
async fn the_tables_have_the_columns_that_are_documented() {
    let docs = std::fs::read_to_string(DOCS).unwrap();
    let (place, _) = Place::with_files(5);
    place.run("analyze src --db a.db").await.expect(0);
    let connection = Connection::open(place.path("a.db")).unwrap();
    for table in ["files", "definitions"] {
        let statement = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap();
        let columns = statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(documented(&docs, &format!("`{table}`, one row")), columns);
    }
}
