//! The decisions: what a breaker does on each input at each time.
//!
//! No clock, no actor, no lock: time comes in as nanoseconds since the breaker was made, and does not go backwards.
//! What is left to chance follows from a seed.

mod step;

use std::time::Duration;

use crate::tally::{ALWAYS, NEVER, Sample, Tally};
use crate::{AfterOpen, BreakerConfig, BreakerState};

pub(crate) use self::step::{Answer, Cause, Command, Input, Move, Step, Timing, Verdict};

/// Nanoseconds since the breaker was made.
pub(crate) type Nanos = u64;

/// Answers with the time. It is asked only where the time matters, as reading it costs more than the rest of a step.
pub(crate) type Clock<'a> = &'a dyn Fn() -> Nanos;

/// Ends at 584 years.
pub(crate) fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Counts the moves of a breaker, so that a result can be matched with the state in which its call was admitted.
pub(crate) type Generation = u64;

#[derive(Debug)]
pub(crate) struct Machine {
    config: BreakerConfig,
    phase: Phase,
    generation: Generation,
    /// Openings in a row without a close in between: what a growing open time grows by.
    openings: u32,
    transitions: u64,
    /// Above this a call is slow.
    slow_threshold: Option<Nanos>,
    /// Of all successes so far those that the tally has heard of, or is not to hear of.
    heard: u64,
    random: fastrand::Rng,
}

#[derive(Debug)]
enum Phase {
    Closed(Tally),
    /// The tally goes on for what is reported without a permit; nothing else ends in this generation.
    Open {
        until: Nanos,
        tally: Tally,
    },
    HalfOpen {
        in_flight: u32,
        successes: u32,
    },
    ForcedOpen,
    ForcedClosed,
    Disabled,
    MetricsOnly(Tally),
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
            Self::MetricsOnly(_) => BreakerState::MetricsOnly,
        }
    }
}

