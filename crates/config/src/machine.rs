//! What the settings are, given what is stored: no database, no actor, no clock.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::schema::Typed;
use crate::{ConfigChange, Schema};

/// One row of what is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) path: String,
    pub(crate) json: String,
    pub(crate) version: u64,
    pub(crate) user: String,
    pub(crate) at: SystemTime,
}

/// The values of all settings at one version.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    /// One for each entry of the schema, in its order.
    pub(crate) values: Vec<Arc<Held>>,
}

/// The value of one setting.
pub(crate) struct Held {
    pub(crate) value: Typed,
    /// Who set it, in which version, and when; `None`: it is the default.
    pub(crate) set: Option<(u64, Arc<str>, SystemTime)>,
}

/// A stored value that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// The schema refuses it, so the default holds. Why is not kept: it may quote the value.
    Invalid { path: Arc<str> },
    /// The schema has no such setting.
    Unknown { path: String },
}

impl Snapshot {
    /// Every setting at its default.
    pub(crate) fn defaults(schema: &Schema) -> Self {
        let held = |value: &Typed| {
            Arc::new(Held {
                value: value.clone(),
                set: None,
            })
        };
        Self {
            version: 0,
            values: schema
                .entries()
                .iter()
                .map(|it| held(&it.default))
                .collect(),
        }
    }

    /// Puts rows in the place of what was there for their paths, and counts the version up to the latest.
    pub(crate) fn with(mut self, schema: &Schema, rows: Vec<Row>) -> (Self, Vec<Skipped>) {
        let mut skipped = Vec::new();
        for row in rows {
            self.version = self.version.max(row.version);
            let Some(index) = schema.find(&row.path) else {
                skipped.push(Skipped::Unknown { path: row.path });
                continue;
            };
            let entry = &schema.entries()[index];
            let json = serde_json::from_str::<Value>(&row.json).ok();
            let held = match json.and_then(|json| entry.read(&json).ok()) {
                Some(value) => Held {
                    value,
                    set: Some((row.version, row.user.into(), row.at)),
                },
                None => {
                    let path = Arc::clone(&entry.path);
                    skipped.push(Skipped::Invalid { path });
                    Held {
                        value: entry.default.clone(),
                        set: None,
                    }
                }
            };
            self.values[index] = Arc::new(held);
        }
        (self, skipped)
    }

    /// Lists what is different in `self`, oldest version first.
    pub(crate) fn changes_since(&self, old: &Self, schema: &Schema) -> Vec<ConfigChange> {
        let pairs = old.values.iter().zip(&self.values);
        let mut changes: Vec<ConfigChange> = pairs
            .zip(schema.entries())
            .filter(|((old, new), _)| old.version() != new.version())
            .map(|((old, new), entry)| {
                let (version, user, at) = match &new.set {
                    Some((version, user, at)) => (*version, Arc::clone(user), *at),
                    // Set back: what was stored is gone, or no longer valid.
                    None => (self.version, Arc::from(""), SystemTime::UNIX_EPOCH),
                };
                ConfigChange {
                    path: Arc::clone(&entry.path),
                    old: old.value.json.clone(),
                    new: new.value.json.clone(),
                    version,
                    user,
                    at,
                }
            })
            .collect();
        changes.sort_by_key(|change| change.version);
        changes
    }
}

impl Held {
    fn version(&self) -> u64 {
        self.set.as_ref().map_or(0, |(version, ..)| *version)
    }
}

#[cfg(test)]
mod tests;
