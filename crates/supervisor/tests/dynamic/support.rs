//! Dynamic supervisors whose children are puppets.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ChildKind, Incarnation, Node, Started};
use perennial_supervisor::{
    ChildTemplate, DynamicChild, DynamicSupervisor, DynamicSupervisorBuilder, RestartIntensity,
    Supervisor,
};
use perennial_testkit::{Order, Puppet};
use tokio::time::sleep;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) fn puppets() -> ChildTemplate<()> {
    ChildTemplate::worker("puppet", |(): &()| (Puppet, ()))
}

/// Children that take 10 ms to start.
pub(crate) fn slow() -> ChildTemplate<()> {
    ChildTemplate::from_fn("slow", ChildKind::Worker, |context, _: Arc<()>| async {
        sleep(10 * MILLISECOND).await;
        Ok(Started::from(context.spawn(Puppet, ()).await?))
    })
}

pub(crate) fn generous<Args: Send + Sync + 'static>(
    template: ChildTemplate<Args>,
) -> DynamicSupervisorBuilder<Args> {
    DynamicSupervisor::builder(template).intensity(RestartIntensity::new(1000, SECOND))
}

pub(crate) async fn start<Args: Send + Sync + 'static>(
    builder: DynamicSupervisorBuilder<Args>,
) -> DynamicSupervisor<Args> {
    builder.build().unwrap().start("t").await.unwrap()
}

pub(crate) fn order(child: &DynamicChild, order: Order) {
    let actor = child.incarnation().actor_ref().unwrap();
    assert!(actor.send_message(order).is_ok());
}

pub(crate) async fn crash(child: &DynamicChild) {
    order(child, Order::Fail("broken"));
    child.incarnation().ended().await;
}

/// Returns how many children are listed, behind everything that the supervisor was told before.
pub(crate) async fn listed<Args: Send + Sync + 'static>(
    supervisor: &DynamicSupervisor<Args>,
) -> usize {
    supervisor.which_children().await.unwrap().len()
}

/// Waits for the run that follows `child`.
pub(crate) async fn successor(child: &DynamicChild) -> Arc<Incarnation> {
    child.incarnation().ended().await;
    child.node().running().await
}

/// A supervisor over a dynamic one, and the place of the latter.
pub(crate) async fn nested(
    template: ChildTemplate<()>,
    concurrent: bool,
) -> (Supervisor, Arc<Node>) {
    let dynamic = generous(template).concurrent_starts(concurrent);
    let root = Supervisor::builder()
        .child(dynamic.build().unwrap().into_child("nested"))
        .build()
        .unwrap()
        .start("t")
        .await
        .unwrap();
    let place = root.node().child("nested").unwrap();
    (root, place)
}
