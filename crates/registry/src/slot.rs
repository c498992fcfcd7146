mod delivery;

use std::any::TypeId;
use std::hash::BuildHasher as _;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use perennial_lifecycle::{
    ActorName, ActorPath, Door, Entry, Incarnation, Mail, MessageType, NameTaken, Node, Traffic,
};
use ractor::Message;

use crate::watch::Hub;
use crate::{Gate, Present, Refusal, SenderKey, WhenDown};

/// What all names of a tree have in common.
pub(crate) struct Common {
    when_down: Mutex<WhenDown>,
    /// The registry is gone.
    is_closed: AtomicBool,
    pub(crate) traffic: Arc<Traffic>,
}

impl Common {
    pub(crate) fn new(traffic: Arc<Traffic>) -> Self {
        Self {
            when_down: Mutex::default(),
            is_closed: AtomicBool::new(false),
            traffic,
        }
    }

    /// Before the names that there are, so that no watch begins meanwhile that has no end.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, SeqCst);
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
        is_present(&self.run, self.version, slot)
    }

    pub(crate) fn into_run(self) -> Arc<Incarnation> {
        self.run
    }
}

/// The same as an address keeps it, for messages of its type.
pub(crate) struct Own<M> {
    door: Door<M>,
    version: u32,
}

impl<M: Message> Own<M> {
    pub(crate) fn new(held: &Held) -> Self {
        Self {
            door: Door::new(Arc::clone(&held.run)),
            version: held.version,
        }
    }

    /// Says whether this is whom the name leads to now.
    #[inline]
    pub(crate) fn is_present(&self, slot: &Slot) -> bool {
        is_present(self.door.run(), self.version, slot)
    }

    #[inline]
    pub(crate) fn run(&self) -> &Arc<Incarnation> {
        self.door.run()
    }

    /// Lets a message in to the run, if it is whom the name leads to now and nothing stands in its way, be it a gate.
    #[inline(always)]
    pub(crate) fn enter_quickly(&self, slot: &Slot) -> Option<Entry<'_, M>> {
        let is_open = slot.version.load(Acquire) == self.version & !GATED;
        if !is_open || !self.run().is_present() {
            return None;
        }
        self.door.enter_quickly()
    }
}

impl<M> Clone for Own<M> {
    fn clone(&self) -> Self {
        Self {
            door: self.door.clone(),
            version: self.version,
        }
    }
}

/// Says whether a run is whom a name leads to now that led to it at this version.
#[inline]
fn is_present(run: &Incarnation, version: u32, slot: &Slot) -> bool {
    // The run is entered after the name leads to its place, and left before the name leads elsewhere.
    slot.version.load(Acquire) | GATED == version | GATED && run.is_present()
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
        if self.common.is_closed.load(SeqCst) {
            hub.close();
        }
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
        let order = self.lock_hub();
        let before = if gate.is_some() {
            let before = self.gate.swap(gate.map(Arc::new));
            self.version.fetch_or(GATED, SeqCst);
            before
        } else {
            self.version.fetch_and(!GATED, SeqCst);
            self.gate.swap(None)
        };
        drop(order);
        // The host's: not under the lock.
        drop(before);
    }

    #[inline]
    pub(crate) fn is_gated(&self) -> bool {
        self.version.load(Acquire) & GATED != 0
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
