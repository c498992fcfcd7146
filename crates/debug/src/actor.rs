use std::fmt;
use std::sync::Arc;

use perennial_lifecycle::{Node, Scope};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{CommandError, SupervisorError, event, nearest};

/// What an operator can have done to an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Kill,
    Restart,
    Stop,
    Resume,
}

impl Command {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Resume => "resume",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The number of the run that a command began, if it began one.
pub(crate) type Outcome = Result<Option<u64>, CommandError>;

pub(crate) struct DebugMsg {
    pub(crate) command: Command,
    pub(crate) path: String,
    /// Answered when the command is taken. Dropped unanswered, it was not and never will be.
    pub(crate) taken: oneshot::Sender<JoinHandle<Outcome>>,
}

/// The ractor shell: logs each command and hands it to a task of its own.
pub(crate) struct DebugActor;

impl Actor for DebugActor {
    type Msg = DebugMsg;
    type State = Scope;
    type Arguments = Scope;

    async fn pre_start(
        &self,
        _: ActorRef<DebugMsg>,
        scope: Scope,
    ) -> Result<Scope, ActorProcessingErr> {
        Ok(scope)
    }

    // Without an await, so that a kill finds each command either taken or untouched.
    async fn handle(
        &self,
        _: ActorRef<DebugMsg>,
        message: DebugMsg,
        scope: &mut Scope,
    ) -> Result<(), ActorProcessingErr> {
        let DebugMsg {
            command,
            path,
            taken,
        } = message;
        if taken.is_closed() {
            // The operator gave up while it waited.
            return Ok(());
        }
        event::taken(scope, command, &path);
        // A task of its own: it may take long, and it may be about to end this very actor.
        let work = tokio::spawn(carry_out(scope.clone(), command, path));
        // Fails when the operator has just given up; the command is logged, so it is carried out.
        drop(taken.send(work));
        Ok(())
    }
}

async fn carry_out(scope: Scope, command: Command, path: String) -> Outcome {
    let outcome = perform(&scope, command, &path).await;
    if let Err(error) = &outcome {
        event::failed(&scope, command, &path, error);
    }
    outcome
}

async fn perform(scope: &Scope, command: Command, path: &str) -> Outcome {
    let root = scope.root();
    let node = root.find(path).ok_or_else(|| CommandError::NotFound {
        path: path.to_owned(),
        nearest: nearest::nearest(root, path),
    })?;
    match command {
        Command::Kill => {
            let run = node.current().ok_or_else(|| CommandError::NotRunning {
                path: node.path().clone(),
                state: node.state(),
            })?;
            run.kill();
            run.ended().await;
            Ok(None)
        }
        Command::Restart => {
            let parent = supervisor_of(root, &node, command)?;
            let started = parent.bounce_child(node.path().id()).await;
            let started = started.map_err(SupervisorError::from)?;
            Ok(started.node.is_some().then_some(started.incarnation))
        }
        Command::Stop => {
            let parent = supervisor_of(root, &node, command)?;
            let stopped = parent.terminate_child(node.path().id()).await;
            stopped.map_err(SupervisorError::from)?;
            Ok(None)
        }
        Command::Resume => {
            let parent = supervisor_of(root, &node, command)?;
            let resumed = parent.resume_child(node.path().id()).await;
            resumed.map_err(SupervisorError::from)?;
            Ok(None)
        }
    }
}

fn supervisor_of(
    root: &Arc<Node>,
    node: &Arc<Node>,
    command: Command,
) -> Result<Supervisor, CommandError> {
    let path = node.path();
    let command = command.name();
    if Arc::ptr_eq(root, node) {
        let path = path.clone();
        return Err(CommandError::Root { path, command });
    }
    path.as_str()
        .rsplit_once('/')
        .and_then(|(parent, _)| root.find(parent))
        .and_then(|parent| Supervisor::at(&parent))
        .ok_or_else(|| CommandError::Unsupervised {
            path: path.clone(),
            command,
        })
}
