//! The decisions: what a breaker does on each input at each time.
//!
//! No clock, no actor, no lock: time comes in as nanoseconds since the breaker was made, and does not go backwards.

use std::time::Duration;

use crate::tally::Tally;
use crate::{BreakerConfig, BreakerState};

/// Nanoseconds since the breaker was made.
pub(crate) type Nanos = u64;

/// Ends at 584 years.
pub(crate) fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Counts the moves of a breaker, so that a result can be matched with the state in which its call was admitted.
pub(crate) type Generation = u64;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    /// A call asks to run.
    Acquire,
    /// An admitted call has ended.
    Settle(Generation, Verdict),
    /// Somebody looks whether the open time is over.
    Tick,
    Command(Command),
}

/// How an admitted call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure,
    Cancelled,
}

/// What an operator may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Trip,
    ForceOpen,
    ForceClosed,
    Disable,
    Reset,
}

/// What comes of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) answer: Answer,
    /// In order; at most two.
    pub(crate) moves: Vec<Move>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To `Acquire`: run.
    Admitted,
    /// To `Acquire`: do not run.
    Refused {
        state: BreakerState,
        retry_after: Option<Duration>,
    },
    /// To `Settle`: the call belongs to the present generation.
    Judged,
    /// To `Settle`: the breaker has moved since the call was admitted, so its result says nothing about now.
    Late,
    /// To everything else.
    Done,
}

/// The breaker went from one state to another, or was reset where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
    pub(crate) cause: Cause,
    /// How long an open breaker refuses.
    pub(crate) open_for: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    TripCondition,
    ProbeFailed,
    ProbesSucceeded,
    OpenTimeOver,
    Command,
}

#[derive(Debug)]
pub(crate) struct Machine {
    config: BreakerConfig,
    phase: Phase,
    generation: Generation,
    /// Openings in a row without a close in between: what a growing open time grows by.
    openings: u32,
    transitions: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(Tally),
    Open { until: Nanos },
    HalfOpen { in_flight: u32, successes: u32 },
    ForcedOpen,
    ForcedClosed,
    Disabled,
}

impl Phase {
    fn state(&self) -> BreakerState {
        match self {
            Self::Closed(_) => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
            Self::ForcedOpen => BreakerState::ForcedOpen,
            Self::ForcedClosed => BreakerState::ForcedClosed,
            Self::Disabled => BreakerState::Disabled,
        }
    }
}

