//! Whose handler is being run on this thread.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use crate::{ActorPath, Incarnation, Traffic};

thread_local! {
    /// Nothing is dropped here with the thread, which has no handler in hand by then: so none of the looks at it, of which
    /// each message takes several, has to ask whether the thread is ending.
    static CURRENT: Cell<Option<ManuallyDrop<Arc<Incarnation>>>> = const { Cell::new(None) };
}

/// Sets who is being polled, and returns who was.
#[inline]
pub(crate) fn replace(run: Option<Arc<Incarnation>>) -> Option<Arc<Incarnation>> {
    let outer = CURRENT.replace(run.map(ManuallyDrop::new));
    outer.map(ManuallyDrop::into_inner)
}

/// Looks at the run whose handler is being polled on this thread.
#[inline]
pub(crate) fn with<T>(look: impl FnOnce(Option<&Arc<Incarnation>>) -> T) -> T {
    let run = CURRENT.take();
    let result = look(run.as_deref());
    CURRENT.set(run);
    result
}

/// Says whether a handler is being polled on this thread.
#[inline(always)]
pub(crate) fn is_any() -> bool {
    CURRENT.with(|it| {
        let run = it.take();
        let is_any = run.is_some();
        it.set(run);
        is_any
    })
}

/// Returns the run whose handler is being polled on this thread.
#[inline(never)]
pub(crate) fn run() -> Option<Arc<Incarnation>> {
    with(|run| run.cloned())
}

/// Returns where the run lives whose handler is being polled on this thread.
#[inline(never)]
pub(crate) fn path() -> Option<ActorPath> {
    with(|run| run.map(|run| run.node().path().clone()))
}

/// Returns the same if it is one of this tree: another may have the same paths.
#[inline(never)]
pub(crate) fn path_in(tree: &Traffic) -> Option<ActorPath> {
    with(|run| {
        let run = run.filter(|run| std::ptr::eq(&**run.traffic(), tree))?;
        Some(run.node().path().clone())
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc;

    use super::*;

    /// Asks when it is dropped.
    struct Late(mpsc::Sender<(bool, bool)>);

    impl Drop for Late {
        fn drop(&mut self) {
            let asked = (Incarnation::current(), Incarnation::current_path());
            self.0.send((asked.0.is_none(), asked.1.is_none())).unwrap();
        }
    }

    thread_local! {
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }

    #[test]
    fn nobody_is_polled_any_more_at_the_end_of_a_thread() {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            LATE.set(Some(Late(tell)));
            // Used later, it is gone earlier.
            assert!(!is_any());
        });
        thread.join().unwrap();
        assert_eq!(told.recv(), Ok((true, true)));
    }
}
