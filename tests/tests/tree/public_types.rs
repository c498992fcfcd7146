//! What a host holds can be shared between threads and printed, and what it awaits can be spawned.

use std::fmt::Debug;
use std::time::Duration;

use perennial::breaker::{BreakerEvent, DuplicateBreaker};
use perennial::config::{ConfigEntry, GetError, Subscription};
use perennial::debug::{CommandError, NodeSnapshot, TimelineEntry};
use perennial::guard::{GuardBuilder, GuardConfigError, NoPool};
use perennial::pool::{DuplicatePool, Holder, Pools};
use perennial::supervisor::{PartitionedChildInfo, PartitionedSpec, PartitionedSupervisorBuilder};
use perennial::{
    Address, AnalyzerWorker, DATABASE, DatabaseWorker, Name, Tree, UpdateProtectedError,
};
use perennial_testkit::Order;

fn shared<T: Debug + Send + Sync>() {}
fn sent<T: Send>(value: T) -> T {
    value
}

#[test]
fn public_types_are_debug_send_and_sync() {
    macro_rules! check {
        ($($ty:ty),* $(,)?) => { $(shared::<$ty>();)* };
    }
    check!(
        perennial::ActorName,
        perennial::ActorPath,
        perennial::Algorithm,
        perennial::AutoShutdown,
        perennial::Backoff,
        perennial::Breaker,
        perennial::BreakerConfig,
        perennial::BreakerState,
        perennial::BreakerStatus,
        perennial::CallError<()>,
        perennial::CastError<Order>,
        perennial::Checkout<DatabaseWorker>,
        perennial::CheckoutError,
        perennial::ChildKind,
        perennial::ChildSpec,
        perennial::ChildState,
        perennial::CircuitOpen,
        perennial::ConfigChange,
        perennial::ConfigKey<u32>,
        perennial::ConfigServer,
        perennial::ConfigSettings,
        perennial::DatabaseSettings,
        perennial::Debugger,
        perennial::Decision,
        perennial::Down,
        perennial::Event,
        perennial::EventKind,
        perennial::Events,
        perennial::Exit,
        perennial::ExitReason,
        perennial::Guard,
        perennial::GuardError<std::io::Error>,
        perennial::HealthAggregator,
        perennial::MemoryManager,
        perennial::Missed,
        perennial::Monitor,
        perennial::NoHost,
        perennial::Node,
        perennial::OpenTime,
        perennial::Outcome,
        perennial::Overall,
        perennial::PartitionedSupervisor<Order>,
        perennial::PerformanceMonitor,
        perennial::Pool<DatabaseWorker>,
        perennial::PoolConfig,
        perennial::PoolName<DatabaseWorker>,
        perennial::PoolStatus,
        perennial::Pressure,
        perennial::Quarantine,
        perennial::Quota,
        perennial::RateGate,
        perennial::Refusal,
        perennial::Registry,
        perennial::Restart,
        perennial::RestartIntensity,
        perennial::Schema,
        perennial::Scope,
        perennial::Settings,
        perennial::SettingsError,
        perennial::SettingsErrors,
        perennial::Shutdown,
        perennial::ShutdownReport,
        perennial::Snapshot,
        perennial::StartError,
        perennial::StartTreeError,
        perennial::Strategy,
        perennial::SupervisionSettings,
        perennial::Supervisor,
        perennial::SupervisorSpec,
        perennial::Trip,
        perennial::UpdateError,
        perennial::Watchdog,
        perennial::Watching,
        perennial::WorkerError,
        perennial::WorkerRef<Order>,
        Address<Order>,
        AnalyzerWorker,
        BreakerEvent,
        CommandError,
        ConfigEntry,
        DatabaseWorker,
        DuplicateBreaker,
        DuplicatePool,
        GetError,
        GuardBuilder<NoPool, ()>,
        GuardConfigError,
        Holder,
        Name<Order>,
        NodeSnapshot,
        PartitionedChildInfo,
        PartitionedSpec<Order>,
        PartitionedSupervisorBuilder<Order>,
        Pools,
        Subscription,
        TimelineEntry,
        Tree,
        UpdateProtectedError,
    );
    // A builder collects closures that run once, so it is not shared.
    fn moved<T: Debug + Send>() {}
    moved::<perennial::TreeBuilder>();
    moved::<perennial::StartContext>();
    moved::<perennial::Started>();
}

#[tokio::test]
async fn the_futures_of_the_facade_can_be_spawned() {
    let tree = Tree::builder("t")
        .child(crate::support::puppet("a"))
        .start();
    let tree = sent(tree).await.unwrap();
    let name: Name<Order> = Name::new("a");
    let call = sent(tree.call(name, |reply| Order::Echo(1, reply), Duration::from_secs(9)));
    assert_eq!(call.await.unwrap(), 1);
    let name: Name<Order> = Name::new("a");
    let down = tree.monitor(&name).unwrap();
    let mut events = tree.debug().events();
    let guard = tree
        .guard("database")
        .pool(DATABASE)
        .rate_key(7_u8)
        .build()
        .unwrap();
    let run = sent(guard.run(|db| async move { db.batch("SELECT 1").await }));
    run.await.unwrap();
    let once = tree.guard("database").pool(DATABASE);
    sent(once.run(|db| async move { db.batch("SELECT 1").await }))
        .await
        .unwrap();
    let pool = tree.pool(DATABASE).unwrap();
    drop(sent(pool.checkout()).await.unwrap());
    drop(
        sent(tree.update_protected("no.such", 1, "user"))
            .await
            .unwrap_err(),
    );
    drop(sent(tree.health().check()).await);
    drop(sent(tree.debug().snapshot()).await);
    sent(tree.debug().kill("t/host/a")).await.unwrap();
    assert_eq!(sent(down).await.incarnation, 1);
    drop(sent(events.next()).await);
    sent(tree.shutdown()).await;
    drop(sent(tree.ended()).await);
}
