use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::Key;
use perennial_testkit::OnRegister;

use super::*;
use crate::{Quota, RateGate};

/// Keeps the value of every metric, by name and labels.
#[derive(Debug, Default)]
struct Notebook(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Notebook {
    fn line(&self, key: &Key) -> Arc<AtomicU64> {
        let labels = key.labels().map(|l| format!(" {}={}", l.key(), l.value()));
        let name = key.name().to_owned() + &labels.collect::<String>();
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn count(&self, name: &str) -> Option<u64> {
        let lines = self.0.lock().unwrap();
        Some(lines.get(name)?.load(Ordering::Relaxed))
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        self.count(name).map(f64::from_bits)
    }
}

/// Lets the actor take the sweeps that are due.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn idle_keys_are_swept_and_the_figures_told() {
    let notebook = Notebook::default();
    let recorder = OnRegister(|key: &Key| Some(notebook.line(key)));
    let _guard = metrics::set_default_local_recorder(&recorder);
    let gate = RateGate::new();
    let (actor, done) = Actor::spawn(None, RateGateActor, gate.clone())
        .await
        .unwrap();

    let quota = Quota::per_second(1);
    let allowed = [1_u8, 2, 3, 3].map(|key| gate.check("s", &key, &quota).is_allowed());
    assert_eq!(allowed, [true, true, true, false]);
    pass(Duration::from_millis(600)).await;
    assert_eq!(gate.len(), 3);
    assert_eq!(notebook.gauge("perennial.rate_limit.key"), Some(3.0));
    let checks = |outcome| {
        notebook.count(&format!(
            "perennial.rate_limit.check rate_limit.scope=s outcome={outcome}"
        ))
    };
    assert_eq!((checks("allowed"), checks("refused")), (Some(3), Some(1)));

    pass(Duration::from_secs(1)).await;
    assert!(gate.is_empty());
    assert_eq!(notebook.gauge("perennial.rate_limit.key"), Some(0.0));
    assert_eq!(notebook.count("perennial.rate_limit.swept"), Some(3));

    // What was counted since the last sweep is told on the way out.
    assert!(gate.check("s", &4_u8, &quota).is_allowed());
    actor.stop(None);
    done.await.unwrap();
    assert_eq!(checks("allowed"), Some(4));
}

#[tokio::test(start_paused = true)]
async fn what_is_spent_survives_a_kill_of_the_actor() {
    let gate = RateGate::new();
    let quota = Quota::per_hour(2);
    let limiter = gate.limiter("s", quota);
    let (actor, done) = Actor::spawn(None, RateGateActor, gate.clone())
        .await
        .unwrap();
    assert!(limiter.check("ada").is_allowed());

    actor.kill();
    done.await.unwrap();
    assert!(limiter.check("ada").is_allowed());
    assert!(!limiter.check("ada").is_allowed());

    let (actor, done) = Actor::spawn(None, RateGateActor, gate.clone())
        .await
        .unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!gate.check("s", "ada", &quota).is_allowed());
    assert_eq!(gate.len(), 1);
    actor.stop(None);
    done.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_ticks_on_after_a_kill() {
    let (actor, done) = Actor::spawn(None, RateGateActor, RateGate::new())
        .await
        .unwrap();
    let tasks = tokio::runtime::Handle::current().metrics();
    actor.kill();
    done.await.unwrap();
    drop(actor);
    tokio::task::yield_now().await;
    assert_eq!(tasks.num_alive_tasks(), 0);
}

#[test]
fn the_child_is_named_rate_gate() {
    let spec = RateGate::new().child_spec();
    assert_eq!(&**spec.id(), "rate_gate");
    assert!(spec.validate().is_ok());
}
