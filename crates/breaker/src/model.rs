//! A simple model of a breaker, and a driver that holds a subject against it.
//!
//! The model keeps every result since its last move and counts them anew each time; it knows nothing of words,
//! lights and tallies.

use std::time::Duration;

use proptest::prelude::*;

use crate::machine::{Command, Nanos, Verdict, nanos};
use crate::{BreakerConfig, BreakerState, OpenTime, Trip, Window};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    /// So many callers at the same moment.
    Acquire(u8),
    /// One of the calls that are running, picked by this number, ends.
    Settle(u8, Verdict),
    Advance(u16),
    Command(Command),
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Failure),
        3 => Just(Verdict::Success),
        1 => Just(Verdict::Cancelled),
    ];
    let command = prop_oneof![
        4 => Just(Command::Trip),
        4 => Just(Command::Reset),
        1 => Just(Command::ForceOpen),
        1 => Just(Command::ForceClosed),
        1 => Just(Command::Disable),
    ];
    let op = prop_oneof![
        30 => (1_u8..4).prop_map(Op::Acquire),
        2 => Just(Op::Acquire(100)),
        50 => (any::<u8>(), verdict).prop_map(|(pick, verdict)| Op::Settle(pick, verdict)),
        20 => (0_u16..400).prop_map(Op::Advance),
        3 => command.prop_map(Op::Command),
    ];
    prop::collection::vec(op, 1..200)
}

pub(crate) fn configs() -> impl Strategy<Value = BreakerConfig> {
    let window = prop_oneof![
        (1_u32..12).prop_map(Window::Calls),
        (1_u64..800).prop_map(|nanos| Window::Time(Duration::from_nanos(nanos))),
    ];
    let rate = (1_u32..=10, window, 1_u32..6).prop_map(|(tenths, window, min_calls)| {
        let min_calls = if let Window::Calls(calls) = window {
            min_calls.min(calls)
        } else {
            min_calls
        };
        Trip::FailureRate {
            ratio: f64::from(tenths) / 10.0,
            window,
            min_calls,
        }
    });
    let trip = prop_oneof![(1_u32..6).prop_map(Trip::Consecutive), rate];
    let open_time = prop_oneof![
        (1_u64..500).prop_map(|nanos| OpenTime::Constant(Duration::from_nanos(nanos))),
        (1_u64..200, 1_u32..4, 0_u64..400).prop_map(|(first, factor, more)| OpenTime::Growing {
            first: Duration::from_nanos(first),
            factor: f64::from(factor),
            cap: Duration::from_nanos(first + more),
        }),
    ];
    (trip, open_time, 1_u32..5, 1_u32..4).prop_map(|(trip, open_time, permits, successes)| {
        BreakerConfig::builder()
            .trip(trip)
            .open_time(open_time)
            .half_open_permits(permits)
            .successes_to_close(successes)
            .build()
            .unwrap()
    })
}

/// What is held against the model.
pub(crate) trait Subject {
    type Call;
    fn acquire(&mut self) -> Result<Self::Call, (BreakerState, Option<Duration>)>;
    fn settle(&mut self, call: Self::Call, verdict: Verdict);
    async fn advance(&mut self, by: Duration);
    fn command(&mut self, command: Command) -> BreakerState;
    fn state(&mut self) -> BreakerState;
    fn transitions(&mut self) -> u64;
    /// Successes, failures, cancelled, refused and late, where the subject counts them.
    fn totals(&mut self) -> Option<[u64; 5]>;
}

struct Model {
    config: BreakerConfig,
    now: Nanos,
    state: BreakerState,
    /// Moves so far: two calls of one era were admitted in one state.
    era: u64,
    transitions: u64,
    entered_at: Nanos,
    openings: u32,
    results: Vec<(Nanos, bool)>,
    probes: u32,
    totals: [u64; 5],
}

#[derive(Clone, Copy)]
struct Admitted {
    era: u64,
    state: BreakerState,
}

