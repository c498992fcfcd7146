//! Every order in which a few threads can meet at the gate.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p perennial-breaker --lib --target-dir target/loom
//! ```

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread::{self, JoinHandle};

use super::*;
use crate::Trip;

/// A clock that stands still, and a count of moves.
#[derive(Default)]
struct At {
    now: Nanos,
    moves: std::cell::Cell<usize>,
}

impl Surroundings for At {
    fn now(&self) -> Nanos {
        self.now
    }

    fn successes(&self) -> u64 {
        0
    }

    fn moved(&self, _: &Move) {
        self.moves.set(self.moves.get() + 1);
    }
}

/// The open time of a gate as [`opened`] and [`closed`] make it.
const OPEN_TIME: Nanos = 30_000_000_000;

fn at(now: Nanos) -> At {
    At {
        now,
        ..At::default()
    }
}

/// A gate that opens at so many failures in a row.
fn closed(failures: u32, permits: u32) -> Gate {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(failures))
        .half_open_permits(permits)
        .build();
    Gate::new(Machine::new(config.unwrap(), 0))
}

/// A gate that was tripped at time 0.
fn opened(permits: u32) -> Gate {
    let gate = closed(1, permits);
    gate.command(Command::Trip, &at(0));
    gate
}

fn end(gate: &Gate, ticket: Ticket, verdict: Verdict, now: Nanos) -> Settled {
    gate.settle(ticket, verdict, ticket.timing(), &at(now))
}

fn is_probe_of(gate: &Gate) -> bool {
    gate.acquire(&at(OPEN_TIME)).is_ok()
}

fn sum(threads: impl IntoIterator<Item = JoinHandle<bool>>) -> usize {
    let ended = threads.into_iter().map(|it| it.join().unwrap());
    ended.filter(|&counts| counts).count()
}

#[test]
fn callers_at_the_end_of_the_open_time_let_exactly_the_permitted_number_through() {
    for permits in [1, 2] {
        loom::model(move || {
            let gate = Arc::new(opened(permits));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    thread::spawn(move || is_probe_of(&gate))
                })
                .collect();
            let here = usize::from(is_probe_of(&gate));
            assert_eq!(here + sum(threads), permits as usize);
        });
    }
}

#[test]
fn a_place_that_is_given_back_is_neither_lost_nor_doubled() {
    loom::model(|| {
        let gate = Arc::new(opened(1));
        let inside = Arc::new(AtomicUsize::new(0));
        let come_and_go = |gate: &Gate, inside: &AtomicUsize| {
            if let Ok(ticket) = gate.acquire(&at(OPEN_TIME)) {
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                inside.fetch_sub(1, Ordering::Relaxed);
                let settled = end(gate, ticket, Verdict::Cancelled, OPEN_TIME);
                assert_eq!(settled, Settled::Counted);
            }
        };
        let other = {
            let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
            thread::spawn(move || come_and_go(&gate, &inside))
        };
        come_and_go(&gate, &inside);
        other.join().unwrap();
        assert!(is_probe_of(&gate), "the place is lost");
        assert!(!is_probe_of(&gate), "the place is doubled");
    });
}

#[test]
fn failures_side_by_side_open_once_and_none_is_lost() {
    loom::model(|| {
        let gate = Arc::new(closed(2, 1));
        let fail = |gate: &Gate| {
            let around = at(0);
            let ticket = gate.acquire(&around).ok().unwrap();
            gate.settle(ticket, Verdict::Failure, ticket.timing(), &around);
            around.moves.get() == 1
        };
        let other = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || fail(&gate))
        };
        let here = usize::from(fail(&gate));
        assert_eq!(here + sum([other]), 1);
        assert_eq!(gate.state(&at(0)), BreakerState::Open);
    });
}

#[test]
fn a_success_beside_a_failure_comes_before_or_after_it() {
    loom::model(|| {
        let gate = Arc::new(closed(2, 1));
        let first = gate.acquire(&at(0)).ok().unwrap();
        let second = gate.acquire(&at(0)).ok().unwrap();
        let third = gate.acquire(&at(0)).ok().unwrap();
        let failing = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || end(&gate, first, Verdict::Failure, 0))
        };
        assert_eq!(end(&gate, second, Verdict::Success, 0), Settled::Counted);
        assert_eq!(failing.join().unwrap(), Settled::Counted);

        // One failure is on record, or none: one more opens or it does not, and then another one does.
        end(&gate, third, Verdict::Failure, 0);
        if gate.state(&at(0)) == BreakerState::Closed {
            let last = gate.acquire(&at(0)).ok().unwrap();
            end(&gate, last, Verdict::Failure, 0);
        }
        assert_eq!(gate.state(&at(0)), BreakerState::Open);
    });
}

#[test]
fn a_result_from_before_the_opening_never_counts_as_a_probe() {
    loom::model(|| {
        let gate = Arc::new(closed(1, 1));
        let early = gate.acquire(&at(0)).ok().unwrap();
        gate.command(Command::Trip, &at(0));
        let late = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || end(&gate, early, Verdict::Success, OPEN_TIME))
        };
        // The probe begins before, between or after.
        let probe = gate.acquire(&at(OPEN_TIME)).ok().unwrap();
        assert_eq!(late.join().unwrap(), Settled::Late);
        assert_eq!(gate.state(&at(OPEN_TIME)), BreakerState::HalfOpen);
        assert!(!is_probe_of(&gate));
        end(&gate, probe, Verdict::Success, OPEN_TIME);
        assert_eq!(gate.state(&at(OPEN_TIME)), BreakerState::Closed);
    });
}

#[test]
fn a_command_beside_a_probe_leaves_no_place_taken() {
    loom::model(|| {
        let gate = Arc::new(opened(1));
        let probing = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.acquire(&at(OPEN_TIME)).is_ok_and(|ticket| {
                    end(&gate, ticket, Verdict::Success, OPEN_TIME) != Settled::Slow
                })
            })
        };
        gate.command(Command::Reset, &at(OPEN_TIME));
        probing.join().unwrap();
        assert_eq!(gate.state(&at(OPEN_TIME)), BreakerState::Closed);
        // A trip begins anew, with every place free.
        gate.command(Command::Trip, &at(OPEN_TIME));
        assert!(gate.acquire(&at(2 * OPEN_TIME)).is_ok());
    });
}

#[test]
fn who_reads_that_it_is_open_reads_no_older_end_of_it() {
    loom::model(|| {
        // The first open time is over, and its probe fails while another caller looks.
        let gate = Arc::new(opened(1));
        let probe = gate.acquire(&at(OPEN_TIME)).ok().unwrap();
        let failing = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || end(&gate, probe, Verdict::Failure, OPEN_TIME))
        };
        // Its clock reading is from before the end of that first open time.
        let refusal = gate.acquire(&at(OPEN_TIME - 1)).err().unwrap();
        if refusal.state == BreakerState::Open {
            let second = Duration::from_nanos(OPEN_TIME + 1);
            assert_eq!(refusal.retry_after, Some(second));
        }
        assert_eq!(failing.join().unwrap(), Settled::Counted);
    });
}
