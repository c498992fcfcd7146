use std::fmt;
use std::marker::PhantomData;

/// The path of a setting, with the type of its value.
///
/// Made once, as a constant, and used wherever the setting is declared, read or changed.
///
/// ```
/// use perennial_config::ConfigKey;
///
/// const MAX_ITEMS: ConfigKey<u32> = ConfigKey::new("billing.max_items");
/// assert_eq!(MAX_ITEMS.path(), "billing.max_items");
/// ```
pub struct ConfigKey<T> {
    path: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> ConfigKey<T> {
    /// Names a setting: segments of letters, digits, `_` and `-`, joined by dots.
    #[must_use]
    pub const fn new(path: &'static str) -> Self {
        Self {
            path,
            value: PhantomData,
        }
    }

    /// Returns the path.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }
}

impl<T> Clone for ConfigKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ConfigKey<T> {}

impl<T> From<&'static str> for ConfigKey<T> {
    fn from(path: &'static str) -> Self {
        Self::new(path)
    }
}

impl<T> AsRef<str> for ConfigKey<T> {
    fn as_ref(&self) -> &str {
        self.path
    }
}

impl<T> fmt::Debug for ConfigKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigKey").field(&self.path).finish()
    }
}

impl<T> fmt::Display for ConfigKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}
