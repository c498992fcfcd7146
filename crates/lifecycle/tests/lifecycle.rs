//! How actors end, seen from the parent's side.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{
    Child, ChildKey, Exit, ExitReason, Incarnation, Node, ParentLink, Scope, StartContext,
    StartError, WallTime,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "thrown");
    }
}

enum Hold {
    Briefly,
    ForEver,
}

enum Order {
    /// Holds it for as long as it says.
    Hold(
        Hold,
        #[allow(dead_code, reason = "it is there to be dropped")] Grenade,
    ),
    Fail,
    Panic,
    Exit(ExitReason),
    Hang,
}

struct Puppet;

#[derive(Default)]
struct Setup {
    fail_start: bool,
    panic_start: bool,
    stop: Option<ExitReason>,
    stopped: Option<mpsc::Sender<&'static str>>,
    /// Something that the state holds until it is dropped.
    _held: Option<Arc<()>>,
}

impl Actor for Puppet {
    type Msg = Order;
    type State = Setup;
    type Arguments = Setup;
    async fn pre_start(
        &self,
        _: ActorRef<Order>,
        setup: Setup,
    ) -> Result<Setup, ActorProcessingErr> {
        assert!(!setup.panic_start, "no start");
        if setup.fail_start {
            return Err("refused".into());
        }
        Ok(setup)
    }
    async fn handle(
        &self,
        _: ActorRef<Order>,
        order: Order,
        _: &mut Setup,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail => Err("broken".into()),
            Order::Panic => panic!("bang {}", 7),
            Order::Exit(reason) => Err(Exit(reason).into()),
            Order::Hang => std::future::pending().await,
            Order::Hold(Hold::Briefly, _) => Ok(()),
            Order::Hold(Hold::ForEver, _held) => std::future::pending().await,
        }
    }
    async fn post_stop(
        &self,
        _: ActorRef<Order>,
        setup: &mut Setup,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(stopped) = &setup.stopped {
            stopped.send("post_stop").await?;
        }
        match setup.stop.take() {
            Some(reason) => Err(Exit(reason).into()),
            None => Ok(()),
        }
    }
}

struct Notices {
    scope: Scope,
    sender: mpsc::Sender<(ChildKey, u64, String)>,
}

impl ParentLink for Notices {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn child_ended(&self, key: ChildKey, run: Arc<Incarnation>, _: WallTime) {
        let reason = run.exit_reason().unwrap();
        // At most a handful in these tests.
        self.sender
            .try_send((key, run.number(), reason.to_string()))
            .unwrap();
    }
}

struct Parent {
    node: Arc<Node>,
    link: Arc<Notices>,
    notices: mpsc::Receiver<(ChildKey, u64, String)>,
}

impl Parent {
    fn new() -> Self {
        let scope = Scope::new("t");
        let (send, notices) = mpsc::channel(16);
        Self {
            node: scope.root().child_or_insert(&Arc::from("puppet")),
            link: Arc::new(Notices {
                scope,
                sender: send,
            }),
            notices,
        }
    }

    async fn start(&self, setup: Setup) -> Result<Child, StartError> {
        let link = Arc::clone(&self.link) as Arc<dyn ParentLink>;
        StartContext::new(Arc::clone(&self.node), link, 9, None)
            .spawn(Puppet, setup)
            .await
    }

    async fn running(&self, setup: Setup) -> Arc<Incarnation> {
        self.start(setup).await.unwrap().adopt().unwrap()
    }
}

fn send(to: &Incarnation, order: Order) {
    assert!(to.actor_ref::<Order>().unwrap().send_message(order).is_ok());
}

#[tokio::test]
async fn life_1_every_way_out_is_reported_once_with_its_reason() {
    let mut parent = Parent::new();
    let cases: Vec<(Order, &str)> = vec![
        (Order::Fail, "failed: broken"),
        (Order::Panic, "panicked: bang 7"),
        (Order::Exit(ExitReason::Normal), "normal"),
        (Order::Exit(ExitReason::Shutdown), "shutdown"),
        (Order::Exit(ExitReason::failed("own")), "failed: own"),
    ];
    for (number, (order, expected)) in (1..).zip(cases) {
        let run = parent.running(Setup::default()).await;
        send(&run, order);
        let notice = parent.notices.recv().await.unwrap();
        assert_eq!(notice, (9, number, expected.to_owned()));
        assert_eq!(run.ended().await.to_string(), expected);
        assert!(parent.node.current().is_none());
        assert_eq!(parent.node.last_end().unwrap().incarnation, number);
    }
    assert!(parent.notices.try_recv().is_err());
}

