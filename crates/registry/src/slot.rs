use std::sync::Arc;

use arc_swap::ArcSwapOption;
use perennial_lifecycle::{ActorName, ChildState, Incarnation, Latest, MessageType, Node};
use ractor::Message;
use tokio::time::Instant;

use crate::{CastError, Gate, Refusal};

/// What stands behind one name: the place in the tree, and the gate before it.
///
/// Both are read without a lock. A slot lives as long as the registry: an address held by a user stays
/// right over restarts of the actor, of its supervisor, and of the registry actor.
pub(crate) struct Slot {
    pub(crate) name: ActorName,
    pub(crate) node: ArcSwapOption<Bound>,
    pub(crate) gate: ArcSwapOption<Box<dyn Gate>>,
}

/// The actor's place, and what it takes.
pub(crate) struct Bound {
    pub(crate) place: Latest,
    pub(crate) message: MessageType,
}

impl Bound {
    pub(crate) fn node(&self) -> &Arc<Node> {
        self.place.node()
    }
}

impl Slot {
    pub(crate) fn new(name: ActorName) -> Self {
        Self {
            name,
            node: ArcSwapOption::empty(),
            gate: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn check_type<M: Message>(&self) -> Result<(), Refusal> {
        match &*self.node.load() {
            Some(bound) if bound.message != MessageType::of::<M>() => Err(Refusal::WrongType {
                name: self.name.clone(),
                takes: bound.message.name,
                given: std::any::type_name::<M>(),
            }),
            _ => Ok(()),
        }
    }

    /// Asks the gate, if there is one.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        match &*self.gate.load() {
            None => Ok(()),
            Some(gate) => gate.admit().map_err(|refused| Refusal::RateLimited {
                name: self.name.clone(),
                retry_after: refused.retry_after,
            }),
        }
    }

    /// Hands the message to the actor that lives here now, without asking the gate.
    pub(crate) fn deliver<M: Message>(&self, message: M) -> Result<Arc<Incarnation>, CastError<M>> {
        let bound = self.node.load();
        let Some(bound) = &*bound else {
            return Err(CastError {
                message,
                refusal: Refusal::Unknown {
                    name: self.name.clone(),
                },
            });
        };
        let Some(current) = bound.place.current() else {
            return Err(self.not_running(bound.node(), message));
        };
        current.count_sent();
        match current.cell().send_message(message) {
            Ok(()) => Ok(current),
            Err(error) => {
                current.uncount_sent();
                match error {
                    ractor::MessagingErr::SendErr(message) => {
                        Err(self.not_running(bound.node(), message))
                    }
                    // The type was checked when the name was resolved, and the port of a live actor
                    // takes every message: ractor has no other way to fail here.
                    ractor::MessagingErr::ChannelClosed
                    | ractor::MessagingErr::InvalidActorType => unreachable!("checked above"),
                }
            }
        }
    }

    fn not_running<M>(&self, node: &Node, message: M) -> CastError<M> {
        let name = self.name.clone();
        let refusal = match node.due() {
            // At that time it is about to be started: whoever can wait may.
            Some(until) if node.state() == ChildState::Quarantined && until > Instant::now() => {
                Refusal::Unavailable { name, until }
            }
            _ => Refusal::NotRunning { name },
        };
        CastError { message, refusal }
    }
}
