//! Which of the idle workers is lent next.

use perennial_lifecycle::Lane;

use super::Machine;
use crate::PoolStrategy;

/// Among so many of those that came back last, who comes looks for one that came back on its own thread.
const NEAR: usize = 8;

/// A place whose worker is idle, and the lane of the thread on which it came back; `None`: it came from elsewhere.
///
/// The lane is not looked for at the place, which another thread may be writing to. All in one word, as it is written
/// and read right after: the lane plus one in its lowest bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle(usize);

impl Idle {
    const LANE: u32 = 4;

    pub(super) fn new(place: usize, lane: Option<usize>) -> Self {
        const { assert!(Lane::COUNT < 1 << Self::LANE) };
        Self(place << Self::LANE | lane.map_or(0, |lane| lane + 1))
    }

    pub(super) fn place(self) -> usize {
        self.0 >> Self::LANE
    }

    pub(super) fn lane(self) -> Option<usize> {
        (self.0 & ((1 << Self::LANE) - 1)).checked_sub(1)
    }
}

impl<D: Clone, H, W> Machine<D, H, W> {
    /// Takes the idle worker whose turn it is out of their list, for who comes on a thread of this lane.
    #[inline]
    pub(super) fn next_idle(&mut self, lane: Option<usize>) -> Option<usize> {
        match self.strategy {
            PoolStrategy::Fifo => Some(self.idle.pop_front()?.place()),
            PoolStrategy::Lifo => {
                let last = self.idle.pop_back()?;
                Some(match (last.lane(), lane) {
                    (Some(others), Some(lane)) if others != lane => self.own_idle(lane, last),
                    _ => last.place(),
                })
            }
        }
    }

    /// Where two threads lend side by side, the worker of one would be the next one's at every other turn, and all that
    /// belongs to it would go over from processor to processor each time. So who comes is given the last that came back
    /// on its own thread, if there is one near `last`.
    #[cold]
    fn own_idle(&mut self, lane: usize, last: Idle) -> usize {
        let mut near = self.idle.iter().rev().take(NEAR);
        let back = near.position(|it| it.lane() == Some(lane));
        let own = back.and_then(|back| self.idle.remove(self.idle.len() - 1 - back));
        if own.is_some() {
            self.idle.push_back(last);
        }
        own.unwrap_or(last).place()
    }
}
