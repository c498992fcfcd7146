//! Who has tasks looked at again that wait for what did not come at once.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{Unconstrained, unconstrained};
use tokio::time::{Sleep, sleep};

/// After so long a task is looked at.
const SOON: Duration = Duration::from_millis(5);

/// What ends within so long is not put off until then.
pub(super) const URGENT: Duration = SOON.saturating_mul(2);

/// A thread looks after so many tasks at a time.
const MOST: usize = 256;

/// How many looks a thread goes by what it has found out about its runtime, which costs as much as a look to ask for.
const LOOKS: u32 = 64;

/// A look to come, after which whoever waits is to do what it does for what takes longer.
///
/// A task that wakes itself goes to the end of its thread's queue, and another thread is woken to help with that; the
/// answer, which comes meanwhile, does not get it polled any sooner. So the threads of a runtime keep the wakers of the
/// tasks that wait so, each task's once, and a timer of each thread, which any thread sees to, wakes them all. What most
/// tasks wait for has come long before. On a runtime of one thread tasks wake themselves.
#[derive(Clone, Copy)]
pub(super) enum SecondLook {
    /// The next one.
    Next,
    /// The one after more timers have ended than these.
    After(u64),
}

impl SecondLook {
    /// Says whether this is it.
    #[inline]
    pub(super) fn is_now(self) -> bool {
        match self {
            Self::Next => true,
            Self::After(ended) => ended != ENDED.0.load(Relaxed),
        }
    }
}

/// On a cache line that is hardly ever written to.
#[repr(align(128))]
struct Apart(AtomicU64);

/// How many timers of all threads have ended. That of another thread may be taken for one's own, which does no harm.
static ENDED: Apart = Apart(AtomicU64::new(0));

thread_local! {
    static STANDBY: Standby = Standby::default();
    /// For how many more looks the tasks of this thread wake themselves: its runtime has no other thread. Apart, as the
    /// first that is asked, and all there is to ask there.
    static ALONE: Cell<u32> = const { Cell::new(0) };
    static WOKEN: Cell<u64> = const { Cell::new(0) };
    static LAST_WOKEN: Cell<Option<Parts>> = const { Cell::new(None) };
}

/// Returns how many looks on this thread have had a task polled again at once.
#[inline]
pub(super) fn woken() -> u64 {
    WOKEN.get()
}

/// Tells wakers apart, and is not to be used.
type Parts = (*const (), *const RawWakerVTable);

/// Of one thread.
#[derive(Default)]
struct Standby {
    /// Whose wakers the watch was given since the timer began.
    known: RefCell<HashSet<Parts, foldhash::fast::RandomState>>,
    /// One of them, found last.
    last: Cell<Option<Parts>>,
    watch: Arc<Watch>,
}

/// What a timer looks at when it ends.
#[derive(Default)]
struct Watch {
    /// The timer runs. Written under the lock of the wakers.
    is_on: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    timer: Mutex<Option<Timer>>,
}

/// Not put off by tokio, that would have a task yield which has done much at a stretch.
type Timer = Pin<Box<Unconstrained<Sleep>>>;

/// Has the task polled again: soon, or at once if that is urgent. `woken` is what [`woken`] was when this poll began.
#[inline]
pub(super) fn look_again(context: &mut Context<'_>, urgent: bool, woken: u64) -> SecondLook {
    let waker = context.waker();
    if !urgent
        && !is_alone()
        && let Some(look) = look_after(waker)
    {
        return look;
    }
    // Not again, if a look within this poll has done so: one wait lies within another.
    let parts = Some(parts(waker));
    if woken == WOKEN.get() || parts != LAST_WOKEN.get() {
        WOKEN.set(WOKEN.get().wrapping_add(1));
        LAST_WOKEN.set(parts);
        waker.wake_by_ref();
    }
    SecondLook::Next
}

/// Says whether the runtime of this thread has no other one.
#[inline]
fn is_alone() -> bool {
    let left = ALONE.get().checked_sub(1);
    left.inspect(|left| ALONE.set(*left)).is_some()
}

/// Sees to it that the task is woken soon, if that can be.
#[inline(never)]
fn look_after(waker: &Waker) -> Option<SecondLook> {
    // Before it is looked after: a timer that ends meanwhile wakes the task, which then looks at this once more.
    let ended = ENDED.0.load(Relaxed);
    // Not in a thread that is ending.
    let looked_after = STANDBY.try_with(|it| it.look_after(waker)) == Ok(true);
    looked_after.then_some(SecondLook::After(ended))
}

impl Standby {
    #[inline]
    fn look_after(&self, waker: &Waker) -> bool {
        if self.watch.is_on.load(Relaxed) {
            // Its waker lies there. Whoever takes it at this moment wakes it after that, and so after this look.
            let parts = parts(waker);
            if self.last.get() == Some(parts) {
                return true;
            }
            if self.known.borrow().contains(&parts) {
                self.last.set(Some(parts));
                return true;
            }
        }
        self.begin_to_look_after(waker)
    }

    #[inline(never)]
    fn begin_to_look_after(&self, waker: &Waker) -> bool {
        let watch = &self.watch;
        let mut wakers = watch.lock();
        // Asked under the lock: a timer that ends just now has taken all wakers but this, and another one must begin.
        let timer = if watch.is_on.load(Relaxed) {
            None
        } else {
            let here = Handle::try_current().map(|it| it.runtime_flavor());
            match here {
                // There is no other thread to be woken, nor one that would see to a timer.
                Ok(RuntimeFlavor::CurrentThread) => {
                    ALONE.set(LOOKS);
                    return false;
                }
                Ok(_) => Some(Box::pin(unconstrained(sleep(SOON)))),
                Err(_) => return false,
            }
        };
        if wakers.len() >= MOST {
            return false;
        }
        wakers.push(waker.clone());
        watch.is_on.store(true, Relaxed);
        drop(wakers);
        let parts = parts(waker);
        let mut known = self.known.borrow_mut();
        if timer.is_some() {
            known.clear();
        }
        known.insert(parts);
        drop(known);
        self.last.set(Some(parts));
        if let Some(timer) = timer {
            watch.begin(timer);
        }
        true
    }
}

fn parts(waker: &Waker) -> Parts {
    (waker.data(), waker.vtable())
}

impl Watch {
    #[cold]
    fn begin(self: &Arc<Self>, mut timer: Timer) {
        let waker = Waker::from(Arc::clone(self));
        match timer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                let mut kept = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some(timer);
            }
            Poll::Ready(()) => self.wake_by_ref(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// The timer has ended: all are looked at. That most are through does no harm.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut wakers = self.lock();
        let woken = std::mem::take(&mut *wakers);
        self.is_on.store(false, Relaxed);
        drop(wakers);
        ENDED.0.fetch_add(1, Relaxed);
        woken.into_iter().for_each(Waker::wake);
    }
}