impl Machine {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        let phase = Phase::Closed(Tally::new(config.trip()));
        Self {
            config,
            phase,
            generation: 0,
            openings: 0,
            transitions: 0,
        }
    }

    /// The state as of the last step; an open time may have ended since.
    pub(crate) fn state(&self) -> BreakerState {
        self.phase.state()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn transitions(&self) -> u64 {
        self.transitions
    }

    pub(crate) fn config(&self) -> &BreakerConfig {
        &self.config
    }

    pub(crate) fn open_until(&self) -> Option<Nanos> {
        match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Whether a success now would change nothing.
    pub(crate) fn ignores_success(&self) -> bool {
        matches!(&self.phase, Phase::Closed(tally) if tally.ignores_success())
    }

    /// Whether every probe place is taken.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { in_flight, .. } if in_flight >= self.config.half_open_permits())
    }

    pub(crate) fn step(&mut self, input: Input, now: Nanos) -> Step {
        // An empty vector does not allocate, and most steps move nothing.
        let mut moves = Vec::new();
        // Whoever comes first after the open time finds the breaker half-open; a call then is the first probe.
        if self.open_until().is_some_and(|until| now >= until) {
            self.go(
                Phase::HalfOpen {
                    in_flight: 0,
                    successes: 0,
                },
                Cause::OpenTimeOver,
                &mut moves,
            );
        }
        let answer = match input {
            Input::Acquire => self.acquire(now),
            Input::Settle(generation, verdict) => self.settle(generation, verdict, now, &mut moves),
            Input::Tick => Answer::Done,
            Input::Command(command) => {
                self.command(command, now, &mut moves);
                Answer::Done
            }
        };
        Step { answer, moves }
    }

    fn acquire(&mut self, now: Nanos) -> Answer {
        let state = self.phase.state();
        match &mut self.phase {
            Phase::Closed(_) | Phase::ForcedClosed | Phase::Disabled => Answer::Admitted,
            Phase::Open { until } => Answer::Refused {
                state,
                retry_after: Some(Duration::from_nanos(until.saturating_sub(now))),
            },
            Phase::HalfOpen { in_flight, .. } => {
                if *in_flight < self.config.half_open_permits() {
                    // Reserved before the call runs.
                    *in_flight += 1;
                    Answer::Admitted
                } else {
                    Answer::Refused {
                        state,
                        retry_after: None,
                    }
                }
            }
            Phase::ForcedOpen => Answer::Refused {
                state,
                retry_after: None,
            },
        }
    }

    fn settle(
        &mut self,
        generation: Generation,
        verdict: Verdict,
        now: Nanos,
        moves: &mut Vec<Move>,
    ) -> Answer {
        if generation != self.generation {
            return Answer::Late;
        }
        match &mut self.phase {
            Phase::Closed(tally) => {
                if verdict != Verdict::Cancelled && tally.record(verdict == Verdict::Failure, now) {
                    self.open(Cause::TripCondition, now, moves);
                }
            }
            Phase::HalfOpen {
                in_flight,
                successes,
            } => {
                *in_flight = in_flight.saturating_sub(1);
                match verdict {
                    Verdict::Success => {
                        *successes += 1;
                        if *successes >= self.config.successes_to_close() {
                            self.close(Cause::ProbesSucceeded, moves);
                        }
                    }
                    Verdict::Failure => self.open(Cause::ProbeFailed, now, moves),
                    Verdict::Cancelled => {}
                }
            }
            // The first two admit nothing, so no call is of their generation; the others do not judge.
            Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed | Phase::Disabled => {}
        }
        Answer::Judged
    }

    fn command(&mut self, command: Command, now: Nanos, moves: &mut Vec<Move>) {
        match (command, &self.phase) {
            (Command::Trip, Phase::Closed(_) | Phase::HalfOpen { .. }) => {
                self.open(Cause::Command, now, moves)
            }
            // A trip does not prolong an open time, and does not overrule what was forced.
            (Command::Trip, _) => {}
            (Command::ForceOpen, Phase::ForcedOpen)
            | (Command::ForceClosed, Phase::ForcedClosed)
            | (Command::Disable, Phase::Disabled) => {}
            (Command::ForceOpen, _) => self.go(Phase::ForcedOpen, Cause::Command, moves),
            (Command::ForceClosed, _) => self.go(Phase::ForcedClosed, Cause::Command, moves),
            (Command::Disable, _) => self.go(Phase::Disabled, Cause::Command, moves),
            // Also when closed: its failures so far, and the results still to come, count no more.
            (Command::Reset, _) => self.close(Cause::Command, moves),
        }
    }

    fn open(&mut self, cause: Cause, now: Nanos, moves: &mut Vec<Move>) {
        self.openings = self.openings.saturating_add(1);
        let time = self.config.open_time().after_opening(self.openings);
        let until = now.saturating_add(nanos(time));
        self.go(Phase::Open { until }, cause, moves);
        if let Some(opened) = moves.last_mut() {
            opened.open_for = Some(time);
        }
    }

    fn close(&mut self, cause: Cause, moves: &mut Vec<Move>) {
        self.openings = 0;
        self.go(Phase::Closed(Tally::new(self.config.trip())), cause, moves);
    }

    /// Enters a phase. Every entry begins a generation, so results of calls admitted before are late.
    fn go(&mut self, phase: Phase, cause: Cause, moves: &mut Vec<Move>) {
        let (from, to) = (self.phase.state(), phase.state());
        self.phase = phase;
        self.generation += 1;
        self.transitions += u64::from(from != to);
        moves.push(Move {
            from,
            to,
            cause,
            open_for: None,
        });
    }
}

#[cfg(test)]
mod tests;
