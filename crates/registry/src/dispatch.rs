//! The way of one message, be it to an address or to a group.

mod call;

use std::future::{pending, poll_fn};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{
    ActorName, Entry, Incarnation, Moment, Node, Room, Terms, Traffic, after,
};
use ractor::Message;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::call::call;
use crate::policy::WhenDown;
use crate::{CastError, Refusal, event};

/// What messages are sent to.
pub(crate) trait Target<M: Message>: Sync {
    fn name(&self) -> &ActorName;

    fn traffic(&self) -> &Arc<Traffic>;

    fn when_down(&self) -> WhenDown;

    /// Asks the gate.
    fn admit(&self) -> Result<(), Refusal>;

    /// Lets a message in to a run that is at hand, if nothing stands in its way, be it a gate.
    #[inline]
    fn enter_quickly(&self) -> Option<(Entry<'_, M>, &Arc<Incarnation>)> {
        None
    }

    /// Hands the message to a run that is known though not at hand, if nothing stands in its way.
    fn deliver_quickly(
        &self,
        message: M,
        _: impl FnOnce(Moment) -> Terms,
    ) -> Result<Callee<'_>, M> {
        Err(message)
    }

    /// Hands the message to a run that is alive now, without asking the gate.
    ///
    /// `meet` is given the run first, may refuse, and has the say in what comes back. Both are asked again for each run
    /// that is tried.
    fn deliver<R>(
        &self,
        message: M,
        terms: impl Fn() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>>;

    /// Returns the place that whoever waits for its actor waits for; of a group there is none.
    fn place(&self) -> Option<Arc<Node>> {
        None
    }

    /// Returns the runs that a message could be for which finds no room now: any of them will do.
    fn full(&self) -> Vec<Arc<Incarnation>>;

    /// Waits until there is another run than [`full`](Self::full) has returned, from when this is called.
    fn joined(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Waits until another try makes sense.
    fn back(&self) -> impl Future<Output = ()> + Send;

    /// Counts a message that was refused.
    fn count_refused(&self);
}

/// The run that has the message of a call.
pub(crate) enum Callee<'a> {
    /// Whoever was called holds it.
    Lent(&'a Arc<Incarnation>),
    Own(Arc<Incarnation>),
}

impl Deref for Callee<'_> {
    type Target = Arc<Incarnation>;

    fn deref(&self) -> &Arc<Incarnation> {
        match self {
            Self::Lent(run) => run,
            Self::Own(run) => run,
        }
    }
}

/// Apart, so that an address whose actor is as it was need not keep so much at hand.
#[inline(never)]
pub(crate) fn cast<M: Message>(target: &impl Target<M>, message: M) -> Result<(), CastError<M>> {
    let result = match target.admit() {
        Err(refusal) => Err(CastError { message, refusal }),
        Ok(()) => target.deliver(message, Terms::default, |_| Ok(())),
    };
    if let Err(error) = &result {
        refused(target, &error.refusal);
    }
    result
}

pub(crate) async fn send<M: Message>(
    target: &impl Target<M>,
    message: M,
    wait: Duration,
) -> Result<(), CastError<M>> {
    let result = match target.admit() {
        Err(refusal) => Err(CastError { message, refusal }),
        Ok(()) => {
            let until = once(|| after(wait));
            let (meet, await_place) = (|_: &_| Ok(()), |_: &_| Ok(()));
            deliver_by(target, message, until, Terms::default, meet, await_place).await
        }
    };
    result.inspect_err(|error| refused(target, &error.refusal))
}

fn refused<M: Message>(target: &impl Target<M>, refusal: &Refusal) {
    target.count_refused();
    event::refused(refusal);
}

/// Looks at the time once, when it is first asked for: most messages find their actor and its answer without.
fn once(look: impl Fn() -> Instant) -> impl Fn() -> Instant {
    let seen = OnceLock::new();
    move || *seen.get_or_init(&look)
}

