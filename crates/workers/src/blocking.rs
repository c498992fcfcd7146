//! Work on blocking threads, with what it works on moved in and out.

use perennial_lifecycle::{ExitReason, catch_panic};
use ractor::{Message, RpcReplyPort};
use tokio::task::AbortHandle;

/// Runs `work` on a blocking thread; a panic is returned as the exit reason.
///
/// Dropping the future lets work that runs go on to its end, and drops work that does not run yet.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ExitReason> {
    // A panic is caught on the thread where it happened: only that one knows its location.
    let task = tokio::task::spawn_blocking(move || catch_panic(work));
    let _waiting = AbortOnDrop(task.abort_handle());
    // The task never panics; it is cancelled when the runtime goes away.
    task.await.unwrap_or(Err(ExitReason::Killed))
}

/// Answers a call with what `work` returns, on the thread that calls this; a caller that has gone is
/// worth no work.
pub(crate) fn answer<S, T: Message>(
    mut state: S,
    reply: RpcReplyPort<T>,
    work: impl FnOnce(&mut S, &RpcReplyPort<T>) -> Option<T>,
) -> Result<S, Panicked> {
    if reply.is_closed() {
        return Ok(state);
    }
    match catch_panic(|| work(&mut state, &reply)) {
        Ok(Some(answer)) => {
            // Fails when the caller has just gone.
            drop(reply.send(answer));
            Ok(state)
        }
        Ok(None) => Ok(state),
        Err(reason) => Err(Panicked {
            reason,
            unanswered: Box::new(reply),
        }),
    }
}

/// Work that panicked.
pub(crate) struct Panicked {
    pub(crate) reason: ExitReason,
    /// The reply port. A caller that sees it dropped asks why the worker ended, so it is dropped only
    /// when the worker does.
    pub(crate) unanswered: Box<dyn Send>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
