//! The only place of this crate that emits events, tracing and metrics.
//!
//! The metrics mirror OpenTelemetry's `db.client.connection.*`, under `perennial.pool.worker.*` and, for plain objects,
//! `perennial.pool.object.*`: of those only what waits, for the loan of an object costs less than a gauge.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, IntoF64};
use perennial_lifecycle::{
    ActorPath, EventKind, ExitReason, Incarnation, Node, Scope, catch_panic, shield,
};

use crate::{CheckoutError, Holder};

/// The meters of one pool, resolved once.
pub(crate) struct Meters {
    idle: Gauge,
    used: Gauge,
    pending: Gauge,
    timeouts: Counter,
    create_time: Histogram,
    wait_time: Histogram,
    use_time: Histogram,
}

impl Meters {
    /// A recorder that panics when it is asked for these is told nothing.
    pub(crate) fn of_workers(pool: &Arc<str>) -> Self {
        catch_panic(|| Self::register_workers(pool)).unwrap_or_else(|_| Self::silent())
    }

    /// As [`of_workers`](Self::of_workers). What is not measured is not registered either: it would be shown as zero.
    pub(crate) fn of_objects(pool: &Arc<str>) -> Self {
        catch_panic(|| Self::register_objects(pool)).unwrap_or_else(|_| Self::silent())
    }

    fn register_workers(pool: &Arc<str>) -> Self {
        let name = || ("pool.name", pool.to_string());
        let count = |state: &str| {
            let labels = [name(), ("state", state.to_owned())];
            metrics::gauge!("perennial.pool.worker.count", &labels)
        };
        Self {
            idle: count("idle"),
            used: count("used"),
            pending: metrics::gauge!("perennial.pool.worker.pending_requests", &[name()]),
            timeouts: metrics::counter!("perennial.pool.worker.timeouts", &[name()]),
            wait_time: metrics::histogram!("perennial.pool.worker.wait_time", &[name()]),
            create_time: metrics::histogram!("perennial.pool.worker.create_time", &[name()]),
            use_time: metrics::histogram!("perennial.pool.worker.use_time", &[name()]),
        }
    }

    fn register_objects(pool: &Arc<str>) -> Self {
        let name = || ("pool.name", pool.to_string());
        Self {
            pending: metrics::gauge!("perennial.pool.object.pending_requests", &[name()]),
            timeouts: metrics::counter!("perennial.pool.object.timeouts", &[name()]),
            wait_time: metrics::histogram!("perennial.pool.object.wait_time", &[name()]),
            ..Self::silent()
        }
    }

