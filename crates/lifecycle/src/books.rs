//! The books of a tree, for those who go over its places themselves.

use crate::{Figures, Scope, Totals};

impl Totals {
    /// Adds the books of one place.
    pub fn add_figures(&mut self, figures: &Figures) {
        self.add(&Self::from(figures));
    }
}

impl Scope {
    /// Returns the books of the places that are no longer in the tree.
    ///
    /// Whoever adds up the places of the tree begins with this: one that goes meanwhile is missing then, and not
    /// counted twice.
    #[must_use]
    pub fn books_of_gone_places(&self) -> Totals {
        self.traffic().buried()
    }
}
