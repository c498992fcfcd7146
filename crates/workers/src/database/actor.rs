use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::time::Duration;

use perennial_lifecycle::{Exit, ExitReason};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rusqlite::{Connection, InterruptHandle};
use tokio::time::Instant;

use super::{DatabaseError, DatabaseWorker};
use crate::blocking::{self, Panicked};
use crate::event;

/// How long to wait before another attempt to open a database that another process is opening.
const REOPEN: Duration = Duration::from_millis(10);

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
        Self(Box::new(move |connection, wanted| {
            let state = (connection, Left::Clean);
            blocking::answer(state, reply, |(connection, left), _| {
                let result = work(connection);
                *left = tidy(connection);
                match left {
                    // Interrupted by a kill: its caller is told of that by the end of the actor.
                    Left::Clean if result.is_err() && !wanted.load(Acquire) => None,
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
    interrupt: InterruptHandle,
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
        loop {
            let opening = worker.clone();
            let opened = blocking::run(move || opening.open()).await.map_err(Exit)?;
            if let Some(connection) = opened? {
                return Ok(DatabaseState {
                    interrupt: connection.get_interrupt_handle(),
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
        let mut running = Running {
            wanted: Arc::new(AtomicBool::new(true)),
            interrupt: Some(&state.interrupt),
        };
        let wanted = Arc::clone(&running.wanted);
        let done = blocking::run(move || job(connection, &wanted)).await;
        running.interrupt = None;
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
}

/// Interrupts the statement that runs when the actor is killed: nobody waits for it any more.
struct Running<'a> {
    wanted: Arc<AtomicBool>,
    interrupt: Option<&'a InterruptHandle>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(interrupt) = self.interrupt.take() {
            self.wanted.store(false, Release);
            interrupt.interrupt();
        }
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
