//! Decisions: which worker is lent next, and what becomes of one that comes back.
//!
//! No clock, no actors: time comes in as an argument, and whether a worker is alive as a function.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{PoolStats, PoolStatus, PoolStrategy};

/// The places of a pool: the first `size` are for the workers it keeps, the others for overflow.
///
/// `N` describes where a worker lives, `H` who holds it.
#[derive(Debug)]
pub(crate) struct Machine<N, H> {
    size: usize,
    strategy: PoolStrategy,
    places: Vec<Place<N, H>>,
    /// Places in state `Idle`, each once; the longest idle in front.
    idle: VecDeque<usize>,
    /// Places in state `Vacant`.
    vacant: Vec<usize>,
    down: usize,
    out: usize,
    waiting: usize,
    stats: PoolStats,
}

#[derive(Debug)]
struct Place<N, H> {
    node: Option<N>,
    state: State<H>,
}

#[derive(Debug)]
enum State<H> {
    /// A kept worker that is not up: it comes back through [`Machine::up`].
    Down,
    Idle,
    Out(H),
    /// An overflow place without a worker.
    Vacant,
    /// An overflow place whose worker is being started.
    Starting,
}

/// What a borrower with a seat is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Take<N, R> {
    /// This worker.
    Worker { place: usize, node: N, run: R },
    /// The right to start an overflow worker at this place.
    Start { place: usize },
    /// Nothing yet: a kept worker is down and will be back.
    Wait,
}

/// What is known of a worker at the moment it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It can be lent: the same run, or a later one.
    Fit,
    /// The same run, still busy with what its holder gave up.
    Busy,
    /// It is not alive.
    Dead,
}

/// What is to be done with a worker that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: it is idle, or dead.
    Stays,
    /// Kill it.
    Retire,
    /// Stop it: an overflow worker that nobody waits for.
    Dismiss,
}

impl<N: Clone, H> Machine<N, H> {
    pub(crate) fn new(size: usize, max_overflow: usize, strategy: PoolStrategy) -> Self {
        let place = |state| Place { node: None, state };
        let kept = (0..size).map(|_| place(State::Down));
        let overflow = (0..max_overflow).map(|_| place(State::Vacant));
        Self {
            size,
            strategy,
            places: kept.chain(overflow).collect(),
            idle: VecDeque::with_capacity(size),
            vacant: (size..size + max_overflow).rev().collect(),
            down: size,
            out: 0,
            waiting: 0,
            stats: PoolStats::default(),
        }
    }

    /// Gives a borrower a worker; `alive` returns the run at a node, if there is one that can be lent.
    pub(crate) fn take<R>(
        &mut self,
        holder: impl FnOnce(&R) -> H,
        alive: impl Fn(&N) -> Option<R>,
    ) -> Take<N, R> {
        while let Some(place) = match self.strategy {
            PoolStrategy::Lifo => self.idle.pop_back(),
            PoolStrategy::Fifo => self.idle.pop_front(),
        } {
            if let Some(node) = &self.places[place].node
                && let Some(run) = alive(node)
            {
                let node = node.clone();
                self.lend(place, holder(&run));
                return Take::Worker { place, node, run };
            }
            self.lose(place);
        }
        // A kept worker that is down is on its way back: no need for one more.
        if self.down == 0
            && let Some(place) = self.vacant.pop()
        {
            self.places[place].state = State::Starting;
            return Take::Start { place };
        }
        Take::Wait
    }

    /// Puts a worker that was started at an overflow place into the hands of who started it.
    pub(crate) fn started(&mut self, place: usize, node: N, holder: H) {
        debug_assert!(matches!(self.places[place].state, State::Starting));
        self.stats.created += 1;
        self.places[place].node = Some(node);
        self.lend(place, holder);
    }

    /// Gives up the right to start an overflow worker.
    pub(crate) fn cancel_start(&mut self, place: usize) {
        debug_assert!(matches!(self.places[place].state, State::Starting));
        self.lose(place);
    }

