//! Those who follow the dead letters of a tree.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

use super::DeadLetter;
use crate::Missed;

/// How many letters a slow subscriber may be behind.
const BEHIND: usize = 1_024;

/// The last letters, as long as anybody follows them. Subscribers keep only their place in it.
pub(super) struct News {
    log: Mutex<Log>,
    changed: Notify,
}

#[derive(Default)]
struct Log {
    last: VecDeque<DeadLetter>,
    /// How many there were while anybody followed them.
    next: u64,
    readers: usize,
    closed: bool,
}

/// What a subscriber finds.
enum Found {
    Letter(DeadLetter),
    Missed(u64),
    Nothing,
    End,
}

impl News {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Notes a letter, in the order of the letters; to be followed by [`ring`](Self::ring).
    pub(super) fn note(&self, letter: &DeadLetter) {
        let mut log = self.lock();
        if log.readers == 0 {
            return;
        }
        if log.last.len() == BEHIND {
            log.last.pop_front();
        }
        log.last.push_back(letter.clone());
        log.next += 1;
    }

    /// Wakes those who wait. That may run anything, so nothing is to be locked meanwhile.
    pub(super) fn ring(&self) {
        self.changed.notify_waiters();
    }

    /// Says that no more letters will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ring();
    }

    fn read(&self, at: u64) -> Found {
        let log = self.lock();
        let oldest = log.next - log.last.len() as u64;
        if at < oldest {
            return Found::Missed(oldest - at);
        }
        let index = usize::try_from(at - oldest).ok();
        match index.and_then(|index| log.last.get(index)) {
            Some(letter) => Found::Letter(letter.clone()),
            None if log.closed => Found::End,
            None => Found::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dead letters of a tree as they come; see [`DeadLetters::subscribe`](super::DeadLetters::subscribe).
///
/// A subscriber is never waited for, and may do whatever it likes where it is woken.
pub struct DeadLetterStream {
    news: Arc<News>,
    /// The number of the next letter.
    at: u64,
}

impl DeadLetterStream {
    pub(super) fn new(news: Arc<News>) -> Self {
        let mut log = news.lock();
        log.readers += 1;
        let at = log.next;
        drop(log);
        Self { news, at }
    }

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
        // A reader that finds letter after letter would not let others run otherwise.
        consume_budget().await;
        loop {
            let mut changed = pin!(self.news.changed.notified());
            // Before the look, or a letter that comes between the look and the wait would be missed.
            changed.as_mut().enable();
            match self.news.read(self.at) {
                Found::Letter(letter) => {
                    self.at += 1;
                    return Some(Ok(letter));
                }
                Found::Missed(count) => {
                    self.at += count;
                    return Some(Err(Missed { count }));
                }
                Found::End => return None,
                Found::Nothing => changed.await,
            }
        }
    }
}

impl Drop for DeadLetterStream {
    fn drop(&mut self) {
        let mut log = self.news.lock();
        log.readers -= 1;
        if log.readers == 0 {
            log.last = VecDeque::new();
        }
    }
}

impl fmt::Debug for DeadLetterStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterStream")
            .field("next", &self.at)
            .finish_non_exhaustive()
    }
}
