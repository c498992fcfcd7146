//! One timer for all who wait.
//!
//! A timer of tokio's costs more than all the rest of a wait, and hardly anybody who waits needs one: a worker comes
//! back before. So one task sleeps for all, until the earliest deadline that it was told of. Whoever comes with a later
//! one need tell it nothing, and by the time it looks, most of those who waited have long been served.

use std::cell::Cell;
use std::hash::{Hash as _, Hasher};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use perennial_lifecycle::Moment;
use tokio::runtime::{self, Handle};
use tokio::sync::Notify;
use tokio::task;

use super::Cells;

/// When somebody looks for those whose time is over.
#[derive(Debug)]
pub(super) struct Alarm {
    /// The task, if there is one, and where it is. Whoever waits elsewhere has a timer of its own: another runtime may
    /// have stopped, or be another time.
    watch: Option<(Number, runtime::Id)>,
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
            watch: None,
            next: Moment::NEVER,
            bell: Arc::default(),
        }
    }

    /// Returns the number of the task if it looks by this deadline; to be asked whether it is [here](Number::is_here).
    pub(super) fn looks_by(&self, deadline: Moment) -> Option<Number> {
        let (number, _) = self.watch?;
        (self.next <= deadline).then_some(number)
    }

    /// Somebody waits in the present runtime, and not beyond this deadline.
    fn set(&mut self, deadline: Moment) -> Setting {
        let Ok(here) = Handle::try_current() else {
            return Setting::Elsewhere;
        };
        match self.watch {
            Some((_, runtime)) if runtime != here.id() => return Setting::Elsewhere,
            Some((number, _)) if self.next <= deadline => {
                number.note_here();
                return Setting::Set;
            }
            _ => {}
        }
        self.next = deadline;
        let bell = Arc::clone(&self.bell);
        if self.watch.is_some() {
            return Setting::Ring(bell);
        }
        self.watch = Some((Number::next(), here.id()));
        Setting::Begin(here, bell)
    }
}

/// Tells the tasks that sleep for any pool apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(NonZeroU64);

/// So many tasks are known to a thread.
const KNOWN: usize = 64;

thread_local! {
    /// Tasks that have waited on this thread, and the last alarm that was found to be in the same runtime. A task does not
    /// change its runtime, and to ask for that counts a reference that all threads write.
    static HERE: [Cell<Option<(task::Id, Number)>>; KNOWN] =
        const { [const { Cell::new(None) }; KNOWN] };
}

impl Number {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);

        Self(NonZeroU64::MIN.saturating_add(LAST.fetch_add(1, Relaxed)))
    }

    /// Says whether the alarm is known to be in the runtime of the task that asks.
    #[inline]
    fn is_here(self) -> bool {
        let is_noted = |task| HERE.with(|here| here[slot(task)].get() == Some((task, self)));
        task::try_id().is_some_and(is_noted)
    }

    fn note_here(self) {
        if let Some(task) = task::try_id() {
            HERE.with(|here| here[slot(task)].set(Some((task, self))));
        }
    }
}

/// Tasks are numbered as they come.
#[inline]
fn slot(task: task::Id) -> usize {
    struct Last(u64);

    impl Hasher for Last {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            bytes
                .iter()
                .for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
        }

        fn write_u64(&mut self, number: u64) {
            self.0 = number;
        }
    }

    let mut last = Last(0);
    task.hash(&mut last);
    #[expect(clippy::cast_possible_truncation, reason = "the low bits do")]
    let last = last.finish() as usize;
    last % KNOWN
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
    /// Somebody waits, and not beyond this deadline; `alarm` [looks by](Alarm::looks_by) then.
    #[inline]
    pub(super) fn set_alarm(self: &Arc<Self>, alarm: Option<Number>, deadline: Moment) -> Setting {
        if deadline == Moment::NEVER || alarm.is_some_and(Number::is_here) {
            return Setting::Set;
        }
        self.books().alarm().set(deadline)
    }

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
        books.alarm().watch = None;
        books.alarm().next = Moment::NEVER;
        // For each to see to its own end, and one of them to begin the task anew.
        books.call_all();
    }
}
