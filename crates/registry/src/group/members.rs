//! Who is in a group, as everybody who sends reads it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use perennial_lifecycle::{
    ActorName, ActorPath, GroupMismatch, Incarnation, MessageType, Node, RunObserver, Terms,
    Traffic, Undelivered, shield,
};
use ractor::Message;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Broadcast;
use super::route::{self, Candidate, Route};
use crate::policy::Chosen;
use crate::slot::{Slot, takes};
use crate::{CastError, JoinError, Refusal, SenderKey, WhenDown};

/// Among so many runs nobody looks for ended ones.
const FEW: usize = 16;

/// One run that is a member of a group.
#[derive(Clone)]
pub struct Member(Arc<Run>);

struct Run {
    path: ActorPath,
    seed: u64,
    /// Its place among the members, by the order of joining.
    rank: u64,
    incarnation: Arc<Incarnation>,
}

impl Member {
    /// Returns where it lives.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.0.path
    }

    /// Returns the run.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.0.incarnation
    }

    fn is_alive(&self) -> bool {
        !self.0.incarnation.is_ending()
    }
}

impl Candidate for Member {
    fn is_open(&self) -> bool {
        self.is_alive()
    }

    fn load(&self) -> u64 {
        let run = &self.0.incarnation;
        run.mailbox_depth() + u64::from(run.in_hand_since().is_some())
    }

    fn seed(&self) -> u64 {
        self.0.seed
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("path", &self.0.path)
            .field("incarnation", &self.0.incarnation.number())
            .finish_non_exhaustive()
    }
}

/// A group and the route of one message.
pub(super) struct Routed<'a> {
    pub(super) members: &'a Members,
    pub(super) route: Route,
    pub(super) when_down: Chosen,
    pub(super) key: Option<SenderKey>,
    /// The first that could not take the message.
    asked: OnceLock<Arc<Node>>,
}

impl<'a> Routed<'a> {
    pub(super) fn new(
        members: &'a Members,
        route: Route,
        when_down: Chosen,
        key: Option<SenderKey>,
    ) -> Self {
        Self {
            members,
            route,
            when_down,
            key,
            asked: OnceLock::new(),
        }
    }

    /// Hands the message to the member that the route chooses; one that ends at this moment gives it back. So does one that
    /// has no room, and one that waits for the sender is not given it; but what has a key goes to no other then. Where
    /// nobody has room, one that drops what there is no room for takes it.
    pub(super) fn deliver<M: Message, R>(
        &self,
        mut message: M,
        terms: impl Fn() -> Terms,
        mut meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        let (members, route) = (self.members, self.route);
        let view = members.view();
        let is_keyed = matches!(route, Route::Key(_));
        let turn = match is_keyed {
            true => 0,
            false => members.turn.fetch_add(1, Relaxed),
        };
        // Whoever is in the list has settled what it takes.
        if let Err(refusal) = members.check_type::<M>() {
            return Err(CastError { message, refusal });
        }
        let name = members.name().clone();
        let mut refusal = Refusal::NoMember { name };
        let mut is_first = true;
        let mut order = route.order(turn, &view.members).fuse();
        // The first that would drop something for it: only if no other has room.
        let mut last = None;
        while let Some((index, is_last)) = order
            .next()
            .map(|it| (it, false))
            .or_else(|| Some((last.take()?, true)))
        {
            let is_first = std::mem::take(&mut is_first);
            if is_first && route == Route::RoundRobin && index != turn % view.members.len() {
                // One that has ended would leave all its turns to the one behind it.
                members.version.fetch_add(1, Release);
            }
            let run = &view.members[index].0.incarnation;
            if !is_keyed && !is_last && run.would_drop() {
                last.get_or_insert(index);
                continue;
            }
            let met = match meet(run) {
                Ok(met) => met,
                Err(cycle) => {
                    self.note_asked(run);
                    if is_keyed {
                        return Err(CastError {
                            message,
                            refusal: cycle,
                        });
                    }
                    // What may pass is said first: at a full one the message can wait.
                    if matches!(refusal, Refusal::NoMember { .. }) {
                        refusal = cycle;
                    }
                    continue;
                }
            };
            match run.offer_on(message, &terms) {
                Ok(()) => return Ok(met),
                Err(back) => {
                    self.note_asked(run);
                    let is_full = matches!(back, Undelivered::Full(_));
                    message = back.into_inner();
                    if is_full {
                        refusal = members.slot.full(run);
                        if is_keyed {
                            return Err(CastError { message, refusal });
                        }
                    }
                }
            }
        }
        if members.traffic().refuses_sender() {
            refusal = members.slot.shutting_down();
        }
        Err(CastError { message, refusal })
    }

