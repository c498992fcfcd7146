//! Supervisors whose children are puppets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use perennial_lifecycle::{ChildKind, ChildSpec, ExitReason, Incarnation, Node, StartError};
use perennial_supervisor::{ChildStatus, RestartIntensity, Supervisor, SupervisorBuilder};
use perennial_testkit::{Order, Puppet};
use tokio::time::Instant;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn puppet(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Puppet, ()))
}

/// A child that does not start while the flag says so.
pub(crate) fn moody(id: &str) -> (ChildSpec, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&broken);
    let spec = ChildSpec::from_fn(id, ChildKind::Worker, move |context| {
        let broken = flag.load(SeqCst);
        async move {
            if broken {
                return Err(StartError::new(ExitReason::failed("no database")));
            }
            Ok(context.spawn(Puppet, ()).await?.into())
        }
    });
    (spec, broken)
}

pub(crate) fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(100, SECOND))
}

pub(crate) async fn start(builder: SupervisorBuilder) -> Supervisor {
    builder.build().unwrap().start("t").await.unwrap()
}

pub(crate) fn node(supervisor: &Supervisor, id: &str) -> Arc<Node> {
    supervisor.node().child(id).unwrap()
}

pub(crate) fn order(node: &Node, order: Order) -> Arc<Incarnation> {
    let run = node.current().unwrap();
    assert!(run.actor_ref().unwrap().send_message(order).is_ok());
    run
}

/// Crashes a child and waits until its supervisor has dealt with that.
pub(crate) async fn crash(supervisor: &Supervisor, id: &str) {
    order(&node(supervisor, id), Order::Fail("broken"))
        .ended()
        .await;
    settled(supervisor).await;
}

/// Answered behind everything that the supervisor was told before.
pub(crate) async fn settled(supervisor: &Supervisor) {
    supervisor.count_children().await.unwrap();
}

pub(crate) async fn status(supervisor: &Supervisor, id: &str) -> ChildStatus {
    let children = supervisor.which_children().await.unwrap();
    children
        .into_iter()
        .find(|it| *it.id == *id)
        .unwrap()
        .status
}

/// Waits until the child runs, and says after how long.
pub(crate) async fn back_after(node: &Node) -> Duration {
    let began = Instant::now();
    node.running().await;
    began.elapsed()
}

/// The number of each child's run; `None` for one that is down.
pub(crate) fn runs<const N: usize>(supervisor: &Supervisor, ids: [&str; N]) -> [Option<u64>; N] {
    ids.map(|id| node(supervisor, id).current().map(|run| run.number()))
}