impl Model {
    fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            now: 0,
            state: BreakerState::Closed,
            era: 0,
            transitions: 0,
            entered_at: 0,
            openings: 0,
            results: Vec::new(),
            probes: 0,
            totals: [0; 5],
        }
    }

    fn enter(&mut self, state: BreakerState) {
        self.transitions += u64::from(state != self.state);
        self.state = state;
        self.era += 1;
        self.entered_at = self.now;
        self.results.clear();
        self.probes = 0;
        match state {
            BreakerState::Open => self.openings += 1,
            BreakerState::Closed => self.openings = 0,
            _ => {}
        }
    }

    fn open_left(&self) -> Nanos {
        let open_time = match self.config.open_time() {
            OpenTime::Constant(time) => time,
            OpenTime::Growing { first, factor, cap } => {
                (1..self.openings).fold(first, |time, _| time.mul_f64(factor).min(cap))
            }
        };
        (self.entered_at + nanos(open_time)).saturating_sub(self.now)
    }

    fn look(&mut self) {
        if self.state == BreakerState::Open && self.open_left() == 0 {
            self.enter(BreakerState::HalfOpen);
        }
    }

    fn acquire(&mut self) -> Result<Admitted, (BreakerState, Option<Duration>)> {
        self.look();
        let refused = match self.state {
            BreakerState::Open => Some(Some(Duration::from_nanos(self.open_left()))),
            BreakerState::ForcedOpen => Some(None),
            BreakerState::HalfOpen if self.probes == self.config.half_open_permits() => Some(None),
            _ => None,
        };
        if let Some(retry_after) = refused {
            self.totals[3] += 1;
            return Err((self.state, retry_after));
        }
        self.probes += 1;
        Ok(Admitted {
            era: self.era,
            state: self.state,
        })
    }

    fn settle(&mut self, call: Admitted, verdict: Verdict) {
        self.look();
        if call.state == BreakerState::Disabled {
            return;
        }
        self.totals[verdict as usize] += 1;
        if call.era != self.era {
            self.totals[4] += 1;
            return;
        }
        self.probes -= 1;
        if verdict != Verdict::Cancelled {
            self.results.push((self.now, verdict == Verdict::Failure));
        }
        match self.state {
            BreakerState::Closed if verdict != Verdict::Cancelled && self.must_open() => {
                self.enter(BreakerState::Open);
            }
            BreakerState::HalfOpen if verdict == Verdict::Failure => self.enter(BreakerState::Open),
            BreakerState::HalfOpen
                if self.results.len() >= self.config.successes_to_close() as usize =>
            {
                self.enter(BreakerState::Closed);
            }
            _ => {}
        }
    }

    fn must_open(&self) -> bool {
        let (ratio, min_calls, recent) = match *self.config.trip() {
            Trip::Consecutive(limit) => {
                return self
                    .results
                    .iter()
                    .rev()
                    .take_while(|(_, failed)| *failed)
                    .count()
                    >= limit as usize;
            }
            Trip::FailureRate {
                ratio,
                window: Window::Calls(calls),
                min_calls,
            } => {
                let recent: Vec<_> = self.results.iter().rev().take(calls as usize).collect();
                (ratio, min_calls, recent)
            }
            Trip::FailureRate {
                ratio,
                window: Window::Time(time),
                min_calls,
            } => {
                let part = nanos(time).div_ceil(16);
                let recent = self
                    .results
                    .iter()
                    .filter(|(at, _)| self.now / part - at / part < 16)
                    .collect();
                (ratio, min_calls, recent)
            }
        };
        let failures = recent.iter().filter(|(_, failed)| *failed).count();
        recent.len() >= min_calls as usize && failures as f64 / recent.len() as f64 >= ratio
    }

    fn command(&mut self, command: Command) {
        self.look();
        let to = match command {
            Command::Trip => match self.state {
                BreakerState::Closed | BreakerState::HalfOpen => BreakerState::Open,
                _ => return,
            },
            Command::ForceOpen => BreakerState::ForcedOpen,
            Command::ForceClosed => BreakerState::ForcedClosed,
            Command::Disable => BreakerState::Disabled,
            Command::Reset => BreakerState::Closed,
        };
        if to != self.state || command == Command::Reset {
            self.enter(to);
        }
    }
}

/// Runs the same operations on a subject and on the model.
pub(crate) async fn check<S: Subject>(
    mut subject: S,
    config: BreakerConfig,
    ops: Vec<Op>,
) -> Result<(), TestCaseError> {
    let mut model = Model::new(config);
    let mut running: Vec<(S::Call, Admitted)> = Vec::new();
    for op in ops {
        match op {
            Op::Acquire(callers) => {
                for _ in 0..callers {
                    match (subject.acquire(), model.acquire()) {
                        (Ok(call), Ok(admitted)) => running.push((call, admitted)),
                        (Err(refused), Err(expected)) => prop_assert_eq!(refused, expected),
                        (given, expected) => prop_assert!(
                            false,
                            "admitted: {}, but the model: {} ({:?})",
                            given.is_ok(),
                            expected.is_ok(),
                            model.state
                        ),
                    }
                }
            }
            Op::Settle(_, _) if running.is_empty() => {}
            Op::Settle(pick, verdict) => {
                let (call, admitted) = running.swap_remove(usize::from(pick) % running.len());
                subject.settle(call, verdict);
                model.settle(admitted, verdict);
            }
            Op::Advance(nanos) => {
                subject.advance(Duration::from_nanos(nanos.into())).await;
                model.now += u64::from(nanos);
            }
            Op::Command(command) => {
                let after = subject.command(command);
                model.command(command);
                prop_assert_eq!(after, model.state);
            }
        }
        let mut derived = model.state;
        if derived == BreakerState::Open && model.open_left() == 0 {
            derived = BreakerState::HalfOpen;
        }
        prop_assert_eq!(subject.state(), derived, "after {:?}", op);
        if let Some(totals) = subject.totals() {
            prop_assert_eq!(totals, model.totals, "after {:?}", op);
        }
    }

    // However it went, it is not stuck: when every call has ended and time has passed a call is admitted, unless
    // somebody ordered otherwise.
    for (call, admitted) in running {
        subject.settle(call, Verdict::Cancelled);
        model.settle(admitted, Verdict::Cancelled);
    }
    subject.advance(Duration::from_secs(1)).await;
    model.now += 1_000_000_000;
    let probe = subject.acquire();
    prop_assert_eq!(probe.is_ok(), model.state != BreakerState::ForcedOpen);
    prop_assert_eq!(probe.is_ok(), model.acquire().is_ok());
    prop_assert_eq!(subject.transitions(), model.transitions);
    Ok(())
}
