//! What a place remembers of the spec that its actor is started from.

use std::time::Duration;

use crate::{ChildKind, Restart, Shutdown};

/// In two words: every place in the tree has one.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    kind: ChildKind,
    restart: Restart,
    how: How,
    /// The limit of a shutdown within a time. As many nanoseconds as fit last for centuries.
    limit: u64,
}

#[derive(Clone, Copy)]
enum How {
    BrutalKill,
    Within,
    Infinity,
}

impl Shape {
    pub(super) fn pack(kind: ChildKind, restart: Restart, shutdown: Shutdown) -> Self {
        let (how, limit) = match shutdown {
            Shutdown::BrutalKill => (How::BrutalKill, Duration::ZERO),
            Shutdown::Within(limit) => (How::Within, limit),
            Shutdown::Infinity => (How::Infinity, Duration::ZERO),
        };
        Self {
            kind,
            restart,
            how,
            limit: u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn unpack(self) -> (ChildKind, Restart, Shutdown) {
        let shutdown = match self.how {
            How::BrutalKill => Shutdown::BrutalKill,
            How::Within => Shutdown::Within(Duration::from_nanos(self.limit)),
            How::Infinity => Shutdown::Infinity,
        };
        (self.kind, self.restart, shutdown)
    }
}
