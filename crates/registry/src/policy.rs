//! What a message does whose actor is down.

use std::time::Duration;

use perennial_lifecycle::after;
use tokio::time::Instant;

/// What a message does whose actor is down: being restarted, put off by a backoff, or stopped.
///
/// | chosen | by | applies to |
/// | --- | --- | --- |
/// | for all names of a tree | [`Registry::set_when_down`](crate::Registry::set_when_down) | what follows |
/// | for a name | [`Name::when_down`](crate::Name::when_down), in the constant | every use of the constant |
/// | for one message | the same at the place of the call: `NAME.when_down(..)` | this use |
/// | for an address, a group | [`Address::when_down`](crate::Address::when_down), [`Group::when_down`](crate::Group::when_down) | what is sent through it |
///
/// The last in this list that was chosen counts; without any it is [`Wait`](Self::Wait). That is right for a `call` and
/// a `send`, which have a deadline and can wait. A `cast` can't wait, so it always fails at once, whatever is chosen.
///
/// Only what may pass by itself is waited for. A name that was never bound, a quarantine and a gate that refuses are
/// answered at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// Fails at once, with [`Refusal::NotRunning`](crate::Refusal::NotRunning).
    Fail,
    /// Waits for the actor until the deadline of the call or send. This is the default.
    #[default]
    Wait,
    /// Waits for the actor this long, and not past the deadline of the call or send.
    WaitAtMost(Duration),
}

impl WhenDown {
    /// Returns until when a message waits that has this deadline; `None` when it doesn't.
    pub(crate) fn until(self, deadline: Instant) -> Option<Instant> {
        match self {
            Self::Fail => None,
            Self::Wait => Some(deadline),
            Self::WaitAtMost(time) => Some(deadline.min(after(time))),
        }
    }
}
