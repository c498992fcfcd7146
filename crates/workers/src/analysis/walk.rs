//! One pass over a syntax tree: definitions, decisions, comments, errors.
//!
//! What the kinds of nodes mean is the [`Syntax`] of each language; this file
//! knows none of them.

use std::ops::Range;

use tree_sitter::{Node, Tree};

use super::{Definition, DefinitionKind};

/// Longer names are cut: a computed key can be a whole program.
const MAX_NAME_CHARS: usize = 120;

/// Says what the node kinds of one grammar mean.
pub(super) struct Syntax {
    pub(super) grammar: fn() -> tree_sitter::Language,
    /// Tells whether the grammar's parser can take this source.
    pub(super) accepts: fn(&str) -> bool,
    /// Comments; nothing is looked for inside them.
    pub(super) comments: &'static [&'static str],
    /// Named nodes that add one to the complexity of the function around them.
    pub(super) decisions: &'static [&'static str],
    /// Tokens that do the same.
    pub(super) decision_tokens: &'static [&'static str],
    /// Nodes whose alternatives exclude each other: all but the first add one.
    pub(super) choices: &'static [&'static str],
    /// Nodes whose alternatives stand beside a way that is already counted: all
    /// add one.
    pub(super) handlers: &'static [&'static str],
    /// The alternatives of choices and handlers.
    pub(super) alternatives: &'static [&'static str],
    /// Tokens that the grammar leaves as they are: only comments matter inside.
    pub(super) unparsed: &'static [&'static str],
    /// Nodes that `inspect` is asked about.
    pub(super) inspected: &'static [&'static str],
    pub(super) inspect: fn(Node<'_>, &mut Context<'_>) -> Meaning,
}

/// What the walk knows when it asks about a node.
pub(super) struct Context<'a> {
    pub(super) source: &'a str,
    /// The innermost definition around the node.
    pub(super) enclosing: Option<&'a Definition>,
    bindings: &'a mut Vec<Binding>,
}

/// A name given to a value that the walk will reach later.
struct Binding {
    value: usize,
    kind: DefinitionKind,
    name: String,
}

impl Context<'_> {
    pub(super) fn text(&self, node: Node<'_>) -> &str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    /// Returns the text of a node, fit to be a name.
    pub(super) fn name(&self, node: Node<'_>) -> String {
        tidy(self.text(node))
    }

    /// Remembers the name that `value` is bound to.
    pub(super) fn bind(&mut self, value: Node<'_>, kind: DefinitionKind, name: String) {
        self.bindings.push(Binding {
            value: value.id(),
            kind,
            name,
        });
    }

    /// Takes the name that `value` was bound to.
    pub(super) fn binding(&mut self, value: Node<'_>) -> Option<(DefinitionKind, String)> {
        // Every bound value lies inside the node that binds it, so bindings
        // are taken in the reverse order of being made.
        self.bindings
            .pop_if(|binding| binding.value == value.id())
            .map(|binding| (binding.kind, binding.name))
    }
}

/// What a language says about a node.
pub(super) enum Meaning {
    Nothing,
    Decisions(usize),
    Definition(Found),
}

pub(super) struct Found {
    kind: DefinitionKind,
    name: String,
    clause: Clause,
    complexity: Option<u32>,
    start_row: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    /// A definition of its own.
    Whole,
    /// One of the clauses of a function; `body` is false for a mere head.
    Part { body: bool },
}

impl Found {
    pub(super) fn new(kind: DefinitionKind, name: String) -> Self {
        Found {
            kind,
            name,
            clause: Clause::Whole,
            complexity: kind.is_function().then_some(1),
            start_row: None,
        }
    }

    /// Joins the definition to the one before it if that has the same name.
    #[must_use]
    pub(super) fn clause(mut self, body: bool) -> Self {
        self.clause = Clause::Part { body };
        self
    }

    /// Gives a definition that is no function a body that runs.
    #[must_use]
    pub(super) fn runs(mut self) -> Self {
        self.complexity = Some(1);
        self
    }

    /// Begins the definition after what stands before its keyword.
    #[must_use]
    pub(super) fn starting_at(mut self, row: usize) -> Self {
        self.start_row = Some(row);
        self
    }
}

