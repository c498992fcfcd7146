//! Loans on their way to who waits for them.
//!
//! Whoever gives a worker back while others wait lends it to the first of them in the same breath, and lays the loan down
//! here: to fetch it, that one need not open the books, for which all borrowers stand in line.

use std::sync::{Mutex, MutexGuard};

use super::lending::Taken;
use super::{Apart, lock};
use crate::PoolConfig;

/// Places where a loan can be laid down, found by the ticket of who is to have it.
pub(super) struct Handovers(Box<[Apart<Place>]>);

type Place = Mutex<Option<Handover>>;

struct Handover {
    ticket: u64,
    taken: Taken,
}

/// A free place, where who has the ticket will look.
pub(super) struct Reach<'a> {
    ticket: u64,
    place: MutexGuard<'a, Option<Handover>>,
}

impl Handovers {
    pub(super) fn new(config: &PoolConfig) -> Self {
        /// Who finds its place taken is called, and looks into the books.
        const MOST: usize = 64;

        let workers = config.size.saturating_add(config.max_overflow);
        let places = workers.clamp(1, MOST).next_power_of_two();
        Self((0..places).map(|_| Apart(Mutex::new(None))).collect())
    }

    fn place(&self, ticket: u64) -> MutexGuard<'_, Option<Handover>> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits do")]
        let place = ticket as usize & (self.0.len() - 1);
        lock(&self.0[place].0)
    }

    /// Called while the books are open, so that who looks there for a ticket finds it there, or else here.
    #[inline]
    pub(super) fn reach(&self, ticket: u64) -> Option<Reach<'_>> {
        let place = self.place(ticket);
        place.is_none().then_some(Reach { ticket, place })
    }

    #[inline(always)]
    pub(super) fn fetch(&self, ticket: u64) -> Option<Taken> {
        let mut place = self.place(ticket);
        let handover = place.take_if(|it| it.ticket == ticket)?;
        Some(handover.taken)
    }
}

impl Reach<'_> {
    #[inline]
    pub(super) fn lay_down(mut self, taken: Taken) {
        let ticket = self.ticket;
        *self.place = Some(Handover { ticket, taken });
    }
}