    fn silent() -> Self {
        Self {
            idle: Gauge::noop(),
            used: Gauge::noop(),
            pending: Gauge::noop(),
            timeouts: Counter::noop(),
            create_time: Histogram::noop(),
            wait_time: Histogram::noop(),
            use_time: Histogram::noop(),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a pool has far fewer workers than a double has digits"
)]
fn gauge(count: usize) -> f64 {
    count as f64
}

pub(crate) fn counted(meters: &Meters, idle: usize, used: usize) {
    shield(|| {
        meters.idle.set(gauge(idle));
        meters.used.set(gauge(used));
    });
}

pub(crate) fn pending(meters: &Meters, waiting: usize) {
    shield(|| meters.pending.set(gauge(waiting)));
}

pub(crate) fn checked_out(meters: &Meters, waited: Duration) {
    shield(|| meters.wait_time.record(waited));
}

/// How long the worker was used is found out only where it is recorded.
pub(crate) fn checked_in(meters: &Meters, used: impl FnOnce() -> Duration) {
    shield(|| meters.use_time.record(Late(used)));
}

/// A time that is not read before somebody wants it.
struct Late<F>(F);

impl<F: FnOnce() -> Duration> IntoF64 for Late<F> {
    fn into_f64(self) -> f64 {
        (self.0)().into_f64()
    }
}

pub(crate) fn created(meters: &Meters, took: Duration) {
    shield(|| meters.create_time.record(took));
}

pub(crate) fn timed_out(meters: &Meters, place: Option<(&Scope, &Node)>, error: &CheckoutError) {
    shield(|| meters.timeouts.increment(1));
    shield(|| tracing::warn!(pool.name = error.pool(), error.type = "timed_out", "{error}"));
    note(place, error);
}

pub(crate) fn refused(error: &CheckoutError) {
    shield(|| tracing::debug!(pool.name = error.pool(), error.type = "refused", "{error}"));
}

pub(crate) fn retired(pool: &str, scope: Option<&Scope>, node: &Node, incarnation: &Incarnation) {
    let text = "retired: busy with what its holder gave up, or not in order";
    shield(|| {
        tracing::warn!(
            pool.name = pool, actor.name = %node.path(), incarnation = incarnation.number(), "{text}"
        )
    });
    note(scope.map(|scope| (scope, node)), text);
}

pub(crate) fn unfit(pool: &str, worker: &ActorPath, why: &str) {
    shield(|| tracing::warn!(pool.name = pool, actor.name = %worker, "not in order: {why}"));
}

pub(crate) fn renewed(pool: &str, node: &Node) {
    shield(
        || tracing::debug!(pool.name = pool, actor.name = %node.path(), "renewed: too old, or idle for too long"),
    );
}

pub(crate) fn held_for_long(pool: &str, scope: Option<&Scope>, node: &Node, holder: &Holder) {
    let actor = holder.actor.as_ref().map(tracing::field::display);
    shield(|| {
        tracing::warn!(
            parent: &holder.span, pool.name = pool, actor.name = %node.path(), holder.actor = actor,
            code.location = %holder.location, "on loan for {:?}", holder.held_for
        )
    });
    let behalf = holder.actor.as_ref();
    let behalf = behalf.map_or_else(String::new, |actor| format!(", on behalf of {actor}"));
    let text = format!(
        "on loan for {:?}, checked out at {}{behalf}",
        holder.held_for, holder.location
    );
    note(scope.map(|scope| (scope, node)), text);
}

pub(crate) fn start_failed(pool: &str, attempts: u32, pause: Duration, reason: &ExitReason) {
    shield(|| {
        tracing::warn!(
            pool.name = pool,
            attempts,
            "a worker did not start, the next attempt follows in {pause:?}: {reason}"
        )
    });
}

pub(crate) fn resized(pool: &str, size: usize, max_overflow: usize) {
    shield(|| tracing::info!(pool.name = pool, size, max_overflow, "resized"));
}

pub(crate) fn drained(pool: &str) {
    shield(|| {
        tracing::info!(
            pool.name = pool,
            "drained: nothing is lent until it is resumed"
        )
    });
}

pub(crate) fn dismissed(pool: &str, node: &Node) {
    shield(
        || tracing::debug!(pool.name = pool, actor.name = %node.path(), "dismissed: nobody waits"),
    );
}

pub(crate) fn opened(pool: &str) {
    shield(|| tracing::info!(pool.name = pool, "open"));
}

pub(crate) fn closed(pool: &str, for_good: bool) {
    shield(|| tracing::info!(pool.name = pool, for_good, "closed"));
}

fn note(place: Option<(&Scope, &Node)>, text: impl ToString) {
    if let Some((scope, node)) = place {
        let kind = EventKind::Noted {
            source: "pool",
            text: text.to_string().into(),
        };
        scope.events().emit(node.path(), kind);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use metrics::Key;
    use perennial_testkit::OnRegister;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pool_of_objects_registers_no_figure_that_it_does_not_keep() {
        let registered = Mutex::new(Vec::new());
        let recorder = OnRegister(|key: &Key| {
            registered.lock().unwrap().push(key.name().to_owned());
            None
        });
        let _local = metrics::set_default_local_recorder(&recorder);
        let pool = crate::ObjectPool::builder("buffers", [1]).build().unwrap();
        let lent = pool.try_checkout().unwrap();
        pool.checkout_within(Duration::from_millis(1))
            .await
            .unwrap_err();
        drop(lent);
        let mut names = registered.lock().unwrap().clone();
        names.sort();
        let expected = ["pending_requests", "timeouts", "wait_time"];
        assert_eq!(
            names,
            expected.map(|it| format!("perennial.pool.object.{it}"))
        );
    }
}
