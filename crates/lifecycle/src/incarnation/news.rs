//! That a run is a restart: told by itself, ahead of all else that it does, so that its supervisor need not do so before
//! whoever waits for the run has his turn.

use std::sync::atomic::{Ordering::AcqRel, Ordering::Acquire};

use super::Incarnation;

/// Somebody else tells, or has told.
pub(super) const NONE: u8 = 0;
/// It is a restart, and nobody has told yet.
const RESTARTED: u8 = 1;
/// It has begun to work, or has been told of.
const UNDER_WAY: u8 = 2;

impl Incarnation {
    /// Leaves it to the run to tell that it is a restart; `false` when it has begun to work, and it is for the caller to
    /// tell.
    pub fn leave_restart_to_tell(&self) -> bool {
        let left = self.news.compare_exchange(NONE, RESTARTED, AcqRel, Acquire);
        left.is_ok()
    }

    /// Says whether it is a restart that nobody has told of; whoever hears so does.
    pub fn take_restart_to_tell(&self) -> bool {
        self.news.load(Acquire) == RESTARTED && self.news.swap(UNDER_WAY, AcqRel) == RESTARTED
    }

    /// The same, for the run itself, which begins to work now.
    pub(crate) fn begin_work(&self) -> bool {
        self.news.swap(UNDER_WAY, AcqRel) == RESTARTED
    }
}
