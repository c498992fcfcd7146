//! The tables, and the only statements on them.

use std::time::{Duration, SystemTime};

use perennial_workers::rusqlite::{
    self, OptionalExtension as _, Row as SqlRow, Transaction, params,
};
use perennial_workers::{DatabaseClient, DatabaseError, Statement};
use serde_json::Value;

use crate::ConfigChange;
use crate::machine::Row;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS perennial_config (
        path       TEXT PRIMARY KEY,
        value      TEXT NOT NULL,     -- JSON
        version    INTEGER NOT NULL,
        updated_by TEXT NOT NULL,
        updated_at INTEGER NOT NULL   -- milliseconds since 1970
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS perennial_config_log (
        version    INTEGER PRIMARY KEY,
        path       TEXT NOT NULL,
        old        TEXT NOT NULL,
        value      TEXT NOT NULL,
        updated_by TEXT NOT NULL,
        updated_at INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS perennial_config_log_path ON perennial_config_log (path, version);
";

/// One change, checked and ready to be stored.
pub(crate) struct Write {
    pub(crate) path: String,
    pub(crate) json: String,
    pub(crate) user: String,
    pub(crate) at: SystemTime,
    /// The JSON of the value that is replaced, if none is stored.
    pub(crate) default: String,
    /// The version up to which everything stored is known.
    pub(crate) known: u64,
}

/// Makes the tables and reads all that is stored: the rows, and the latest version.
pub(crate) async fn load(db: &DatabaseClient) -> Result<(Vec<Row>, u64), DatabaseError> {
    db.transaction(|tx| {
        tx.execute_batch(TABLES)?;
        Ok((rows_since(tx, 0)?, latest(tx)?))
    })
    .await
}

/// Stores a change under the next version, and returns all rows that are newer than what was known: that
/// change, and what others have stored meanwhile.
///
/// `settled` is returned, or dropped when nothing can come of the write any more; so it outlives the
/// commit even if this future is dropped.
pub(crate) async fn write<S: Send + 'static>(
    db: &DatabaseClient,
    write: Write,
    settled: S,
) -> Result<(Vec<Row>, S), DatabaseError> {
    db.transaction(move |tx| {
        // Counts on after the log, and after what was published, should the log have been cut.
        let version = integer(latest(tx)?.max(write.known)) + 1;
        let old: Option<String> = tx
            .prepare_cached("SELECT value FROM perennial_config WHERE path = ?1")?
            .query_row([&write.path], |row| row.get(0))
            .optional()?;
        let at = milliseconds(write.at);
        tx.prepare_cached("INSERT OR REPLACE INTO perennial_config VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![write.path, write.json, version, write.user, at])?;
        tx.prepare_cached("INSERT INTO perennial_config_log VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                version,
                write.path,
                old.unwrap_or(write.default),
                write.json,
                write.user,
                at
            ])?;
        Ok((rows_since(tx, write.known)?, settled))
    })
    .await
}

/// Reads the last changes of a setting, newest first.
pub(crate) async fn history(
    db: &DatabaseClient,
    path: &str,
    limit: u32,
) -> Result<Vec<ConfigChange>, DatabaseError> {
    let select = Statement::new(
        "SELECT path, old, value, version, updated_by, updated_at FROM perennial_config_log
         WHERE path = ?1 ORDER BY version DESC LIMIT ?2",
    );
    let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
    db.query(select.bind(path).bind(limit), move |row| {
        Ok(ConfigChange {
            path: row.get(0)?,
            old: json(row.get(1)?),
            new: json(row.get(2)?),
            version: row.get::<_, i64>(3)?.unsigned_abs(),
            user: row.get(4)?,
            at: time(row.get(5)?),
        })
    })
    .await
}

fn latest(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    tx.prepare_cached("SELECT coalesce(max(version), 0) FROM perennial_config_log")?
        .query_row([], |row| row.get(0))
        .map(i64::unsigned_abs)
}

fn rows_since(tx: &Transaction<'_>, version: u64) -> rusqlite::Result<Vec<Row>> {
    tx.prepare_cached(
        "SELECT path, value, version, updated_by, updated_at FROM perennial_config
         WHERE version > ?1 ORDER BY version",
    )?
    .query_map([integer(version)], row)?
    .collect()
}

fn row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        path: row.get(0)?,
        json: row.get(1)?,
        version: row.get::<_, i64>(2)?.unsigned_abs(),
        user: row.get(3)?,
        at: time(row.get(4)?),
    })
}

/// Versions count up from 1; the end of the range is not in reach.
fn integer(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX - 1)
}

fn milliseconds(at: SystemTime) -> i64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(milliseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds.unsigned_abs())
}
