use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::task::coop::poll_proceed;

use crate::ring::{Begin, Cursor, Found, Ring};
use crate::{ActorPath, Event};

/// The events of a tree as one subscriber reads them; made by [`EventBus`](crate::EventBus).
///
/// A stream that ends when the tree is gone. A subscriber is never waited for: when the tree has forgotten
/// events that it had not read, the next item is [`Missed`] with their number, and the stream goes on with
/// the oldest event that is still there.
///
/// ```
/// # use perennial_lifecycle::{EventBus, EventKind, ExitReason, Scope};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let scope = Scope::new("shop");
/// let root = scope.root().path();
/// let mut billing = scope.events().subscribe().below(&root.child("billing"));
///
/// scope.events().emit(&root.child("ledger"), EventKind::Started { incarnation: 1 });
/// scope.events().emit(&root.child("billing"), EventKind::Started { incarnation: 1 });
/// drop(scope);
///
/// while let Some(event) = billing.next().await {
///     match event {
///         Ok(event) => assert_eq!(event.path.as_str(), "shop/billing"),
///         Err(missed) => println!("{missed}"),
///     }
/// }
/// # }
/// ```
#[must_use = "it holds a place in the stream and does nothing by itself"]
pub struct Events {
    ring: Arc<Ring>,
    cursor: Cursor,
}

/// A subscriber was too slow for this many events.
///
/// They are those before the next one in the stream, of all places: which of them a subscriber of
/// [`below`](Events::below) would have been given is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missed events: {count}")]
#[non_exhaustive]
pub struct Missed {
    /// How many.
    pub count: u64,
}

impl Events {
    pub(crate) fn new(ring: &Arc<Ring>, begin: Begin) -> Self {
        Self {
            ring: Arc::clone(ring),
            cursor: ring.cursor(begin),
        }
    }

    /// Keeps only the events of one place and those below it.
    pub fn below(mut self, place: &ActorPath) -> Self {
        self.cursor.keep_below(place);
        self
    }

    /// Waits for the next event; `None` when the tree is gone and everything is read.
    ///
    /// # Errors
    ///
    /// The item is [`Missed`] when events were forgotten before they were read here.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that was not returned comes with the next call.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns the next event if it is there already; `None` when there is none yet, and at the end.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_ready(&mut self) -> Option<Result<Event, Missed>> {
        item(self.ring.read(&mut self.cursor, None)).flatten()
    }
}

impl Stream for Events {
    type Item = Result<Event, Missed>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A reader that finds event after event would not let others run otherwise.
        let coop = ready!(poll_proceed(cx));
        let Self { ring, cursor } = &mut *self;
        match item(ring.read(cursor, Some(cx.waker()))) {
            Some(item) => {
                coop.made_progress();
                Poll::Ready(item)
            }
            None => Poll::Pending,
        }
    }
}

/// The item of the stream, or `None` when there is nothing yet.
fn item(found: Found) -> Option<Option<Result<Event, Missed>>> {
    match found {
        Found::Event(event) => Some(Some(Ok(event))),
        Found::Missed(count) => Some(Some(Err(Missed { count }))),
        Found::End => Some(None),
        Found::Nothing => None,
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.ring.leave(&mut self.cursor);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("next", &self.cursor.at())
            .field("below", &self.cursor.below())
            .finish_non_exhaustive()
    }
}
