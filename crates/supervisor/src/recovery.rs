//! What is decided when a child must be restarted: at once, later, parked, or that the supervisor gives up.

use std::time::Duration;

use perennial_lifecycle::{ActorPath, ChildSpec, Moment};

use crate::intensity::RestartWindow;
use crate::schedule::Schedule;

/// What goes beyond OTP for one child, and what it remembers of the child's last ends.
#[derive(Debug)]
pub(crate) struct Recovery {
    backoff: Option<Schedule>,
    budget: Option<RestartWindow>,
    quarantine: Option<(Schedule, Duration)>,
    /// It has been parked, and has not run long enough since.
    on_trial: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Restart,
    Delay { delay: Duration, attempt: u32 },
    Park { delay: Duration, attempt: u32 },
    GiveUp,
}

impl Recovery {
    /// Returns `None` for a child that asks for nothing beyond OTP.
    pub(crate) fn of(spec: &ChildSpec, place: &ActorPath) -> Option<Box<Self>> {
        let recovery = Self {
            backoff: spec
                .backoff_setting()
                .map(|backoff| Schedule::new(backoff, place)),
            budget: spec.budget_setting().map(RestartWindow::new),
            quarantine: spec
                .quarantine_setting()
                .map(|it| (Schedule::new(it.times(), place), it.trial_time())),
            on_trial: false,
        };
        let asks = recovery.backoff.is_some()
            || recovery.budget.is_some()
            || recovery.quarantine.is_some();
        asks.then(|| Box::new(recovery))
    }

    /// Decides on one restart. `ran` is how long the child had run; zero for a start that failed.
    fn decide(&mut self, window: &mut RestartWindow, now: Moment, ran: Duration) -> Verdict {
        // A start that failed is no run that has lasted, however short one may be.
        let lasted = |time: Duration| ran >= time && !ran.is_zero();
        if let Some(backoff) = &mut self.backoff
            && lasted(backoff.backoff().stable_after())
        {
            backoff.reset();
        }
        if let Some((times, trial)) = &mut self.quarantine
            && self.on_trial
        {
            if !lasted(*trial) {
                return park(times);
            }
            times.reset();
            self.on_trial = false;
        }
        let within_budget = self.budget.as_mut().is_none_or(|it| it.allow(now));
        if !within_budget || !window.allow(now) {
            let Some((times, _)) = &mut self.quarantine else {
                return Verdict::GiveUp;
            };
            self.on_trial = true;
            // What brought it here is paid for by the time in quarantine.
            if let Some(budget) = &mut self.budget {
                budget.clear();
            }
            return park(times);
        }
        match &mut self.backoff {
            None => Verdict::Restart,
            Some(backoff) => {
                let (delay, attempt) = backoff.next();
                if delay.is_zero() {
                    Verdict::Restart
                } else {
                    Verdict::Delay { delay, attempt }
                }
            }
        }
    }
}

/// Decides on one restart of a child with or without rules of its own.
pub(crate) fn decide(
    recovery: Option<&mut Recovery>,
    window: &mut RestartWindow,
    now: Moment,
    ran: Duration,
) -> Verdict {
    match recovery {
        Some(recovery) => recovery.decide(window, now, ran),
        None if window.allow(now) => Verdict::Restart,
        None => Verdict::GiveUp,
    }
}

fn park(times: &mut Schedule) -> Verdict {
    let (delay, attempt) = times.next();
    Verdict::Park { delay, attempt }
}

#[cfg(test)]
mod tests;
