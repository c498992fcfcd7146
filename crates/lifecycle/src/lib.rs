//! One actor's life: how it starts, how it is watched, how it ends.
//!
//! ractor tells a kill from a stop only by the text "killed", calls no `post_stop` on the children of a
//! stopped parent, and never tells a monitor that came late. This crate hides all of that behind a thin
//! generic adapter around a plain [`ractor::Actor`]: the adapter keeps the message type, measures each
//! message, and reports the end of the actor exactly once, with a typed [`ExitReason`].
//!
//! ```
//! use perennial_lifecycle::{ChildSpec, Restart, Shutdown};
//! use ractor::{Actor, ActorProcessingErr, ActorRef};
//! use std::time::Duration;
//!
//! struct Billing;
//!
//! impl Actor for Billing {
//!     type Msg = ();
//!     type State = ();
//!     type Arguments = ();
//!     async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> {
//!         Ok(())
//!     }
//! }
//!
//! let spec = ChildSpec::worker("billing", || (Billing, ()))
//!     .transient()
//!     .shutdown(Shutdown::Within(Duration::from_secs(1)));
//! assert_eq!(spec.restart_type(), Restart::Transient);
//! ```
//!
//! # Guarantees
//!
//! - An actor that ended is reported once, in order with everything else that its parent is told, and by
//!   the end of the actor itself: also when its task was cancelled.
//! - When a parent goes away without having stopped its children, they are asked to stop and run their
//!   `post_stop`.
//! - A [`Node`] outlives the actor it describes, so that looking at it never waits for the actor.
//! - A [`Monitor`] gives notice of an end exactly once, also of an actor that is gone already.
//! - Every message that is sent through the framework ends in one way, and the [`Figures`] of its place say which.
//! - [`Events`] come in one order, and a subscriber that does not keep up learns how many it missed; it
//!   never holds up who emits.
//!
//! # What it does not do
//!
//! It restarts nothing (`perennial-supervisor` does), and it cannot pre-empt a handler that does not
//! yield: a kill takes effect at the handler's next await.

mod adapter;
mod backoff;
mod bell;
mod bus;
mod call;
mod clock;
mod closing;
mod current;
mod dead;
mod deadline;
mod early;
mod event;
mod events;
mod incarnation;
mod intensity;
mod lane;
mod mail;
mod mailbox;
mod monitor;
mod name;
mod newborn;
mod node;
mod outbox;
mod panic;
mod path;
mod quarantine;
mod reason;
mod ring;
mod scope;
mod span;
mod spec;
mod start;
mod stopwatch;
mod sync;
mod trace;
mod traffic;
mod waits;
mod watchdog;

pub use adapter::{StopDoor, StopPort};
pub use backoff::{Backoff, Growth};
pub use bus::EventBus;
pub use clock::{Clock, Moment, WallTime, is_tokio_real};
pub use closing::Loss;
pub use dead::{DeadLetter, DeadLetterStream, DeadLetters, DeadReason, ReplayError};
pub use deadline::after;
pub use early::{Early, early};
pub use event::{Event, EventKind, ReportContext};
pub use events::{Events, Missed};
pub use incarnation::Incarnation;
pub use intensity::RestartIntensity;
pub use lane::Lane;
pub use mail::{Caller, Mail};
pub use mailbox::door::{Door, Entry};
pub use mailbox::ledger::{Figures, Totals};
pub use mailbox::offer::{Room, Terms, Undelivered};
pub use mailbox::times::HandlerTimes;
pub use mailbox::{AtRestart, Mailbox};
pub use monitor::{Down, Monitor, Watching};
pub use name::{ActorName, Directory, GroupMismatch, MessageType, NameTaken};
pub use node::{
    Arranged, ChildState, Ended, Escalation, Node, NodeView, RunObserver, Standing, Watcher,
};
pub use outbox::Outbox;
pub use panic::{catch_panic, install_panic_hook, shield};
pub use path::ActorPath;
pub use quarantine::Quarantine;
pub use reason::{Cause, Exit, ExitReason};
pub use scope::{RootStart, Scope};
pub use spec::{ChildKind, ChildSpec, ChildSpecError, Restart, Shutdown, StartFn};
pub use start::{Child, ChildKey, ParentLink, StartContext, StartError, Started};
pub use stopwatch::{Count, Reading, Stopwatch};
pub use trace::{Trace, Traced, TracedOutcome};
pub use traffic::Traffic;
pub use waits::{Cycle, Listening, Wait, Waiting, Waits, poll_answer};
pub use watchdog::{StuckHandler, Watchdog};
