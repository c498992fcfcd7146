//! Decisions: which worker is lent next, who gets one that comes back, and which are started and ended.
//!
//! No clock, no actors: time comes in as an argument, and whether a worker is alive as a function. What is to
//! be done outside is left in [`Effects`].
//!
//! The rules are those of poolboy, `src/poolboy.erl`: a worker that becomes free goes to who has waited for
//! longest; when nobody waits and more workers live than the pool keeps, one is ended; else it is idle. A
//! worker that dies on loan frees its place at its death.

mod counts;
mod effects;
mod idle;
mod places;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use perennial_lifecycle::Moment;

pub(crate) use self::effects::{Effect, Effects, Ending, Gone, How};
use self::idle::Idle;
use self::waiting::Waiting;
pub(crate) use self::waiting::{Look, Onward, Wait};
use crate::{Dismissal, PoolConfig, PoolStats, PoolStrategy};

/// The books of a pool. `D` stands for one run of a worker, `H` for who holds it, `W` for how who waits is called.
///
/// Laid out as written: what each loan writes lies together, beside the lock, apart from what it only reads; then what it
/// writes that had to wait. Where threads lend side by side, each cache line that is written goes over from one to the
/// other, while all wait for the books.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Machine<D, H, W> {
    /// Those in state `Idle`, each once; the longest idle in front.
    idle: VecDeque<Idle>,
    /// The last number given to a life or a loan.
    serial: u64,
    out: usize,
    /// Checkouts that got a worker.
    lent: u64,
    /// Who waits, in order of arrival: growing numbers.
    queue: VecDeque<Waiting<H, W>>,
    tickets: u64,
    /// Checkouts that had to wait and got a worker, and how long they waited.
    waits: (u64, Duration),
    /// Without what is counted above.
    stats: PoolStats,
    /// Places kept for who waits and not fetched yet: the first to the first in the queue, and so on. Whoever comes to
    /// have one is called.
    handed: VecDeque<usize>,
    /// Places with a worker, or with one that is being started.
    live: usize,
    down: usize,
    places: Vec<Place<D, H>>,
    size: usize,
    max_overflow: usize,
    /// Places in state `Vacant`, within the limit.
    vacant: BTreeSet<usize>,
    effects: Effects<D, H, W>,
    strategy: PoolStrategy,
    dismissal: Dismissal,
    /// How long a worker beyond the size may be idle; `None`: it is ended at once.
    overflow_ttl: Option<Duration>,
    idle_timeout: Option<Duration>,
}

/// On cache lines of its own: a worker mostly stays with one thread.
#[repr(align(128))]
#[derive(Debug)]
struct Place<D, H> {
    /// Tells what was begun here last from what was before: a late notice of an earlier life is ignored.
    life: u64,
    loan: u64,
    desk: Option<D>,
    idle_since: Option<Moment>,
    expires: Option<Moment>,
    state: State<H>,
}

// The tag is a word, as all that lies beside it: of a smaller one the rest is copied byte by byte, and what was just
// written so is not read at once. So in the other enums by which a worker is handed on.
#[repr(u64)]
#[derive(Debug)]
enum State<H> {
    /// No worker.
    Vacant,
    /// Its worker is ended by the pool (`stopping`), or was given up by the supervisor.
    Leaving {
        stopping: bool,
    },
    /// The supervisor is bringing its worker up, or about to.
    Down,
    /// A borrower starts a worker here, or was given the right to.
    Starting,
    Idle,
    /// Idle, and meant for somebody in the queue.
    Handed,
    Out(H),
}

/// What there is for somebody who comes.
#[repr(u64)]
pub(crate) enum Next<D> {
    Worker { place: usize, desk: D },
    Start { place: usize, life: u64 },
    None,
}

/// What a borrower is given, who is to be the holder.
#[repr(u64)]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Take<D, H> {
    /// This worker.
    Worker(Lent<D>),
    /// The right to start a worker at this place.
    Start { place: usize, life: u64 },
    /// Nothing yet: it may still come to be one.
    Wait(H),
}

