//! The main job without any actor: one thread that reads, parses and writes.
//!
//! What `perennial analyze` costs is measured against this; see `docs/performance.md`.
//!
//! ```text
//! cargo run --release -p perennial-cli --example plain_loop -- PATH DATABASE
//! ```

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use perennial::workers::analysis::Analyzer;
use perennial_cli::analyze::source::{self, Read};
use perennial_cli::analyze::store::{self, Row};
use rusqlite::Connection;
use tokio::time::Instant;

/// As many rows in one transaction as the pipeline of the binary writes at the most.
const BATCH: usize = 256;
const MAX_BYTES: u64 = 4 * 1024 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(path), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: plain_loop PATH DATABASE".into());
    };
    let began = Instant::now();
    let found = source::find(&[path])?;
    let mut connection = Connection::open(file)?;
    // As each DatabaseWorker opens its connection.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )?;
    store::prepare(&connection)?;
    let mut analyzer = Analyzer::new();
    let mut rows = Vec::new();
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for (path, language) in &found.files {
        match source::read(path, *language, &HashMap::new(), MAX_BYTES) {
            Read::Changed(file) => {
                let report = analyzer.analyze(file.language, &file.text);
                files += 1;
                bytes += report.bytes;
                rows.push(Row::Analyzed {
                    path: file.path.to_string(),
                    hash: file.hash,
                    report,
                });
            }
            Read::Failed { path, reason } => rows.push(Row::Failed {
                path: path.to_string(),
                reason,
            }),
            Read::Unchanged { .. } | Read::Binary { .. } => {}
        }
        if rows.len() >= BATCH {
            write(&mut connection, &mut rows)?;
        }
    }
    write(&mut connection, &mut rows)?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{files} files, {bytes} bytes in {seconds:.2} s");
    Ok(())
}

fn write(connection: &mut Connection, rows: &mut Vec<Row>) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    store::write(&transaction, rows)?;
    rows.clear();
    transaction.commit()
}
