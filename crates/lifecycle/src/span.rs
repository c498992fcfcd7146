//! The only place of this crate that makes tracing spans: one for each message in hand.

use tracing::Span;
use tracing::level_filters::LevelFilter;

use crate::Incarnation;

/// Says whether anybody may want to see messages: one load, while nobody does.
#[inline]
pub(crate) fn is_on() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// Returns the span in which a message is sent.
pub(crate) fn of_sender() -> Option<Span> {
    let span = is_on().then(Span::current)?;
    (!span.is_none()).then_some(span)
}

/// Makes the span of the message in hand.
///
/// A root, so that traces do not nest without an end where actors send to each other. It follows from the span that the
/// message was sent in, where it has an envelope, and from that of the actor.
pub(crate) fn of_message(run: &Incarnation, sender: Option<&Span>) -> Span {
    let span = tracing::debug_span!(
        parent: None,
        "actor.message",
        actor.path = %run.node().path(),
        actor.incarnation = run.number(),
        message.type = run.message_type().name,
    );
    span.follows_from(Span::current());
    if let Some(sender) = sender {
        span.follows_from(sender);
    }
    span
}
