use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_pool::{Worker, WorkerRef};
use rusqlite::Connection;

use super::connection::{Anchor, Place};
use super::{DatabaseActor, DatabaseClient, DatabaseMsg};

/// What a commit waits for before it is acknowledged.
///
/// With either an acknowledged commit survives the death of the process, SIGKILL included: its pages were
/// handed to the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Synchronous {
    /// For the disk: an acknowledged commit survives the loss of power.
    #[default]
    Full,
    /// For the operating system: the loss of power may take the last commits with it, and leaves the
    /// database sound. Several times as many commits a second.
    Normal,
}

impl Synchronous {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

/// Workers that own one connection to an SQLite database each, for a pool.
///
/// SQLite works on blocking threads, never on the runtime. Connections are opened with
///
/// | setting | value |
/// | --- | --- |
/// | journal | write-ahead log: readers and the writer do not wait for each other |
/// | foreign keys | enforced |
/// | busy timeout | 5 s, see [`busy_timeout`](Self::busy_timeout) |
/// | synchronous | [`Synchronous::Full`], see [`synchronous`](Self::synchronous) |
///
/// A file that does not exist is created. When it cannot be opened for writing, the worker's start fails
/// with [`OpenDatabaseError`](super::OpenDatabaseError), which names it.
///
/// A panic in a closure that a holder gives to its [`DatabaseClient`] ends the worker: the pool puts
/// another in its place, and the holder gets
/// [`DatabaseError::Worker`](super::DatabaseError::Worker).
#[derive(Clone)]
#[must_use]
pub struct DatabaseWorker {
    pub(super) place: Place,
    pub(super) busy_timeout: Duration,
    pub(super) synchronous: Synchronous,
    pub(super) on_open: Option<Arc<OnOpen>>,
    /// Connections are opened one at a time: the first turns the write-ahead log on, which SQLite refuses
    /// while another looks, whatever the busy timeout.
    pub(super) opening: Arc<Mutex<()>>,
}

type OnOpen = dyn Fn(&Connection) -> rusqlite::Result<()> + Send + Sync;

impl DatabaseWorker {
    /// Prepares workers on a database file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::File(path.into()))
    }

    /// Prepares workers on a new database in memory, which lasts as long as this value, its clones and
    /// their workers.
    ///
    /// The name is for messages: two databases with the same name are two databases. There is no
    /// write-ahead log in memory, so a writer waits for the readers to finish, and they for it.
    pub fn in_memory(name: impl Into<String>) -> Self {
        Self::at(Place::Memory(Arc::new(Anchor::new(name.into()))))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            busy_timeout: Duration::from_secs(5),
            synchronous: Synchronous::default(),
            on_open: None,
            opening: Arc::default(),
        }
    }

    /// Sets how long a statement waits for the locks of other connections: 24 days at most. Default: 5 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets what a commit waits for. Default: [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Runs a function on every connection when it is opened, on a blocking thread and on one connection
    /// at a time: to make tables that are missing, or to set pragmas.
    ///
    /// Its error makes the worker's start fail. SQLite has one commit hook and one progress handler for each
    /// connection, with which a worker ends what it still does when it is killed: leave both alone.
    pub fn on_open(
        mut self,
        prepare: impl Fn(&Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_open = Some(Arc::new(prepare));
        self
    }
}

impl Worker for DatabaseWorker {
    type Actor = DatabaseActor;
    type Client = DatabaseClient;

    fn actor(&self) -> (DatabaseActor, DatabaseWorker) {
        (DatabaseActor, self.clone())
    }

    fn client(&self, worker: WorkerRef<DatabaseMsg>) -> DatabaseClient {
        DatabaseClient::new(worker)
    }
}

impl fmt::Debug for DatabaseWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseWorker")
            .field("database", &format_args!("{}", self.place))
            .field("busy_timeout", &self.busy_timeout)
            .field("synchronous", &self.synchronous)
            .finish_non_exhaustive()
    }
}
