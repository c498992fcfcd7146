use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::time::Duration;

use perennial_lifecycle::{Exit, ExitReason};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rusqlite::Connection;
use tokio::time::Instant;

use super::{DatabaseError, DatabaseWorker};
use crate::blocking::{self, Panicked};
use crate::event;

/// How long to wait before another attempt to open a database that another process is opening.
const REOPEN: Duration = Duration::from_millis(10);

/// How many steps of SQLite's machine pass between two looks at whether the actor has gone.
const STEPS: i32 = 1000;

/// The actor of a [`DatabaseWorker`](super::DatabaseWorker): it owns one connection.
#[derive(Debug)]
pub struct DatabaseActor;

/// What a [`DatabaseActor`] takes: work for its connection. A
/// [`DatabaseClient`](super::DatabaseClient) makes it.
pub struct DatabaseMsg(Job);

type Job = Box<dyn FnOnce(Connection, &AtomicBool) -> Result<(Connection, Left), Panicked> + Send>;

/// In what state a job leaves the connection.
enum Left {
    Clean,
    RolledBack,
    Unusable(rusqlite::Error),
}

impl DatabaseMsg {
    pub(super) fn new<T, F>(work: F, reply: RpcReplyPort<Result<T, DatabaseError>>) -> Self
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    {
        Self(Box::new(move |connection, gone| {
            let state = (connection, Left::Clean);
            blocking::answer(state, reply, |(connection, left), _| {
                let result = work(connection);
                *left = tidy(connection);
                match left {
                    // Interrupted by a kill: its caller is told of that by the end of the actor.
                    _ if result.is_err() && gone.load(Acquire) => None,
                    Left::Clean => Some(result),
                    _ => Some(result.and(Err(DatabaseError::TransactionLeftOpen))),
                }
            })
        }))
    }
}

/// Leaves no transaction behind for the next holder.
fn tidy(connection: &Connection) -> Left {
    if connection.is_autocommit() {
        return Left::Clean;
    }
    match connection.execute_batch("ROLLBACK") {
        Ok(()) => Left::RolledBack,
        Err(error) => Left::Unusable(error),
    }
}

/// What a [`DatabaseActor`] holds.
pub struct DatabaseState {
    worker: DatabaseWorker,
    /// Out while a job runs on a blocking thread.
    connection: Option<Connection>,
    /// Set at the end of the actor: a statement that still runs then is wanted by nobody.
    ///
    /// Looked at from within the statement. SQLite's own interrupt would miss one that is about to begin.
    gone: Arc<AtomicBool>,
    /// Dropped with the state, at the end of the actor.
    unanswered: Option<Box<dyn Send>>,
}

impl Actor for DatabaseActor {
    type Msg = DatabaseMsg;
    type State = DatabaseState;
    type Arguments = DatabaseWorker;

    async fn pre_start(
        &self,
        _: ActorRef<DatabaseMsg>,
        worker: DatabaseWorker,
    ) -> Result<DatabaseState, ActorProcessingErr> {
        let began = Instant::now();
        let gone = Arc::new(AtomicBool::new(false));
        loop {
            let (opening, ended) = (worker.clone(), Arc::clone(&gone));
            let opened = blocking::run(move || opening.open(&ended)).await;
            if let Some(connection) = opened.map_err(Exit)?? {
                let ended = Arc::clone(&gone);
                connection.progress_handler(STEPS, Some(move || ended.load(Acquire)))?;
                return Ok(DatabaseState {
                    gone,
                    connection: Some(connection),
                    worker,
                    unanswered: None,
                });
            }
            if began.elapsed() >= worker.busy_timeout {
                return Err(worker.busy().into());
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn handle(
        &self,
        _: ActorRef<DatabaseMsg>,
        DatabaseMsg(job): DatabaseMsg,
        state: &mut DatabaseState,
    ) -> Result<(), ActorProcessingErr> {
        // Never out here: a job that does not bring the connection back ends the actor.
        let connection = state.connection.take().ok_or(Exit(ExitReason::Killed))?;
        let gone = Arc::clone(&state.gone);
        let done = blocking::run(move || job(connection, &gone)).await;
        match done.map_err(Exit)? {
            Ok((connection, left)) => {
                state.connection = Some(connection);
                match left {
                    Left::Clean => Ok(()),
                    Left::RolledBack => {
                        event::transaction_left_open(&state.worker.place);
                        Ok(())
                    }
                    Left::Unusable(error) => Err(error.into()),
                }
            }
            Err(Panicked { reason, unanswered }) => {
                event::work_panicked("database", &reason);
                state.unanswered = Some(unanswered);
                Err(Exit(reason).into())
            }
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<DatabaseMsg>,
        state: &mut DatabaseState,
    ) -> Result<(), ActorProcessingErr> {
        // The last connection to a database copies the log into the file when it is closed.
        let connection = state.connection.take();
        blocking::run(move || drop(connection))
            .await
            .map_err(Exit)?;
        Ok(())
    }
}

impl Drop for DatabaseState {
    fn drop(&mut self) {
        self.gone.store(true, Release);
    }
}

impl fmt::Debug for DatabaseMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseMsg")
    }
}

impl fmt::Debug for DatabaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseState").finish_non_exhaustive()
    }
}
