use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use perennial_lifecycle::catch_panic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::nearest::nearest;
use crate::{ConfigKey, UnknownPath, UpdateError};

/// All settings of a host: for each its path, its type, its default, and what values it takes.
///
/// ```
/// use perennial_config::{ConfigKey, Schema};
///
/// const MAX_ITEMS: ConfigKey<u32> = ConfigKey::new("billing.max_items");
///
/// let schema = Schema::builder()
///     .entry(MAX_ITEMS, 100, |n| match n {
///         1..=1000 => Ok(()),
///         _ => Err("must be from 1 to 1000".to_owned()),
///     })
///     .value("billing.currency", "EUR".to_owned())
///     .build()?;
/// assert_eq!(schema.paths().collect::<Vec<_>>(), ["billing.currency", "billing.max_items"]);
/// # Ok::<(), perennial_config::SchemaError>(())
/// ```
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    /// In order of their paths.
    entries: Vec<Entry>,
    by_path: HashMap<Arc<str>, usize>,
}

/// One setting.
pub(crate) struct Entry {
    pub(crate) path: Arc<str>,
    pub(crate) type_name: &'static str,
    pub(crate) default: Typed,
    read: Box<Read>,
}

/// Makes a checked value of a JSON one, or says what was expected.
type Read = dyn Fn(&Value) -> Result<Typed, String> + Send + Sync;

/// A value that the schema has accepted.
#[derive(Clone)]
pub(crate) struct Typed {
    pub(crate) json: Value,
    /// Of the type that the entry was declared with.
    pub(crate) value: Arc<dyn Any + Send + Sync>,
}

impl Schema {
    /// Begins a schema without settings.
    pub fn builder() -> SchemaBuilder {
        SchemaBuilder::default()
    }

    /// Returns the paths of all settings, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.entries.iter().map(|entry| &*entry.path)
    }

    /// Checks a value for a setting, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`UpdateError::UnknownPath`] and [`UpdateError::Invalid`].
    pub fn check(&self, path: &str, value: &Value) -> Result<(), UpdateError> {
        let entry = &self.0.entries[self.index(path)?];
        entry.read(value).map(drop)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    /// Finds the place of a setting in [`entries`](Self::entries).
    pub(crate) fn index(&self, path: &str) -> Result<usize, UnknownPath> {
        self.find(path).ok_or_else(|| self.unknown(path))
    }

    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        self.0.by_path.get(path).copied()
    }

    pub(crate) fn unknown(&self, path: &str) -> UnknownPath {
        let nearest = nearest(path, self.paths());
        UnknownPath {
            path: path.to_owned(),
            nearest: nearest.map(Arc::from),
        }
    }
}

impl Entry {
    pub(crate) fn read(&self, json: &Value) -> Result<Typed, UpdateError> {
        // A check that panics refuses the value: it must not end whoever asked it.
        let read = catch_panic(|| (self.read)(json));
        read.unwrap_or_else(|_| Err("the check of this setting panicked".to_owned()))
            .map_err(|reason| UpdateError::Invalid {
                path: Arc::clone(&self.path),
                reason,
            })
    }
}

/// Collects the settings of a [`Schema`].
#[derive(Default)]
#[must_use]
pub struct SchemaBuilder {
    entries: Vec<Entry>,
    /// The first thing that is wrong.
    error: Option<SchemaError>,
}

impl SchemaBuilder {
    /// Declares a setting with its default, and a check that says what is wrong with a value.
    ///
    /// The check is run for every new value, so it should be quick. It need not look at the type: a value
    /// that is no `T` does not come that far.
    pub fn entry<T>(
        mut self,
        key: impl Into<ConfigKey<T>>,
        default: T,
        check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let path = key.into().path();
        match entry(path, &default, check) {
            Ok(entry) => self.entries.push(entry),
            Err(error) => self.error = self.error.or(Some(error)),
        }
        self
    }

    /// Declares a setting that takes any value of its type.
    pub fn value<T>(self, key: impl Into<ConfigKey<T>>, default: T) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.entry(key, default, |_| Ok(()))
    }

    /// Makes the schema.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] names the setting.
    pub fn build(self) -> Result<Schema, SchemaError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut entries = self.entries;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(SchemaError::Duplicate {
                path: Arc::clone(&twice[0].path),
            });
        }
        let by_path = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (Arc::clone(&entry.path), index))
            .collect();
        Ok(Schema(Arc::new(Inner { entries, by_path })))
    }
}

