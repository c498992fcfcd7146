use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::{BreakerConfig, Trip};

/// A clock that stands where it is put.
#[derive(Default)]
struct Still(AtomicU64);

impl Surroundings for Still {
    fn now(&self) -> Nanos {
        self.0.load(Ordering::SeqCst)
    }

    fn successes(&self) -> u64 {
        0
    }

    fn moved(&self, _: &Move) {}
}

const SECOND: Nanos = 1_000_000_000;

fn gate(permits: u32) -> Gate {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .half_open_permits(permits);
    Gate::new(Machine::new(config.build().unwrap(), 0))
}

fn end(gate: &Gate, ticket: Ticket, verdict: Verdict, clock: &Still) -> Settled {
    gate.settle(ticket, verdict, ticket.timing(), clock)
}

#[test]
fn a_word_keeps_generation_flags_and_light() {
    let lights = [
        Light::Closed,
        Light::Injecting,
        Light::Open,
        Light::Probing,
        Light::Full,
        Light::ForcedOpen,
        Light::ForcedClosed,
        Light::Disabled,
        Light::MetricsOnly,
    ];
    for light in lights {
        for flags in [0, HEEDS_SUCCESS, TIMED | CLOSES_BY_ITSELF, DATED] {
            let word = Word(1 << 40 << GENERATION | flags | light as u64);
            assert_eq!((word.generation(), word.light()), (1 << 40, light));
            for flag in [HEEDS_SUCCESS, TIMED, CLOSES_BY_ITSELF, DATED] {
                assert_eq!(word.has(flag), flags & flag != 0);
            }
        }
    }
}

#[test]
fn a_hundred_threads_at_the_end_of_the_open_time_let_exactly_the_configured_number_through() {
    for permits in [1, 7] {
        let (gate, clock) = (gate(permits), Still::default());
        gate.command(Command::Trip, &clock);
        clock.0.store(30 * SECOND - 1, Ordering::SeqCst);
        assert!(gate.acquire(&clock).is_err());
        clock.0.store(30 * SECOND, Ordering::SeqCst);

        let (start, admitted) = (Barrier::new(100), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    start.wait();
                    admitted.fetch_add(usize::from(gate.acquire(&clock).is_ok()), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(admitted.into_inner(), permits as usize);
    }
}

#[test]
fn places_are_neither_lost_nor_doubled_when_probes_come_and_go_on_many_threads() {
    let (gate, clock) = (gate(3), Still::default());
    gate.command(Command::Trip, &clock);
    clock.0.store(30 * SECOND, Ordering::SeqCst);
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Ok(ticket) = gate.acquire(&clock) {
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        let settled = end(&gate, ticket, Verdict::Cancelled, &clock);
                        assert_eq!(settled, Settled::Counted);
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 3);
    let tickets: Vec<_> = (0..3)
        .map(|_| {
            gate.acquire(&clock)
                .unwrap_or_else(|_| panic!("a place is lost"))
        })
        .collect();
    assert!(gate.acquire(&clock).is_err());
    for ticket in tickets {
        end(&gate, ticket, Verdict::Success, &clock);
    }
    assert_eq!(gate.state(&clock), BreakerState::Closed);
}

#[test]
fn failures_on_many_threads_open_once_and_none_is_lost() {
    for _ in 0..50 {
        let config = BreakerConfig::builder()
            .trip(Trip::Consecutive(400))
            .build()
            .unwrap();
        let (gate, clock) = (Gate::new(Machine::new(config, 0)), Still::default());
        let fail = |times: usize| {
            for _ in 0..times {
                if let Ok(ticket) = gate.acquire(&clock) {
                    end(&gate, ticket, Verdict::Failure, &clock);
                }
            }
        };
        std::thread::scope(|scope| {
            for times in [100, 100, 100, 99] {
                scope.spawn(move || fail(times));
            }
        });
        assert_eq!(gate.state(&clock), BreakerState::Closed);
        fail(1);
        assert_eq!(gate.state(&clock), BreakerState::Open);
        assert_eq!(gate.view(&clock).transitions, 1);
    }
}
