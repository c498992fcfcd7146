//! Who waits, and what they are given.

use std::collections::VecDeque;

use perennial_lifecycle::Moment;

use super::{Gone, Machine, State, Take};

/// From when until when somebody waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) since: Moment,
    /// [`Moment::NEVER`]: for as long as it takes.
    pub(crate) deadline: Moment,
}

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Waiting<H, W> {
    pub(super) ticket: u64,
    wait: Wait,
    /// Its time is over, and it was called for that.
    is_late: bool,
    /// How it is called. `None`: it was, and has not looked since.
    call: Option<W>,
    /// Who will hold what it is lent.
    holder: H,
}

/// What somebody who was given nothing finds in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It goes on waiting.
    Waits,
    /// Its time is over.
    Late,
    /// It is there no more: it was lent something.
    Gone,
}

/// A worker that came back and was lent at once to who has waited for longest.
#[derive(Debug)]
pub(crate) struct Onward<W, R> {
    pub(crate) loan: u64,
    pub(crate) since: Moment,
    /// How that one is reached.
    pub(crate) to: R,
    /// How it is called. `None`: it was, and has not looked since.
    pub(crate) call: Option<W>,
}

impl<D: Clone, H, W> Machine<D, H, W> {
    /// Returns how many wait for whom nothing is reserved.
    pub(super) fn unserved(&self) -> usize {
        self.queue.len().saturating_sub(self.handed.len())
    }

    /// Joins the queue, unless `limit` wait already, to be called like this. Returns the ticket, or who does not wait.
    #[inline(always)]
    pub(crate) fn join(
        &mut self,
        limit: Option<usize>,
        wait: Wait,
        holder: H,
        call: impl FnOnce() -> W,
    ) -> Result<u64, H> {
        if limit.is_some_and(|limit| self.queue.len() >= limit) {
            return Err(holder);
        }
        self.tickets += 1;
        self.queue.push_back(Waiting {
            ticket: self.tickets,
            wait,
            is_late: false,
            call: Some(call()),
            holder,
        });
        Ok(self.tickets)
    }

    /// Returns the ticket of who may come to wait again: the one that he has, or a new one if that is 0.
    pub(crate) fn place_in_line(&mut self, ticket: u64) -> u64 {
        match ticket {
            0 => {
                self.tickets += 1;
                self.tickets
            }
            before => before,
        }
    }

    /// Joins the queue once more, with the ticket of before: what it was lent was of no use. It looks at once what it
    /// is given now, for which it is not called, and may be given what another one was called for.
    pub(crate) fn rejoin(&mut self, ticket: u64, wait: Wait, holder: H) {
        let waiting = Waiting {
            ticket,
            wait,
            is_late: false,
            call: None,
            holder,
        };
        let before = self.queue.partition_point(|it| it.ticket < ticket);
        self.queue.insert(before, waiting);
        self.hand_idle();
    }

    fn position(&self, ticket: u64) -> Option<usize> {
        // Mostly it is the first, or has just come.
        let is_it = |it: Option<&Waiting<H, W>>| it.is_some_and(|it| it.ticket == ticket);
        if is_it(self.queue.front()) {
            return Some(0);
        }
        if is_it(self.queue.back()) {
            return Some(self.queue.len() - 1);
        }
        let position = self.queue.binary_search_by_key(&ticket, |it| it.ticket);
        position.ok()
    }

    /// Whoever was given nothing goes on waiting, and is called like this from now on.
    pub(crate) fn waits_on(&mut self, ticket: u64, call: impl FnOnce(&mut Option<W>)) -> Look {
        let Some(position) = self.position(ticket) else {
            return Look::Gone;
        };
        let it = &mut self.queue[position];
        if it.is_late {
            return Look::Late;
        }
        call(&mut it.call);
        Look::Waits
    }

    /// Finds those whose time is over, each once, and has them called. Returns when the next one's is.
    pub(crate) fn find_late(&mut self, now: Moment) -> Moment {
        let mut next = Moment::NEVER;
        for it in &mut self.queue {
            if it.is_late {
            } else if it.wait.deadline <= now {
                it.is_late = true;
                self.effects.calls.extend(it.call.take());
            } else {
                next = next.min(it.wait.deadline);
            }
        }
        next
    }

    /// Has all called who wait.
    pub(crate) fn call_all(&mut self) {
        let calls = self.queue.iter_mut().filter_map(|it| it.call.take());
        self.effects.calls.extend(calls);
    }

    /// Lends a worker that came back to who has waited for longest, if that one can be reached.
    #[inline(always)]
    pub(super) fn lend_on<R>(
        &mut self,
        place: usize,
        reach: impl FnOnce(u64) -> Option<R>,
        begin: impl FnOnce(&mut H) -> Moment,
    ) -> Option<Onward<W, R>> {
        // What is kept for somebody is the first one's.
        if !self.handed.is_empty() {
            return None;
        }
        let to = reach(self.queue.front()?.ticket)?;
        let Waiting {
            wait,
            call,
            mut holder,
            ..
        } = self.queue.pop_front()?;
        let since = begin(&mut holder);
        self.note_wait(since.since(wait.since));
        let loan = self.lend(place, holder);
        Some(Onward {
            loan,
            since,
            to,
            call,
        })
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

    /// Fetches what was given to who has this ticket, and takes it out of the queue; `begin` makes it a holder from now on.
    /// `Wait`: it was given nothing, or that was taken back; the ticket stays good.
    pub(crate) fn serve(
        &mut self,
        ticket: u64,
        alive: impl Fn(&D) -> bool,
        begin: impl FnOnce(&mut H),
    ) -> Take<D, ()> {
        let Some(position) = self.position(ticket) else {
            return Take::Wait(());
        };
        while position < self.handed.len()
            && let Some(place) = take_out(&mut self.handed, position)
        {
            let it = &self.places[place];
            if let State::Starting = it.state {
                let life = it.life;
                let holder = self.step_out(position);
                self.effects.let_go(holder.map(Gone::Holder));
                return Take::Start { place, life };
            }
            let desk = it.desk.as_ref().filter(|desk| alive(desk)).cloned();
            if let Some(desk) = desk
                && let Some(mut holder) = self.step_out(position)
            {
                begin(&mut holder);
                return Take::Worker(self.lend_out(place, desk, holder));
            }
            self.go_down(place);
            self.hand_idle();
        }
        Take::Wait(())
    }

    /// Takes somebody out of the queue who will be called no more.
    fn step_out(&mut self, position: usize) -> Option<H> {
        let Waiting { call, holder, .. } = take_out(&mut self.queue, position)?;
        self.effects.let_go(call.map(Gone::Call));
        Some(holder)
    }

    /// Leaves the queue. What was kept for the one that leaves becomes free once more; `None`: it is there no more,
    /// for it was lent something. Else it is to be let go of outside.
    pub(crate) fn leave(&mut self, ticket: u64, now: Moment) -> Option<Waiting<H, W>> {
        let position = self.position(ticket)?;
        let left = self.queue.remove(position);
        if let Some(place) = self.handed.remove(position) {
            self.keep_for_next(place, now);
        }
        left
    }

    /// Gives to the next one what was kept for one that left.
    fn keep_for_next(&mut self, place: usize, now: Moment) {
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
