use std::any::TypeId;
use std::hash::BuildHasher as _;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use perennial_lifecycle::{
    ActorName, ActorPath, ChildState, Incarnation, Mail, MessageType, Moment, NameTaken, Node,
    Terms, Traffic, Undelivered,
};
use ractor::{ActorStatus, Message};
use tokio::time::Instant;

use crate::watch::Hub;
use crate::{CastError, Gate, Present, Refusal, SenderKey, WhenDown};

/// What all names of a tree have in common.
pub(crate) struct Common {
    when_down: Mutex<WhenDown>,
    pub(crate) traffic: Arc<Traffic>,
}

impl Common {
    pub(crate) fn new(traffic: Arc<Traffic>) -> Self {
        Self {
            when_down: Mutex::default(),
            traffic,
        }
    }

    /// Asked only by messages whose actor is down.
    pub(crate) fn when_down(&self) -> WhenDown {
        *self.lock()
    }

    pub(crate) fn set_when_down(&self, when_down: WhenDown) {
        *self.lock() = when_down;
    }

    fn lock(&self) -> MutexGuard<'_, WhenDown> {
        self.when_down
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands behind one name: the place in the tree, and the gate before it.
///
/// Both are read without a lock. A slot lives as long as the registry: an address held by a user stays
/// right over restarts of the actor, of its supervisor, and of the registry actor.
///
/// What every look-up looks at is here, in this order and beside the count of the slot's handles, which resolving changes.
/// The rest is elsewhere, so that many of these lie on few pages.
#[repr(C)]
pub(crate) struct Slot {
    /// A number for the type that the actor takes, 0 for none: enough to resolve a name that is used as before, without
    /// a look at the place. A message is checked against the run itself when it is sent.
    takes: AtomicU32,
    /// Counts, by twos, to what the name leads; odd while a gate stands before it. One look says both.
    ///
    /// Should it ever come round: whoever remembers it remembers a run too, and that has ended long since.
    version: AtomicU32,
    pub(crate) name: ActorName,
    rest: Box<Rest>,
}

/// What only some messages look at.
pub(crate) struct Rest {
    /// The run that was found last, for all who have none of their own.
    seen: ArcSwapOption<Held>,
    pub(crate) node: ArcSwapOption<Bound>,
    pub(crate) gate: ArcSwapOption<Box<dyn Gate>>,
    pub(crate) common: Arc<Common>,
    /// Made by the first who watches.
    hub: Mutex<Option<Arc<Hub>>>,
    /// How many runs the name had before it was first bound, as far as that was forgotten.
    before: AtomicU64,
}

impl Deref for Slot {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl Rest {
    pub(crate) fn new(common: Arc<Common>) -> Box<Self> {
        Box::new(Self {
            seen: ArcSwapOption::empty(),
            node: ArcSwapOption::empty(),
            gate: ArcSwapOption::empty(),
            common,
            hub: Mutex::new(None),
            before: AtomicU64::new(0),
        })
    }
}

/// A run that was found, and to what the name led then.
#[derive(Clone)]
pub(crate) struct Held {
    run: Arc<Incarnation>,
    version: u32,
}

impl Held {
    /// Says whether this is whom the name leads to now.
    #[inline]
    pub(crate) fn is_present(&self, slot: &Slot) -> bool {
        // The run is entered after the name leads to its place, and left before the name leads elsewhere.
        slot.version.load(Acquire) | GATED == self.version | GATED && self.run.is_present()
    }

    pub(crate) fn run(&self) -> &Arc<Incarnation> {
        &self.run
    }

    pub(crate) fn into_run(self) -> Arc<Incarnation> {
        self.run
    }

