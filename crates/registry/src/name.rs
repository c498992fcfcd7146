use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use perennial_lifecycle::ActorName;

use crate::policy::Chosen;
use crate::{SenderKey, WhenDown};

/// The name of an actor that takes messages of type `M`.
///
/// Usually a constant; [`Name::of_kind`] and [`Name::in_namespace`] make names at run time, which are checked when they
/// are resolved. It stands for one actor, or for a group where a group is asked for.
///
/// A message of the wrong type does not compile:
///
/// ```
/// # use perennial_registry::{Name, Registry};
/// # fn send(registry: &Registry) {
/// const CONFIRMED: Name<u64> = Name::new("confirmed");
/// drop(registry.cast(CONFIRMED, 7_u64));
/// # }
/// ```
///
/// ```compile_fail,E0308
/// # use perennial_registry::{Name, Registry};
/// # fn send(registry: &Registry) {
/// const CONFIRMED: Name<u64> = Name::new("confirmed");
/// drop(registry.cast(CONFIRMED, "seven"));
/// # }
/// ```
pub struct Name<M> {
    name: ActorName,
    /// In one word: hardly any name has one.
    namespace: Option<Arc<Arc<str>>>,
    when_down: Chosen,
    key: Option<SenderKey>,
    message: PhantomData<fn(M)>,
}

impl<M> Name<M> {
    /// Names one of the host's own actors.
    #[must_use]
    pub const fn new(service: &'static str) -> Self {
        Self::from_static(ActorName::HOST, service)
    }

    /// Names an actor of another kind in a constant.
    #[must_use]
    pub const fn from_static(kind: &'static str, service: &'static str) -> Self {
        Self {
            name: ActorName::from_static(kind, service),
            namespace: None,
            when_down: Chosen::NOTHING,
            key: None,
            message: PhantomData,
        }
    }

    /// Names an actor from parts known at run time.
    #[must_use]
    pub fn of_kind(kind: impl Into<String>, service: impl Into<String>) -> Self {
        Self {
            name: ActorName::new(kind.into(), service.into()),
            namespace: None,
            when_down: Chosen::NOTHING,
            key: None,
            message: PhantomData,
        }
    }

    /// Names an actor of one tree, from parts known at run time; in any other tree it leads nowhere.
    #[must_use]
    pub fn in_namespace(
        namespace: impl Into<Arc<str>>,
        kind: impl Into<String>,
        service: impl Into<String>,
    ) -> Self {
        Self {
            namespace: Some(Arc::new(namespace.into())),
            ..Self::of_kind(kind, service)
        }
    }

    /// Chooses what a message does whose actor is down: in a constant, for all that use it; at the place of a call, for
    /// this one message.
    #[must_use]
    pub const fn when_down(mut self, when_down: WhenDown) -> Self {
        self.when_down = Chosen::new(when_down);
        self
    }

    /// Gives the key of whoever the message is sent for, such as a user's id, to the gate before the name.
    ///
    /// A quota is then that of the key; all that is sent without a key shares one. Without a gate it changes nothing.
    ///
    /// ```
    /// # use perennial_registry::{Name, Registry};
    /// # fn send(registry: &Registry, user_id: u64) {
    /// const CONFIRMED: Name<u64> = Name::new("confirmed");
    /// drop(registry.cast(CONFIRMED.for_key(&("confirm", user_id)), 7));
    /// # }
    /// ```
    #[must_use]
    pub fn for_key(mut self, key: &(impl Hash + ?Sized)) -> Self {
        self.key = Some(SenderKey::of(key));
        self
    }

    pub(crate) fn chosen(&self) -> Chosen {
        self.when_down
    }

    pub(crate) fn key(&self) -> Option<SenderKey> {
        self.key
    }

    /// Returns the tree that it is a name of; `None` when it may be used in any.
    #[must_use]
    pub fn namespace(&self) -> Option<&Arc<str>> {
        self.namespace.as_deref()
    }

    /// Borrows the name without its type.
    #[must_use]
    pub fn as_actor_name(&self) -> &ActorName {
        &self.name
    }

    /// Returns the name without its type.
    #[must_use]
    pub fn to_actor_name(&self) -> ActorName {
        self.name.clone()
    }
}

impl<M> From<Name<M>> for ActorName {
    fn from(name: Name<M>) -> Self {
        name.name
    }
}

impl<M> From<&Name<M>> for ActorName {
    fn from(name: &Name<M>) -> Self {
        name.to_actor_name()
    }
}

impl<M> Clone for Name<M> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            when_down: self.when_down,
            key: self.key,
            message: PhantomData,
        }
    }
}

impl<M> fmt::Display for Name<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        fmt::Display::fmt(&self.name, f)
    }
}

impl<M> fmt::Debug for Name<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name<{}>({self})", std::any::type_name::<M>())
    }
}
