//! The way of one message, be it to an address or to a group.

use std::future::{pending, poll_fn};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{
    ActorName, Caller, Entry, ExitReason, Incarnation, Listening, Moment, Node, Room, Terms,
    Traffic, Waiting, after, early, poll_answer,
};
use ractor::{Message, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::Instrument as _;

use crate::policy::WhenDown;
use crate::{CallError, CastError, Refusal, event};

/// How long a call waits to hear whether its callee, which has dropped the reply port, fails: the message is dropped a
/// moment before.
const END_GRACE: Duration = Duration::from_millis(20);

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

pub(crate) async fn call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, CallError<M>> {
    let span = event::call_span(target.name());
    let result = if span.is_disabled() {
        try_call(target, make, timeout).await
    } else {
        // Boxed, since the future of each call would have room for both.
        Box::pin(try_call(target, make, timeout))
            .instrument(span)
            .await
    };
    let error = match result {
        Ok(value) => return Ok(value),
        Err(error) => *error,
    };
    if let CallError::Refused(error) = &error {
        refused(target, &error.refusal);
    } else {
        event::call_failed(&error);
    }
    Err(error)
}

/// An error is large, and what has its answer is not to be moved about with room for one: so it is boxed.
async fn try_call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, Box<CallError<M>>> {
    let (reply, mut answer) = oneshot::channel();
    let message = make(reply.into());
    let traffic = target.traffic();
    let clock = traffic.clock();
    // Made inside a handler: by whom, and how long its own message has left, which may be in the hand of another tree.
    let current = Incarnation::current();
    let caller = current.as_ref();
    let own = caller.map_or(Moment::NEVER, |it| it.deadline_in_hand_by(traffic));
    // The clock is read only for what needs it: most calls come from outside of all handlers, have no envelope and are
    // answered at once.
    let began = caller.map(|_| clock.recent());
    let limit = || timeout.min(own.since(began.unwrap_or_default()));
    let until = once(|| after(timeout.min(clock.until(own))));
    // Never early, though the reading may be late.
    let deadline = |now: Moment| now.after(timeout).after(clock.grain()).min(own);
    let mut slip = None;
    // From outside of all handlers nobody is made to wait in a cycle.
    let is_outside = caller.is_none();
    let terms = |now| {
        let (own, other) = Caller::pair(traffic);
        slip = Some(own);
        Terms {
            deadline: deadline(now),
            caller: Some(other),
        }
    };
    // A look at the message only after the step that lets it in: see `Entry`.
    let sent = match is_outside.then(|| target.enter_quickly()).flatten() {
        Some((entry, run)) => entry.send(message, terms).map(|()| Callee::Lent(run)),
        None if is_outside => target.deliver_quickly(message, terms),
        None => Err(message),
    };
    let (callee, mut listening, ticket) = match sent {
        Ok(callee) => (callee, None, Ticket(slip)),
        Err(message) => {
            let now = began.unwrap_or_else(|| clock.recent());
            let checked = if own <= now {
                let name = target.name().clone();
                Err(Refusal::Expired { name })
            } else {
                target.admit()
            };
            if let Err(refusal) = checked {
                return Err(Box::new(CastError { message, refusal }.into()));
            }
            let deadline = deadline(now);
            let slip = OnceLock::new();
            let terms = || Terms {
                deadline,
                caller: Some(slip.get_or_init(|| Caller::new(traffic)).clone()),
            };
            let task = match caller {
                Some(_) => Some(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await),
                None => None,
            };
            let meet = |run: &Arc<Incarnation>| {
                let listening = match (caller, &task) {
                    (Some(caller), Some(task)) => {
                        let waiting = wait_for(traffic, caller, run.node(), target)?;
                        // Before the message goes.
                        Some(waiting.listen(&mut answer, task))
                    }
                    _ => None,
                };
                Ok((Callee::Own(Arc::clone(run)), listening))
            };
            let await_place = |place: &Node| match caller {
                Some(caller) => wait_for(traffic, caller, place, target).map(Some),
                None => Ok(None),
            };
            let delivered = deliver_by(target, message, &until, terms, meet, await_place);
            let (callee, listening) = match delivered.await {
                Ok(delivered) => delivered,
                Err(error) => return Err(Box::new(error.into())),
            };
            (callee, listening, Ticket(slip.into_inner()))
        }
    };
    let name = || target.name().clone();
    let answered = early(timeout, |cx| {
        poll_answer(&mut answer, listening.as_mut(), cx)
    });
    let answered = match answered.await {
        Some(Ok(value)) => return Ok(value),
        Some(Err(_)) => Err(NoAnswer::Dropped),
        None => {
            tokio::select! {
                biased;
                answered = answer_of::<M, T>(&callee, &mut answer, listening.as_mut(), &ticket) => answered,
                () = sleep_until(until()) => Err(NoAnswer::Late),
            }
        }
    };
    let error = match answered {
        Ok(value) => return Ok(value),
        Err(NoAnswer::Ended(reason)) => CallError::CalleeFailed {
            name: name(),
            reason,
        },
        Err(NoAnswer::Dropped) if ticket.was_dropped() => CallError::Dropped { name: name() },
        Err(NoAnswer::Dropped) if Instant::now() < until() => {
            why_dropped(name(), &callee, until()).await
        }
        Err(_) => CallError::TimedOut {
            name: name(),
            timeout: limit(),
        },
    };
    Err(Box::new(error))
}

/// Looks at the time once, when it is first asked for: most messages find their actor and its answer without.
fn once(look: impl Fn() -> Instant) -> impl Fn() -> Instant {
    let seen = OnceLock::new();
    move || *seen.get_or_init(&look)
}

/// What a call leaves behind when it is given up: its message need not be handled any more.
///
/// Made when the message gets an envelope, which is where it is written.
struct Ticket(Option<Caller>);

impl Ticket {
    fn is_taken(&self) -> bool {
        self.0.as_ref().is_some_and(Caller::is_taken)
    }

    fn was_dropped(&self) -> bool {
        self.0.as_ref().is_some_and(Caller::was_dropped)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(caller) = self.0.take() {
            caller.leave();
        }
    }
}

/// Notes who waits for whom, and refuses a call that would never be answered.
fn wait_for<'a, M: Message>(
    traffic: &Traffic,
    caller: &'a Incarnation,
    callee: &Node,
    target: &impl Target<M>,
) -> Result<Waiting<'a>, Refusal> {
    let (waits, path) = (caller.traffic().waits(), caller.node().path());
    let waiting = waits.begin_across(path, traffic.waits(), callee.path());
    waiting.map_err(|cycle| Refusal::WouldDeadlock {
        name: target.name().clone(),
        path: cycle.path,
    })
}