    /// Hands the message to the run, if it is whom the name leads to now and nothing stands in its way, be it a gate.
    /// Nothing of the host's runs meanwhile.
    #[inline(always)]
    pub(crate) fn deliver_quickly<M: Message>(
        &self,
        slot: &Slot,
        message: M,
        terms: impl FnOnce(Moment) -> Terms,
    ) -> Result<(), M> {
        let is_open = slot.version.load(Acquire) == self.version & !GATED;
        if !is_open || !self.run.is_present() {
            return Err(message);
        }
        self.run.offer_quickly(message, terms)
    }
}

/// Where a name led before it was led to a place.
pub(crate) enum Led {
    /// Nowhere.
    First,
    /// To the same place, with the same type.
    Again,
    Elsewhere,
}

/// The bit of a version that says that a gate stands before the name.
const GATED: u32 = 1;

/// The actor's place, and what it takes.
pub(crate) struct Bound {
    node: Arc<Node>,
    pub(crate) message: MessageType,
    /// What the number of a run at this place is added to: the runs of the places before.
    base: u64,
}

impl Bound {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn present(&self) -> Option<Present> {
        let run = self.node.current()?;
        Some(Present {
            epoch: self.base + run.number(),
            path: self.node().path().clone(),
            incarnation: run,
        })
    }

    /// Returns the epoch of the last run that was attempted.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.base + self.node().incarnations()
    }
}

impl Slot {
    /// Makes one that is nobody's yet.
    pub(crate) fn new(rest: Box<Rest>) -> Self {
        Self {
            takes: AtomicU32::new(0),
            version: AtomicU32::new(0),
            name: ActorName::from_static("", ""),
            rest,
        }
    }

    /// Gives it to a name, of which so many runs were forgotten.
    pub(crate) fn begin(&mut self, name: ActorName, before: u64) {
        self.name = name;
        *self.rest.before.get_mut() = before;
    }

    /// Leads the name to a place, and says whence. Who keeps a run of the name apart from here is to let go of it then.
    pub(crate) fn bind(&self, node: &Arc<Node>, message: MessageType) -> Result<Led, NameTaken> {
        if let Some(bound) = &*self.node.load()
            && Arc::ptr_eq(bound.node(), node)
            && bound.message == message
        {
            // A restart: all is as it was.
            return Ok(Led::Again);
        }
        let mut taken = None;
        let old = self.node.rcu(|old| {
            taken = old.as_ref().and_then(|bound| holder(bound, node));
            if taken.is_some() {
                return old.clone();
            }
            let base = match old {
                None => self.before.load(Relaxed),
                Some(bound) if Arc::ptr_eq(bound.node(), node) => bound.base,
                Some(bound) => bound.last_epoch(),
            };
            Some(Arc::new(Bound {
                node: Arc::clone(node),
                message,
                base,
            }))
        });
        if let Some(holder) = taken {
            return Err(NameTaken {
                name: self.name.clone(),
                holder,
            });
        }
        self.note_type();
        self.version.fetch_add(2, SeqCst);
        // After the place is entered, under a lock: a hub is told of it here, or it is made later and finds it.
        let hub = self.lock_hub().clone();
        if let Some(hub) = hub {
            self.lead(&hub);
        }
        if let Some(old) = &old
            && !Arc::ptr_eq(old.node(), node)
        {
            // Those who wait for the old place are to wait for this one.
            old.node().announce();
        }
        Ok(old.map_or(Led::First, |_| Led::Elsewhere))
    }

    /// Leads the name nowhere; only while nobody else has the slot. What comes back is to be dropped without a lock: it may
    /// be the last handle on what is the host's.
    #[must_use]
    pub(crate) fn unbind(&self) -> impl Sized + use<> {
        let bound = self.node.swap(None);
        let mut seen = None;
        if let Some(bound) = &bound {
            self.version.fetch_add(2, SeqCst);
            seen = self.seen.swap(None);
            self.note_type();
            self.before.store(bound.last_epoch(), Relaxed);
        }
        (bound, seen, self.forget_runs())
    }

    /// Returns the epoch of the last run of the name that was attempted.
    pub(crate) fn last_epoch(&self) -> u64 {
        match &*self.node.load() {
            Some(bound) => bound.last_epoch(),
            None => self.before.load(Relaxed),
        }
    }

