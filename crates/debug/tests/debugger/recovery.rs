//! What is put off, gave up, or is dynamic.

use std::time::Duration;

use perennial_debug::{CommandError, Debugger};
use perennial_lifecycle::{Backoff, Quarantine, Scope};
use perennial_supervisor::{ChildTemplate, DynamicSupervisor, RestartIntensity, Supervisor};
use tokio::time::advance;

use crate::support::{Puppet, PuppetMsg, puppet, supervisor};

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_put_off_shows_and_can_be_begun() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let hour = Duration::from_secs(3600);
    let ledger = puppet("ledger").backoff(Backoff::constant(hour));
    let rates = puppet("rates")
        .budget(RestartIntensity::new(0, hour))
        .quarantine(Quarantine::new(Backoff::constant(hour)));
    let tree = supervisor().child(ledger).child(rates);
    let tree = tree.child(debugger.child_spec()).build().unwrap();
    let tree = tree.start_in(&scope).await.unwrap();
    for id in ["ledger", "rates"] {
        debugger.kill(&format!("shop/{id}")).await.unwrap();
    }
    tree.count_children().await.unwrap();
    advance(hour / 2).await;
    let snapshot = debugger.snapshot().await.unwrap();
    let problem = |id: &str| snapshot.find(&format!("shop/{id}")).unwrap().problem();
    assert_eq!(problem("ledger").unwrap(), "restart in 30m00s: killed");
    let parked = problem("rates").unwrap();
    assert_eq!(parked, "quarantined for another 30m00s: killed");
    let ledger = snapshot.find("shop/ledger").unwrap();
    assert_eq!(ledger.due_ms, Some(1_800_000));
    assert_eq!(
        snapshot.summary(),
        "shop: 4 actors, 0 restarts, 2 down, 2 problems"
    );

    debugger.resume("shop/ledger").await.unwrap();
    debugger.restart("shop/rates").await.unwrap();
    let snapshot = debugger.snapshot().await.unwrap();
    assert_eq!(snapshot.totals.problems, 0);
    assert_eq!(snapshot.find("shop/ledger").unwrap().due_ms, None);
    let refused = debugger.resume("shop/ledger").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "child `ledger` does not wait for a restart"
    );
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gave_up_shows_the_end_that_it_could_not_bear_and_all_before() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let bank = Supervisor::builder().child(puppet("ledger"));
    let bank = bank.build().unwrap().into_child("bank");
    let tree = supervisor().child(bank).child(debugger.child_spec());
    let tree = tree.build().unwrap().start_in(&scope).await.unwrap();
    let ledger = scope.root().find("shop/bank/ledger").unwrap();
    let bank = scope.root().find("shop/bank").unwrap();
    for round in 0..4 {
        let (run, parent) = (ledger.current().unwrap(), bank.current().unwrap());
        run.actor_ref()
            .unwrap()
            .send_message(PuppetMsg::Fail)
            .unwrap();
        run.ended().await;
        if round % 2 == 1 {
            // The second in a row is one too many.
            parent.ended().await;
        }
        tree.count_children().await.unwrap();
        ledger.running().await;
    }
    let snapshot = debugger.snapshot().await.unwrap();
    let shown = snapshot.find("shop/bank").unwrap();
    let chain = |run| {
        [
            "shutdown".to_owned(),
            format!("shop/bank/ledger #{run}: failed: cannot write the ledger"),
            "disk full".to_owned(),
        ]
    };
    assert_eq!(shown.last_exit.as_ref().unwrap().chain, chain(4));
    assert_eq!(shown.earlier_exits.len(), 1);
    assert_eq!(shown.earlier_exits[0].chain, chain(2));
    let shown = snapshot.find("shop/bank/ledger").unwrap();
    let runs = shown.earlier_exits.iter().map(|exit| exit.incarnation);
    assert_eq!(runs.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn commands_reach_dynamic_children() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let template = ChildTemplate::worker("session", |(): &()| (Puppet, ()));
    let sessions = DynamicSupervisor::builder(template).build().unwrap();
    let tree = supervisor().child(sessions.into_child("sessions"));
    let tree = tree.child(debugger.child_spec()).build().unwrap();
    tree.start_in(&scope).await.unwrap();
    let sessions = scope.root().find("shop/sessions").unwrap();
    let sessions = DynamicSupervisor::<()>::at(&sessions).unwrap();
    sessions.start_child_named("ada", ()).await.unwrap();
    assert_eq!(
        debugger.restart("shop/sessions/ada").await.unwrap(),
        Some(2)
    );
    debugger.stop("shop/sessions/ada").await.unwrap();
    assert!(sessions.which_children().await.unwrap().is_empty());
    assert!(matches!(
        debugger.restart("shop/sessions/ada").await,
        Err(CommandError::NotFound { .. })
    ));
}
