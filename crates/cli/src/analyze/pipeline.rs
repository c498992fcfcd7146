//! From files to rows: reading, analyzing and writing at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perennial::{Address, CallError, DATABASE, GuardError, Refusal, Tree};
use rusqlite::Transaction;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::actor::{ANALYSIS, AnalysisMsg, NotAnalyzed};
use super::source::{self, ContentHash, Found, Read, SourceFile};
use super::store::{self, Row};
use crate::say::chain;

/// Files that are read ahead of the analyzers.
const READ_AHEAD: usize = 64;
/// The most rows in one transaction.
const BATCH: usize = 256;
/// How long rows gather for one transaction: each commit waits for the disk.
const GATHER: Duration = Duration::from_millis(200);
/// How long a file or a batch is tried before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait before sending again what was cut off.
const PAUSE: Duration = Duration::from_millis(5);
/// How long one message to the analysis actor may take.
const CALL: Duration = Duration::from_secs(90);

/// How many files went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Analyzed now.
    pub analyzed: u64,
    /// The database had them already.
    pub unchanged: u64,
    /// Not text.
    pub binary: u64,
    /// Could not be analyzed.
    pub failed: u64,
    /// Bytes of source that were analyzed now.
    pub bytes: u64,
}

impl Counts {
    fn add(&mut self, row: &Row) {
        match row {
            Row::Analyzed { report, .. } => {
                self.analyzed += 1;
                self.bytes += report.bytes;
            }
            Row::Failed { .. } => self.failed += 1,
            Row::Binary { .. } => self.binary += 1,
        }
    }
}

/// A database that cannot be used any more.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be used: {0}")]
pub struct StoreFailed(String);

impl StoreFailed {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }
}

/// Analyzes and writes everything that was found; `progress` is told of each file.
///
/// When `stop` is set nothing more is begun; what was sent is analyzed and written.
///
/// # Errors
///
/// [`StoreFailed`] when the database refuses for good.
pub(super) async fn run(
    tree: &Tree,
    found: Arc<Found>,
    known: HashMap<String, ContentHash>,
    options: Options,
    stop: Arc<AtomicBool>,
    progress: impl Fn() + Send + Sync + 'static,
) -> Result<Counts, StoreFailed> {
    let analysis = tree
        .resolve(&ANALYSIS)
        .map_err(|error| StoreFailed(error.to_string()))?;
    let (send_read, mut reads) = mpsc::channel(READ_AHEAD);
    let reader = {
        let (found, stop) = (Arc::clone(&found), Arc::clone(&stop));
        tokio::task::spawn_blocking(move || {
            source::read_all(&found.files, &known, options.max_bytes, &stop, &send_read);
        })
    };
    let (rows, to_write) = mpsc::channel(BATCH);
    let writer = tokio::spawn(write_all(tree.clone(), to_write));

    let mut counts = Counts::default();
    let mut in_flight: JoinSet<Option<Row>> = JoinSet::new();
    for (path, reason) in &found.failed {
        let row = Row::Failed {
            path: source::name(path),
            reason: reason.clone(),
        };
        counts.add(&row);
        if rows.send(row).await.is_err() {
            break;
        }
    }
    let mut reading = true;
    while reading || !in_flight.is_empty() {
        let room = in_flight.len() < options.in_flight;
        let row = tokio::select! {
            Some(done) = in_flight.join_next() => {
                match done.map_err(|error| StoreFailed(error.to_string()))? {
                    Some(row) => row,
                    None => continue,
                }
            }
            read = reads.recv(), if reading && room => match read {
                // Read ahead and not begun: Ctrl-C does not wait for it.
                Some(Read::Changed(_)) if stop.load(Relaxed) => continue,
                Some(Read::Changed(file)) => {
                    in_flight.spawn(analyze(analysis.clone(), file, Arc::clone(&stop)));
                    continue;
                }
                Some(Read::Unchanged { .. }) => {
                    counts.unchanged += 1;
                    progress();
                    continue;
                }
                Some(Read::Binary { path }) => Row::Binary {
                    path: path.to_string(),
                },
                Some(Read::Failed { path, reason }) => Row::Failed {
                    path: path.to_string(),
                    reason,
                },
                None => {
                    reading = false;
                    continue;
                }
            },
        };
        counts.add(&row);
        progress();
        if rows.send(row).await.is_err() {
            break;
        }
    }
    drop(rows);
    drop(reads);
    reader
        .await
        .map_err(|error| StoreFailed(error.to_string()))?;
    writer
        .await
        .map_err(|error| StoreFailed(error.to_string()))??;
    Ok(counts)
}