    /// Forgets whom watchers were told of; only while nobody else has the slot, and so watches.
    ///
    /// The hub holds the last run, which holds its place, which holds the hub: dropped alone, none of them would go.
    #[must_use]
    pub(crate) fn forget_runs(&self) -> Option<Arc<Hub>> {
        let hub = self.lock_hub().take();
        if let Some(hub) = &hub {
            hub.close();
        }
        hub
    }

    /// Says at once that the name leads somewhere and takes this type; `false` when it takes a closer look to know.
    pub(crate) fn surely_takes<M: Message>(&self) -> bool {
        let takes = self.takes.load(Acquire);
        takes == number_of(TypeId::of::<M>()) || takes == number_of(TypeId::of::<Mail<M>>())
    }

    /// Notes the type of the place that the name leads to.
    fn note_type(&self) {
        // Two that bind at once may come here in either order, and the type be noted that came first. So each looks
        // again, until what it noted is what is there.
        loop {
            let number = |bound: &Option<Arc<Bound>>| {
                bound.as_ref().map_or(0, |it| number_of(it.message.id))
            };
            let noted = number(&self.node.load());
            self.takes.swap(noted, SeqCst);
            if number(&self.node.load()) == noted {
                return;
            }
        }
    }

    /// Says whether the name still leads to this place.
    pub(crate) fn leads_to(&self, bound: &Arc<Bound>) -> bool {
        self.node.load().as_ref().map(Arc::as_ptr) == Some(Arc::as_ptr(bound))
    }

    /// Returns the runs of the name as a watcher hears of them.
    pub(crate) fn hub(&self) -> Arc<Hub> {
        let hub = Arc::clone(self.lock_hub().get_or_insert_with(Hub::new));
        self.lead(&hub);
        hub
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        if let Some(hub) = &*self.lock_hub() {
            hub.close();
        }
    }

    fn lead(&self, hub: &Arc<Hub>) {
        // Looked up under the hub's own lock: of two that lead it, the later sees the later place.
        hub.follow(|| {
            let bound = self.node.load_full()?;
            Some((Arc::clone(bound.node()), bound.base))
        });
    }

    fn lock_hub(&self) -> MutexGuard<'_, Option<Arc<Hub>>> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_type<M: Message>(&self) -> Result<(), Refusal> {
        match &*self.node.load() {
            Some(bound) if !takes::<M>(bound.message) => Err(self.wrong_type::<M>(bound.message)),
            _ => Ok(()),
        }
    }

    /// Asks the gate, if there is one. A message that the actor would not take does not count.
    #[inline]
    pub(crate) fn admit<M: Message>(&self, key: Option<SenderKey>) -> Result<(), Refusal> {
        if !self.is_gated() {
            return Ok(());
        }
        match &*self.gate.load() {
            None => Ok(()),
            Some(gate) => {
                self.check_type::<M>()?;
                self.ask(gate.as_ref().as_ref(), key)
            }
        }
    }

    /// Asks the gate, if there is one, for whoever has looked at the type.
    pub(crate) fn admit_any(&self, key: Option<SenderKey>) -> Result<(), Refusal> {
        if !self.is_gated() {
            return Ok(());
        }
        match &*self.gate.load() {
            None => Ok(()),
            Some(gate) => self.ask(gate.as_ref().as_ref(), key),
        }
    }

    fn ask(&self, gate: &dyn Gate, key: Option<SenderKey>) -> Result<(), Refusal> {
        let admitted = match key {
            None => gate.admit(),
            Some(key) => gate.admit_for(key),
        };
        admitted.map_err(|refused| Refusal::RateLimited {
            name: self.name.clone(),
            retry_after: refused.retry_after,
        })
    }

