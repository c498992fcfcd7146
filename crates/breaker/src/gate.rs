//! The admission cell: the machine behind a lock, and before it one word that answers most calls without.

use std::cell::LazyCell;
use std::fmt;
use std::time::Duration;

use crate::machine::{Answer, Command, Generation, Input, Machine, Move, Nanos, Timing, Verdict};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::tally::{ALWAYS, NEVER};
use crate::{AfterOpen, BreakerConfig, BreakerState};

/// What the word says of the state, as far as calls must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Light {
    Closed,
    /// Closed, and some calls are refused on purpose.
    Injecting,
    /// Open until `open_until`.
    Open,
    /// Half-open with a free place.
    Probing,
    /// Half-open with every place taken.
    Full,
    ForcedOpen,
    ForcedClosed,
    Disabled,
    MetricsOnly,
}

const LIGHT: u64 = 0b1111;
/// The machine wants to hear of each success at once.
const HEEDS_SUCCESS: u64 = 1 << 4;
/// It matters how long a call takes.
const TIMED: u64 = 1 << 5;
/// After the open time comes closed, not half-open.
const CLOSES_BY_ITSELF: u64 = 1 << 6;
/// The machine wants to hear of a success at once from some time on.
const DATED: u64 = 1 << 7;
/// All that makes a success more than one of many: clear in the word of a closed breaker that can wait to hear of it.
const HEEDED: u64 = LIGHT | HEEDS_SUCCESS | TIMED | DATED;
const GENERATION: u32 = 8;

/// Everything that a call must know to be admitted or refused without the lock, and that a success must know to end
/// without it: the generation in the upper 56 bits, then four flags, then the light.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn of(machine: &Machine) -> Self {
        let light = match machine.state() {
            BreakerState::Closed if machine.injects() => Light::Injecting,
            BreakerState::Closed => Light::Closed,
            BreakerState::Open => Light::Open,
            BreakerState::HalfOpen if machine.is_full() => Light::Full,
            BreakerState::HalfOpen => Light::Probing,
            BreakerState::ForcedOpen => Light::ForcedOpen,
            BreakerState::ForcedClosed => Light::ForcedClosed,
            BreakerState::Disabled => Light::Disabled,
            BreakerState::MetricsOnly => Light::MetricsOnly,
        };
        let flag = |bit, is_set| if is_set { bit } else { 0 };
        Self(
            machine.generation() << GENERATION
                | flag(HEEDS_SUCCESS, machine.waits_until() == NEVER)
                | flag(DATED, !matches!(machine.waits_until(), NEVER | ALWAYS))
                | flag(TIMED, machine.is_timed())
                | flag(
                    CLOSES_BY_ITSELF,
                    machine.config().after_open() == AfterOpen::Closed,
                )
                | light as u64,
        )
    }

    fn generation(self) -> Generation {
        self.0 >> GENERATION
    }

    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Whether every call is admitted.
    #[inline]
    fn admits(self) -> bool {
        matches!(
            self.light(),
            Light::Closed | Light::ForcedClosed | Light::Disabled | Light::MetricsOnly
        )
    }

    #[inline]
    fn light(self) -> Light {
        match self.0 & LIGHT {
            0 => Light::Closed,
            1 => Light::Injecting,
            2 => Light::Open,
            3 => Light::Probing,
            4 => Light::Full,
            5 => Light::ForcedOpen,
            6 => Light::ForcedClosed,
            7 => Light::Disabled,
            _ => Light::MetricsOnly,
        }
    }
}

/// Proof of admission: the word under which the call was let in, and when if that matters and the breaker is to see; else
/// [`UNTIMED`], for an option is a word more, and is moved through memory where two words stay in registers.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    word: Word,
    started: Nanos,
}

const UNTIMED: Nanos = Nanos::MAX;

impl Ticket {
    #[inline]
    fn new(word: Word) -> Self {
        Self {
            word,
            started: UNTIMED,
        }
    }

    /// Whether it matters how long the call takes.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.word.has(TIMED)
    }

    /// Notes when the call begins, if that matters.
    pub(crate) fn begin(&mut self, now: impl FnOnce() -> Nanos) {
        if self.is_timed() {
            self.started = now();
        }
    }

    /// Whether the call is to leave no trace.
    #[inline]
    pub(crate) fn is_uncounted(self) -> bool {
        self.word.light() == Light::Disabled
    }

    /// The timing of a call that ends now.
    #[inline]
    pub(crate) fn timing(self) -> Timing {
        match self.started {
            UNTIMED => Timing::Unknown,
            started => Timing::Since(started),
        }
    }
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// In time.
    Counted,
    /// In time, and the call was slow.
    Slow,
    /// The breaker has moved since the call was admitted.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) state: BreakerState,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) injected: bool,
}

impl Refusal {
    fn of(state: BreakerState) -> Self {
        Self {
            state,
            retry_after: None,
            injected: false,
        }
    }
}

/// The state at one moment, and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) state: BreakerState,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) transitions: u64,
}

