use std::fmt;

use serde::{Serialize, Serializer};
use smol_str::{SmolStr, SmolStrBuilder};

/// Where an actor lives in its tree: `production/pools/database`.
///
/// Cheap to clone. A path names a place, not an incarnation: it stays the same over restarts.
// A short text lies in place: the events of very many places keep their paths, and to count a handle of a text elsewhere,
// among what was not used for long, costs more than all else that is done with an event.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorPath(SmolStr);

impl ActorPath {
    /// Makes the path of a tree's root.
    #[must_use]
    pub fn root(namespace: &str) -> Self {
        Self(namespace.into())
    }

    /// Returns the path of a child.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        let mut path = SmolStrBuilder::with_capacity(self.0.len() + 1 + id.len());
        path.push_str(&self.0);
        path.push('/');
        path.push_str(id);
        Self(path.finish())
    }

    /// Returns the whole path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Looks at what is written when the path is cloned or dropped, so that it is at hand: the count of a long text's
    /// handles lies before the text.
    pub(crate) fn look(&self) {
        std::hint::black_box(self.0.as_bytes().first());
    }

    /// Returns the last segment: the child id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Says whether this is the place `base` or one below it.
    ///
    /// Whole segments count: `shop/billing` does not start with `shop/bill`.
    #[must_use]
    pub fn starts_with(&self, base: &Self) -> bool {
        let rest = self.0.strip_prefix(&*base.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ActorPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_text_however_long_it_is() {
        for length in 0..3 * SmolStr::INLINE_CAP {
            let id = "a".repeat(length);
            let path = ActorPath::root("sh\u{f6}p").child(&id);
            assert_eq!(path.to_string(), format!("sh\u{f6}p/{id}"));
            assert_eq!(path.id(), id);
            assert_eq!(path, ActorPath::root(path.as_str()));
        }
        // A word more in each event and each place.
        assert_eq!(size_of::<Option<ActorPath>>(), 24);
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
