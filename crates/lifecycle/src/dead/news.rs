//! Those who follow the dead letters of a tree.

use std::fmt;

use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

use super::DeadLetter;
use crate::{Missed, Outbox};

/// How many letters a slow subscriber may be behind.
const BEHIND: usize = 1_024;

/// What those who follow the letters are told. To wake them may run anything, so that waits until nothing is locked.
pub(super) struct News {
    untold: Outbox<DeadLetter>,
    told: Sender<DeadLetter>,
}

impl News {
    pub(super) fn new() -> Self {
        Self {
            untold: Outbox::new(),
            told: Sender::new(BEHIND),
        }
    }

    /// Notes a letter, in the order of the letters; to be followed by [`tell`](Self::tell).
    pub(super) fn note(&self, letter: &DeadLetter) {
        if self.told.receiver_count() > 0 {
            self.untold.push(letter.clone());
        }
    }

    pub(super) fn tell(&self) {
        // An error only says that nobody follows them any more.
        self.untold.empty(|letter| drop(self.told.send(letter)));
    }

    pub(super) fn follow(&self) -> DeadLetterStream {
        DeadLetterStream(self.told.subscribe())
    }
}

/// The dead letters of a tree as they come; see [`DeadLetters::subscribe`](super::DeadLetters::subscribe).
///
/// A subscriber is never waited for, and may do whatever it likes where it is woken.
pub struct DeadLetterStream(Receiver<DeadLetter>);

impl DeadLetterStream {
    /// Waits for the next one; `None` once the tree is gone.
    ///
    /// # Errors
    ///
    /// [`Missed`] says how many a subscriber has missed that did not keep up; it goes on with the oldest that is there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<DeadLetter, Missed>> {
        match self.0.recv().await {
            Ok(letter) => Some(Ok(letter)),
            Err(RecvError::Lagged(count)) => Some(Err(Missed { count })),
            Err(RecvError::Closed) => None,
        }
    }
}

impl fmt::Debug for DeadLetterStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterStream")
            .field("unread", &self.0.len())
            .finish_non_exhaustive()
    }
}
