use std::time::Duration;

/// Stands before the dispatch of every cast and call to a name.
///
/// Asked in the sender's task, so it must answer at once.
pub trait Gate: Send + Sync + 'static {
    /// Admits one message.
    ///
    /// # Errors
    ///
    /// [`GateRefused`] says when a message would be admitted.
    fn admit(&self) -> Result<(), GateRefused>;
}

/// A message that a gate turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRefused {
    /// How long to wait before the next try.
    pub retry_after: Duration,
}
