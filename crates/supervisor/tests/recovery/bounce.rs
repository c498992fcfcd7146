//! A restart that an operator asks for: SUP-30.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use perennial_lifecycle::{ChildKind, ChildSpec, ExitReason, Restart, StartError, Started};
use perennial_supervisor::{
    ChildStatus, ChildTemplate, DynamicSupervisor, RestartIntensity, Strategy,
};
use perennial_testkit::{Order, Puppet};
use tokio::time::sleep;

use crate::support::{SECOND, generous, moody, node, order, puppet, runs, settled, start};

#[tokio::test(start_paused = true)]
async fn sup_30_a_temporary_child_whose_bounce_fails_is_forgotten() {
    let (moody, broken) = moody("w");
    let supervisor = start(generous().child(moody.clone().temporary())).await;
    assert_eq!(supervisor.bounce_child("w").await.unwrap().incarnation, 2);
    broken.store(true, SeqCst);
    supervisor.bounce_child("w").await.unwrap_err();
    assert!(supervisor.which_children().await.unwrap().is_empty());
    broken.store(false, SeqCst);
    supervisor.start_child(moody).await.unwrap();
}

/// A child that fails to start from the second time on, after a second; so many times as the number says.
fn late_and_broken(id: &str, times: u64) -> ChildSpec {
    ChildSpec::from_fn(id, ChildKind::Worker, move |context| async move {
        if (2..2 + times).contains(&context.incarnation()) {
            sleep(SECOND).await;
            return Err(StartError::new(ExitReason::failed("no paper")));
        }
        Ok(context.spawn(Puppet, ()).await?.into())
    })
}

#[tokio::test(start_paused = true)]
async fn sup_30_a_bounce_of_a_child_that_holds_up_its_group_lets_the_others_start() {
    for fails in [false, true] {
        let times = if fails { 2 } else { 1 };
        let group = generous()
            .strategy(Strategy::RestForOne)
            .child(puppet("a"))
            .child(late_and_broken("b", times))
            .child(puppet("c"));
        let supervisor = start(group).await;
        let first = order(&node(&supervisor, "a"), Order::Fail("broken"));
        // It comes before the next attempt.
        first.ended().await;
        let bounced = supervisor.bounce_child("b").await;
        assert_eq!(bounced.is_err(), fails);
        settled(&supervisor).await;
        let b = (!fails).then_some(3);
        assert_eq!(runs(&supervisor, ["a", "b", "c"]), [Some(2), b, Some(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn sup_30_a_dynamic_child_whose_bounce_fails_is_restarted_if_its_type_says_so() {
    for concurrent in [false, true] {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            let broken = Arc::new(AtomicBool::new(false));
            let is_broken = Arc::clone(&broken);
            let template =
                ChildTemplate::from_fn("w", ChildKind::Worker, move |context, _: Arc<()>| {
                    // Only once.
                    let fails = is_broken.swap(false, SeqCst);
                    async move {
                        if fails {
                            return Err(StartError::new(ExitReason::failed("no paper")));
                        }
                        Ok(Started::from(context.spawn(Puppet, ()).await?))
                    }
                });
            let dynamic = DynamicSupervisor::builder(template.restart(restart))
                .intensity(RestartIntensity::new(100, SECOND))
                .concurrent_starts(concurrent);
            let dynamic = dynamic.build().unwrap().start("t").await.unwrap();
            dynamic.start_child_named("a", ()).await.unwrap();
            broken.store(true, SeqCst);
            dynamic.supervisor().bounce_child("a").await.unwrap_err();
            sleep(SECOND).await;
            let list = dynamic.which_children().await.unwrap();
            let alive = list.iter().map(|child| child.status);
            let alive: Vec<_> = alive.collect();
            match restart {
                Restart::Temporary => assert!(list.is_empty()),
                _ => assert_eq!(alive, [ChildStatus::Alive { incarnation: 3 }]),
            }
            assert_eq!(dynamic.node().children().len(), list.len());
        }
    }
}
