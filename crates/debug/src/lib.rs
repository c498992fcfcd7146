//! What is the system doing now? Snapshots, events, commands.
//!
//! A tree that runs must be visible while it runs, above all when something in it hangs. A [`Debugger`]
//! reads the shared cells of a tree and sends no actor a message for it, so a stuck actor is seen instead
//! of waited for. What changes the tree (kill, restart, stop, pause) goes through one supervised actor, so that
//! there is one log of what operators did.
//!
//! | an operator asks | by |
//! | --- | --- |
//! | what runs, how full its mailbox is, how it ended before, who waits for whom | [`Debugger::snapshot`] |
//! | what needs a look, worst first | [`Snapshot::troubled`] |
//! | what nobody handled, and to have it handled after all | [`Debugger::dead_letters`], [`Debugger::replay`] |
//! | what an actor does with its next messages | [`Debugger::trace`] |
//! | that an actor takes no message for a while | [`Debugger::pause`], [`Debugger::resume_messages`] |
//! | that an actor does something the host has foreseen | [`Debugger::send_declared`] |
//! | that calls to a service are refused, or no longer | [`Debugger::trip`], [`Debugger::isolate`], [`Debugger::reset`] |
//! | that a pool has more workers or fewer, or lends none | [`Debugger::resize`], [`Debugger::drain`], [`Debugger::resume_lending`] |
//!
//! ```
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Cache;
//! # impl Actor for Cache {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! use perennial_debug::Debugger;
//! use perennial_lifecycle::{ChildSpec, Scope};
//! use perennial_supervisor::Supervisor;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scope = Scope::new("shop");
//! let debugger = Debugger::new(&scope);
//! Supervisor::builder()
//!     .child(ChildSpec::worker("cache", || (Cache, ())))
//!     .child(debugger.child_spec())
//!     .build()?
//!     .start_in(&scope)
//!     .await?;
//!
//! println!("{}", debugger.snapshot().await?.render());
//! debugger.restart("shop/cache").await?;
//! assert!(debugger.kill("shop/cash").await.unwrap_err().to_string().contains("shop/cache"));
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Looking waits for no actor, the debug actor included, and holds no lock while it renders.
//! - Children appear in start order; one snapshot renders to the same text every time.
//! - A command is carried out at most once, and is in the event log before its effects are.
//! - One slow command holds up no other, and the end of the debug actor loses none: those that it had taken
//!   go on, the others are taken by its successor.
//!
//! # What it does not do
//!
//! It computes nothing when nobody looks, and it keeps no history beyond what the tree's event log and nodes
//! keep. A snapshot is no atomic picture: each actor is read at its own moment. Nothing can kill a
//! handler that does not yield; such a command times out.

mod actor;
mod command;
mod declared;
mod error;
mod event;
mod handle;
mod nearest;
mod render;
mod services;
mod shared;
mod snapshot;
mod ties;
mod time;
mod timeline;
mod trace;
mod traffic;
mod troubled;

pub use error::{CommandError, SnapshotError, SupervisorError};
pub use handle::Debugger;
pub use snapshot::{ExitSnapshot, NodeSnapshot, Snapshot, SpecSnapshot, Totals};
pub use ties::{LinkRole, LinkSnapshot, MonitorSnapshot};
pub use timeline::{Level, TimelineEntry};
pub use trace::{MessageTrace, TraceEntry};
pub use traffic::{
    BooksSnapshot, DeadLately, DeadLetterSnapshot, DeadLettersSnapshot, GroupSnapshot,
    MailboxSnapshot, TimesSnapshot, WaitSnapshot,
};
pub use troubled::{Severity, Trouble, TroubleKind, Troubled};