/// Reads the clock, counts, and takes note of moves.
///
/// What the machine asks for, it asks for with the lock held: so its times do not go backwards, and moves are noted in
/// their order.
pub(crate) trait Surroundings {
    fn now(&self) -> Nanos;
    /// Returns how many successes there were so far that were not late. One is counted after it was settled.
    fn successes(&self) -> u64;
    fn moved(&self, moved: &Move);
}

pub(crate) struct Gate {
    word: AtomicU64,
    /// When the open time ends. Read only while the word says open.
    open_until: AtomicU64,
    /// From when on the machine wants to hear of a success at once. Read only where the word says so.
    waits_until: AtomicU64,
    /// A success that took longer is to be heard of at once. Read only while the word says that it matters.
    slow_above: AtomicU64,
    machine: Mutex<Machine>,
}

impl Gate {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            word: AtomicU64::new(Word::of(&machine).0),
            open_until: AtomicU64::new(0),
            waits_until: AtomicU64::new(machine.waits_until()),
            slow_above: AtomicU64::new(machine.slow_threshold().unwrap_or(Nanos::MAX)),
            machine: Mutex::new(machine),
        }
    }

    /// Admits a call for which the word is enough: no lock, no clock, nothing written.
    #[inline]
    pub(crate) fn admit(&self) -> Option<Ticket> {
        let word = self.word();
        word.admits().then_some(Ticket::new(word))
    }

    pub(crate) fn acquire(&self, around: &impl Surroundings) -> Result<Ticket, Refusal> {
        let word = self.word();
        match word.light() {
            _ if word.admits() => return Ok(Ticket::new(word)),
            Light::ForcedOpen => return Err(Refusal::of(BreakerState::ForcedOpen)),
            Light::Full => return Err(Refusal::of(BreakerState::HalfOpen)),
            Light::Open => {
                // This may be the end of a later open time than the word's. Then the breaker has opened again since
                // the word was read, and the refusal is as true.
                let until = self.open_until.load(Ordering::Acquire);
                if let Some(wait) = until.checked_sub(around.now()).filter(|&wait| wait > 0) {
                    let retry_after = Some(Duration::from_nanos(wait));
                    return Err(Refusal {
                        retry_after,
                        ..Refusal::of(BreakerState::Open)
                    });
                }
            }
            _ => {}
        }
        let mut machine = lock(&self.machine);
        match self.step(&mut machine, Input::Acquire, around) {
            Answer::Refused {
                state,
                retry_after,
                injected,
            } => Err(Refusal {
                state,
                retry_after,
                injected,
            }),
            Answer::Admitted | Answer::Judged { .. } | Answer::Late | Answer::Done => {
                Ok(Ticket::new(Word::of(&machine)))
            }
        }
    }

    /// Whether the state is still the one in which a call was admitted.
    #[inline]
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.word().generation() == ticket.word.generation()
    }

    /// Whether a call that ends well now ends one of many, of which the machine hears together: no lock, no clock,
    /// nothing written.
    #[inline]
    pub(crate) fn lets_succeed(&self, ticket: Ticket) -> bool {
        ticket.word.0 & HEEDED == 0 && self.word() == ticket.word
    }

    /// Ends an admitted call.
    pub(crate) fn settle(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        timing: Timing,
        around: &impl Surroundings,
    ) -> Settled {
        let word = self.word();
        if word.generation() != ticket.word.generation() {
            return Settled::Late;
        }
        // A failure that goes on at the same time may be about to change the word: then this result came before it.
        let matters = match word.light() {
            Light::Closed | Light::Injecting | Light::MetricsOnly => match verdict {
                Verdict::Success => !self.may_wait(word, timing, around),
                Verdict::Failure => true,
                Verdict::Cancelled => false,
            },
            Light::ForcedClosed | Light::Disabled => false,
            Light::Open | Light::Probing | Light::Full | Light::ForcedOpen => true,
        };
        if matters {
            self.settle_under_lock(ticket, verdict, timing, around)
        } else {
            Settled::Counted
        }
    }

    /// Whether the machine may hear of a success with its next step.
    #[inline]
    fn may_wait(&self, word: Word, timing: Timing, around: &impl Surroundings) -> bool {
        !word.has(HEEDS_SUCCESS)
            && (!word.has(TIMED | DATED) || self.may_wait_now(word, timing, around))
    }

    #[inline(never)]
    fn may_wait_now(&self, word: Word, timing: Timing, around: &impl Surroundings) -> bool {
        // Read at most once, and only where it matters.
        let now = LazyCell::new(|| around.now());
        // Both times may be later ones than the word's: then a step was taken meanwhile, and this success comes after it.
        let is_quick = || {
            let took = timing.took(|| *now);
            took.is_some_and(|took| took <= self.slow_above.load(Ordering::Acquire))
        };
        let is_early = || *now < self.waits_until.load(Ordering::Acquire);
        (!word.has(TIMED) || is_quick()) && (!word.has(DATED) || is_early())
    }

    #[inline(never)]
    fn settle_under_lock(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        timing: Timing,
        around: &impl Surroundings,
    ) -> Settled {
        let mut machine = lock(&self.machine);
        let result = Input::Settle(ticket.word.generation(), verdict, timing);
        match self.step(&mut machine, result, around) {
            Answer::Late => Settled::Late,
            Answer::Judged { slow: true } => Settled::Slow,
            _ => Settled::Counted,
        }
    }

    /// Lets the machine hear of what nobody holds a permit for; answers whether that is to be counted.
    pub(crate) fn report(&self, verdict: Verdict, around: &impl Surroundings) -> bool {
        let mut machine = lock(&self.machine);
        self.step(&mut machine, Input::Report(verdict), around);
        machine.state() != BreakerState::Disabled
    }

    pub(crate) fn configure(
        &self,
        config: BreakerConfig,
        seed: Option<u64>,
        around: &impl Surroundings,
    ) -> BreakerState {
        let mut machine = lock(&self.machine);
        let settings = Input::Configure(Box::new(config), seed);
        self.step(&mut machine, settings, around);
        // What the new condition is not to hear of: it may be the first that counts successes.
        machine.skip_to(around.successes());
        machine.state()
    }

    /// Whether a breaker made anew would do the same from now on.
    pub(crate) fn is_as_new(&self, around: &impl Surroundings) -> bool {
        let mut machine = lock(&self.machine);
        Self::catch_up(&mut machine, around);
        machine.is_as_new(around.now())
    }

    pub(crate) fn command(&self, command: Command, around: &impl Surroundings) -> BreakerState {
        let mut machine = lock(&self.machine);
        self.step(&mut machine, Input::Command(command), around);
        machine.state()
    }

    /// Lets an open time that is over end, and returns what is left of one that is not.
    pub(crate) fn tick(&self, around: &impl Surroundings) -> Option<Duration> {
        let mut machine = lock(&self.machine);
        self.step(&mut machine, Input::Tick, around);
        machine
            .open_until()
            .map(|until| Duration::from_nanos(until.saturating_sub(around.now())))
    }

    /// What a call would meet now; changes nothing.
    pub(crate) fn state(&self, around: &impl Surroundings) -> BreakerState {
        let word = self.word();
        match word.light() {
            Light::Closed | Light::Injecting => BreakerState::Closed,
            Light::Open if around.now() < self.open_until.load(Ordering::Acquire) => {
                BreakerState::Open
            }
            Light::Open if word.has(CLOSES_BY_ITSELF) => BreakerState::Closed,
            Light::Open | Light::Probing | Light::Full => BreakerState::HalfOpen,
            Light::ForcedOpen => BreakerState::ForcedOpen,
            Light::ForcedClosed => BreakerState::ForcedClosed,
            Light::Disabled => BreakerState::Disabled,
            Light::MetricsOnly => BreakerState::MetricsOnly,
        }
    }

    /// The state to which it moved last, also where an open time has ended since.
    pub(crate) fn last_state(&self) -> BreakerState {
        lock(&self.machine).state()
    }

    /// Whether a call that needs the lock would get it at once.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_free(&self) -> bool {
        self.machine.try_lock().is_ok()
    }

    pub(crate) fn view(&self, around: &impl Surroundings) -> View {
        let machine = lock(&self.machine);
        let now = around.now();
        let left = machine
            .open_until()
            .map(|until| Duration::from_nanos(until.saturating_sub(now)));
        let transitions = machine.transitions();
        match left {
            Some(left) if left.is_zero() => View {
                state: match machine.config().after_open() {
                    AfterOpen::HalfOpen => BreakerState::HalfOpen,
                    AfterOpen::Closed => BreakerState::Closed,
                },
                retry_after: None,
                transitions,
            },
            retry_after => View {
                state: machine.state(),
                retry_after,
                transitions,
            },
        }
    }

    pub(crate) fn with_config<T>(&self, read: impl FnOnce(&BreakerConfig) -> T) -> T {
        read(lock(&self.machine).config())
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn catch_up(machine: &mut Machine, around: &impl Surroundings) {
        if machine.counts_successes() {
            machine.catch_up(around.successes());
        }
    }

    fn step(
        &self,
        machine: &mut MutexGuard<'_, Machine>,
        input: Input,
        around: &impl Surroundings,
    ) -> Answer {
        Self::catch_up(machine, around);
        let step = machine.step(input, &|| around.now());
        // All before the word, so that who reads "open" never reads an older end of it.
        if let Some(until) = machine.open_until() {
            self.open_until.store(until, Ordering::Release);
        }
        self.waits_until
            .store(machine.waits_until(), Ordering::Release);
        self.slow_above.store(
            machine.slow_threshold().unwrap_or(Nanos::MAX),
            Ordering::Release,
        );
        self.word.store(Word::of(machine).0, Ordering::Release);
        for moved in &step.moves {
            around.moved(moved);
        }
        step.answer
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        f.debug_struct("Gate")
            .field("generation", &word.generation())
            .field("light", &word.light())
            .finish()
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
