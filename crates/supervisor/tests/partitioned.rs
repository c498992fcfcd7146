//! What partitioned supervisors promise, one by one.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{
    ChildKind, ChildSpec, EventKind, ExitReason, Incarnation, Node, Scope, Shutdown, Started,
};
use perennial_supervisor::{
    ChildTemplate, DynamicChild, PartitionedChildInfo, PartitionedSpec, PartitionedSupervisor,
    PartitionedSupervisorBuilder, RestartIntensity, StartChildError, Supervisor,
    SupervisorSpecError, TerminateChildError,
};
use perennial_testkit::{Order, Puppet};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const PARTITIONS: u32 = 4;

fn puppets() -> ChildTemplate<()> {
    ChildTemplate::worker("puppet", |(): &()| (Puppet, ()))
}

fn builder(template: ChildTemplate<()>) -> PartitionedSupervisorBuilder<()> {
    let often = RestartIntensity::new(1000, SECOND);
    PartitionedSupervisor::builder(template)
        .partitions(PARTITIONS.try_into().unwrap())
        .intensity_per_partition(often)
        .intensity_above(often)
}

async fn start(builder: PartitionedSupervisorBuilder<()>) -> PartitionedSupervisor<()> {
    builder.build().unwrap().start("t").await.unwrap()
}

/// Returns a key for each partition, in the order of the partitions.
fn keys(supervisor: &PartitionedSupervisor<()>) -> Vec<String> {
    let of = |index| {
        let place = supervisor.partition(index).unwrap().path();
        (0..)
            .map(|number| format!("key-{number}"))
            .find(|key| supervisor.partition_of(key).path() == place)
    };
    (0..PARTITIONS).map(|index| of(index).unwrap()).collect()
}

/// Starts a child in each partition.
async fn one_each(supervisor: &PartitionedSupervisor<()>) -> Vec<DynamicChild> {
    let mut children = Vec::new();
    for key in keys(supervisor) {
        children.push(supervisor.start_child(&key, ()).await.unwrap());
    }
    children
}

async fn crash(child: &DynamicChild) {
    let actor = child.incarnation().actor_ref().unwrap();
    assert!(actor.send_message(Order::Fail("broken")).is_ok());
    child.incarnation().ended().await;
}

/// Kills what lives at `place`, and returns the run that follows.
async fn kill(place: &Node) -> Arc<Incarnation> {
    let run = place.current().unwrap();
    run.kill();
    run.ended().await;
    place.running().await
}

fn is_alive(child: &DynamicChild) -> bool {
    child.incarnation().exit_reason().is_none()
}

/// Returns partition and id of each child in the list.
async fn listed(supervisor: &PartitionedSupervisor<()>) -> Vec<(u32, String)> {
    let list = supervisor.which_children().await.unwrap();
    let entry = |it: PartitionedChildInfo| (it.partition, it.child.id.to_string());
    list.into_iter().map(entry).collect()
}

/// A supervisor with a partitioned one below it, and the place of the latter.
async fn nested(spec: PartitionedSpec<()>) -> (Supervisor, Arc<Node>) {
    let root = Supervisor::builder()
        .intensity(RestartIntensity::new(1000, SECOND))
        .child(spec.into_child("nested"))
        .build()
        .unwrap()
        .start("t")
        .await
        .unwrap();
    let place = root.node().child("nested").unwrap();
    (root, place)
}

#[tokio::test(start_paused = true)]
async fn part_1_a_key_always_goes_to_the_same_partition() {
    let (_root, place) = nested(builder(puppets()).build().unwrap()).await;
    let supervisor = PartitionedSupervisor::<()>::at(&place).unwrap();
    assert_eq!(supervisor.partitions().get(), PARTITIONS);
    let ways = |supervisor: &PartitionedSupervisor<()>| -> Vec<String> {
        let names = (0..100).map(|number| format!("user-{number}"));
        let names = names.map(|key| supervisor.partition_of(&key).path().to_string());
        let numbers = (0..100).map(|key| supervisor.partition_of(&key).path().to_string());
        names.chain(numbers).collect()
    };
    let before = ways(&supervisor);
    let used: HashSet<_> = before.iter().map(String::as_str).collect();
    let all = HashSet::from(["t/nested/0", "t/nested/1", "t/nested/2", "t/nested/3"]);
    assert_eq!(used, all);

    kill(&place.child("2").unwrap()).await;
    assert_eq!(ways(&supervisor), before);
    kill(&place).await;
    assert_eq!(ways(&supervisor), before);
    assert_eq!(
        ways(&PartitionedSupervisor::<()>::at(&place).unwrap()),
        before
    );
    // Another supervisor with as many partitions divides the keys alike, and forms of a text are one key.
    let other = builder(puppets()).build().unwrap().start("t/nested");
    assert_eq!(ways(&other.await.unwrap()), before);
    let owned = supervisor.partition_of(&"a".to_owned()).path();
    assert_eq!(supervisor.partition_of("a").path(), owned);
}

