//! Who has a task looked at again that its own thread may not come to.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{Unconstrained, unconstrained, yield_now};
use tokio::time::{Sleep, sleep};

/// After so long a task is looked at that its thread has not come to.
const SOON: Duration = Duration::from_millis(5);

/// How many looks a thread goes by what it has found out about its runtime, which costs as much as a look to ask for.
const LOOKS: u32 = 64;

/// A second look that is to come; dropped, nobody needs it any more.
///
/// A task that wakes itself goes to the end of its thread's queue, and another thread is woken to help with that. So it
/// is put off instead until the thread has nothing else to do: most have their answer by then and are never looked at
/// again. Only, a thread that is held up by another task's long work would not come to it. So for one task of each
/// thread's a timer is there, which any thread sees to; all others wake themselves, and so do all on a runtime of one
/// thread.
pub(super) struct SecondLook {
    /// 0 where nobody stands by.
    turn: u64,
}

thread_local! {
    static STANDBY: Standby = Standby::new();
}

/// Of one thread.
struct Standby {
    /// Numbers the timers of all threads.
    turn: Cell<u64>,
    /// How many looks of the task are to come, as far as is known: one that was dropped by another thread counts until
    /// the timer ends.
    looks: Cell<u32>,
    /// Whose waker was given to the watch last, to be compared and not to be used.
    known: Cell<Option<(*const (), *const RawWakerVTable)>>,
    /// For how many more looks its tasks wake themselves: its runtime has no other thread.
    alone: Cell<u32>,
    watch: Arc<Watch>,
}

/// What a timer looks at when it ends.
struct Watch {
    /// The timer runs. Written under the lock of the waker.
    is_on: AtomicBool,
    waker: Mutex<Option<Waker>>,
    timer: Mutex<Option<Timer>>,
}

/// Not put off by tokio, that would have a task yield which has done much at a stretch.
type Timer = Pin<Box<Unconstrained<Sleep>>>;

/// Has the task polled again.
pub(super) fn look_again(context: &mut Context<'_>) -> SecondLook {
    let waker = context.waker();
    // Not in a thread that is ending.
    let looked_after = STANDBY.try_with(|it| it.look_after(waker));
    let Some(turn) = looked_after.ok().flatten() else {
        waker.wake_by_ref();
        return SecondLook { turn: 0 };
    };
    // It says that it is not through yet, and tokio wakes the task when it has come round.
    _ = pin!(yield_now()).poll(context);
    SecondLook { turn }
}

impl Standby {
    fn new() -> Self {
        /// Each thread begins where no other comes to.
        static BEGIN: AtomicU64 = AtomicU64::new(0);

        Self {
            turn: Cell::new(BEGIN.fetch_add(1 << 40, Relaxed)),
            looks: Cell::new(0),
            known: Cell::new(None),
            alone: Cell::new(0),
            watch: Arc::new(Watch {
                is_on: AtomicBool::new(false),
                waker: Mutex::new(None),
                timer: Mutex::new(None),
            }),
        }
    }

    /// Sees to it that the task is woken if its thread does not come to it; `None` if that cannot be.
    #[inline]
    fn look_after(&self, waker: &Waker) -> Option<u64> {
        if self.watch.is_on.load(Relaxed) {
            if self.known.get() == Some(parts(waker)) {
                // It lies there. Whoever takes it at this moment wakes it after that, and so after this look.
                self.looks.set(self.looks.get() + 1);
                return Some(self.turn.get());
            }
        } else if let Some(left) = self.alone.get().checked_sub(1) {
            self.alone.set(left);
            return None;
        }
        self.begin_to_look_after(waker)
    }

    #[inline(never)]
    fn begin_to_look_after(&self, waker: &Waker) -> Option<u64> {
        let watch = &self.watch;
        if !watch.is_on.load(Relaxed)
            && Handle::try_current().ok()?.runtime_flavor() == RuntimeFlavor::CurrentThread
        {
            // There is no other thread to be woken, nor one that would see to a timer.
            self.alone.set(LOOKS);
            return None;
        }
        let mut known = watch.lock();
        let begins = !watch.is_on.load(Relaxed);
        if !begins && self.looks.get() > 0 {
            return None;
        }
        let replaced = known.replace(waker.clone());
        watch.is_on.store(true, Relaxed);
        drop(known);
        // The last waker of a task may take the task with it.
        drop(replaced);
        self.known.set(Some(parts(waker)));
        self.turn.set(self.turn.get() + 1);
        self.looks.set(1);
        if begins {
            watch.begin();
        }
        Some(self.turn.get())
    }
}

fn parts(waker: &Waker) -> (*const (), *const RawWakerVTable) {
    (waker.data(), waker.vtable())
}

impl Watch {
    #[cold]
    fn begin(self: &Arc<Self>) {
        let mut timer = Box::pin(unconstrained(sleep(SOON)));
        let waker = Waker::from(Arc::clone(self));
        match timer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.keep(timer),
            Poll::Ready(()) => self.wake_by_ref(),
        }
    }

    fn keep(&self, timer: Timer) {
        let mut kept = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(timer);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// The timer has ended: who is still here is looked at. That it may be through does no harm.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut known = self.lock();
        let waker = known.take();
        self.is_on.store(false, Relaxed);
        drop(known);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for SecondLook {
    #[inline]
    fn drop(&mut self) {
        let turn = self.turn;
        if turn == 0 {
            return;
        }
        _ = STANDBY.try_with(|it| {
            if it.turn.get() == turn {
                it.looks.set(it.looks.get().saturating_sub(1));
            }
        });
    }
}
