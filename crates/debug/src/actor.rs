use std::sync::Arc;

use perennial_lifecycle::{Incarnation, Node, Undelivered, catch_panic};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::command::{Command, DebugMsg, Done, Outcome};
use crate::shared::Shared;
use crate::{CommandError, SupervisorError, event, nearest, services};

/// The ractor shell: logs each command and hands it to a task of its own.
pub(crate) struct DebugActor;

impl Actor for DebugActor {
    type Msg = DebugMsg;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _: ActorRef<DebugMsg>,
        shared: Arc<Shared>,
    ) -> Result<Arc<Shared>, ActorProcessingErr> {
        Ok(shared)
    }

    // Without an await, so that a kill finds each command either taken or untouched.
    async fn handle(
        &self,
        _: ActorRef<DebugMsg>,
        message: DebugMsg,
        shared: &mut Arc<Shared>,
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
        event::taken(&shared.scope, &command, &path);
        // A task of its own: it may take long, and it may be about to end this very actor.
        let work = tokio::spawn(carry_out(Arc::clone(shared), command, path));
        // Fails when the operator has just given up; the command is logged, so it is carried out.
        drop(taken.send(work));
        Ok(())
    }
}

async fn carry_out(shared: Arc<Shared>, command: Command, path: String) -> Outcome {
    let outcome = perform(&shared, &command, &path).await;
    if let Err(error) = &outcome {
        event::failed(&shared.scope, &command, &path, error);
    }
    outcome
}

async fn perform(shared: &Shared, command: &Command, path: &str) -> Outcome {
    match command {
        Command::Replay(id) => {
            // Its place may be gone; the dead letter itself says so best.
            let replayed = shared.scope.traffic().dead_letters().replay(*id);
            return match replayed {
                Ok(()) => Ok(Done::AsTold),
                Err(source) => Err(CommandError::Replay { id: *id, source }),
            };
        }
        Command::Breaker(order) => return services::command_breaker(shared, *order, path),
        Command::Pool(order) => return services::command_pool(shared, *order, path).await,
        _ => {}
    }
    let root = shared.scope.root();
    let node = root.find(path).ok_or_else(|| CommandError::NotFound {
        path: path.to_owned(),
        nearest: nearest::nearest(root, path),
    })?;
    match command {
        Command::Kill => {
            let run = running(&node)?;
            run.kill();
            run.ended().await;
            Ok(Done::AsTold)
        }
        Command::Restart => {
            let parent = supervisor_of(root, &node, command)?;
            let started = parent.bounce_child(node.path().id()).await;
            let started = started.map_err(SupervisorError::from)?;
            let run = started.node.is_some().then_some(started.incarnation);
            Ok(Done::Started(run))
        }
        Command::Stop => {
            let parent = supervisor_of(root, &node, command)?;
            if shared.is_at_or_above_home(&node) {
                let path = node.path().clone();
                return Err(CommandError::CannotStop { path });
            }
            let stopped = parent.terminate_child(node.path().id()).await;
            stopped.map_err(SupervisorError::from)?;
            Ok(Done::AsTold)
        }
        Command::Resume => {
            let parent = supervisor_of(root, &node, command)?;
            let resumed = parent.resume_child(node.path().id()).await;
            resumed.map_err(SupervisorError::from)?;
            Ok(Done::AsTold)
        }
        Command::Pause => {
            let run = running(&node)?;
            // The debug actor would not take the command that ends the pause.
            if shared.is_home(&node) || !run.pause() {
                let path = node.path().clone();
                return Err(match run.traffic().is_shutting_down() {
                    true => CommandError::ShuttingDown { path },
                    false => CommandError::CannotPause { path },
                });
            }
            Ok(Done::AsTold)
        }
        Command::ResumeMessages => {
            running(&node)?.go_on();
            Ok(Done::AsTold)
        }
        Command::Send(label) => {
            send(shared, &node, label)?;
            Ok(Done::AsTold)
        }
        Command::Trace { messages, within } => Ok(Done::Traces(node.trace(*messages, *within))),
        Command::Replay(_) | Command::Breaker(_) | Command::Pool(_) => {
            unreachable!("done above, since it needs no place")
        }
    }
}

fn running(node: &Arc<Node>) -> Result<Arc<Incarnation>, CommandError> {
    node.current().ok_or_else(|| CommandError::NotRunning {
        path: node.path().clone(),
        state: node.state(),
    })
}

fn send(shared: &Shared, node: &Arc<Node>, label: &str) -> Result<(), CommandError> {
    let path = node.path();
    let found = shared.declared.find(shared.names.get(), path, label);
    let declaration = found.map_err(|nearest| CommandError::NotDeclared {
        path: path.clone(),
        message: label.to_owned(),
        nearest,
    })?;
    let run = running(node)?;
    let path = path.clone();
    // Foreign code: the host's function makes the message.
    let sent = catch_panic(|| declaration.send(&run));
    let sent = sent.map_err(|reason| CommandError::NotMade {
        path: path.clone(),
        message: label.to_owned(),
        reason,
    })?;
    sent.map_err(|undelivered| match undelivered {
        // There is always room.
        Undelivered::Full(()) | Undelivered::Ended(()) => CommandError::NotRunning {
            path,
            state: node.state(),
        },
        Undelivered::ShuttingDown(()) => CommandError::ShuttingDown { path },
        Undelivered::WrongType(()) => CommandError::OtherType {
            path,
            takes: run.message_type().name,
        },
    })
}

fn supervisor_of(
    root: &Arc<Node>,
    node: &Arc<Node>,
    command: &Command,
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
