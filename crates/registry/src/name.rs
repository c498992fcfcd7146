use std::fmt;
use std::marker::PhantomData;

use perennial_lifecycle::ActorName;

/// The name of an actor that takes messages of type `M`.
///
/// Usually a constant; [`Name::of_kind`] makes names at run time.
pub struct Name<M> {
    name: ActorName,
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
            message: PhantomData,
        }
    }

    /// Names an actor from parts known at run time.
    #[must_use]
    pub fn of_kind(kind: impl Into<String>, service: impl Into<String>) -> Self {
        Self {
            name: ActorName::new(kind.into(), service.into()),
            message: PhantomData,
        }
    }

    /// Returns the name without its type.
    #[must_use]
    pub fn as_actor_name(&self) -> &ActorName {
        &self.name
    }

    /// Returns the name without its type, for a child spec.
    #[must_use]
    pub fn to_actor_name(&self) -> ActorName {
        self.name.clone()
    }
}

impl<M> Clone for Name<M> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            message: PhantomData,
        }
    }
}

impl<M> fmt::Display for Name<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)
    }
}

impl<M> fmt::Debug for Name<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name<{}>({})", std::any::type_name::<M>(), self.name)
    }
}
