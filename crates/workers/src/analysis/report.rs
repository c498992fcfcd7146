use std::fmt;

use serde::{Deserialize, Serialize};

use super::Language;

/// Says what one source file contains.
///
/// A report follows from the language and the text alone: the same input gives
/// the same report, on every machine and in every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The language the file was read as.
    pub language: Language,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// The lines by what is on them.
    pub lines: LineCounts,
    /// What the file defines, in the order of appearance: a definition stands
    /// before those nested in it.
    pub definitions: Vec<Definition>,
    /// How many places did not parse: wrong or missing syntax.
    pub syntax_errors: u32,
}

impl FileReport {
    /// Tells whether some of the file did not parse.
    ///
    /// The rest of the report then covers what did.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.syntax_errors > 0
    }

    /// Returns the functions and methods, in the order of appearance.
    pub fn functions(&self) -> impl Iterator<Item = &Definition> {
        self.definitions
            .iter()
            .filter(|definition| definition.kind.is_function())
    }
}

/// Counts the lines of a file by what is on them.
///
/// Lines end at a line feed; a line feed at the end of the file does not begin
/// another line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCounts {
    /// All lines: the sum of the other three.
    pub total: u32,
    /// Lines with something that is neither white space nor comment. String
    /// literals are code, those that document (Python's docstrings, Elixir's
    /// `@doc`) included.
    pub code: u32,
    /// Lines with nothing but white space and comments, documentation comments
    /// and the `#!` line included.
    pub comment: u32,
    /// Lines of white space, those inside of comments and strings included.
    pub blank: u32,
}

/// Describes one definition in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// What is defined.
    pub kind: DefinitionKind,
    /// Its name as written; Elixir and Erlang functions as `name/arity`.
    pub name: String,
    /// Its first line, counted from 1. Attributes, decorators and
    /// documentation before it are not part of it.
    pub start_line: u32,
    /// Its last line, inclusive.
    pub end_line: u32,
    /// The cyclomatic complexity, at least 1, of what has a body that runs:
    /// functions, methods, and Elixir's macros.
    pub complexity: Option<u32>,
}

/// Says what a [`Definition`] defines.
///
/// The module's table says which syntax of which language makes which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefinitionKind {
    /// A function that stands by itself, in a module or in another function.
    Function,
    /// A function of a class, an implementation or a trait.
    Method,
    /// A macro.
    Macro,
    /// A class.
    Class,
    /// A structure.
    Struct,
    /// An enumeration.
    Enum,
    /// A union.
    Union,
    /// An Erlang or Elixir record.
    Record,
    /// A trait or a protocol.
    Trait,
    /// An implementation of a trait, of a protocol, or for a type.
    Impl,
    /// A module with its content in this file.
    Module,
    /// A constant or a static.
    Constant,
    /// A name for a type.
    TypeAlias,
}

impl DefinitionKind {
    /// Tells whether this is a function or a method.
    #[must_use]
    pub fn is_function(self) -> bool {
        matches!(self, DefinitionKind::Function | DefinitionKind::Method)
    }

    /// Returns the name as it stands in serialized reports, which is also its
    /// `Display`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DefinitionKind::Function => "function",
            DefinitionKind::Method => "method",
            DefinitionKind::Macro => "macro",
            DefinitionKind::Class => "class",
            DefinitionKind::Struct => "struct",
            DefinitionKind::Enum => "enum",
            DefinitionKind::Union => "union",
            DefinitionKind::Record => "record",
            DefinitionKind::Trait => "trait",
            DefinitionKind::Impl => "impl",
            DefinitionKind::Module => "module",
            DefinitionKind::Constant => "constant",
            DefinitionKind::TypeAlias => "type_alias",
        }
    }
}

impl fmt::Display for DefinitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
