//! Who waits, and what they are given.

use perennial_lifecycle::Moment;

use super::{Machine, State, Take};

impl<D: Clone, H> Machine<D, H> {
    /// Returns how many wait for whom nothing is reserved.
    pub(super) fn unserved(&self) -> usize {
        self.queue.len().saturating_sub(self.handed.len())
    }

    /// Joins the queue, unless `limit` wait already. Returns the ticket.
    pub(crate) fn join(&mut self, limit: Option<usize>) -> Option<u64> {
        if limit.is_some_and(|limit| self.queue.len() >= limit) {
            return None;
        }
        self.tickets += 1;
        self.queue.push_back(self.tickets);
        Some(self.tickets)
    }

    /// Fetches what was given to who has this ticket, and takes it out of the queue. `Wait`: it was taken
    /// back, or somebody was faster; the ticket stays good.
    pub(crate) fn serve(
        &mut self,
        ticket: u64,
        holder: impl FnOnce() -> H,
        alive: impl Fn(&D) -> bool,
    ) -> Take<D> {
        // Mostly it is the first.
        let in_queue = match self.queue.front() {
            Some(first) if *first == ticket => 0,
            _ => match self.queue.binary_search(&ticket) {
                Ok(in_queue) => in_queue,
                Err(_) => return Take::Wait,
            },
        };
        let mut position = in_queue;
        loop {
            if position >= self.handed.len() {
                position = 0;
            }
            let Some(place) = self.handed.remove(position) else {
                return Take::Wait;
            };
            let it = &self.places[place];
            let desk = it.desk.as_ref().filter(|desk| alive(desk)).cloned();
            match (&it.state, desk) {
                (State::Starting, _) => {
                    let life = it.life;
                    self.queue.remove(in_queue);
                    return Take::Start { place, life };
                }
                (_, Some(desk)) => {
                    self.queue.remove(in_queue);
                    return Take::Worker(self.lend(place, desk, holder()));
                }
                (_, None) => {
                    self.go_down(place);
                    self.hand_idle();
                }
            }
        }
    }

    /// Leaves the queue. What was meant for the one that leaves becomes free once more.
    pub(crate) fn leave(&mut self, ticket: u64, now: Moment) {
        let Ok(position) = self.queue.binary_search(&ticket) else {
            return;
        };
        self.queue.remove(position);
        let Some(place) = self.handed.remove(position) else {
            return;
        };
        if self.unserved() > 0 {
            self.handed.push_back(place);
            return;
        }
        self.effects.revokes += 1;
        match self.places[place].state {
            State::Starting => {
                self.live -= 1;
                self.vacate(place);
            }
            _ => self.free(place, now),
        }
    }

    /// Takes back what was given to somebody who has not fetched it yet.
    pub(super) fn unhand(&mut self, place: usize) {
        if let Some(position) = self.handed.iter().position(|it| *it == place) {
            self.handed.remove(position);
            self.effects.revokes += 1;
            self.hand_idle();
        }
    }

    /// Gives idle workers to who waits: what was meant for them has died while others became idle.
    fn hand_idle(&mut self) {
        while self.unserved() > 0
            && let Some(place) = self.next_idle()
        {
            self.places[place].state = State::Handed;
            self.handed.push_back(place);
            self.effects.grants += 1;
        }
    }
}
