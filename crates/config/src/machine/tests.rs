use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const PATHS: [&str; 4] = ["a", "a.b", "a.c", "gone"];

/// Three settings that take numbers below 100; `gone` is not one of them.
fn schema() -> Schema {
    let below = |n: &u32| {
        if *n < 100 {
            Ok(())
        } else {
            Err("must be below 100".to_owned())
        }
    };
    Schema::builder()
        .entry("a", 0, below)
        .entry("a.b", 1, below)
        .entry("a.c", 2, below)
        .build()
        .unwrap()
}

fn rows(writes: &[(usize, u32)]) -> Vec<Row> {
    (1..)
        .zip(writes)
        .map(|(version, (path, n))| Row {
            path: PATHS[*path].to_owned(),
            json: n.to_string(),
            version,
            user: format!("user {version}"),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(version),
        })
        .collect()
}

fn values(snapshot: &Snapshot) -> Vec<Value> {
    snapshot
        .values
        .iter()
        .map(|held| held.value.json.clone())
        .collect()
}

proptest! {
    #[test]
    fn a_snapshot_holds_the_last_valid_value_of_each_path_however_the_rows_come(
        writes in prop::collection::vec((0..PATHS.len(), 0_u32..120), 0..20),
        cut in 0_usize..20,
    ) {
        let schema = schema();
        let rows = rows(&writes);
        // What the table holds: the last row of each path.
        let last: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.path.as_str(), row)).collect();
        let defaults = [json!(0), json!(1), json!(2)];
        let model: Vec<Value> = PATHS[..3]
            .iter()
            .zip(&defaults)
            .map(|(path, default)| match last.get(path).map(|row| row.json.parse::<u32>().unwrap()) {
                Some(n) if n < 100 => json!(n),
                _ => default.clone(),
            })
            .collect();

        let mut table: Vec<Row> = last.values().map(|row| (*row).clone()).collect();
        table.sort_by_key(|row| row.version);
        let (at_once, skipped) = Snapshot::defaults(&schema).with(&schema, table);
        prop_assert_eq!(values(&at_once), model);
        prop_assert_eq!(at_once.version, writes.len() as u64);
        let bad = |row: &&&Row| row.path == "gone" || row.json.parse::<u32>().unwrap() >= 100;
        prop_assert_eq!(skipped.len(), last.values().filter(|row| bad(row)).count());

        // As updates come: first some, then the rest.
        let (first, rest) = rows.split_at(cut.min(rows.len()));
        let (before, _) = Snapshot::defaults(&schema).with(&schema, first.to_vec());
        let (after, _) = before.clone().with(&schema, rest.to_vec());
        prop_assert_eq!(values(&after), values(&at_once));

        // The changes lead from the one to the other.
        let changes = after.changes_since(&before, &schema);
        prop_assert!(changes.is_sorted_by_key(|change| change.version));
        let mut replayed = values(&before);
        for change in &changes {
            let index = schema.find(&change.path).unwrap();
            prop_assert_eq!(&replayed[index], &change.old);
            replayed[index] = change.new.clone();
            prop_assert!(change.version <= after.version);
        }
        prop_assert_eq!(replayed, values(&after));
        prop_assert!(after.changes_since(&after, &schema).is_empty());
    }
}

#[test]
fn a_row_that_is_not_json_is_skipped() {
    let row = Row {
        json: "{".to_owned(),
        ..rows(&[(0, 1)]).remove(0)
    };
    let schema = schema();
    let (snapshot, skipped) = Snapshot::defaults(&schema).with(&schema, vec![row]);
    assert_eq!(values(&snapshot)[0], json!(0));
    assert!(matches!(&skipped[..], [Skipped::Invalid { path }] if &**path == "a"));
}
