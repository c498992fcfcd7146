//! Who waits, and what they are given.

use std::collections::VecDeque;

use perennial_lifecycle::Moment;

use super::{Machine, State, Take};

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiting<W> {
    pub(super) ticket: u64,
    /// Until when; [`Moment::NEVER`]: for as long as it takes.
    deadline: Moment,
    /// Its time is over, and it was called for that.
    is_late: bool,
    /// How it is called. `None`: it was, and has not looked since.
    call: Option<W>,
}

impl<D: Clone, H, W> Machine<D, H, W> {
    /// Returns how many wait for whom nothing is reserved.
    pub(super) fn unserved(&self) -> usize {
        self.queue.len().saturating_sub(self.handed.len())
    }

    /// Joins the queue, unless `limit` wait already, to be called like this. Returns the ticket.
    #[inline]
    pub(crate) fn join(
        &mut self,
        limit: Option<usize>,
        deadline: Moment,
        call: impl FnOnce() -> W,
    ) -> Option<u64> {
        if limit.is_some_and(|limit| self.queue.len() >= limit) {
            return None;
        }
        self.tickets += 1;
        self.queue.push_back(Waiting {
            ticket: self.tickets,
            deadline,
            is_late: false,
            call: Some(call()),
        });
        Some(self.tickets)
    }

    fn position(&self, ticket: u64) -> Option<usize> {
        // Mostly it is the first, or has just come.
        let is_it = |it: Option<&Waiting<W>>| it.is_some_and(|it| it.ticket == ticket);
        if is_it(self.queue.front()) {
            return Some(0);
        }
        if is_it(self.queue.back()) {
            return Some(self.queue.len() - 1);
        }
        let position = self.queue.binary_search_by_key(&ticket, |it| it.ticket);
        position.ok()
    }

    /// Whoever was given nothing goes on waiting, and is called like this from now on; `false` when its time is over.
    pub(crate) fn waits_on(&mut self, ticket: u64, call: impl FnOnce(&mut Option<W>)) -> bool {
        let Some(position) = self.position(ticket) else {
            return false;
        };
        let it = &mut self.queue[position];
        call(&mut it.call);
        !it.is_late
    }

    /// Finds those whose time is over, each once, and has them called. Returns when the next one's is.
    pub(crate) fn find_late(&mut self, now: Moment) -> Moment {
        let mut next = Moment::NEVER;
        for it in &mut self.queue {
            if it.is_late {
            } else if it.deadline <= now {
                it.is_late = true;
                self.effects.calls.extend(it.call.take());
            } else {
                next = next.min(it.deadline);
            }
        }
        next
    }

    /// Has all called who wait.
    pub(crate) fn call_all(&mut self) {
        let calls = self.queue.iter_mut().filter_map(|it| it.call.take());
        self.effects.calls.extend(calls);
    }

    /// Gives a place, or the right to fill it, to the first in the queue who has nothing, if there is one.
    #[inline]
    pub(super) fn hand(&mut self, place: usize) {
        self.handed.push_back(place);
        // Who was called before, for what was then taken back, is about to look.
        if let Some(it) = self.queue.get_mut(self.handed.len() - 1)
            && let Some(call) = it.call.take()
        {
            self.effects.calls.push_back(call);
        }
    }

    /// Fetches what was given to who has this ticket, and takes it out of the queue. `Wait`: it was given nothing, or
    /// that was taken back; the ticket stays good.
    pub(crate) fn serve(
        &mut self,
        ticket: u64,
        holder: impl FnOnce() -> H,
        alive: impl Fn(&D) -> bool,
    ) -> Take<D> {
        let Some(position) = self.position(ticket) else {
            return Take::Wait;
        };
        while position < self.handed.len()
            && let Some(place) = take_out(&mut self.handed, position)
        {
            let it = &self.places[place];
            let desk = it.desk.as_ref().filter(|desk| alive(desk)).cloned();
            match (&it.state, desk) {
                (State::Starting, _) => {
                    let life = it.life;
                    take_out(&mut self.queue, position);
                    return Take::Start { place, life };
                }
                (_, Some(desk)) => {
                    take_out(&mut self.queue, position);
                    return Take::Worker(self.lend(place, desk, holder()));
                }
                (_, None) => {
                    self.go_down(place);
                    self.hand_idle();
                }
            }
        }
        Take::Wait
    }

    /// Leaves the queue. What was meant for the one that leaves becomes free once more.
    pub(crate) fn leave(&mut self, ticket: u64, now: Moment) {
        let Some(position) = self.position(ticket) else {
            return;
        };
        self.queue.remove(position);
        let Some(place) = self.handed.remove(position) else {
            return;
        };
        if self.unserved() > 0 {
            self.hand(place);
            return;
        }
        match self.places[place].state {
            State::Starting => {
                self.live -= 1;
                self.vacate(place);
            }
            _ => self.free(place, None, now),
        }
    }

    /// Takes back what was given to somebody who has not fetched it yet.
    pub(super) fn unhand(&mut self, place: usize) {
        if let Some(position) = self.handed.iter().position(|it| *it == place) {
            self.handed.remove(position);
            self.hand_idle();
        }
    }

    /// Gives idle workers to who waits: what was meant for them has died while others became idle.
    fn hand_idle(&mut self) {
        while self.unserved() > 0
            && let Some(place) = self.next_idle(None)
        {
            self.places[place].state = State::Handed;
            self.hand(place);
        }
    }
}

/// Mostly it is the first.
fn take_out<T>(queue: &mut VecDeque<T>, position: usize) -> Option<T> {
    match position {
        0 => queue.pop_front(),
        _ => queue.remove(position),
    }
}
