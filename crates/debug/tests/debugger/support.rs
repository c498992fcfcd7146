//! A shop with actors that do as they are told.

use std::sync::Arc;
use std::time::Duration;

use perennial_debug::{Debugger, Snapshot};
use perennial_lifecycle::{
    ChildSpec, Event, EventKind, Events, Incarnation, Node, Scope, Shutdown,
};
use perennial_supervisor::{RestartIntensity, Supervisor, SupervisorBuilder};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

/// Does as it is told.
pub(crate) struct Puppet;

pub(crate) enum PuppetMsg {
    Work,
    Fail,
    /// Says that it has begun, and never ends.
    Hang(oneshot::Sender<()>),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the ledger")]
pub(crate) struct LedgerError(#[source] pub(crate) std::io::Error);

impl Actor for Puppet {
    type Msg = PuppetMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<PuppetMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<PuppetMsg>,
        message: PuppetMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PuppetMsg::Work => Ok(()),
            PuppetMsg::Fail => Err(LedgerError(std::io::Error::other("disk full")).into()),
            PuppetMsg::Hang(begun) => {
                begun.send(()).expect("the test waits");
                std::future::pending().await
            }
        }
    }
}

pub(crate) fn puppet(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Puppet, ()))
}

pub(crate) fn supervisor() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(1_000, Duration::from_secs(1)))
}

/// `shop`, with `bank` of `ledger` and `audit`, then `cache`, then `debug`.
pub(crate) struct Shop {
    pub(crate) scope: Scope,
    pub(crate) debugger: Debugger,
    pub(crate) events: Events,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let scope = Scope::new("shop");
        let debugger = Debugger::new(&scope);
        let events = debugger.events();
        let bank = supervisor()
            .child(puppet("ledger"))
            .child(puppet("audit").transient())
            .build()
            .unwrap();
        supervisor()
            .child(bank.into_child("bank"))
            .child(puppet("cache").temporary().shutdown(Shutdown::BrutalKill))
            .child(debugger.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            scope,
            debugger,
            events,
        }
    }

    pub(crate) fn node(&self, path: &str) -> Arc<Node> {
        self.scope.root().find(path).unwrap()
    }

    pub(crate) fn run(&self, path: &str) -> Arc<Incarnation> {
        self.node(path).current().unwrap()
    }

    pub(crate) fn send(&self, path: &str, message: PuppetMsg) {
        self.run(path).offer(message).unwrap();
    }

    pub(crate) async fn hang(&self, path: &str) {
        let (begun, wait) = oneshot::channel();
        self.send(path, PuppetMsg::Hang(begun));
        wait.await.unwrap();
    }

    pub(crate) async fn expect(
        &mut self,
        path: &str,
        wanted: impl Fn(&EventKind) -> bool,
    ) -> Event {
        loop {
            let event = self.events.next().await.unwrap().unwrap();
            if event.path.as_str() == path && wanted(&event.kind) {
                return event;
            }
        }
    }

    pub(crate) async fn restarted(&mut self, path: &str) {
        self.expect(path, |kind| matches!(kind, EventKind::Restarted { .. }))
            .await;
    }

    /// What the operators did, as the tree remembers it.
    pub(crate) fn log(&self) -> Vec<String> {
        let timeline = self.debugger.timeline(usize::MAX);
        let texts = timeline.into_iter().map(|entry| entry.text);
        texts
            .filter_map(|text| text.strip_prefix("operator: ").map(str::to_owned))
            .collect()
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.debugger.snapshot().await.unwrap()
    }
}

/// The names in the first column.
pub(crate) fn names(snapshot: &Snapshot) -> Vec<String> {
    let text = snapshot.render();
    let rows = text.lines().skip(1).take_while(|row| !row.is_empty());
    rows.filter_map(|row| row.split("  worker").next()?.split("  supervisor").next())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
