//! What a run found, and its JSON form.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use perennial::{PoolStatus, Snapshot};
use serde_json::{Value, json};

use super::pipeline::Counts;
use super::store::{ComplexFunction, LanguageTotals};
use crate::signals::Signal;

/// The version of the JSON document; raised when a field changes its meaning.
const VERSION: u32 = 1;

/// What a run found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The current directory, against which paths are shortened.
    pub directory: PathBuf,
    /// Source files found by the walk.
    pub found: u64,
    /// Which way they went.
    pub counts: Counts,
    /// Files that were forgotten because they are gone.
    pub removed: u64,
    /// What the database now has, by language.
    pub totals: Vec<LanguageTotals>,
    /// The most complex functions, worst first.
    pub most_complex: Vec<ComplexFunction>,
    /// Files that failed, and why.
    pub failures: Vec<(String, String)>,
    /// The signal that came before everything was analyzed.
    pub interrupted: Option<Signal>,
    /// What gates and breakers refused.
    pub refused: u64,
    /// How often actors were restarted.
    pub restarts: u64,
    /// How many actors `--chaos` killed.
    pub kills: u64,
    /// The pools at the end.
    pub pools: Vec<(Arc<str>, PoolStatus)>,
    /// The tree at the end.
    pub snapshot: Snapshot,
    /// How long the run took.
    pub elapsed: Duration,
}

impl Report {
    /// Returns files analyzed per second.
    #[must_use]
    pub fn files_per_second(&self) -> f64 {
        // Counts of files and bytes are far below 2^53.
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let files = self.counts.analyzed as f64;
        files / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns megabytes of source analyzed per second.
    #[must_use]
    pub fn megabytes_per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let bytes = self.counts.bytes as f64;
        bytes / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns the report as one JSON document; its fields are described in `docs/analyze-json.md`.
    #[must_use]
    pub fn to_json(&self, with_tree: bool) -> String {
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(path, reason)| json!({ "path": path, "reason": reason }))
            .collect();
        let pools: Vec<Value> = self
            .pools
            .iter()
            .map(|(name, it)| {
                json!({
                    "name": **name, "size": it.size, "max_overflow": it.max_overflow,
                    "idle": it.idle, "in_use": it.in_use, "waiting": it.waiting,
                })
            })
            .collect();
        let mut document = json!({
            "version": VERSION,
            "interrupted": self.interrupted.is_some(),
            "files": {
                "found": self.found,
                "analyzed": self.counts.analyzed,
                "unchanged": self.counts.unchanged,
                "binary": self.counts.binary,
                "failed": self.counts.failed,
                "removed": self.removed,
            },
            "languages": self.totals,
            "most_complex": self.most_complex,
            "failures": failures,
            "tree": {
                "restarts": self.restarts,
                "refused": self.refused,
                "chaos_kills": self.kills,
                "pools": pools,
            },
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "files_per_second": self.files_per_second(),
            "megabytes_per_second": self.megabytes_per_second(),
        });
        if with_tree {
            let snapshot: Option<Value> = serde_json::from_str(&self.snapshot.to_json()).ok();
            document["snapshot"] = snapshot.unwrap_or_default();
        }
        format!("{document:#}")
    }
}
