use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use perennial_lifecycle::Outbox;
use tokio::{sync::broadcast, time::Instant};

use super::{
    Alert, AlertEvent, Baseline, PerformanceConfig, ServicePerformance, Totals, Window,
    WindowStats, alert::AlertBook, series::Series, window::Rings,
};
use crate::{
    duration::nanos,
    event::{Event, emit},
    sync::lock,
};

/// The name under which services beyond the configured number are counted together.
const OTHERS: &str = "(others)";

/// How many alert events a slow subscriber may lag behind.
const EVENTS: usize = 256;

const DAY: u64 = 86_400 * 1_000_000_000;

/// All that outlives the actor.
pub(crate) struct PerformanceCell {
    pub(crate) created: Instant,
    pub(crate) config: PerformanceConfig,
    services: RwLock<BTreeMap<Arc<str>, Arc<Series>>>,
    pub(crate) alerts: Mutex<AlertBook>,
    /// What became of the alerts that nobody was told yet.
    untold: Outbox<AlertEvent>,
    pub(crate) events: broadcast::Sender<AlertEvent>,
}

impl PerformanceCell {
    pub(crate) fn new(config: PerformanceConfig) -> Self {
        Self {
            created: Instant::now(),
            alerts: Mutex::new(AlertBook::new(config.alerts().to_vec())),
            untold: Outbox::new(),
            config,
            services: RwLock::default(),
            events: broadcast::Sender::new(EVENTS),
        }
    }

    /// Nanoseconds since the monitor's creation.
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    pub(crate) fn at(&self, instant: Instant) -> u64 {
        nanos(instant.saturating_duration_since(self.created))
    }

    pub(crate) fn find(&self, service: &str) -> Option<Arc<Series>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(service).cloned()
    }

    pub(crate) fn find_or_create(&self, service: &str) -> Arc<Series> {
        if let Some(known) = self.find(service) {
            return known;
        }
        let now = self.now();
        let mut services = self
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let full = services.len() >= self.config.max_services();
        let name = if full && !services.contains_key(service) {
            OTHERS
        } else {
            service
        };
        let name: Arc<str> = name.into();
        let series = services
            .entry(Arc::clone(&name))
            .or_insert_with(|| Arc::new(Series::new(name, now)));
        Arc::clone(series)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Series>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.values().cloned().collect()
    }

    pub(crate) fn report(&self, series: &Series) -> ServicePerformance {
        let now = self.now();
        let of_service = |alert: &Alert| alert.service == *series.name;
        let alerts = lock(&self.alerts).list(of_service);
        series.read(|rings| ServicePerformance {
            service: series.name.as_ref().to_owned(),
            total: Totals {
                count: rings.count(),
                errors: rings.errors(),
            },
            minute: rings.stats(Window::Minute, now),
            hour: rings.stats(Window::Hour, now),
            day: rings.stats(Window::Day, now),
            baseline: series.baseline().map(|(_, baseline)| baseline),
            alerts,
        })
    }

    /// Judges one service: alerts, baseline, gauges.
    pub(crate) fn evaluate(&self, series: &Series) {
        let now = self.now();
        let rules: Vec<_> = {
            let alerts = lock(&self.alerts);
            let rules = alerts.rules().iter();
            rules
                .filter(|rule| rule.service().matches(&series.name))
                .cloned()
                .collect()
        };
        let due = series.baseline().is_none_or(|(taken, _)| {
            now.saturating_sub(taken) >= nanos(self.config.baseline_every())
        });
        let (minute, values, baseline) = series.read(|rings| {
            let mut seen = Seen::new(rings, now);
            let values: Vec<_> = rules
                .iter()
                .map(|rule| {
                    let whole = rule.window().begin(now) > rings.since();
                    rule.value(seen.stats(rule.window()), whole)
                })
                .collect();
            let baseline = due.then(|| seen.stats(Window::Hour));
            let baseline =
                baseline.and_then(|stats| Baseline::of(stats, self.config.baseline_samples()));
            (seen.stats(Window::Minute).clone(), values, baseline)
        });
        if let Some(baseline) = baseline {
            series.set_baseline(now, baseline);
        }
        emit(Event::ServiceMeasured {
            service: &series.name,
            stats: &minute,
        });
        let at = Duration::from_nanos(now);
        for (rule, value) in rules.iter().zip(values) {
            self.change_alerts(|book| book.judge(rule, &series.name, value, at));
        }
    }

    /// Changes the book of alerts, and tells what came of it, in the order of the changes.
    pub(crate) fn change_alerts<E>(&self, change: impl FnOnce(&mut AlertBook) -> E)
    where
        E: IntoIterator<Item = AlertEvent>,
    {
        {
            let mut alerts = lock(&self.alerts);
            let events = change(&mut alerts).into_iter();
            events.for_each(|event| self.untold.push(event));
        }
        self.untold.empty(|event| {
            emit(Event::Alert(&event));
            // Without a subscriber the list of alerts still tells.
            drop(self.events.send(event));
        });
    }

    /// Forgets services that recorded nothing for a day and that nobody can record for.
    pub(crate) fn forget_idle(&self) {
        let now = self.now();
        let mut gone = Vec::new();
        self.services
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, series| {
                // Under the write lock no recorder can be made, so a count of one stays one.
                let kept = Arc::strong_count(series) > 1
                    || now.saturating_sub(series.read(Rings::last)) <= DAY;
                if !kept {
                    gone.push(Arc::clone(name));
                }
                kept
            });
        for name in gone {
            self.change_alerts(|book| book.forget(&name));
        }
    }
}

/// The figures of each window, computed when first asked for.
struct Seen<'a> {
    rings: &'a Rings,
    now: u64,
    stats: [Option<WindowStats>; 3],
}

impl<'a> Seen<'a> {
    fn new(rings: &'a Rings, now: u64) -> Self {
        Self {
            rings,
            now,
            stats: [None, None, None],
        }
    }

    fn stats(&mut self, window: Window) -> &WindowStats {
        self.stats[window as usize].get_or_insert_with(|| self.rings.stats(window, self.now))
    }
}

impl fmt::Debug for PerformanceCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerformanceCell")
            .field("config", &self.config)
            .field("services", &self.all())
            .finish_non_exhaustive()
    }
}
