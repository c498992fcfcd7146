//! One timer for all who wait.
//!
//! A timer of tokio's costs more than all the rest of a wait, and hardly anybody who waits needs one: a worker comes
//! back before. So one task sleeps for all, until the earliest deadline that it was told of. Whoever comes with a later
//! one need tell it nothing, and by the time it looks, most of those who waited have long been served.

use std::sync::{Arc, Weak};
use std::time::Duration;

use perennial_lifecycle::Moment;
use tokio::runtime::{self, Handle};
use tokio::sync::Notify;

use super::Cells;

/// When somebody looks for those whose time is over.
#[derive(Debug)]
pub(super) struct Alarm {
    /// Where the task is, if there is one. Whoever waits elsewhere has a timer of its own: another runtime may have
    /// stopped, or be another time.
    runtime: Option<runtime::Id>,
    /// When it looks; [`Moment::NEVER`]: when it is told to.
    next: Moment,
    bell: Arc<Notify>,
}

/// What is to be done for who wants to be called at its deadline.
pub(super) enum Setting {
    /// Nothing: there is no deadline, or the task looks early enough.
    Set,
    /// The task must look again when to look.
    Ring(Arc<Notify>),
    /// The task must be begun there.
    Begin(Handle, Arc<Notify>),
    /// The task is in another runtime.
    Elsewhere,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self {
            runtime: None,
            next: Moment::NEVER,
            bell: Arc::default(),
        }
    }

    /// Somebody waits in the present runtime, and not beyond this deadline.
    pub(super) fn set(&mut self, deadline: Moment) -> Setting {
        if deadline == Moment::NEVER {
            return Setting::Set;
        }
        let Ok(here) = Handle::try_current() else {
            return Setting::Elsewhere;
        };
        match self.runtime {
            Some(runtime) if runtime != here.id() => return Setting::Elsewhere,
            Some(_) if self.next <= deadline => return Setting::Set,
            _ => {}
        }
        self.next = deadline;
        let bell = Arc::clone(&self.bell);
        match self.runtime.replace(here.id()) {
            Some(_) => Setting::Ring(bell),
            None => Setting::Begin(here, bell),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // The task sees that it is over.
        self.bell.notify_one();
    }
}

/// The task; dropped with its runtime, it leaves those who wait elsewhere to set another.
pub(super) struct Watch(Weak<Cells>);

impl Watch {
    pub(super) fn new(cells: &Arc<Cells>) -> Self {
        Self(Arc::downgrade(cells))
    }

    pub(super) async fn run(self, bell: Arc<Notify>) {
        let mut due = false;
        while let Some(cells) = self.0.upgrade() {
            let left = cells.call_the_late(due);
            drop(cells);
            due = match left {
                Some(left) => tokio::time::timeout(left, bell.notified()).await.is_err(),
                None => {
                    bell.notified().await;
                    false
                }
            };
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(cells) = self.0.upgrade() {
            cells.alarm_is_gone();
        }
    }
}

impl Cells {
    /// Calls those whose time is over; `due`: it was time to look. Returns for how long there is nothing to do, if there
    /// will be anything.
    fn call_the_late(self: &Arc<Self>, due: bool) -> Option<Duration> {
        let now = self.now();
        let mut books = self.books();
        // tokio's clock has the last word: what was set for now is late now, whatever the stopwatch shows.
        let late = if due {
            now.max(books.alarm().next)
        } else {
            now
        };
        let next = books.find_late(late);
        books.alarm().next = next;
        drop(books);
        (next != Moment::NEVER).then(|| next.since(now))
    }

    fn alarm_is_gone(self: &Arc<Self>) {
        let mut books = self.books();
        books.alarm().runtime = None;
        books.alarm().next = Moment::NEVER;
        // For each to see to its own end, and one of them to begin the task anew.
        books.call_all();
    }
}
