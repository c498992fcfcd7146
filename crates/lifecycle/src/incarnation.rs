mod handling;
mod inspect;
mod marks;
mod news;

use std::any::TypeId;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire,
    Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use once_cell::race::OnceBox;
use ractor::{ActorCell, ActorRef, Message, SupervisionEvent};
use tokio::sync::oneshot;

use self::inspect::Inspection;
use crate::adapter::Nature;
use crate::bell::Bell;
use crate::mailbox::front::Front;
use crate::mailbox::intake::{Intake, Lobby};
use crate::mailbox::ledger::Ledger;
use crate::mailbox::letterbox::{AnyLetterbox, SetAside};
use crate::mailbox::{self, Mailbox};
use crate::reason::Plain;
use crate::traffic::Traffic;
use crate::{ActorPath, ExitReason, MessageType, Moment, Node, current, early};

/// One run of an actor, from its start to its end.
///
/// Everything here is read from shared cells: a stuck actor answers as fast as an idle one.
pub struct Incarnation {
    number: u64,
    cell: ActorCell,
    nature: &'static Nature,
    node: Arc<Node>,
    traffic: Arc<Traffic>,
    started: Moment,
    // Boxed: most runs have neither.
    exit: OnceBox<ExitReason>,
    more: OnceBox<More>,
    awaited: AtomicBool,
    /// It has entered its place and not left it: here too, so that who remembers a run looks at nothing else.
    is_present: AtomicBool,
    /// The end was recorded and the parent told: only then do the waiters hear of it.
    told: AtomicBool,
    /// Its supervisor stops it and waits for the end itself.
    disowned: AtomicBool,
    /// For which reason it was asked to stop: the number of a plain one, or [`OTHER`]; 0 while nobody has asked.
    asked: AtomicU8,
    /// What is to be minded at the end of a message; 0 for nearly all runs.
    marks: AtomicU8,
    /// It is paused or traced.
    is_inspected: AtomicBool,
    /// A message has failed, and the run ends with it.
    is_failing: AtomicBool,
    /// Whether it is still to be told that it is a restart.
    news: AtomicU8,
    intake: Intake,
    taken: AtomicU64,
    /// The number of the next message whose handler is timed, or of the one in hand: see [`note_time`](Self::note_time).
    ///
    /// Half of it, which tells it from all that come before; and the flags leave room for so much. With a word of its own
    /// a run would take a larger block of memory.
    timed: AtomicU32,
    /// When the message in hand was taken, in nanoseconds and plus one; 0 when idle.
    in_hand: AtomicU64,
}

/// The reason is in [`More`].
const OTHER: u8 = u8::MAX;

/// What an actor does not have that idles from its start to its end.
struct More {
    /// For which reason it was asked to stop, where that is not a plain one.
    asked: OnceBox<ExitReason>,
    ended: Bell,
    lobby: Lobby,
    inspection: OnceBox<Inspection>,
    /// `None` for the settings of most.
    mailbox: Option<Arc<Mailbox>>,
    /// Of an actor that takes [`Mail`](crate::Mail).
    letterbox: OnceLock<Known>,
    custody: Mutex<()>,
    /// The message that it has ended with once too often.
    set_aside: OnceBox<SetAside>,
}

/// The letterbox, and what each message looks at, without the way over the letterbox's type.
struct Known {
    letterbox: Arc<dyn AnyLetterbox>,
    front: Arc<Front>,
}

impl Known {
    fn new(letterbox: Arc<dyn AnyLetterbox>) -> Self {
        let front = Arc::clone(letterbox.front());
        Self { letterbox, front }
    }
}

/// See [`Incarnation::custody`].
pub(crate) type Custody<'a> = MutexGuard<'a, ()>;

impl More {
    fn new(mailbox: Option<Arc<Mailbox>>) -> Box<Self> {
        Box::new(Self {
            asked: OnceBox::new(),
            ended: Bell::new(),
            lobby: Lobby::default(),
            inspection: OnceBox::new(),
            mailbox,
            letterbox: OnceLock::new(),
            custody: Mutex::new(()),
            set_aside: OnceBox::new(),
        })
    }
}

