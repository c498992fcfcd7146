//! Names over the lives of their actors.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_lifecycle::{ActorName, Backoff, ChildSpec, ExitReason, Quarantine, Scope};
use perennial_registry::{CallError, Gate, GateRefused, Name, Refusal, Registry, SenderKey};
use perennial_supervisor::{RestartIntensity, Supervisor};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;

enum Msg {
    Add(u64),
    Total(RpcReplyPort<u64>),
    Mute(RpcReplyPort<u64>),
    Crash(RpcReplyPort<u64>),
    Hang(RpcReplyPort<u64>),
}

const SUM: Name<Msg> = Name::new("sum");
const SECOND: Duration = Duration::from_secs(1);

struct Sum;

impl Actor for Sum {
    type Msg = Msg;
    type State = u64;
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<Msg>, _: ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }
    async fn handle(
        &self,
        _: ActorRef<Msg>,
        message: Msg,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Add(n) => *sum += n,
            Msg::Total(reply) => reply.send(*sum)?,
            Msg::Mute(reply) => drop(reply),
            Msg::Crash(_reply) => return Err("crashed".into()),
            Msg::Hang(_reply) => std::future::pending().await,
        }
        Ok(())
    }
}

fn spec(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Sum, ())).name(SUM.to_actor_name())
}

async fn tree(specs: impl IntoIterator<Item = ChildSpec>) -> (Registry, Supervisor) {
    let scope = Scope::new("t");
    let registry = Registry::new(&scope);
    let supervisor = Supervisor::builder()
        .intensity(RestartIntensity::new(100, SECOND))
        .child(registry.child_spec())
        .children(specs)
        .build()
        .unwrap()
        .start_in(&scope)
        .await
        .unwrap();
    (registry, supervisor)
}