    /// Sets or takes away the gate.
    pub(crate) fn set_gate(&self, gate: Option<Box<dyn Gate>>) {
        // So that of two who set it at once the same one has both the gate and the bit.
        let _order = self.lock_hub();
        if gate.is_some() {
            self.gate.store(gate.map(Arc::new));
            self.version.fetch_or(GATED, SeqCst);
        } else {
            self.version.fetch_and(!GATED, SeqCst);
            self.gate.store(None);
        }
    }

    #[inline]
    pub(crate) fn is_gated(&self) -> bool {
        self.version.load(Acquire) & GATED != 0
    }

    /// Returns the run that was found last.
    pub(crate) fn seen(&self) -> Option<Held> {
        self.seen.load().as_deref().cloned()
    }

    /// Hands the message to the actor that lives here now, without asking the gate.
    ///
    /// `own` is where an address keeps the first run that it meets: nearly always the one that is alive.
    #[inline]
    pub(crate) fn deliver<M: Message, R>(
        &self,
        own: Option<&OnceLock<Held>>,
        message: M,
        terms: impl FnOnce() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        if let Some(held) = own.and_then(OnceLock::get)
            && held.is_present(self)
        {
            return self.hand_over(&held.run, message, terms, meet);
        }
        if let Some(held) = &*self.seen.load()
            && held.is_present(self)
        {
            if let Some(own) = own {
                own.get_or_init(|| (**held).clone());
            }
            return self.hand_over(&held.run, message, terms, meet);
        }
        self.find_and_deliver(message, terms, meet)
    }

    #[inline]
    fn hand_over<M: Message, R>(
        &self,
        run: &Arc<Incarnation>,
        message: M,
        terms: impl FnOnce() -> Terms,
        mut meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        let met = match meet(run) {
            Ok(met) => met,
            Err(refusal) => return Err(CastError { message, refusal }),
        };
        // The run itself looks at the type: the place may have got an actor of another one at this moment.
        let undelivered = match run.offer_on(message, terms) {
            Ok(()) => return Ok(met),
            Err(undelivered) => undelivered,
        };
        let refusal = match &undelivered {
            Undelivered::Full(_) => self.full(run),
            Undelivered::Ended(_) => self.not_running(run.node()),
            Undelivered::ShuttingDown(_) => self.shutting_down(),
            Undelivered::WrongType(_) => self.wrong_type::<M>(run.message_type()),
        };
        let message = undelivered.into_inner();
        Err(CastError { message, refusal })
    }

    /// Looks for the run from scratch, and remembers it.
    #[cold]
    fn find_and_deliver<M: Message, R>(
        &self,
        message: M,
        terms: impl FnOnce() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        // Before the look: what is found may be out of date by then, and is never taken for newer than it is.
        let version = self.version.load(Acquire);
        let bound = self.node.load();
        let Some(bound) = &*bound else {
            let name = self.name.clone();
            let refusal = Refusal::Unknown { name };
            return Err(CastError { message, refusal });
        };
        let Some(run) = bound.node().current() else {
            // It holds what it saw for no longer than that lives.
            self.seen.store(None);
            let refusal = if takes::<M>(bound.message) {
                self.not_running(bound.node())
            } else {
                self.wrong_type::<M>(bound.message)
            };
            return Err(CastError { message, refusal });
        };
        let held = Held { run, version };
        self.seen.store(Some(Arc::new(held.clone())));
        self.hand_over(&held.run, message, terms, meet)
    }

    pub(crate) fn full(&self, run: &Incarnation) -> Refusal {
        Refusal::Full {
            name: self.name.clone(),
            capacity: run.mailbox().capacity(),
        }
    }

    /// Returns the run that is alive now. An address keeps the first that it meets.
    #[inline]
    pub(crate) fn meet(&self, own: &OnceLock<Held>) -> Option<Arc<Incarnation>> {
        match own.get().filter(|held| held.is_present(self)) {
            Some(held) => Some(Arc::clone(&held.run)),
            None => self.meet_anew(own),
        }
    }