/// Why there is no answer.
enum NoAnswer {
    /// The reply port was dropped, or nobody will take the message.
    Dropped,
    /// The callee has ended with the message.
    Ended(ExitReason),
    /// The deadline has passed.
    Late,
}

/// Waits for the answer, or for the end of the run that has the message.
async fn answer_of<M: Message, T>(
    callee: &Incarnation,
    answer: &mut oneshot::Receiver<T>,
    mut listening: Option<&mut Listening<'_>>,
    ticket: &Ticket,
) -> Result<T, NoAnswer> {
    let reason = tokio::select! {
        biased;
        answered = poll_fn(|cx| poll_answer(answer, listening.as_deref_mut(), cx)) => {
            return answered.map_err(|_| NoAnswer::Dropped);
        }
        // A channel that closes while a message is on its way into it may keep the message, and with it the port.
        reason = callee.ended() => reason,
    };
    if let Ok(value) = answer.try_recv() {
        return Ok(value);
    }
    if callee.takes_mail::<M>() && !ticket.is_taken() {
        // It waits for the next run.
        tokio::select! {
            biased;
            answered = poll_fn(|cx| poll_answer(answer, listening.as_deref_mut(), cx)) => {
                return answered.map_err(|_| NoAnswer::Dropped);
            }
            // There will be none, though the message may be kept, as in a port that closed with it on its way.
            () = callee.node().retired() => return answer.try_recv().map_err(|_| NoAnswer::Dropped),
        }
    }
    Err(NoAnswer::Ended(reason))
}

async fn why_dropped<M>(
    name: ActorName,
    callee: &Arc<Incarnation>,
    until: Instant,
) -> CallError<M> {
    // Where it waited over a restart, a later run had it.
    let run = match callee.has_ended() {
        true => callee.node().current(),
        false => Some(Arc::clone(callee)),
    };
    if let Some(run) = run {
        let mut ended = timeout(END_GRACE, run.ended()).await;
        if ended.is_err() && run.is_failing_or_ending() {
            // Its end is on record once all is dropped that it holds, and that may take its time.
            ended = timeout_at(until, run.ended()).await;
        }
        if let Ok(reason) = ended {
            return CallError::CalleeFailed { name, reason };
        }
    }
    match callee.node().last_end() {
        Some(end) if callee.has_ended() => CallError::CalleeFailed {
            name,
            reason: end.reason,
        },
        _ => CallError::NoReply { name },
    }
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