#[tokio::test]
async fn life_1_a_message_whose_drop_panics_is_the_end_of_who_drops_it_only() {
    let mut parent = Parent::new();
    let briefly = || Order::Hold(Hold::Briefly, Grenade);
    let run = parent.running(Setup::default()).await;
    send(&run, briefly());
    let (_, _, reason) = parent.notices.recv().await.unwrap();
    assert_eq!(reason, "panicked: thrown");

    // What comes at the end of an actor does not hide what that was.
    let run = parent.running(Setup::default()).await;
    send(&run, Order::Hold(Hold::ForEver, Grenade));
    send(&run, briefly());
    while run.in_hand().is_none() {
        tokio::task::yield_now().await;
    }
    run.kill();
    assert_eq!(parent.notices.recv().await.unwrap().2, "killed");
    let run = parent.running(Setup::default()).await;
    send(&run, Order::Fail);
    send(&run, briefly());
    assert_eq!(parent.notices.recv().await.unwrap().2, "failed: broken");
    let run = parent.running(Setup::default()).await;
    send(&run, briefly());
    run.stop(ExitReason::Shutdown);
    assert_eq!(parent.notices.recv().await.unwrap().2, "shutdown");
}

#[tokio::test]
async fn life_1_a_kill_and_a_stop_are_told_apart() {
    let mut parent = Parent::new();
    let run = parent.running(Setup::default()).await;
    send(&run, Order::Hang);
    run.kill();
    assert_eq!(parent.notices.recv().await.unwrap().2, "killed");

    let run = parent.running(Setup::default()).await;
    run.stop(ExitReason::Shutdown);
    assert_eq!(parent.notices.recv().await.unwrap().2, "shutdown");

    // Stopped behind our back: it ended in order, and nobody of ours asked.
    let run = parent.running(Setup::default()).await;
    run.cell().stop(Some("killed".into()));
    assert_eq!(parent.notices.recv().await.unwrap().2, "normal");

    let run = parent.running(Setup::default()).await;
    run.cell().kill();
    assert_eq!(parent.notices.recv().await.unwrap().2, "killed");
}

/// Links others to itself as ractor does it, and is busy until it is told to go on.
struct Stranger;

impl Actor for Stranger {
    type Msg = oneshot::Receiver<()>;
    type State = mpsc::Sender<String>;
    type Arguments = mpsc::Sender<String>;
    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        told: mpsc::Sender<String>,
    ) -> Result<mpsc::Sender<String>, ActorProcessingErr> {
        Ok(told)
    }
    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        go_on: oneshot::Receiver<()>,
        _: &mut mpsc::Sender<String>,
    ) -> Result<(), ActorProcessingErr> {
        Ok(go_on.await?)
    }
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        told: &mut mpsc::Sender<String>,
    ) -> Result<(), ActorProcessingErr> {
        let what = match event {
            SupervisionEvent::ActorTerminated(_, state, reason) => {
                assert!(state.is_none(), "the state is gone");
                format!("terminated: {reason:?}")
            }
            SupervisionEvent::ActorFailed(..) => "failed".to_owned(),
            _ => return Ok(()),
        };
        Ok(told.send(what).await?)
    }
}

