//! Monitors and ractor's own links in snapshots.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use perennial_debug::{Debugger, LinkRole};
use perennial_lifecycle::{ChildSpec, Down, Node, Scope};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;

struct Ledger;

impl Actor for Ledger {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Watches the ledger, and has a scribe of its own, linked as ractor does it.
struct Courier;

enum CourierMsg {
    LedgerDown(Down),
}

type Told = mpsc::Sender<Down>;

impl Actor for Courier {
    type Msg = CourierMsg;
    type State = Told;
    type Arguments = (Arc<Node>, Told);

    async fn pre_start(
        &self,
        myself: ActorRef<CourierMsg>,
        (ledger, told): Self::Arguments,
    ) -> Result<Told, ActorProcessingErr> {
        ledger.monitor().send_to(&myself, CourierMsg::LedgerDown);
        Actor::spawn_linked(None, Ledger, (), myself.get_cell()).await?;
        Ok(told)
    }

    async fn handle(
        &self,
        _: ActorRef<CourierMsg>,
        CourierMsg::LedgerDown(down): CourierMsg,
        told: &mut Told,
    ) -> Result<(), ActorProcessingErr> {
        told.send(down).await?;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<CourierMsg>,
        _: SupervisionEvent,
        _: &mut Told,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test]
async fn a_snapshot_shows_who_monitors_an_actor_and_its_own_links() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let (told, mut downs) = mpsc::channel(1);
    let ledger = scope.root().child_or_insert("ledger");
    let watched = Arc::clone(&ledger);
    let tree = Supervisor::builder()
        .child(ChildSpec::worker("ledger", || (Ledger, ())))
        .child(ChildSpec::worker("courier", move || {
            (Courier, (Arc::clone(&watched), told.clone()))
        }))
        .build()
        .unwrap();
    tree.start_in(&scope).await.unwrap();
    let host = ledger.monitor();

    let snapshot = debugger.snapshot().await.unwrap();
    let shown = snapshot.find("shop/ledger").unwrap();
    assert_eq!(shown.links, []);
    let [by_courier, by_host] = &shown.monitors[..] else {
        panic!("{:?}", shown.monitors);
    };
    let courier = by_courier.actor.as_ref().map(ToString::to_string);
    assert_eq!(courier.as_deref(), Some("shop/courier"));
    assert_eq!(by_host.actor, None);
    for monitor in [by_courier, by_host] {
        assert!(monitor.location.starts_with(file!()), "{monitor:?}");
        assert_eq!(monitor.incarnation, Some(1));
    }
    let shown = snapshot.find("shop/courier").unwrap();
    assert!(shown.monitors.is_empty());
    let run = scope.root().find("shop/courier").unwrap().current();
    let [scribe] = &run.unwrap().cell().get_children()[..] else {
        panic!("the courier has one scribe");
    };
    let [link] = &shown.links[..] else {
        panic!("{:?}", shown.links);
    };
    assert_eq!(link.actor_id, scribe.get_id().to_string());
    assert_eq!((&link.name, link.role), (&None, LinkRole::Child));

    // One that has told what it had to is gone.
    ledger.current().unwrap().kill();
    assert_eq!(downs.recv().await.unwrap().incarnation, 1);
    host.await;
    let snapshot = debugger.snapshot().await.unwrap();
    assert_eq!(snapshot.find("shop/ledger").unwrap().monitors, []);
}
