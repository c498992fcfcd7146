//! A restart that an operator asks for: SUP-30.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use perennial_lifecycle::{ChildKind, ExitReason, Restart, StartError, Started};
use perennial_supervisor::{ChildStatus, ChildTemplate, DynamicSupervisor, RestartIntensity};
use perennial_testkit::Puppet;
use tokio::time::sleep;

use crate::support::{SECOND, generous, moody, start};

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