/// Hands the message to the actor that is alive, or comes to life or gets room by the deadline. That is asked for more
/// than once, and must stay the same.
///
/// `await_place` is given the place that is waited for, may refuse that, and holds what it returns for as long.
async fn deliver_by<M: Message, R, W>(
    target: &impl Target<M>,
    mut message: M,
    deadline: impl Fn() -> Instant,
    terms: impl Fn() -> Terms,
    mut meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    await_place: impl Fn(&Node) -> Result<W, Refusal>,
) -> Result<R, CastError<M>> {
    let mut until = None;
    loop {
        let error = match target.deliver(message, &terms, &mut meet) {
            Ok(met) => return Ok(met),
            Err(error) => error,
        };
        match error.refusal {
            Refusal::Full { .. } => {
                // Before the look: one that comes after it ends the wait.
                let joined = target.joined();
                let mut runs = target.full();
                // None when they have ended meanwhile: then the next run is waited for.
                if !runs.is_empty() {
                    runs.retain(|it| it.may_wait_for_room());
                    if runs.is_empty() {
                        return Err(error);
                    }
                    let until = deadline();
                    let waited =
                        wait_for_room(target, &runs, joined, error, until, &terms, &mut meet);
                    match waited.await {
                        Waited::Sent(met) => return Ok(met),
                        Waited::Refused(error) => return Err(error),
                        Waited::Again(back) => message = back,
                    }
                    continue;
                }
            }
            _ if !error.refusal.may_pass() => return Err(error),
            _ => {}
        }
        // Chosen once, at the first refusal.
        let until = *until.get_or_insert_with(|| target.when_down().until(deadline()));
        let Some(until) = until else {
            return Err(error);
        };
        let place = target.place();
        let _waits = match place.as_deref().map(&await_place).transpose() {
            Ok(waits) => waits,
            Err(refusal) => {
                let message = error.message;
                return Err(CastError { message, refusal });
            }
        };
        let back = tokio::select! {
            biased;
            () = target.traffic().refusal() => return Err(shut(target, error.message)),
            back = timeout_at(until, target.back()) => back,
        };
        if back.is_err() {
            return Err(error);
        }
        message = error.message;
    }
}

/// Gives back a message from outside that was waiting when the tree began to shut down.
fn shut<M: Message>(target: &impl Target<M>, message: M) -> CastError<M> {
    let name = target.name().clone();
    let refusal = Refusal::ShuttingDown { name };
    CastError { message, refusal }
}

enum Waited<M, R> {
    Sent(R),
    Refused(CastError<M>),
    /// The runs have ended meanwhile, or another has come.
    Again(M),
}

/// Waits for room at one of the runs, and sends the message there.
async fn wait_for_room<M: Message, R>(
    target: &impl Target<M>,
    runs: &[Arc<Incarnation>],
    joined: impl Future<Output = ()>,
    full: CastError<M>,
    deadline: Instant,
    terms: impl FnOnce() -> Terms,
    mut meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
) -> Waited<M, R> {
    // Noted before the wait: an actor that waits for room waits for the other as if for its answer. That it needs but one
    // of several is not noted: none of them may call it meanwhile, or all might.
    let (mut open, mut waits, mut cycle) = (Vec::new(), Vec::new(), None);
    for run in runs {
        match meet(run) {
            Ok(met) => {
                open.push(run);
                waits.push(met);
            }
            Err(refusal) => cycle = cycle.or(Some(refusal)),
        }
    }
    if let (true, Some(refusal)) = (open.is_empty(), cycle) {
        let message = full.message;
        return Waited::Refused(CastError { message, refusal });
    }
    let room = tokio::select! {
        biased;
        () = target.traffic().refusal() => return Waited::Refused(shut(target, full.message)),
        room = timeout_at(deadline, room_at_any::<M>(&open)) => room,
        () = joined => Ok(None),
    };
    let (run, room) = match room {
        Err(_) => return Waited::Refused(full),
        Ok(None) => return Waited::Again(full.message),
        Ok(Some(found)) => found,
    };
    // It may have been asked to stop meanwhile.
    if !target.full().iter().any(|it| Arc::ptr_eq(it, run)) {
        return Waited::Again(full.message);
    }
    // Once more before the other waits end: the answer is to end this one, see `Waiting::listen`.
    let met = match meet(run) {
        Ok(met) => met,
        Err(_) => return Waited::Again(full.message),
    };
    drop(waits);
    match room.send(full.message, terms) {
        Ok(()) => Waited::Sent(met),
        Err(undelivered) => Waited::Again(undelivered.into_inner()),
    }
}

/// Waits for the first of the runs that has room; `None` when all have ended.
///
/// Cancel safe: each of them gives the room that it was about to give to whoever waits next.
async fn room_at_any<'a, M: Message>(
    runs: &[&'a Arc<Incarnation>],
) -> Option<(&'a Arc<Incarnation>, Room<'a>)> {
    let room = async |run: &'a Arc<Incarnation>| Some((run, run.room::<M>().await?));
    let mut rooms: Vec<_> = runs.iter().map(|run| Box::pin(room(run))).collect();
    poll_fn(|cx| {
        let mut at = 0;
        while let Some(room) = rooms.get_mut(at) {
            match room.as_mut().poll(cx) {
                Poll::Ready(Some(found)) => return Poll::Ready(Some(found)),
                Poll::Ready(None) => drop(rooms.swap_remove(at)),
                Poll::Pending => at += 1,
            }
        }
        match rooms.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    })
    .await
}
