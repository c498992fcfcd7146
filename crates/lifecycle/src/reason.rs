use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ractor::ActorProcessingErr;

use crate::catch_panic;

/// Why an actor ended.
///
/// | reason | how it comes about | clean |
/// | --- | --- | --- |
/// | `Normal` | the actor stopped by itself | yes |
/// | `Shutdown` | its supervisor asked it to stop | yes |
/// | `ShutdownWith` | the same, with a detail | yes |
/// | `Killed` | it was killed, or its task was cancelled | no |
/// | `Failed` | a handler returned an error | no |
/// | `Panicked` | a handler panicked | no |
#[derive(Clone, Debug)]
pub enum ExitReason {
    /// The actor stopped by itself, with nothing wrong.
    Normal,
    /// The supervisor asked the actor to stop.
    Shutdown,
    /// A shutdown that carries a detail, such as the child that failed to start.
    ShutdownWith(Cause),
    /// The actor was killed, or its task was cancelled.
    Killed,
    /// A handler returned this error.
    Failed(Cause),
    /// A handler panicked.
    Panicked {
        /// The panic message.
        message: Arc<str>,
        /// `file:line:column`, known when [`install_panic_hook`](crate::install_panic_hook) ran.
        location: Option<Arc<str>>,
    },
}

/// A reason that says all by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Normal = 1,
    Shutdown,
    Killed,
}

impl Plain {
    const ALL: [Self; 3] = [Self::Normal, Self::Shutdown, Self::Killed];

    /// Returns its number, which is never 0.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// Returns the one of this number.
    pub(crate) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    pub(crate) fn reason(self) -> &'static ExitReason {
        match self {
            Self::Normal => &ExitReason::Normal,
            Self::Shutdown => &ExitReason::Shutdown,
            Self::Killed => &ExitReason::Killed,
        }
    }
}

impl ExitReason {
    /// Returns what it is if it says all by itself.
    pub(crate) fn plain(&self) -> Option<Plain> {
        match self {
            Self::Normal => Some(Plain::Normal),
            Self::Shutdown => Some(Plain::Shutdown),
            Self::Killed => Some(Plain::Killed),
            Self::ShutdownWith(_) | Self::Failed(_) | Self::Panicked { .. } => None,
        }
    }

    /// Makes a `Failed` from any error or text.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(Cause::new(error))
    }

    /// Says whether a transient child that ends for this reason stays down.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownWith(_))
    }

    /// Names the variant in lower case, for metrics and filters.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::ShutdownWith(_) => "shutdown_with",
            Self::Killed => "killed",
            Self::Failed(_) => "failed",
            Self::Panicked { .. } => "panicked",
        }
    }

    /// Returns the error behind the reason, if there is one.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::ShutdownWith(cause) | Self::Failed(cause) => Some(cause),
            _ => None,
        }
    }

    /// Lists what led to the end, outermost first: the reason's own text, then each `source`.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.to_string()];
        let mut next = self.cause().and_then(|cause| cause.0.source());
        while let Some(error) = next {
            chain.push(catch_panic(|| error.to_string()).unwrap_or_else(|_| MUTE.to_owned()));
            next = error.source();
        }
        chain
    }

    /// Reads the reason out of what a ractor handler returned as its error.
    pub(crate) fn from_processing_error(error: ActorProcessingErr) -> Self {
        match error.downcast::<Exit>() {
            Ok(exit) => exit.0,
            Err(error) => Self::Failed(Cause::from(error)),
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::ShutdownWith(cause) => write!(f, "shutdown: {cause}"),
            Self::Killed => f.write_str("killed"),
            Self::Failed(cause) => write!(f, "failed: {cause}"),
            Self::Panicked { message, location } => match location {
                Some(location) => write!(f, "panicked at {location}: {message}"),
                None => write!(f, "panicked: {message}"),
            },
        }
    }
}

/// A shared error: the cause in an [`ExitReason`], which is cloned into events and histories.
#[derive(Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// Wraps an error or a text.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }

    /// Returns the error itself, for downcasting.
    #[must_use]
    pub fn get(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl From<Box<dyn Error + Send + Sync>> for Cause {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self(Arc::from(error))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = catch_panic(|| fmt::Display::fmt(&self.0, f));
        told.unwrap_or_else(|_| f.write_str(MUTE))
    }
}

/// Stands for the text of an error of the host's whose own panics: whoever tells of an end, such as a supervisor, is not to
/// end with it.
const MUTE: &str = "an error whose text panics";

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// An error that a handler returns to end its actor for a reason of its choice.
///
/// A clean reason ends the actor in order (its `post_stop` runs); any other ends it at once. Without
/// `Exit` an error ends the actor as [`ExitReason::Failed`], and `myself.stop(..)` as
/// [`ExitReason::Normal`]: ractor does not hand the text given to `stop` to the actor.
///
/// ```
/// # use perennial_lifecycle::{Exit, ExitReason};
/// # use ractor::ActorProcessingErr;
/// fn handle(done: bool) -> Result<(), ActorProcessingErr> {
///     if done {
///         return Err(Exit(ExitReason::Normal).into());
///     }
///     Ok(())
/// }
/// # assert!(handle(true).is_err());
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("exit: {0}")]
pub struct Exit(pub ExitReason);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn chain_lists_every_source_once() {
        let reason = ExitReason::failed(Outer(std::fmt::Error));
        assert_eq!(
            reason.chain(),
            ["failed: outer", &std::fmt::Error.to_string()]
        );
    }

    #[test]
    fn an_error_whose_text_panics_has_another() {
        #[derive(Debug)]
        struct Mute;

        impl fmt::Display for Mute {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("no text")
            }
        }

        impl Error for Mute {}

        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Mute);

        let reason = ExitReason::failed(Mute);
        assert_eq!(reason.to_string(), "failed: an error whose text panics");
        let reason = ExitReason::failed(Outer(Mute));
        assert_eq!(reason.chain(), ["failed: outer", MUTE]);
    }

    #[test]
    fn a_plain_reason_is_found_by_its_number() {
        for plain in Plain::ALL {
            assert_eq!(plain.reason().plain(), Some(plain));
            assert_eq!(Plain::of(plain.number()), Some(plain));
        }
        assert!(ExitReason::failed("x").plain().is_none());
        assert!(Plain::of(0).is_none() && Plain::of(4).is_none());
    }

    #[test]
    fn exit_keeps_its_reason_through_a_boxed_error() {
        let boxed: ActorProcessingErr = Exit(ExitReason::Shutdown).into();
        assert!(matches!(
            ExitReason::from_processing_error(boxed),
            ExitReason::Shutdown
        ));
    }
}
