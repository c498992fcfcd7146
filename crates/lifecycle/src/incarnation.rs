use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    Ordering::SeqCst,
};
use std::time::Duration;

use once_cell::race::OnceBox;
use ractor::{ActorCell, ActorRef, Message};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::bell::Bell;
use crate::{ExitReason, MessageType, StopDoor};

/// One run of an actor, from its start to its end.
///
/// Everything here is read from shared cells: a stuck actor answers as fast as an idle one.
pub struct Incarnation {
    number: u64,
    /// Set first thing in `pre_start`, before anybody else can see this value.
    cell: OnceLock<ActorCell>,
    message: fn() -> MessageType,
    started: Instant,
    door: StopDoor,
    // Boxed: most runs have neither.
    asked: OnceBox<ExitReason>,
    exit: OnceBox<ExitReason>,
    ended: Bell,
    awaited: AtomicBool,
    /// The end was recorded and the parent told: only then do the waiters hear of it.
    told: AtomicBool,
    killed: AtomicBool,
    /// Its supervisor stops it and waits for the end itself.
    disowned: AtomicBool,
    /// Left behind: the end on record is not the end of the task.
    detached: AtomicBool,
    sent: AtomicU64,
    taken: AtomicU64,
    /// Those among the taken that nobody counted as sent.
    uncounted: AtomicU64,
    /// Microseconds from `started` to the taking of the message in hand, plus one; 0 when idle.
    in_hand: AtomicU64,
}

impl Incarnation {
    pub(crate) fn new(number: u64, message: fn() -> MessageType, door: StopDoor) -> Self {
        Self {
            number,
            cell: OnceLock::new(),
            message,
            started: Instant::now(),
            door,
            asked: OnceBox::new(),
            exit: OnceBox::new(),
            ended: Bell::new(),
            awaited: AtomicBool::new(false),
            told: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            disowned: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
            in_hand: AtomicU64::new(0),
        }
    }

    /// Returns the number of this run: 1 for the first start of the place in the tree, then counting up.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns ractor's own handle.
    ///
    /// # Panics
    ///
    /// Never: an incarnation is handed out only once its actor exists.
    #[must_use]
    pub fn cell(&self) -> &ActorCell {
        self.cell.get().expect("set before the incarnation is seen")
    }

    pub(crate) fn set_cell(&self, cell: ActorCell) {
        // Set once: every start makes a new incarnation.
        drop(self.cell.set(cell));
    }