#[tokio::test(start_paused = true)]
async fn reg_1_a_name_outlives_the_restart_of_its_actor_and_of_the_registry() {
    let (registry, supervisor) = tree([spec("a")]).await;
    let held = registry.resolve(&SUM).unwrap();
    for id in ["a", "registry"] {
        registry.cast(SUM, Msg::Add(1)).unwrap();
        let node = supervisor.node().child(id).unwrap();
        node.current().unwrap().kill();
        let total = registry.call(SUM, Msg::Total, SECOND).await;
        // The one that was hit may or may not have been the callee of that call.
        if let Ok(total) = total {
            assert!(total <= 1);
        }
        node.running().await;
    }
    held.cast(Msg::Add(5)).unwrap();
    assert!(held.call(Msg::Total, SECOND).await.unwrap() >= 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_an_actor_that_is_coming_back() {
    let (registry, supervisor) = tree([spec("a")]).await;
    supervisor.terminate_child("a").await.unwrap();
    let refused = registry.cast(SUM, Msg::Add(1)).unwrap_err();
    assert!(matches!(refused.refusal, Refusal::NotRunning { .. }));
    assert!(matches!(refused.message, Msg::Add(1)));

    let call = tokio::spawn({
        let registry = registry.clone();
        async move { registry.call(SUM, Msg::Total, SECOND).await }
    });
    tokio::time::sleep(SECOND / 2).await;
    supervisor.restart_child("a").await.unwrap();
    assert_eq!(call.await.unwrap().unwrap(), 0);

    supervisor.terminate_child("a").await.unwrap();
    let late = registry.call(SUM, Msg::Total, SECOND).await.unwrap_err();
    assert!(matches!(
        late,
        CallError::Refused(error) if matches!(error.refusal, Refusal::NotRunning { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_call_says_why_it_brought_no_answer() {
    let (registry, _supervisor) = tree([spec("a")]).await;
    let muted = registry.call(SUM, Msg::Mute, SECOND).await.unwrap_err();
    assert!(matches!(muted, CallError::NoReply { .. }));
    let crashed = registry.call(SUM, Msg::Crash, SECOND).await.unwrap_err();
    assert!(
        matches!(&crashed, CallError::CalleeFailed { reason, .. } if reason.to_string() == "failed: crashed"),
        "{crashed:?}"
    );
    let hung = registry.call(SUM, Msg::Hang, SECOND).await.unwrap_err();
    assert!(matches!(hung, CallError::TimedOut { .. }));
}

#[tokio::test(start_paused = true)]
async fn reg_2_a_second_actor_cannot_take_a_name_and_the_error_names_the_holder() {
    let (registry, supervisor) = tree([spec("a")]).await;
    let error = supervisor.start_child(spec("b")).await.unwrap_err();
    assert!(
        error.to_string().contains("`sum` is held by t/a"),
        "{error}"
    );
    supervisor.terminate_child("a").await.unwrap();
    supervisor.start_child(spec("b")).await.unwrap();
    assert_eq!(registry.entries()[0].path.as_str(), "t/b");
}

#[tokio::test(start_paused = true)]
async fn reg_4_two_trees_never_meet() {
    let (one, _first) = tree([spec("a")]).await;
    let (two, _second) = tree([spec("a")]).await;
    one.cast(SUM, Msg::Add(1)).unwrap();
    assert_eq!(one.call(SUM, Msg::Total, SECOND).await.unwrap(), 1);
    assert_eq!(two.call(SUM, Msg::Total, SECOND).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_made_at_run_time_are_checked() {
    let (registry, _supervisor) = tree([spec("a")]).await;
    let wrong: Name<u8> = Name::of_kind(ActorName::HOST, "sum");
    let error = registry.cast(wrong, 3).unwrap_err();
    assert_eq!(error.message, 3);
    assert!(matches!(error.refusal, Refusal::WrongType { .. }));
    let unknown: Name<Msg> = Name::of_kind(ActorName::HOST, "none");
    assert!(matches!(
        registry.call(unknown, Msg::Total, SECOND).await,
        Err(CallError::Refused(error)) if matches!(error.refusal, Refusal::Unknown { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn reg_3_a_gate_is_asked_before_each_cast_and_call() {
    struct Shut(Arc<AtomicBool>);
    impl Gate for Shut {
        fn admit(&self) -> Result<(), GateRefused> {
            if self.0.load(SeqCst) {
                Err(GateRefused {
                    retry_after: Some(SECOND),
                })
            } else {
                Ok(())
            }
        }
    }
    let (registry, _supervisor) = tree([spec("a")]).await;
    let shut = Arc::new(AtomicBool::new(true));
    registry.set_gate(SUM.as_actor_name(), Box::new(Shut(Arc::clone(&shut))));
    let refused = registry.cast(SUM, Msg::Add(4)).unwrap_err();
    assert_eq!(refused.refusal.retry_after(), Some(SECOND));
    assert!(registry.call(SUM, Msg::Total, SECOND).await.is_err());
    shut.store(false, SeqCst);
    registry.cast(SUM, refused.message).unwrap();
    assert_eq!(registry.call(SUM, Msg::Total, SECOND).await.unwrap(), 4);
    registry.clear_gate(SUM.as_actor_name());
}

#[tokio::test(start_paused = true)]
async fn reg_3_a_gate_is_asked_also_before_a_name_that_was_used_without() {
    /// Counts, and uses the registry as a host's own gate might.
    struct Counting(Registry, Arc<AtomicU64>);
    impl Gate for Counting {
        fn admit(&self) -> Result<(), GateRefused> {
            self.1.fetch_add(1, SeqCst);
            self.0.sweep();
            self.0
                .clear_gate(Name::<()>::new("another").as_actor_name());
            Ok(())
        }
    }
    let (registry, _supervisor) = tree([spec("a")]).await;
    let address = registry.resolve(&SUM).unwrap();
    let use_all = async || {
        for _ in 0..3 {
            registry.cast(SUM, Msg::Add(1)).unwrap();
            address.cast(Msg::Add(1)).unwrap();
            address.send(Msg::Add(1), SECOND).await.unwrap();
            registry.call(SUM, Msg::Total, SECOND).await.unwrap();
            address.call(Msg::Total, SECOND).await.unwrap();
        }
    };
    use_all().await;
    let asked = Arc::new(AtomicU64::new(0));
    let gate = Counting(registry.clone(), Arc::clone(&asked));
    registry.set_gate(SUM.as_actor_name(), Box::new(gate));
    use_all().await;
    assert_eq!(asked.load(SeqCst), 15);
    registry.clear_gate(SUM.as_actor_name());
    use_all().await;
    assert_eq!(asked.load(SeqCst), 15);
    assert_eq!(
        registry.call(SUM, Msg::Total, SECOND).await.unwrap(),
        3 * 3 * 3
    );
}

#[tokio::test(start_paused = true)]
async fn reg_22_the_gate_is_given_the_key_of_the_sender() {
    struct Noting(Arc<Mutex<Vec<Option<SenderKey>>>>);
    impl Gate for Noting {
        fn admit(&self) -> Result<(), GateRefused> {
            self.0.lock().unwrap().push(None);
            Ok(())
        }
        fn admit_for(&self, key: SenderKey) -> Result<(), GateRefused> {
            self.0.lock().unwrap().push(Some(key));
            Ok(())
        }
    }
    let (registry, _supervisor) = tree([spec("a")]).await;
    let noted = Arc::default();
    registry.set_gate(SUM.as_actor_name(), Box::new(Noting(Arc::clone(&noted))));
    let take = || std::mem::take(&mut *noted.lock().unwrap());

    let ada = || SUM.for_key("ada");
    registry.cast(ada(), Msg::Add(1)).unwrap();
    registry.call(ada(), Msg::Total, SECOND).await.unwrap();
    let bound = registry.resolve(&ada()).unwrap();
    bound.cast(Msg::Add(1)).unwrap();
    // A `String` is the same key.
    let address = registry.resolve(&SUM).unwrap();
    let address = address.for_key(&"ada".to_owned());
    address.send(Msg::Add(1), SECOND).await.unwrap();
    address.clone().call(Msg::Total, SECOND).await.unwrap();
    let keys = take();
    assert_eq!(keys.len(), 5);
    assert!(keys[0].is_some() && keys.iter().all(|it| *it == keys[0]));

    registry.cast(SUM.for_key("bob"), Msg::Add(1)).unwrap();
    registry
        .cast(SUM.for_key(&("ada", 1)), Msg::Add(1))
        .unwrap();
    registry.cast(SUM, Msg::Add(1)).unwrap();
    let others = take();
    assert!(others[0].is_some() && others[0] != keys[0]);
    assert!(others[1].is_some() && others[1] != keys[0]);
    assert_eq!(others[2], None);
}

#[tokio::test(start_paused = true)]
async fn names_of_actors_that_are_gone_for_good_are_swept() {
    let (registry, supervisor) = tree([spec("a").temporary()]).await;
    let waiting = registry.wait_for(&SUM).await.unwrap().incarnation;
    waiting.stop(ExitReason::Shutdown);
    waiting.ended().await;
    // Answered behind the notice of the end.
    supervisor.count_children().await.unwrap();
    assert_eq!(registry.sweep(), 1);
    assert!(registry.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn reg_8_a_name_whose_place_has_an_actor_of_another_name_is_swept() {
    let (registry, supervisor) = tree([]).await;
    let session = |number: u32| {
        let name = Name::<Msg>::of_kind("session", number.to_string());
        spec("a").name(name.to_actor_name()).temporary()
    };
    supervisor.start_child(session(1)).await.unwrap();
    supervisor.terminate_child("a").await.unwrap();
    supervisor.start_child(session(2)).await.unwrap();
    assert_eq!(registry.sweep(), 1);
    let names: Vec<_> = registry
        .entries()
        .iter()
        .map(|it| it.name.to_string())
        .collect();
    assert_eq!(names, ["session:2"]);
}

#[tokio::test(start_paused = true)]
async fn wait_for_completes_when_an_actor_is_first_started_under_the_name() {
    let (registry, supervisor) = tree([]).await;
    let waiting = tokio::spawn({
        let registry = registry.clone();
        async move { registry.wait_for(&SUM).await.unwrap().epoch }
    });
    tokio::task::yield_now().await;
    supervisor.start_child(spec("a")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn reg_9_the_name_of_an_actor_in_quarantine_says_until_when_it_is_unavailable() {
    let times = Backoff::constant(30 * SECOND);
    let parked = spec("a")
        .budget(RestartIntensity::new(0, SECOND))
        .quarantine(Quarantine::new(times));
    let (registry, supervisor) = tree([parked]).await;
    let node = supervisor.node().child("a").unwrap();
    let run = node.current().unwrap();
    run.kill();
    run.ended().await;
    // One that waits for the actor meanwhile is told as soon as it is known.
    let waiting = registry.call(SUM, Msg::Total, 3600 * SECOND).await;
    let until = Instant::now() + 30 * SECOND;
    let unavailable = Refusal::Unavailable {
        name: SUM.to_actor_name(),
        until,
    };
    match waiting.unwrap_err() {
        CallError::Refused(error) => assert_eq!(error.refusal, unavailable),
        other => panic!("{other}"),
    }
    let refused = registry.cast(SUM, Msg::Add(1)).unwrap_err();
    assert_eq!(refused.refusal, unavailable);
    assert!(matches!(refused.message, Msg::Add(1)));
    assert!(unavailable.is_retryable());
    assert_eq!(unavailable.retry_after(), Some(30 * SECOND));
    assert_eq!(
        unavailable.to_string(),
        "`sum` is unavailable, in quarantine for another 30s"
    );
    tokio::time::sleep_until(until).await;
    assert_eq!(registry.call(SUM, Msg::Total, SECOND).await.unwrap(), 0);
}