#[tokio::test(start_paused = true)]
async fn part_2_an_id_exists_once_over_all_partitions() {
    let supervisor = start(builder(puppets())).await;
    for id in ["a", "b", "c", "d", "e", "f"] {
        let child = supervisor.start_child_named(id, ()).await.unwrap();
        let partition = supervisor.partition_of(id);
        assert_eq!(child.node().path(), &partition.path().child(id));
        let twice = supervisor.start_child_named(id, ()).await.unwrap_err();
        assert!(
            matches!(&twice, StartChildError::AlreadyStarted { id: it, .. } if it == id),
            "{twice}"
        );
    }
    let used: HashSet<_> = listed(&supervisor).await.into_iter().collect();
    let partitions: HashSet<_> = used.iter().map(|(partition, _)| partition).collect();
    assert_eq!(used.len(), 6);
    assert!(partitions.len() > 1);

    supervisor.terminate_child_named("a").await.unwrap();
    let gone = supervisor.terminate_child_named("a").await.unwrap_err();
    assert!(matches!(gone, TerminateChildError::NotFound { id } if id == "a"));
    supervisor.start_child_named("a", ()).await.unwrap();
    assert_eq!(listed(&supervisor).await.len(), 6);

    // Those that are made up do not meet either.
    let made = one_each(&supervisor).await;
    let ids: HashSet<_> = made.iter().map(DynamicChild::id).collect();
    assert_eq!(ids.len(), made.len());
}

#[tokio::test(start_paused = true)]
async fn part_3_a_partition_that_is_killed_comes_back_empty_and_disturbs_no_other() {
    let supervisor = start(builder(puppets())).await;
    let children = one_each(&supervisor).await;
    let lost = supervisor.partition(1).unwrap();
    assert_eq!(kill(lost.node()).await.number(), 2);
    assert!(matches!(
        children[1].incarnation().ended().await,
        ExitReason::Killed
    ));
    let left: Vec<_> = listed(&supervisor).await;
    let left: Vec<_> = left.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(left, [0, 2, 3]);
    for index in [0, 2, 3] {
        assert!(is_alive(&children[index as usize]));
        let partition = supervisor.partition(index).unwrap();
        assert_eq!(partition.node().incarnations(), 1);
    }
    let key = &keys(&supervisor)[1];
    let new = supervisor.start_child(key, ()).await.unwrap();
    assert_eq!(new.node().path().as_str(), "t/1/puppet-5");
}

