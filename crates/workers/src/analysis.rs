//! Reads source code: lines, definitions, and the complexity of functions.
//!
//! An [`Analyzer`] parses one file at a time with tree-sitter and answers with
//! a [`FileReport`]. It does no input or output and never fails: what does not
//! parse is counted, and the rest is reported.
//!
//! ```
//! use perennial_workers::analysis::{Analyzer, DefinitionKind, Language};
//!
//! let mut analyzer = Analyzer::new();
//! let report = analyzer.analyze(
//!     Language::Python,
//!     "def sign(x):\n    # zero is positive\n    return -1 if x < 0 else 1\n",
//! );
//!
//! assert_eq!((report.lines.code, report.lines.comment), (2, 1));
//! let sign = &report.definitions[0];
//! assert_eq!((sign.kind, sign.name.as_str()), (DefinitionKind::Function, "sign"));
//! assert_eq!((sign.start_line, sign.end_line), (1, 3));
//! assert_eq!(sign.complexity, Some(2));
//! ```
//!
//! # Definitions
//!
//! | | Rust | Elixir | Erlang | Python | JavaScript |
//! | --- | --- | --- | --- | --- | --- |
//! | function | `fn` | `def`, `defp`, `defn`, `defnp`, `defdelegate` | function | `def` outside a class | `function`, a bound function |
//! | method | `fn` in `impl` or `trait` | | | `def` in a class | method, accessor, a function in a class field |
//! | macro | `macro_rules!` | `defmacro`, `defmacrop`, `defguard`, `defguardp` | `-define` | | |
//! | class | | | | `class` | `class` |
//! | struct | `struct` | `defstruct`, `defexception`, by the name of the module | | | |
//! | enum, union | `enum`, `union` | | | | |
//! | record | | `defrecord`, `defrecordp` | `-record` | | |
//! | trait | `trait` | `defprotocol` | | | |
//! | impl | `impl`, as `Trait for Type` | `defimpl` | | | |
//! | module | `mod` with a body | `defmodule` | `-module` | | |
//! | constant | `const`, `static` | | | | |
//! | type alias | `type` | `@type`, `@typep`, `@opaque` | `-type`, `-opaque`, `-nominal` | `type` | |
//!
//! - A declaration without content is no definition: a signature in a Rust
//!   trait, a `-callback`, `mod name;`. Elixir's `def` always is one.
//! - In Elixir and Erlang, clauses of one name and arity that follow each
//!   other are one function. It lasts from the first to the last of them.
//! - A JavaScript function or class expression counts when it has a name: its
//!   own, or that of what it is bound to by a declaration, an assignment
//!   (`a.b = ..` names `b`), a property, a class field, or `export default`
//!   (which names `default`). Others are part of the function around them, as
//!   closures, lambdas and anonymous functions are in every language.
//! - The arguments of Rust macros are tokens, not syntax: nothing in them
//!   counts except comments.
//!
//! # Complexity
//!
//! The cyclomatic complexity of T. J. McCabe, "A Complexity Measure" (IEEE
//! Transactions on Software Engineering, 1976): one, and one for each decision.
//! As there, a choice between *n* ways is *n* - 1 decisions, and each operand
//! of a condition that may not be evaluated is one. A decision belongs to the
//! innermost function definition around it.
//!
//! | | Rust | Elixir | Erlang | Python | JavaScript |
//! | --- | --- | --- | --- | --- | --- |
//! | branch | `if`, `let`-`else` | `if`, `unless` | | `if`, `elif`, conditional expression | `if`, `?:` |
//! | choice, all ways but one | `match` | `case`, `cond`, `receive`, `fn`, `else` of `with` and `try` | `if`, `case`, `receive`, `fun`, `of` of `try`, `else` of `maybe` | | |
//! | choice, all ways but the default | | | | `match` | `switch` |
//! | clauses of a function, all but one | | yes | yes | | |
//! | guard | `if` of an arm | `when` | `when`, `,` and `;` in guards | `if` of a case | |
//! | loop | `for`, `while` | `for`: its generators and filters | comprehension: its generators and filters | `for`, `while`, comprehension: its loops and filters | `for`, `while`, `do` |
//! | short circuit | `&&`, <code>\|\|</code> | `and`, `or`, `&&`, <code>\|\|</code> | `andalso`, `orelse` | `and`, `or` | `&&`, <code>\|\|</code>, `??`, and their assignments |
//! | failed match | | `<-` of `with` | `?=` of `maybe` | | |
//! | handler | | clauses of `rescue` and `catch` | clauses of `catch`, `catch` expression | `except` | `catch` |
//!
//! Not counted: Rust's `?`, which does what exceptions do unseen elsewhere, and
//! its `loop`, which tests nothing itself; JavaScript's `?.` and default values;
//! `finally`, `after` of `try`, `else` of loops; assertions.

mod elixir;
mod erlang;
mod javascript;
mod language;
mod lines;
mod python;
mod report;
mod rust;
mod walk;

use std::fmt;
use std::ops::ControlFlow;

use tree_sitter::{ParseOptions, ParseState, Parser, Tree};

use walk::{Buffers, Roles, Syntax};

pub use language::Language;
pub use report::{Definition, DefinitionKind, FileReport, LineCounts};

