//! What is to be done outside of the books.

use std::collections::VecDeque;
use std::mem;

use super::Machine;

/// What is to be done outside.
#[derive(Debug)]
pub(crate) struct Effects<D, H, W> {
    /// Who is to look whether it was given something, in this order.
    pub(crate) calls: VecDeque<W>,
    pub(crate) rest: Vec<Effect<D, H, W>>,
}

impl<D, H, W> Default for Effects<D, H, W> {
    fn default() -> Self {
        Self {
            calls: VecDeque::new(),
            rest: Vec::new(),
        }
    }
}

impl<D, H, W> Effects<D, H, W> {
    pub(super) fn let_go(&mut self, gone: Option<Gone<D, H, W>>) {
        self.rest.extend(gone.map(Effect::LetGo));
    }
}

/// What is to be done besides calling.
#[derive(Debug)]
pub(crate) enum Effect<D, H, W> {
    End(Ending<D>),
    LetGo(Gone<D, H, W>),
}

/// What is of no use any more. It goes outside: how it does may be anybody's code, as of the error that a worker ended
/// with, or of the span of a holder.
#[derive(Debug)]
pub(crate) enum Gone<D, H, W> {
    Worker(D),
    Holder(H),
    Call(W),
}

/// A worker that the pool ends.
#[derive(Debug)]
pub(crate) struct Ending<D> {
    pub(crate) place: usize,
    pub(crate) life: u64,
    pub(crate) desk: D,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// For good: there are more than the pool keeps.
    Dismiss,
    /// For a successor: it is too old, or was idle for too long.
    Renew,
    /// Killed, for a successor: it is still busy, or failed its check.
    Retire,
}

impl<D: Clone, H, W> Machine<D, H, W> {
    /// Says whether there is anything to be done outside.
    #[inline]
    pub(crate) fn has_effects(&self) -> bool {
        !self.effects.calls.is_empty() || !self.effects.rest.is_empty()
    }

    /// Takes the first of those who are to be called: mostly all there is to be done.
    #[inline]
    pub(crate) fn next_call(&mut self) -> Option<W> {
        self.effects.calls.pop_front()
    }

    /// Takes what is to be done outside.
    pub(crate) fn effects(&mut self) -> Option<Effects<D, H, W>> {
        if !self.has_effects() {
            return None;
        }
        Some(mem::take(&mut self.effects))
    }
}