/// A worker that was just lent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lent<D> {
    pub(crate) place: usize,
    pub(crate) loan: u64,
    pub(crate) desk: D,
    /// Since when it was idle; `None` when it was not.
    pub(crate) idle_since: Option<Moment>,
}

/// What became of a worker that came back.
#[derive(Debug)]
pub(crate) enum Back<W, R> {
    /// Nothing: it was replaced meanwhile, and is no longer the holder's to give back.
    Stale,
    /// It is lent no more.
    Ended,
    /// It is lent to somebody else.
    Lent(Onward<W, R>),
}

/// What is known of a worker at the moment it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It can be lent.
    Fit,
    /// Still busy with what its holder gave up, or not in order.
    Unfit,
    /// It is not alive.
    Dead,
}

/// A worker as a list shows it.
pub(crate) enum Standing<'a, H> {
    Idle,
    Handed,
    Out(&'a H),
}

impl<D: Clone, H, W> Machine<D, H, W> {
    /// How many bytes of it each loan writes, from its beginning.
    pub(crate) const WRITTEN: usize = mem::offset_of!(Self, queue);

    pub(crate) fn new(config: &PoolConfig) -> Self {
        let mut machine = Self {
            size: config.size,
            max_overflow: config.max_overflow,
            strategy: config.strategy,
            dismissal: config.dismissal,
            overflow_ttl: config.overflow_ttl,
            idle_timeout: config.idle_timeout,
            places: Vec::new(),
            vacant: BTreeSet::new(),
            idle: VecDeque::with_capacity(config.size),
            handed: VecDeque::new(),
            queue: VecDeque::new(),
            tickets: 0,
            serial: 0,
            live: 0,
            down: 0,
            out: 0,
            lent: 0,
            waits: (0, Duration::ZERO),
            stats: PoolStats::default(),
            effects: Effects::default(),
        };
        machine.make_room();
        machine
    }

