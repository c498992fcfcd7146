//! The spans of messages. Alone here, since who listens to spans is settled for a whole process.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_lifecycle::{ChildSpec, Mail, Scope};
use perennial_registry::{Name, Registry};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::span::{Attributes, Id};
use tracing::{Instrument as _, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

type Ask = RpcReplyPort<()>;

const CLERK: Name<Ask> = Name::new("clerk");

struct Clerk;

impl Actor for Clerk {
    type Msg = Mail<Ask>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        ask: Mail<Ask>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(ask.into_inner().send(())?)
    }
}

/// A span, and its parent.
type Made = (&'static str, Option<&'static str>);

/// What was told of spans: the name of each with its parent's, and whom one follows from.
#[derive(Clone, Default)]
struct Told {
    made: Arc<Mutex<Vec<Made>>>,
    follows: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent().map(|it| it.name());
        self.made.lock().unwrap().push((span.name(), parent));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).unwrap().name();
        self.follows.lock().unwrap().push((name(id), name(follows)));
    }
}

#[tokio::test(start_paused = true)]
async fn msg_26_the_span_of_a_message_is_a_root_that_follows_from_its_sender() {
    let told = Told::default();
    let subscriber = tracing_subscriber::registry().with(told.clone());
    let _on = tracing::subscriber::set_default(subscriber);
    let scope = Scope::new("t");
    let registry = Registry::new(&scope);
    let spec = ChildSpec::worker("clerk", || (Clerk, ())).name(CLERK.to_actor_name());
    let supervisor = Supervisor::builder().child(spec).build().unwrap();
    let _supervisor = supervisor.start_in(&scope).await.unwrap();
    let call = registry.call(CLERK, |reply| reply, Duration::from_secs(1));
    let request = tracing::info_span!("request");
    call.instrument(request).await.unwrap();

    let made = told.made.lock().unwrap().clone();
    assert!(made.contains(&("actor.call", Some("request"))), "{made:?}");
    assert!(made.contains(&("actor.message", None)), "{made:?}");
    let follows = told.follows.lock().unwrap().clone();
    let from_call = ("actor.message", "actor.call");
    assert!(follows.contains(&from_call), "{follows:?}");
    // And from that of the actor: of the sender again, where ractor is built to put handlers into that.
    let of_message = follows.iter().filter(|(span, _)| *span == "actor.message");
    assert_eq!(of_message.count(), 2, "{follows:?}");
}
