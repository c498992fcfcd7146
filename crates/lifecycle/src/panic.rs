use std::any::Any;
use std::cell::RefCell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Arc;
use std::sync::Once;

use crate::ExitReason;

thread_local! {
    /// Where the last panic of this thread happened, and its message.
    static LAST: RefCell<Option<(Arc<str>, Arc<str>)>> = const { RefCell::new(None) };
}

/// Reports panics through `tracing` and remembers where they happened, instead of printing a backtrace.
///
/// With the hook in place [`ExitReason::Panicked`] carries its location, and a restart after a panic does
/// not pay for the default hook, which captures and prints a backtrace. The hook replaces the process's
/// panic hook for all panics, so this is the host's decision; calling it again does nothing.
///
/// Until the process has a subscriber, a panic is one line on stderr.
///
/// A subscriber that panics when it cannot write aborts the process within a panic hook. That of `tracing_subscriber::fmt`
/// does on a closed stderr, unless it is told `log_internal_errors(false)`.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(report)));
}

fn report(info: &PanicHookInfo<'_>) {
    let location = info.location().map(|place| Arc::from(place.to_string()));
    let message = info.payload_as_str().unwrap_or("no message");
    let place = location.as_deref().unwrap_or("unknown");
    tracing::error!(panic.location = place, "panic: {message}");
    if !tracing::dispatcher::has_been_set() {
        // A closed stderr is no reason for another panic, which would abort the process.
        drop(writeln!(std::io::stderr(), "panic at {place}: {message}"));
    }
    let last = location.map(|location| (location, Arc::from(message)));
    LAST.with_borrow_mut(|it| *it = last);
}

/// Runs code that is not ours; a panic of it is caught, and is the error.
///
/// # Errors
///
/// [`ExitReason::Panicked`].
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, ExitReason> {
    catch_unwind(AssertUnwindSafe(work)).map_err(caught)
}

/// Tells of something to code that is not ours, as a recorder of metrics is.
///
/// A panic of it has been reported by the panic hook. What is told of has nothing to do with it, and this may be a drop
/// during another panic.
#[inline]
pub fn shield(tell: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(tell)) {
        discard(payload);
    }
}

/// Drops what is the host's, [shielded](shield) from a panic of that: whoever has it last did not ask for it.
#[inline]
pub(crate) fn let_go<T>(foreign: T) {
    shield(|| drop(foreign));
}

/// Makes the exit reason of a panic that was just caught on this thread, and drops what was thrown.
pub(crate) fn caught(payload: Box<dyn Any + Send>) -> ExitReason {
    let reason = reason(&*payload);
    discard(payload);
    reason
}

/// Drops what was thrown. It may be of any type, and its drop panics once more.
#[cold]
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It may do the same.
        std::mem::forget(again);
    }
}

/// Makes the exit reason of a panic that was just caught on this thread.
fn reason(payload: &(dyn Any + Send)) -> ExitReason {
    let message: Arc<str> = if let Some(text) = payload.downcast_ref::<&str>() {
        Arc::from(*text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        Arc::from(text.as_str())
    } else {
        Arc::from("no message")
    };
    // A panic that is passed on from another thread has not been here: the place would be that of another one.
    let last = LAST.take().filter(|(_, text)| *text == message);
    ExitReason::Panicked {
        message,
        location: last.map(|(location, _)| location),
    }
}