impl From<Found> for Meaning {
    fn from(found: Found) -> Self {
        Meaning::Definition(found)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Comment,
    Decision,
    Choice,
    Handlers,
    Alternative,
    Unparsed,
    Inspected,
}

/// A [`Syntax`] looked up in its grammar: one role for each kind of node.
pub(super) struct Roles {
    by_kind: Vec<Role>,
    inspect: fn(Node<'_>, &mut Context<'_>) -> Meaning,
}

impl Roles {
    pub(super) fn new(syntax: &Syntax, language: &tree_sitter::Language) -> Self {
        let role = |kind: u16| {
            let named = language.node_kind_is_named(kind);
            let Some(name) = language.node_kind_for_id(kind) else {
                return Role::Plain;
            };
            if !named {
                return if syntax.decision_tokens.contains(&name) {
                    Role::Decision
                } else {
                    Role::Plain
                };
            }
            let table = [
                (syntax.comments, Role::Comment),
                (syntax.decisions, Role::Decision),
                (syntax.choices, Role::Choice),
                (syntax.handlers, Role::Handlers),
                (syntax.alternatives, Role::Alternative),
                (syntax.unparsed, Role::Unparsed),
                (syntax.inspected, Role::Inspected),
            ];
            table
                .iter()
                .find(|(names, _)| names.contains(&name))
                .map_or(Role::Plain, |(_, role)| *role)
        };
        let kinds = u16::try_from(language.node_kind_count()).unwrap_or(u16::MAX);
        Roles {
            by_kind: (0..kinds).map(role).collect(),
            inspect: syntax.inspect,
        }
    }

    fn of(&self, kind: u16) -> Role {
        // The kind of an error node is not in the grammar's table.
        self.by_kind
            .get(usize::from(kind))
            .copied()
            .unwrap_or(Role::Plain)
    }
}

/// What holds inside of the nodes that the walk is in.
#[derive(Clone, Copy, Default)]
struct Scope {
    /// The innermost definition, as an index.
    definition: Option<usize>,
    /// The innermost one whose decisions are counted.
    function: Option<usize>,
    /// The definition last seen directly in this scope, and whether one of its
    /// clauses had a body.
    sibling: Option<usize>,
    sibling_has_body: bool,
    /// Whether the next alternative adds one.
    alternatives_count: bool,
    unparsed: bool,
}

/// Buffers that outlive a walk, so that the next one need not allocate them.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) comments: Vec<Range<usize>>,
    outer: Vec<(usize, Scope)>,
    bindings: Vec<Binding>,
}

/// Walks the tree once, in source order; leaves the comments in the buffers.
///
/// The walk keeps its own stack: how deep the source nests does not matter.
pub(super) fn walk(
    tree: &Tree,
    source: &str,
    roles: &Roles,
    buffers: &mut Buffers,
) -> (Vec<Definition>, u32) {
    buffers.comments.clear();
    buffers.outer.clear();
    buffers.bindings.clear();
    let broken = tree.root_node().has_error();
    let mut walk = Walk {
        source,
        roles,
        buffers,
        broken,
        depth: 0,
        scope: Scope::default(),
        definitions: Vec::new(),
        errors: 0,
    };
    let mut cursor = tree.walk();
    'tree: loop {
        if walk.enter(cursor.node()) && cursor.goto_first_child() {
            walk.depth += 1;
            continue;
        }
        loop {
            walk.leave();
            if cursor.goto_next_sibling() {
                break;
            }
            if !cursor.goto_parent() {
                break 'tree;
            }
            walk.depth -= 1;
        }
    }
    // What is missing may be invisible, as the end of a Python block is.
    let errors = walk.errors.max(u32::from(broken));
    (walk.definitions, errors)
}

struct Walk<'a> {
    source: &'a str,
    roles: &'a Roles,
    buffers: &'a mut Buffers,
    broken: bool,
    depth: usize,
    scope: Scope,
    definitions: Vec<Definition>,
    errors: u32,
}