impl Incarnation {
    pub(crate) fn new(
        number: u64,
        cell: ActorCell,
        nature: &'static Nature,
        node: Arc<Node>,
        traffic: Arc<Traffic>,
        mailbox: Option<Arc<Mailbox>>,
    ) -> Self {
        let started = traffic.clock().recent();
        let capacity = mailbox
            .as_ref()
            .map_or(mailbox::CAPACITY, |it| it.capacity());
        let more = OnceBox::new();
        if mailbox.is_some() {
            // It is new, so nobody else has set it.
            drop(more.set(More::new(mailbox)));
        }
        Self {
            number,
            cell,
            nature,
            node,
            traffic,
            started,
            exit: OnceBox::new(),
            more,
            awaited: AtomicBool::new(false),
            is_present: AtomicBool::new(false),
            told: AtomicBool::new(false),
            disowned: AtomicBool::new(false),
            asked: AtomicU8::new(0),
            marks: AtomicU8::new(0),
            is_inspected: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            news: AtomicU8::new(news::NONE),
            intake: Intake::new(capacity),
            taken: AtomicU64::new(0),
            timed: AtomicU32::new(if number > 1 { 2 } else { 1 }),
            in_hand: AtomicU64::new(0),
        }
    }

    /// Returns the number of this run: 1 for the first start of the place in the tree, then counting up.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns ractor's own handle.
    #[must_use]
    pub fn cell(&self) -> &ActorCell {
        &self.cell
    }

