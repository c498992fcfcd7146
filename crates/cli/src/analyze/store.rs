//! What is kept in the database, and how it is written.
//!
//! Everything is an upsert within a transaction, so a batch that was perhaps written can be written again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use perennial::workers::analysis::{Definition, FileReport};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, Result, params};
use serde::Serialize;

use super::source::{ContentHash, Found};

/// How many functions the report names.
const MOST_COMPLEX: usize = 10;

/// The tables. `definitions` has one row per definition, in order of appearance.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    language TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    code INTEGER NOT NULL,
    comment INTEGER NOT NULL,
    blank INTEGER NOT NULL,
    functions INTEGER NOT NULL,
    worst_complexity INTEGER,
    syntax_errors INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS definitions (
    path TEXT NOT NULL REFERENCES files (path) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    start_line INTEGER NOT NULL,
    end_line INTEGER NOT NULL,
    complexity INTEGER,
    PRIMARY KEY (path, ordinal)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS definitions_by_complexity ON definitions (complexity);
CREATE TABLE IF NOT EXISTS failures (
    path TEXT PRIMARY KEY,
    reason TEXT NOT NULL
) WITHOUT ROWID;
";

/// One file's result, ready to be written.
#[derive(Clone, Debug)]
pub enum Row {
    /// What the analyzer found.
    Analyzed {
        /// The absolute path.
        path: String,
        /// The hash of what was analyzed.
        hash: ContentHash,
        /// The result.
        report: FileReport,
    },
    /// Why the file could not be analyzed.
    Failed {
        /// The absolute path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The file is not text.
    Binary {
        /// The absolute path.
        path: String,
    },
}

/// Makes the tables.
///
/// # Errors
///
/// SQLite's own.
pub fn prepare(connection: &Connection) -> Result<()> {
    connection.execute_batch(SCHEMA)
}

/// Reads the hash of every file that was analyzed.
///
/// # Errors
///
/// SQLite's own.
pub fn known(connection: &Connection) -> Result<HashMap<String, ContentHash>> {
    let mut statement = connection.prepare("SELECT path, hash FROM files")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Writes rows in place of what was known of their files.
///
/// # Errors
///
/// SQLite's own.
pub fn write(connection: &Connection, rows: &[Row]) -> Result<()> {
    let mut forget_file = connection.prepare_cached("DELETE FROM files WHERE path = ?1")?;
    let mut forget_failure = connection.prepare_cached("DELETE FROM failures WHERE path = ?1")?;
    let mut file = connection.prepare_cached(
        "INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let mut definition =
        connection.prepare_cached("INSERT INTO definitions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut failure = connection.prepare_cached("INSERT INTO failures VALUES (?1, ?2)")?;
    for row in rows {
        match row {
            Row::Analyzed { path, hash, report } => {
                forget_file.execute([path])?;
                forget_failure.execute([path])?;
                let worst = report.functions().filter_map(|it| it.complexity).max();
                file.execute(params![
                    path,
                    hash.as_slice(),
                    report.language.to_string(),
                    integer(report.bytes),
                    report.lines.total,
                    report.lines.code,
                    report.lines.comment,
                    report.lines.blank,
                    integer(report.functions().count() as u64),
                    worst,
                    report.syntax_errors,
                ])?;
                for (ordinal, it) in (0_i64..).zip(&report.definitions) {
                    let Definition {
                        name,
                        start_line,
                        end_line,
                        complexity,
                        ..
                    } = it;
                    let kind = it.kind.to_string();
                    let values: [&dyn ToSql; 7] = [
                        path, &ordinal, &kind, name, start_line, end_line, complexity,
                    ];
                    definition.execute(values)?;
                }
            }
            Row::Failed { path, reason } => {
                forget_file.execute([path])?;
                forget_failure.execute([path])?;
                failure.execute([path, reason])?;
            }
            Row::Binary { path } => {
                forget_file.execute([path])?;
                forget_failure.execute([path])?;
            }
        }
    }
    Ok(())
}

/// SQLite's integers are signed; no count here comes near the limit.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Removes what the database has of files that are gone, and returns how many those were.
///
/// # Errors
///
/// SQLite's own.
pub fn remove_gone(
    connection: &Connection,
    found: &Found,
    present: &BTreeSet<String>,
) -> Result<usize> {
    let mut removed = 0;
    for table in ["files", "failures"] {
        let mut all = connection.prepare(&format!("SELECT path FROM {table}"))?;
        let paths: Vec<String> = all
            .query_map([], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let mut delete = connection.prepare(&format!("DELETE FROM {table} WHERE path = ?1"))?;
        for path in paths {
            if found.covers(&path) && !present.contains(&path) {
                removed += delete.execute([path])?;
            }
        }
    }
    Ok(removed)
}

/// The files of one language, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LanguageTotals {
    /// The language.
    pub language: String,
    /// How many files.
    pub files: u64,
    /// All lines.
    pub lines: u64,
    /// Lines with code.
    pub code: u64,
    /// Lines with nothing but comment.
    pub comment: u64,
    /// Lines with nothing.
    pub blank: u64,
    /// Functions and methods.
    pub functions: u64,
    /// The highest cyclomatic complexity of a function.
    pub worst_complexity: Option<u32>,
    /// Files of which some did not parse.
    pub files_with_syntax_errors: u64,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComplexFunction {
    /// Its cyclomatic complexity.
    pub complexity: u32,
    /// Its name.
    pub name: String,
    /// The absolute path of its file.
    pub path: String,
    /// Where it begins.
    pub line: u32,
}

/// What the database has of the paths that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By language, in order of name.
    pub languages: Vec<LanguageTotals>,
    /// The most complex functions, worst first.
    pub most_complex: Vec<ComplexFunction>,
    /// The files that failed, in order.
    pub failures: Vec<(String, String)>,
}

/// Adds up what the database has below the roots.
///
/// # Errors
///
/// SQLite's own.
pub fn totals(connection: &Connection, found: &Found) -> Result<Totals> {
    let below = |path: &str| found.is_below(path);
    let mut languages: BTreeMap<String, LanguageTotals> = BTreeMap::new();
    let mut files = connection.prepare(
        "SELECT path, language, lines, code, comment, blank, functions, worst_complexity, syntax_errors
         FROM files",
    )?;
    let mut rows = files.query([])?;
    while let Some(row) = rows.next()? {
        if !below(&row.get::<_, String>(0)?) {
            continue;
        }
        let language: String = row.get(1)?;
        let totals = languages.entry(language).or_default();
        let number = |column| row.get::<_, i64>(column).map(|it| it.unsigned_abs());
        totals.files += 1;
        totals.lines += number(2)?;
        totals.code += number(3)?;
        totals.comment += number(4)?;
        totals.blank += number(5)?;
        totals.functions += number(6)?;
        totals.worst_complexity = totals.worst_complexity.max(row.get(7)?);
        totals.files_with_syntax_errors += u64::from(number(8)? > 0);
    }
    let mut most_complex = Vec::new();
    let mut functions = connection.prepare(
        "SELECT complexity, name, path, start_line FROM definitions
         WHERE complexity IS NOT NULL AND kind IN ('function', 'method')
         ORDER BY complexity DESC, path, ordinal",
    )?;
    let mut rows = functions.query([])?;
    while let (true, Some(row)) = (most_complex.len() < MOST_COMPLEX, rows.next()?) {
        let path: String = row.get(2)?;
        if below(&path) {
            most_complex.push(ComplexFunction {
                complexity: row.get(0)?,
                name: row.get(1)?,
                path,
                line: row.get(3)?,
            });
        }
    }
    let mut failures = connection.prepare("SELECT path, reason FROM failures ORDER BY path")?;
    let failures = failures
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?
        .filter(|row| !matches!(row, Ok((path, _)) if !below(path)))
        .collect::<Result<_>>()?;
    let languages = languages
        .into_iter()
        .map(|(language, totals)| LanguageTotals { language, ..totals })
        .collect();
    Ok(Totals {
        languages,
        most_complex,
        failures,
    })
}

/// Opens the database to see whether it can be written, and makes the tables.
///
/// # Errors
///
/// SQLite's own.
pub fn check_writable(file: &Path) -> Result<()> {
    let connection = Connection::open(file)?;
    prepare(&connection)?;
    // SQLite opens a file that it may only read, and begins a transaction on it: only a change is refused.
    connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE is_writable (it); ROLLBACK;")?;
    let mode: Option<String> = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .optional()?;
    tracing::debug!(journal_mode = mode, "database is writable");
    Ok(())
}
