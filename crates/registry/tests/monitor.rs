//! Notices by name.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use perennial_lifecycle::{ChildSpec, Down, ExitReason, Monitor, Scope};
use perennial_registry::{Name, Refusal, Registry};
use perennial_supervisor::{RestartIntensity, Supervisor, SupervisorBuilder};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);
const LEDGER: Name<&'static str> = Name::new("ledger");

/// Fails with whatever it is told; some runs do not come up at all.
struct Ledger;

impl Actor for Ledger {
    type Msg = &'static str;
    type State = ();
    type Arguments = Option<&'static str>;

    async fn pre_start(
        &self,
        _: ActorRef<&'static str>,
        refused: Option<&'static str>,
    ) -> Result<(), ActorProcessingErr> {
        match refused {
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }

    async fn handle(
        &self,
        myself: ActorRef<&'static str>,
        text: &'static str,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match text {
            "stop" => myself.stop(None),
            text => return Err(text.into()),
        }
        Ok(())
    }
}

fn ledger() -> ChildSpec {
    ChildSpec::worker("ledger", || (Ledger, None)).name(LEDGER.to_actor_name())
}

fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(10_000, SECOND))
}

async fn tree(spec: ChildSpec) -> (Registry, Supervisor) {
    let scope = Scope::new("t");
    let registry = Registry::new(&scope);
    let builder = generous().child(registry.child_spec()).child(spec);
    let started = builder.build().unwrap().start_in(&scope).await;
    (registry, started.unwrap())
}

async fn notice(monitor: Monitor) -> String {
    let down = tokio::time::timeout(60 * SECOND, monitor).await;
    down.expect("no notice").to_string()
}

#[tokio::test(start_paused = true)]
async fn life_7_a_name_is_watched_run_by_run_and_also_when_its_actor_is_gone() {
    let (registry, supervisor) = tree(ledger().transient()).await;
    let address = registry.resolve(&LEDGER).unwrap();
    let first = [registry.monitor(&LEDGER), address.monitor()];
    registry.cast(LEDGER, "broken").unwrap();
    for monitor in first {
        let told = notice(monitor.unwrap()).await;
        assert_eq!(told, "t/ledger #1 is down: failed: broken");
    }
    // The name goes on to the next run, and so does a new monitor.
    registry.wait_for(&LEDGER).await.unwrap();
    let second = address.monitor().unwrap();
    registry.cast(LEDGER, "stop").unwrap();
    assert_eq!(notice(second).await, "t/ledger #2 is down: normal");
    // A transient actor that stopped stays down.
    supervisor.count_children().await.unwrap();
    for monitor in [registry.monitor(&LEDGER), address.monitor()] {
        assert_eq!(
            notice(monitor.unwrap()).await,
            "t/ledger #2 is down: normal"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn life_9_a_name_whose_actor_failed_to_start_gives_notice() {
    let scope = Scope::new("t");
    let registry = Registry::new(&scope);
    let spec = ChildSpec::worker("ledger", || (Ledger, Some("no licence")));
    let builder = generous().child(spec.name(LEDGER.to_actor_name()));
    builder.build().unwrap().start_in(&scope).await.unwrap_err();
    for _ in 0..2 {
        let told = notice(registry.monitor(&LEDGER).unwrap()).await;
        assert_eq!(told, "t/ledger #1 is down: failed: no licence");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_actor_or_of_another_type_cannot_be_watched() {
    let (registry, _supervisor) = tree(ledger()).await;
    let nobody: Name<&'static str> = Name::new("nobody");
    let error = registry.monitor(&nobody).unwrap_err();
    assert!(matches!(error.0, Refusal::Unknown { .. }), "{error}");
    let wrong: Name<u64> = Name::new("ledger");
    let error = registry.monitor(&wrong).unwrap_err();
    assert!(matches!(error.0, Refusal::WrongType { .. }), "{error}");
}

enum ClerkMsg {
    Watch,
    LedgerDown(Down),
}

/// Watches ledgers by name, and passes the notices on.
struct Clerk;

impl Actor for Clerk {
    type Msg = ClerkMsg;
    type State = (Registry, mpsc::Sender<String>);
    type Arguments = (Registry, mpsc::Sender<String>);

    async fn pre_start(
        &self,
        _: ActorRef<ClerkMsg>,
        state: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ClerkMsg>,
        message: ClerkMsg,
        (registry, told): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ClerkMsg::Watch => {}
            ClerkMsg::LedgerDown(down) => told.send(down.to_string()).await?,
        }
        // Its supervisor brings it back: on to the next run.
        registry.wait_for(&LEDGER).await.unwrap();
        let monitor = registry.monitor(&LEDGER)?;
        monitor.send_to(&myself, ClerkMsg::LedgerDown);
        told.send("watches".to_owned()).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn life_10_an_actor_that_watches_each_run_hears_of_each_end_once() {
    let (registry, _supervisor) = tree(ledger()).await;
    let (told, mut heard) = mpsc::channel(4);
    let (clerk, _) = Actor::spawn(None, Clerk, (registry.clone(), told))
        .await
        .unwrap();
    let mut expect = async |text: &str| {
        let heard = tokio::time::timeout(60 * SECOND, heard.recv()).await;
        assert_eq!(heard.expect("heard nothing").as_deref(), Some(text));
    };
    clerk.cast(ClerkMsg::Watch).unwrap();
    for number in 1..=20 {
        expect("watches").await;
        registry.cast(LEDGER, "broken").unwrap();
        let down = format!("t/ledger #{number} is down: failed: broken");
        expect(&down).await;
    }
    expect("watches").await;
    assert!(heard.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_8_by_name_every_monitor_gives_one_notice_while_the_actor_comes_and_goes() {
    let (registry, supervisor) = tree(ledger()).await;
    let node = supervisor.node().child("ledger").unwrap();
    for round in 0..200 {
        let run = node.running().await;
        let begin = Arc::new(Barrier::new(4));
        let watchers = [(); 3].map(|()| {
            let (registry, begin) = (registry.clone(), Arc::clone(&begin));
            tokio::task::spawn_blocking(move || {
                begin.wait();
                registry.monitor(&LEDGER).unwrap()
            })
        });
        begin.wait();
        let first = match round % 2 {
            0 => {
                run.kill();
                "killed"
            }
            _ => {
                run.stop(ExitReason::failed("asked"));
                "failed: asked"
            }
        };
        // Those that were made too late stand for the successor.
        run.ended().await;
        let next = node.running().await;
        let mut monitors = Vec::new();
        for watcher in watchers {
            monitors.push(watcher.await.unwrap());
        }
        next.stop(ExitReason::failed("last"));
        let path = node.path();
        let of_run = format!("{path} #{} is down: {first}", run.number());
        let of_next = format!("{path} #{} is down: failed: last", next.number());
        for monitor in monitors {
            let told = notice(monitor).await;
            assert!([&of_run, &of_next].contains(&&told), "{told}");
        }
        next.ended().await;
    }
}