    /// Returns the type of message that the actor takes.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        (self.nature.message)()
    }

    /// The type of message that the actor takes, without its name: cheaper to look at.
    #[inline]
    pub(crate) fn takes_id(&self) -> TypeId {
        self.nature.takes
    }

    /// Says whether this is the actor's own type of message.
    #[inline]
    #[must_use]
    pub fn is_of<M: Message>(&self) -> bool {
        self.takes_id() == TypeId::of::<M>()
    }

    /// Returns the typed reference, or `None` when the actor takes another type.
    #[must_use]
    pub fn actor_ref<M: Message>(&self) -> Option<ActorRef<M>> {
        self.is_of::<M>().then(|| self.cell().clone().into())
    }

    /// Returns how long ago it started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.traffic.clock().since(self.started)
    }

    /// Returns how long ago it started, some milliseconds late and for less; see [`Clock::recent`](crate::Clock::recent).
    #[must_use]
    pub fn recent_uptime(&self) -> Duration {
        Duration::from_nanos(self.recent_uptime_nanos())
    }

    #[inline]
    pub(crate) fn recent_uptime_nanos(&self) -> u64 {
        let now = self.traffic.clock().recent().as_nanos();
        now.saturating_sub(self.started.as_nanos())
    }

    /// Returns how many messages wait.
    ///
    /// Messages count that were sent through a name, an address or a pool. What was sent straight through
    /// a ractor reference is not seen until it is taken.
    #[must_use]
    pub fn mailbox_depth(&self) -> u64 {
        let letters = self.known_letterbox().map_or(0, |it| it.intake().depth());
        self.intake.depth() + letters
    }

    /// Returns how many messages were handled to the end, with success or not.
    #[must_use]
    pub fn handled(&self) -> u64 {
        let in_hand = u64::from(self.in_hand.load(Relaxed) > 0);
        self.taken.load(Relaxed).saturating_sub(in_hand)
    }

    /// Returns when the message in hand was taken, by the clock of the tree; `None` when idle.
    #[must_use]
    pub fn in_hand_since(&self) -> Option<Moment> {
        let since = self.in_hand.load(Relaxed).checked_sub(1)?;
        Some(Moment::from_nanos(since))
    }

    /// Returns for how long the message in hand has been worked on; `None` when idle.
    #[must_use]
    pub fn in_hand(&self) -> Option<Duration> {
        let since = self.in_hand.load(Relaxed).checked_sub(1)?;
        if self.exit.get().is_some() && !self.is_detached() {
            return None;
        }
        Some(self.traffic.clock().since(Moment::from_nanos(since)))
    }

    /// Returns why it ended, once it has.
    #[must_use]
    pub fn exit_reason(&self) -> Option<&ExitReason> {
        self.exit.get()
    }

    /// Returns the reason for which it was asked to stop, once it was.
    #[must_use]
    pub fn asked(&self) -> Option<&ExitReason> {
        match self.asked.load(Acquire) {
            OTHER => self.more.get()?.asked.get(),
            plain => Plain::of(plain).map(Plain::reason),
        }
    }

    /// Notes that it is asked to stop; `false` when it was before.
    fn ask(&self, reason: &ExitReason) -> bool {
        let number = match reason.plain() {
            Some(plain) => plain.number(),
            // Before it is said to be there. If a plain one comes first all the same, nobody looks at it.
            None if self.more().asked.set(Box::new(reason.clone())).is_ok() => OTHER,
            None => return false,
        };
        let asked = self.asked.compare_exchange(0, number, AcqRel, Relaxed);
        asked.is_ok()
    }

    /// Says whether it is the run that is alive at its place now, which [`Node::current`] returns.
    #[inline]
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.is_present.load(Acquire)
    }

    /// Only under the lock of its place.
    pub(crate) fn set_present(&self, is_present: bool) {
        self.is_present.store(is_present, Release);
    }

    /// Says whether it has ended, or was asked to stop or killed and will end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.asked().is_some() || self.is_killed() || self.exit.get().is_some()
    }

    /// Asks the actor to stop in order; the first reason asked for stands.
    ///
    /// The message in hand is finished and `post_stop` runs. Returns at once.
    pub fn stop(&self, reason: ExitReason) {
        if self.ask(&reason) {
            (self.nature.knock)(self.cell(), reason);
            if let Some(inspection) = self.inspection() {
                inspection.ring();
            }
        }
    }

    /// Looks at what a stop will need, here and at its place, so that it is brought from memory all at once.
    pub fn expect_stop(&self) {
        self.node.look();
        std::hint::black_box((self.taken(), self.has_ended(), self.cell.get_status()));
    }

    /// Looks at it, so that it is at hand; see [`expect_end`](Self::expect_end).
    pub fn look(&self) {
        std::hint::black_box((self.taken(), self.exit.get().is_some()));
    }

    /// Looks at what whoever deals with its end will need, and is found through it and its place: for a run that was
    /// [looked](Self::look) at a while before, so that none of the looks waits for another.
    pub fn expect_end(&self) {
        let is_clean = self.exit_reason().map(ExitReason::is_clean);
        self.node.path().look();
        std::hint::black_box((is_clean, self.cell.get_status()));
    }

    /// Kills the actor: the handler in hand is dropped at its next await, no `post_stop` runs.
    ///
    /// An actor to which ractor's own `link` ties it is told now.
    pub fn kill(&self) {
        self.mark_killed();
        self.unlink(&ExitReason::Killed);
        self.cell().kill();
    }

    /// Unties it from the actor to which ractor's own `link` ties it, and tells that actor of the end.
    ///
    /// ractor itself would do so when all is over, and hand over the actor's state: what the actor held would be free, and
    /// its end reported, only when the other one comes to read that.
    pub(crate) fn unlink(&self, reason: &ExitReason) {
        let cell = self.cell();
        if cell.try_get_supervisor().is_none() {
            return;
        }
        let reason = (!matches!(reason, ExitReason::Normal)).then(|| reason.to_string());
        let terminated = SupervisionEvent::ActorTerminated(cell.clone(), None, reason);
        // A kill may come at the moment of the end, and the other one is told once.
        let _custody = self.custody();
        if let Some(other) = cell.try_get_supervisor() {
            cell.notify_supervisor(terminated);
            cell.unlink(other);
        }
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
            // Who comes late needs no bell.
            if let Some(reason) = self.told() {
                return reason.clone();
            }
            let notified = self.more().ended.next(&self.awaited);
            if let Some(reason) = self.told() {
                return reason.clone();
            }
            notified.await;
        }
    }

    /// Returns why it ended, once whoever waits for that has been told.
    fn told(&self) -> Option<&ExitReason> {
        self.told.load(SeqCst).then(|| self.exit.get()).flatten()
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
        if let Some(answer) = early(Duration::MAX, |context| {
            Pin::new(&mut *answer).poll(context)
        })
        .await
        {
            return answer.ok();
        }
        self.late_answer(answer).await
    }

    /// Waits as [`answer`](Self::answer), for an answer that did not come [early].
    ///
    /// # Cancel safety
    ///
    /// As [`answer`](Self::answer).
    pub async fn late_answer<T>(&self, answer: &mut oneshot::Receiver<T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = &mut *answer => answer.ok(),
            // What was answered before the end counts.
            _ = self.ended() => answer.try_recv().ok(),
        }
    }

    /// Returns the run whose handler is being run on this thread, where one is.
    ///
    /// Work that a handler has given to a task of its own is no part of it.
    #[inline]
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        // From outside of all handlers, as nearly all ask, without a call.
        current::is_any().then(current::run).flatten()
    }

    /// Says whether a handler is being run on this thread.
    #[inline]
    #[must_use]
    pub fn is_any_current() -> bool {
        current::is_any()
    }

    /// Returns where the actor lives whose handler is being run on this thread, where one is: less than the run, and
    /// cheaper.
    #[inline]
    #[must_use]
    pub fn current_path() -> Option<ActorPath> {
        current::is_any().then(current::path).flatten()
    }

    /// Returns the place that it lives at.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns what all messages of the tree have in common.
    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Returns the settings of its mailbox.
    pub fn mailbox(&self) -> &Mailbox {
        self.own_mailbox().unwrap_or_else(|| mailbox::defaults())
    }

    /// Returns the settings of its mailbox, where they are not those of most.
    #[inline]
    pub(crate) fn own_mailbox(&self) -> Option<&Mailbox> {
        self.more.get()?.mailbox.as_deref()
    }

    /// Returns how many messages its mailbox holds.
    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.own_mailbox()
            .map_or(mailbox::CAPACITY, Mailbox::capacity)
    }

    /// Returns the deadline of the message in hand; [`Moment::NEVER`] when it has none, or none is known.
    #[must_use]
    pub fn deadline_in_hand(&self) -> Moment {
        let known = self.known();
        known.map_or(Moment::NEVER, |it| it.front.hand.deadline())
    }

    /// Returns the same by the clock of a tree, which may be another.
    #[must_use]
    pub fn deadline_in_hand_by(&self, tree: &Traffic) -> Moment {
        let deadline = self.deadline_in_hand();
        if deadline == Moment::NEVER || std::ptr::eq(&*self.traffic, tree) {
            return deadline;
        }
        let left = self.traffic.clock().until(deadline);
        tree.clock().now().after(left)
    }

    fn more(&self) -> &More {
        self.more.get_or_init(|| More::new(None))
    }

    #[inline]
    fn known(&self) -> Option<&Known> {
        self.more.get()?.letterbox.get()
    }

    #[inline]
    pub(crate) fn known_letterbox(&self) -> Option<&Arc<dyn AnyLetterbox>> {
        Some(&self.known()?.letterbox)
    }

    /// Returns what lets letters in, once one was sent.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Front> {
        Some(&self.known()?.front)
    }

    /// Takes the sole right to say what becomes of the message in hand. Needed once the run was killed: it may be left
    /// behind while its handler ends, and then a successor has the books and the letterbox.
    fn custody(&self) -> Custody<'_> {
        let custody = self.more().custody.lock();
        custody.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the message that it has ended with once too often.
    pub(crate) fn set_aside(&self) -> Option<SetAside> {
        self.more.get()?.set_aside.get().copied()
    }

    fn inspection(&self) -> Option<&Inspection> {
        self.more.get()?.inspection.get()
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Returns where those are who wait for room, if anybody did.
    pub(crate) fn known_lobby(&self) -> Option<&Lobby> {
        Some(&self.more.get()?.lobby)
    }

    pub(crate) fn lobby(&self) -> &Lobby {
        &self.more().lobby
    }

    #[inline]
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        self.node.ledger(&self.traffic)
    }

    /// Returns where its letters go; made by the first that is sent.
    #[inline]
    pub(crate) fn letterbox<M: Message>(&self) -> &Arc<dyn AnyLetterbox> {
        let known = self.more().letterbox.get_or_init(|| {
            let present = Some(self.cell().clone());
            let node = &self.node;
            Known::new(node.letterbox::<M>(&self.traffic, self.mailbox(), present))
        });
        &known.letterbox
    }

    /// Says that the supervisor waits for the end itself, and needs no notice of it.
    pub fn disown(&self) {
        self.disowned.store(true, Relaxed);
    }

    /// Says whether its supervisor stops it and waits for the end itself.
    #[must_use]
    pub fn is_disowned(&self) -> bool {
        self.disowned.load(Relaxed)
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

    /// Records an end that has not come, of a run that was killed; `false` when it has.
    ///
    /// A message that is ending at this moment does so first, or counts as failed.
    pub(crate) fn detach(&self, reason: &ExitReason) -> bool {
        let _custody = self.custody();
        let first = self.exit.set(Box::new(reason.clone())).is_ok();
        if first {
            self.mark_detached();
        }
        first
    }

    pub(crate) fn announce(&self) {
        self.told.swap(true, SeqCst);
        // In this order: whoever waits has made the bell before it says so.
        if self.awaited.load(SeqCst)
            && let Some(more) = self.more.get()
        {
            more.ended.ring(&self.awaited);
        }
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