fn syntax(language: Language) -> &'static Syntax {
    match language {
        Language::Rust => &rust::SYNTAX,
        Language::Elixir => &elixir::SYNTAX,
        Language::Erlang => &erlang::SYNTAX,
        Language::Python => &python::SYNTAX,
        Language::JavaScript => &javascript::SYNTAX,
    }
}

/// Analyzes source files, one after the other.
///
/// It keeps a parser for each language it has met, and its buffers: keep the
/// analyzer, one to a worker. What it answers does not depend on what it
/// analyzed before.
pub struct Analyzer {
    parsers: [Option<LanguageParser>; Language::ALL.len()],
    buffers: Buffers,
}

impl Analyzer {
    /// Creates an analyzer; parsers are created when first needed.
    #[must_use]
    pub fn new() -> Self {
        Analyzer {
            parsers: [const { None }; Language::ALL.len()],
            buffers: Buffers::default(),
        }
    }

    /// Reports on a source file.
    ///
    /// A source that tree-sitter cannot take at all (of more than 2 GiB, or of
    /// Python indented in several hundred different ways) is reported as one
    /// syntax error, its lines as code or blank.
    ///
    /// Some malformed inputs make the parser take quadratic time: where the
    /// input is not trusted, use [`analyze_while`](Self::analyze_while).
    #[must_use]
    pub fn analyze(&mut self, language: Language, source: &str) -> FileReport {
        // An analysis that nobody stops has a tree or cannot have one.
        let tree = self.parse(language, source, &mut || true);
        self.report(language, source, tree)
    }

    /// Reports on a source file, unless `go_on` says to stop.
    ///
    /// `go_on` is asked about every hundred steps of the parser, which is many
    /// times in a millisecond for ordinary sources and seldom less than once in
    /// ten for malformed ones. Returns `None` once it has answered `false`.
    pub fn analyze_while(
        &mut self,
        language: Language,
        source: &str,
        mut go_on: impl FnMut() -> bool,
    ) -> Option<FileReport> {
        let mut stopped = false;
        let tree = self.parse(language, source, &mut || {
            stopped = stopped || !go_on();
            !stopped
        });
        (!stopped).then(|| self.report(language, source, tree))
    }

    fn parse(
        &mut self,
        language: Language,
        source: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Tree> {
        // Positions in trees have 32 bits.
        let fits = i32::try_from(source.len()).is_ok();
        if !fits || !(syntax(language).accepts)(source) {
            return None;
        }
        self.parsers[language as usize]
            .get_or_insert_with(|| LanguageParser::new(language))
            .parse(source, go_on)
    }

    fn report(&mut self, language: Language, source: &str, tree: Option<Tree>) -> FileReport {
        let (definitions, syntax_errors) = match tree {
            Some(tree) => {
                let parser = self.parsers[language as usize]
                    .get_or_insert_with(|| LanguageParser::new(language));
                walk::walk(&tree, source, &parser.roles, &mut self.buffers)
            }
            None => {
                self.buffers.comments.clear();
                (Vec::new(), 1)
            }
        };
        FileReport {
            language,
            bytes: u64::try_from(source.len()).unwrap_or(u64::MAX),
            lines: lines::count(source, &self.buffers.comments),
            definitions,
            syntax_errors,
        }
    }
}

impl Default for Analyzer {
    fn default() -> Self {
        Analyzer::new()
    }
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analyzer").finish_non_exhaustive()
    }
}

struct LanguageParser {
    parser: Parser,
    roles: Roles,
}

impl LanguageParser {
    fn new(language: Language) -> Self {
        let syntax = syntax(language);
        let grammar = (syntax.grammar)();
        let mut parser = Parser::new();
        parser
            .set_language(&grammar)
            .expect("the grammars are built for this tree-sitter");
        LanguageParser {
            parser,
            roles: Roles::new(syntax, &grammar),
        }
    }

    fn parse(&mut self, source: &str, go_on: &mut dyn FnMut() -> bool) -> Option<Tree> {
        let bytes = source.as_bytes();
        let mut progress = |_: &ParseState| {
            if go_on() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let options = ParseOptions::new().progress_callback(&mut progress);
        let mut read = |at: usize, _| bytes.get(at..).unwrap_or_default();
        let tree = self
            .parser
            .parse_with_options(&mut read, None, Some(options));
        if tree.is_none() {
            // It would go on with this source otherwise.
            self.parser.reset();
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node kind that a grammar renames would silently stop to count.
    #[test]
    fn every_node_kind_in_the_tables_exists() {
        for language in Language::ALL {
            let syntax = syntax(language);
            let grammar = (syntax.grammar)();
            let named = [
                syntax.comments,
                syntax.decisions,
                syntax.choices,
                syntax.handlers,
                syntax.alternatives,
                syntax.unparsed,
                syntax.inspected,
            ];
            for kind in named.into_iter().flatten() {
                assert_ne!(
                    grammar.id_for_node_kind(kind, true),
                    0,
                    "{language}: {kind}"
                );
            }
            for kind in syntax.decision_tokens {
                assert_ne!(
                    grammar.id_for_node_kind(kind, false),
                    0,
                    "{language}: {kind}"
                );
            }
        }
    }

    #[test]
    fn an_analyzer_goes_with_its_worker_to_any_thread() {
        fn assert_send<T: Send>() {}
        assert_send::<Analyzer>();
    }
}
