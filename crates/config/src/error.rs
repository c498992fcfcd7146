use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::ExitReason;
use perennial_pool::CheckoutError;
use perennial_workers::DatabaseError;

/// A path that the schema does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no setting `{path}`{}", DidYouMean(nearest.as_deref()))]
#[non_exhaustive]
pub struct UnknownPath {
    /// The path as given.
    pub path: String,
    /// The path that was probably meant.
    pub nearest: Option<Arc<str>>,
}

struct DidYouMean<'a>(Option<&'a str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, ", did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// A setting that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The schema does not know the path.
    #[error(transparent)]
    UnknownPath(#[from] UnknownPath),
    /// The schema declares the setting with another type.
    #[error("setting `{path}` is of type {declared}, not {asked}")]
    #[non_exhaustive]
    WrongType {
        /// The path.
        path: Arc<str>,
        /// The type in the schema.
        declared: &'static str,
        /// The type of the key.
        asked: &'static str,
    },
}

/// The database could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No database worker was to be had.
    #[error("no connection to the database")]
    Checkout {
        /// Why.
        #[from]
        source: CheckoutError,
    },
    /// The database failed.
    #[error("the database failed")]
    Database {
        /// Why.
        #[from]
        source: DatabaseError,
    },
}

impl StoreError {
    /// Says whether a later attempt may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Checkout { source } => source.is_retryable(),
            Self::Database { source } => source.is_retryable(),
        }
    }
}

/// A setting that was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The schema does not know the path; nothing was changed.
    #[error(transparent)]
    UnknownPath(#[from] UnknownPath),
    /// The schema refuses the value; nothing was changed.
    #[error("setting `{path}`: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// The path.
        path: Arc<str>,
        /// What was expected.
        reason: String,
    },
    /// The database could not be written.
    ///
    /// Nothing was changed, except perhaps when the cause is [`DatabaseError::Worker`]: then the config
    /// server restarts, and what it reads from the database is what holds.
    #[error("the change could not be stored")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
    /// The config server is down or ended before it answered. In the second case the change may have been
    /// made; then the restarted server publishes it.
    #[error("the config server is down{}", because(reason.as_ref()))]
    #[non_exhaustive]
    ServerDown {
        /// Why it ended, where that is known.
        reason: Option<ExitReason>,
    },
    /// The config server did not answer in time; the change may still be made.
    #[error("the config server did not answer within {waited:?}")]
    #[non_exhaustive]
    TimedOut {
        /// How long the caller has waited.
        waited: Duration,
    },
}

impl UpdateError {
    /// Says whether the same change may succeed later. To make one twice does no harm: the second is a new
    /// version with the same value.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownPath(_) | Self::Invalid { .. } => false,
            Self::Store { source } => source.is_retryable(),
            Self::ServerDown { .. } | Self::TimedOut { .. } => true,
        }
    }
}

impl From<DatabaseError> for UpdateError {
    fn from(source: DatabaseError) -> Self {
        StoreError::from(source).into()
    }
}

impl From<CheckoutError> for UpdateError {
    fn from(source: CheckoutError) -> Self {
        StoreError::from(source).into()
    }
}

fn because(reason: Option<&ExitReason>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

/// The past of a setting could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The schema does not know the path.
    #[error(transparent)]
    UnknownPath(#[from] UnknownPath),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A subscription that has no change to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The subscriber was too slow; read the settings afresh and go on.
    #[error("missed {missed} changes")]
    #[non_exhaustive]
    Lagged {
        /// How many changes, of any setting, were missed.
        missed: u64,
    },
    /// Every handle of the config server is gone; there are no more changes.
    #[error("the config server is gone")]
    Closed,
}
