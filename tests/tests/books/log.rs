//! What senders, handlers and messages themselves have seen: it knows nothing of the framework's books.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ractor::RpcReplyPort;

use crate::script::{Act, To};

/// A message that is known again wherever it turns up.
pub(crate) struct Job {
    pub(crate) tag: Tag,
    pub(crate) acts: Vec<Act>,
    pub(crate) reply: Option<RpcReplyPort<u64>>,
    pub(crate) is_deferred: bool,
}

/// What makes a message known; notes when it is dropped.
pub(crate) struct Tag {
    pub(crate) id: u64,
    log: Arc<Log>,
}

#[derive(Default)]
pub(crate) struct Log(Mutex<Entries>);

#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) fates: BTreeMap<u64, Fate>,
    /// How many dead letters were sent once more, and not refused.
    pub(crate) replayed: u64,
    pub(crate) refused: u64,
}

/// What was seen of one message.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) to: To,
    pub(crate) is_call: bool,
    pub(crate) sent: Sent,
    pub(crate) handled: u64,
    /// In hand at an end of the actor, and to be handled again.
    pub(crate) crashed: u64,
    /// In hand at an end of the actor, for the last time.
    pub(crate) failed: u64,
    pub(crate) deferred: bool,
    /// Its envelope said that it was a call, and it was not, or the other way round.
    pub(crate) mistaken: bool,
    /// How many of it there are: 0 or 1.
    pub(crate) alive: u64,
}

/// What its sender knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Whoever was about to send it is gone.
    Unknown,
    Delivered,
    Refused,
}

impl Log {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    pub(crate) fn change(&self, id: u64, change: impl FnOnce(&mut Fate)) {
        change(self.entries().fates.get_mut(&id).unwrap());
    }

    pub(crate) fn tag(self: &Arc<Self>, to: To, is_call: bool) -> Tag {
        let mut entries = self.entries();
        let id = entries.fates.len() as u64;
        let fate = Fate {
            to,
            is_call,
            sent: Sent::Unknown,
            handled: 0,
            crashed: 0,
            failed: 0,
            deferred: false,
            mistaken: false,
            alive: 1,
        };
        entries.fates.insert(id, fate);
        Tag {
            id,
            log: Arc::clone(self),
        }
    }

    pub(crate) fn sent(&self, id: u64, is_delivered: bool) {
        let mut entries = self.entries();
        entries.refused += u64::from(!is_delivered);
        entries.fates.get_mut(&id).unwrap().sent = match is_delivered {
            true => Sent::Delivered,
            false => Sent::Refused,
        };
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.log.change(self.id, |fate| fate.alive -= 1);
    }
}

/// A message in hand; dropped before it is done, its actor has ended with it.
pub(crate) struct InHand {
    log: Arc<Log>,
    id: u64,
    /// It won't be handled again.
    pub(crate) is_last: bool,
    is_done: bool,
}

impl InHand {
    pub(crate) fn new(log: &Arc<Log>, id: u64, is_last: bool) -> Self {
        Self {
            log: Arc::clone(log),
            id,
            is_last,
            is_done: false,
        }
    }

    pub(crate) fn done(mut self) {
        self.is_done = true;
        self.log.change(self.id, |fate| fate.handled += 1);
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.log.change(self.id, |fate| match self.is_last {
            true => fate.failed += 1,
            false => fate.crashed += 1,
        });
    }
}
