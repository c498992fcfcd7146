//! Fuses, made of breakers.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use perennial::breaker::{
    AfterOpen, Alarms, Breaker, BreakerConfig, BreakerConfigError, BreakerEvent, BreakerState,
    Breakers, CircuitOpen, OpenTime, Outcome, Trip,
};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, advance};

use super::record::{Body, Limits, Op, Stats};

/// How often the monitor looks for alarms, in milliseconds.
const MONITOR_PERIOD: u64 = 60_000;
/// How many looks clear an alarm.
const CLEAR_AFTER: NonZeroU32 = NonZeroU32::new(3).unwrap();
/// No recording melts a fuse more often.
const MOST_FAILURES: u64 = 1_000_000;
/// No recording lasts longer.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A breaker must stay open for some time. This stands for none: see [`Stage::advance`].
const NO_TIME: Duration = Duration::from_nanos(1);

/// What came of an operation.
pub(super) struct Ran {
    pub(super) result: Value,
    pub(super) body_ran: Option<bool>,
}

/// Timers fire in the order of their times, in milliseconds; those of one time in the order of their start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    started: u64,
}

/// What a timer is for.
#[derive(Debug)]
enum Timer {
    Monitor,
    OpenTime(Breaker),
}

pub(super) struct Stage {
    breakers: Breakers,
    moves: broadcast::Receiver<BreakerEvent>,
    events: Vec<(String, String)>,
    /// Breakers that were removed are asked for their totals; a successor takes the place.
    removed: BTreeMap<String, Breaker>,
    /// When each open breaker opened, as the number of the timer that it then started.
    opened: BTreeMap<String, u64>,
    timers_started: u64,
    monitor: Due,
    alarms: Alarms,
    origin: Instant,
    time: u64,
    /// How far the clock is ahead of `time`: far less than a millisecond, and nothing else is finer than that.
    ahead: Duration,
}

impl Stage {
    pub(super) fn new() -> Self {
        let breakers = Breakers::new();
        Self {
            moves: breakers.events(),
            breakers,
            events: Vec::new(),
            removed: BTreeMap::new(),
            opened: BTreeMap::new(),
            timers_started: 0,
            monitor: Due {
                at: MONITOR_PERIOD,
                started: 0,
            },
            alarms: Alarms::new(CLEAR_AFTER),
            origin: Instant::now(),
            time: 0,
            ahead: Duration::ZERO,
        }
    }

    pub(super) async fn perform(&mut self, op: &Op) -> Ran {
        let mut body_ran = None;
        let result = match op {
            Op::Install { fuse, limits } => self.install(fuse, *limits, 0.0),
            Op::InstallFaultInjection {
                fuse,
                rate_percent,
                limits,
            } => {
                let share = rate_percent / 100.0;
                if share > 0.0 && share <= 1.0 && limits.max_r > 0 {
                    self.install(fuse, *limits, share)
                } else {
                    json!("badarg")
                }
            }
            // Nobody takes a breaker away between the question and the answer, so there is one way to ask.
            Op::Ask { fuse } => self.with(fuse, |breaker| match breaker.try_acquire() {
                Ok(permit) => {
                    drop(permit);
                    "ok"
                }
                Err(_) => "blown",
            }),
            Op::Melt { fuse } => {
                if let Some(breaker) = self.breakers.get(fuse) {
                    breaker.report(Outcome::Failure);
                }
                json!("ok")
            }
            Op::Run { fuse, body } => {
                let (result, ran) = self.run(fuse, *body);
                body_ran = Some(ran);
                result
            }
            // A disabled fuse is one that was forced open.
            Op::Reset { fuse } => self.with(fuse, |breaker| {
                if breaker.state() != BreakerState::ForcedOpen {
                    breaker.reset();
                }
                "ok"
            }),
            Op::Disable { fuse } => self.with(fuse, |breaker| {
                breaker.force_open();
                "ok"
            }),
            Op::Enable { fuse } => self.with(fuse, |breaker| {
                if breaker.state() == BreakerState::ForcedOpen {
                    breaker.reset();
                }
                "ok"
            }),
            Op::Remove { fuse } => match self.breakers.remove(fuse) {
                Some(breaker) => {
                    self.removed.insert(fuse.clone(), breaker);
                    json!("ok")
                }
                None => json!("not_found"),
            },
            Op::Advance { ms } => {
                self.advance(*ms).await;
                Value::Null
            }
        };
        self.hear();
        Ran { result, body_ran }
    }