    /// Returns the members that the message may go to now: of those that share the turns, first whose turn it is.
    pub(super) fn open(&self) -> Vec<Arc<Incarnation>> {
        let view = self.members.view();
        let all = &view.members;
        let turn = self.members.turn.load(Relaxed);
        let run = |index: usize| Arc::clone(&all[index].0.incarnation);
        if let Route::Key(_) = self.route {
            let own = self.route.order(turn, all).next();
            return own.map(run).into_iter().collect();
        }
        let (before, from) = all.split_at(turn % all.len().max(1));
        let open = from.iter().chain(before).filter(|it| it.is_alive());
        open.map(|it| Arc::clone(&it.0.incarnation)).collect()
    }

    fn note_asked(&self, run: &Incarnation) {
        self.asked.get_or_init(|| Arc::clone(run.node()));
    }

    /// Counts the message as refused, once: by the member that was asked first, or by the tree where none was.
    pub(super) fn count_refused(&self) {
        let traffic = self.members.traffic();
        match self.asked.get() {
            Some(node) => node.count_refused(traffic),
            None => traffic.count_refused(),
        }
    }
}

/// The members of one group.
///
/// They are entered under a lock. Who sends reads a list of them, which is made by the first who finds that they have
/// changed since: many that join at once cost one list, and not one each.
pub(crate) struct Members {
    /// Has the name and the gate.
    slot: Arc<Slot>,
    /// What the members take, once there was one.
    message: OnceLock<MessageType>,
    joined: Mutex<Joined>,
    /// Counts the changes; whoever changes what is joined counts under its lock.
    version: AtomicU64,
    view: ArcSwap<View>,
    turn: AtomicUsize,
    /// Rings when a member joins.
    changed: Notify,
    /// Each place that is a member has it.
    entrance: Arc<Entrance>,
}

/// Lets the runs of a place join. Weak, since a run that is in the list holds its place.
struct Entrance(Weak<Members>);

#[derive(Default)]
struct Joined {
    /// By place: at each lives one run at a time, and the next one stands in for it.
    runs: HashMap<ActorPath, Member, foldhash::fast::RandomState>,
    next: u64,
    /// At this number those that have ended are looked for.
    full: usize,
}

impl Joined {
    /// Takes out those that have ended, so that they are never more than those that live. To be dropped without the lock:
    /// each may be the last handle on what is the host's.
    #[must_use]
    fn purge(&mut self) -> Vec<Member> {
        let ended = self.runs.extract_if(|_, member| !member.is_alive());
        let ended = ended.map(|(_, member)| member).collect();
        self.full = self.runs.len() * 2;
        ended
    }
}

/// The members at one version, in order.
#[derive(Default)]
struct View {
    version: u64,
    members: Vec<Member>,
}

impl Members {
    pub(crate) fn new(slot: Arc<Slot>) -> Arc<Self> {
        Arc::new_cyclic(|members| Self {
            slot,
            message: OnceLock::new(),
            joined: Mutex::default(),
            version: AtomicU64::new(0),
            view: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            changed: Notify::new(),
            entrance: Arc::new(Entrance(Weak::clone(members))),
        })
    }