    /// Takes a worker back.
    pub(crate) fn give_back(
        &mut self,
        place: usize,
        condition: impl FnOnce(&N) -> Condition,
    ) -> Fate {
        debug_assert!(matches!(self.places[place].state, State::Out(_)));
        self.out -= 1;
        let condition = self.places[place]
            .node
            .as_ref()
            .map_or(Condition::Dead, condition);
        match condition {
            Condition::Dead => {
                self.lose(place);
                Fate::Stays
            }
            Condition::Busy => {
                self.lose(place);
                self.stats.retired += 1;
                Fate::Retire
            }
            Condition::Fit if place >= self.size && self.waiting == 0 => {
                self.lose(place);
                self.stats.dismissed += 1;
                Fate::Dismiss
            }
            Condition::Fit => {
                self.places[place].state = State::Idle;
                self.idle.push_back(place);
                Fate::Stays
            }
        }
    }

    /// Notes that a kept worker was started at `node`. It goes behind the idle ones, as a new one would.
    pub(crate) fn up(&mut self, place: usize, node: N) {
        self.stats.created += 1;
        self.places[place].node = Some(node);
        match self.places[place].state {
            State::Down => self.down -= 1,
            State::Idle => self.idle.retain(|it| *it != place),
            // Its holder has the run before this one; it comes back when that is dropped.
            _ => return,
        }
        self.places[place].state = State::Idle;
        self.idle.push_back(place);
    }

    /// Joins the queue, unless `limit` wait already.
    pub(crate) fn join(&mut self, limit: Option<usize>) -> bool {
        if limit.is_some_and(|limit| self.waiting >= limit) {
            return false;
        }
        self.waiting += 1;
        true
    }

    /// Leaves the queue. Returns the overflow workers that are idle although nobody waits any more.
    pub(crate) fn leave(&mut self) -> Vec<N> {
        self.waiting -= 1;
        let mut surplus = Vec::new();
        if self.waiting > 0 || self.idle.iter().all(|place| *place < self.size) {
            return surplus;
        }
        let (kept, overflow): (VecDeque<_>, VecDeque<_>) =
            self.idle.drain(..).partition(|place| *place < self.size);
        self.idle = kept;
        for place in overflow {
            surplus.extend(self.places[place].node.clone());
            self.stats.dismissed += 1;
            self.lose(place);
        }
        surplus
    }

    pub(crate) fn note_wait(&mut self, waited: Duration) {
        self.stats.waits += 1;
        self.stats.wait_total += waited;
        self.stats.wait_max = self.stats.wait_max.max(waited);
    }

    pub(crate) fn note_timeout(&mut self) {
        self.stats.timeouts += 1;
    }

    pub(crate) fn note_refusal(&mut self) {
        self.stats.refused += 1;
    }

    /// Counts; an idle worker that has died, and was not missed yet, is down.
    pub(crate) fn status(&self, alive: impl Fn(&N) -> bool) -> PoolStatus {
        let (mut idle, mut dead) = (0, 0);
        let mut overflow = self.places.len() - self.size - self.vacant.len();
        for place in &self.idle {
            if self.places[*place].node.as_ref().is_some_and(&alive) {
                idle += 1;
            } else if *place < self.size {
                dead += 1;
            } else {
                overflow -= 1;
            }
        }
        PoolStatus {
            size: self.size,
            max_overflow: self.places.len() - self.size,
            idle,
            in_use: self.out,
            overflow,
            down: self.down + dead,
            waiting: self.waiting,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn in_use(&self) -> usize {
        self.out
    }

    /// Returns how many wait to be lent, without asking whether they are alive.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn stats(&self) -> PoolStats {
        self.stats
    }

    pub(crate) fn holders(&self) -> impl Iterator<Item = (&N, &H)> {
        self.places
            .iter()
            .filter_map(|place| match (&place.node, &place.state) {
                (Some(node), State::Out(holder)) => Some((node, holder)),
                _ => None,
            })
    }

    fn lend(&mut self, place: usize, holder: H) {
        self.places[place].state = State::Out(holder);
        self.out += 1;
        self.stats.checkouts += 1;
        self.stats.peak_in_use = self.stats.peak_in_use.max(self.out);
    }

    /// Takes a worker, which is in no queue any more, off the books.
    fn lose(&mut self, place: usize) {
        let overflow = place >= self.size;
        let entry = &mut self.places[place];
        if overflow {
            entry.node = None;
            entry.state = State::Vacant;
            self.vacant.push(place);
        } else {
            entry.state = State::Down;
            self.down += 1;
        }
    }
}

#[cfg(test)]
mod tests;
