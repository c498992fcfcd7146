//! What the books count.

use std::time::Duration;

use super::{Idle, Machine, Place, State};
use crate::{PoolStats, PoolStatus};

impl<D: Clone, H, W> Machine<D, H, W> {
    pub(crate) fn note_wait(&mut self, waited: Duration) {
        let (waits, total) = &mut self.waits;
        *waits += 1;
        *total += waited;
        // Written only when it grows.
        if waited > self.stats.wait_max {
            self.stats.wait_max = waited;
        }
    }

    /// The loan of somebody who waited for so long is none: it had no use for it.
    pub(crate) fn note_unused(&mut self, waited: Duration) {
        self.lent -= 1;
        let (waits, total) = &mut self.waits;
        *waits -= 1;
        *total -= waited;
    }

    /// A worker that was lent is asked first whether it is in order: only then it is known what comes of the checkout.
    pub(crate) fn note_check(&mut self) {
        self.lent -= 1;
    }

    pub(crate) fn note_checked(&mut self) {
        self.lent += 1;
    }

    pub(crate) fn note_timeout(&mut self) {
        self.stats.timeouts += 1;
    }

    pub(crate) fn note_refusal(&mut self) {
        self.stats.refused += 1;
    }

    pub(crate) fn note_no_start(&mut self) {
        self.stats.not_started += 1;
    }

    /// Counts; an idle worker that has died, and was not missed yet, is down.
    pub(crate) fn status(&self, alive: impl Fn(&D) -> bool) -> PoolStatus {
        let lives = |it: &&Idle| self.places[it.place()].desk.as_ref().is_some_and(&alive);
        let idle = self.idle.iter().filter(lives).count();
        let dead = self.idle.len() - idle;
        let is_starting = |it: &Place<D, H>| matches!(it.state, State::Starting);
        let starting = self.places.iter().filter(|it| is_starting(it)).count();
        let granted = self.handed.iter();
        let granted = granted
            .filter(|place| is_starting(&self.places[**place]))
            .count();
        PoolStatus {
            size: self.size,
            max_overflow: self.max_overflow,
            idle: idle + self.handed.len() - granted,
            in_use: self.out,
            overflow: self.live.saturating_sub(self.size),
            down: self.down + dead + self.size.saturating_sub(self.live),
            waiting: self.queue.len() + starting - granted,
        }
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let (waits, wait_total) = self.waits;
        PoolStats {
            checkouts: self.lent,
            waits,
            wait_total,
            ..self.stats
        }
    }
}