    /// Says whether it has no place, and nobody but whoever asks has it; nobody is to take a hold of it meanwhile.
    pub(crate) fn is_unused(self: &Arc<Self>) -> bool {
        // In this order: whoever lets a place join has it until the place has the entrance.
        Arc::strong_count(self) == 1 && Arc::strong_count(&self.entrance) == 1
    }

    pub(crate) fn name(&self) -> &ActorName {
        &self.slot.name
    }

    pub(super) fn when_down(&self) -> WhenDown {
        self.slot.common.when_down()
    }

    pub(super) fn admit(&self, key: Option<SenderKey>) -> Result<(), Refusal> {
        self.slot.admit_any(key)
    }

    pub(crate) fn check_type<M: Message>(&self) -> Result<(), Refusal> {
        match self.message.get() {
            Some(known) if !takes::<M>(*known) => Err(self.slot.wrong_type::<M>(*known)),
            _ => Ok(()),
        }
    }

    pub(crate) fn join(&self, node: &Arc<Node>, message: MessageType) -> Result<(), GroupMismatch> {
        let takes = self.message.get_or_init(|| message);
        let mismatch = |given: MessageType| GroupMismatch {
            group: self.name().clone(),
            takes: takes.name,
            given: given.name,
        };
        if takes.id != message.id {
            return Err(mismatch(message));
        }
        // Under the lock, so that a run which begins meanwhile is told after this one.
        let joined = self.lock();
        let present = node.observe(Arc::clone(&self.entrance) as Arc<dyn RunObserver>);
        let Some(run) = present.filter(|run| self.is_of_tree(run)) else {
            return Ok(());
        };
        if run.message_type().id != takes.id {
            let mismatch = mismatch(run.message_type());
            drop(joined);
            node.unobserve(&*self.entrance);
            return Err(mismatch);
        }
        self.enter(joined, node, &run);
        Ok(())
    }

    /// Lets a place join that no spec speaks for: with what its run takes, in an envelope or without.
    pub(super) fn join_as<M: Message>(&self, node: &Arc<Node>) -> Result<(), JoinError> {
        let known = self.message.get().copied();
        let group = || self.name().clone();
        let run = node.current();
        // What is written on an envelope, books and waits are those of one tree.
        if run.as_ref().is_some_and(|run| !self.is_of_tree(run)) {
            return Err(JoinError::OtherTree {
                group: group(),
                place: node.path().clone(),
            });
        }
        let message = match run.map(|run| run.message_type()) {
            // The first that joins decides what all take, and this one must not.
            Some(given) if !takes::<M>(given) => {
                return Err(JoinError::Mismatch(GroupMismatch {
                    group: group(),
                    takes: known.unwrap_or_else(MessageType::of::<M>).name,
                    given: given.name,
                }));
            }
            Some(given) => given,
            None => known
                .filter(|it| takes::<M>(*it))
                .unwrap_or_else(MessageType::of::<M>),
        };
        Ok(self.join(node, message)?)
    }

    fn is_of_tree(&self, run: &Incarnation) -> bool {
        Arc::ptr_eq(run.traffic(), self.traffic())
    }

    pub(super) fn leave(&self, node: &Arc<Node>) {
        let mut joined = self.lock();
        node.unobserve(&*self.entrance);
        // At its path there may be another place by now, which is a member of its own.
        let member = joined.runs.get(node.path());
        let is_its = member.is_some_and(|it| Arc::ptr_eq(it.0.incarnation.node(), node));
        let left = is_its.then(|| joined.runs.remove(node.path()));
        self.version.fetch_add(1, Release);
        drop(joined);
        // See `purge`.
        drop(left);
    }