/// What the pipeline is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Files larger than this fail.
    pub(super) max_bytes: u64,
    /// How many files are with the analysis actor at the same time.
    pub(super) in_flight: usize,
}

/// Sends a file until it is analyzed or known to be impossible; `None` when `stop` came before that and
/// nobody has the file.
async fn analyze(
    analysis: Address<AnalysisMsg>,
    file: SourceFile,
    stop: Arc<AtomicBool>,
) -> Option<Row> {
    let path = file.path.to_string();
    let began = Instant::now();
    loop {
        let sent = file.clone();
        let answer = analysis
            .call(|reply| AnalysisMsg::Analyze(sent, reply), CALL)
            .await;
        let (after, why) = match answer {
            Ok(Ok(report)) => {
                return Some(Row::Analyzed {
                    path,
                    hash: file.hash,
                    report,
                });
            }
            Ok(Err(NotAnalyzed::Failed(reason))) => return Some(Row::Failed { path, reason }),
            Ok(Err(NotAnalyzed::Again { after, why })) => (after, why),
            Err(error) => {
                if matches!(error.refusal(), Some(Refusal::ShuttingDown { .. })) {
                    // Nobody will take it any more, nor another one.
                    stop.store(true, Relaxed);
                    return None;
                }
                let after = match &error {
                    CallError::Refused(error) => error.refusal.retry_after(),
                    _ => None,
                };
                (after, error.to_string())
            }
        };
        if began.elapsed() >= PATIENCE {
            let reason = format!("given up after {PATIENCE:?}: {why}");
            return Some(Row::Failed { path, reason });
        }
        if stop.load(Relaxed) {
            return None;
        }
        tracing::debug!(path, "sent again: {why}");
        sleep(after.unwrap_or(PAUSE).max(PAUSE)).await;
        if stop.load(Relaxed) {
            return None;
        }
    }
}

/// Writes rows as they come, as many in one transaction as have gathered.
async fn write_all(tree: Tree, mut rows: mpsc::Receiver<Row>) -> Result<(), StoreFailed> {
    let mut batch = Vec::with_capacity(BATCH);
    while rows.recv_many(&mut batch, BATCH).await > 0 {
        let commit = Instant::now() + GATHER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match timeout_at(commit, rows.recv_many(&mut batch, room)).await {
                Ok(more) if more > 0 => {}
                _ => break,
            }
        }
        let shared: Arc<[Row]> = std::mem::take(&mut batch).into();
        let rows = shared.len();
        in_database(&tree, move |transaction| store::write(transaction, &shared)).await?;
        tracing::debug!(rows, "committed");
    }
    Ok(())
}

/// Runs `work` in a transaction through the protected database pool, again when it was cut off.
///
/// # Errors
///
/// [`StoreFailed`] when SQLite refuses for good.
pub(super) async fn in_database<T, F>(tree: &Tree, work: F) -> Result<T, StoreFailed>
where
    T: Send + 'static,
    F: Fn(&Transaction<'_>) -> rusqlite::Result<T> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let began = Instant::now();
    loop {
        let work = Arc::clone(&work);
        let result = tree
            .guard(DATABASE.as_str())
            .pool(DATABASE)
            .run(|database| async move {
                database
                    .transaction(move |transaction| Ok(work(transaction)?))
                    .await
            })
            .await;
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let again = match &error {
            GuardError::Operation(error) => error.is_retryable(),
            other => other.is_retryable(),
        };
        if !again || began.elapsed() >= PATIENCE {
            return Err(StoreFailed(chain(&error)));
        }
        tracing::debug!("written again: {error}");
        sleep(error.retry_after().unwrap_or(PAUSE).max(PAUSE)).await;
    }
}
