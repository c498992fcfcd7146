//! The admission cell: the machine behind a lock, and before it one word that answers most calls without.

use std::fmt;
use std::time::Duration;

use crate::BreakerState;
use crate::machine::{Answer, Command, Generation, Input, Machine, Move, Nanos, Verdict};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};

/// What the word says besides the generation.
///
/// Everything that a call must know to be admitted or refused without the lock, and that a success must know to
/// end without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Light {
    /// Closed, and a success would change nothing.
    Closed,
    /// Closed, and the machine wants to hear of successes.
    Counting,
    /// Open until `open_until`.
    Open,
    /// Half-open with a free place.
    Probing,
    /// Half-open with every place taken.
    Full,
    ForcedOpen,
    ForcedClosed,
    Disabled,
}

const LIGHT_BITS: u32 = 3;

/// The generation in the upper 61 bits, the light in the lower three.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(generation: Generation, light: Light) -> Self {
        Self(generation << LIGHT_BITS | light as u64)
    }

    fn of(machine: &Machine) -> Self {
        let light = match machine.state() {
            BreakerState::Closed if machine.ignores_success() => Light::Closed,
            BreakerState::Closed => Light::Counting,
            BreakerState::Open => Light::Open,
            BreakerState::HalfOpen if machine.is_full() => Light::Full,
            BreakerState::HalfOpen => Light::Probing,
            BreakerState::ForcedOpen => Light::ForcedOpen,
            BreakerState::ForcedClosed => Light::ForcedClosed,
            BreakerState::Disabled => Light::Disabled,
        };
        Self::new(machine.generation(), light)
    }

    fn generation(self) -> Generation {
        self.0 >> LIGHT_BITS
    }

    fn light(self) -> Light {
        match self.0 & ((1 << LIGHT_BITS) - 1) {
            0 => Light::Closed,
            1 => Light::Counting,
            2 => Light::Open,
            3 => Light::Probing,
            4 => Light::Full,
            5 => Light::ForcedOpen,
            6 => Light::ForcedClosed,
            _ => Light::Disabled,
        }
    }
}

/// Proof of admission: the word under which the call was let in.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(Word);

impl Ticket {
    /// Whether the call is to leave no trace.
    pub(crate) fn is_uncounted(self) -> bool {
        self.0.light() == Light::Disabled
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) state: BreakerState,
    pub(crate) retry_after: Option<Duration>,
}

/// The state at one moment, and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) state: BreakerState,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) transitions: u64,
}

/// Reads the clock, and takes note of moves.
///
/// Both are called with the lock held: so times do not go backwards, and moves are noted in their order.
pub(crate) trait Surroundings {
    fn now(&self) -> Nanos;
    fn moved(&self, moved: &Move);
}

pub(crate) struct Gate {
    word: AtomicU64,
    /// When the open time ends. Read only while the word says open.
    open_until: AtomicU64,
    machine: Mutex<Machine>,
}

impl Gate {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            word: AtomicU64::new(Word::of(&machine).0),
            open_until: AtomicU64::new(0),
            machine: Mutex::new(machine),
        }
    }

    pub(crate) fn acquire(&self, around: &impl Surroundings) -> Result<Ticket, Refusal> {
        let word = self.word();
        match word.light() {
            // No clock, no lock, nothing written.
            Light::Closed | Light::Counting | Light::ForcedClosed | Light::Disabled => {
                return Ok(Ticket(word));
            }
            Light::ForcedOpen => {
                return Err(Refusal {
                    state: BreakerState::ForcedOpen,
                    retry_after: None,
                });
            }
            Light::Full => {
                return Err(Refusal {
                    state: BreakerState::HalfOpen,
                    retry_after: None,
                });
            }
            Light::Open => {
                // This may be the end of a later open time than the word's. Then the breaker has opened again since
                // the word was read, and the refusal is as true.
                let until = self.open_until.load(Ordering::Acquire);
                if let Some(wait) = until.checked_sub(around.now()).filter(|&wait| wait > 0) {
                    let retry_after = Some(Duration::from_nanos(wait));
                    return Err(Refusal {
                        state: BreakerState::Open,
                        retry_after,
                    });
                }
            }
            Light::Probing => {}
        }
        let mut machine = lock(&self.machine);
        let answer = self.step(&mut machine, Input::Acquire, around);
        match answer {
            Answer::Refused { state, retry_after } => Err(Refusal { state, retry_after }),
            Answer::Admitted | Answer::Judged | Answer::Late | Answer::Done => {
                Ok(Ticket(Word::of(&machine)))
            }
        }
    }

    /// Ends an admitted call; answers whether it came too late to be judged.
    pub(crate) fn settle(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        around: &impl Surroundings,
    ) -> bool {
        let word = self.word();
        if word.generation() != ticket.0.generation() {
            return true;
        }
        match (word.light(), verdict) {
            // A failure that goes on at the same time may be about to change the light: then this success came
            // before it.
            (Light::Closed, Verdict::Success | Verdict::Cancelled)
            | (Light::Counting, Verdict::Cancelled)
            | (Light::ForcedClosed | Light::Disabled, _) => return false,
            _ => {}
        }
        let mut machine = lock(&self.machine);
        self.step(
            &mut machine,
            Input::Settle(ticket.0.generation(), verdict),
            around,
        ) == Answer::Late
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
        match self.word().light() {
            Light::Closed | Light::Counting => BreakerState::Closed,
            Light::Open if around.now() < self.open_until.load(Ordering::Acquire) => {
                BreakerState::Open
            }
            Light::Open | Light::Probing | Light::Full => BreakerState::HalfOpen,
            Light::ForcedOpen => BreakerState::ForcedOpen,
            Light::ForcedClosed => BreakerState::ForcedClosed,
            Light::Disabled => BreakerState::Disabled,
        }
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
                state: BreakerState::HalfOpen,
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

    pub(crate) fn with_config<T>(&self, read: impl FnOnce(&crate::BreakerConfig) -> T) -> T {
        read(lock(&self.machine).config())
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn step(
        &self,
        machine: &mut MutexGuard<'_, Machine>,
        input: Input,
        around: &impl Surroundings,
    ) -> Answer {
        let step = machine.step(input, around.now());
        if let Some(until) = machine.open_until() {
            // Before the word, so that who reads "open" never reads an older end of it.
            self.open_until.store(until, Ordering::Release);
        }
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
mod tests;