    fn install(&mut self, fuse: &str, limits: Limits, injected: f64) -> Value {
        let Some(config) = config(limits, injected) else {
            return json!("badarg");
        };
        let config = match config {
            Ok(config) => config,
            Err(error) => return json!(error.to_string()),
        };
        if let Some(breaker) = self.breakers.get(fuse) {
            breaker.reconfigure(config);
        } else if let Err(error) = self.breakers.register(fuse, config) {
            return json!(error.to_string());
        } else {
            self.removed.remove(fuse);
        }
        json!("ok")
    }

    fn with(&self, fuse: &str, act: impl FnOnce(&Breaker) -> &'static str) -> Value {
        json!(
            self.breakers
                .get(fuse)
                .map_or("not_found", |breaker| act(&breaker))
        )
    }

    fn run(&self, fuse: &str, body: Body) -> (Value, bool) {
        let Some(breaker) = self.breakers.get(fuse) else {
            return (json!("not_found"), false);
        };
        let mut ran = false;
        let call = || -> Result<Value, CircuitOpen> {
            // What leaves without a word, by unwinding or not, drops it and is no failure.
            let permit = breaker.try_acquire()?;
            ran = true;
            match body {
                Body::Ok => permit.success(),
                Body::Melt => permit.failure(),
                // These do not go through the panic hook.
                Body::Raise => resume_unwind(Box::new("raised")),
                Body::Throw => resume_unwind(Box::new("thrown")),
                Body::Other => return Ok(json!("bad_return")),
            }
            Ok(json!(["ok", "v"]))
        };
        let result = match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => json!("blown"),
            Err(payload) => json!(payload.downcast_ref::<&str>()),
        };
        (result, ran)
    }

    /// Lets time pass, and every timer fire at its own time.
    ///
    /// Time may be moved by nothing, and that ends an open time of nothing: then [`NO_TIME`] has to pass.
    async fn advance(&mut self, ms: u64) {
        self.time += ms;
        if ms == 0 && self.has_no_time_left() {
            self.ahead += NO_TIME;
        }
        while let Some((due, left, timer)) = self.next_timer() {
            if due.at > self.time {
                break;
            }
            advance(left).await;
            match timer {
                Timer::Monitor => {
                    self.alarms.look(
                        self.breakers
                            .iter()
                            .map(|it| (it.name().into(), announced(&it))),
                    );
                    self.timers_started += 1;
                    self.monitor = Due {
                        at: due.at + MONITOR_PERIOD,
                        started: self.timers_started,
                    };
                }
                Timer::OpenTime(breaker) => {
                    breaker.look();
                }
            }
            self.hear();
        }
        let end = Duration::from_millis(self.time) + self.ahead;
        advance(end.saturating_sub(self.origin.elapsed())).await;
    }

    /// Whether a breaker is open that stands for a fuse which heals as soon as time is looked at.
    fn has_no_time_left(&self) -> bool {
        self.breakers.iter().any(|breaker| {
            let open_time = breaker.config().open_time();
            open_time == OpenTime::Constant(NO_TIME) && announced(&breaker) == BreakerState::Open
        })
    }

    /// The next timer, and how long until it fires.
    fn next_timer(&self) -> Option<(Due, Duration, Timer)> {
        let now = self.origin.elapsed();
        let monitor = Duration::from_millis(self.monitor.at).saturating_sub(now);
        let open = self.breakers.iter().filter_map(|breaker| {
            if announced(&breaker) != BreakerState::Open {
                return None;
            }
            let left = breaker.status().retry_after.unwrap_or_default();
            let due = Due {
                at: u64::try_from((now + left).as_millis()).ok()?,
                started: *self.opened.get(breaker.name())?,
            };
            Some((due, left, Timer::OpenTime(breaker)))
        });
        std::iter::once((self.monitor, monitor, Timer::Monitor))
            .chain(open)
            .min_by_key(|(due, ..)| *due)
    }

    /// Reads what the breakers have told.
    fn hear(&mut self) {
        loop {
            match self.moves.try_recv() {
                Ok(event) => {
                    let fuse = event.breaker().to_owned();
                    if matches!(event, BreakerEvent::Opened { .. }) {
                        self.timers_started += 1;
                        self.opened.insert(fuse.clone(), self.timers_started);
                    }
                    let said = self.word(&event);
                    self.events.push((fuse, said));
                }
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    self.events
                        .push((String::new(), format!("{missed} missed")));
                }
                Err(_) => return,
            }
        }
    }

    /// What fuse says for an event.
    fn word(&self, event: &BreakerEvent) -> String {
        match event {
            BreakerEvent::Removed { .. } => "removed".to_owned(),
            _ => fuse_state(event.to(), self.injects(event.breaker())),
        }
    }

    fn injects(&self, fuse: &str) -> bool {
        self.breakers
            .get(fuse)
            .is_some_and(|breaker| breaker.config().injected_refusals() > 0.0)
    }

    pub(super) fn time(&self) -> u64 {
        self.time
    }

    pub(super) fn events(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn states(&self) -> BTreeMap<String, String> {
        let state = |breaker: Breaker| {
            let name = breaker.name().to_owned();
            let state = fuse_state(announced(&breaker), self.injects(&name));
            (name, state)
        };
        self.breakers.iter().map(state).collect()
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        self.alarms.raised().map(str::to_owned).collect()
    }

    /// Counts the answers to the question whether a call may run, and the failures.
    pub(super) fn stats(&self) -> BTreeMap<String, Stats> {
        let stats = |breaker: Breaker| {
            let status = breaker.status();
            let stats = Stats {
                ok: status.successes + status.failures + status.cancelled - status.reported,
                blown: status.refused - status.injected,
                melt: status.failures,
            };
            (status.name, stats)
        };
        let removed = self.removed.values().cloned();
        self.breakers.iter().chain(removed).map(stats).collect()
    }
}

