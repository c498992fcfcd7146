use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use super::shelf::{Lent, Shelf};

/// A borrowed object; dropping it checks it in.
///
/// It dereferences to the object itself.
#[must_use = "dropping it checks the object in"]
pub struct Object<T> {
    /// `None` once it was given back or taken out.
    lent: Option<Lent<T>>,
    home: Arc<Shelf<T>>,
    location: &'static Location<'static>,
}

impl<T> Object<T> {
    #[inline]
    pub(super) fn new(
        lent: Lent<T>,
        home: &Arc<Shelf<T>>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            lent: Some(lent),
            home: Arc::clone(home),
            location,
        }
    }

    /// Takes the object out of the pool, which is smaller by one from now on.
    ///
    /// An associated function, so that it does not hide a method of the object.
    ///
    /// ```
    /// # use perennial_pool::{Object, ObjectPool};
    /// let pool = ObjectPool::builder("words", ["broken"]).build()?;
    /// let word = Object::take(pool.try_checkout()?);
    /// assert_eq!((word, pool.status().size), ("broken", 0));
    /// pool.add("sound")?;
    /// assert_eq!(*pool.try_checkout()?, "sound");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// Never: the object is there until it is given back.
    pub fn take(mut this: Self) -> T {
        let lent = this.lent.take().expect("there until it is given back");
        let object = this.home.books().remove(lent);
        this.home.line.removed();
        object
    }

    /// Returns where it was checked out.
    pub fn location(this: &Self) -> &'static Location<'static> {
        this.location
    }
}

impl<T> Deref for Object<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let lent = self.lent.as_ref();
        &lent.expect("there until it is given back").object
    }
}

impl<T> DerefMut for Object<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let lent = self.lent.as_mut();
        &mut lent.expect("there until it is given back").object
    }
}

impl<T> Drop for Object<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.home.give_back(lent);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Object<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("object", &**self)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}
