use std::any::TypeId;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{ActorPath, Node};

/// The name of an actor within its tree: a kind and a service.
///
/// The tree is the namespace, so two trees in one process never collide.
#[derive(Clone)]
pub struct ActorName(Parts);

#[derive(Clone)]
enum Parts {
    Constant {
        kind: &'static str,
        service: &'static str,
    },
    /// One text, so that whoever compares two names reaches into memory once for each.
    Joined {
        text: Arc<str>,
        /// How long the kind is, with which it begins.
        kind: usize,
    },
}

impl ActorName {
    /// The kind of the host's own actors.
    pub const HOST: &'static str = "host";

    /// Names one of the host's own actors.
    pub fn host(service: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Self::HOST, service)
    }

    /// Names an actor of any kind, from parts known at run time.
    pub fn new(kind: impl Into<Cow<'static, str>>, service: impl Into<Cow<'static, str>>) -> Self {
        match (kind.into(), service.into()) {
            (Cow::Borrowed(kind), Cow::Borrowed(service)) => Self::from_static(kind, service),
            (kind, service) => Self(Parts::Joined {
                text: format!("{kind}{service}").into(),
                kind: kind.len(),
            }),
        }
    }

    /// Names an actor in a constant.
    #[must_use]
    pub const fn from_static(kind: &'static str, service: &'static str) -> Self {
        Self(Parts::Constant { kind, service })
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.parts().0
    }

    /// Returns the service.
    #[must_use]
    pub fn service(&self) -> &str {
        self.parts().1
    }

    #[inline]
    fn parts(&self) -> (&str, &str) {
        match &self.0 {
            Parts::Constant { kind, service } => (kind, service),
            Parts::Joined { text, kind } => text.split_at(*kind),
        }
    }
}

impl PartialEq for ActorName {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Parts::Joined { text, kind },
                Parts::Joined {
                    text: other_text,
                    kind: other_kind,
                },
            ) => kind == other_kind && is_same(text, other_text),
            _ => {
                let (kind, service) = self.parts();
                let (other_kind, other_service) = other.parts();
                is_same(service, other_service) && is_same(kind, other_kind)
            }
        }
    }
}

impl Eq for ActorName {}

/// Compares where the texts lie first: a constant and what was started under it are nearly always the same one.
#[inline]
fn is_same(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

impl Hash for ActorName {
    /// Of the kind only the length counts: few services have the same name.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (kind, service) = self.parts();
        state.write(service.as_bytes());
        state.write_usize(kind.len());
    }
}

impl Ord for ActorName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for ActorName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (Self::HOST, service) => f.write_str(service),
            (kind, service) => write!(f, "{kind}:{service}"),
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

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn a_name_is_the_same_in_a_constant_and_put_together() {
        const CONSTANT: ActorName = ActorName::from_static("pool", "database");
        let made = ActorName::new("pool", String::from("database"));
        let hasher = foldhash::fast::RandomState::default();

        assert_eq!(CONSTANT, made);
        assert_eq!(made, made.clone());
        assert_eq!(CONSTANT.cmp(&made), Ordering::Equal);
        assert_eq!(hasher.hash_one(&CONSTANT), hasher.hash_one(&made));
        assert_eq!((made.kind(), made.service()), ("pool", "database"));
        assert_eq!(made.to_string(), "pool:database");
        assert_eq!(ActorName::host(String::from("a")).to_string(), "a");
    }

    #[test]
    fn where_the_kind_ends_tells_names_apart() {
        let names = [
            ActorName::new(String::from("ab"), "c"),
            ActorName::new(String::from("a"), "bc"),
            ActorName::from_static("abc", ""),
            ActorName::from_static("a", "bd"),
        ];
        for (index, name) in names.iter().enumerate() {
            for other in &names[index + 1..] {
                assert_ne!(name, other);
                assert_ne!(name.cmp(other), Ordering::Equal);
            }
        }
        assert!(names[1] < names[3] && names[3] < names[0]);
    }
}