/// The state that was last told, as by a timer that fires when it is let.
fn announced(breaker: &Breaker) -> BreakerState {
    *breaker.watch().borrow()
}

fn fuse_state(state: BreakerState, injects: bool) -> String {
    match state {
        BreakerState::Closed if injects => "gradual".to_owned(),
        BreakerState::Closed => "ok".to_owned(),
        BreakerState::Open | BreakerState::ForcedOpen => "blown".to_owned(),
        other => other.to_string(),
    }
}

/// The settings of a breaker that is to be like a fuse, or `None` for options that are negative.
fn config(limits: Limits, injected: f64) -> Option<Result<BreakerConfig, BreakerConfigError>> {
    let tolerated = u64::try_from(limits.max_r).ok()?;
    let within = Duration::from_millis(u64::try_from(limits.max_t).ok()?);
    let reset = Duration::from_millis(u64::try_from(limits.reset).ok()?);
    let trip = if within.is_zero() {
        // Even the newest failure is too old to count.
        Trip::Never
    } else {
        let count = tolerated.saturating_add(1).min(MOST_FAILURES);
        Trip::Failures {
            count: u32::try_from(count).ok()?,
            within: within.min(LONGEST),
        }
    };
    let config = BreakerConfig::builder()
        .trip(trip)
        .open_time(OpenTime::Constant(reset.clamp(NO_TIME, LONGEST)))
        .after_open(AfterOpen::Closed)
        .injected_refusals(injected)
        .build();
    Some(config)
}
