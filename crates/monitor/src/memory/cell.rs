use std::{
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use perennial_lifecycle::catch_panic;
use ractor::ActorRef;
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    MemoryConfig, MemoryLimit, MemoryReader, MemoryReading, Pressure, Trigger,
    actor::MemoryMsg,
    cleanup::{Cleanup, History, Slot},
    machine,
};
use crate::{
    event::{Event, emit},
    sync::lock,
};

/// How long a reading may take before it has failed.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(5);

/// All that outlives the actor.
pub(crate) struct MemoryCell {
    pub(crate) created: Instant,
    level: AtomicU8,
    pub(crate) config: Mutex<MemoryConfig>,
    pub(crate) reader: Mutex<Arc<Source>>,
    pub(crate) strategies: Mutex<Vec<Arc<Slot>>>,
    pub(crate) facts: Mutex<Facts>,
    pub(crate) history: Mutex<History>,
    runs: Mutex<JoinSet<()>>,
    actor: Mutex<Option<ActorRef<MemoryMsg>>>,
    requested: AtomicBool,
}

/// Where readings come from.
pub(crate) struct Source {
    reader: Box<dyn MemoryReader>,
    /// One reading at a time: each that hangs keeps a thread.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Source {
    pub(crate) fn new(reader: impl MemoryReader) -> Arc<Self> {
        Arc::new(Self {
            reader: Box::new(reader),
            turn: Arc::default(),
        })
    }

    async fn read(self: Arc<Self>) -> io::Result<MemoryReading> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let reading = spawn_blocking(move || {
            let _turn = turn;
            catch_panic(|| self.reader.read())
        });
        match reading.await {
            Ok(Ok(read)) => read,
            Ok(Err(panicked)) => Err(io::Error::other(panicked.to_string())),
            // The runtime shuts down.
            Err(cancelled) => Err(io::Error::other(cancelled)),
        }
    }
}

/// What the checks found.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts {
    pub(crate) reading: Option<(Instant, MemoryReading)>,
    pub(crate) checks: u64,
    pub(crate) failed_checks: u64,
    pub(crate) last_error: Option<String>,
}

impl MemoryCell {
    pub(crate) fn new(config: MemoryConfig, reader: impl MemoryReader) -> Self {
        Self {
            created: Instant::now(),
            level: AtomicU8::new(Pressure::Low.to_u8()),
            config: Mutex::new(config),
            reader: Mutex::new(Source::new(reader)),
            strategies: Mutex::default(),
            facts: Mutex::default(),
            history: Mutex::default(),
            runs: Mutex::new(JoinSet::new()),
            actor: Mutex::new(None),
            requested: AtomicBool::new(false),
        }
    }

    pub(crate) fn level(&self) -> Pressure {
        // The level stands for itself: nothing else is published through it.
        Pressure::from_u8(self.level.load(Ordering::Relaxed))
    }

    /// Sets the level and returns the one before.
    fn set_level(&self, to: Pressure) -> Pressure {
        Pressure::from_u8(self.level.swap(to.to_u8(), Ordering::Relaxed))
    }

    pub(crate) fn attach(&self, actor: ActorRef<MemoryMsg>) {
        *lock(&self.actor) = Some(actor);
    }

    /// An orderly stop: without a manager pressure is low, and nothing goes on in its name.
    ///
    /// It may be to start it anew, as by an operator: a clean-up that was requested is left to the successor. A killed actor does not come here: the level it saw holds until its successor has looked.
    pub(crate) fn detach(&self, actor: &ActorRef<MemoryMsg>) {
        let mut attached = lock(&self.actor);
        if attached.as_ref().map(|attached| attached.get_id()) != Some(actor.get_id()) {
            return;
        }
        *attached = None;
        drop(attached);
        lock(&self.runs).abort_all();
        let from = self.set_level(Pressure::Low);
        emit(Event::PressureChanged {
            from,
            to: Pressure::Low,
        });
    }

    pub(crate) fn send(&self, message: MemoryMsg) {
        if let Some(actor) = &*lock(&self.actor) {
            // An actor that is about to be restarted checks at its start, and then finds what was requested.
            drop(actor.cast(message));
        }
    }

    pub(crate) fn request_cleanup(&self) -> bool {
        if lock(&self.actor).is_none() {
            return false;
        }
        self.requested.store(true, Ordering::Release);
        self.send(MemoryMsg::Cleanup);
        true
    }

    /// Reads memory and sets the level.
    ///
    /// A reading that fails leaves the level as it is.
    pub(crate) async fn measure(&self) {
        let source = Arc::clone(&lock(&self.reader));
        let read = timeout(READ_WITHIN, source.read()).await;
        let read = read.unwrap_or_else(|_| {
            let text = format!("no answer within {READ_WITHIN:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        let config = lock(&self.config).clone();
        let read = read.and_then(|reading| against(reading, config.limit()));
        match read {
            Ok((reading, ratio)) => {
                let level = machine::level(&config, ratio);
                let mut facts = lock(&self.facts);
                facts.checks += 1;
                facts.reading = Some((Instant::now(), reading));
                facts.last_error = None;
                // Under the lock, so that the statistics never show a level that goes with another reading.
                let from = self.set_level(level);
                drop(facts);
                emit(Event::MemoryMeasured { reading, level });
                emit(Event::PressureChanged { from, to: level });
            }
            Err(error) => {
                emit(Event::ReadingFailed { error: &error });
                let text = error.to_string();
                let mut facts = lock(&self.facts);
                facts.failed_checks += 1;
                facts.last_error = Some(text);
            }
        }
    }

    /// Measures, and starts the clean-up that the level calls for.
    pub(crate) async fn check(self: &Arc<Self>) {
        self.measure().await;
        let trigger = machine::cleanup(&lock(&self.config), self.level());
        if let Some(trigger) = trigger {
            self.clean_up(trigger);
        }
        self.clean_up_if_requested();
    }

    pub(crate) fn clean_up_if_requested(self: &Arc<Self>) {
        if self.requested.swap(false, Ordering::AcqRel) {
            self.clean_up(Trigger::OnRequest);
        }
    }

    fn clean_up(self: &Arc<Self>, trigger: Trigger) {
        let slots = lock(&self.strategies).clone();
        let level = self.level();
        let Some(cleanup) = Cleanup::prepare(&slots, trigger, level) else {
            emit(Event::CleanupSkipped {
                trigger,
                strategies: slots.len(),
            });
            return;
        };
        emit(Event::CleanupStarted { trigger, level });
        let timeout = lock(&self.config).cleanup_timeout();
        let mut runs = lock(&self.runs);
        while runs.try_join_next().is_some() {}
        runs.spawn(cleanup.run(Arc::clone(self), timeout));
    }
}

/// The reading against the configured limit, and the share of it that is used.
fn against(reading: MemoryReading, limit: MemoryLimit) -> io::Result<(MemoryReading, f64)> {
    let limit = match limit {
        MemoryLimit::Detected => reading.limit,
        MemoryLimit::Bytes(bytes) => bytes.get(),
    };
    if limit == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a memory limit of zero bytes",
        ));
    }
    let reading = MemoryReading { limit, ..reading };
    Ok((reading, ratio(reading)))
}

pub(crate) fn ratio(reading: MemoryReading) -> f64 {
    reading.used as f64 / reading.limit as f64
}

impl fmt::Debug for MemoryCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCell")
            .field("level", &self.level())
            .field("config", &self.config)
            .field("strategies", &self.strategies)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}
