//! The hook for panics. Alone here, since there is one for the whole process.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use perennial_lifecycle::{ChildSpec, ExitReason, Scope, install_panic_hook};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Where the actor panics.
static LINE: AtomicU32 = AtomicU32::new(0);

struct Clerk;

impl Actor for Clerk {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        let left = 3;
        LINE.store(line!() + 1, SeqCst);
        panic!("only {left} sheets left")
    }
}

/// The errors that tracing was told of: each with its fields as text.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?};"));
    }
}

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            // Where this test fails the hook prints nothing.
            println!("{}", fields.0);
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

#[tokio::test]
async fn life_13_a_panic_is_told_to_tracing_and_its_place_is_in_the_reason() {
    let errors = Errors::default();
    let subscriber = tracing_subscriber::registry().with(errors.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    install_panic_hook();
    // Once more does nothing.
    install_panic_hook();

    let scope = Scope::new("shop");
    let clerk = ChildSpec::worker("clerk", || (Clerk, ()));
    let supervisor = Supervisor::builder().child(clerk).build().unwrap();
    let supervisor = supervisor.start_in(&scope).await.unwrap();
    let run = scope.root().find("shop/clerk").unwrap().current().unwrap();
    assert!(run.offer(()).is_ok());
    let reason = run.ended().await;

    let ExitReason::Panicked { message, location } = reason else {
        panic!("{reason}");
    };
    assert_eq!(&*message, "only 3 sheets left");
    let location = location.unwrap();
    let line = LINE.load(SeqCst);
    let place = format!("{}:{line}:", file!());
    assert!(location.starts_with(&place), "{location} {place}");
    let told = errors.0.lock().unwrap().clone();
    let panics: Vec<_> = told
        .iter()
        .filter(|it| it.contains("panic.location"))
        .collect();
    assert_eq!(panics.len(), 1, "{told:?}");
    assert!(panics[0].contains("only 3 sheets left"), "{told:?}");
    assert!(panics[0].contains(&location[..]), "{told:?}");
    supervisor.stop(ExitReason::Shutdown).await;
}