#[tokio::test(start_paused = true)]
async fn life_1_an_end_is_reported_at_once_also_of_an_actor_that_ractor_links_to_another() {
    fn order(order: Order) -> Box<dyn Fn(&Incarnation)> {
        let order = std::cell::Cell::new(Some(order));
        Box::new(move |run| send(run, order.take().unwrap()))
    }
    fn stop(run: &Incarnation) {
        run.stop(ExitReason::Shutdown);
    }
    fn kill(run: &Incarnation) {
        run.kill();
        run.kill();
    }
    type Way = (Box<dyn Fn(&Incarnation)>, &'static str, &'static str);
    let ways: Vec<Way> = vec![
        (
            Box::new(stop),
            "shutdown",
            r#"terminated: Some("shutdown")"#,
        ),
        (
            Box::new(|run| run.cell().stop(None)),
            "normal",
            "terminated: None",
        ),
        (
            order(Order::Exit(ExitReason::Normal)),
            "normal",
            "terminated: None",
        ),
        (Box::new(kill), "killed", r#"terminated: Some("killed")"#),
        (order(Order::Fail), "failed: broken", "failed"),
        (order(Order::Panic), "panicked: bang 7", "failed"),
    ];
    let mut parent = Parent::new();
    let (told, mut heard) = mpsc::channel(4);
    let (stranger, _) = Actor::spawn(None, Stranger, told).await.unwrap();
    for (end, reason, expected) in ways {
        for hangs in [false, true] {
            if hangs && reason != "killed" {
                continue;
            }
            let held = Arc::new(());
            let setup = Setup {
                _held: Some(Arc::clone(&held)),
                ..Setup::default()
            };
            let run = parent.running(setup).await;
            run.cell().link(stranger.get_cell());
            let (go_on, busy) = oneshot::channel();
            stranger.send_message(busy).unwrap();
            if hangs {
                send(&run, Order::Hang);
                while run.in_hand().is_none() {
                    tokio::task::yield_now().await;
                }
            }
            end(&run);
            let hour = Duration::from_secs(3600);
            let notice = timeout(hour, parent.notices.recv()).await;
            assert_eq!(notice.expect("in time").unwrap().2, reason);
            assert_eq!(Arc::strong_count(&held), 1, "what it held is free");
            assert!(run.cell().try_get_supervisor().is_none());
            // The stranger hears of it as ever, once, when it comes to it.
            go_on.send(()).unwrap();
            assert_eq!(heard.recv().await.unwrap(), expected);
        }
    }
    assert!(parent.notices.try_recv().is_err());
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_reason_given_by_post_stop_stands() {
    let mut parent = Parent::new();
    let setup = Setup {
        stop: Some(ExitReason::failed("could not flush")),
        ..Setup::default()
    };
    let run = parent.running(setup).await;
    run.stop(ExitReason::Shutdown);
    assert_eq!(
        parent.notices.recv().await.unwrap().2,
        "failed: could not flush"
    );
}

#[tokio::test]
async fn a_start_that_fails_or_panics_leaves_no_run_and_no_notice() {
    let mut parent = Parent::new();
    let setup = Setup {
        fail_start: true,
        ..Setup::default()
    };
    let error = parent.start(setup).await.unwrap_err();
    assert_eq!(error.reason.to_string(), "failed: refused");
    let setup = Setup {
        panic_start: true,
        ..Setup::default()
    };
    let error = parent.start(setup).await.unwrap_err();
    assert_eq!(error.reason.to_string(), "panicked: no start");
    assert!(parent.node.current().is_none());
    assert_eq!(parent.node.incarnations(), 2);
    assert!(parent.notices.try_recv().is_err());
}

#[tokio::test]
async fn life_2_a_child_that_nobody_adopts_is_stopped_in_order() {
    let mut parent = Parent::new();
    let (stopped, mut seen) = mpsc::channel(1);
    let setup = Setup {
        stopped: Some(stopped),
        ..Setup::default()
    };
    drop(parent.start(setup).await.unwrap());
    assert_eq!(seen.recv().await, Some("post_stop"));
    assert_eq!(parent.notices.recv().await.unwrap().2, "killed");
}

#[tokio::test(start_paused = true)]
async fn life_3_two_runs_of_one_place_never_overlap() {
    let mut parent = Parent::new();
    let orphan = parent.running(Setup::default()).await;
    send(&orphan, Order::Hang);
    // Its handler never ends: it is asked, then killed, and only then does the successor start.
    let successor = parent.running(Setup::default()).await;
    assert!(orphan.exit_reason().is_some());
    assert_eq!(parent.notices.recv().await.unwrap().2, "killed");
    assert_eq!(parent.node.current().unwrap().number(), successor.number());
    assert!(successor.exit_reason().is_none());
}

#[tokio::test]
async fn life_11_an_answer_is_not_waited_for_beyond_the_end_of_the_run() {
    let parent = Parent::new();
    let run = parent.running(Setup::default()).await;
    // A port that outlives the actor, as one does whose message got stuck in a mailbox that was closing.
    let (port, mut answer) = oneshot::channel::<u32>();
    let (unanswered, ()) = tokio::join!(run.answer(&mut answer), async { run.kill() });
    assert_eq!(unanswered, None);
    assert!(port.send(1).is_ok(), "nobody had let go of it");

    let (port, mut answer) = oneshot::channel::<u32>();
    port.send(2).unwrap();
    assert_eq!(run.answer(&mut answer).await, Some(2), "given in time");
}

#[tokio::test]
async fn looking_at_a_stuck_actor_does_not_wait_for_it() {
    let parent = Parent::new();
    let run = parent.running(Setup::default()).await;
    assert_eq!(run.in_hand(), None);
    send(&run, Order::Hang);
    while run.in_hand().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(run.in_hand().unwrap() < Duration::from_secs(60));
    assert_eq!(run.handled(), 0);
    run.kill();
    run.ended().await;
    assert_eq!(run.in_hand(), None);
}
