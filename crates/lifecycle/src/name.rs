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
    /// Always, if the name is that short. Whoever looks for it among many reaches no further.
    Short(Short),
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

/// As long a text as makes the name no longer than that of two texts elsewhere.
const ROOM: usize = 37;

/// So long are nearly all names: whoever looks for one looks at no more.
const NEAR: usize = 21;

/// In this order, so that what is looked at lies together.
#[derive(Clone, Copy)]
#[repr(C)]
struct Short {
    kind: u8,
    len: u8,
    /// The kind and after it the service, and zeros up to the end.
    text: [u8; ROOM],
}

impl Short {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both are less than the room"
    )]
    const fn new(kind: &str, service: &str) -> Option<Self> {
        let (kind, service) = (kind.as_bytes(), service.as_bytes());
        // Each alone, or the sum of two long ones might be a small one.
        if kind.len() > ROOM || service.len() > ROOM - kind.len() {
            return None;
        }
        let mut text = [0; ROOM];
        let (ahead, behind) = text.split_at_mut(kind.len());
        ahead.copy_from_slice(kind);
        behind
            .split_at_mut(service.len())
            .0
            .copy_from_slice(service);
        Some(Self {
            kind: kind.len() as u8,
            len: (kind.len() + service.len()) as u8,
            text,
        })
    }

    fn parts(&self) -> (&str, &str) {
        let text = &self.text[..usize::from(self.len)];
        // Made of two texts, it can be read as such.
        str::from_utf8(text).map_or(("", ""), |text| text.split_at(usize::from(self.kind)))
    }

    /// Returns all that there is of most names, in words: without a loop, and without a branch.
    ///
    /// No part lies across two words of memory: of a name that has just been copied it would be waited for.
    #[inline]
    fn near(&self) -> [u64; 4] {
        let lengths = u64::from(self.kind) << 8 | u64::from(self.len);
        let first = u64::from(self.half(0)) << 32 | u64::from(self.half(1));
        [first, self.word(5), self.word(NEAR - 8), lengths]
    }

    /// Returns the rest, if there is any.
    #[inline]
    fn far(&self) -> Option<[u64; 2]> {
        let far = || [self.word(NEAR), self.word(NEAR + 8)];
        (usize::from(self.len) > NEAR).then(far)
    }

    #[inline]
    fn half(&self, at: usize) -> u32 {
        self.text[at..]
            .first_chunk()
            .map_or(0, |it| u32::from_le_bytes(*it))
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.text[at..]
            .first_chunk()
            .map_or(0, |it| u64::from_le_bytes(*it))
    }
}

impl PartialEq for Short {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let [near, other_near] = [self.near(), other.near()];
        // One after the other: as a whole they would be put into memory first.
        let is_near = near.iter().zip(&other_near).all(|(word, it)| word == it);
        is_near && self.far() == other.far()
    }
}

impl Hash for Short {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.near().into_iter().for_each(|it| state.write_u64(it));
        let far = self.far().into_iter().flatten();
        far.for_each(|it| state.write_u64(it));
    }
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
        let (kind, service) = (kind.into(), service.into());
        if let Some(short) = Short::new(&kind, &service) {
            return Self(Parts::Short(short));
        }
        Self(match (kind, service) {
            (Cow::Borrowed(kind), Cow::Borrowed(service)) => Parts::Constant { kind, service },
            (kind, service) => Parts::Joined {
                text: format!("{kind}{service}").into(),
                kind: kind.len(),
            },
        })
    }

    /// Names an actor in a constant.
    #[must_use]
    pub const fn from_static(kind: &'static str, service: &'static str) -> Self {
        Self(match Short::new(kind, service) {
            Some(short) => Parts::Short(short),
            None => Parts::Constant { kind, service },
        })
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

    fn parts(&self) -> (&str, &str) {
        match &self.0 {
            Parts::Short(short) => short.parts(),
            Parts::Constant { kind, service } => (kind, service),
            Parts::Joined { text, kind } => text.split_at(*kind),
        }
    }
}

impl PartialEq for ActorName {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Parts::Short(short), Parts::Short(other)) => short == other,
            (Parts::Short(_), _) | (_, Parts::Short(_)) => false,
            _ => self.is_same_long(other),
        }
    }
}

impl Eq for ActorName {}

impl ActorName {
    /// As [`PartialEq`], of two that are not short.
    #[cold]
    fn is_same_long(&self, other: &Self) -> bool {
        if let (
            Parts::Joined { text, kind },
            Parts::Joined {
                text: other_text,
                kind: other_kind,
            },
        ) = (&self.0, &other.0)
        {
            return kind == other_kind && is_same(text, other_text);
        }
        let (kind, service) = self.parts();
        let (other_kind, other_service) = other.parts();
        is_same(service, other_service) && is_same(kind, other_kind)
    }
}

/// Compares where the texts lie first: a constant and what was started under it are nearly always the same one.
fn is_same(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

impl Hash for ActorName {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Parts::Short(short) => short.hash(state),
            _ => self.hash_long(state),
        }
    }
}

impl ActorName {
    /// Of the kind only the length counts: few services have the same name.
    #[cold]
    fn hash_long<H: Hasher>(&self, state: &mut H) {
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
        const LONG: &str = "a service whose name is longer than any that a name has room for";
        let hasher = foldhash::fast::RandomState::default();

        for (kind, service) in [("pool", "database"), ("pool", LONG), (LONG, ""), ("", "")] {
            let constant = ActorName::from_static(kind, service);
            let made = ActorName::new(kind, String::from(service));
            assert_eq!(constant, made);
            assert_eq!(made, made.clone());
            assert_eq!(constant.cmp(&made), Ordering::Equal);
            assert_eq!(hasher.hash_one(&constant), hasher.hash_one(&made));
            assert_eq!((made.kind(), made.service()), (kind, service));
            assert_eq!((constant.kind(), constant.service()), (kind, service));
            assert_eq!(made.to_string(), format!("{kind}:{service}"));
        }
        assert_eq!(ActorName::host(String::from("a")).to_string(), "a");
    }

    #[test]
    fn each_letter_and_length_tells_names_apart() {
        let service = |count: usize| "\u{e9}".repeat(count / 2) + &"a".repeat(count % 2);
        let hasher = foldhash::fast::RandomState::default();
        for count in 0..2 * ROOM {
            let name = ActorName::new("ab", service(count));
            assert_eq!((name.kind(), name.service()), ("ab", &*service(count)));
            let mut others = vec![
                ActorName::new("ab", service(count) + "\0"),
                ActorName::new("a", "b".to_owned() + &service(count)),
            ];
            for at in 0..count {
                let mut other = "a".repeat(count);
                let same = ActorName::new("ab", other.clone());
                other.replace_range(at..=at, "b");
                let other = ActorName::new("ab", other);
                assert_ne!(other, same);
                assert_ne!(hasher.hash_one(&other), hasher.hash_one(&same));
                others.push(other);
            }
            for other in others {
                assert_ne!(name, other);
                assert_ne!(hasher.hash_one(&name), hasher.hash_one(&other));
                assert_ne!(name.cmp(&other), Ordering::Equal);
            }
        }
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