fn entry<T>(
    path: &'static str,
    default: &T,
    check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
) -> Result<Entry, SchemaError>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let path: Arc<str> = path.into();
    let segment = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '-'))
    };
    if !path.split('.').all(segment) {
        return Err(SchemaError::Path { path });
    }
    let accept = move |json: &Value| -> Result<T, String> {
        let value = T::deserialize(json).map_err(|error| error.to_string())?;
        check(&value)?;
        Ok(value)
    };
    let read = move |json: &Value| -> Result<Typed, String> {
        let value = accept(json)?;
        // What is stored is what `T` makes of the value, whatever spelling it came in.
        let stored = serde_json::to_value(&value).map_err(|error| error.to_string())?;
        if stored != *json {
            // A number beyond the end of an `f32` is infinite there, and infinity is written as null.
            accept(&stored).map_err(|reason| format!("it could not be read back: {reason}"))?;
        }
        Ok(Typed {
            json: stored,
            value: Arc::new(value),
        })
    };
    // The default takes the way of every other value: what cannot be stored and read back fails here.
    let bad_default = |reason| SchemaError::Default {
        path: Arc::clone(&path),
        reason,
    };
    let json = serde_json::to_value(default).map_err(|error| bad_default(error.to_string()))?;
    let default = read(&json).map_err(bad_default)?;
    Ok(Entry {
        path,
        type_name: std::any::type_name::<T>(),
        default,
        read: Box::new(read),
    })
}

/// Settings that cannot make a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The path is not made of segments of letters, digits, `_` and `-`, joined by dots.
    #[error("setting `{path}`: not a path")]
    #[non_exhaustive]
    Path {
        /// The path as given.
        path: Arc<str>,
    },
    /// The setting is declared twice.
    #[error("setting `{path}`: declared twice")]
    #[non_exhaustive]
    Duplicate {
        /// The path.
        path: Arc<str>,
    },
    /// The default is refused by its own check, or does not survive being written as JSON and read.
    #[error("setting `{path}`: bad default: {reason}")]
    #[non_exhaustive]
    Default {
        /// The path.
        path: Arc<str>,
        /// What was expected.
        reason: String,
    },
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

impl fmt::Debug for SchemaBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.entries.iter().map(|entry| &entry.path);
        f.debug_list().entries(paths).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn positive(n: &i64) -> Result<(), String> {
        if *n > 0 {
            Ok(())
        } else {
            Err("must be positive".to_owned())
        }
    }

    #[test]
    fn a_value_is_refused_with_what_was_expected() {
        let schema = Schema::builder().entry("a.b", 1, positive).build().unwrap();
        assert!(schema.check("a.b", &json!(7)).is_ok());
        let error = schema.check("a.b", &json!(0)).unwrap_err();
        assert_eq!(error.to_string(), "setting `a.b`: must be positive");
        let error = schema.check("a.b", &json!("seven")).unwrap_err();
        assert!(error.to_string().contains("expected i64"), "{error}");
        assert!(!error.is_retryable());
    }

    #[test]
    fn an_unknown_path_is_refused_with_the_nearest() {
        let schema = Schema::builder()
            .entry("a.bees", 1, positive)
            .build()
            .unwrap();
        let error = schema.check("a.bee", &json!(1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no setting `a.bee`, did you mean `a.bees`?"
        );
    }

    #[test]
    fn a_bad_schema_is_refused() {
        let path = |path: &'static str| Schema::builder().value(path, 1).build().unwrap_err();
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a/b"] {
            assert_eq!(path(bad), SchemaError::Path { path: bad.into() });
        }
        let twice = Schema::builder()
            .value("a", 1)
            .value("b", 2)
            .value("a", "x".to_owned());
        assert_eq!(
            twice.build().unwrap_err(),
            SchemaError::Duplicate { path: "a".into() }
        );
        let refused = Schema::builder()
            .entry("a", 0, positive)
            .build()
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "setting `a`: bad default: must be positive"
        );
        let lost = Schema::builder().value("a", f64::NAN).build().unwrap_err();
        assert!(matches!(lost, SchemaError::Default { .. }), "{lost}");
    }

    #[test]
    fn a_check_that_panics_refuses_the_value() {
        let check = |n: &i64| if *n == 13 { panic!("unlucky") } else { Ok(()) };
        let schema = Schema::builder().entry("a", 1, check).build().unwrap();
        let error = schema.check("a", &json!(13)).unwrap_err();
        assert!(matches!(error, UpdateError::Invalid { .. }), "{error}");
    }
}
