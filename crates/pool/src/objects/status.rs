use std::time::Duration;

/// How a pool of plain objects stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectPoolStatus {
    /// Objects that belong to the pool.
    pub size: usize,
    /// Objects that are not on loan, those included that are on their way to who waits.
    pub idle: usize,
    /// Objects on loan.
    pub in_use: usize,
    /// Checkouts that wait for their turn.
    pub waiting: usize,
}

/// What a pool of plain objects has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectPoolStats {
    /// Checkouts that got an object.
    pub checkouts: u64,
    /// Checkouts whose time ran out.
    pub timeouts: u64,
    /// Checkouts that were refused at once.
    pub refused: u64,
    /// Checkouts that had to wait and got an object.
    pub waits: u64,
    /// How long they waited, all together.
    pub wait_total: Duration,
    /// How long the one waited that waited longest.
    pub wait_max: Duration,
}