impl Machine {
    pub(crate) fn new(config: BreakerConfig, seed: u64) -> Self {
        let phase = Phase::Closed(Tally::new(config.trip()));
        Self {
            phase,
            generation: 0,
            openings: 0,
            transitions: 0,
            slow_threshold: config.trip().slow_threshold().map(nanos),
            heard: 0,
            random: fastrand::Rng::with_seed(seed),
            config,
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
            Phase::Open { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Until when a success that is not slow may be counted elsewhere, and be heard of with the
    /// [next step](Self::catch_up); see [`Tally::waits_until`].
    pub(crate) fn waits_until(&self) -> Nanos {
        match &self.phase {
            Phase::Closed(tally) | Phase::MetricsOnly(tally) => tally.waits_until(),
            Phase::HalfOpen { .. } => NEVER,
            Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed | Phase::Disabled => {
                ALWAYS
            }
        }
    }

    /// Above which time a call is slow, if any is.
    pub(crate) fn slow_threshold(&self) -> Option<Nanos> {
        self.slow_threshold
    }

    /// Whether it has to [catch up](Self::catch_up) before each step.
    pub(crate) fn counts_successes(&self) -> bool {
        self.config.trip().counts_successes()
    }

    /// Forgets of the successes that it was not told of.
    pub(crate) fn skip_to(&mut self, total: u64) {
        self.heard = self.heard.max(total);
    }

    /// Hears of the successes that it was not told of one by one; `total` are all so far.
    pub(crate) fn catch_up(&mut self, total: u64) {
        // Less than was heard of, where one that was told is not counted yet.
        let unheard = total.saturating_sub(self.heard);
        self.heard += unheard;
        if let Phase::Closed(tally) | Phase::MetricsOnly(tally) = &mut self.phase {
            tally.succeed(unheard);
        }
    }

    /// Whether it matters how long a call that is admitted now takes.
    pub(crate) fn is_timed(&self) -> bool {
        self.slow_threshold.is_some()
            && matches!(
                self.phase,
                Phase::Closed(_) | Phase::HalfOpen { .. } | Phase::MetricsOnly(_)
            )
    }

    /// Whether some calls are refused though the breaker is closed.
    pub(crate) fn injects(&self) -> bool {
        matches!(self.phase, Phase::Closed(_)) && self.config.injected_refusals() > 0.0
    }

    /// Whether a breaker made anew would do the same from now on.
    pub(crate) fn is_as_new(&self, now: Nanos) -> bool {
        matches!(&self.phase, Phase::Closed(tally) if tally.is_blank(now))
    }

    /// Whether every probe place is taken.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { in_flight, .. } if in_flight >= self.config.half_open_permits())
    }

    pub(crate) fn step(&mut self, input: Input, now: Clock<'_>) -> Step {
        // An empty vector does not allocate, and most steps move nothing.
        let mut moves = Vec::new();
        // Whoever comes first after the open time finds the breaker half-open, and is the first probe; or closed.
        if self.open_until().is_some_and(|until| now() >= until) {
            match self.config.after_open() {
                AfterOpen::HalfOpen => {
                    let probing = Phase::HalfOpen {
                        in_flight: 0,
                        successes: 0,
                    };
                    self.go(probing, Cause::OpenTimeOver, &mut moves);
                }
                AfterOpen::Closed => self.close(Cause::OpenTimeOver, &mut moves),
            }
        }
        let answer = match input {
            Input::Acquire => self.acquire(now),
            Input::Settle(generation, verdict, timing) => {
                self.settle(generation, verdict, timing, now, &mut moves)
            }
            Input::Report(verdict) => {
                self.report(verdict, now, &mut moves);
                Answer::Done
            }
            Input::Tick => Answer::Done,
            Input::Command(command) => {
                self.command(command, now, &mut moves);
                Answer::Done
            }
            Input::Configure(config, seed) => {
                self.configure(*config, seed, &mut moves);
                Answer::Done
            }
        };
        Step { answer, moves }
    }

    fn acquire(&mut self, now: Clock<'_>) -> Answer {
        let refused = |state, retry_after| Answer::Refused {
            state,
            retry_after,
            injected: false,
        };
        let state = self.phase.state();
        match &mut self.phase {
            Phase::Closed(_) => {
                let share = self.config.injected_refusals();
                if share > 0.0 && self.random.f64() < share {
                    return Answer::Refused {
                        state,
                        retry_after: None,
                        injected: true,
                    };
                }
                Answer::Admitted
            }
            Phase::ForcedClosed | Phase::Disabled | Phase::MetricsOnly(_) => Answer::Admitted,
            Phase::Open { until, .. } => {
                let wait = Duration::from_nanos(until.saturating_sub(now()));
                refused(state, Some(wait))
            }
            Phase::HalfOpen { in_flight, .. } => {
                if *in_flight < self.config.half_open_permits() {
                    // Reserved before the call runs.
                    *in_flight += 1;
                    Answer::Admitted
                } else {
                    refused(state, None)
                }
            }
            Phase::ForcedOpen => refused(state, None),
        }
    }

    fn settle(
        &mut self,
        generation: Generation,
        verdict: Verdict,
        timing: Timing,
        now: Clock<'_>,
        moves: &mut Vec<Move>,
    ) -> Answer {
        if generation != self.generation {
            return Answer::Late;
        }
        self.hear_counted(verdict);
        let is_timed = self.is_timed();
        let took = is_timed.then(|| timing.took(now)).flatten();
        let slow = verdict != Verdict::Cancelled && took.is_some() && took > self.slow_threshold;
        match &mut self.phase {
            Phase::Closed(_) | Phase::MetricsOnly(_) => self.judge(verdict, took, now, moves),
            Phase::HalfOpen {
                in_flight,
                successes,
            } => {
                *in_flight = in_flight.saturating_sub(1);
                match verdict {
                    Verdict::Success if !slow => {
                        *successes += 1;
                        if *successes >= self.config.successes_to_close() {
                            self.close(Cause::ProbesSucceeded, moves);
                        }
                    }
                    Verdict::Success | Verdict::Failure => {
                        let tally = Tally::new(self.config.trip());
                        self.open(tally, Cause::ProbeFailed, now, moves);
                    }
                    Verdict::Cancelled => {}
                }
            }
            // The first two admit nothing, so no call is of their generation; the others do not judge.
            Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed | Phase::Disabled => {}
        }
        Answer::Judged { slow }
    }

    /// Hears of the service from somebody who holds no permit.
    ///
    /// That is no probe, so it decides nothing about a half-open breaker.
    fn report(&mut self, verdict: Verdict, now: Clock<'_>, moves: &mut Vec<Move>) {
        if !matches!(self.phase, Phase::Disabled) {
            self.hear_counted(verdict);
        }
        self.judge(verdict, None, now, moves);
    }

    /// A success that it is told of is counted as well.
    fn hear_counted(&mut self, verdict: Verdict) {
        self.heard += u64::from(verdict == Verdict::Success);
    }

    /// Lets the trip condition hear of a result, and opens the breaker if it is met and may.
    fn judge(
        &mut self,
        verdict: Verdict,
        took: Option<Nanos>,
        now: Clock<'_>,
        moves: &mut Vec<Move>,
    ) {
        let failed = match verdict {
            Verdict::Success => false,
            Verdict::Failure => true,
            Verdict::Cancelled => return,
        };
        let state = self.phase.state();
        let (Phase::Closed(tally) | Phase::Open { tally, .. } | Phase::MetricsOnly(tally)) =
            &mut self.phase
        else {
            return;
        };
        let Some(met) = tally.record(Sample { failed, took }, now) else {
            return;
        };
        let cause = Cause::TripCondition(met);
        if state == BreakerState::Closed {
            let tally = std::mem::replace(tally, Tally::Nothing);
            self.open(tally, cause, now, moves);
            return;
        }
        if state == BreakerState::MetricsOnly {
            // As if it had opened and closed again; or every further result would say the same.
            *tally = Tally::new(self.config.trip());
        }
        moves.push(Move {
            from: state,
            to: state,
            cause,
            open_for: None,
        });
    }

    fn command(&mut self, command: Command, now: Clock<'_>, moves: &mut Vec<Move>) {
        match (command, &self.phase) {
            (Command::Trip, Phase::Closed(_) | Phase::HalfOpen { .. }) => {
                let tally = Tally::new(self.config.trip());
                self.open(tally, Cause::Command, now, moves);
            }
            // A trip does not prolong an open time, and does not overrule what was forced.
            (Command::Trip, _) => {}
            (Command::ForceOpen, Phase::ForcedOpen)
            | (Command::ForceClosed, Phase::ForcedClosed)
            | (Command::Disable, Phase::Disabled)
            | (Command::OnlyMeasure, Phase::MetricsOnly(_)) => {}
            (Command::ForceOpen, _) => self.go(Phase::ForcedOpen, Cause::Command, moves),
            (Command::ForceClosed, _) => self.go(Phase::ForcedClosed, Cause::Command, moves),
            (Command::Disable, _) => self.go(Phase::Disabled, Cause::Command, moves),
            (Command::OnlyMeasure, _) => {
                let tally = Tally::new(self.config.trip());
                self.go(Phase::MetricsOnly(tally), Cause::Command, moves);
            }
            // Also when closed: its failures so far, and the results still to come, count no more.
            (Command::Reset, _) => self.close(Cause::Command, moves),
        }
    }

    /// Takes other settings. What the breaker decided by the old ones is forgotten; what it was told stays.
    fn configure(&mut self, config: BreakerConfig, seed: Option<u64>, moves: &mut Vec<Move>) {
        self.slow_threshold = config.trip().slow_threshold().map(nanos);
        self.config = config;
        if let Some(seed) = seed {
            self.random = fastrand::Rng::with_seed(seed);
        }
        self.openings = 0;
        match &mut self.phase {
            Phase::Closed(_) | Phase::Open { .. } | Phase::HalfOpen { .. } => {
                self.close(Cause::Reconfigured, moves);
            }
            Phase::MetricsOnly(tally) => {
                *tally = Tally::new(self.config.trip());
                // Calls that run were not timed for these settings.
                self.generation += 1;
            }
            Phase::ForcedOpen | Phase::ForcedClosed | Phase::Disabled => {}
        }
    }

    fn open(&mut self, tally: Tally, cause: Cause, now: Clock<'_>, moves: &mut Vec<Move>) {
        self.openings = self.openings.saturating_add(1);
        let mut time = self.config.open_time().after_opening(self.openings);
        let jitter = self.config.open_time_jitter();
        if jitter > 0.0 {
            time = time.mul_f64(1.0 - jitter * self.random.f64());
        }
        let until = now().saturating_add(nanos(time));
        self.go(Phase::Open { until, tally }, cause, moves);
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
#[cfg(not(loom))]
mod tests;
