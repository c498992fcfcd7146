//! Commands for actors, and how a command reaches the debug actor.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::Incarnation;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Debugger;
use crate::command::{Command, DebugMsg, Done, Outcome};
use crate::{CommandError, MessageTrace};

impl Debugger {
    /// Kills the actor at `path` and waits for its end; its supervisor then decides as after any failure.
    ///
    /// The handler in hand is dropped at its next await. The children of a killed supervisor are asked to
    /// stop. The root may be killed, too; no supervisor here brings it back, only who started it can.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] names the path that was probably meant.
    /// - [`CommandError::NotRunning`] when there is nothing to kill.
    /// - [`CommandError::TimedOut`] when the debug actor was not running, or the handler in hand did not
    ///   yield, until the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a command that the debug actor has not taken yet. One that it has
    /// taken is carried out.
    pub async fn kill(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Kill, path).await.map(drop)
    }

    /// Stops the actor at `path` in order, starts it again, and returns the number of the new run.
    ///
    /// Costs no restart intensity. An actor that is stopped is started. `None` means that its start function
    /// declined to start anything.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] names the path that was probably meant.
    /// - [`CommandError::Root`]: the root has no supervisor to start it again.
    /// - [`CommandError::Supervisor`] carries what the supervisor answered, such as a start that failed.
    /// - [`CommandError::TimedOut`] when the debug actor was not running, or the restart not through, until
    ///   the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn restart(&self, path: &str) -> Result<Option<u64>, CommandError> {
        match self.command(Command::Restart, path).await? {
            Done::Started(run) => Ok(run),
            _ => Ok(None),
        }
    }

    /// Stops the actor at `path` in order; it stays down until it is restarted.
    ///
    /// A temporary child is forgotten. An actor that is stopped already stays so.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart); [`CommandError::CannotStop`] for the debug actor and what is above it, which nobody
    /// could be told to start again.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn stop(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Stop, path).await.map(drop)
    }

    /// Starts the actor at `path` now whose restart is put off by a backoff or a quarantine.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart); also when its restart is not put off.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resume(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Resume, path).await.map(drop)
    }

    /// Lets the actor at `path` take no message until it is told to [go on](Self::resume_messages), or ends.
    ///
    /// The message in hand is finished; the others wait, and its mailbox fills up as ever. A stop, a kill and a restart
    /// take effect at once, and the next run is not paused. One message may be held back on its way to the handler: at
    /// a stop it is one of those that waited. Events of actors that it has linked by ractor's own means, and a stop by
    /// ractor's own means, wait as well.
    ///
    /// A shutdown of the tree ends all pauses, so that what they held back is handled before the actors stop.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotFound`] names the path that was probably meant.
    /// - [`CommandError::NotRunning`] when there is nothing to pause.
    /// - [`CommandError::CannotPause`] for a supervisor and for the debug actor.
    /// - [`CommandError::ShuttingDown`] when the tree is shutting down.
    /// - [`CommandError::TimedOut`] when the debug actor was not running until the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn pause(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::Pause, path).await.map(drop)
    }

    /// Lets the actor at `path` take messages again; one that is not paused is left as it is.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn resume_messages(&self, path: &str) -> Result<(), CommandError> {
        self.command(Command::ResumeMessages, path).await.map(drop)
    }

    /// Follows the next `messages` messages of the actor at `path`, those of later runs included, but none that is taken
    /// more than `within` from now.
    ///
    /// The actor does not wait for whoever reads.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`] names the path that was probably meant; [`CommandError::TimedOut`] as for
    /// [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the trace.
    pub async fn trace(
        &self,
        path: &str,
        messages: u32,
        within: Duration,
    ) -> Result<MessageTrace, CommandError> {
        match self
            .command(Command::Trace { messages, within }, path)
            .await?
        {
            Done::Traces(trace) => Ok(MessageTrace::new(trace)),
            _ => Err(CommandError::CutOff {
                path: path.to_owned(),
                command: "trace",
            }),
        }
    }

    /// Sends the actor at `path` the debug message that was [declared](Self::declare) by this name.
    ///
    /// It waits behind the messages that are there; that the mailbox is full does not hold it up.
    ///
    /// # Errors
    ///
    /// - [`CommandError::NotDeclared`] names the debug message that was probably meant.
    /// - [`CommandError::NotMade`] when the function that makes it panicked.
    /// - [`CommandError::OtherType`] when the actor takes other messages than it was declared for.
    /// - [`CommandError::NotFound`], [`CommandError::NotRunning`] and [`CommandError::TimedOut`] as for
    ///   [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn send_declared(&self, path: &str, message: &str) -> Result<(), CommandError> {
        let command = Command::Send(message.into());
        self.command(command, path).await.map(drop)
    }

    /// Sends the message of a dead letter to the place that it was for, once more.
    ///
    /// # Errors
    ///
    /// [`CommandError::Replay`] says why not; the letter is still there, unless it is unknown.
    /// [`CommandError::TimedOut`] as for [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`kill`](Self::kill).
    pub async fn replay(&self, id: u64) -> Result<(), CommandError> {
        let letters = self.dead_letters();
        let letter = letters.iter().find(|it| it.id == id);
        // For the log.
        let target = letter.map_or(self.shared.scope.root().path(), |it| &it.target);
        let command = Command::Replay(id);
        self.command(command, target.as_str()).await.map(drop)
    }

    pub(super) async fn command(&self, command: Command, path: &str) -> Outcome {
        let name = command.name();
        let mut taken = false;
        let outcome = async {
            loop {
                let run = tokio::select! {
                    biased;
                    run = self.debug_actor() => run,
                    // Where nobody runs and nobody will there is nothing to wait for.
                    () = self.shared.scope.root().retired() => {
                        return Err(CommandError::Ended {
                            path: path.to_owned(),
                            command: name,
                        });
                    }
                };
                if let Some(work) = submit(&run, command.clone(), path).await {
                    taken = true;
                    return work.await.unwrap_or_else(|_| {
                        Err(CommandError::CutOff {
                            path: path.to_owned(),
                            command: name,
                        })
                    });
                }
                // This run ended without having taken it: it is for the next one.
                run.ended().await;
            }
        };
        timeout(self.deadline, outcome).await.unwrap_or_else(|_| {
            Err(CommandError::TimedOut {
                path: path.to_owned(),
                command: name,
                taken,
                after: self.deadline,
            })
        })
    }

    /// Waits until the debug actor runs.
    async fn debug_actor(&self) -> Arc<Incarnation> {
        let mut home = self.shared.home.subscribe();
        loop {
            let node = home.borrow_and_update().clone();
            let running = async {
                match node {
                    Some(node) => node.running().await,
                    None => std::future::pending().await,
                }
            };
            // A supervisor that forgot its children starts the debug actor at a new node.
            tokio::select! {
                biased;
                run = running => return run,
                _ = home.changed() => {}
            }
        }
    }
}

/// Sends the command and returns its work; `None` when this run did not take it.
async fn submit(run: &Incarnation, command: Command, path: &str) -> Option<JoinHandle<Outcome>> {
    let (taken, mut answer) = oneshot::channel();
    let message = DebugMsg {
        command,
        path: path.to_owned(),
        taken,
    };
    run.post(message).ok()?;
    run.answer(&mut answer).await
}
