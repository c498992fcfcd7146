use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{ActorPath, Node};

/// The name of an actor within its tree: a kind and a service.
///
/// The tree is the namespace, so two trees in one process never collide.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub struct ActorName {
    kind: Cow<'static, str>,
    service: Cow<'static, str>,
}

impl ActorName {
    /// The kind of the host's own actors.
    pub const HOST: &'static str = "host";

    /// Names one of the host's own actors.
    pub fn host(service: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: Cow::Borrowed(Self::HOST),
            service: service.into(),
        }
    }

    /// Names an actor of any kind, from parts known at run time.
    pub fn new(kind: impl Into<Cow<'static, str>>, service: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: kind.into(),
            service: service.into(),
        }
    }

    /// Names an actor in a constant.
    #[must_use]
    pub const fn from_static(kind: &'static str, service: &'static str) -> Self {
        Self {
            kind: Cow::Borrowed(kind),
            service: Cow::Borrowed(service),
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }
}

impl PartialEq for ActorName {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        is_same(&self.service, &other.service) && is_same(&self.kind, &other.kind)
    }
}

/// Compares where the texts lie first: a constant and what was started under it are nearly always the same one.
#[inline]
fn is_same(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

impl Hash for ActorName {
    /// Of the kind only the length counts: few services have the same name.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.service.as_bytes());
        state.write_usize(self.kind.len());
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Self::HOST {
            f.write_str(&self.service)
        } else {
            write!(f, "{}:{}", self.kind, self.service)
        }
    }
}

impl fmt::Debug for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type of the messages that an actor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageType {
    /// The type's identity.
    pub id: TypeId,
    /// The type's name, for people.
    pub name: &'static str,
}

impl MessageType {
    /// Describes `M`.
    #[must_use]
    pub fn of<M: 'static>() -> Self {
        Self {
            id: TypeId::of::<M>(),
            name: std::any::type_name::<M>(),
        }
    }
}

/// Where named actors are entered when they start.
///
/// The registry implements it. An entry points to a [`Node`], which follows its actor over restarts, so
/// nothing has to be entered again.
pub trait Directory: Send + Sync + 'static {
    /// Enters `node` under `name`.
    ///
    /// # Errors
    ///
    /// [`NameTaken`] when a live actor at another path holds the name.
    fn bind(
        &self,
        name: &ActorName,
        node: &Arc<Node>,
        message: MessageType,
    ) -> Result<(), NameTaken>;

    /// Makes every run at `node` a member of `group`, for as long as it lives.
    ///
    /// # Errors
    ///
    /// [`GroupMismatch`] when the members of the group take another type of message.
    fn join(
        &self,
        group: &ActorName,
        node: &Arc<Node>,
        message: MessageType,
    ) -> Result<(), GroupMismatch>;
}

/// A group whose members take another type of message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the members of the group `{group}` take {takes}, not {given}")]
pub struct GroupMismatch {
    /// The group.
    pub group: ActorName,
    /// What its members take.
    pub takes: &'static str,
    /// What the one that would join takes.
    pub given: &'static str,
}

/// A name that another live actor holds.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the name `{name}` is held by {holder}")]
pub struct NameTaken {
    /// The name asked for.
    pub name: ActorName,
    /// Who holds it.
    pub holder: ActorPath,
}
