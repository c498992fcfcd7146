//! A message that carries a reply port, and the wait for the reply.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{
    ActorName, Caller, Clock, ExitReason, Incarnation, Listening, Moment, Node, Terms, Traffic,
    Waiting, after, early, poll_answer,
};
use ractor::{Message, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::Instrument as _;

use super::{Callee, Target, deliver_by, refused};
use crate::{CallError, CastError, Refusal, event};

/// How long a call waits to hear whether its callee, which has dropped the reply port, fails: the message is dropped a
/// moment before.
const END_GRACE: Duration = Duration::from_millis(20);

/// Calls, and tells of a call that brought no answer.
///
/// An error is large, and what has its answer is not to be moved about with room for one: so it is boxed.
pub(crate) async fn call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, Box<CallError<M>>> {
    let span = event::call_span(target.name());
    let result = if span.is_disabled() {
        try_call(target, make, timeout).await
    } else {
        // Boxed, since the future of each call would have room for both.
        Box::pin(try_call(target, make, timeout))
            .instrument(span)
            .await
    };
    if let Err(error) = &result {
        failed(target, error);
    }
    result
}

#[cold]
fn failed<M: Message>(target: &impl Target<M>, error: &CallError<M>) {
    match error {
        CallError::Refused(error) => refused(target, &error.refusal),
        error => event::call_failed(error),
    }
}

/// Until when an answer is of use.
#[derive(Clone, Copy)]
struct Limits {
    /// What was given, or is left of the time of the message in hand if that is less.
    timeout: Duration,
    /// The deadline of the message in hand; of a call from outside of all handlers there is none.
    own: Moment,
}

impl Limits {
    fn of(timeout: Duration) -> Self {
        let own = Moment::NEVER;
        Self { timeout, own }
    }

    /// Of a call that is made in a handler.
    fn within(timeout: Duration, run: &Incarnation, tree: &Traffic) -> Self {
        let own = run.deadline_in_hand_by(tree);
        if own == Moment::NEVER {
            return Self::of(timeout);
        }
        let timeout = timeout.min(own.since(tree.clock().recent()));
        Self { timeout, own }
    }

    /// Returns the deadline of what is sent now, as far as that is known: never early, though the reading may be late.
    fn deadline(self, now: Moment, clock: &Clock) -> Moment {
        now.after(self.timeout).after(clock.grain()).min(self.own)
    }

    /// Returns the same as it is waited for; counted from when it is first asked for, since most calls have their answer
    /// without.
    fn until(self, seen: &OnceLock<Instant>, clock: &Clock) -> Instant {
        *seen.get_or_init(|| after(self.timeout.min(clock.until(self.own))))
    }
}

async fn try_call<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce(RpcReplyPort<T>) -> M,
    timeout: Duration,
) -> Result<T, Box<CallError<M>>> {
    let (reply, mut answer) = oneshot::channel();
    let message = make(reply.into());
    // Made inside a handler: by whom, and how long its own message has left, which may be in the hand of another tree.
    let current = Incarnation::current();
    let limits = match &current {
        Some(run) => Limits::within(timeout, run, target.traffic()),
        None => Limits::of(timeout),
    };
    let until = OnceLock::new();
    let mut listening = None;
    let caller = current.as_deref();
    // From outside of all handlers nobody is made to wait in a cycle.
    let sent = match caller {
        None => send_at_once(target, message, limits),
        Some(_) => Err(message),
    };
    let (callee, ticket) = match sent {
        Ok(sent) => sent,
        Err(message) => {
            let sending = send_in_time(target, message, limits, caller, &until, &mut answer);
            let sent = sending.await?;
            listening = sent.listening;
            (sent.callee, sent.ticket)
        }
    };
    let answered = early(timeout, |cx| {
        poll_answer(&mut answer, listening.as_mut(), cx)
    });
    let answered = match answered.await {
        Some(Ok(value)) => return Ok(value),
        Some(Err(_)) => Err(NoAnswer::Dropped),
        None => {
            let until = limits.until(&until, target.traffic().clock());
            tokio::select! {
                biased;
                answered = answer_of::<M, T>(&callee, &mut answer, listening.as_mut(), &ticket) => answered,
                () = sleep_until(until) => Err(NoAnswer::Late),
            }
        }
    };
    match answered {
        Ok(value) => Ok(value),
        Err(why) => {
            let until = limits.until(&until, target.traffic().clock());
            let name = target.name().clone();
            Err(Box::new(
                error(why, name, &callee, &ticket, limits, until).await,
            ))
        }
    }
}

/// Hands the message of a call over at once, if nothing stands in its way; those of handlers have a way of their own.
#[inline(always)]
fn send_at_once<'a, M: Message>(
    target: &'a impl Target<M>,
    message: M,
    limits: Limits,
) -> Result<(Callee<'a>, Ticket), M> {
    let traffic = target.traffic();
    let mut ticket = Ticket(None);
    let terms = |now| {
        let (own, other) = Caller::pair(traffic);
        ticket.0 = Some(own);
        Terms {
            deadline: limits.deadline(now, traffic.clock()),
            caller: Some(other),
        }
    };
    // A look at the message only after the step that lets it in: see `Entry`.
    let callee = match target.enter_quickly() {
        Some((entry, run)) => entry.send(message, terms).map(|()| Callee::Lent(run))?,
        None => target.deliver_quickly(message, terms)?,
    };
    Ok((callee, ticket))
}

/// A call whose message was handed over.
struct Sent<'a> {
    callee: Callee<'a>,
    listening: Option<Listening<'a>>,
    ticket: Ticket,
}

/// Hands the message of a call over as soon as it can be.
async fn send_in_time<'a, M: Message, T: Send + 'static>(
    target: &'a impl Target<M>,
    message: M,
    limits: Limits,
    caller: Option<&'a Incarnation>,
    until: &OnceLock<Instant>,
    answer: &mut oneshot::Receiver<T>,
) -> Result<Sent<'a>, Box<CallError<M>>> {
    let traffic = target.traffic();
    let clock = traffic.clock();
    let now = clock.recent();
    let checked = if limits.own <= now {
        let name = target.name().clone();
        Err(Refusal::Expired { name })
    } else {
        target.admit()
    };
    if let Err(refusal) = checked {
        return Err(Box::new(CastError { message, refusal }.into()));
    }
    let deadline = limits.deadline(now, clock);
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
                Some(waiting.listen(answer, task))
            }
            _ => None,
        };
        Ok((Callee::Own(Arc::clone(run)), listening))
    };
    let await_place = |place: &Node| match caller {
        Some(caller) => wait_for(traffic, caller, place, target).map(Some),
        None => Ok(None),
    };
    let until = || limits.until(until, clock);
    let delivered = deliver_by(target, message, until, terms, meet, await_place).await;
    match delivered {
        Ok((callee, listening)) => Ok(Sent {
            callee,
            listening,
            ticket: Ticket(slip.into_inner()),
        }),
        Err(error) => Err(Box::new(error.into())),
    }
}

/// Says why there is no answer.
async fn error<M>(
    why: NoAnswer,
    name: ActorName,
    callee: &Arc<Incarnation>,
    ticket: &Ticket,
    limits: Limits,
    until: Instant,
) -> CallError<M> {
    match why {
        NoAnswer::Ended(reason) => CallError::CalleeFailed { name, reason },
        NoAnswer::Dropped if ticket.was_dropped() => CallError::Dropped { name },
        NoAnswer::Dropped if Instant::now() < until => why_dropped(name, callee, until).await,
        _ => CallError::TimedOut {
            name,
            timeout: limits.timeout,
        },
    }
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
