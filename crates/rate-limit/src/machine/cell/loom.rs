//! Every order in which threads may step one cell.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release -p perennial-rate-limit --lib loom
//! ```

use std::{fmt, ops::RangeInclusive};

use ::loom::{model, sync::Arc, thread};

use super::*;
use crate::{
    machine::{FixedWindow, Gcra},
    quota::{Algorithm, Quota},
};

/// Two threads and the main one spend from one key. At one time exactly the quota passes; with readings in no order
/// somebody who comes late may be refused, and never more passes.
fn admits_the_quota_and_no_more<M>(meter: M, readings: [u64; 3], passes: RangeInclusive<usize>)
where
    M: Word + Copy + Send + Sync + fmt::Debug + 'static,
{
    model(move || {
        let cell = Arc::new(Cell::default());
        let spend = move |cell: &Cell<M>, reading: u64| {
            let verdict = cell.spend(&meter, 1, Nanos(reading));
            usize::from(verdict.is_allowed())
        };
        let [mine, theirs @ ..] = readings;
        let threads: Vec<_> = theirs
            .into_iter()
            .map(|reading| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || spend(&cell, reading))
            })
            .collect();
        let mine = spend(&cell, mine);
        let theirs = threads.into_iter().map(|it| it.join().unwrap());
        let through = mine + theirs.sum::<usize>();
        assert!(passes.contains(&through), "{meter:?} admitted {through}");
    });
}

#[test]
fn loom_a_cell_admits_the_quota_in_every_order() {
    let quota = Quota::per_hour(2);
    let windows = quota.algorithm(Algorithm::FixedWindow);
    for (readings, passes) in [([5, 5, 5], 2..=2), ([7, 1, 9], 1..=2)] {
        admits_the_quota_and_no_more(Gcra::new(&quota), readings, passes.clone());
        admits_the_quota_and_no_more(FixedWindow::new(&windows), readings, passes);
    }
}
