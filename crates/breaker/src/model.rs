//! A simple model of a breaker, and a driver that holds a subject against it.
//!
//! The model keeps every result since its last move and counts them anew each time; it knows nothing of words,
//! lights and tallies.

mod ops;

use std::time::Duration;

use proptest::prelude::*;

use crate::counters::Totals;
use crate::machine::{Command, Nanos, Verdict, nanos};
use crate::{AfterOpen, BreakerConfig, BreakerState, OpenTime, Trip, Window};

pub(crate) use self::ops::{Op, configs, ops};

/// What is held against the model.
pub(crate) trait Subject {
    type Call;
    fn acquire(&mut self) -> Result<Self::Call, (BreakerState, Option<Duration>)>;
    fn settle(&mut self, call: Self::Call, verdict: Verdict);
    fn report(&mut self, verdict: Verdict);
    fn configure(&mut self, config: BreakerConfig);
    async fn advance(&mut self, by: Duration);
    fn command(&mut self, command: Command) -> BreakerState;
    fn state(&mut self) -> BreakerState;
    fn transitions(&mut self) -> u64;
    /// How often it said that the trip condition was met and opened nothing.
    fn met(&mut self) -> u64;
    /// The totals, where the subject counts them.
    fn totals(&mut self) -> Option<Totals>;
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
    results: Vec<Heard>,
    probes: u32,
    /// How often the trip condition was met and opened nothing.
    met: u64,
    totals: Totals,
}

#[derive(Clone, Copy)]
struct Heard {
    at: Nanos,
    failed: bool,
    took: Option<Nanos>,
}