impl Walk<'_> {
    /// Takes notice of a node; returns whether to look at its children.
    fn enter(&mut self, node: Node<'_>) -> bool {
        if self.broken && (node.is_error() || node.is_missing()) {
            self.errors = self.errors.saturating_add(1);
        }
        match self.roles.of(node.kind_id()) {
            Role::Plain => {}
            Role::Comment => {
                self.buffers.comments.push(node.byte_range());
                return false;
            }
            _ if self.scope.unparsed => {}
            Role::Decision => self.add(1),
            Role::Choice => self.open(|scope| scope.alternatives_count = false),
            Role::Handlers => self.open(|scope| scope.alternatives_count = true),
            Role::Alternative => {
                if self.scope.alternatives_count {
                    self.add(1);
                }
                self.scope.alternatives_count = true;
            }
            Role::Unparsed => self.open(|scope| scope.unparsed = true),
            Role::Inspected => {
                let mut context = Context {
                    source: self.source,
                    enclosing: self
                        .scope
                        .definition
                        .map(|definition| &self.definitions[definition]),
                    bindings: &mut self.buffers.bindings,
                };
                match (self.roles.inspect)(node, &mut context) {
                    Meaning::Nothing => {}
                    Meaning::Decisions(count) => self.add(to_u32(count)),
                    Meaning::Definition(found) => self.define(node, found),
                }
            }
        }
        true
    }

    fn leave(&mut self) {
        if let Some((_, scope)) = self.buffers.outer.pop_if(|(depth, _)| *depth == self.depth) {
            self.scope = scope;
        }
    }

    /// Begins a scope that ends with the current node.
    fn open(&mut self, change: impl FnOnce(&mut Scope)) {
        self.buffers.outer.push((self.depth, self.scope));
        self.scope.sibling = None;
        change(&mut self.scope);
    }

    fn add(&mut self, decisions: u32) {
        if let Some(function) = self.scope.function {
            let complexity = &mut self.definitions[function].complexity;
            *complexity = complexity.map(|value| value.saturating_add(decisions));
        }
    }

    fn define(&mut self, node: Node<'_>, found: Found) {
        let (start, end) = (node.start_position(), node.end_position());
        let start_line = to_u32(found.start_row.unwrap_or(start.row)).saturating_add(1);
        // A node that ends with a line feed ends on the line before.
        let end_row = if end.column == 0 && end.row > start.row {
            end.row - 1
        } else {
            end.row
        };
        let end_line = to_u32(end_row).saturating_add(1).max(start_line);
        let has_body = found.clause != Clause::Part { body: false };

        let earlier = self.scope.sibling.filter(|sibling| {
            let sibling = &self.definitions[*sibling];
            found.clause != Clause::Whole
                && sibling.kind == found.kind
                && sibling.name == found.name
        });
        let index = match earlier {
            Some(index) => {
                let definition = &mut self.definitions[index];
                definition.end_line = definition.end_line.max(end_line);
                if has_body && self.scope.sibling_has_body {
                    definition.complexity = definition.complexity.map(|value| value + 1);
                }
                self.scope.sibling_has_body |= has_body;
                index
            }
            None => {
                self.scope.sibling = Some(self.definitions.len());
                self.scope.sibling_has_body = has_body;
                self.definitions.push(Definition {
                    kind: found.kind,
                    name: found.name,
                    start_line,
                    end_line,
                    complexity: found.complexity,
                });
                self.definitions.len() - 1
            }
        };
        let runs = self.definitions[index].complexity.is_some();
        self.open(|scope| {
            scope.definition = Some(index);
            if runs {
                scope.function = Some(index);
            }
        });
    }
}

/// Counts the named children that are not comments.
pub(super) fn named_count(node: Node<'_>) -> usize {
    node.named_children(&mut node.walk())
        .filter(|child| !child.is_extra())
        .count()
}

fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Puts a name on one line of bounded length.
fn tidy(text: &str) -> String {
    if text.is_empty() {
        return "<unnamed>".to_owned();
    }
    if text.len() <= MAX_NAME_CHARS && !text.contains(char::is_whitespace) {
        return text.to_owned();
    }
    // Only as much is read as can be kept.
    let mut name = String::new();
    let spaced = text.split_whitespace().flat_map(|word| {
        let space = std::iter::once(' ');
        space.chain(word.chars())
    });
    for (count, c) in spaced.skip(1).enumerate() {
        if count == MAX_NAME_CHARS {
            name.push('…');
            break;
        }
        name.push(c);
    }
    name
}