    /// Gives a worker to somebody who comes on a thread of this lane, or the right to start one if that is possible now.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        lane: usize,
        holder: H,
        alive: impl Fn(&D) -> bool,
        startable: impl FnOnce() -> bool,
    ) -> Take<D, H> {
        match self.next(lane, alive, startable) {
            Next::Worker { place, desk } => Take::Worker(self.lend_out(place, desk, holder)),
            Next::Start { place, life } => Take::Start { place, life },
            Next::None => Take::Wait(holder),
        }
    }

    /// Finds what somebody who comes on a thread of this lane can have; a worker is to be [lent](Self::lend_out) next.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        lane: usize,
        alive: impl Fn(&D) -> bool,
        startable: impl FnOnce() -> bool,
    ) -> Next<D> {
        while let Some(place) = self.next_idle(Some(lane)) {
            if let Some(desk) = self.places[place].desk.as_ref().filter(|desk| alive(desk)) {
                let desk = desk.clone();
                return Next::Worker { place, desk };
            }
            self.go_down(place);
        }
        // A worker that is down is on its way back to somebody: no need for one more.
        if self.live < self.limit()
            && self.unserved() >= self.down
            && startable()
            && let Some(place) = self.vacant.pop_first()
        {
            let life = self.begin_life(place, State::Starting);
            return Next::Start { place, life };
        }
        Next::None
    }

    /// Takes a worker back, on a thread of this lane.
    ///
    /// If others wait it goes to the first of them: `reach` says how that one is reached, by its ticket, if it can be,
    /// and `begin` makes it a holder from now on, and says when that is. Else that one is called, and looks here.
    ///
    /// Returns who held it as well, to be let go of outside.
    #[inline]
    pub(crate) fn give_back<R>(
        &mut self,
        (place, loan): (usize, u64),
        lane: usize,
        now: Moment,
        condition: impl FnOnce(&D) -> Condition,
        reach: impl FnOnce(u64) -> Option<R>,
        begin: impl FnOnce(&mut H) -> Moment,
    ) -> (Back<W, R>, Option<H>) {
        let Some(it) = self.places.get_mut(place) else {
            return (Back::Stale, None);
        };
        if it.loan != loan || !matches!(it.state, State::Out(_)) {
            return (Back::Stale, None);
        }
        let holder = match mem::replace(&mut it.state, State::Down) {
            State::Out(holder) => Some(holder),
            _ => None,
        };
        self.out -= 1;
        let condition = it.desk.as_ref().map_or(Condition::Dead, condition);
        (
            self.go_back(place, lane, now, condition, reach, begin),
            holder,
        )
    }

    #[inline]
    fn go_back<R>(
        &mut self,
        place: usize,
        lane: usize,
        now: Moment,
        condition: Condition,
        reach: impl FnOnce(u64) -> Option<R>,
        begin: impl FnOnce(&mut H) -> Moment,
    ) -> Back<W, R> {
        match condition {
            Condition::Dead => self.go_down(place),
            Condition::Unfit => {
                self.stats.retired += 1;
                self.go_down(place);
                self.end(place, How::Retire);
            }
            Condition::Fit => {
                if !self.queue.is_empty()
                    && self.is_kept(place, now)
                    && let Some(onward) = self.lend_on(place, reach, begin)
                {
                    return Back::Lent(onward);
                }
                self.free(place, Some(lane), now);
            }
        }
        Back::Ended
    }

    /// Says whether a worker can be lent again, and needs no successor.
    #[inline]
    fn is_kept(&self, place: usize, now: Moment) -> bool {
        place < self.limit() && self.places[place].expires.is_none_or(|at| at > now)
    }

    /// Finds what is to become of a worker that can be lent.
    #[inline]
    fn free(&mut self, place: usize, lane: Option<usize>, now: Moment) {
        if place >= self.limit() {
            self.dismiss(place);
        } else if self.places[place].expires.is_some_and(|at| at <= now) {
            self.renew(place);
        } else if self.unserved() > 0 {
            self.places[place].state = State::Handed;
            self.hand(place);
        } else if self.overflow_ttl.is_none() && self.is_surplus(place) {
            self.dismiss(place);
        } else {
            let it = &mut self.places[place];
            it.state = State::Idle;
            it.idle_since = Some(now);
            self.idle.push_back(Idle::new(place, lane));
        }
    }

    /// Ends the idle workers whose time is over.
    pub(crate) fn sweep(&mut self, now: Moment) {
        let over = |since: Option<Moment>, limit: Option<Duration>| {
            since
                .zip(limit)
                .is_some_and(|(since, limit)| now.since(since) >= limit)
        };
        for idle in mem::take(&mut self.idle) {
            let place = idle.place();
            let it = &self.places[place];
            if self.is_surplus(place) && over(it.idle_since, self.overflow_ttl) {
                self.dismiss(place);
            } else if it.expires.is_some_and(|at| at <= now)
                || over(it.idle_since, self.idle_timeout)
            {
                self.renew(place);
            } else {
                self.idle.push_back(idle);
            }
        }
    }

    /// Changes the size. Surplus workers are ended: the idle ones now, the others when they come back.
    pub(crate) fn resize(&mut self, size: usize, max_overflow: usize) {
        (self.size, self.max_overflow) = (size, max_overflow);
        self.make_room();
        for idle in mem::take(&mut self.idle).into_iter().rev() {
            let place = idle.place();
            if place >= self.limit() || self.overflow_ttl.is_none() && self.is_surplus(place) {
                self.dismiss(place);
            } else {
                self.idle.push_front(idle);
            }
        }
    }

    /// Says whether a worker is one too many when nobody waits.
    fn is_surplus(&self, place: usize) -> bool {
        self.live > self.size && (self.dismissal == Dismissal::Returned || place >= self.size)
    }

    fn dismiss(&mut self, place: usize) {
        self.stats.dismissed += 1;
        self.live -= 1;
        self.places[place].state = State::Leaving { stopping: true };
        self.end(place, How::Dismiss);
    }

    fn renew(&mut self, place: usize) {
        if self.is_surplus(place) {
            return self.dismiss(place);
        }
        self.stats.renewed += 1;
        self.go_down(place);
        self.end(place, How::Renew);
    }

    fn end(&mut self, place: usize, how: How) {
        let it = &self.places[place];
        if let Some(desk) = it.desk.clone() {
            let life = it.life;
            self.effects.rest.push(Effect::End(Ending {
                place,
                life,
                desk,
                how,
            }));
        }
    }

    /// Lends a worker that was just found to be idle.
    #[inline(always)]
    pub(crate) fn lend_out(&mut self, place: usize, desk: D, holder: H) -> Lent<D> {
        let idle_since = self.places[place].idle_since.take();
        Lent {
            place,
            loan: self.lend(place, holder),
            desk,
            idle_since,
        }
    }

    /// Begins a loan, and returns its number.
    #[inline(always)]
    fn lend(&mut self, place: usize, holder: H) -> u64 {
        self.serial += 1;
        let loan = self.serial;
        let it = &mut self.places[place];
        it.loan = loan;
        it.state = State::Out(holder);
        self.out += 1;
        self.lent += 1;
        // Written only when it grows.
        if self.out > self.stats.peak_in_use {
            self.stats.peak_in_use = self.out;
        }
        loan
    }

    /// Notes that a worker, which is in no queue any more, is not up.
    fn go_down(&mut self, place: usize) {
        self.go_over(place, State::Down);
        self.down += 1;
    }

    /// Changes the state of a place where somebody may hold a worker.
    fn go_over(&mut self, place: usize, state: State<H>) {
        if let State::Out(holder) = mem::replace(&mut self.places[place].state, state) {
            self.effects.let_go(Some(Gone::Holder(holder)));
        }
    }

    /// Says whether a life is the last one that was begun at its place.
    pub(crate) fn is_current(&self, place: usize, life: u64) -> bool {
        self.places.get(place).is_some_and(|it| it.life == life)
    }

    pub(crate) fn size(&self) -> (usize, usize) {
        (self.size, self.max_overflow)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn in_use(&self) -> usize {
        self.out
    }

    /// Returns how many wait to be lent, without asking whether they are alive.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Says whether one that comes may start a worker as soon as one that is ending has left its place.
    pub(crate) fn has_room_soon(&self) -> bool {
        self.live < self.limit() && self.vacant.is_empty() && self.queue.len() + self.down == 0
    }

    /// Says whether no worker is up or being started by a borrower: only a restart can help who waits.
    pub(crate) fn is_bare(&self) -> bool {
        self.live == self.down
    }

    /// Lists the workers that are up: the idle ones in their order, then those given to who waits, then
    /// those on loan.
    pub(crate) fn workers(&self) -> Vec<(&D, Standing<'_, H>)> {
        let desk = |place: &usize| self.places[*place].desk.as_ref();
        let idle = self.idle.iter().filter_map(|it| desk(&it.place()));
        let mut list: Vec<_> = idle.map(|desk| (desk, Standing::Idle)).collect();
        for place in &self.handed {
            if let (State::Handed, Some(desk)) = (&self.places[*place].state, desk(place)) {
                list.push((desk, Standing::Handed));
            }
        }
        for it in &self.places {
            if let (State::Out(holder), Some(desk)) = (&it.state, &it.desk) {
                list.push((desk, Standing::Out(holder)));
            }
        }
        list
    }

    /// Lists the loans: worker, number, holder.
    pub(crate) fn loans(&self) -> impl Iterator<Item = (&D, u64, &H)> {
        self.places
            .iter()
            .filter_map(|it| match (&it.desk, &it.state) {
                (Some(desk), State::Out(holder)) => Some((desk, it.loan, holder)),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests;
