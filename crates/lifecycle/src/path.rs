use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Where an actor lives in its tree: `production/pools/database`.
///
/// Cheap to clone. A path names a place, not an incarnation: it stays the same over restarts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorPath(Arc<str>);

impl ActorPath {
    /// Makes the path of a tree's root.
    #[must_use]
    pub fn root(namespace: &str) -> Self {
        Self(namespace.into())
    }

    /// Returns the path of a child.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        // Into one block of the right size: a tree makes very many of these.
        let mut path = String::with_capacity(self.0.len() + 1 + id.len());
        path.push_str(&self.0);
        path.push('/');
        path.push_str(id);
        Self(path.into())
    }

    /// Returns the whole path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns how many handles of this path there are.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
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
