//! What is in a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::corpus::Figures;

/// Every row of every table, in order of all columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows(BTreeMap<&'static str, Vec<Vec<Value>>>);

const TABLES: [&str; 3] = ["files", "definitions", "failures"];

impl Rows {
    /// Reads a database; one without tables has no rows.
    #[track_caller]
    pub(crate) fn read(file: &Path) -> Self {
        let connection = open(file);
        let tables = TABLES.map(|table| (table, dump(&connection, table)));
        Self(tables.into())
    }

    /// Reads a database and checks that it is sound: the file as SQLite sees it, and each row of `files`
    /// with its definitions.
    #[track_caller]
    pub(crate) fn read_sound(file: &Path) -> Self {
        let connection = open(file);
        let verdict: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        let rows = Self::read(file);
        for (path, figures) in rows.figures_and_counts() {
            let (figures, counted) = figures;
            let functions = i64::try_from(figures.functions.len()).unwrap();
            assert_eq!(functions, counted, "{}", path.display());
        }
        let files = rows.files();
        for definition in &rows.0["definitions"] {
            assert!(files.contains(&path(&definition[0])), "{definition:?}");
        }
        rows
    }

    /// The files that were analyzed.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        self.0["files"].iter().map(|row| path(&row[0])).collect()
    }

    /// The files that failed, with the reasons.
    pub(crate) fn failures(&self) -> BTreeMap<PathBuf, String> {
        let rows = self.0["failures"].iter();
        rows.map(|row| (path(&row[0]), text(&row[1]).to_owned()))
            .collect()
    }

    /// How many places of a file did not parse.
    pub(crate) fn syntax_errors(&self, file: &Path) -> Option<i64> {
        let row = self.0["files"].iter().find(|row| path(&row[0]) == file)?;
        Some(number(&row[10]))
    }

    /// What each file has, as it was made.
    pub(crate) fn figures(&self) -> BTreeMap<PathBuf, Figures> {
        let all = self.figures_and_counts().into_iter();
        all.map(|(path, (figures, _))| (path, figures)).collect()
    }

    /// The figures with the functions of `definitions`, and the count of them in `files`.
    fn figures_and_counts(&self) -> BTreeMap<PathBuf, (Figures, i64)> {
        let languages = crate::corpus::LANGUAGES;
        let mut all: BTreeMap<PathBuf, (Figures, i64)> = BTreeMap::new();
        for row in &self.0["files"] {
            let (language, _) = languages
                .into_iter()
                .find(|(language, _)| *language == text(&row[2]))
                .expect("a language");
            let figures = Figures {
                language,
                bytes: number(&row[3]),
                lines: number(&row[4]),
                code: number(&row[5]),
                comment: number(&row[6]),
                blank: number(&row[7]),
                functions: Vec::new(),
            };
            all.insert(path(&row[0]), (figures, number(&row[8])));
        }
        for row in &self.0["definitions"] {
            if let ("function" | "method", Some((figures, _))) =
                (text(&row[2]), all.get_mut(&path(&row[0])))
            {
                let function = (text(&row[3]).to_owned(), number(&row[4]), number(&row[6]));
                figures.functions.push(function);
            }
        }
        all
    }
}

#[track_caller]
fn open(file: &Path) -> Connection {
    // To read what a killed process left, its log must be written back.
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn dump(connection: &Connection, table: &str) -> Vec<Vec<Value>> {
    let exists: bool = connection
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1",
            [table],
            |row| row.get(0),
        )
        .unwrap();
    if !exists {
        return Vec::new();
    }
    let columns = connection
        .prepare(&format!("SELECT * FROM {table}"))
        .unwrap()
        .column_count();
    let order: Vec<String> = (1..=columns).map(|it| it.to_string()).collect();
    let mut statement = connection
        .prepare(&format!(
            "SELECT * FROM {table} ORDER BY {}",
            order.join(", ")
        ))
        .unwrap();
    let rows = statement
        .query_map([], |row| (0..columns).map(|it| row.get(it)).collect())
        .unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

fn path(value: &Value) -> PathBuf {
    text(value).into()
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("{other:?} is no integer"),
    }
}
