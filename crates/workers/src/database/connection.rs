//! How connections are opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use super::error::is_busy;
use super::{DatabaseWorker, OpenDatabaseError};
use crate::event;

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;

/// The longest wait for locks that SQLite can be told, some 24 days; rusqlite panics beyond it.
const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

#[derive(Clone)]
pub(super) enum Place {
    File(PathBuf),
    Memory(Arc<Anchor>),
}

/// A database in memory lives as long as a connection to it: this one.
pub(super) struct Anchor {
    name: String,
    number: u64,
    connection: Mutex<Option<Connection>>,
}

impl Anchor {
    pub(super) fn new(name: String) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            name,
            number: NEXT.fetch_add(1, Relaxed),
            connection: Mutex::default(),
        }
    }

    /// Connects to the database that is this anchor's and nobody else's.
    fn connect(&self) -> rusqlite::Result<Connection> {
        // Unlike a shared cache, this file system has locks that the busy timeout waits for.
        let uri = format!("file:/perennial-{}?vfs=memdb", self.number);
        let flags = flags() | OpenFlags::SQLITE_OPEN_URI;
        let mut anchor = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if anchor.is_none() {
            *anchor = Some(Connection::open_with_flags(&uri, flags)?);
        }
        Connection::open_with_flags(&uri, flags)
    }
}

fn flags() -> OpenFlags {
    // Each connection is used by one thread at a time.
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

impl DatabaseWorker {
    /// Opens a connection, which commits nothing once its actor has `gone`; `None` when another process was just doing
    /// the same.
    pub(super) fn open(
        &self,
        gone: &Arc<AtomicBool>,
    ) -> Result<Option<Connection>, OpenDatabaseError> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        match self.connect(gone) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if is_busy(&error) => {
                event::open_is_busy(&self.place);
                Ok(None)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// The error of an opening that was busy for as long as we wait.
    pub(super) fn busy(&self) -> OpenDatabaseError {
        self.error(failure(
            ffi::SQLITE_BUSY,
            "another process keeps the database locked",
        ))
    }

    fn connect(&self, gone: &Arc<AtomicBool>) -> rusqlite::Result<Connection> {
        let connection = match &self.place {
            // To SQLite these are names of databases that belong to one connection, and are gone with it.
            Place::File(path) if [Path::new(""), Path::new(":memory:")].contains(&&**path) => {
                return Err(failure(ffi::SQLITE_CANTOPEN, "this is no name of a file"));
            }
            Place::File(path) => Connection::open_with_flags(path, flags())?,
            Place::Memory(anchor) => anchor.connect()?,
        };
        // SQLite opens a file that it may only read for reading, and fails at the first write.
        if connection.is_readonly(rusqlite::MAIN_DB)? {
            return Err(failure(ffi::SQLITE_READONLY, "the file is not writable"));
        }
        connection.busy_timeout(self.busy_timeout.min(LONGEST_WAIT))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "foreign_keys", true)?;
        let journal: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", self.synchronous.as_str())?;
        // SQLite looks at nothing while it waits for a lock, and a short statement is done before it looks again.
        let ended = Arc::clone(gone);
        connection.commit_hook(Some(move || ended.load(Acquire)))?;
        if let Some(prepare) = &self.on_open {
            prepare(&connection)?;
        }
        event::opened(&self.place, &journal);
        Ok(connection)
    }

    fn error(&self, source: rusqlite::Error) -> OpenDatabaseError {
        OpenDatabaseError {
            database: self.place.to_string(),
            source,
        }
    }
}

fn failure(code: i32, text: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text.to_owned()))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Memory(anchor) => write!(f, "{} (in memory)", anchor.name),
        }
    }
}