#[derive(Clone, Copy)]
struct Admitted {
    at: Nanos,
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
            met: 0,
            totals: Totals::default(),
        }
    }

    fn enter(&mut self, state: BreakerState) {
        self.results.clear();
        self.enter_with_results(state);
    }

    fn enter_with_results(&mut self, state: BreakerState) {
        self.transitions += u64::from(state != self.state);
        self.state = state;
        self.era += 1;
        self.entered_at = self.now;
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

    /// The state that whoever looks finds.
    fn derived(&self) -> BreakerState {
        match (self.state, self.config.after_open()) {
            (BreakerState::Open, _) if self.open_left() > 0 => BreakerState::Open,
            (BreakerState::Open, AfterOpen::HalfOpen) => BreakerState::HalfOpen,
            (BreakerState::Open, AfterOpen::Closed) => BreakerState::Closed,
            (state, _) => state,
        }
    }

    fn look(&mut self) {
        if self.derived() != self.state {
            self.enter(self.derived());
        }
    }

    fn injects(&self) -> bool {
        self.state == BreakerState::Closed && self.config.injected_refusals() > 0.0
    }

    fn acquire(&mut self) -> Result<Admitted, (BreakerState, Option<Duration>)> {
        self.look();
        let refused = match self.state {
            BreakerState::Open => Some(Some(Duration::from_nanos(self.open_left()))),
            BreakerState::ForcedOpen => Some(None),
            BreakerState::HalfOpen if self.probes == self.config.half_open_permits() => Some(None),
            _ if self.injects() => Some(None),
            _ => None,
        };
        if let Some(retry_after) = refused {
            self.totals.refused += 1;
            self.totals.injected += u64::from(self.injects());
            return Err((self.state, retry_after));
        }
        self.probes += 1;
        Ok(Admitted {
            at: self.now,
            era: self.era,
            state: self.state,
        })
    }

    fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Success => &mut self.totals.successes,
            Verdict::Failure => &mut self.totals.failures,
            Verdict::Cancelled => &mut self.totals.cancelled,
        };
        *counter += 1;
    }

    fn settle(&mut self, call: Admitted, verdict: Verdict) {
        self.look();
        if call.state == BreakerState::Disabled {
            return;
        }
        self.count(verdict);
        if call.era != self.era {
            self.totals.late += 1;
            return;
        }
        self.probes -= 1;
        if verdict == Verdict::Cancelled || self.state == BreakerState::ForcedClosed {
            return;
        }
        let took = self.now - call.at;
        let is_slow = shortest(self.config.trip()).is_some_and(|threshold| took > threshold);
        self.totals.slow += u64::from(is_slow);
        let failed = verdict == Verdict::Failure;
        if self.state != BreakerState::HalfOpen {
            self.hear(failed, Some(took));
        } else if failed || is_slow {
            self.enter(BreakerState::Open);
        } else {
            self.results.push(Heard {
                at: self.now,
                failed,
                took: None,
            });
            if self.results.len() >= self.config.successes_to_close() as usize {
                self.enter(BreakerState::Closed);
            }
        }
    }

    fn report(&mut self, verdict: Verdict) {
        self.look();
        if self.state == BreakerState::Disabled {
            return;
        }
        self.count(verdict);
        self.totals.reported += 1;
        let judges = matches!(
            self.state,
            BreakerState::Closed | BreakerState::Open | BreakerState::MetricsOnly
        );
        if judges && verdict != Verdict::Cancelled {
            self.hear(verdict == Verdict::Failure, None);
        }
    }

    fn hear(&mut self, failed: bool, took: Option<Nanos>) {
        self.results.push(Heard {
            at: self.now,
            failed,
            took,
        });
        if !self.is_met(self.config.trip()) {
            return;
        }
        if self.state == BreakerState::Closed {
            self.enter_with_results(BreakerState::Open);
            return;
        }
        self.met += 1;
        if self.state == BreakerState::MetricsOnly {
            self.results.clear();
        }
    }

    /// Whether the last result heard meets the condition.
    fn is_met(&self, trip: &Trip) -> bool {
        let last = self.results.last().unwrap();
        let rate = |bad: &dyn Fn(&&Heard) -> bool, heard: Vec<&Heard>, ratio, window, min_calls| {
            let recent: Vec<_> = match window {
                Window::Calls(calls) => heard.into_iter().rev().take(calls as usize).collect(),
                Window::Time(time) => {
                    let part = nanos(time).div_ceil(16);
                    let is_recent = |it: &&Heard| self.now / part - it.at / part < 16;
                    heard.into_iter().filter(is_recent).collect()
                }
            };
            let calls = recent.len();
            let bad = recent.into_iter().filter(bad).count();
            calls >= min_calls as usize && bad as f64 / calls as f64 >= ratio
        };
        let results = self.results.iter();
        match *trip {
            Trip::Never => false,
            Trip::Consecutive(limit) => {
                results.rev().take_while(|it| it.failed).count() >= limit as usize
            }
            Trip::Failures { count, within } => {
                let is_young = |it: &&Heard| it.failed && self.now - it.at < nanos(within);
                last.failed && results.filter(is_young).count() >= count as usize
            }
            Trip::FailureRate {
                ratio,
                window,
                min_calls,
            } => rate(&|it| it.failed, results.collect(), ratio, window, min_calls),
            Trip::SlowRate {
                slower_than,
                ratio,
                window,
                min_calls,
            } => {
                let is_slow = |it: &&Heard| it.took > Some(nanos(slower_than));
                let timed = results.filter(|it| it.took.is_some()).collect();
                last.took.is_some() && rate(&is_slow, timed, ratio, window, min_calls)
            }
            Trip::AnyOf(ref conditions) => conditions.iter().any(|it| self.is_met(it)),
        }
    }

    fn configure(&mut self, config: BreakerConfig) {
        self.look();
        self.config = config;
        self.openings = 0;
        match self.state {
            BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen => {
                self.enter(BreakerState::Closed);
            }
            BreakerState::MetricsOnly => self.enter(BreakerState::MetricsOnly),
            BreakerState::ForcedOpen | BreakerState::ForcedClosed | BreakerState::Disabled => {}
        }
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
            Command::OnlyMeasure => BreakerState::MetricsOnly,
            Command::Reset => BreakerState::Closed,
        };
        if to != self.state || command == Command::Reset {
            self.enter(to);
        }
    }
}

/// The time above which a call is slow.
fn shortest(trip: &Trip) -> Option<Nanos> {
    match trip {
        Trip::SlowRate { slower_than, .. } => Some(nanos(*slower_than)),
        Trip::AnyOf(conditions) => conditions.iter().filter_map(shortest).min(),
        _ => None,
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
        match op.clone() {
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
            Op::Report(verdict) => {
                subject.report(verdict);
                model.report(verdict);
            }
            Op::Configure(config) => {
                subject.configure(config.clone());
                model.configure(config);
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
        prop_assert_eq!(subject.state(), model.derived(), "after {:?}", op);
        prop_assert_eq!(subject.met(), model.met, "after {:?}", op);
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
    let expected = model.acquire();
    let must_refuse = model.state == BreakerState::ForcedOpen || model.injects();
    prop_assert_eq!(probe.is_ok(), !must_refuse);
    prop_assert_eq!(probe.is_ok(), expected.is_ok());
    prop_assert_eq!(subject.transitions(), model.transitions);
    Ok(())
}