    fn enter(&self, mut joined: MutexGuard<'_, Joined>, node: &Node, run: &Arc<Incarnation>) {
        let is_full = joined.runs.len() >= joined.full.max(FEW);
        let ended = is_full.then(|| joined.purge());
        let path = node.path();
        let rank = joined.runs.get(path).map_or(joined.next, |it| it.0.rank);
        joined.next += 1;
        let member = Member(Arc::new(Run {
            path: path.clone(),
            seed: route::seed(path.as_str()),
            rank,
            incarnation: Arc::clone(run),
        }));
        let before = joined.runs.insert(path.clone(), member);
        self.version.fetch_add(1, Release);
        drop(joined);
        // See `purge`.
        drop((ended, before));
        shield(|| self.changed.notify_waiters());
    }

    /// Returns the list as it is now.
    fn view(&self) -> arc_swap::Guard<Arc<View>> {
        let view = self.view.load();
        if view.version == self.version.load(Acquire) {
            return view;
        }
        drop(view);
        let mut joined = self.lock();
        let ended = joined.purge();
        let mut members: Vec<Member> = joined.runs.values().cloned().collect();
        members.sort_unstable_by_key(|it| it.0.rank);
        let version = self.version.load(Relaxed);
        let before = self.view.swap(Arc::new(View { version, members }));
        drop(joined);
        // See `purge`.
        drop((ended, before));
        self.view.load()
    }

    /// Forgets those that have ended: each holds its place, and that the entrance.
    pub(crate) fn tidy(&self) {
        let is_tidy = self.view.load().members.iter().all(Member::is_alive);
        if !is_tidy {
            self.version.fetch_add(1, Release);
        }
        // Also where nobody has looked since they joined: the list does not have them yet.
        drop(self.view());
    }

    pub(crate) fn count(&self) -> usize {
        let view = self.view();
        view.members.iter().filter(|it| it.is_alive()).count()
    }

    pub(super) fn list(&self) -> Vec<Member> {
        let view = self.view();
        let open = view.members.iter().filter(|it| it.is_alive());
        open.cloned().collect()
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.slot.common.traffic
    }

    pub(super) fn broadcast<M: Message>(
        &self,
        mut make: impl FnMut(&Member) -> M,
    ) -> Result<Broadcast, Refusal> {
        let view = self.view();
        self.check_type::<M>()?;
        let alive = view.members.iter().filter(|it| it.is_alive());
        let mut sent = Broadcast {
            delivered: 0,
            full: 0,
            missed: 0,
        };
        for member in alive {
            let run = &member.0.incarnation;
            let count = match run.offer(make(member)) {
                Ok(()) => &mut sent.delivered,
                Err(undelivered) => {
                    run.node().count_refused(self.traffic());
                    match undelivered {
                        Undelivered::Full(_) => &mut sent.full,
                        _ => &mut sent.missed,
                    }
                }
            };
            *count += 1;
        }
        if sent.delivered == 0 && sent.missed > 0 && self.traffic().refuses_sender() {
            return Err(self.slot.shutting_down());
        }
        Ok(sent)
    }

    /// Waits until a member joins, from when this is called.
    pub(super) fn joined(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Waits until there is a member.
    pub(super) async fn back(&self) {
        // Before the look, or one that joins between the look and the wait would be missed.
        let changed = self.changed.notified();
        if self.count() == 0 {
            changed.await;
        } else {
            // It refused a moment ago; on one thread it can only go on when this task lets it.
            tokio::task::yield_now().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Joined> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunObserver for Entrance {
    fn run_began(&self, node: &Node, run: &Arc<Incarnation>) {
        let Some(members) = self.0.upgrade() else {
            return;
        };
        let joined = members.lock();
        // It may have left at this moment, or have got an actor of another type, whose start has failed then.
        let takes = members.message.get();
        if takes.is_some_and(|it| it.id == run.message_type().id)
            && members.is_of_tree(run)
            && node.is_observed_by(self)
        {
            members.enter(joined, node, run);
        }
    }
}