#[tokio::test(start_paused = true)]
async fn part_4_a_partition_that_gives_up_is_restarted_until_there_were_too_many() {
    let twice = RestartIntensity::new(2, SECOND);
    let supervisor = start(
        builder(puppets())
            .intensity_per_partition(twice)
            .intensity_above(twice),
    )
    .await;
    let whole = supervisor.supervisor().incarnation().unwrap();
    let children = one_each(&supervisor).await;
    // Two restarts in every partition: the intensity is not shared between them.
    let mut again = Vec::new();
    for child in &children {
        crash(child).await;
        let second = DynamicChild::new(Arc::clone(child.node()), child.node().running().await);
        crash(&second).await;
        let third = child.node().running().await;
        assert_eq!(third.number(), 3);
        again.push(DynamicChild::new(Arc::clone(child.node()), third));
    }
    for index in [2, 3] {
        let partition = supervisor.partition(index).unwrap();
        let run = partition.supervisor().incarnation().unwrap();
        crash(&again[index as usize]).await;
        assert!(matches!(run.ended().await, ExitReason::Shutdown));
        assert_eq!(partition.node().running().await.number(), 2);
        assert_eq!(partition.which_children().await.unwrap().len(), 0);
    }
    assert!(is_alive(&again[0]) && is_alive(&again[1]));
    crash(&again[1]).await;
    assert!(matches!(whole.ended().await, ExitReason::Shutdown));
    assert!(matches!(supervisor.ended().await, ExitReason::Shutdown));
    assert!(again.iter().all(|child| !is_alive(child)));
    let key = &keys(&supervisor)[0];
    let down = supervisor.start_child(key, ()).await.unwrap_err();
    assert_eq!(down.to_string(), "the supervisor t/0 is down");
    assert!(supervisor.which_children().await.is_err());
    assert!(supervisor.count_children().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn part_5_a_handle_is_right_after_the_whole_was_restarted() {
    let (root, place) = nested(builder(puppets()).build().unwrap()).await;
    let supervisor = PartitionedSupervisor::<()>::at(&place).unwrap();
    let children = one_each(&supervisor).await;
    supervisor.kill();
    assert!(matches!(supervisor.ended().await, ExitReason::Killed));
    for child in &children {
        child.incarnation().ended().await;
    }
    root.count_children().await.unwrap();
    assert_eq!(place.running().await.number(), 2);
    assert_eq!(supervisor.count_children().await.unwrap().active, 0);
    let again = one_each(&supervisor).await;
    assert_eq!(supervisor.count_children().await.unwrap().active, 4);
    assert!(again.iter().all(is_alive));

    root.bounce_child("nested").await.unwrap();
    assert!(again.iter().all(|child| !is_alive(child)));
    assert_eq!(supervisor.count_children().await.unwrap().active, 0);
    one_each(&supervisor).await;
    let places: Vec<_> = place.children();
    let places: Vec<_> = places.iter().map(|it| it.path().as_str()).collect();
    assert_eq!(
        places,
        ["t/nested/0", "t/nested/1", "t/nested/2", "t/nested/3"]
    );
}

#[tokio::test(start_paused = true)]
async fn part_6_a_child_is_terminated_by_its_run_in_whichever_partition_it_is() {
    let supervisor = start(builder(puppets())).await;
    let children = one_each(&supervisor).await;
    for child in &children {
        supervisor.terminate_child(child).await.unwrap();
        assert!(!is_alive(child));
        supervisor.terminate_child(child).await.unwrap();
    }
    assert_eq!(listed(&supervisor).await, []);

    let first = supervisor.start_child_named("a", ()).await.unwrap();
    crash(&first).await;
    let second = DynamicChild::new(Arc::clone(first.node()), first.node().running().await);
    supervisor.terminate_child(&first).await.unwrap();
    assert!(is_alive(&second));

    // One whose path leads here, and one whose path does not.
    for namespace in ["t", "t2"] {
        let other = builder(puppets()).build().unwrap();
        let other = other.start(namespace).await.unwrap();
        let stranger = other.start_child_named("a", ()).await.unwrap();
        let refused = supervisor.terminate_child(&stranger).await.unwrap_err();
        assert!(matches!(refused, TerminateChildError::NotFound { id } if id == "a"));
        assert!(is_alive(&stranger));
        other.terminate_child(&stranger).await.unwrap();
        supervisor.terminate_child(&stranger).await.unwrap();
    }
    assert_eq!(listed(&supervisor).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn part_7_the_list_and_the_count_cover_all_partitions() {
    let supervisor = start(builder(puppets())).await;
    one_each(&supervisor).await;
    one_each(&supervisor).await;
    let list = listed(&supervisor).await;
    let expected = [
        (0, 5),
        (0, 1),
        (1, 6),
        (1, 2),
        (2, 7),
        (2, 3),
        (3, 8),
        (3, 4),
    ];
    let expected = expected.map(|(partition, number)| (partition, format!("puppet-{number}")));
    assert_eq!(list, expected);
    let count = supervisor.count_children().await.unwrap();
    assert_eq!((count.specs, count.active, count.workers), (1, 8, 8));
    assert_eq!(count.supervisors, 0);
    let above = supervisor.supervisor().count_children().await.unwrap();
    assert_eq!((above.specs, above.active, above.supervisors), (4, 4, 4));
}

#[tokio::test(start_paused = true)]
async fn part_8_a_slow_start_holds_up_its_own_partition_only() {
    let slow = ChildTemplate::from_fn("slow", ChildKind::Worker, |context, _: Arc<()>| async {
        sleep(10 * MILLISECOND).await;
        Ok(Started::from(context.spawn(Puppet, ()).await?))
    });
    for (concurrent, together) in [(false, 20 * MILLISECOND), (true, 10 * MILLISECOND)] {
        let supervisor = start(builder(slow.clone()).concurrent_starts(concurrent)).await;
        let keys = keys(&supervisor);
        let began = Instant::now();
        let (one, other) = tokio::join!(
            supervisor.start_child(&keys[0], ()),
            supervisor.start_child(&keys[1], ())
        );
        assert_eq!(began.elapsed(), 10 * MILLISECOND);
        one.and(other).unwrap();
        let began = Instant::now();
        let (one, other) = tokio::join!(
            supervisor.start_child(&keys[2], ()),
            supervisor.start_child(&keys[2], ())
        );
        assert_eq!(began.elapsed(), together);
        one.and(other).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn part_9_each_partition_has_its_own_limit() {
    let supervisor = start(builder(puppets()).max_children_per_partition(NonZeroU32::MIN)).await;
    one_each(&supervisor).await;
    for (index, key) in keys(&supervisor).iter().enumerate() {
        let full = supervisor.start_child(key, ()).await.unwrap_err();
        assert_eq!(
            full.to_string(),
            format!("t/{index} has 1 children already, and may not have more")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn part_10_at_the_end_the_partitions_stop_one_after_the_other_with_all_children() {
    let scope = Scope::new("t");
    let spec = builder(puppets().shutdown(Shutdown::Within(SECOND)));
    let spec = spec.build().unwrap();
    let supervisor = spec.start_in(&scope).await.unwrap();
    let mut children = one_each(&supervisor).await;
    children.extend(one_each(&supervisor).await);
    for child in &children[2..6] {
        let actor = child.incarnation().actor_ref().unwrap();
        assert!(actor.send_message(Order::Hang).is_ok());
    }
    let began = Instant::now();
    supervisor.stop(ExitReason::Shutdown).await;
    // One of the children in each partition hangs.
    assert_eq!(began.elapsed(), PARTITIONS * SECOND);
    assert!(!children.iter().any(is_alive));
    let told = scope.events().recent();
    let told = told
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Exited { .. }))
        .map(|event| event.path.as_str())
        .filter(|path| path.len() == "t/0".len());
    assert_eq!(told.collect::<Vec<_>>(), ["t/3", "t/2", "t/1", "t/0"]);
}

#[test]
fn part_11_bad_settings_are_refused_when_they_are_built() {
    let never = RestartIntensity::new(1, Duration::ZERO);
    for bad in [
        builder(puppets()).intensity_per_partition(never),
        builder(puppets()).intensity_above(never),
    ] {
        let refused = bad.build().unwrap_err();
        assert!(matches!(refused, SupervisorSpecError::ZeroPeriod));
    }
    let significant = puppets().transient().significant(true);
    assert!(matches!(
        builder(significant).build().unwrap_err(),
        SupervisorSpecError::SignificantWithoutAutoShutdown { id } if id == "puppet"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_12_whoever_looks_while_it_starts_finds_all_partitions_or_none() {
    for _ in 0..20 {
        let scope = Scope::new("t");
        let place = Arc::clone(scope.root());
        let (looking, looks) = tokio::sync::oneshot::channel();
        let looker = tokio::task::spawn_blocking(move || {
            assert!(PartitionedSupervisor::<()>::at(&place).is_none());
            looking.send(()).unwrap();
            loop {
                if let Some(found) = PartitionedSupervisor::<()>::at(&place) {
                    return found.partitions().get();
                }
            }
        });
        looks.await.unwrap();
        let many = builder(puppets()).partitions(200.try_into().unwrap());
        let supervisor = many.build().unwrap().start_in(&scope).await.unwrap();
        assert_eq!(looker.await.unwrap(), 200);
        supervisor.stop(ExitReason::Shutdown).await;
    }

    // Something else lives there, or nothing.
    let fixed = Supervisor::builder().build().unwrap();
    let fixed = fixed.start("u").await.unwrap();
    assert!(PartitionedSupervisor::<()>::at(fixed.node()).is_none());
    assert!(PartitionedSupervisor::<()>::at(Scope::new("v").root()).is_none());
}

#[tokio::test(start_paused = true)]
async fn part_12_a_child_that_was_added_above_is_taken_for_no_partition() {
    let supervisor = start(builder(puppets())).await;
    let nested = Supervisor::builder().build().unwrap().into_child("+1");
    let workers = ["added", "4", "17"].map(|id| ChildSpec::worker(id, || (Puppet, ())));
    for added in workers.into_iter().chain([nested]) {
        let id = added.id().to_string();
        supervisor.supervisor().start_child(added).await.unwrap();
        let found = PartitionedSupervisor::<()>::at(supervisor.node());
        let found = found.unwrap_or_else(|| panic!("none beside {id}"));
        assert_eq!(found.partitions(), supervisor.partitions(), "{id}");
    }
}

#[test]
fn the_default_is_a_partition_for_each_thread_that_runs_in_parallel() {
    let spec = PartitionedSupervisor::builder(puppets()).build().unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    assert!(format!("{spec:?}").starts_with(&format!("PartitionedSpec {{ partitions: {cores},")));
}

#[test]
fn handles_can_be_sent_and_shared() {
    fn check<T: std::fmt::Debug + Send + Sync + Clone>() {}
    check::<PartitionedSupervisor<std::cell::Cell<u8>>>();
    check::<PartitionedSupervisorBuilder<std::cell::Cell<u8>>>();
    check::<PartitionedSpec<std::cell::Cell<u8>>>();
    check::<PartitionedChildInfo>();
}
