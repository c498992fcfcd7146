//! A supervised actor with a name.

use perennial::lifecycle::{ChildSpec, Scope};
use perennial::registry::{Address, Name, Registry};
use perennial::supervisor::Supervisor;

use crate::counter::{Counter, Enveloped, Message};
use crate::{Contender, TIMEOUT};

const COUNTER: Name<Message> = Name::new("counter");

/// The actor in its tree, which ends with this.
struct Tree {
    registry: Registry,
    _supervisor: Supervisor,
}

impl Tree {
    async fn start() -> Self {
        Self::of(ChildSpec::worker("counter", || (Counter, ()))).await
    }

    async fn of(spec: ChildSpec) -> Self {
        let scope = Scope::new("bench");
        let registry = Registry::new(&scope);
        let spec = spec.name(COUNTER.to_actor_name());
        let built = Supervisor::builder().child(spec).build().expect("valid");
        Self {
            registry,
            _supervisor: built.start_in(&scope).await.expect("it starts"),
        }
    }
}

/// Through an address, resolved once.
pub(crate) struct Held {
    address: Address<Message>,
    _tree: Tree,
}

impl Contender for Held {
    const NAME: &'static str = "Perennial, held address";

    async fn start() -> Self {
        let tree = Tree::start().await;
        Self {
            address: tree.registry.resolve(&COUNTER).expect("it was started"),
            _tree: tree,
        }
    }

    fn cast(&self, message: Message) {
        self.address.cast(message).expect("the actor lives");
    }

    async fn call(&self) -> u64 {
        let answer = self.address.call(Message::Total, TIMEOUT).await;
        answer.expect("the actor lives")
    }
}

/// Through an address, to an actor that takes its messages in envelopes.
pub(crate) struct Mailed(Held);

impl Contender for Mailed {
    const NAME: &'static str = "Perennial, held address, Mail";

    async fn start() -> Self {
        let tree = Tree::of(ChildSpec::worker("counter", || (Enveloped, ()))).await;
        Self(Held {
            address: tree.registry.resolve(&COUNTER).expect("it was started"),
            _tree: tree,
        })
    }

    fn cast(&self, message: Message) {
        self.0.cast(message);
    }

    async fn call(&self) -> u64 {
        self.0.call().await
    }
}

/// Through the name, resolved for each message.
pub(crate) struct Named(Tree);

impl Contender for Named {
    const NAME: &'static str = "Perennial, by name";

    async fn start() -> Self {
        Self(Tree::start().await)
    }

    fn cast(&self, message: Message) {
        let sent = self.0.registry.cast(COUNTER, message);
        sent.expect("the actor lives");
    }

    async fn call(&self) -> u64 {
        let answer = self.0.registry.call(COUNTER, Message::Total, TIMEOUT);
        answer.await.expect("the actor lives")
    }
}