    /// Returns the type of message that the actor takes.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        (self.message)()
    }

    /// Returns the typed reference, or `None` when the actor takes another type.
    #[must_use]
    pub fn actor_ref<M: Message>(&self) -> Option<ActorRef<M>> {
        (self.message_type().id == std::any::TypeId::of::<M>()).then(|| self.cell().clone().into())
    }

    /// Returns how long ago it started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns how many messages wait.
    ///
    /// Messages count that were sent through a name, an address or a pool. What was sent straight through
    /// a ractor reference is not seen until it is taken.
    #[must_use]
    pub fn mailbox_depth(&self) -> u64 {
        let taken = self.taken.load(Relaxed);
        let sent = self.sent.load(Relaxed) + self.uncounted.load(Relaxed);
        sent.saturating_sub(taken)
    }

    /// Returns how many messages were handled to the end, with success or not.
    #[must_use]
    pub fn handled(&self) -> u64 {
        let in_hand = u64::from(self.in_hand.load(Relaxed) > 0);
        self.taken.load(Relaxed).saturating_sub(in_hand)
    }

    /// Returns when the message in hand was taken, to the microsecond; `None` when idle.
    #[must_use]
    pub fn in_hand_since(&self) -> Option<Instant> {
        let since = self.in_hand.load(Relaxed).checked_sub(1)?;
        Some(self.started + Duration::from_micros(since))
    }

    /// Returns for how long the message in hand has been worked on; `None` when idle.
    #[must_use]
    pub fn in_hand(&self) -> Option<Duration> {
        let since = self.in_hand.load(Relaxed).checked_sub(1)?;
        if self.exit.get().is_some() && !self.is_detached() {
            return None;
        }
        Some(
            self.started
                .elapsed()
                .saturating_sub(Duration::from_micros(since)),
        )
    }

    /// Returns why it ended, once it has.
    #[must_use]
    pub fn exit_reason(&self) -> Option<&ExitReason> {
        self.exit.get()
    }

    /// Returns the reason for which it was asked to stop, once it was.
    #[must_use]
    pub fn asked(&self) -> Option<&ExitReason> {
        self.asked.get()
    }

    /// Says whether it has ended, or was asked to stop or killed and will end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.asked.get().is_some() || self.killed.load(Relaxed) || self.exit.get().is_some()
    }

    /// Asks the actor to stop in order; the first reason asked for stands.
    ///
    /// The message in hand is finished and `post_stop` runs. Returns at once.
    pub fn stop(&self, reason: ExitReason) {
        if self.asked.set(Box::new(reason.clone())).is_ok() {
            self.door.knock(self.cell(), reason);
        }
    }

    /// Kills the actor: the handler in hand is dropped at its next await, no `post_stop` runs.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.cell().kill();
    }

    /// Says whether it has ended and whoever waits for that has been told.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.told.load(Acquire)
    }

    /// Waits for the end and returns its reason; returns at once when it has ended.
    ///
    /// By then the tree's events hold the end, the node shows it, and its notice is in the parent's queue, unless
    /// the parent stops it and waits here itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn ended(&self) -> ExitReason {
        loop {
            let notified = self.ended.next(&self.awaited);
            if self.told.load(SeqCst)
                && let Some(reason) = self.exit.get()
            {
                return reason.clone();
            }
            notified.await;
        }
    }

    /// Waits for the answer to a message that this run was sent; `None` when the port was dropped without one,
    /// or the run has ended without one.
    ///
    /// A channel that closes while a message is on its way into it may keep the message, and with it the port, for
    /// as long as anybody holds a sender. So the end of the run counts too, not the port alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer; the message is handled all the same.
    pub async fn answer<T>(&self, answer: &mut oneshot::Receiver<T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = &mut *answer => answer.ok(),
            // What was answered before the end counts.
            _ = self.ended() => answer.try_recv().ok(),
        }
    }

    /// Counts a message that is about to be sent.
    pub fn count_sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// Takes back [`count_sent`](Self::count_sent) for a message that could not be sent.
    pub fn uncount_sent(&self) {
        self.sent.fetch_sub(1, Relaxed);
    }

    pub(crate) fn begin_message(&self) {
        let since = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        // Before the count, so that a message is not taken for handled in between.
        self.in_hand.store(since + 1, Relaxed);
        // One writer: the actor's own task. Plain stores suffice, and are cheaper than read-modify-write.
        let taken = self.taken.load(Relaxed) + 1;
        self.taken.store(taken, Relaxed);
        // A message that nobody counted must not hide one that waits for good.
        let counted = taken - self.uncounted.load(Relaxed);
        let sent = self.sent.load(Relaxed);
        if counted > sent {
            self.uncounted.store(taken - sent, Relaxed);
        }
    }

    pub(crate) fn end_message(&self) {
        self.in_hand.store(0, Relaxed);
    }

    /// Says that the supervisor waits for the end itself, and needs no notice of it.
    pub fn disown(&self) {
        self.disowned.store(true, Relaxed);
    }

    pub(crate) fn is_disowned(&self) -> bool {
        self.disowned.load(Relaxed)
    }

    /// Says whether it was left behind, because it did not yield to a kill: the end on record is not the end of
    /// its task.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.detached.load(Acquire)
    }

    /// Returns how many messages were taken: the number of the one in hand.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Records the end; `false` when it has been left behind before. The waiters are woken by
    /// [`announce`](Self::announce).
    pub(crate) fn finish(&self, reason: Box<ExitReason>) -> bool {
        self.exit.set(reason).is_ok()
    }

    /// Records an end that has not come; `false` when it has.
    pub(crate) fn detach(&self, reason: &ExitReason) -> bool {
        let first = self.exit.set(Box::new(reason.clone())).is_ok();
        if first {
            self.detached.store(true, Release);
        }
        first
    }

    pub(crate) fn announce(&self) {
        self.told.swap(true, SeqCst);
        self.ended.ring(&self.awaited);
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation")
            .field("number", &self.number)
            .field("message", &self.message_type().name)
            .field("exit", &self.exit.get())
            .finish_non_exhaustive()
    }
}
