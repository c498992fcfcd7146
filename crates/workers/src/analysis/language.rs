use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Names a programming language that the [`Analyzer`](super::Analyzer) reads.
///
/// # Examples
///
/// ```
/// use std::path::Path;
/// use perennial_workers::analysis::Language;
///
/// assert_eq!(Language::from_path(Path::new("lib/pool.ex")), Some(Language::Elixir));
/// assert_eq!(Language::from_path(Path::new("README.md")), None);
/// assert_eq!(Language::JavaScript.to_string(), "JavaScript");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust: `.rs`.
    Rust,
    /// Elixir: `.ex`, `.exs`.
    Elixir,
    /// Erlang: `.erl`, `.hrl`.
    Erlang,
    /// Python: `.py`, `.pyi`.
    Python,
    /// JavaScript with JSX: `.js`, `.mjs`, `.cjs`, `.jsx`.
    JavaScript,
}

impl Language {
    /// Every language, in the order of declaration.
    pub const ALL: [Language; 5] = [
        Language::Rust,
        Language::Elixir,
        Language::Erlang,
        Language::Python,
        Language::JavaScript,
    ];

    /// Tells the language of a file from its extension, whatever its case.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Language> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "rs" => Some(Language::Rust),
            "ex" | "exs" => Some(Language::Elixir),
            "erl" | "hrl" => Some(Language::Erlang),
            "py" | "pyi" => Some(Language::Python),
            "js" | "mjs" | "cjs" | "jsx" => Some(Language::JavaScript),
            _ => None,
        }
    }

    /// Returns the name as its community writes it, which is also its `Display`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::Elixir => "Elixir",
            Language::Erlang => "Erlang",
            Language::Python => "Python",
            Language::JavaScript => "JavaScript",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
