//! Whose handler is being run on this thread.

use std::cell::Cell;
use std::sync::Arc;

use crate::{ActorPath, Incarnation};

thread_local! {
    static CURRENT: Cell<Option<Arc<Incarnation>>> = const { Cell::new(None) };
}

/// Sets who is being polled, and returns who was.
#[inline]
pub(crate) fn replace(run: Option<Arc<Incarnation>>) -> Option<Arc<Incarnation>> {
    CURRENT.replace(run)
}

/// Looks at the run whose handler is being polled on this thread.
#[inline]
pub(crate) fn with<T>(look: impl FnOnce(Option<&Arc<Incarnation>>) -> T) -> T {
    // A message may be dropped as late as at the end of its thread, when nothing is here any more.
    let run = CURRENT.try_with(Cell::take).ok().flatten();
    let result = look(run.as_ref());
    if run.is_some() {
        CURRENT.set(run);
    }
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
#[inline]
pub(crate) fn path() -> Option<ActorPath> {
    let run = CURRENT.take()?;
    let path = run.node().path().clone();
    CURRENT.set(Some(run));
    Some(path)
}
