use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::SubscriptionError;

/// A setting got a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConfigChange {
    /// Which setting.
    #[serde(serialize_with = "text")]
    pub path: Arc<str>,
    /// Its value before.
    pub old: Value,
    /// Its value since.
    pub new: Value,
    /// The version of the configuration that began with it.
    pub version: u64,
    /// Who made the change; empty when a stored value no longer counts.
    #[serde(serialize_with = "text")]
    pub user: Arc<str>,
    /// When, by the wall clock.
    pub at: SystemTime,
}

/// The changes of some settings, from [`ConfigServer::subscribe`](crate::ConfigServer::subscribe).
pub struct Subscription {
    prefix: Arc<str>,
    changes: broadcast::Receiver<ConfigChange>,
}

impl Subscription {
    pub(crate) fn new(prefix: Arc<str>, changes: broadcast::Receiver<ConfigChange>) -> Self {
        Self { prefix, changes }
    }

    /// Waits for the next change.
    ///
    /// A change is published once it is stored, and is readable by then.
    ///
    /// # Errors
    ///
    /// - [`SubscriptionError::Lagged`]: changes were missed; read the settings afresh, then go on.
    /// - [`SubscriptionError::Closed`] is final.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no change is lost.
    pub async fn changed(&mut self) -> Result<ConfigChange, SubscriptionError> {
        loop {
            match self.changes.recv().await {
                Ok(change) if is_below(&change.path, &self.prefix) => return Ok(change),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Err(SubscriptionError::Lagged { missed }),
                Err(RecvError::Closed) => return Err(SubscriptionError::Closed),
            }
        }
    }
}

/// Writes shared text as text.
pub(crate) fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Says whether `path` is `prefix` or lies below it; everything lies below the empty prefix.
pub(crate) fn is_below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