    #[cold]
    fn meet_anew(&self, own: &OnceLock<Held>) -> Option<Arc<Incarnation>> {
        let held = match self.seen().filter(|held| held.is_present(self)) {
            Some(held) => held,
            None => {
                // Before the look, as for a message.
                let version = self.version.load(Acquire);
                let run = self.present()?;
                let held = Held { run, version };
                self.seen.store(Some(Arc::new(held.clone())));
                held
            }
        };
        let run = Arc::clone(&held.run);
        own.get_or_init(|| held);
        Some(run)
    }

    pub(crate) fn present(&self) -> Option<Arc<Incarnation>> {
        self.node.load().as_ref()?.node.current()
    }

    pub(crate) fn count_refused(&self) {
        match &*self.node.load() {
            Some(bound) => bound.node().count_refused(&self.common.traffic),
            None => self.common.traffic.count_refused(),
        }
    }

    /// Waits until another try makes sense: the place has changed, or another one has taken the name.
    pub(crate) async fn back(&self) {
        let Some(bound) = self.node.load_full() else {
            return;
        };
        let node = bound.node();
        // Made first, and all that is waited for looked at after.
        let changed = node.changed();
        let same = self.leads_to(&bound);
        // Said between the refusal and this wait, nothing else would end it.
        let retired = node.is_retired();
        // One that is ending still has its node: wait for the change, not only for an entry.
        let alive = node
            .current()
            .is_some_and(|it| it.cell().get_status() < ActorStatus::Draining);
        if same && !alive && !retired {
            changed.await;
        } else {
            // It refused a moment ago; on one thread it can only go on when this task lets it.
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn wrong_type<M>(&self, takes: MessageType) -> Refusal {
        Refusal::WrongType {
            name: self.name.clone(),
            takes: takes.name,
            given: std::any::type_name::<M>(),
        }
    }

    pub(crate) fn shutting_down(&self) -> Refusal {
        Refusal::ShuttingDown {
            name: self.name.clone(),
        }
    }

    fn not_running(&self, node: &Node) -> Refusal {
        if self.common.traffic.refuses_sender() {
            return self.shutting_down();
        }
        let name = self.name.clone();
        if node.is_retired() {
            let bound = self.node.load();
            // Else the name has moved at this moment, and somebody is there.
            if bound
                .as_ref()
                .is_some_and(|it| std::ptr::eq(&**it.node(), node))
            {
                return Refusal::Stopped { name };
            }
        }
        let due = node.due();
        match due {
            // At that time it is about to be started: whoever can wait may.
            Some(until) if node.state() == ChildState::Quarantined && until > Instant::now() => {
                Refusal::Unavailable { name, until }
            }
            _ => Refusal::NotRunning {
                name,
                since: node.down_since(),
                next_attempt: due,
            },
        }
    }
}

/// Says whether an actor that takes this type takes messages of `M`, in a [`Mail`] or without.
pub(crate) fn takes<M: Message>(message: MessageType) -> bool {
    message.id == TypeId::of::<M>() || message.id == TypeId::of::<Mail<M>>()
}

/// Returns a number that is never 0 for a type. Two types have the same one hardly ever, and then a name of the wrong
/// type is refused by the first message instead.
#[expect(clippy::cast_possible_truncation, reason = "it is as good a hash")]
fn number_of(id: TypeId) -> u32 {
    foldhash::fast::FixedState::default().hash_one(id) as u32 | 1
}

/// Returns who holds a name that `node` would take, if anybody does.
fn holder(bound: &Bound, node: &Node) -> Option<ActorPath> {
    let held = bound.node();
    // The same place: a restart, also one by a supervisor that is itself new. One that is being started holds the name
    // too, or of two that start at once both would have it. So does one that will be started again, or its restarts would
    // fail.
    let other = held.path() != node.path();
    // In this order: one that comes up between the two looks is found by the second.
    (other && (held.is_expected() || held.is_occupied())).then(|| held.path().clone())
}
