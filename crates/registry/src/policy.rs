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

/// What was chosen for a name or an address, if anything was, in one word: it is a part of all that is looked up by name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen(u64);

impl Chosen {
    pub(crate) const NOTHING: Self = Self(u64::MAX);
    const WAIT: Self = Self(u64::MAX - 1);
    const FAIL: Self = Self(u64::MAX - 2);
    /// Longer than any deadline.
    const LONGEST: u64 = u64::MAX - 3;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is less than the longest"
    )]
    pub(crate) const fn new(chosen: WhenDown) -> Self {
        match chosen {
            WhenDown::Fail => Self::FAIL,
            WhenDown::Wait => Self::WAIT,
            WhenDown::WaitAtMost(time) if time.as_nanos() < Self::LONGEST as u128 => {
                Self(time.as_nanos() as u64)
            }
            WhenDown::WaitAtMost(_) => Self(Self::LONGEST),
        }
    }

    pub(crate) fn get(self) -> Option<WhenDown> {
        match self {
            Self::NOTHING => None,
            Self::WAIT => Some(WhenDown::Wait),
            Self::FAIL => Some(WhenDown::Fail),
            Self(nanos) => Some(WhenDown::WaitAtMost(Duration::from_nanos(nanos))),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_kept_to_the_nanosecond() {
        let for_ever = Duration::from_nanos(Chosen::LONGEST);
        for chosen in [
            WhenDown::Fail,
            WhenDown::Wait,
            WhenDown::WaitAtMost(Duration::ZERO),
            WhenDown::WaitAtMost(Duration::from_nanos(1_000_000_001)),
            WhenDown::WaitAtMost(for_ever),
        ] {
            assert_eq!(Chosen::new(chosen).get(), Some(chosen));
        }
        let longer = Chosen::new(WhenDown::WaitAtMost(Duration::MAX));
        assert_eq!(longer.get(), Some(WhenDown::WaitAtMost(for_ever)));
        assert_eq!(Chosen::NOTHING.get(), None);
    }
}
