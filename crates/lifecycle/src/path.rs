use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Where an actor lives in its tree: `production/pools/database`.
///
/// Cheap to clone. A path names a place, not an incarnation: it stays the same over restarts.
#[derive(Clone, PartialEq, Eq)]
pub struct ActorPath(Text);

/// The same text is always the same variant.
#[derive(Clone, PartialEq, Eq)]
enum Text {
    /// In place: the events of very many places keep their paths, and to count a handle of a text elsewhere, among what
    /// was not used for long, costs more than all else that is done with an event.
    Short(Short),
    Long(Arc<str>),
}

/// As long a text as makes the path no longer than it would be for its other variant and one word more.
const ROOM: usize = 22;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Short {
    len: u8,
    /// The text, and zeros up to the end.
    bytes: [u8; ROOM],
}

impl Short {
    fn of(parts: [&str; 3]) -> Option<Self> {
        let mut bytes = [0; ROOM];
        let mut len = 0;
        for part in parts {
            let end = len + part.len();
            bytes.get_mut(len..end)?.copy_from_slice(part.as_bytes());
            len = end;
        }
        let len = u8::try_from(len).ok()?;
        Some(Self { len, bytes })
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl ActorPath {
    /// Makes the path of a tree's root.
    #[must_use]
    pub fn root(namespace: &str) -> Self {
        Self::of([namespace, "", ""])
    }

    /// Returns the path of a child.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        Self::of([self.as_str(), "/", id])
    }

    fn of(parts: [&str; 3]) -> Self {
        Self(match Short::of(parts) {
            Some(short) => Text::Short(short),
            None => Text::Long(parts.concat().into()),
        })
    }

    /// Returns the whole path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Made of texts, it can be read as such.
            Text::Short(short) => str::from_utf8(short.as_bytes()).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }

    /// As [`as_str`](Self::as_str), without a look at what the bytes mean.
    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Short(short) => short.as_bytes(),
            Text::Long(text) => text.as_bytes(),
        }
    }

    /// Looks at what is written when the path is cloned or dropped, so that it is at hand.
    pub(crate) fn look(&self) {
        std::hint::black_box(self.handles());
    }

    /// Returns how many handles of this path there are; `None` where it is copied.
    pub(crate) fn handles(&self) -> Option<usize> {
        match &self.0 {
            Text::Short(_) => None,
            Text::Long(text) => Some(Arc::strong_count(text)),
        }
    }

    /// Returns the last segment: the child id.
    #[must_use]
    pub fn id(&self) -> &str {
        let text = self.as_str();
        text.rsplit('/').next().unwrap_or(text)
    }

    /// Says whether this is the place `base` or one below it.
    ///
    /// Whole segments count: `shop/billing` does not start with `shop/bill`.
    #[must_use]
    pub fn starts_with(&self, base: &Self) -> bool {
        let rest = self.as_bytes().strip_prefix(base.as_bytes());
        rest.is_some_and(|rest| rest.first().is_none_or(|next| *next == b'/'))
    }
}

impl Hash for ActorPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Ord for ActorPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // The order of texts.
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for ActorPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ActorPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_text_however_long_it_is() {
        let made: Vec<_> = (0..3 * ROOM)
            .map(|count| {
                let id = "\u{e9}".repeat(count / 2) + &"a".repeat(count % 2);
                let path = ActorPath::root("sh\u{f6}p").child(&id);
                assert_eq!(path.as_str(), format!("sh\u{f6}p/{id}"));
                assert_eq!(
                    (path.id(), path.to_string()),
                    (&*id, format!("sh\u{f6}p/{id}"))
                );
                assert_eq!(path, path.clone());
                assert_eq!(path, ActorPath::root(path.as_str()));
                path
            })
            .collect();
        for (one, other) in made
            .iter()
            .flat_map(|it| made.iter().map(move |other| (it, other)))
        {
            assert_eq!(one.cmp(other), one.as_str().cmp(other.as_str()));
            assert_eq!(one == other, one.as_str() == other.as_str());
        }
        assert!(size_of::<ActorPath>() == 24 && size_of::<Option<ActorPath>>() == 24);
    }

    #[test]
    fn a_place_is_below_another_by_whole_segments() {
        for id in ["billing", "billing-of-a-very-large-shop"] {
            let base = ActorPath::root("shop").child(id);
            assert!(base.starts_with(&base) && base.child("x").starts_with(&base));
            assert!(!ActorPath::root("shop").starts_with(&base));
            let sibling = ActorPath::root("shop").child(&format!("{id}s"));
            assert!(!sibling.starts_with(&base));
        }
    }
}
