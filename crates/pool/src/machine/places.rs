//! How workers come to their places, and how they go.

use std::collections::BTreeSet;
use std::mem;

use perennial_lifecycle::Moment;

use super::{Gone, Machine, Place, State, Take};
use crate::Dismissal;

impl<D: Clone, H, W> Machine<D, H, W> {
    /// Returns how many workers there may be.
    pub(super) fn limit(&self) -> usize {
        self.size + self.max_overflow
    }

    pub(super) fn make_room(&mut self) {
        let limit = self.limit();
        let place = || Place {
            life: 0,
            loan: 0,
            desk: None,
            idle_since: None,
            expires: None,
            state: State::Vacant,
        };
        if self.places.len() < limit {
            self.places.resize_with(limit, place);
        }
        let is_vacant = |place: &usize| matches!(self.places[*place].state, State::Vacant);
        self.vacant = (0..limit).filter(is_vacant).collect();
    }

    /// Begins anew under a new supervisor: whatever worked under the last one is gone or going.
    pub(crate) fn settle(&mut self) {
        (self.live, self.down, self.out) = (0, 0, 0);
        self.idle.clear();
        self.handed.clear();
        self.vacant = BTreeSet::new();
        for place in 0..self.places.len() {
            self.serial += 1;
            let it = &mut self.places[place];
            // Notices of earlier lives, and checkins of earlier loans, are late.
            (it.life, it.loan) = (self.serial, 0);
            self.seat(place, None);
            self.go_over(place, State::Vacant);
        }
        self.make_room();
    }

    /// Puts a worker, or none, in the place of another one.
    fn seat(&mut self, place: usize, desk: Option<D>) {
        let before = mem::replace(&mut self.places[place].desk, desk);
        self.effects.let_go(before.map(Gone::Worker));
    }

    /// Begins a life at a vacant place that was taken out of the list.
    pub(super) fn begin_life(&mut self, place: usize, state: State<H>) -> u64 {
        self.serial += 1;
        self.live += 1;
        let it = &mut self.places[place];
        it.life = self.serial;
        it.state = state;
        self.seat(place, None);
        self.serial
    }

    /// Finds a place to be filled without anybody asking: there are fewer workers than the pool keeps.
    pub(crate) fn want(&mut self) -> Option<(usize, u64)> {
        if self.live >= self.size {
            return None;
        }
        let place = self.vacant.pop_first()?;
        self.down += 1;
        Some((place, self.begin_life(place, State::Down)))
    }

    /// Says whether [`want`](Self::want) and [`pump`](Self::pump) would find something to do.
    pub(crate) fn is_short(&self) -> bool {
        !self.vacant.is_empty()
            && (self.live < self.size || self.live < self.limit() && self.unserved() > self.down)
    }

    /// Gives those who wait, and for whom no worker is on its way, the right to start one.
    pub(crate) fn pump(&mut self) {
        while self.unserved() > self.down
            && self.live < self.limit()
            && let Some(place) = self.vacant.pop_first()
        {
            self.begin_life(place, State::Starting);
            self.hand(place);
        }
    }

    /// Asked before a worker is started, restarts included: is it still wanted?
    ///
    /// A restart is how the pool hears of a death.
    pub(crate) fn begin(&mut self, place: usize, life: u64) -> bool {
        if self.places.get(place).is_none_or(|it| it.life != life) {
            return false;
        }
        match self.places[place].state {
            State::Vacant | State::Leaving { .. } => return false,
            State::Down => {}
            State::Starting => {
                self.seat(place, None);
                return true;
            }
            State::Idle => {
                self.idle.retain(|it| it.place() != place);
                self.go_down(place);
            }
            State::Handed => {
                self.unhand(place);
                self.go_down(place);
            }
            State::Out(_) => {
                self.out -= 1;
                self.go_down(place);
            }
        }
        let wanted = place < self.limit()
            && (self.live <= self.size
                || self.unserved() >= self.down
                || self.dismissal == Dismissal::Overflow && place < self.size);
        if !wanted {
            self.live -= 1;
            self.down -= 1;
            self.places[place].state = State::Leaving { stopping: false };
        }
        wanted
    }

    /// Notes that a worker was started; `false` when it is not wanted any more.
    pub(crate) fn up(
        &mut self,
        place: usize,
        life: u64,
        desk: D,
        expires: Option<Moment>,
        now: Moment,
    ) -> bool {
        let Some(it) = self.places.get_mut(place).filter(|it| it.life == life) else {
            return false;
        };
        match it.state {
            State::Down => {
                it.expires = expires;
                self.seat(place, Some(desk));
                self.stats.created += 1;
                self.down -= 1;
                self.free(place, None, now);
                true
            }
            // Whoever starts it fetches it.
            State::Starting => {
                it.expires = expires;
                self.seat(place, Some(desk));
                self.stats.created += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives a worker to who has started it. `Wait`: it has ended already, and is brought up again.
    pub(crate) fn redeem(
        &mut self,
        place: usize,
        life: u64,
        holder: H,
        alive: impl Fn(&D) -> bool,
    ) -> Take<D, H> {
        let it = &self.places[place];
        if it.life != life || !matches!(it.state, State::Starting) {
            return Take::Wait(holder);
        }
        if let Some(desk) = it.desk.as_ref().filter(|desk| alive(desk)) {
            let desk = desk.clone();
            return Take::Worker(self.lend_out(place, desk, holder));
        }
        self.go_down(place);
        Take::Wait(holder)
    }

    /// Gives up the right to start a worker; `asked`: the supervisor may be carrying it out.
    pub(crate) fn cancel_start(&mut self, place: usize, life: u64, asked: bool, now: Moment) {
        let it = &self.places[place];
        if it.life != life || !matches!(it.state, State::Starting) {
            return;
        }
        if it.desk.is_some() {
            self.free(place, None, now);
        } else if asked {
            self.go_down(place);
        } else {
            self.live -= 1;
            self.vacate(place);
        }
    }

    /// Notes that a worker which the pool has ended is gone.
    pub(crate) fn left(&mut self, place: usize, life: u64) {
        let it = &self.places[place];
        if it.life == life && matches!(it.state, State::Leaving { .. }) {
            self.vacate(place);
        }
    }

    /// Notes that the supervisor knows nothing of this life any more.
    pub(crate) fn gone(&mut self, place: usize, life: u64) {
        let it = &self.places[place];
        if it.life != life {
            return;
        }
        match it.state {
            // One that is still ending is waited for.
            State::Vacant | State::Leaving { stopping: true } => return,
            State::Leaving { stopping: false } => return self.vacate(place),
            State::Starting => {
                if self.handed.contains(&place) {
                    self.unhand(place);
                }
            }
            State::Down => self.down -= 1,
            State::Idle => self.idle.retain(|it| it.place() != place),
            State::Handed => self.unhand(place),
            State::Out(_) => self.out -= 1,
        }
        self.live -= 1;
        self.vacate(place);
    }

    pub(super) fn vacate(&mut self, place: usize) {
        self.go_over(place, State::Vacant);
        self.seat(place, None);
        if place < self.limit() {
            self.vacant.insert(place);
        }
    }
}
